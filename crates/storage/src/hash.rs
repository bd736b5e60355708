//! Checksums of a body while it streams by.

use crate::{Algorithm, Checksum};
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Md5, Sha1, Sha256};
use sha2::Digest as _;
use std::collections::BTreeSet;

/// Computes MD5 (the entity tag), CRC32C (what the scrubber checks) and whatever else was asked for.
pub(crate) struct Hashers {
    md5: Md5,
    crc32c: Crc32c,
    sha1: Option<Sha1>,
    sha256: Option<Sha256>,
    sha384: Option<sha2::Sha384>,
    sha512: Option<sha2::Sha512>,
    crc32: Option<Crc32>,
    crc64nvme: Option<Crc64Nvme>,
    asked: BTreeSet<Algorithm>,
}

/// The results.
#[derive(Debug, Clone)]
pub(crate) struct Digests {
    /// The entity tag's bytes.
    pub(crate) md5: Vec<u8>,
    /// What the scrubber checks.
    pub(crate) crc32c: u32,
    /// Those that were asked for.
    pub(crate) asked: Vec<Checksum>,
}

impl Hashers {
    pub(crate) fn new(asked: &[Algorithm]) -> Self {
        let asked: BTreeSet<Algorithm> = asked.iter().copied().collect();
        let has = |algorithm| asked.contains(&algorithm);
        Self {
            md5: Md5::new(),
            crc32c: Crc32c::new(),
            sha1: has(Algorithm::Sha1).then(Sha1::new),
            sha256: has(Algorithm::Sha256).then(Sha256::new),
            sha384: has(Algorithm::Sha384).then(sha2::Sha384::new),
            sha512: has(Algorithm::Sha512).then(sha2::Sha512::new),
            crc32: has(Algorithm::Crc32).then(Crc32::new),
            crc64nvme: has(Algorithm::Crc64nvme).then(Crc64Nvme::new),
            asked,
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.md5.update(bytes);
        self.crc32c.update(bytes);
        if let Some(hash) = &mut self.sha1 {
            hash.update(bytes);
        }
        if let Some(hash) = &mut self.sha256 {
            hash.update(bytes);
        }
        if let Some(hash) = &mut self.sha384 {
            hash.update(bytes);
        }
        if let Some(hash) = &mut self.sha512 {
            hash.update(bytes);
        }
        if let Some(hash) = &mut self.crc32 {
            hash.update(bytes);
        }
        if let Some(hash) = &mut self.crc64nvme {
            hash.update(bytes);
        }
    }

    pub(crate) fn finish(self) -> Digests {
        let md5 = self.md5.finalize().to_vec();
        let crc32c = self.crc32c.finalize();
        let mut values = vec![
            (Algorithm::Md5, md5.clone()),
            (Algorithm::Crc32c, crc32c.to_vec()),
        ];
        let mut push = |algorithm, value: Option<Vec<u8>>| {
            if let Some(value) = value {
                values.push((algorithm, value));
            }
        };
        push(Algorithm::Sha1, self.sha1.map(|hash| hash.finalize().to_vec()));
        push(
            Algorithm::Sha256,
            self.sha256.map(|hash| hash.finalize().to_vec()),
        );
        push(
            Algorithm::Sha384,
            self.sha384.map(|hash| hash.finalize().to_vec()),
        );
        push(
            Algorithm::Sha512,
            self.sha512.map(|hash| hash.finalize().to_vec()),
        );
        push(Algorithm::Crc32, self.crc32.map(|hash| hash.finalize().to_vec()));
        push(
            Algorithm::Crc64nvme,
            self.crc64nvme.map(|hash| hash.finalize().to_vec()),
        );
        let asked = values
            .into_iter()
            .filter(|(algorithm, _)| self.asked.contains(algorithm))
            .map(|(algorithm, value)| Checksum {
                algorithm,
                value,
                composite: None,
            })
            .collect();
        Digests {
            md5,
            crc32c: u32::from_be_bytes(crc32c),
            asked,
        }
    }
}

/// CRC32C of bytes at hand.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(Crc32c::checksum(bytes))
}

/// A running CRC32C.
pub(crate) struct Crc(Crc32c);

