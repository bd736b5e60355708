//! Multipart uploads. A completed object keeps its parts as they are: completing moves no bytes.

use crate::hash;
use crate::index::Tx;
use crate::object::{
    Announced, Incoming, Meta, Origin, add_segments, check_new, check_origin, check_write, find, new_version,
    replace, stamp, to_json,
};
use crate::store::bucket_id;
use crate::{
    Algorithm, Checksum, CompletePart, Conditions, Metadata, ObjectInfo, PartInfo, Store, StoreError,
    UploadChecksum, UploadInfo, now_ms,
};
use rusqlite::{Connection, OptionalExtension, params};

/// Parts of an upload at most, as R2.
pub const MAX_PARTS: u32 = 10_000;
/// Uploads that a sweep forgets in one transaction; an upload has up to 10,000 parts.
const SWEEP: usize = 20;
/// Transactions of a sweep at most; the next sweep goes on.
const MAX_SWEEPS: usize = 5_000;
/// Rows of a page at most.
const PAGE: usize = 1000;

/// A page of the parts of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartPage {
    /// The upload.
    pub upload: UploadInfo,
    /// In the order of their numbers.
    pub parts: Vec<PartInfo>,
    /// True when there are more.
    pub truncated: bool,
}

/// A page of the uploads of a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UploadPage {
    /// In the order of their keys and identifiers.
    pub uploads: Vec<UploadInfo>,
    /// True when there are more.
    pub truncated: bool,
}

/// A row of the upload table.
struct Upload {
    info: UploadInfo,
    bucket: i64,
    completed: Option<String>,
}

