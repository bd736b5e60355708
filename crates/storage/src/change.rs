//! What a second location has not seen yet: a queue of keys, written in the transaction that changed them.
//!
//! A row says that a key changed, not how: whoever takes it looks at what the key holds now. A key that changes again
//! while it waits stays one row, so the queue is never longer than there are objects and unseen deletions.

use crate::index::Tx;
use crate::object::to_json;
use crate::store::bucket_id;
use crate::{Store, StoreError, now_ms};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::watch;

/// Keys of a bucket that are queued in one transaction when it becomes replicated.
const PAGE: usize = 1000;
/// Transactions that queue or forget the keys of one bucket at most: 100 million keys.
const MAX_PAGES: usize = 100_000;

/// No change is put off for longer. One that is was put off before the clock was set back.
const LONGEST_PAUSE_MS: u64 = 600_000;

/// A key that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its bucket, which may be gone.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// When the oldest change of it that was not seen happened, in milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// How often it was tried in vain.
    pub attempts: u32,
    /// Versions that may lie at the second location beside the one that counts.
    pub sent: Vec<String>,
    seq: i64,
    turn: i64,
    taken_ms: u64,
}

/// A bucket that is replicated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// Its name.
    pub bucket: String,
    /// Where to, in the words of whoever asked for it.
    pub target: String,
    /// What the second location held before was compared with the bucket.
    pub compared: bool,
}

/// What waits of one bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waiting {
    /// Keys.
    pub keys: u64,
    /// Since when the oldest of them waits, in milliseconds since the Unix epoch.
    pub since_ms: u64,
}

impl Store {
    /// Says which buckets are replicated, and to where. Objects of a bucket that was not, or was to elsewhere, are queued
    /// all, once; that goes on after a crash, when this is said again. What waits for a bucket that is not any more is
    /// forgotten.
    pub async fn replicate(&self, wanted: &BTreeMap<String, String>) -> Result<(), StoreError> {
        let present: BTreeMap<String, String> = self
            .replicas()
            .await?
            .into_iter()
            .map(|replica| (replica.bucket, replica.target))
            .collect();
        for bucket in present.keys().filter(|bucket| !wanted.contains_key(*bucket)) {
            self.forget_replica(bucket).await?;
        }
        for (bucket, target) in wanted {
            if present.get(bucket) != Some(target) {
                self.begin_replica(bucket, target).await?;
            }
            self.queue_present(bucket).await?;
        }
        Ok(())
    }

    /// The buckets that are replicated.
    pub async fn replicas(&self) -> Result<Vec<Replica>, StoreError> {
        self.inner
            .index
            .read(|conn| {
                conn.prepare_cached("SELECT bucket, target, compared FROM replica ORDER BY bucket")
                    .and_then(|mut s| {
                        s.query_map([], |row| {
                            Ok(Replica {
                                bucket: row.get(0)?,
                                target: row.get(1)?,
                                compared: row.get(2)?,
                            })
                        })?
                        .collect()
                    })
                    .map_err(StoreError::index("listing replicated buckets"))
            })
            .await
    }

    async fn begin_replica(&self, bucket: &str, target: &str) -> Result<(), StoreError> {
        let (bucket, target) = (bucket.to_owned(), target.to_owned());
        self.inner
            .index
            .write(vec![], move |tx| {
                tx.conn
                    .execute(
                        "INSERT OR REPLACE INTO replica (bucket, target, queued_to, compared) VALUES (?1, ?2, x'', 0)",
                        params![bucket, target],
                    )
                    .map_err(StoreError::index("beginning to replicate a bucket"))?;
                Ok(())
            })
            .await
    }

    async fn forget_replica(&self, bucket: &str) -> Result<(), StoreError> {
        for _ in 0..MAX_PAGES {
            let bucket = bucket.to_owned();
            let forgotten = self
                .inner
                .index
                .write(vec![], move |tx| {
                    let failed = StoreError::index("ending to replicate a bucket");
                    let forgotten = tx
                        .conn
                        .execute(
                            "DELETE FROM change WHERE seq IN (SELECT seq FROM change WHERE bucket = ?1 LIMIT ?2)",
                            params![bucket, PAGE],
                        )
                        .map_err(&failed)?;
                    // With the last of them, so that none is queued after.
                    if forgotten < PAGE {
                        tx.conn
                            .execute("DELETE FROM replica WHERE bucket = ?1", [&bucket])
                            .map_err(&failed)?;
                    }
                    Ok(forgotten)
                })
                .await?;
            if forgotten < PAGE {
                break;
            }
        }
        Ok(())
    }

    /// Queues the objects of a bucket that were there before it was replicated, page by page, so that writes go between.
    async fn queue_present(&self, bucket: &str) -> Result<(), StoreError> {
        for _ in 0..MAX_PAGES {
            let bucket = bucket.to_owned();
            if self
                .inner
                .index
                .write(vec![], move |tx| queue_page(tx, &bucket))
                .await?
            {
                break;
            }
        }
        Ok(())
    }

