//! Objects: put, get, head, delete, copy.

use crate::blob::{BlobId, NewBlob};
use crate::hash::{Digests, Hashers};
use crate::index::Tx;
use crate::read::{ObjectBody, Segment};
use crate::store::{bucket_id, insert_blob};
use crate::{
    Algorithm, ByteRange, Checksum, Conditions, Metadata, ObjectInfo, Store, StoreError, Verdict, now_ms,
};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use std::io;
use std::ops::Range;
use std::pin::Pin;

/// The longest key in bytes, as R2.
pub const MAX_KEY_BYTES: usize = 1024;
/// The most custom metadata in bytes, as R2.
pub const MAX_METADATA_BYTES: usize = 8192;
/// Bytes that are collected before they are written.
const WRITE_BYTES: usize = 256 << 10;
/// How often a read is tried again when the object changes between look-up and open.
const READ_TRIES: usize = 16;

/// A body on its way in.
pub type Incoming = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// A body of bytes at hand.
pub fn body_of(bytes: impl Into<Bytes>) -> Incoming {
    let bytes = bytes.into();
    Box::pin(futures_util::stream::once(async move { Ok(bytes) }))
}

/// The checksums that a client announces: before the body, or after it (in trailers).
#[derive(Default)]
pub enum Announced {
    /// None.
    #[default]
    Nothing,
    /// These.
    Now(Vec<Checksum>),
    /// Asked for when the body has been read.
    Later(Box<dyn FnOnce() -> Result<Vec<Checksum>, StoreError> + Send>),
}

/// How to put an object.
#[derive(Default)]
pub struct PutOptions {
    /// What the writer says of it.
    pub metadata: Metadata,
    /// Conditions on the object that is there.
    pub conditions: Conditions,
    /// Checksums to compute and keep, beside those that are announced.
    pub checksums: Vec<Algorithm>,
    /// Checksums that must come out.
    pub announced: Announced,
    /// The number of bytes that must arrive.
    pub length: Option<u64>,
    /// It comes back from a copy: it is again the version that it was.
    pub origin: Option<Origin>,
}

/// The version of an object that comes back from a copy. It takes the place of an older one, never of a newer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Its version.
    pub version: String,
    /// When it was written first, in milliseconds since the Unix epoch.
    pub uploaded_ms: u64,
}

/// How to get an object.
#[derive(Debug, Clone, Default)]
pub struct GetOptions {
    /// Conditions on the object that is there.
    pub conditions: Conditions,
    /// Only these bytes.
    pub range: Option<ByteRange>,
    /// Only this part of an object that came from a multipart upload.
    pub part: Option<u32>,
}

/// An object being read.
#[derive(Debug)]
pub struct ObjectRead {
    /// The object.
    pub info: ObjectInfo,
    /// The bytes of it that follow.
    pub range: Range<u64>,
    /// Those bytes.
    pub body: ObjectBody,
    /// Bytes of each part of an object that came from a multipart upload.
    pub parts: Vec<u64>,
}

/// A received body that no index row names yet.
pub(crate) struct Received {
    pub(crate) content: Content,
    pub(crate) size: u64,
    pub(crate) digests: Digests,
}

pub(crate) enum Content {
    Inline(Vec<u8>),
    File(NewBlob),
}

/// What goes into the blob table.
pub(crate) struct Stored {
    pub(crate) id: BlobId,
    pub(crate) size: u64,
    pub(crate) crc32c: u32,
    pub(crate) data: Option<Vec<u8>>,
}

/// What the index keeps of an object as JSON.
#[derive(Serialize, Deserialize, Default)]
pub(crate) struct Meta {
    #[serde(flatten)]
    pub(crate) metadata: Metadata,
    #[serde(default, rename = "sums", skip_serializing_if = "Vec::is_empty")]
    pub(crate) checksums: Vec<Checksum>,
}

