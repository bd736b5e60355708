//! The index: SQLite, one writer thread that commits many operations at once, a few readers.

use crate::StoreError;
use crate::blob::{BlobId, Blobs, Step, sync_folder};
use rusqlite::{Connection, OpenFlags};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Semaphore, mpsc, oneshot};

/// Operations committed together at most.
const BATCH: usize = 256;
/// Operations that wait for the writer at most; further ones wait for a place.
const QUEUE: usize = 1024;
/// Blobs that wait to be unlinked at most; beyond, the writer waits.
const DOOMED: usize = 65_536;
/// Reading connections.
const READERS: usize = 3;
/// The schema below.
const SCHEMA_VERSION: i64 = 1;

/// Keys are blobs, so that they are ordered by their bytes and an upper bound of a prefix need not be text.
/// `blob.data` holds the bytes of small objects themselves; it is the last column, so that the others are read
/// without it.
const SCHEMA: &str = "
    CREATE TABLE bucket (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        created_ms INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE object (
        bucket INTEGER NOT NULL REFERENCES bucket(id),
        key BLOB NOT NULL,
        version TEXT NOT NULL,
        size INTEGER NOT NULL,
        etag TEXT NOT NULL,
        uploaded_ms INTEGER NOT NULL,
        parts INTEGER,
        blob INTEGER,
        meta TEXT NOT NULL,
        PRIMARY KEY (bucket, key)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE segment (
        version TEXT NOT NULL,
        number INTEGER NOT NULL,
        size INTEGER NOT NULL,
        blob INTEGER NOT NULL,
        PRIMARY KEY (version, number)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE upload (
        id TEXT NOT NULL PRIMARY KEY,
        bucket INTEGER NOT NULL REFERENCES bucket(id),
        key BLOB NOT NULL,
        created_ms INTEGER NOT NULL,
        checksum TEXT,
        completed_version TEXT,
        meta TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX upload_by_key ON upload (bucket, key, id);
    CREATE TABLE part (
        upload TEXT NOT NULL,
        number INTEGER NOT NULL,
        size INTEGER NOT NULL,
        etag TEXT NOT NULL,
        uploaded_ms INTEGER NOT NULL,
        blob INTEGER NOT NULL,
        checksums TEXT NOT NULL,
        PRIMARY KEY (upload, number)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE blob (
        id INTEGER PRIMARY KEY,
        size INTEGER NOT NULL,
        crc32c INTEGER NOT NULL,
        refs INTEGER NOT NULL,
        inlined INTEGER NOT NULL,
        data BLOB
    ) STRICT;
    CREATE INDEX blob_file ON blob (id) WHERE inlined = 0;
    PRAGMA user_version = 1;
";

/// One writing operation inside a transaction.
pub(crate) struct Tx<'c> {
    pub(crate) conn: &'c Connection,
    /// Blob files that nothing names any more once this is committed.
    doomed: Vec<BlobId>,
}

impl Tx<'_> {
    /// One name fewer for a blob; without any, it goes.
    pub(crate) fn release(&mut self, id: BlobId) -> Result<(), StoreError> {
        let (refs, inlined): (i64, bool) = self
            .conn
            .prepare_cached("UPDATE blob SET refs = refs - 1 WHERE id = ?1 RETURNING refs, inlined")
            .and_then(|mut s| s.query_row([id], |row| Ok((row.get(0)?, row.get(1)?))))
            .map_err(StoreError::index("releasing a blob"))?;
        if refs > 0 {
            return Ok(());
        }
        self.conn
            .prepare_cached("DELETE FROM blob WHERE id = ?1")
            .and_then(|mut s| s.execute([id]))
            .map_err(StoreError::index("deleting a blob"))?;
        if !inlined {
            self.doomed.push(id);
        }
        Ok(())
    }
}

type Answer = Box<dyn FnOnce(Result<(), StoreError>) + Send>;
/// Without a transaction the operation is not run, and its answer must be a failure.
type Apply = Box<dyn FnOnce(Option<&mut Tx<'_>>) -> (bool, Answer) + Send>;

struct Job {
    /// A blob file that got its name and whose folder must be synced first.
    files: Vec<BlobId>,
    apply: Apply,
}

/// The index's handle.
pub(crate) struct Index {
    jobs: mpsc::Sender<Job>,
    poisoned: Arc<AtomicBool>,
    readers: Arc<Readers>,
    /// Becomes ready when the writer thread has ended.
    ended: oneshot::Receiver<()>,
}

struct Readers {
    /// One for each connection. A read holds it until it has ended, even when nobody waits for it any more.
    places: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
}

impl Index {
    /// Opens the index. `guard` (the lock on the store) lives until the writer has ended.
    pub(crate) fn open(path: &Path, blobs: Arc<Blobs>, guard: std::fs::File) -> Result<Self, StoreError> {
        let writer = connect(path, true)?;
        let idle = (0..READERS)
            .map(|_| connect(path, false))
            .collect::<Result<Vec<_>, _>>()?;
        let (jobs, queue) = mpsc::channel(QUEUE);
        let poisoned = Arc::new(AtomicBool::new(false));
        let (alive, ended) = oneshot::channel();
        let (doomed, graves) = std::sync::mpsc::sync_channel::<BlobId>(DOOMED);
        let spawn = |name: &str, body: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new()
                .name(name.into())
                .spawn(body)
                .map_err(StoreError::io("start a thread for", path))
        };
        let grave_blobs = Arc::clone(&blobs);
        let reaper = spawn(
            "storage-unlink",
            Box::new(move || graves.into_iter().for_each(|id| grave_blobs.doom(id))),
        )?;
        let flag = Arc::clone(&poisoned);
        spawn(
            "storage-commit",
            Box::new(move || {
                let mut committer = Committer {
                    conn: writer,
                    blobs,
                    doomed,
                    poisoned: flag,
                };
                committer.run(queue);
                let Committer { conn, doomed, .. } = committer;
                drop((conn, doomed));
                let _ = reaper.join();
                drop(guard);
                let _ = alive.send(());
            }),
        )?;
        Ok(Self {
            jobs,
            poisoned,
            readers: Arc::new(Readers {
                places: Arc::new(Semaphore::new(READERS)),
                idle: Mutex::new(idle),
            }),
            ended,
        })
    }

    /// Runs `operation` in a transaction and answers when it is durable. Its error undoes it alone.
    ///
    /// `files` are blobs whose new names must be durable first. The operation runs even when the caller stops
    /// waiting.
    pub(crate) async fn write<T, F>(&self, files: Vec<BlobId>, operation: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        if self.poisoned.load(Ordering::Relaxed) {
            return Err(StoreError::Poisoned);
        }
        let (sender, receiver) = oneshot::channel();
        let apply: Apply = Box::new(move |tx| {
            let result = tx.map_or(Err(StoreError::Closed), operation);
            let keep = result.is_ok();
            let answer: Answer = Box::new(move |committed| {
                let _ = sender.send(committed.and(result));
            });
            (keep, answer)
        });
        self.jobs
            .send(Job { files, apply })
            .await
            .map_err(|_| StoreError::Closed)?;
        receiver.await.map_err(|_| StoreError::Closed)?
    }

    /// Runs `query` on a reading connection, off the executor.
    pub(crate) async fn read<T, F>(&self, query: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let readers = Arc::clone(&self.readers);
        let place = Arc::clone(&readers.places)
            .acquire_owned()
            .await
            .map_err(|_| StoreError::Closed)?;
        tokio::task::spawn_blocking(move || {
            let conn = readers.idle().pop().ok_or(StoreError::Closed)?;
            let result = query(&conn);
            readers.idle().push(conn);
            drop(place);
            result
        })
        .await
        .map_err(|_| StoreError::Closed)?
    }

    /// Lets the writer thread end, and waits until it has.
    pub(crate) async fn close(self) {
        let Self { jobs, ended, .. } = self;
        drop(jobs);
        let _ = ended.await;
    }
}

impl Readers {
    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Committer {
    conn: Connection,
    blobs: Arc<Blobs>,
    doomed: std::sync::mpsc::SyncSender<BlobId>,
    poisoned: Arc<AtomicBool>,
}

impl Committer {
    fn run(&mut self, mut queue: mpsc::Receiver<Job>) {
        while let Some(first) = queue.blocking_recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH
                && let Ok(job) = queue.try_recv()
            {
                batch.push(job);
            }
            self.commit(batch);
        }
        // Leaves a small write-ahead log to the next start; what it holds is durable anyway.
        if let Err(error) = self.conn.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)") {
            tracing::warn!(%error, "cannot fold the write-ahead log of the object index");
        }
    }

    /// One transaction for the whole batch: every operation in a savepoint of its own, then the folders, then the
    /// commit, then the answers, then the unlinking.
    fn commit(&mut self, batch: Vec<Job>) {
        let mut answers = Vec::with_capacity(batch.len());
        let (mut doomed, mut named) = (Vec::new(), Vec::new());
        let outcome = self.transact(batch, &mut answers, &mut doomed, &mut named);
        if let Err(error) = &outcome {
            if !self.conn.is_autocommit()
                && let Err(error) = self.conn.execute_batch("ROLLBACK")
            {
                tracing::warn!(%error, "cannot roll the object index back");
            }
            if !error.is_out_of_space() && !matches!(error, StoreError::Poisoned) {
                // After a failed sync nobody knows what the disk holds: no later commit may build on it.
                self.poisoned.store(true, Ordering::Relaxed);
                tracing::error!(error = %chain(error), "object storage takes no more writes: a commit failed");
            }
        }
        let failure = outcome.as_ref().err();
        for answer in answers {
            answer(failure.map_or(Ok(()), |error| Err(again(error))));
        }
        let unused = match failure {
            None => doomed,
            // Rolled back for certain, and the space of these files is what is missing. After any other failure the
            // index may name them when it is opened again.
            Some(error) if error.is_out_of_space() && self.conn.is_autocommit() => named,
            Some(_) => vec![],
        };
        for id in unused {
            let _ = self.doomed.send(id);
        }
    }

    fn transact(
        &self,
        batch: Vec<Job>,
        answers: &mut Vec<Answer>,
        doomed: &mut Vec<BlobId>,
        named: &mut Vec<BlobId>,
    ) -> Result<(), StoreError> {
        let run = |sql: &'static str| {
            self.conn
                .prepare_cached(sql)
                .and_then(|mut s| s.execute([]))
                .map_err(StoreError::index(sql))
        };
        let mut failed = if self.poisoned.load(Ordering::Relaxed) {
            Some(StoreError::Poisoned)
        } else {
            run("BEGIN IMMEDIATE").err()
        };
        let mut folders = BTreeSet::new();
        for job in batch {
            if failed.is_none() {
                failed = run("SAVEPOINT operation").err();
            }
            if failed.is_some() {
                answers.push((job.apply)(None).1);
                continue;
            }
            let mut tx = Tx {
                conn: &self.conn,
                doomed: Vec::new(),
            };
            let (keep, answer) = (job.apply)(Some(&mut tx));
            answers.push(answer);
            if keep {
                doomed.append(&mut tx.doomed);
                folders.extend(job.files.iter().map(|id| self.blobs.folder(*id)));
                named.extend(job.files);
            } else if self.conn.is_autocommit() {
                // SQLite rolls everything back by itself when the disk is full.
                failed = Some(StoreError::Io {
                    operation: "write",
                    path: "the index".into(),
                    source: std::io::ErrorKind::StorageFull.into(),
                });
                continue;
            } else {
                failed = run("ROLLBACK TO operation").err();
            }
            failed = failed.or_else(|| run("RELEASE operation").err());
        }
        if let Some(error) = failed {
            return Err(error);
        }
        self.blobs.step(Step::Applied);
        for folder in folders {
            sync_folder(&folder)?;
        }
        self.blobs.step(Step::FoldersSynced);
        run("COMMIT")?;
        self.blobs.step(Step::Committed);
        Ok(())
    }
}

