//! Signs zones (RFC 4034, RFC 6605): one ECDSA P-256 key a zone, which signs everything.

use astraler_model::DnsName;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use sha2::{Digest, Sha256};
use std::fmt;
use std::path::{Path, PathBuf};

/// ECDSA P-256 with SHA-256 (RFC 6605).
const ALGORITHM: u8 = 13;
/// SHA-256 (RFC 4509).
const DIGEST: u8 = 2;
/// Zone key, secure entry point.
const FLAGS: u16 = 257;
const PROTOCOL: u8 = 3;
/// Signatures are made anew so often, and the serial grows with them, so that secondaries fetch them.
pub(crate) const PERIOD_S: u32 = 3 * 86_400;
/// What a signature is good for beyond its period: time to mend a server that cannot sign.
const SPARE_S: u32 = 14 * 86_400;
/// For resolvers whose clock is behind.
const BEFORE_S: u32 = 3_600;
/// A key file is not larger.
const MAX_KEY_FILE: u64 = 4 << 10;

/// The key of a zone.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    random: SystemRandom,
}

/// A key cannot be made, read or used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("cannot read the signing key {path}", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is no key of that kind.
    #[error("the signing key is not PKCS #8 with a key for ECDSA P-256")]
    Format,
    /// The library refused.
    #[error("the library cannot make or use a key for ECDSA P-256")]
    Library,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").finish_non_exhaustive()
    }
}

/// A new key, as PKCS #8.
///
/// # Errors
/// The library refused.
pub fn generate() -> Result<Vec<u8>, KeyError> {
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
    Ok(document.map_err(|_| KeyError::Library)?.as_ref().to_vec())
}

impl SigningKey {
    /// From PKCS #8.
    ///
    /// # Errors
    /// It is something else.
    pub fn from_pkcs8(bytes: &[u8]) -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, bytes);
        Ok(Self {
            pair: pair.map_err(|_| KeyError::Format)?,
            random: SystemRandom::new(),
        })
    }

    /// From a file with PKCS #8.
    ///
    /// # Errors
    /// It cannot be read, or is something else.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let read = |path: &Path| {
            use std::io::Read;
            let mut bytes = Vec::new();
            std::fs::File::open(path)?
                .take(MAX_KEY_FILE)
                .read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = read(path).map_err(|source| KeyError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::from_pkcs8(&bytes)
    }

    /// Data of the DNSKEY record.
    pub(crate) fn dnskey(&self) -> Vec<u8> {
        // 0x04, X, Y: the record has the coordinates only.
        let point = self.pair.public_key().as_ref();
        let coordinates = point.strip_prefix(&[4]).unwrap_or(point);
        [&FLAGS.to_be_bytes()[..], &[PROTOCOL, ALGORITHM], coordinates].concat()
    }

    /// RFC 4034 appendix B.
    pub fn tag(&self) -> u16 {
        let mut sum: u32 = 0;
        for (index, byte) in self.dnskey().into_iter().enumerate() {
            sum += if index % 2 == 0 {
                u32::from(byte) << 8
            } else {
                u32::from(byte)
            };
        }
        (sum + (sum >> 16)) as u16
    }

    /// Data of the DS record (RFC 4034 section 5).
    pub(crate) fn ds(&self, zone: &DnsName) -> Vec<u8> {
        let digest = Sha256::new()
            .chain_update(zone.wire())
            .chain_update(self.dnskey())
            .finalize();
        [&self.tag().to_be_bytes()[..], &[ALGORITHM, DIGEST], &digest].concat()
    }

    /// The DS record's data as a registrar wants it: tag, algorithm, kind of digest, digest.
    pub fn delegation(&self, zone: &DnsName) -> String {
        let data = self.ds(zone);
        let digest = data.get(4..).unwrap_or_default();
        format!(
            "{} {ALGORITHM} {DIGEST} {}",
            self.tag(),
            hex::encode_upper(digest)
        )
    }

    /// The DNSKEY record's data, for a validator's trust anchor.
    pub fn anchor(&self) -> String {
        use base64::Engine;
        let key = self.dnskey();
        let key = base64::prelude::BASE64_STANDARD.encode(key.get(4..).unwrap_or_default());
        format!("{FLAGS} {PROTOCOL} {ALGORITHM} {key}")
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let signature = self.pair.sign(&self.random, message);
        Ok(signature.map_err(|_| KeyError::Library)?.as_ref().to_vec())
    }
}