    /// Tells when something was queued.
    pub fn watch_changes(&self) -> watch::Receiver<u64> {
        self.inner.index.queued.subscribe()
    }

    /// The oldest changes of some buckets that are due.
    pub async fn changes(&self, buckets: &[String], limit: usize) -> Result<Vec<Change>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let buckets = to_json(&buckets);
        self.inner
            .index
            .read(move |conn| {
                let now = now_ms();
                conn.prepare_cached(
                    "SELECT seq, bucket, key, turn, since_ms, attempts, sent FROM change
                     WHERE (due_ms <= ?1 OR due_ms > ?1 + ?2) AND bucket IN (SELECT value FROM json_each(?3))
                     ORDER BY seq LIMIT ?4",
                )
                .and_then(|mut s| {
                    s.query_map(params![now, LONGEST_PAUSE_MS, buckets, limit], |row| {
                        change_of(row, now)
                    })?
                    .collect()
                })
                .map_err(StoreError::index("looking for changes"))
            })
            .await
    }

    /// Whether a key waits to be sent.
    pub async fn waits(&self, bucket: &str, key: &str) -> Result<bool, StoreError> {
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        self.inner
            .index
            .read(move |conn| {
                conn.prepare_cached("SELECT 1 FROM change WHERE bucket = ?1 AND key = ?2")
                    .and_then(|mut s| s.exists(params![bucket, key.as_bytes()]))
                    .map_err(StoreError::index("looking for a change"))
            })
            .await
    }

    /// How many objects a bucket holds.
    pub async fn count(&self, bucket: &str) -> Result<u64, StoreError> {
        let bucket = bucket.to_owned();
        self.inner
            .index
            .read(move |conn| {
                conn.prepare_cached(
                    "SELECT count(*) FROM object WHERE bucket = (SELECT id FROM bucket WHERE name = ?1)",
                )
                .and_then(|mut s| s.query_row([bucket], |row| row.get(0)))
                .map_err(StoreError::index("counting objects"))
            })
            .await
    }

    /// Who this store is: a second location remembers whose copy it holds.
    pub async fn identity(&self) -> Result<String, StoreError> {
        self.inner
            .index
            .read(|conn| {
                conn.query_row("SELECT id FROM identity", [], |row| row.get(0))
                    .map_err(StoreError::index("looking for its identity"))
            })
            .await
    }

    /// Queues a key although nothing changed it here: the second location has something that is not as it should be.
    pub async fn queue_change(&self, bucket: &str, key: &str) -> Result<(), StoreError> {
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        self.inner
            .index
            .write(vec![], move |tx| {
                let bucket = bucket_id(tx.conn, &bucket)?;
                queue(tx, bucket, key.as_bytes())
            })
            .await
    }

    /// Writes down which versions of a key may lie at the second location from now on, before one is sent or deleted.
    pub async fn change_sends(&self, change: &Change, versions: &[String]) -> Result<(), StoreError> {
        if change.sent == versions {
            return Ok(());
        }
        let (seq, sent) = (change.seq, versions.join(" "));
        self.inner
            .index
            .write(vec![], move |tx| {
                tx.conn
                    .prepare_cached("UPDATE change SET sent = ?2 WHERE seq = ?1")
                    .and_then(|mut s| s.execute(params![seq, sent]))
                    .map_err(StoreError::index("writing down what is sent"))?;
                Ok(())
            })
            .await
    }

    /// The second location holds what the key held when the change was taken. A key that changed since then is queued
    /// behind all others.
    pub async fn change_done(&self, change: &Change) -> Result<(), StoreError> {
        let change = change.clone();
        self.inner
            .index
            .write(vec![], move |tx| {
                let turn: Option<i64> = tx
                    .conn
                    .prepare_cached("DELETE FROM change WHERE seq = ?1 RETURNING turn")
                    .and_then(|mut s| s.query_row([change.seq], |row| row.get(0)).optional())
                    .map_err(StoreError::index("ending a change"))?;
                if turn.is_none_or(|turn| turn == change.turn) {
                    return Ok(());
                }
                // What happened since happened after it was taken.
                tx.queued = true;
                insert(tx.conn, &change.bucket, change.key.as_bytes(), change.taken_ms)
            })
            .await
    }

    /// It could not be sent: not for `pause` again, ten minutes at most, unless the key changes.
    pub async fn change_failed(&self, change: &Change, pause: Duration) -> Result<(), StoreError> {
        let (seq, turn) = (change.seq, change.turn);
        let pause = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        let due_ms = now_ms() + pause.min(LONGEST_PAUSE_MS);
        self.inner
            .index
            .write(vec![], move |tx| {
                tx.conn
                    .prepare_cached(
                        "UPDATE change SET attempts = attempts + 1, due_ms = ?3 WHERE seq = ?1 AND turn = ?2",
                    )
                    .and_then(|mut s| s.execute(params![seq, turn, due_ms]))
                    .map_err(StoreError::index("putting a change off"))?;
                Ok(())
            })
            .await
    }

    /// What the second location held before was compared with the bucket, and what differs is queued.
    pub async fn replica_compared(&self, replica: &Replica) -> Result<(), StoreError> {
        let replica = replica.clone();
        self.inner
            .index
            .write(vec![], move |tx| {
                tx.conn
                    .execute(
                        "UPDATE replica SET compared = 1 WHERE bucket = ?1 AND target = ?2",
                        params![replica.bucket, replica.target],
                    )
                    .map_err(StoreError::index("writing down a comparison"))?;
                Ok(())
            })
            .await
    }

    /// How much waits, by bucket that is replicated.
    pub async fn replication_lag(&self) -> Result<BTreeMap<String, Waiting>, StoreError> {
        self.inner
            .index
            .read(|conn| {
                conn.prepare_cached(
                    "SELECT r.bucket, count(c.since_ms), coalesce(min(c.since_ms), 0)
                     FROM replica r LEFT JOIN change c ON c.bucket = r.bucket GROUP BY r.bucket",
                )
                .and_then(|mut s| {
                    s.query_map([], |row| {
                        let waiting = Waiting {
                            keys: row.get(1)?,
                            since_ms: row.get(2)?,
                        };
                        Ok((row.get(0)?, waiting))
                    })?
                    .collect()
                })
                .map_err(StoreError::index("counting changes"))
            })
            .await
    }
}

