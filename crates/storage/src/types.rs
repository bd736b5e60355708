//! The nouns of the store.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A checksum algorithm. MD5 is always computed: it is the entity tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// RFC 1321.
    Md5,
    /// FIPS 180-4.
    Sha1,
    /// FIPS 180-4.
    Sha256,
    /// FIPS 180-4; in the R2 binding only.
    Sha384,
    /// FIPS 180-4; in the R2 binding only.
    Sha512,
    /// CRC-32/ISO-HDLC.
    Crc32,
    /// CRC-32/ISCSI.
    Crc32c,
    /// CRC-64/NVME.
    Crc64nvme,
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Md5 => "MD5",
            Self::Sha1 => "SHA-1",
            Self::Sha256 => "SHA-256",
            Self::Sha384 => "SHA-384",
            Self::Sha512 => "SHA-512",
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64nvme => "CRC64NVME",
        })
    }
}

/// A checksum kept with an object or a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksum {
    /// Which one.
    #[serde(rename = "a")]
    pub algorithm: Algorithm,
    /// Its bytes, most significant first.
    #[serde(rename = "v", with = "hex_bytes")]
    pub value: Vec<u8>,
    /// For a checksum of the parts' checksums (S3's COMPOSITE): how many parts.
    #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
    pub composite: Option<u32>,
}

/// Headers that are stored with an object and given back with it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HttpMetadata {
    /// `Content-Type`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// `Content-Language`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_language: Option<String>,
    /// `Content-Disposition`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_disposition: Option<String>,
    /// `Content-Encoding`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<String>,
    /// `Cache-Control`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_control: Option<String>,
    /// `Expires`, in milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
}

/// What a client says about an object beside its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Metadata {
    /// Headers.
    #[serde(default)]
    pub http: HttpMetadata,
    /// Names and values of its own; at most 8,192 bytes together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub custom: Vec<(String, String)>,
    /// `Standard` or `InfrequentAccess`: remembered, without effect on one machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
}

/// One version of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its key.
    pub key: String,
    /// Unique for each write: 32 hex digits.
    pub version: String,
    /// Bytes.
    pub size: u64,
    /// Without quotes: MD5 in hex, or `md5-of-md5s-N` after a multipart upload of N parts.
    pub etag: String,
    /// When it was written, in milliseconds since the Unix epoch.
    pub uploaded_ms: u64,
    /// What its writer said of it.
    pub metadata: Metadata,
    /// Checksums beside the entity tag.
    pub checksums: Vec<Checksum>,
    /// Number of parts, when it came from a multipart upload.
    pub parts: Option<u32>,
}

/// A bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketInfo {
    /// Its name in the store.
    pub name: String,
    /// When it was created, in milliseconds since the Unix epoch.
    pub created_ms: u64,
}

/// Which objects to list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListOptions {
    /// Only keys that start so.
    pub prefix: String,
    /// Keys that hold it after the prefix are rolled up to common prefixes.
    pub delimiter: Option<String>,
    /// Only entries after this one. An entry is a key or a common prefix.
    pub start_after: Option<String>,
    /// Where an earlier page ended; it wins over `start_after`.
    pub cursor: Option<String>,
    /// Most entries of a page, keys and common prefixes together; 1,000 at most.
    pub limit: Option<usize>,
    /// Rough limit on the bytes of keys and metadata of a page.
    pub max_bytes: Option<usize>,
}

/// A page of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListPage {
    /// In the order of their bytes.
    pub objects: Vec<ObjectInfo>,
    /// In the order of their bytes.
    pub prefixes: Vec<String>,
    /// Where to go on; absent on the last page.
    pub cursor: Option<String>,
    /// The last entry of this page, when it is not the last page.
    pub last: Option<String>,
}

/// A part of a multipart upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartInfo {
    /// 1 to 10,000.
    pub number: u32,
    /// Bytes.
    pub size: u64,
    /// MD5 in hex, without quotes.
    pub etag: String,
    /// When it was written, in milliseconds since the Unix epoch.
    pub uploaded_ms: u64,
    /// Checksums beside the entity tag.
    pub checksums: Vec<Checksum>,
}

/// A multipart upload in progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadInfo {
    /// Its identifier.
    pub id: String,
    /// Key of the object to be.
    pub key: String,
    /// When it began, in milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// What its writer said of the object.
    pub metadata: Metadata,
    /// The checksum that its parts carry.
    pub checksum: Option<UploadChecksum>,
}

/// The checksum that a multipart upload asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadChecksum {
    /// Which one.
    pub algorithm: Algorithm,
    /// Of the whole object (S3's FULL_OBJECT) instead of the parts' checksums (COMPOSITE).
    pub full: bool,
}

/// A part named by the client that completes an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletePart {
    /// Its number.
    pub number: u32,
    /// The entity tag that it was answered with, without quotes.
    pub etag: String,
    /// Checksums that must be those it was stored with.
    pub checksums: Vec<Checksum>,
}

/// Bytes as hex text.
mod hex_bytes {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        hex::decode(text).map_err(serde::de::Error::custom)
    }
}
