//! Opening, recovery, buckets.

use crate::blob::{Blobs, FOLDERS, StepHook};
use crate::index::{Index, Tx};
use crate::{BucketInfo, StoreError};
use rusqlite::{Connection, OptionalExtension, params};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Lost objects that a line of the log names at most.
const NAMED: usize = 100;

/// Limits and habits of a store.
#[derive(Clone)]
pub struct StoreOptions {
    /// Free bytes of the disk that no write may use. Default 1 GiB.
    pub reserve_bytes: u64,
    /// Objects up to this size live in the index itself: one sync instead of three. Default 16 KiB.
    pub inline_bytes: usize,
    /// Largest single upload and largest part. Default 5 GiB, as R2.
    pub max_put_bytes: u64,
    /// Smallest part but the last. Default 5 MiB, as R2.
    pub min_part_bytes: u64,
    /// All parts but the last must have one size, as R2 demands. Default true.
    pub uniform_parts: bool,
    /// Bodies received at one time; further ones wait. Each holds 256 KiB and a file. Default 128.
    pub concurrent_uploads: usize,
    /// Buckets. Default 10,000.
    pub max_buckets: u64,
    /// A body that sends nothing for so long is given up. Default 60 s.
    pub body_idle: Duration,
    /// Multipart uploads older than this are aborted by a sweep. Default 7 days, as R2.
    pub upload_expiry: Duration,
    /// How long to wait for another process to close the store. Default 5 s.
    pub lock_wait: Duration,
    /// Called at each step of each write: crash tests end the process there.
    #[doc(hidden)]
    pub step_hook: Option<StepHook>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            reserve_bytes: 1 << 30,
            inline_bytes: 16 << 10,
            max_put_bytes: 5 << 30,
            min_part_bytes: 5 << 20,
            uniform_parts: true,
            concurrent_uploads: 128,
            max_buckets: 10_000,
            body_idle: Duration::from_secs(60),
            upload_expiry: Duration::from_secs(7 * 86_400),
            lock_wait: Duration::from_secs(5),
            step_hook: None,
        }
    }
}

/// What opening a store mended or found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OpenReport {
    /// Files of writes that never finished, removed.
    pub temporary_removed: u64,
    /// Blobs that no object names, removed.
    pub orphans_removed: u64,
    /// Objects and parts whose blob is missing: data is lost, and reading them fails.
    pub missing: Vec<String>,
}

/// Object storage in a folder. Clones share it.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) blobs: Arc<Blobs>,
    pub(crate) index: Index,
    pub(crate) options: StoreOptions,
    pub(crate) uploads: Semaphore,
    pub(crate) scrubbed: std::sync::Mutex<i64>,
    report: OpenReport,
    root: PathBuf,
}

impl Store {
    /// Opens the store in a folder, creating it where it is missing, and recovers from a crash: what no index row
    /// names is removed, what an index row names but is missing is reported and logged as an error.
    ///
    /// Only one process can have it open: another waits for [`StoreOptions::lock_wait`].
    pub fn open(dir: &Path, options: StoreOptions) -> Result<Self, StoreError> {
        crate::blob::create_folder(dir)?;
        let guard = lock(dir, options.lock_wait)?;
        let blobs = Arc::new(Blobs::open(
            dir,
            options.reserve_bytes,
            options.step_hook.clone(),
        )?);
        let index_path = dir.join("index.sqlite");
        let index = Index::open(&index_path, Arc::clone(&blobs), guard)?;
        crate::blob::sync_folder(dir)?;
        let report = recover(&index_path, &blobs)?;
        Ok(Self {
            inner: Arc::new(Inner {
                uploads: Semaphore::new(options.concurrent_uploads.max(1)),
                blobs,
                index,
                options,
                scrubbed: std::sync::Mutex::new(0),
                report,
                root: dir.to_owned(),
            }),
        })
    }

    /// What opening it mended or found.
    pub fn open_report(&self) -> &OpenReport {
        &self.inner.report
    }

    /// The folder it lives in.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// Gives this handle back. When it was the last, waits until the store is closed and another process can open
    /// it.
    pub async fn close(self) {
        if let Some(inner) = Arc::into_inner(self.inner) {
            inner.index.close().await;
        }
    }