impl Store {
    /// Writes an object. It replaces the one of the same key at once; readers of that one finish on it. The answer
    /// comes when the new one is durable.
    pub async fn put(
        &self,
        bucket: &str,
        key: &str,
        body: Incoming,
        options: PutOptions,
    ) -> Result<ObjectInfo, StoreError> {
        check_key(key)?;
        check_metadata(&options.metadata)?;
        let conditions = options.conditions;
        if conditions.is_empty() {
            self.bucket(bucket).await?;
        } else {
            // Judged again in the transaction; here it only spares the client the upload.
            self.judge_write(bucket, key, &conditions).await?;
        }
        let mut received = self
            .receive(body, options.length, &options.checksums, options.announced)
            .await?;
        let (version, uploaded_ms) = stamp(options.origin.as_ref());
        let info = ObjectInfo {
            key: key.to_owned(),
            version,
            size: received.size,
            etag: hex::encode(&received.digests.md5),
            uploaded_ms,
            metadata: options.metadata,
            checksums: std::mem::take(&mut received.digests.asked),
            parts: None,
        };
        let bucket = bucket.to_owned();
        let files = received.files();
        self.inner
            .index
            .write(files, {
                let blobs = std::sync::Arc::clone(&self.inner.blobs);
                move |tx| {
                    let bucket = bucket_id(tx.conn, &bucket)?;
                    check_write(tx.conn, bucket, &info.key, &conditions)?;
                    check_origin(tx.conn, bucket, &info.key, options.origin.as_ref())?;
                    let blob = received.insert(tx, &blobs)?;
                    replace(tx, bucket, &info, Some(blob))?;
                    received.keep();
                    Ok(info)
                }
            })
            .await
    }

    /// Describes an object.
    pub async fn head(
        &self,
        bucket: &str,
        key: &str,
        conditions: &Conditions,
    ) -> Result<ObjectInfo, StoreError> {
        let (bucket, key, conditions) = (bucket.to_owned(), key.to_owned(), conditions.clone());
        self.inner
            .index
            .read(move |conn| {
                let bucket = bucket_id(conn, &bucket)?;
                let found = find(conn, bucket, &key)?;
                Ok(check_read(found, &key, &conditions)?.info)
            })
            .await
    }

    /// Opens an object for reading.
    pub async fn get(&self, bucket: &str, key: &str, options: GetOptions) -> Result<ObjectRead, StoreError> {
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        let blobs = std::sync::Arc::clone(&self.inner.blobs);
        self.inner
            .index
            .read(move |conn| {
                let bucket = bucket_id(conn, &bucket)?;
                let mut tries = 0;
                loop {
                    tries += 1;
                    let found = find(conn, bucket, &key)?;
                    let found = check_read(found, &key, &options.conditions)?;
                    let segments = segments(conn, &found)?;
                    let range = pick(&found.info, &segments, &options)?;
                    // What is held now stays; what was replaced before that is seen by looking again.
                    let hold = blobs.hold(segments.iter().filter_map(Segment::file).collect());
                    let current = find(conn, bucket, &key)?
                        .is_some_and(|again| again.info.version == found.info.version);
                    if current {
                        let parts = match found.blob {
                            None => segments.iter().map(|segment| segment.size).collect(),
                            Some(_) => vec![],
                        };
                        let body = ObjectBody::open(&blobs, &found.info.key, segments, range.clone(), hold)?;
                        return Ok(ObjectRead {
                            info: found.info,
                            range,
                            body,
                            parts,
                        });
                    }
                    if tries == READ_TRIES {
                        return Err(StoreError::NoSuchKey(key));
                    }
                }
            })
            .await
    }

    /// Deletes an object. False when there was none.
    pub async fn delete(&self, bucket: &str, key: &str) -> Result<bool, StoreError> {
        Ok(self.delete_many(bucket, vec![key.to_owned()]).await? > 0)
    }

    /// Deletes objects, all in one transaction; answers how many there were.
    pub async fn delete_many(&self, bucket: &str, keys: Vec<String>) -> Result<usize, StoreError> {
        let bucket = bucket.to_owned();
        self.inner
            .index
            .write(vec![], move |tx| {
                let bucket = bucket_id(tx.conn, &bucket)?;
                let mut deleted = 0;
                for key in keys {
                    if let Some(found) = find(tx.conn, bucket, &key)? {
                        forget(tx, &found)?;
                        crate::change::queue(tx, bucket, key.as_bytes())?;
                        tx.conn
                            .prepare_cached("DELETE FROM object WHERE bucket = ?1 AND key = ?2")
                            .and_then(|mut s| s.execute(params![bucket, key.as_bytes()]))
                            .map_err(StoreError::index("deleting an object"))?;
                        deleted += 1;
                    }
                }
                Ok(deleted)
            })
            .await
    }

