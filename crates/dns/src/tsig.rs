//! Keys of secondaries (RFC 8945): who has one may transfer a zone, and knows that the answer is ours.

use crate::query::{CLASS_ANY, QueryName, Signed, kind};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, Mac};
use sha2::{Sha256, Sha512};
use std::fmt;
use subtle::ConstantTimeEq;

/// Seconds that clocks may differ (RFC 8945 section 10).
const FUDGE_S: u16 = 300;
/// Shorter keys can be guessed (RFC 8945 section 6 asks for the length of the digest; BIND's generator makes 32).
const MIN_KEY: usize = 16;
const MAX_KEY: usize = 512;

const BADSIG: u16 = 16;
const BADKEY: u16 = 17;
const BADTIME: u16 = 18;

const HMAC_SHA256: &[u8] = b"\x0bhmac-sha256\x00";
const HMAC_SHA512: &[u8] = b"\x0bhmac-sha512\x00";

/// A key and its name.
#[derive(Clone)]
pub struct Key {
    /// On the wire, in lower case.
    pub(crate) name: Box<[u8]>,
    secret: Box<[u8]>,
}

/// A text is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// Not Base64.
    #[error("the key is not in Base64")]
    Base64,
    /// Too short or too long.
    #[error("the key has {0} bytes; 16 to 512 are allowed, and 32 are usual")]
    Length(usize),
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").finish_non_exhaustive()
    }
}

impl Key {
    /// From Base64.
    ///
    /// # Errors
    /// It is no such text, or of a length that is not allowed.
    pub fn from_base64(name: &astraler_model::DnsName, text: &str) -> Result<Self, BadKey> {
        let secret = BASE64_STANDARD.decode(text.trim()).map_err(|_| BadKey::Base64)?;
        if !(MIN_KEY..=MAX_KEY).contains(&secret.len()) {
            return Err(BadKey::Length(secret.len()));
        }
        Ok(Self {
            name: name.wire().into(),
            secret: secret.into(),
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Sha256,
    Sha512,
}

impl Algorithm {
    fn of(name: &QueryName) -> Option<Self> {
        match name.wire() {
            HMAC_SHA256 => Some(Self::Sha256),
            HMAC_SHA512 => Some(Self::Sha512),
            _ => None,
        }
    }

    fn name(self) -> &'static [u8] {
        match self {
            Self::Sha256 => HMAC_SHA256,
            Self::Sha512 => HMAC_SHA512,
        }
    }

    fn length(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    fn mac(self, secret: &[u8], parts: &[&[u8]]) -> Vec<u8> {
        // HMAC takes keys of any length.
        fn of<M: Mac + hmac::digest::KeyInit>(secret: &[u8], parts: &[&[u8]]) -> Vec<u8> {
            <M as hmac::digest::KeyInit>::new_from_slice(secret).map_or_else(
                |_| Vec::new(),
                |mut mac| {
                    parts.iter().for_each(|part| mac.update(part));
                    mac.finalize().into_bytes().to_vec()
                },
            )
        }
        match self {
            Self::Sha256 => of::<Hmac<Sha256>>(secret, parts),
            Self::Sha512 => of::<Hmac<Sha512>>(secret, parts),
        }
    }
}

/// A signed query that is what it says, and what signs the answer.
#[derive(Debug, Clone)]
pub(crate) struct Session<'k> {
    key: &'k Key,
    algorithm: Algorithm,
    original_id: u16,
    /// Of the message before: the query's first, then our own.
    last_mac: Vec<u8>,
    is_first: bool,
}

/// A signed query that is not accepted.
#[derive(Debug, Clone)]
pub(crate) struct Rejected<'k> {
    key: Box<[u8]>,
    algorithm: Box<[u8]>,
    time: u64,
    fudge: u16,
    original_id: u16,
    error: u16,
    /// The answer is signed when only the time is wrong: with our own time in it (RFC 8945 section 5.2.3).
    late: Option<(Session<'k>, [u8; 6])>,
}

/// Verifies. `now` is in seconds since the epoch.
pub(crate) fn verify<'k>(
    keys: &'k [Key],
    message: &[u8],
    signed: &Signed<'_>,
    now: u64,
) -> Result<Session<'k>, Rejected<'k>> {
    let rejected = |error| Rejected {
        key: signed.key.wire().into(),
        algorithm: signed.algorithm.wire().into(),
        time: signed.time,
        fudge: signed.fudge,
        original_id: signed.original_id,
        error,
        late: None,
    };
    let found = keys.iter().find(|key| *key.name == *signed.key.wire());
    let key = found.ok_or_else(|| rejected(BADKEY))?;
    let algorithm = Algorithm::of(&signed.algorithm).ok_or_else(|| rejected(BADKEY))?;
    if signed.mac.len() != algorithm.length() {
        return Err(rejected(BADSIG));
    }
    // As it was before the record was added, and before anybody on the way changed the id (RFC 8945 section 5.2).
    let mut plain = message.get(..signed.at).unwrap_or_default().to_vec();
    if let [first, second, .., count_high, count_low] = &mut plain[..crate::query::HEADER] {
        [*first, *second] = signed.original_id.to_be_bytes();
        let count = u16::from_be_bytes([*count_high, *count_low]).wrapping_sub(1);
        [*count_high, *count_low] = count.to_be_bytes();
    }
    let variables = variables(
        &key.name,
        algorithm.name(),
        signed.time,
        signed.fudge,
        signed.error,
        signed.other,
    );
    let mac = algorithm.mac(&key.secret, &[&plain, &variables]);
    if !bool::from(mac.ct_eq(signed.mac)) {
        return Err(rejected(BADSIG));
    }
    let session = Session {
        key,
        algorithm,
        original_id: signed.original_id,
        last_mac: mac,
        is_first: true,
    };
    if now.abs_diff(signed.time) > u64::from(signed.fudge.min(FUDGE_S)) {
        return Err(Rejected {
            late: Some((session, time48(now))),
            ..rejected(BADTIME)
        });
    }
    Ok(session)
}

impl Rejected<'_> {
    /// Adds the TSIG record to an answer with the code NOTAUTH.
    pub(crate) fn append(&self, out: &mut Vec<u8>) {
        let (mac, other) = match &self.late {
            Some((session, ours)) => {
                let algorithm = session.algorithm;
                let variables = variables(
                    &self.key,
                    &self.algorithm,
                    self.time,
                    self.fudge,
                    self.error,
                    ours,
                );
                let length = (session.last_mac.len() as u16).to_be_bytes();
                let parts: [&[u8]; 4] = [&length, &session.last_mac, out, &variables];
                (algorithm.mac(&session.key.secret, &parts), ours.as_slice())
            }
            None => (Vec::new(), [].as_slice()),
        };
        let fields = Fields {
            key: &self.key,
            algorithm: &self.algorithm,
            time: self.time,
            fudge: self.fudge,
            mac: &mac,
            original_id: self.original_id,
            error: self.error,
            other,
        };
        fields.append(out);
    }
}