impl Crc {
    pub(crate) fn new() -> Self {
        Self(Crc32c::new())
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> u32 {
        u32::from_be_bytes(self.0.finalize())
    }
}

/// MD5 of bytes at hand.
pub(crate) fn md5(bytes: &[u8]) -> Vec<u8> {
    Md5::checksum(bytes).to_vec()
}

/// A checksum of the concatenation of checksums (S3's COMPOSITE).
pub(crate) fn of_checksums(algorithm: Algorithm, values: &[&[u8]]) -> Option<Vec<u8>> {
    let mut hashers = Hashers::new(&[algorithm]);
    for value in values {
        hashers.update(value);
    }
    hashers
        .finish()
        .asked
        .into_iter()
        .next()
        .map(|checksum| checksum.value)
}

/// The CRC of a whole out of the CRCs of its pieces and their lengths (S3's FULL_OBJECT); `None` for algorithms
/// that cannot be combined.
pub(crate) fn combine(algorithm: Algorithm, pieces: &[(&[u8], u64)]) -> Option<Vec<u8>> {
    let (crc, width) = match algorithm {
        Algorithm::Crc32 => (crc_fast::CrcAlgorithm::Crc32IsoHdlc, 4),
        Algorithm::Crc32c => (crc_fast::CrcAlgorithm::Crc32Iscsi, 4),
        Algorithm::Crc64nvme => (crc_fast::CrcAlgorithm::Crc64Nvme, 8),
        _ => return None,
    };
    let number = |bytes: &[u8]| bytes.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    let (first, rest) = pieces.split_first()?;
    let whole = rest.iter().fold(number(first.0), |sum, (value, length)| {
        crc_fast::checksum_combine(crc, sum, number(value), *length)
    });
    Some(whole.to_be_bytes()[8 - width..].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Algorithm; 8] = [
        Algorithm::Md5,
        Algorithm::Sha1,
        Algorithm::Sha256,
        Algorithm::Sha384,
        Algorithm::Sha512,
        Algorithm::Crc32,
        Algorithm::Crc32c,
        Algorithm::Crc64nvme,
    ];

    /// The check values of RFC 1321, FIPS 180-4's examples and the CRC catalogue ("123456789").
    #[test]
    fn known_answers() {
        let of = |algorithm, text: &str| {
            let mut hashers = Hashers::new(&[algorithm]);
            hashers.update(text.as_bytes());
            hex::encode(&hashers.finish().asked[0].value)
        };
        assert_eq!(of(Algorithm::Md5, "abc"), "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(
            of(Algorithm::Sha1, "abc"),
            "a9993e364706816aba3e25717850c26c9cd0d89d"
        );
        assert_eq!(
            of(Algorithm::Sha256, "abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert!(of(Algorithm::Sha384, "abc").starts_with("cb00753f45a35e8bb5a03d699ac65007"));
        assert!(of(Algorithm::Sha512, "abc").starts_with("ddaf35a193617abacc417349ae204131"));
        assert_eq!(of(Algorithm::Crc32, "123456789"), "cbf43926");
        assert_eq!(of(Algorithm::Crc32c, "123456789"), "e3069283");
        assert_eq!(of(Algorithm::Crc64nvme, "123456789"), "ae8b14860a799888");
    }

    #[test]
    fn crcs_of_pieces_combine_to_that_of_the_whole() {
        let (left, right) = ("hello, ".repeat(1000), "world".repeat(333));
        let value = |algorithm, text: &str| {
            let mut hashers = Hashers::new(&ALL);
            hashers.update(text.as_bytes());
            let digests = hashers.finish();
            digests
                .asked
                .into_iter()
                .find(|c| c.algorithm == algorithm)
                .unwrap()
                .value
        };
        for algorithm in [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64nvme] {
            let (l, r) = (value(algorithm, &left), value(algorithm, &right));
            let pieces = [(&l[..], left.len() as u64), (&r[..], right.len() as u64)];
            assert_eq!(
                combine(algorithm, &pieces),
                Some(value(algorithm, &format!("{left}{right}")))
            );
        }
        assert_eq!(combine(Algorithm::Sha256, &[(&[1], 1)]), None);
    }
}
