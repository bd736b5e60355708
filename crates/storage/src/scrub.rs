//! The scrubber: reads blobs back and compares their checksums, so that rot is found while a copy still exists.

use crate::blob::{BlobId, Blobs};
use crate::hash::{Crc, crc32c};
use crate::object::blocking;
use crate::{Store, StoreError};
use rusqlite::{Connection, OptionalExtension, params};
use std::fs::File;
use std::future::Future;
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// Blobs read in one go between two rests of the maintenance.
const STRIDE: usize = 32;
/// Bytes after which a go ends early: 6.4 MiB/s on average, and 100 GB in less than five hours. A blob is read whole.
const STRIDE_BYTES: u64 = 64 << 20;
/// The rest.
const REST: Duration = Duration::from_secs(10);

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
        self.scrub_some(limit, u64::MAX).await
    }

    /// A scrub that also ends after so many bytes. Dropped, it stops reading, and the next one begins where it did.
    async fn scrub_some(&self, limit: usize, most_bytes: u64) -> Result<ScrubReport, StoreError> {
        let stop = Stop::default();
        let mut report = ScrubReport::default();
        let mut after = *self.scrubbed();
        for _ in 0..limit {
            if report.bytes >= most_bytes {
                break;
            }
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
            let blobs = Arc::clone(&self.inner.blobs);
            let stopped = Arc::clone(&stop.0);
            if let Some(what) = blocking(move || check(&blobs, &candidate, &stopped)).await? {
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
        let mut rest = tokio::time::interval(REST);
        rest.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for round in 0u64.. {
            tokio::select! {
                () = &mut shutdown => return,
                _ = rest.tick() => {}
            }
            let work = async {
                if round.is_multiple_of(360)
                    && let Err(error) = self.sweep_uploads().await
                {
                    tracing::warn!(%error, "cannot sweep expired uploads");
                }
                if let Err(error) = self.scrub_some(STRIDE, STRIDE_BYTES).await {
                    tracing::warn!(%error, "cannot scrub");
                }
            };
            tokio::select! {
                () = &mut shutdown => return,
                () = work => {}
            }
        }
    }

    fn scrubbed(&self) -> std::sync::MutexGuard<'_, i64> {
        self.inner.scrubbed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the thread that reads a blob that nobody waits for it any more.
#[derive(Default)]
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What is wrong with a blob, if anything.
fn check(blobs: &Blobs, candidate: &Candidate, stopped: &AtomicBool) -> Result<Option<String>, StoreError> {
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
        if stopped.load(Ordering::Relaxed) {
            return Ok(None);
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PutOptions, StoreOptions, body_of};
    use std::time::Instant;

    async fn store(dir: &std::path::Path) -> Store {
        let options = StoreOptions {
            reserve_bytes: 0,
            ..Default::default()
        };
        let store = Store::open(dir, options).unwrap();
        store.create_bucket("bucket").await.unwrap();
        store
    }

    #[tokio::test]
    async fn a_go_ends_after_its_bytes_and_the_next_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path()).await;
        for key in ["a", "b", "c"] {
            let body = body_of(vec![1; 100_000]);
            store
                .put("bucket", key, body, PutOptions::default())
                .await
                .unwrap();
        }
        let first = store.scrub_some(10, 150_000).await.unwrap();
        assert_eq!((first.blobs, first.bytes, first.finished), (2, 200_000, false));
        let second = store.scrub_some(10, 150_000).await.unwrap();
        assert_eq!((second.blobs, second.finished), (1, true));
    }

    /// However large the blob is that is being read.
    #[test]
    fn a_shutdown_does_not_wait_for_the_scrubber() {
        const SIZE: u64 = 1 << 40;
        let started = Instant::now();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let dir = tempfile::tempdir().unwrap();
        runtime.block_on(async {
            let store = store(dir.path()).await;
            let body = body_of(vec![0; 100_000]);
            store
                .put("bucket", "k", body, PutOptions::default())
                .await
                .unwrap();
            let grow = store.inner.index.write(vec![], |tx| {
                let id = tx
                    .conn
                    .query_row("UPDATE blob SET size = ?1 RETURNING id", [SIZE], |row| row.get(0));
                id.map_err(StoreError::index("growing a blob"))
            });
            let id: BlobId = grow.await.unwrap();
            let path = store.inner.blobs.path(id);
            let file = File::options().write(true).open(path).unwrap();
            // Without blocks on the disk.
            file.set_len(SIZE).unwrap();
            let soon = tokio::time::sleep(Duration::from_millis(300));
            store.maintain(soon).await;
            store.close().await;
        });
        // Waits for the threads that still read.
        drop(runtime);
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "{:?}",
            started.elapsed()
        );
    }
}
