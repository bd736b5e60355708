//! A bucket's objects at a second location, and their way back.
//!
//! ```text
//! storage/BUCKET/owner.json         whose replica this is
//! storage/BUCKET/HH/HASH.VERSION    the bytes of an object
//! storage/BUCKET/HH/HASH.json       written after them: without it the object does not exist
//! ```
//!
//! `HASH` is the SHA-256 of the key, `HH` its first two digits: keys `a` and `a/b` do not collide in a folder, and no key
//! is too long for a file's name. `HASH.json` names key, version, size and SHA-256, so body and description always belong
//! together; bodies that it names no longer go after it was written.

mod compare;
mod restore;
mod send;
mod verify;

pub use compare::{claim, compare};
pub use restore::{Restored, restore};
pub use send::{Sent, send};
pub use verify::{Verified, verify};

use crate::destination::{Destination, DestinationError};
use astraler_storage::{Checksum, Metadata, ObjectInfo, StoreError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The version of [`Description`] that is written, and the only one that is read.
const FORMAT: u32 = 1;
/// A description names the size of each of 10,000 parts at most.
const MAX_DESCRIPTION_BYTES: u64 = 512 << 10;
/// Objects read back at one time.
const AT_ONCE: usize = 4;
/// Objects that a report names.
const NAMED: usize = 20;

/// What `HASH.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// Version of this form.
    pub format: u32,
    /// The object's key.
    pub key: String,
    /// Its version: its body's name ends with it.
    pub version: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 of the body, in hex.
    pub sha256: String,
    /// Its entity tag, without quotes.
    pub etag: String,
    /// When it was written, in milliseconds since the Unix epoch.
    pub uploaded_ms: u64,
    /// Headers, names and values of its own.
    pub metadata: Metadata,
    /// Checksums that are kept with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checksums: Vec<Checksum>,
    /// Bytes of each part, where it came from a multipart upload.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<u64>,
}

impl Description {
    fn of(info: ObjectInfo, parts: Vec<u64>, sha256: String) -> Self {
        Self {
            format: FORMAT,
            key: info.key,
            version: info.version,
            size: info.size,
            sha256,
            etag: info.etag,
            uploaded_ms: info.uploaded_ms,
            metadata: info.metadata,
            checksums: info.checksums,
            parts,
        }
    }
}

/// Something cannot be replicated, or not be brought back.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// The destination says no.
    #[error(transparent)]
    Destination(#[from] DestinationError),
    /// The store says no.
    #[error("the object store of this machine cannot be used")]
    Store(#[from] StoreError),
    /// A description is not one of ours.
    #[error("`{key}` is no description of an object")]
    Form {
        /// The file.
        key: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A later version of the program wrote it.
    #[error("`{key}` is of format {format}, this program reads {FORMAT}")]
    Newer {
        /// The file.
        key: String,
        /// Its format.
        format: u32,
    },
    /// It would be lost together with what it protects.
    #[error(
        "the second location {url} is on the device that it protects: name one off this machine, or set backups.allow_same_device = true"
    )]
    SameDevice {
        /// The destination.
        url: String,
    },
    /// What lies there is another store's: writing to it would end a copy that may be the last.
    #[error(
        "{url} holds a replica of bucket `{bucket}` that another store wrote; nothing is written there: bring it back with `astraler recover storage`, or name another location"
    )]
    Foreign {
        /// The destination.
        url: String,
        /// The bucket.
        bucket: String,
    },
}

/// The folder of a bucket.
fn folder(bucket: &str) -> String {
    format!("storage/{bucket}")
}

fn hash(key: &str) -> String {
    hex::encode(Sha256::digest(key.as_bytes()))
}

/// The description of a key.
fn description_at(bucket: &str, hash: &str) -> String {
    let shard = hash.get(..2).unwrap_or_default();
    format!("{}/{shard}/{hash}.json", folder(bucket))
}

/// The body of a version of a key.
fn body_at(bucket: &str, hash: &str, version: &str) -> String {
    let shard = hash.get(..2).unwrap_or_default();
    format!("{}/{shard}/{hash}.{version}", folder(bucket))
}

/// The hash that a description's name bears.
fn hash_of(listed: &str) -> Option<&str> {
    let (_, name) = listed.rsplit_once('/')?;
    let hash = name.strip_suffix(".json")?;
    (hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit())).then_some(hash)
}

/// The description at a place, where there is one.
async fn describe(destination: &Destination, at: &str) -> Result<Option<Description>, ReplicaError> {
    let bytes = match destination.read(at, MAX_DESCRIPTION_BYTES).await {
        Ok(bytes) => bytes,
        Err(DestinationError::Missing { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let form = |source| ReplicaError::Form {
        key: at.to_owned(),
        source,
    };
    let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(form)?;
    let format = value["format"]
        .as_u64()
        .and_then(|format| u32::try_from(format).ok());
    if let Some(format) = format
        && format != FORMAT
    {
        return Err(ReplicaError::Newer {
            key: at.to_owned(),
            format,
        });
    }
    let found: Description = serde_json::from_value(value).map_err(form)?;
    if hash_of(at) != Some(hash(&found.key).as_str()) {
        let reason = "it names another key than its name".to_owned();
        return Err(destination.damaged(at, reason).into());
    }
    Ok(Some(found))
}