    /// Copies an object without copying its bytes: both share the blob. `metadata` replaces that of the source.
    pub async fn copy(
        &self,
        from: (&str, &str),
        source_conditions: &Conditions,
        to: (&str, &str),
        conditions: &Conditions,
        metadata: Option<Metadata>,
    ) -> Result<ObjectInfo, StoreError> {
        check_key(to.1)?;
        if let Some(metadata) = &metadata {
            check_metadata(metadata)?;
        }
        self.inner.blobs.check_space(0)?;
        let (from, to) = (owned(from), owned(to));
        let (source_conditions, conditions) = (source_conditions.clone(), conditions.clone());
        self.inner
            .index
            .write(vec![], move |tx| {
                let source_bucket = bucket_id(tx.conn, &from.0)?;
                let bucket = bucket_id(tx.conn, &to.0)?;
                let source = find(tx.conn, source_bucket, &from.1)?;
                let source = match check_read(source, &from.1, &source_conditions) {
                    Err(StoreError::NotModified { current }) => {
                        return Err(StoreError::PreconditionFailed {
                            current: Some(current),
                        });
                    }
                    other => other?,
                };
                check_write(tx.conn, bucket, &to.1, &conditions)?;
                let segments = segments(tx.conn, &source)?;
                let mut share = tx
                    .conn
                    .prepare_cached("UPDATE blob SET refs = refs + 1 WHERE id = ?1")
                    .map_err(StoreError::index("copying an object"))?;
                for segment in &segments {
                    share
                        .execute([segment.blob])
                        .map_err(StoreError::index("copying an object"))?;
                }
                let mut info = source.info;
                info.key = to.1;
                info.version = new_version();
                info.uploaded_ms = now_ms();
                if let Some(metadata) = metadata {
                    info.metadata = metadata;
                }
                if source.blob.is_none() {
                    add_segments(tx.conn, &info.version, segments.iter().map(|s| (s.size, s.blob)))?;
                }
                replace(tx, bucket, &info, source.blob)?;
                Ok(info)
            })
            .await
    }

    async fn judge_write(&self, bucket: &str, key: &str, conditions: &Conditions) -> Result<(), StoreError> {
        let (bucket, key, conditions) = (bucket.to_owned(), key.to_owned(), conditions.clone());
        self.inner
            .index
            .read(move |conn| {
                let bucket = bucket_id(conn, &bucket)?;
                check_write(conn, bucket, &key, &conditions)
            })
            .await
    }

