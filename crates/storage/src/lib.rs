//! Durable object storage: what R2 is in the cloud, on one machine.
//!
//! For: the `data` role, which serves it as an S3 API ([`s3`]) to applications and tools, and as the native R2
//! binding ([`r2`]) to workers; and for replication, which uses [`Store`] itself.
//!
//! It knows blobs, an index and the two protocols. It does not know who may reach what: the S3 side asks a published
//! snapshot, the R2 side is told its bucket by a caller that has checked a token. It knows nothing of processes,
//! listeners' addresses, manifests or other stores.
//!
//! A write is answered when it would survive a loss of power: bytes in a temporary file, synced, renamed, the folder
//! synced, the index committed. Small objects live in the index itself. Many writes share a commit. What a second
//! location has not seen yet is queued in the same commit ([`Change`]).

mod blob;
mod change;
mod condition;
mod error;
mod hash;
mod index;
mod list;
mod multipart;
mod object;
pub mod r2;
mod range;
mod read;
pub mod s3;
mod scrub;
mod store;
mod types;

#[doc(hidden)]
pub use blob::{Step, StepHook};
pub use change::{Change, Replica, Waiting};
pub use condition::{Conditions, EtagMatch, Verdict};
pub use error::StoreError;
pub use multipart::{MAX_PARTS, PartPage, UploadPage};
pub use object::{
    Announced, GetOptions, Incoming, MAX_KEY_BYTES, MAX_METADATA_BYTES, ObjectRead, Origin, PutOptions,
    body_of,
};
pub use range::{ByteRange, Unsatisfiable};
pub use read::ObjectBody;
pub use scrub::{Damage, ScrubReport};
pub use store::{OpenReport, Store, StoreOptions};
pub use types::{
    Algorithm, BucketInfo, Checksum, CompletePart, HttpMetadata, ListOptions, ListPage, Metadata, ObjectInfo,
    PartInfo, UploadChecksum, UploadInfo,
};

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
