//! The scrubber: reads blobs back and compares their checksums, so that rot is found while a copy still exists.

use crate::blob::{BlobId, Blobs};
use crate::hash::{Crc, crc32c};
use crate::object::blocking;
use crate::{Store, StoreError};
use rusqlite::{Connection, OptionalExtension, params};
use std::fs::File;
use std::future::Future;
use std::io::Read;
use std::sync::PoisonError;
use std::time::Duration;

/// Blobs read in one go between two rests of the maintenance.
const STRIDE: usize = 32;

/// What a scrub read and found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScrubReport {
    /// Blobs read.
    pub blobs: u64,
    /// Bytes read.
    pub bytes: u64,
    /// What is not as it was written.
    pub damaged: Vec<Damage>,
    /// True when the last blob was reached: the next scrub starts from the first.
    pub finished: bool,
}

/// A damaged blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// `bucket/key` of the objects and `bucket/key (part N of upload …)` of the parts that it belongs to.
    pub objects: Vec<String>,
    /// What was found.
    pub what: String,
}

struct Candidate {
    id: BlobId,
    size: u64,
    crc32c: u32,
    data: Option<Vec<u8>>,
}

impl Store {
    /// Reads up to `limit` blobs, going on where the last scrub of this process ended. Damage is reported and
    /// logged as an error; nothing is changed.
    pub async fn scrub(&self, limit: usize) -> Result<ScrubReport, StoreError> {
        let mut report = ScrubReport::default();
        let mut after = *self.scrubbed();
        for _ in 0..limit {
            let next = self
                .inner
                .index
                .read(move |conn| {
                    conn.prepare_cached(
                        "SELECT id, size, crc32c, data FROM blob WHERE id > ?1 ORDER BY id LIMIT 1",
                    )
                    .and_then(|mut s| {
                        s.query_row([after], |row| {
                            Ok(Candidate {
                                id: row.get(0)?,
                                size: row.get(1)?,
                                crc32c: row.get(2)?,
                                data: row.get(3)?,
                            })
                        })
                        .optional()
                    })
                    .map_err(StoreError::index("scrubbing"))
                })
                .await?;
            let Some(candidate) = next else {
                after = 0;
                report.finished = true;
                break;
            };
            let id = candidate.id;
            after = id;
            report.blobs += 1;
            report.bytes += candidate.size;
            let blobs = std::sync::Arc::clone(&self.inner.blobs);
            if let Some(what) = blocking(move || check(&blobs, &candidate)).await? {
                // Deleted meanwhile, it is not damage but history.
                let objects = self.inner.index.read(move |conn| names_of(conn, &[id])).await?;
                if !objects.is_empty() {
                    tracing::error!(?objects, %what, "the scrubber found damaged data");
                    report.damaged.push(Damage { objects, what });
                }
            }
        }
        *self.scrubbed() = after;
        Ok(report)
    }

    /// Sweeps expired uploads every hour and scrubs a few blobs every ten seconds, until `shutdown` is ready.
    pub async fn maintain(&self, shutdown: impl Future<Output = ()>) {
        let mut shutdown = std::pin::pin!(shutdown);
        let mut rest = tokio::time::interval(Duration::from_secs(10));
        rest.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for round in 0u64.. {
            tokio::select! {
                () = &mut shutdown => return,
                _ = rest.tick() => {}
            }
            if round.is_multiple_of(360)
                && let Err(error) = self.sweep_uploads().await
            {
                tracing::warn!(%error, "cannot sweep expired uploads");
            }
            if let Err(error) = self.scrub(STRIDE).await {
                tracing::warn!(%error, "cannot scrub");
            }
        }
    }

    fn scrubbed(&self) -> std::sync::MutexGuard<'_, i64> {
        self.inner.scrubbed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is wrong with a blob, if anything.
fn check(blobs: &Blobs, candidate: &Candidate) -> Result<Option<String>, StoreError> {
    if let Some(data) = &candidate.data {
        let whole = data.len() as u64 == candidate.size && crc32c(data) == candidate.crc32c;
        return Ok((!whole).then(|| "its bytes in the index have changed".into()));
    }
    let path = blobs.path(candidate.id);
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Some(format!("blob {} is missing", path.display())));
        }
        Err(error) => return Err(StoreError::io("open", &path)(error)),
    };
    let mut buffer = vec![0; 256 << 10];
    let (mut crc, mut size) = (Crc::new(), 0u64);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                crc.update(&buffer[..count]);
                size += count as u64;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            // The disk itself reports what it lost.
            Err(error) => return Ok(Some(format!("blob {} cannot be read: {error}", path.display()))),
        }
    }
    if size != candidate.size {
        return Ok(Some(format!(
            "blob {} has {size} of {} bytes",
            path.display(),
            candidate.size
        )));
    }
    Ok((crc.finish() != candidate.crc32c)
        .then(|| format!("the bytes of blob {} have changed", path.display())))
}

/// The objects and parts that blobs belong to. Slow: for damage only. One walk, however many blobs there are.
pub(crate) fn names_of(conn: &Connection, ids: &[BlobId]) -> Result<Vec<String>, StoreError> {
    let ids = serde_json::Value::from(ids).to_string();
    conn.prepare(
        "WITH damaged (id) AS (SELECT value FROM json_each(?1))
         SELECT b.name || '/' || CAST(o.key AS TEXT) FROM object o JOIN bucket b ON b.id = o.bucket
         WHERE o.blob IN (SELECT id FROM damaged)
            OR o.version IN (SELECT version FROM segment WHERE blob IN (SELECT id FROM damaged))
         UNION ALL
         SELECT b.name || '/' || CAST(u.key AS TEXT) || ' (part ' || p.number || ' of upload ' || u.id || ')'
         FROM part p JOIN upload u ON u.id = p.upload JOIN bucket b ON b.id = u.bucket
         WHERE p.blob IN (SELECT id FROM damaged)",
    )
    .and_then(|mut s| s.query_map(params![ids], |row| row.get(0))?.collect())
    .map_err(StoreError::index("naming blobs"))
}