    /// Creates a bucket. The name is unique in the platform; the caller composes it (`<environment>--<bucket>`).
    pub async fn create_bucket(&self, name: &str) -> Result<BucketInfo, StoreError> {
        check_bucket_name(name)?;
        self.inner.blobs.check_space(0)?;
        let (name, max) = (name.to_owned(), self.inner.options.max_buckets);
        self.inner
            .index
            .write(vec![], move |tx| {
                let failed = StoreError::index("creating a bucket");
                let count: u64 = tx
                    .conn
                    .query_row("SELECT count(*) FROM bucket", [], |row| row.get(0))
                    .map_err(&failed)?;
                let created_ms = crate::now_ms();
                if find_bucket(tx.conn, &name)?.is_some() {
                    return Err(StoreError::BucketExists(name));
                }
                if count >= max {
                    return Err(StoreError::TooManyBuckets(max));
                }
                tx.conn
                    .execute(
                        "INSERT INTO bucket (name, created_ms) VALUES (?1, ?2)",
                        params![name, created_ms],
                    )
                    .map_err(&failed)?;
                Ok(BucketInfo { name, created_ms })
            })
            .await
    }

    /// Deletes an empty bucket, and the multipart uploads that were begun in it.
    pub async fn delete_bucket(&self, name: &str) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.inner
            .index
            .write(vec![], move |tx| {
                let failed = StoreError::index("deleting a bucket");
                let bucket = bucket_id(tx.conn, &name)?;
                let used = tx
                    .conn
                    .query_row("SELECT 1 FROM object WHERE bucket = ?1 LIMIT 1", [bucket], |_| {
                        Ok(())
                    })
                    .optional()
                    .map_err(&failed)?;
                if used.is_some() {
                    return Err(StoreError::BucketNotEmpty(name));
                }
                let uploads: Vec<String> = tx
                    .conn
                    .prepare("SELECT id FROM upload WHERE bucket = ?1")
                    .and_then(|mut s| s.query_map([bucket], |row| row.get(0))?.collect())
                    .map_err(&failed)?;
                for upload in uploads {
                    crate::multipart::forget_upload(tx, &upload)?;
                }
                tx.conn
                    .execute("DELETE FROM bucket WHERE id = ?1", [bucket])
                    .map_err(&failed)?;
                Ok(())
            })
            .await
    }

    /// One bucket.
    pub async fn bucket(&self, name: &str) -> Result<BucketInfo, StoreError> {
        let name = name.to_owned();
        self.inner
            .index
            .read(move |conn| match find_bucket(conn, &name)? {
                Some((_, created_ms)) => Ok(BucketInfo { name, created_ms }),
                None => Err(StoreError::NoSuchBucket(name)),
            })
            .await
    }

    /// Every bucket, by name.
    pub async fn list_buckets(&self) -> Result<Vec<BucketInfo>, StoreError> {
        self.inner
            .index
            .read(|conn| {
                conn.prepare_cached("SELECT name, created_ms FROM bucket ORDER BY name")
                    .and_then(|mut s| {
                        s.query_map([], |row| {
                            Ok(BucketInfo {
                                name: row.get(0)?,
                                created_ms: row.get(1)?,
                            })
                        })?
                        .collect()
                    })
                    .map_err(StoreError::index("listing buckets"))
            })
            .await
    }
}

/// The row of a bucket.
pub(crate) fn bucket_id(conn: &Connection, name: &str) -> Result<i64, StoreError> {
    find_bucket(conn, name)?
        .map(|(id, _)| id)
        .ok_or_else(|| StoreError::NoSuchBucket(name.to_owned()))
}

