//! What can go wrong in the store. One type, because both protocols translate it as a whole.

use crate::Algorithm;
use crate::ObjectInfo;
use std::io;
use std::path::PathBuf;

/// Why an operation on the store did not happen. Nothing half-done is left behind.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No bucket of that name.
    #[error("there is no bucket `{0}`")]
    NoSuchBucket(String),
    /// A bucket of that name exists.
    #[error("bucket `{0}` exists already")]
    BucketExists(String),
    /// It still holds objects.
    #[error("bucket `{0}` is not empty: delete its objects first")]
    BucketNotEmpty(String),
    /// The text cannot name a bucket.
    #[error("`{0}` cannot name a bucket: expected 3 to 127 of a-z, 0-9, '-', '.', '_'")]
    InvalidBucketName(String),
    /// The store holds as many buckets as it may.
    #[error("there are {0} buckets already, which is the limit")]
    TooManyBuckets(u64),
    /// No object of that key.
    #[error("there is no object `{0}`")]
    NoSuchKey(String),
    /// A key is empty or longer than 1,024 bytes.
    #[error("a key has 1 to 1,024 bytes of UTF-8; this one has {0}")]
    InvalidKey(usize),
    /// No multipart upload of that identifier under that bucket and key.
    #[error("there is no multipart upload `{0}`: it was completed, aborted or has expired")]
    NoSuchUpload(String),
    /// A part that was named does not exist or has another entity tag.
    #[error("part {0} was not uploaded, or with another entity tag")]
    InvalidPart(u32),
    /// A part number outside 1 to 10,000.
    #[error("part number {0} is outside 1 to 10,000")]
    InvalidPartNumber(u32),
    /// Parts were not named in ascending order, or none was.
    #[error("parts must be named in ascending order, and at least one")]
    InvalidPartOrder,
    /// A part other than the last is too small.
    #[error("part {part} has {size} bytes; every part but the last needs at least {minimum}")]
    EntityTooSmall {
        /// Its number.
        part: u32,
        /// Its size in bytes.
        size: u64,
        /// The least allowed.
        minimum: u64,
    },
    /// Parts other than the last differ in size, which R2 refuses.
    #[error(
        "all parts but the last must have the same size: part {part} has {size} bytes, the first {first}"
    )]
    UnevenParts {
        /// The first that differs.
        part: u32,
        /// Its size in bytes.
        size: u64,
        /// The size of the first.
        first: u64,
    },
    /// More bytes than an object or a part may have.
    #[error("the body is larger than {0} bytes, which is the limit")]
    EntityTooLarge(u64),
    /// The custom metadata is larger than 8,192 bytes.
    #[error("custom metadata has {0} bytes; the limit is 8,192")]
    MetadataTooLarge(usize),
    /// A condition did not hold.
    #[error("a precondition did not hold")]
    PreconditionFailed {
        /// The object that is there, if any.
        current: Option<Box<ObjectInfo>>,
    },
    /// A reader already has this version.
    #[error("not modified")]
    NotModified {
        /// The object that is there.
        current: Box<ObjectInfo>,
    },
    /// The range lies outside the object.
    #[error("the range lies outside the {size} bytes of the object")]
    InvalidRange {
        /// Size of the object in bytes.
        size: u64,
    },
    /// The body does not have the checksum that the client announced.
    #[error("the body's {algorithm} is {actual}, but {expected} was announced")]
    BadDigest {
        /// Which checksum.
        algorithm: Algorithm,
        /// Announced, in hex.
        expected: String,
        /// Computed, in hex.
        actual: String,
    },
    /// The text of a checksum cannot be read.
    #[error("the announced {0} is malformed")]
    InvalidDigest(Algorithm),
    /// The request asks for a checksum that does not fit the upload.
    #[error("{0}")]
    InvalidRequest(String),
    /// Fewer or more bytes arrived than announced.
    #[error("{received} bytes arrived, but {announced} were announced")]
    IncompleteBody {
        /// Announced.
        announced: u64,
        /// Received.
        received: u64,
    },
    /// The client's body ended with an error, or stood still too long.
    #[error("the body could not be read")]
    Body(#[source] io::Error),
    /// Writing would eat into the reserve that keeps the machine alive.
    #[error("the disk has {available} bytes left, and {reserve} of them are held back: free some space")]
    InsufficientStorage {
        /// Free bytes.
        available: u64,
        /// Held back.
        reserve: u64,
    },
    /// A blob is missing, too short or has changed on disk.
    #[error("the data of `{key}` is damaged: {what}")]
    Corrupt {
        /// The object.
        key: String,
        /// What was found.
        what: String,
    },
    /// Another process has this store open.
    #[error("the store in {0} is open in another process")]
    Locked(PathBuf),
    /// The store on disk was written by a newer program.
    #[error("the store has schema version {found}, this program knows {known}: use the newer program")]
    NewerSchema {
        /// On disk.
        found: i64,
        /// Known here.
        known: i64,
    },
    /// An earlier write could not be made durable. What it was is unknown until the store is opened again.
    #[error("the store takes no writes since the disk failed one: open it again")]
    Poisoned,
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// A file operation failed.
    #[error("cannot {operation} {path}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The index failed.
    #[error("the index failed while {operation}")]
    Index {
        /// What was tried.
        operation: &'static str,
        /// SQLite's answer.
        #[source]
        source: rusqlite::Error,
    },
}

impl StoreError {
    pub(crate) fn io(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            operation,
            path,
            source,
        }
    }

    pub(crate) fn index(operation: &'static str) -> impl Fn(rusqlite::Error) -> Self {
        move |source| Self::Index { operation, source }
    }

    /// True when the system itself said that the disk or quota is full.
    pub fn is_out_of_space(&self) -> bool {
        match self {
            Self::InsufficientStorage { .. } => true,
            Self::Io { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            ),
            Self::Index { source, .. } => source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull),
            _ => false,
        }
    }
}