    /// Receives a body: into memory while it is small, else into a blob file that is durable when this answers.
    pub(crate) async fn receive(
        &self,
        mut body: Incoming,
        length: Option<u64>,
        checksums: &[Algorithm],
        announced: Announced,
    ) -> Result<Received, StoreError> {
        let options = &self.inner.options;
        let limit = options.max_put_bytes;
        if length.is_some_and(|length| length > limit) {
            return Err(StoreError::EntityTooLarge(limit));
        }
        let _announced_bytes = self.inner.blobs.announce(length.unwrap_or(0))?;
        let _place = self
            .inner
            .uploads
            .acquire()
            .await
            .map_err(|_| StoreError::Closed)?;
        let mut asked = checksums.to_vec();
        if let Announced::Now(announced) = &announced {
            asked.extend(announced.iter().map(|checksum| checksum.algorithm));
        }
        let mut sink = Sink {
            hashers: Hashers::new(&asked),
            buffer: BytesMut::new(),
            file: None,
        };
        let mut size = 0u64;
        loop {
            let next = tokio::time::timeout(options.body_idle, body.next())
                .await
                .map_err(|_| StoreError::Body(io::ErrorKind::TimedOut.into()))?;
            let Some(chunk) = next else { break };
            let mut chunk = chunk.map_err(StoreError::Body)?;
            size += chunk.len() as u64;
            if size > limit {
                return Err(StoreError::EntityTooLarge(limit));
            }
            if let Some(announced) = length
                && size > announced
            {
                return Err(StoreError::IncompleteBody {
                    announced,
                    received: size,
                });
            }
            while !chunk.is_empty() {
                let room = WRITE_BYTES - sink.buffer.len();
                let piece = chunk.split_to(room.min(chunk.len()));
                sink.buffer.extend_from_slice(&piece);
                if sink.buffer.len() == WRITE_BYTES {
                    // With an announced length the space was checked once and for all.
                    if length.is_none() {
                        self.inner.blobs.check_space(WRITE_BYTES as u64)?;
                    }
                    sink = sink.flush(&self.inner.blobs).await?;
                }
            }
        }
        if let Some(announced) = length
            && size != announced
        {
            return Err(StoreError::IncompleteBody {
                announced,
                received: size,
            });
        }
        let expected = match announced {
            Announced::Nothing => vec![],
            Announced::Now(expected) => expected,
            Announced::Later(ask) => ask()?,
        };
        if sink.file.is_none() && sink.buffer.len() <= options.inline_bytes {
            sink.hashers.update(&sink.buffer);
            let digests = sink.hashers.finish();
            verify(&digests, &expected)?;
            return Ok(Received {
                content: Content::Inline(sink.buffer.to_vec()),
                size,
                digests,
            });
        }
        let mut sink = sink.flush(&self.inner.blobs).await?;
        let Some(mut file) = sink.file.take() else {
            return Err(StoreError::Closed);
        };
        let digests = sink.hashers.finish();
        verify(&digests, &expected)?;
        let file = blocking(move || {
            file.settle()?;
            Ok(file)
        })
        .await?;
        Ok(Received {
            content: Content::File(file),
            size,
            digests,
        })
    }
}

/// Where received bytes go.
struct Sink {
    hashers: Hashers,
    buffer: BytesMut,
    file: Option<NewBlob>,
}

impl Sink {
    /// Writes the buffer out, off the executor, so that a slow client holds no thread.
    async fn flush(mut self, blobs: &std::sync::Arc<crate::blob::Blobs>) -> Result<Self, StoreError> {
        let blobs = std::sync::Arc::clone(blobs);
        blocking(move || {
            self.hashers.update(&self.buffer);
            let mut file = match self.file.take() {
                Some(file) => file,
                None => blobs.create()?,
            };
            file.write(&self.buffer)?;
            self.file = Some(file);
            self.buffer.clear();
            Ok(self)
        })
        .await
    }
}

impl Received {
    pub(crate) fn files(&self) -> Vec<BlobId> {
        match &self.content {
            Content::Inline(_) => vec![],
            Content::File(file) => vec![file.id],
        }
    }

    /// Adds its row; answers its id.
    pub(crate) fn insert(&mut self, tx: &Tx<'_>, blobs: &crate::blob::Blobs) -> Result<BlobId, StoreError> {
        let (id, data) = match &mut self.content {
            Content::Inline(data) => (blobs.new_id(), Some(std::mem::take(data))),
            Content::File(file) => (file.id, None),
        };
        insert_blob(
            tx,
            &Stored {
                id,
                size: self.size,
                crc32c: self.digests.crc32c,
                data,
            },
        )?;
        Ok(id)
    }

    /// The index names it: its file stays.
    pub(crate) fn keep(&mut self) {
        if let Content::File(file) = &mut self.content {
            file.keep();
        }
    }
}

/// Runs blocking work off the executor.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => Err(StoreError::Closed),
    }
}

fn verify(digests: &Digests, expected: &[Checksum]) -> Result<(), StoreError> {
    for checksum in expected {
        let actual = match checksum.algorithm {
            Algorithm::Md5 => Some(&digests.md5),
            other => digests
                .asked
                .iter()
                .find(|sum| sum.algorithm == other)
                .map(|sum| &sum.value),
        };
        let actual = actual.ok_or(StoreError::InvalidDigest(checksum.algorithm))?;
        if *actual != checksum.value {
            return Err(StoreError::BadDigest {
                algorithm: checksum.algorithm,
                expected: hex::encode(&checksum.value),
                actual: hex::encode(actual),
            });
        }
    }
    Ok(())
}

/// A row of the object table.
pub(crate) struct Found {
    pub(crate) info: ObjectInfo,
    pub(crate) blob: Option<BlobId>,
}