fn find_bucket(conn: &Connection, name: &str) -> Result<Option<(i64, u64)>, StoreError> {
    conn.prepare_cached("SELECT id, created_ms FROM bucket WHERE name = ?1")
        .and_then(|mut s| {
            s.query_row([name], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()
        })
        .map_err(StoreError::index("looking for a bucket"))
}

/// Inserts a row for a blob with one name.
pub(crate) fn insert_blob(tx: &Tx<'_>, content: &crate::object::Stored) -> Result<(), StoreError> {
    tx.conn
        .prepare_cached(
            "INSERT INTO blob (id, size, crc32c, refs, inlined, data) VALUES (?1, ?2, ?3, 1, ?4, ?5)",
        )
        .and_then(|mut s| {
            s.execute(params![
                content.id,
                content.size,
                content.crc32c,
                content.data.is_some(),
                content.data
            ])
        })
        .map_err(StoreError::index("adding a blob"))?;
    Ok(())
}

fn check_bucket_name(name: &str) -> Result<(), StoreError> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.' | b'_');
    if (3..=127).contains(&name.len()) && name.bytes().all(allowed) {
        Ok(())
    } else {
        Err(StoreError::InvalidBucketName(name.to_owned()))
    }
}

/// Takes the lock on the folder; it lives as long as the file.
fn lock(dir: &Path, wait: Duration) -> Result<File, StoreError> {
    let path = dir.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(StoreError::io("open", &path))?;
    let until = Instant::now() + wait;
    loop {
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < until => {
                std::thread::park_timeout(Duration::from_millis(20));
            }
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(StoreError::Locked(dir.to_owned())),
            Err(errno) => return Err(StoreError::io("lock", &path)(errno.into())),
        }
    }
}

/// Removes what a crash left behind and looks for what is missing. Runs before any operation.
fn recover(index_path: &Path, blobs: &Blobs) -> Result<OpenReport, StoreError> {
    let failed = StoreError::index("recovering");
    let conn = Connection::open(index_path).map_err(&failed)?;
    conn.execute_batch("PRAGMA cache_size = -512").map_err(&failed)?;
    let mut report = OpenReport::default();
    let temporary = blobs.temporary();
    for path in files(&temporary)? {
        fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
        report.temporary_removed += 1;
    }
    let last: Option<i64> = conn
        .query_row("SELECT max(id) FROM blob", [], |row| row.get(0))
        .map_err(&failed)?;
    blobs.start_after(last.unwrap_or(0));
    let mut present = Vec::new();
    for folder in 0..FOLDERS {
        for path in files(&blobs.folder(folder))? {
            let id = path
                .file_name()
                .and_then(|name| name.to_str())
                .and_then(|name| i64::from_str_radix(name, 16).ok());
            match id {
                Some(id) if blobs.path(id) == path => present.push(id),
                _ => tracing::warn!(path = %path.display(), "a file that is no blob lies among the blobs"),
            }
        }
    }
    present.sort_unstable();
    // Both sides are ordered: one walk finds what only one of them has.
    let mut present = present.into_iter().peekable();
    let mut lost = Vec::new();
    let mut orphans = Vec::new();
    {
        let mut statement = conn
            .prepare("SELECT id FROM blob WHERE inlined = 0 ORDER BY id")
            .map_err(&failed)?;
        let mut rows = statement.query([]).map_err(&failed)?;
        while let Some(row) = rows.next().map_err(&failed)? {
            let id: i64 = row.get(0).map_err(&failed)?;
            while let Some(orphan) = present.next_if(|found| *found < id) {
                orphans.push(orphan);
            }
            if present.next_if_eq(&id).is_none() {
                lost.push(id);
            }
        }
        orphans.extend(present);
    }
    for id in orphans {
        let path = blobs.path(id);
        fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
        report.orphans_removed += 1;
    }
    if !lost.is_empty() {
        let blob = lost.first().map(|id| blobs.path(*id));
        report.missing = crate::scrub::names_of(&conn, &lost)?;
        let objects = report.missing.get(..NAMED.min(report.missing.len()));
        tracing::error!(
            blobs = lost.len(), first = ?blob, lost = report.missing.len(), ?objects,
            "blobs are missing: these objects, and more where there are more, are lost"
        );
    }
    if report.temporary_removed + report.orphans_removed > 0 {
        tracing::info!(
            temporary = report.temporary_removed,
            orphans = report.orphans_removed,
            "removed what unfinished writes left behind"
        );
    }
    Ok(report)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
        .map_err(StoreError::io("list", folder))
}
