//! The key above the backups of secrets: made once, split into three shares of which any two give it back, and then
//! forgotten. What stays on the machine is its public half, to which backups are sealed.
//!
//! Sealed is the form of [age](https://age-encryption.org/v1): with the key in one piece, the program of that name opens a
//! backup without Astraler. Shares are Shamir's, over GF(256).

use crate::{RootKey, Secret};
use age::secrecy::ExposeSecret;
use age::x25519;
use blahaj::Sharks;
use sha2::{Digest, Sha256};
use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;
use zeroize::{Zeroize, Zeroizing};

/// So many shares are made.
pub const SHARES: usize = 3;
/// So many give the key back.
pub const THRESHOLD: u8 = 2;
const LABEL: &str = "astraler-share-1";
/// A root key's file is shorter.
const MAX_ROOT_KEY: u64 = 1 << 10;

/// The key that opens backups of secrets.
pub struct RecoveryKey(x25519::Identity);

/// Its public half: what is sealed to it, only the key opens.
#[derive(Clone, PartialEq, Eq)]
pub struct Recipient(x25519::Recipient);

/// One of three parts of a [`RecoveryKey`]. Alone it says nothing.
///
/// In text it is one line: `astraler-share-1 ID NUMBER DIGITS CHECKSUM`; the checksum finds slips of a hand that types it
/// in from paper.
pub struct Share {
    key: String,
    number: u8,
    bytes: Zeroizing<Vec<u8>>,
}