impl Store {
    /// Begins an upload; answers its identifier.
    pub async fn create_upload(
        &self,
        bucket: &str,
        key: &str,
        metadata: Metadata,
        checksum: Option<UploadChecksum>,
    ) -> Result<String, StoreError> {
        check_new(key, &metadata)?;
        self.inner.blobs.check_space(0)?;
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        self.inner
            .index
            .write(vec![], move |tx| {
                let bucket = bucket_id(tx.conn, &bucket)?;
                let id = new_version();
                let meta = to_json(&Meta {
                    metadata,
                    checksums: vec![],
                });
                let checksum = checksum.map(|checksum| to_json(&checksum));
                tx.conn
                    .prepare_cached(
                        "INSERT INTO upload (id, bucket, key, created_ms, checksum, meta)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                    )
                    .and_then(|mut s| {
                        s.execute(params![id, bucket, key.as_bytes(), now_ms(), checksum, meta])
                    })
                    .map_err(StoreError::index("beginning an upload"))?;
                Ok(id)
            })
            .await
    }

    /// An upload in progress.
    pub async fn upload(&self, bucket: &str, key: &str, id: &str) -> Result<UploadInfo, StoreError> {
        let (bucket, key, id) = (bucket.to_owned(), key.to_owned(), id.to_owned());
        self.inner
            .index
            .read(move |conn| Ok(in_progress(conn, &bucket, &key, &id)?.info))
            .await
    }

    /// Uploads a part. A part of the same number is replaced.
    #[expect(clippy::too_many_arguments, reason = "an upload is named by three of them")]
    pub async fn put_part(
        &self,
        bucket: &str,
        key: &str,
        upload: &str,
        number: u32,
        body: Incoming,
        length: Option<u64>,
        announced: Announced,
        checksums: &[Algorithm],
    ) -> Result<PartInfo, StoreError> {
        if !(1..=MAX_PARTS).contains(&number) {
            return Err(StoreError::InvalidPartNumber(number));
        }
        let info = self.upload(bucket, key, upload).await?;
        let mut asked = checksums.to_vec();
        asked.extend(info.checksum.map(|checksum| checksum.algorithm));
        let mut received = self.receive(body, length, &asked, announced).await?;
        let part = PartInfo {
            number,
            size: received.size,
            etag: hex::encode(&received.digests.md5),
            uploaded_ms: now_ms(),
            checksums: std::mem::take(&mut received.digests.asked),
        };
        let (bucket, key, upload) = (bucket.to_owned(), key.to_owned(), upload.to_owned());
        let files = received.files();
        let blobs = std::sync::Arc::clone(&self.inner.blobs);
        self.inner
            .index
            .write(files, move |tx| {
                let failed = StoreError::index("adding a part");
                in_progress(tx.conn, &bucket, &key, &upload)?;
                let old: Option<i64> = tx
                    .conn
                    .prepare_cached("SELECT blob FROM part WHERE upload = ?1 AND number = ?2")
                    .and_then(|mut s| s.query_row(params![upload, number], |row| row.get(0)).optional())
                    .map_err(&failed)?;
                if let Some(old) = old {
                    tx.release(old)?;
                }
                let blob = received.insert(tx, &blobs)?;
                tx.conn
                    .prepare_cached(
                        "INSERT OR REPLACE INTO part (upload, number, size, etag, uploaded_ms, blob, checksums)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                    )
                    .and_then(|mut s| {
                        s.execute(params![
                            upload,
                            number,
                            part.size,
                            part.etag,
                            part.uploaded_ms,
                            blob,
                            to_json(&part.checksums)
                        ])
                    })
                    .map_err(&failed)?;
                received.keep();
                Ok(part)
            })
            .await
    }

    /// Joins the named parts to an object; the others are dropped. Repeated, it answers the same again, as long as
    /// the object is still that one.
    ///
    /// `whole` is a checksum of the object that the client announced.
    pub async fn complete_upload(
        &self,
        bucket: &str,
        key: &str,
        upload: &str,
        parts: Vec<CompletePart>,
        conditions: &Conditions,
        whole: Vec<Checksum>,
    ) -> Result<ObjectInfo, StoreError> {
        self.complete(bucket, key, upload, parts, conditions, whole, None)
            .await
    }

    /// As [`Store::complete_upload`], for an object that comes back from a copy.
    pub async fn complete_restored(
        &self,
        bucket: &str,
        key: &str,
        upload: &str,
        parts: Vec<CompletePart>,
        origin: Origin,
    ) -> Result<ObjectInfo, StoreError> {
        let any = Conditions::default();
        self.complete(bucket, key, upload, parts, &any, vec![], Some(origin))
            .await
    }

    #[expect(clippy::too_many_arguments, reason = "an upload is named by three of them")]
    async fn complete(
        &self,
        bucket: &str,
        key: &str,
        upload: &str,
        parts: Vec<CompletePart>,
        conditions: &Conditions,
        whole: Vec<Checksum>,
        origin: Option<Origin>,
    ) -> Result<ObjectInfo, StoreError> {
        let (bucket, key, id) = (bucket.to_owned(), key.to_owned(), upload.to_owned());
        let conditions = conditions.clone();
        let (minimum, uniform) = (
            self.inner.options.min_part_bytes,
            self.inner.options.uniform_parts,
        );
        self.inner
            .index
            .write(vec![], move |tx| {
                let upload = find_upload(tx.conn, &bucket, &key, &id)?;
                if let Some(version) = &upload.completed {
                    return find(tx.conn, upload.bucket, &key)?
                        .filter(|found| found.info.version == *version)
                        .map(|found| found.info)
                        .ok_or(StoreError::NoSuchUpload(id));
                }
                check_write(tx.conn, upload.bucket, &key, &conditions)?;
                check_origin(tx.conn, upload.bucket, &key, origin.as_ref())?;
                let stored = stored_parts(tx.conn, &id, 0, usize::MAX)?;
                let chosen = choose(&stored, &parts)?;
                check_sizes(&chosen, minimum, uniform)?;
                let checksums = whole_checksum(&upload.info, &chosen, &whole)?;
                let sums: Vec<u8> = chosen
                    .iter()
                    .flat_map(|(part, _)| hex::decode(&part.etag).unwrap_or_default())
                    .collect();
                let (version, uploaded_ms) = stamp(origin.as_ref());
                let info = ObjectInfo {
                    key: key.clone(),
                    version,
                    size: chosen.iter().map(|(part, _)| part.size).sum(),
                    etag: format!("{}-{}", hex::encode(hash::md5(&sums)), chosen.len()),
                    uploaded_ms,
                    metadata: upload.info.metadata.clone(),
                    checksums,
                    parts: u32::try_from(chosen.len()).ok(),
                };
                add_segments(
                    tx.conn,
                    &info.version,
                    chosen.iter().map(|(part, blob)| (part.size, *blob)),
                )?;
                for (part, blob) in &stored {
                    let kept = chosen.binary_search_by_key(&part.number, |(kept, _)| kept.number);
                    if kept.is_err() {
                        tx.release(*blob)?;
                    }
                }
                replace(tx, upload.bucket, &info, None)?;
                let failed = StoreError::index("completing an upload");
                tx.conn
                    .execute("DELETE FROM part WHERE upload = ?1", [&id])
                    .map_err(&failed)?;
                tx.conn
                    .execute(
                        "UPDATE upload SET completed_version = ?2 WHERE id = ?1",
                        params![id, info.version],
                    )
                    .map_err(&failed)?;
                Ok(info)
            })
            .await
    }

    /// Aborts an upload and drops its parts.
    pub async fn abort_upload(&self, bucket: &str, key: &str, upload: &str) -> Result<(), StoreError> {
        let (bucket, key, id) = (bucket.to_owned(), key.to_owned(), upload.to_owned());
        self.inner
            .index
            .write(vec![], move |tx| {
                in_progress(tx.conn, &bucket, &key, &id)?;
                forget_upload(tx, &id)
            })
            .await
    }

    /// Lists the parts of an upload whose number is above `after`.
    pub async fn list_parts(
        &self,
        bucket: &str,
        key: &str,
        upload: &str,
        after: u32,
        limit: usize,
    ) -> Result<PartPage, StoreError> {
        let (bucket, key, id) = (bucket.to_owned(), key.to_owned(), upload.to_owned());
        let limit = limit.min(PAGE);
        self.inner
            .index
            .read(move |conn| {
                let upload = in_progress(conn, &bucket, &key, &id)?.info;
                let mut parts: Vec<PartInfo> = stored_parts(conn, &id, after, limit + 1)?
                    .into_iter()
                    .map(|(part, _)| part)
                    .collect();
                let truncated = parts.len() > limit;
                parts.truncate(limit);
                Ok(PartPage {
                    upload,
                    parts,
                    truncated,
                })
            })
            .await
    }

    /// Lists the uploads in progress whose key starts with `prefix`, after a key (and, within it, an identifier).
    pub async fn list_uploads(
        &self,
        bucket: &str,
        prefix: &str,
        after: (&str, &str),
        limit: usize,
    ) -> Result<UploadPage, StoreError> {
        let (bucket, prefix) = (bucket.to_owned(), prefix.as_bytes().to_vec());
        let (after_key, after_id) = (after.0.as_bytes().to_vec(), after.1.to_owned());
        let limit = limit.min(PAGE);
        self.inner
            .index
            .read(move |conn| {
                let failed = StoreError::index("listing uploads");
                let bucket = bucket_id(conn, &bucket)?;
                // Without an identifier, everything of the key itself is behind.
                let mut statement = conn
                    .prepare_cached(
                        "SELECT id, key, created_ms, checksum, meta, completed_version, bucket FROM upload
                         WHERE bucket = ?1 AND completed_version IS NULL AND key >= ?2
                           AND (key > ?3 OR (key = ?3 AND ?4 <> '' AND id > ?4))
                         ORDER BY key, id",
                    )
                    .map_err(&failed)?;
                let mut rows = statement
                    .query(params![bucket, prefix, after_key, after_id])
                    .map_err(&failed)?;
                let mut page = UploadPage::default();
                while let Some(row) = rows.next().map_err(&failed)? {
                    let upload = upload_of(row).map_err(&failed)?.info;
                    if !upload.key.as_bytes().starts_with(&prefix) {
                        break;
                    }
                    if page.uploads.len() == limit {
                        page.truncated = true;
                        break;
                    }
                    page.uploads.push(upload);
                }
                Ok(page)
            })
            .await
    }

    /// Aborts uploads that were begun longer ago than the expiry, and forgets completed ones of that age. Answers
    /// how many were aborted. Other writes go between every twenty of them.
    pub async fn sweep_uploads(&self) -> Result<usize, StoreError> {
        let expiry = u64::try_from(self.inner.options.upload_expiry.as_millis()).unwrap_or(u64::MAX);
        let before = now_ms().saturating_sub(expiry);
        let mut aborted = 0;
        for _ in 0..MAX_SWEEPS {
            let (swept, in_progress) = self.sweep_some(before).await?;
            aborted += in_progress;
            if swept < SWEEP {
                break;
            }
        }
        Ok(aborted)
    }

    /// One transaction of a sweep: how many uploads it forgot, and how many of them were in progress.
    async fn sweep_some(&self, before: u64) -> Result<(usize, usize), StoreError> {
        self.inner
            .index
            .write(vec![], move |tx| {
                let failed = StoreError::index("sweeping uploads");
                let old: Vec<(String, bool)> = tx
                    .conn
                    .prepare_cached(
                        "SELECT id, completed_version IS NULL FROM upload WHERE created_ms <= ?1 LIMIT ?2",
                    )
                    .and_then(|mut s| {
                        s.query_map(params![before, SWEEP], |row| Ok((row.get(0)?, row.get(1)?)))?
                            .collect()
                    })
                    .map_err(&failed)?;
                for (id, _) in &old {
                    forget_upload(tx, id)?;
                }
                let in_progress = old.iter().filter(|(_, in_progress)| *in_progress).count();
                Ok((old.len(), in_progress))
            })
            .await
    }
}

/// Drops an upload's row and its parts.
pub(crate) fn forget_upload(tx: &mut Tx<'_>, id: &str) -> Result<(), StoreError> {
    let failed = StoreError::index("dropping an upload");
    for (_, blob) in stored_parts(tx.conn, id, 0, usize::MAX)? {
        tx.release(blob)?;
    }
    for sql in [
        "DELETE FROM part WHERE upload = ?1",
        "DELETE FROM upload WHERE id = ?1",
    ] {
        tx.conn.execute(sql, [id]).map_err(&failed)?;
    }
    Ok(())
}

fn upload_of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Upload> {
    let json = |column: usize, error: serde_json::Error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
    };
    let key: Vec<u8> = row.get(1)?;
    let checksum: Option<String> = row.get(3)?;
    let meta: String = row.get(4)?;
    let meta: Meta = serde_json::from_str(&meta).map_err(|error| json(4, error))?;
    Ok(Upload {
        info: UploadInfo {
            id: row.get(0)?,
            key: String::from_utf8_lossy(&key).into_owned(),
            created_ms: row.get(2)?,
            metadata: meta.metadata,
            checksum: checksum
                .map(|checksum| serde_json::from_str(&checksum))
                .transpose()
                .map_err(|error| json(3, error))?,
        },
        completed: row.get(5)?,
        bucket: row.get(6)?,
    })
}

fn find_upload(conn: &Connection, bucket: &str, key: &str, id: &str) -> Result<Upload, StoreError> {
    let bucket = bucket_id(conn, bucket)?;
    conn.prepare_cached(
        "SELECT id, key, created_ms, checksum, meta, completed_version, bucket FROM upload
         WHERE id = ?1 AND bucket = ?2 AND key = ?3",
    )
    .and_then(|mut s| {
        s.query_row(params![id, bucket, key.as_bytes()], upload_of)
            .optional()
    })
    .map_err(StoreError::index("looking for an upload"))?
    .ok_or_else(|| StoreError::NoSuchUpload(id.to_owned()))
}

fn in_progress(conn: &Connection, bucket: &str, key: &str, id: &str) -> Result<Upload, StoreError> {
    let upload = find_upload(conn, bucket, key, id)?;
    if upload.completed.is_some() {
        return Err(StoreError::NoSuchUpload(id.to_owned()));
    }
    Ok(upload)
}

fn stored_parts(
    conn: &Connection,
    upload: &str,
    after: u32,
    limit: usize,
) -> Result<Vec<(PartInfo, i64)>, StoreError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    conn.prepare_cached(
        "SELECT number, size, etag, uploaded_ms, checksums, blob FROM part
         WHERE upload = ?1 AND number > ?2 ORDER BY number LIMIT ?3",
    )
    .and_then(|mut s| {
        s.query_map(params![upload, after, limit], |row| {
            let checksums: String = row.get(4)?;
            let part = PartInfo {
                number: row.get(0)?,
                size: row.get(1)?,
                etag: row.get(2)?,
                uploaded_ms: row.get(3)?,
                checksums: serde_json::from_str(&checksums).unwrap_or_default(),
            };
            Ok((part, row.get(5)?))
        })?
        .collect()
    })
    .map_err(StoreError::index("looking for parts"))
}