/// Bytes that [`Session::sign`] adds at most.
pub(crate) const RESERVE: usize = 255 + 10 + 14 + 16 + 64;

impl Session<'_> {
    /// Signs an answer: the first over the query's signature, each later one over that of the one before
    /// (RFC 8945 section 5.3.1).
    pub(crate) fn sign(&mut self, now: u64, out: &mut Vec<u8>) {
        let variables = match self.is_first {
            true => variables(&self.key.name, self.algorithm.name(), now, FUDGE_S, 0, &[]),
            false => timers(now, FUDGE_S),
        };
        let length = (self.last_mac.len() as u16).to_be_bytes();
        let parts: [&[u8]; 4] = [&length, &self.last_mac, out, &variables];
        let mac = self.algorithm.mac(&self.key.secret, &parts);
        let fields = Fields {
            key: &self.key.name,
            algorithm: self.algorithm.name(),
            time: now,
            fudge: FUDGE_S,
            mac: &mac,
            original_id: self.original_id,
            error: 0,
            other: &[],
        };
        fields.append(out);
        self.last_mac = mac;
        self.is_first = false;
    }
}

struct Fields<'f> {
    key: &'f [u8],
    algorithm: &'f [u8],
    time: u64,
    fudge: u16,
    mac: &'f [u8],
    original_id: u16,
    error: u16,
    other: &'f [u8],
}

impl Fields<'_> {
    fn append(&self, out: &mut Vec<u8>) {
        let mut data = self.algorithm.to_vec();
        data.extend(timers(self.time, self.fudge));
        data.extend((self.mac.len() as u16).to_be_bytes());
        data.extend(self.mac);
        data.extend(self.original_id.to_be_bytes());
        data.extend(self.error.to_be_bytes());
        data.extend((self.other.len() as u16).to_be_bytes());
        data.extend(self.other);
        out.extend(self.key);
        out.extend(kind::TSIG.to_be_bytes());
        out.extend(CLASS_ANY.to_be_bytes());
        out.extend(0_u32.to_be_bytes());
        out.extend((data.len() as u16).to_be_bytes());
        out.extend(data);
        crate::write::count_additional(out);
    }
}

fn time48(time: u64) -> [u8; 6] {
    let [_, _, rest @ ..] = time.to_be_bytes();
    rest
}

fn timers(time: u64, fudge: u16) -> Vec<u8> {
    [&time48(time)[..], &fudge.to_be_bytes()].concat()
}

/// What is signed beside the message (RFC 8945 section 4.3.3).
fn variables(key: &[u8], algorithm: &[u8], time: u64, fudge: u16, error: u16, other: &[u8]) -> Vec<u8> {
    let mut bytes = key.to_vec();
    bytes.extend(CLASS_ANY.to_be_bytes());
    bytes.extend(0_u32.to_be_bytes());
    bytes.extend(algorithm);
    bytes.extend(timers(time, fudge));
    bytes.extend(error.to_be_bytes());
    bytes.extend((other.len() as u16).to_be_bytes());
    bytes.extend(other);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_base64_of_a_safe_length() {
        let name: astraler_model::DnsName = "ns2.example.net".parse().unwrap();
        let text = BASE64_STANDARD.encode([7; 32]);
        assert!(Key::from_base64(&name, &format!(" {text}\n")).is_ok());
        assert_eq!(Key::from_base64(&name, "!").unwrap_err(), BadKey::Base64);
        let short = BASE64_STANDARD.encode([7; 8]);
        assert_eq!(Key::from_base64(&name, &short).unwrap_err(), BadKey::Length(8));
        let key = Key::from_base64(&name, &text).unwrap();
        assert!(!format!("{key:?}").contains('7'), "the secret is not shown");
    }
}