pub(crate) const OBJECT_COLUMNS: &str = "key, version, size, etag, uploaded_ms, parts, blob, meta";

/// Reads a row of [`OBJECT_COLUMNS`].
pub(crate) fn object_of(row: &Row<'_>) -> rusqlite::Result<Found> {
    let key: Vec<u8> = row.get(0)?;
    let meta: String = row.get(7)?;
    let meta: Meta = serde_json::from_str(&meta).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(7, rusqlite::types::Type::Text, Box::new(error))
    })?;
    Ok(Found {
        info: ObjectInfo {
            key: String::from_utf8_lossy(&key).into_owned(),
            version: row.get(1)?,
            size: row.get(2)?,
            etag: row.get(3)?,
            uploaded_ms: row.get(4)?,
            metadata: meta.metadata,
            checksums: meta.checksums,
            parts: row.get(5)?,
        },
        blob: row.get(6)?,
    })
}

pub(crate) fn find(conn: &Connection, bucket: i64, key: &str) -> Result<Option<Found>, StoreError> {
    conn.prepare_cached(&format!(
        "SELECT {OBJECT_COLUMNS} FROM object WHERE bucket = ?1 AND key = ?2"
    ))
    .and_then(|mut s| s.query_row(params![bucket, key.as_bytes()], object_of).optional())
    .map_err(StoreError::index("looking for an object"))
}

fn check_read(found: Option<Found>, key: &str, conditions: &Conditions) -> Result<Found, StoreError> {
    let Some(found) = found else {
        return Err(StoreError::NoSuchKey(key.to_owned()));
    };
    match conditions.judge(Some(&found.info)) {
        Verdict::Holds => Ok(found),
        Verdict::NotModified => Err(StoreError::NotModified {
            current: Box::new(found.info),
        }),
        Verdict::Failed => Err(StoreError::PreconditionFailed {
            current: Some(Box::new(found.info)),
        }),
    }
}

/// For a write, a condition that does not hold is always a failure.
pub(crate) fn check_write(
    conn: &Connection,
    bucket: i64,
    key: &str,
    conditions: &Conditions,
) -> Result<(), StoreError> {
    if conditions.is_empty() {
        return Ok(());
    }
    let current = find(conn, bucket, key)?.map(|found| found.info);
    match conditions.judge(current.as_ref()) {
        Verdict::Holds => Ok(()),
        _ => Err(StoreError::PreconditionFailed {
            current: current.map(Box::new),
        }),
    }
}

/// A version of its own, now; or the one that comes back.
pub(crate) fn stamp(origin: Option<&Origin>) -> (String, u64) {
    match origin {
        Some(origin) => (origin.version.clone(), origin.uploaded_ms),
        None => (new_version(), now_ms()),
    }
}

/// What comes back never takes the place of something newer, or of itself.
pub(crate) fn check_origin(
    conn: &Connection,
    bucket: i64,
    key: &str,
    origin: Option<&Origin>,
) -> Result<(), StoreError> {
    let Some(origin) = origin else {
        return Ok(());
    };
    let current = find(conn, bucket, key)?.map(|found| found.info);
    match current {
        Some(current) if current.version == origin.version || current.uploaded_ms >= origin.uploaded_ms => {
            Err(StoreError::PreconditionFailed {
                current: Some(Box::new(current)),
            })
        }
        _ => Ok(()),
    }
}