/// The stored parts that the client names, in its order, which must be ascending.
fn choose(stored: &[(PartInfo, i64)], named: &[CompletePart]) -> Result<Vec<(PartInfo, i64)>, StoreError> {
    if named.is_empty() || named.windows(2).any(|pair| pair[0].number >= pair[1].number) {
        return Err(StoreError::InvalidPartOrder);
    }
    let mut chosen = Vec::with_capacity(named.len());
    for name in named {
        let found = stored
            .binary_search_by_key(&name.number, |(part, _)| part.number)
            .ok()
            .and_then(|at| stored.get(at))
            .filter(|(part, _)| part.etag == name.etag)
            .filter(|(part, _)| name.checksums.iter().all(|sum| part.checksums.contains(sum)))
            .ok_or(StoreError::InvalidPart(name.number))?;
        chosen.push(found.clone());
    }
    Ok(chosen)
}

fn check_sizes(chosen: &[(PartInfo, i64)], minimum: u64, uniform: bool) -> Result<(), StoreError> {
    let Some(((last, _), others)) = chosen.split_last() else {
        return Ok(());
    };
    let first = others.first().map_or(last.size, |(part, _)| part.size);
    for (part, _) in others {
        if part.size < minimum {
            return Err(StoreError::EntityTooSmall {
                part: part.number,
                size: part.size,
                minimum,
            });
        }
        if uniform && part.size != first {
            return Err(StoreError::UnevenParts {
                part: part.number,
                size: part.size,
                first,
            });
        }
    }
    if uniform && last.size > first {
        return Err(StoreError::UnevenParts {
            part: last.number,
            size: last.size,
            first,
        });
    }
    Ok(())
}