/// The same failure for another waiter.
fn again(error: &StoreError) -> StoreError {
    match error {
        StoreError::Index { operation, source } if error.is_out_of_space() => StoreError::Io {
            operation,
            path: "the index".into(),
            source: std::io::Error::new(std::io::ErrorKind::StorageFull, source.to_string()),
        },
        StoreError::Io {
            operation,
            path,
            source,
        } if error.is_out_of_space() => StoreError::Io {
            operation,
            path: path.clone(),
            source: std::io::Error::new(source.kind(), source.to_string()),
        },
        _ => StoreError::Poisoned,
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// Opens a connection. About 2 MB of page cache in all.
fn connect(path: &Path, writer: bool) -> Result<Connection, StoreError> {
    let failed = StoreError::index("opening it");
    let flags = if writer {
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX
    } else {
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX
    };
    let conn = Connection::open_with_flags(path, flags).map_err(&failed)?;
    conn.set_prepared_statement_cache_capacity(64);
    let pragmas = if writer {
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA cache_size = -1024;
         PRAGMA wal_autocheckpoint = 4096; PRAGMA journal_size_limit = 33554432; PRAGMA busy_timeout = 5000;"
    } else {
        "PRAGMA query_only = ON; PRAGMA cache_size = -340; PRAGMA busy_timeout = 5000;"
    };
    conn.execute_batch(pragmas).map_err(&failed)?;
    if writer {
        let found: i64 = conn
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .map_err(&failed)?;
        if found > SCHEMA_VERSION {
            return Err(StoreError::NewerSchema {
                found,
                known: SCHEMA_VERSION,
            });
        }
        if found == 0 {
            conn.execute_batch(&format!("BEGIN IMMEDIATE; {SCHEMA} COMMIT;"))
                .map_err(&failed)?;
        }
    }
    Ok(conn)
}

#[cfg(test)]
mod tests;