/// Puts an object's row in place of whatever is there.
pub(crate) fn replace(
    tx: &mut Tx<'_>,
    bucket: i64,
    info: &ObjectInfo,
    blob: Option<BlobId>,
) -> Result<(), StoreError> {
    if let Some(old) = find(tx.conn, bucket, &info.key)? {
        forget(tx, &old)?;
    }
    let meta = to_json(&Meta {
        metadata: info.metadata.clone(),
        checksums: info.checksums.clone(),
    });
    tx.conn
        .prepare_cached(
            "INSERT OR REPLACE INTO object (bucket, key, version, size, etag, uploaded_ms, parts, blob, meta)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )
        .and_then(|mut s| {
            s.execute(params![
                bucket,
                info.key.as_bytes(),
                info.version,
                info.size,
                info.etag,
                info.uploaded_ms,
                info.parts,
                blob,
                meta
            ])
        })
        .map_err(StoreError::index("writing an object"))?;
    crate::change::queue(tx, bucket, info.key.as_bytes())
}

/// Releases the blobs of an object whose row goes away.
fn forget(tx: &mut Tx<'_>, found: &Found) -> Result<(), StoreError> {
    for segment in segments(tx.conn, found)? {
        tx.release(segment.blob)?;
    }
    if found.blob.is_none() {
        tx.conn
            .prepare_cached("DELETE FROM segment WHERE version = ?1")
            .and_then(|mut s| s.execute([&found.info.version]))
            .map_err(StoreError::index("deleting the segments of an object"))?;
    }
    Ok(())
}

pub(crate) fn add_segments(
    conn: &Connection,
    version: &str,
    segments: impl Iterator<Item = (u64, BlobId)>,
) -> Result<(), StoreError> {
    let failed = StoreError::index("adding the segments of an object");
    let mut insert = conn
        .prepare_cached("INSERT INTO segment (version, number, size, blob) VALUES (?1, ?2, ?3, ?4)")
        .map_err(&failed)?;
    for (number, (size, blob)) in segments.enumerate() {
        insert
            .execute(params![version, number, size, blob])
            .map_err(&failed)?;
    }
    Ok(())
}

/// The blobs of an object, in order. Small data comes with them.
fn segments(conn: &Connection, found: &Found) -> Result<Vec<Segment>, StoreError> {
    let read = |row: &Row<'_>| {
        Ok(Segment {
            blob: row.get(0)?,
            size: row.get(1)?,
            crc32c: row.get(2)?,
            inlined: row.get(3)?,
            data: row.get::<_, Option<Vec<u8>>>(4)?.map(Bytes::from),
        })
    };
    match found.blob {
        Some(blob) => conn
            .prepare_cached("SELECT id, size, crc32c, inlined, data FROM blob WHERE id = ?1")
            .and_then(|mut s| s.query_map([blob], read)?.collect()),
        None => conn
            .prepare_cached(
                "SELECT b.id, b.size, b.crc32c, b.inlined, b.data FROM segment s JOIN blob b ON b.id = s.blob
                 WHERE s.version = ?1 ORDER BY s.number",
            )
            .and_then(|mut s| s.query_map([&found.info.version], read)?.collect()),
    }
    .map_err(StoreError::index("looking for the data of an object"))
}

/// The bytes that are asked for.
fn pick(info: &ObjectInfo, segments: &[Segment], options: &GetOptions) -> Result<Range<u64>, StoreError> {
    let outside = |_| StoreError::InvalidRange { size: info.size };
    if let Some(part) = options.part {
        let index = usize::try_from(part).unwrap_or(0).checked_sub(1);
        let segment = index
            .and_then(|index| segments.get(index))
            .ok_or(StoreError::InvalidPart(part))?;
        let start = segments
            .iter()
            .take(part as usize - 1)
            .map(|s| s.size)
            .sum::<u64>();
        return Ok(start..start + segment.size);
    }
    options.range.map_or(Ok(0..info.size), |range| {
        range.resolve(info.size).map_err(outside)
    })
}

fn check_key(key: &str) -> Result<(), StoreError> {
    if (1..=MAX_KEY_BYTES).contains(&key.len()) {
        Ok(())
    } else {
        Err(StoreError::InvalidKey(key.len()))
    }
}

pub(crate) fn check_new(key: &str, metadata: &Metadata) -> Result<(), StoreError> {
    check_key(key)?;
    check_metadata(metadata)
}

fn check_metadata(metadata: &Metadata) -> Result<(), StoreError> {
    let bytes = metadata
        .custom
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if bytes > MAX_METADATA_BYTES {
        return Err(StoreError::MetadataTooLarge(bytes));
    }
    Ok(())
}

/// 32 hex digits.
pub(crate) fn new_version() -> String {
    hex::encode(rand::random::<[u8; 16]>())
}

/// These types always serialise.
pub(crate) fn to_json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn owned((bucket, key): (&str, &str)) -> (String, String) {
    (bucket.to_owned(), key.to_owned())
}