fn change_of(row: &Row<'_>, taken_ms: u64) -> rusqlite::Result<Change> {
    let key: Vec<u8> = row.get(2)?;
    let sent: String = row.get(6)?;
    Ok(Change {
        seq: row.get(0)?,
        bucket: row.get(1)?,
        key: String::from_utf8_lossy(&key).into_owned(),
        turn: row.get(3)?,
        since_ms: row.get(4)?,
        attempts: row.get(5)?,
        sent: sent.split_whitespace().map(str::to_owned).collect(),
        taken_ms,
    })
}

/// Queues a key that changes in this transaction, where its bucket is replicated.
pub(crate) fn queue(tx: &mut Tx<'_>, bucket: i64, key: &[u8]) -> Result<(), StoreError> {
    let queued = tx
        .conn
        .prepare_cached(
            "INSERT INTO change (bucket, key, turn, since_ms, due_ms, attempts, sent)
             SELECT b.name, ?2, 0, ?3, 0, 0, '' FROM bucket b JOIN replica r ON r.bucket = b.name WHERE b.id = ?1
             ON CONFLICT (bucket, key) DO UPDATE SET turn = turn + 1, due_ms = 0, attempts = 0",
        )
        .and_then(|mut s| s.execute(params![bucket, key, now_ms()]))
        .map_err(StoreError::index("queueing a change"))?;
    tx.queued |= queued > 0;
    Ok(())
}

fn insert(conn: &Connection, bucket: &str, key: &[u8], since_ms: u64) -> Result<(), StoreError> {
    conn.prepare_cached(
        "INSERT INTO change (bucket, key, turn, since_ms, due_ms, attempts, sent) VALUES (?1, ?2, 0, ?3, 0, 0, '')",
    )
    .and_then(|mut s| s.execute(params![bucket, key, since_ms]))
    .map_err(StoreError::index("queueing a change"))?;
    Ok(())
}

/// Queues the next keys of a bucket that were there before; true when there are no more.
fn queue_page(tx: &mut Tx<'_>, name: &str) -> Result<bool, StoreError> {
    let failed = StoreError::index("queueing the objects of a bucket");
    let queued_to: Option<Vec<u8>> = tx
        .conn
        .query_row("SELECT queued_to FROM replica WHERE bucket = ?1", [name], |row| {
            row.get(0)
        })
        .optional()
        .map_err(&failed)?
        .flatten();
    let Some(after) = queued_to else {
        return Ok(true);
    };
    let keys: Vec<Vec<u8>> = tx
        .conn
        .prepare_cached(
            "SELECT o.key FROM object o JOIN bucket b ON b.id = o.bucket
             WHERE b.name = ?1 AND o.key > ?2 ORDER BY o.key LIMIT ?3",
        )
        .and_then(|mut s| {
            s.query_map(params![name, after, PAGE], |row| row.get(0))?
                .collect()
        })
        .map_err(&failed)?;
    let now = now_ms();
    let mut add = tx
        .conn
        .prepare_cached(
            "INSERT INTO change (bucket, key, turn, since_ms, due_ms, attempts, sent) VALUES (?1, ?2, 0, ?3, 0, 0, '')
             ON CONFLICT (bucket, key) DO NOTHING",
        )
        .map_err(&failed)?;
    for key in &keys {
        add.execute(params![name, key, now]).map_err(&failed)?;
    }
    let last = keys.last().filter(|_| keys.len() == PAGE);
    tx.conn
        .execute(
            "UPDATE replica SET queued_to = ?2 WHERE bucket = ?1",
            params![name, last],
        )
        .map_err(&failed)?;
    tx.queued |= !keys.is_empty();
    Ok(last.is_none())
}
