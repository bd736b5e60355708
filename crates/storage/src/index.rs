//! The index: SQLite, one writer thread that commits many operations at once, a few readers.

mod schema;

use crate::StoreError;
use crate::blob::{BlobId, Blobs, Step, sync_folder};
use rusqlite::{Connection, OpenFlags};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

/// Operations committed together at most.
const BATCH: usize = 256;
/// Operations that wait for the writer at most; further ones wait for a place.
const QUEUE: usize = 1024;
/// Blobs that wait to be unlinked at most; beyond, the writer waits.
const DOOMED: usize = 65_536;
/// Reading connections.
const READERS: usize = 3;
/// One writing operation inside a transaction.
pub(crate) struct Tx<'c> {
    pub(crate) conn: &'c Connection,
    /// Blob files that nothing names any more once this is committed.
    doomed: Vec<BlobId>,
    /// Something was queued for the second location.
    pub(crate) queued: bool,
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
    /// Grows with every commit that queued something for the second location.
    pub(crate) queued: watch::Sender<u64>,
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
        let queued = watch::Sender::new(0);
        let told = queued.clone();
        spawn(
            "storage-commit",
            Box::new(move || {
                let mut committer = Committer {
                    conn: writer,
                    blobs,
                    doomed,
                    poisoned: flag,
                    queued: told,
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
            queued,
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

/// What became of the operations of a batch.
#[derive(Default)]
struct Done {
    answers: Vec<Answer>,
    /// Files that nothing names any more.
    doomed: Vec<BlobId>,
    /// Files that the index names now.
    named: Vec<BlobId>,
    queued: bool,
}

struct Committer {
    conn: Connection,
    blobs: Arc<Blobs>,
    doomed: std::sync::mpsc::SyncSender<BlobId>,
    poisoned: Arc<AtomicBool>,
    queued: watch::Sender<u64>,
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
        let mut done = Done {
            answers: Vec::with_capacity(batch.len()),
            ..Done::default()
        };
        let outcome = self.transact(batch, &mut done);
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
        for answer in done.answers {
            answer(failure.map_or(Ok(()), |error| Err(again(error))));
        }
        let unused = match failure {
            None => done.doomed,
            // Rolled back for certain, and the space of these files is what is missing. After any other failure the
            // index may name them when it is opened again.
            Some(error) if error.is_out_of_space() && self.conn.is_autocommit() => done.named,
            Some(_) => vec![],
        };
        if failure.is_none() && done.queued {
            self.queued.send_modify(|count| *count += 1);
        }
        for id in unused {
            let _ = self.doomed.send(id);
        }
    }

    fn transact(&self, batch: Vec<Job>, done: &mut Done) -> Result<(), StoreError> {
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
                done.answers.push((job.apply)(None).1);
                continue;
            }
            let mut tx = Tx {
                conn: &self.conn,
                doomed: Vec::new(),
                queued: false,
            };
            let (keep, answer) = (job.apply)(Some(&mut tx));
            done.answers.push(answer);
            if keep {
                done.doomed.append(&mut tx.doomed);
                done.queued |= tx.queued;
                folders.extend(job.files.iter().map(|id| self.blobs.folder(*id)));
                done.named.extend(job.files);
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
        schema::migrate(&conn)?;
    }
    Ok(conn)
}

#[cfg(test)]
mod tests;