/// The period that a time is in: signatures made within one have the same validity.
pub(crate) fn period(now: u32) -> u32 {
    now - now % PERIOD_S
}

/// What signs the sets of one zone.
pub(crate) struct Signer<'k> {
    key: &'k SigningKey,
    zone: DnsName,
    tag: u16,
    inception: u32,
    expiration: u32,
}

impl<'k> Signer<'k> {
    pub(crate) fn new(key: &'k SigningKey, zone: DnsName, now: u32) -> Self {
        let begin = period(now);
        Self {
            key,
            zone,
            tag: key.tag(),
            inception: begin.saturating_sub(BEFORE_S),
            expiration: begin.wrapping_add(PERIOD_S).wrapping_add(SPARE_S),
        }
    }

    /// Data of the RRSIG record of a set. `data` is in canonical form and order (RFC 4034 section 6).
    pub(crate) fn signature<'d>(
        &self,
        owner: &DnsName,
        kind: u16,
        ttl: u32,
        data: impl Iterator<Item = &'d [u8]>,
    ) -> Result<Vec<u8>, KeyError> {
        let wildcard = owner.labels().next() == Some(b"*".as_slice());
        let labels = owner.labels().count() - usize::from(wildcard);
        let mut fields = Vec::with_capacity(18 + self.zone.wire().len() + 64);
        fields.extend(kind.to_be_bytes());
        fields.extend([ALGORITHM, labels as u8]);
        fields.extend(ttl.to_be_bytes());
        fields.extend(self.expiration.to_be_bytes());
        fields.extend(self.inception.to_be_bytes());
        fields.extend(self.tag.to_be_bytes());
        fields.extend(self.zone.wire());
        let mut signed = fields.clone();
        for data in data {
            signed.extend(owner.wire());
            signed.extend(kind.to_be_bytes());
            signed.extend(crate::query::CLASS_IN.to_be_bytes());
            signed.extend(ttl.to_be_bytes());
            signed.extend((data.len() as u16).to_be_bytes());
            signed.extend(data);
        }
        fields.extend(self.key.sign(&signed)?);
        Ok(fields)
    }
}

/// Data of an NSEC record (RFC 4034 section 4): the next name, and the types at this one in ascending order.
pub(crate) fn nsec(next: &DnsName, kinds: &[u16]) -> Vec<u8> {
    let mut data = next.wire().to_vec();
    let mut rest = kinds;
    while let Some(&first) = rest.first() {
        let window = first >> 8;
        let length = rest.iter().take_while(|kind| **kind >> 8 == window).count();
        let (here, after) = rest.split_at(length);
        rest = after;
        let mut bits = [0_u8; 32];
        for kind in here {
            bits[usize::from(kind & 0xff) / 8] |= 0x80 >> (kind & 7);
        }
        let used = here.last().map_or(0, |last| usize::from(last & 0xff) / 8 + 1);
        data.extend([window as u8, used as u8]);
        data.extend(&bits[..used]);
    }
    data
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "files of a test")]
mod tests {
    use super::*;

    #[test]
    fn the_bitmap_is_that_of_the_rfc() {
        // RFC 4034 section 4.3.
        let next: DnsName = "host.example.com".parse().unwrap();
        let data = nsec(&next, &[1, 15, 46, 47, 1234]);
        let bitmap = &data[next.wire().len()..];
        let mut expected = vec![0, 6, 0x40, 0x01, 0, 0, 0, 0x03, 4, 0x1b];
        expected.extend([0; 26]);
        expected.push(0x20);
        assert_eq!(bitmap, expected);
    }

    #[test]
    fn a_key_comes_back_from_its_file_and_nothing_else_does() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let bytes = generate().unwrap();
        std::fs::write(&path, &bytes).unwrap();
        let key = SigningKey::load(&path).unwrap();
        assert_eq!(key.dnskey(), SigningKey::from_pkcs8(&bytes).unwrap().dnskey());
        assert_eq!(key.dnskey().len(), 4 + 64);
        std::fs::write(&path, b"something else").unwrap();
        assert!(matches!(SigningKey::load(&path), Err(KeyError::Format)));
        assert!(matches!(
            SigningKey::load(&folder.path().join("absent")),
            Err(KeyError::Read { .. })
        ));
    }

    #[test]
    fn a_signature_outlives_the_next_one_by_far() {
        let now = 1_800_000_123;
        assert!(period(now) <= now && now - period(now) < PERIOD_S);
        assert_eq!(period(period(now)), period(now));
    }
}