/// The checksum of the whole object out of those of its parts, and whether it is what the client announced.
fn whole_checksum(
    upload: &UploadInfo,
    chosen: &[(PartInfo, i64)],
    announced: &[Checksum],
) -> Result<Vec<Checksum>, StoreError> {
    let Some(UploadChecksum { algorithm, full }) = upload.checksum else {
        return Ok(vec![]);
    };
    let of_part = |(part, _): &(PartInfo, i64)| {
        let found = part.checksums.iter().find(|sum| sum.algorithm == algorithm);
        found.map(|sum| (sum.value.clone(), part.size))
    };
    let sums: Vec<(Vec<u8>, u64)> = chosen
        .iter()
        .map(|part| of_part(part).ok_or(StoreError::InvalidPart(part.0.number)))
        .collect::<Result<_, _>>()?;
    let value = if full {
        hash::combine(
            algorithm,
            &sums
                .iter()
                .map(|(sum, size)| (&sum[..], *size))
                .collect::<Vec<_>>(),
        )
    } else {
        hash::of_checksums(
            algorithm,
            &sums.iter().map(|(sum, _)| &sum[..]).collect::<Vec<_>>(),
        )
    };
    let value = value.ok_or(StoreError::InvalidDigest(algorithm))?;
    for sum in announced.iter().filter(|sum| sum.algorithm == algorithm) {
        if sum.value != value {
            return Err(StoreError::BadDigest {
                algorithm,
                expected: hex::encode(&sum.value),
                actual: hex::encode(&value),
            });
        }
    }
    Ok(vec![Checksum {
        algorithm,
        value,
        composite: if full {
            None
        } else {
            u32::try_from(chosen.len()).ok()
        },
    }])
}