/// A recovery key, a share or what was sealed cannot be used. Carries no part of a key.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryKeyError {
    /// The text is no share.
    #[error("this is no share of a recovery key: {0}")]
    Share(&'static str),
    /// Too few different shares.
    #[error(
        "{THRESHOLD} of the {SHARES} shares are needed, and {given} is given: the same share twice is one"
    )]
    TooFew {
        /// Different ones.
        given: usize,
    },
    /// Shares of two keys.
    #[error("these shares are of two keys, {one} and {other}: {THRESHOLD} shares of one key are needed")]
    Mixed {
        /// Of the first.
        one: String,
        /// Of another.
        other: String,
    },
    /// They do not give what they say.
    #[error("these shares do not give the recovery key {key} that they name: one of them was changed")]
    Wrong {
        /// What they name.
        key: String,
    },
    /// The text is no recipient.
    #[error("this is no recipient: expected `age1…`")]
    Recipient,
    /// What was sealed is for another key.
    #[error("the recovery key {key} does not open this: it was sealed to another")]
    NotFor {
        /// The key that was tried.
        key: String,
    },
    /// What was sealed is damaged, or is nothing sealed.
    #[error("this cannot be opened: it is damaged, or was never sealed to a recovery key")]
    Damaged(#[source] age::DecryptError),
    /// It was opened, and is not what it should be.
    #[error("what was opened is no root key: {0}")]
    Content(&'static str),
    /// It cannot be read or written.
    #[error("it cannot be read to its end, or not be written")]
    Io(#[source] io::Error),
}

impl RecoveryKey {
    /// A new one, of random bytes.
    pub fn generate() -> Self {
        Self(x25519::Identity::generate())
    }

    /// Its public half.
    pub fn recipient(&self) -> Recipient {
        Recipient(self.0.to_public())
    }

    /// In one piece, as the program `age` takes it with `-i`.
    pub fn to_text(&self) -> Secret {
        Secret::new(self.0.to_string().expose_secret())
    }

    /// Three shares; any two give the key back.
    pub fn split(&self) -> Vec<Share> {
        let text = self.to_text();
        let key = self.recipient().id();
        Sharks(THRESHOLD)
            .dealer(text.expose().as_bytes())
            .take(SHARES)
            .map(|share| {
                let bytes = Zeroizing::new(Vec::from(&share));
                let number = bytes.first().copied().unwrap_or_default();
                Share {
                    key: key.clone(),
                    number,
                    bytes,
                }
            })
            .collect()
    }

    /// The key of which these are shares.
    pub fn combine(shares: &[Share]) -> Result<Self, RecoveryKeyError> {
        let mut numbers: Vec<u8> = shares.iter().map(|share| share.number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let Some(first) = shares.first().filter(|_| numbers.len() >= THRESHOLD.into()) else {
            return Err(RecoveryKeyError::TooFew { given: numbers.len() });
        };
        if let Some(other) = shares.iter().find(|share| share.key != first.key) {
            return Err(RecoveryKeyError::Mixed {
                one: first.key.clone(),
                other: other.key.clone(),
            });
        }
        let wrong = || RecoveryKeyError::Wrong {
            key: first.key.clone(),
        };
        let parts = shares
            .iter()
            .map(|share| blahaj::Share::try_from(share.bytes.as_slice()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| wrong())?;
        let mut bytes = Sharks(THRESHOLD).recover(&parts).map_err(|_| wrong())?;
        let identity = std::str::from_utf8(&bytes)
            .ok()
            .and_then(|text| x25519::Identity::from_str(text).ok());
        bytes.zeroize();
        let key = Self(identity.ok_or_else(wrong)?);
        match key.recipient().id() == first.key {
            true => Ok(key),
            false => Err(wrong()),
        }
    }

    /// What was sealed, opened while it is read. A reader that says an error was not opened to its end: nothing of it may be
    /// used.
    pub fn open<R: Read>(&self, sealed: R) -> Result<impl Read + use<R>, RecoveryKeyError> {
        let decryptor = age::Decryptor::new(sealed).map_err(|error| self.refused(error))?;
        decryptor
            .decrypt(std::iter::once(&self.0 as &dyn age::Identity))
            .map_err(|error| self.refused(error))
    }

    /// A root key that was sealed with [`Recipient::seal_root_key`].
    pub fn open_root_key(&self, sealed: &[u8]) -> Result<RootKey, RecoveryKeyError> {
        let mut text = Zeroizing::new(Vec::with_capacity(512));
        self.open(sealed)?
            .take(MAX_ROOT_KEY)
            .read_to_end(&mut text)
            .map_err(RecoveryKeyError::Io)?;
        RootKey::parse(&text).map_err(RecoveryKeyError::Content)
    }

    fn refused(&self, error: age::DecryptError) -> RecoveryKeyError {
        match error {
            age::DecryptError::NoMatchingKeys => RecoveryKeyError::NotFor {
                key: self.recipient().id(),
            },
            age::DecryptError::Io(error) => RecoveryKeyError::Io(error),
            error => RecoveryKeyError::Damaged(error),
        }
    }
}

impl fmt::Debug for RecoveryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecoveryKey({}, [redacted])", self.recipient().id())
    }
}

impl Recipient {
    /// Reads `age1…`.
    pub fn parse(text: &str) -> Result<Self, RecoveryKeyError> {
        text.parse().map(Self).map_err(|_| RecoveryKeyError::Recipient)
    }

    /// A short name of the key.
    pub fn id(&self) -> String {
        let digest = Sha256::digest(self.0.to_string());
        hex::encode(&digest[..8])
    }

    /// Seals what `from` gives into `to`.
    pub fn seal(&self, from: &mut impl Read, to: impl Write) -> Result<(), RecoveryKeyError> {
        let encryptor = age::Encryptor::with_recipients(std::iter::once(&self.0 as &dyn age::Recipient))
            .map_err(|_| RecoveryKeyError::Recipient)?;
        let sealed = encryptor.wrap_output(to).and_then(|mut sealed| {
            io::copy(from, &mut sealed)?;
            sealed.finish()?.flush()
        });
        sealed.map_err(RecoveryKeyError::Io)
    }

    /// Seals a root key, as its file is.
    pub fn seal_root_key(&self, key: &RootKey) -> Result<Vec<u8>, RecoveryKeyError> {
        let mut sealed = Vec::new();
        self.seal(&mut key.to_text().as_slice(), &mut sealed)?;
        Ok(sealed)
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({self})")
    }
}

impl Share {
    /// Which of the three.
    pub fn number(&self) -> u8 {
        self.number
    }

    /// The short name of the key that it is of.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Its line.
    pub fn to_text(&self) -> Secret {
        let mut text = String::with_capacity(300);
        text.push_str(LABEL);
        for word in [
            &self.key,
            &self.number.to_string(),
            &hex::encode(&self.bytes),
            &hex::encode(self.checksum()),
        ] {
            text.push(' ');
            text.push_str(word);
        }
        Secret::new(text)
    }

    /// Reads a line; white space around it is nothing.
    pub fn parse(text: &str) -> Result<Self, RecoveryKeyError> {
        let mut words = text.split_whitespace();
        if words.next() != Some(LABEL) {
            return Err(RecoveryKeyError::Share(
                "it does not begin with `astraler-share-1`",
            ));
        }
        let (Some(key), Some(number), Some(digits), Some(sum), None) = (
            words.next(),
            words.next(),
            words.next(),
            words.next(),
            words.next(),
        ) else {
            return Err(RecoveryKeyError::Share(
                "expected the label, the key's name, the number, the digits and the checksum on one line",
            ));
        };
        let bytes =
            hex::decode(digits).map_err(|_| RecoveryKeyError::Share("its digits are not hexadecimal"))?;
        let share = Self {
            key: key.to_owned(),
            number: number
                .parse()
                .map_err(|_| RecoveryKeyError::Share("its number is none"))?,
            bytes: Zeroizing::new(bytes),
        };
        if hex::encode(share.checksum()) != sum || share.bytes.first() != Some(&share.number) {
            return Err(RecoveryKeyError::Share(
                "its checksum does not match: a digit is wrong",
            ));
        }
        Ok(share)
    }

    fn checksum(&self) -> [u8; 4] {
        let digest = Sha256::new()
            .chain_update(b"astraler share checksum 1\0")
            .chain_update(&self.key)
            .chain_update([0, self.number])
            .chain_update(&*self.bytes)
            .finalize();
        std::array::from_fn(|at| digest[at])
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Share({} of {}, [redacted])", self.number, self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random;

    fn shares(key: &RecoveryKey) -> Vec<Share> {
        let texts = key.split().into_iter().map(|share| share.to_text());
        texts.map(|text| Share::parse(text.expose()).unwrap()).collect()
    }

    fn without(key: &RecoveryKey, left_out: usize) -> Vec<Share> {
        let mut shares = shares(key);
        shares.remove(left_out);
        shares
    }

    #[test]
    fn any_two_shares_open_what_was_sealed_and_one_does_not() {
        let key = RecoveryKey::generate();
        let root = RootKey::generate();
        let recipient = Recipient::parse(&key.recipient().to_string()).unwrap();
        let sealed = recipient.seal_root_key(&root).unwrap();
        for left_out in 0..SHARES {
            let combined = RecoveryKey::combine(&without(&key, left_out)).unwrap();
            assert_eq!(combined.to_text(), key.to_text());
            assert_eq!(combined.open_root_key(&sealed).unwrap().id(), root.id());
        }
        let all = shares(&key);
        RecoveryKey::combine(&all).unwrap();
        for share in &all {
            let twice = [share, share].map(|share| Share::parse(share.to_text().expose()).unwrap());
            let refused = RecoveryKey::combine(&twice).unwrap_err().to_string();
            assert!(refused.contains("2 of the 3 shares are needed"), "{refused}");
            assert!(refused.contains("1 is given"), "{refused}");
        }
    }

    #[test]
    fn another_key_and_shares_of_two_keys_are_told_apart() {
        let (key, other) = (RecoveryKey::generate(), RecoveryKey::generate());
        let sealed = key.recipient().seal_root_key(&RootKey::generate()).unwrap();
        let refused = other.open_root_key(&sealed).unwrap_err();
        assert!(matches!(refused, RecoveryKeyError::NotFor { .. }), "{refused}");
        let mixed = [shares(&key).remove(0), shares(&other).remove(1)];
        let refused = RecoveryKey::combine(&mixed).unwrap_err();
        assert!(matches!(refused, RecoveryKeyError::Mixed { .. }), "{refused}");
    }

    #[test]
    fn every_changed_byte_of_a_share_and_of_what_was_sealed_is_found() {
        let key = RecoveryKey::generate();
        let text = shares(&key)[0].to_text();
        for position in 0..text.expose().len() {
            let mut bytes = text.expose().as_bytes().to_vec();
            bytes[position] = if bytes[position] == b'0' { b'1' } else { b'0' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(Share::parse(&changed).is_err(), "byte {position}");
        }
        let sealed = key.recipient().seal_root_key(&RootKey::generate()).unwrap();
        for position in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[position] ^= 1;
            assert!(key.open_root_key(&changed).is_err(), "byte {position}");
        }
        for length in 0..sealed.len() {
            assert!(key.open_root_key(&sealed[..length]).is_err(), "cut at {length}");
        }
    }

    #[test]
    fn much_is_sealed_and_opened_as_a_stream() {
        let key = RecoveryKey::generate();
        let mut much = vec![0; 1 << 20];
        random::fill(&mut much);
        let mut sealed = Vec::new();
        key.recipient().seal(&mut much.as_slice(), &mut sealed).unwrap();
        let mut opened = Vec::new();
        key.open(sealed.as_slice())
            .unwrap()
            .read_to_end(&mut opened)
            .unwrap();
        assert!(opened == much, "what comes out is what went in");
    }

    #[test]
    fn nothing_of_a_key_is_shown() {
        let key = RecoveryKey::generate();
        let share = key.split().remove(0);
        let shown = format!("{key:?} {share:?}");
        assert!(!shown.contains("AGE-SECRET"), "{shown}");
        assert!(!shown.contains(&hex::encode(&share.bytes)), "{shown}");
    }
}
