//! Opening, migrating and transactions.

use crate::StoreError;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use rustix::fs::FlockOperation;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// `ASTR`, in SQLite's header field for the owner of a file.
const APPLICATION_ID: i32 = 0x4153_5452;
/// Schema N is made by running the first N of these. Never edit one that was released: append.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001.sql"),
    include_str!("migrations/0002.sql"),
    include_str!("migrations/0003.sql"),
    include_str!("migrations/0004.sql"),
    include_str!("migrations/0005.sql"),
    include_str!("migrations/0006.sql"),
    include_str!("migrations/0007.sql"),
    include_str!("migrations/0008.sql"),
    include_str!("migrations/0009.sql"),
    include_str!("migrations/0010.sql"),
    include_str!("migrations/0011.sql"),
];
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The database. One process writes (a kernel lock, gone with the process, sees to that); calls from several
/// threads take turns.
#[derive(Debug)]
pub struct Store {
    connection: Mutex<Connection>,
    path: PathBuf,
    /// Held for as long as the store is open for writing.
    _lock: Option<File>,
}

/// An error inside a transaction, before it is known which operation on which file it belongs to.
pub(crate) enum Fault {
    Sqlite(rusqlite::Error),
    Store(StoreError),
}

impl Store {
    /// Opens the database for writing, making it (mode 0600) or migrating it when needed. The folder must exist.
    ///
    /// Refuses a file that another process has open for writing, that belongs to something else, or that a newer
    /// version of the program has migrated.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Open {
            path: path.to_owned(),
            source,
        };
        let lock = lock(path)?;
        // SQLite would make the file readable by everyone whom the umask lets in; its WAL takes the mode over.
        File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = connect(path, flags)?;
        let mut store = Self {
            connection: Mutex::new(connection),
            path: path.to_owned(),
            _lock: Some(lock),
        };
        store.prepare()?;
        Ok(store)
    }

    /// Opens the database for reading beside the process that writes it. Every call that would change something
    /// fails.
    pub fn open_read_only(path: &Path) -> Result<Self, StoreError> {
        // SQLite would answer a missing file with "unable to open database file" alone.
        File::open(path).map_err(|source| StoreError::Open {
            path: path.to_owned(),
            source,
        })?;
        let connection = connect(path, read_only())?;
        let store = Self {
            connection: Mutex::new(connection),
            path: path.to_owned(),
            _lock: None,
        };
        let connection = store.connection();
        let (found, known) = (store.schema(&connection)?, newest());
        drop(connection);
        match found {
            0 => Err(StoreError::Empty {
                path: path.to_owned(),
            }),
            _ if found > known => Err(StoreError::Newer {
                path: path.to_owned(),
                found,
                known,
            }),
            _ => Ok(store),
        }
    }

    /// Where the database is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a copy of the whole database, as it is now, to a file that is not there yet. What is sealed stays sealed.
    pub fn copy_to(&self, path: &Path) -> Result<(), StoreError> {
        let operation = "copy the database";
        // On a connection of its own: writers do not wait.
        let connection = connect(&self.path, read_only())?;
        connection
            .execute("VACUUM INTO ?1", [&path.to_string_lossy()])
            .map(drop)
            .map_err(|error| self.explain(operation, error.into()))
    }

    /// Asks SQLite to check the whole file for damage; `Ok` with an empty list means there is none. Reads every
    /// page: for `doctor`, not for every start.
    pub fn check(&self) -> Result<Vec<String>, StoreError> {
        self.read("check the database", |connection| {
            let mut statement = connection.prepare("PRAGMA integrity_check(100)")?;
            let lines = statement
                .query_map((), |row| row.get(0))?
                .collect::<Result<Vec<String>, _>>()?;
            Ok(lines.into_iter().filter(|line| line != "ok").collect())
        })
    }

    /// Runs one transaction, committed when `change` succeeds and undone when it fails.
    pub(crate) fn write<T>(
        &self,
        operation: &'static str,
        change: impl FnOnce(&Transaction<'_>) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        let mut connection = self.connection();
        let result = (|| {
            // Immediate: waits for the lock here, within the busy timeout, and not in the middle.
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = change(&transaction)?;
            transaction.commit()?;
            Ok(value)
        })();
        result.map_err(|fault: Fault| self.explain(operation, fault))
    }

    /// Runs several reads that see one state.
    pub(crate) fn read<T>(
        &self,
        operation: &'static str,
        look: impl FnOnce(&Transaction<'_>) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        let mut connection = self.connection();
        let result = (|| look(&connection.transaction()?))();
        result.map_err(|fault: Fault| self.explain(operation, fault))
    }

    /// As [`Store::read`], on a connection of its own: for what takes long, so that writers do not wait.
    pub(crate) fn read_aside<T>(
        &self,
        operation: &'static str,
        look: impl FnOnce(&Transaction<'_>) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        let mut connection = connect(&self.path, read_only())?;
        let result = (|| look(&connection.transaction()?))();
        result.map_err(|fault: Fault| self.explain(operation, fault))
    }

    pub(crate) fn connection(&self) -> MutexGuard<'_, Connection> {
        // A panic in the middle of a transaction rolled it back: what is behind the lock is whole.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn prepare(&mut self) -> Result<(), StoreError> {
        let operation = "set up the database";
        let mut connection = self.connection();
        let failed = |error: rusqlite::Error| self.explain(operation, error.into());
        let found = self.schema(&connection)?;
        let known = newest();
        if found > known {
            return Err(StoreError::Newer {
                path: self.path.clone(),
                found,
                known,
            });
        }
        let mode: String = connection
            .query_row("PRAGMA journal_mode = WAL", (), |row| row.get(0))
            .map_err(failed)?;
        if mode != "wal" {
            let reason = format!("this file system allows no write-ahead log (journal mode is `{mode}`)");
            return Err(StoreError::Refused { operation, reason });
        }
        connection
            .execute_batch(
                "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF;
                 PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY; PRAGMA journal_size_limit = 4194304;",
            )
            .map_err(failed)?;
        migrate(&mut connection, MIGRATIONS).map_err(failed)
    }

    /// The schema's number, after a look at whose file it is.
    fn schema(&self, connection: &Connection) -> Result<u32, StoreError> {
        let number = |pragma: &str| -> Result<i64, StoreError> {
            let read = connection.query_row(pragma, (), |row| row.get(0));
            read.map_err(|error| match error.sqlite_error_code() {
                Some(rusqlite::ErrorCode::NotADatabase) => StoreError::NotOurs {
                    path: self.path.clone(),
                },
                _ => self.explain("read the schema's number", error.into()),
            })
        };
        let owner = number("PRAGMA application_id")?;
        let version = number("PRAGMA user_version")?;
        let tables = number("SELECT count(*) FROM sqlite_schema")?;
        let fresh = owner == 0 && version == 0 && tables == 0;
        match u32::try_from(version) {
            Ok(version) if fresh || owner == i64::from(APPLICATION_ID) => Ok(version),
            _ => Err(StoreError::NotOurs {
                path: self.path.clone(),
            }),
        }
    }

    fn explain(&self, operation: &'static str, fault: Fault) -> StoreError {
        match fault {
            Fault::Store(error) => error,
            Fault::Sqlite(source) => StoreError::Sqlite {
                operation,
                path: self.path.clone(),
                source,
            },
        }
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Milliseconds or counters as SQLite keeps them.
pub(crate) fn integer(what: &'static str, value: u64) -> Result<i64, StoreError> {
    i64::try_from(value).map_err(|_| StoreError::Refused {
        operation: "store a number",
        reason: format!("{what} is {value}, over 2^63"),
    })
}

/// And back.
pub(crate) fn natural(what: &'static str, value: i64) -> Result<u64, StoreError> {
    u64::try_from(value).map_err(|_| StoreError::Damaged {
        what,
        reason: format!("{value} is negative"),
    })
}

pub(crate) fn json(what: &'static str, text: &str) -> Result<serde_json::Value, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Damaged {
        what,
        reason: error.to_string(),
    })
}

/// Refuses a value that is too large to be kept.
pub(crate) fn at_most(what: &'static str, value: &[u8], limit: usize) -> Result<(), StoreError> {
    match value.len() {
        bytes if bytes > limit => Err(StoreError::TooLarge { what, bytes, limit }),
        _ => Ok(()),
    }
}

/// The beginning of a text that is kept for people only.
pub(crate) fn cut(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

fn newest() -> u32 {
    MIGRATIONS.len() as u32
}

fn read_only() -> OpenFlags {
    OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    let connection = Connection::open_with_flags(path, flags).and_then(|connection| {
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.set_prepared_statement_cache_capacity(64);
        Ok(connection)
    });
    connection.map_err(|source| StoreError::Sqlite {
        operation: "open the database",
        path: path.to_owned(),
        source,
    })
}

/// Brings the schema to the last of `migrations`, each in a transaction together with its number.
fn migrate(connection: &mut Connection, migrations: &[&str]) -> Result<(), rusqlite::Error> {
    let done: u32 = connection.query_row("PRAGMA user_version", (), |row| row.get(0))?;
    for (number, sql) in migrations.iter().enumerate().skip(done as usize) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(sql)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", number as u32 + 1)?;
        transaction.commit()?;
    }
    Ok(())
}

fn lock(database: &Path) -> Result<File, StoreError> {
    let failed = |source: io::Error| StoreError::Open {
        path: database.to_owned(),
        source,
    };
    let mut name = database.as_os_str().to_owned();
    name.push(".lock");
    let mut options = File::options();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600);
    let mut file = options.open(&name).map_err(failed)?;
    match flock(&file) {
        Ok(()) => {
            file.set_len(0).map_err(failed)?;
            file.write_all(std::process::id().to_string().as_bytes())
                .map_err(failed)?;
            Ok(file)
        }
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut text = String::new();
            let read = file.take(20).read_to_string(&mut text);
            let holder = read.ok().and_then(|_| text.trim().parse().ok());
            Err(StoreError::InUse {
                path: database.to_owned(),
                holder,
            })
        }
        Err(error) => Err(failed(error.into())),
    }
}

/// Tries for a moment: who held it may just be ending, and a child that it has begun holds it too until that is another
/// program.
#[expect(
    clippy::disallowed_methods,
    reason = "before anything else runs; half a second at most"
)]
fn flock(file: &File) -> Result<(), rustix::io::Errno> {
    const TRIES: u32 = 20;
    for _ in 1..TRIES {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(Duration::from_millis(25)),
            other => return other,
        }
    }
    rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_go_forward_one_by_one_and_stop_whole_at_one_that_fails() {
        let mut connection = Connection::open_in_memory().unwrap();
        let version = |c: &Connection| {
            c.query_row("PRAGMA user_version", (), |r| r.get::<_, u32>(0))
                .unwrap()
        };
        migrate(&mut connection, &["CREATE TABLE a (x INTEGER) STRICT"]).unwrap();
        assert_eq!(version(&connection), 1);
        let failing = [
            "nonsense never run again",
            "ALTER TABLE a ADD COLUMN y TEXT",
            "CREATE TABLE b (x INTEGER); no sql",
        ];
        migrate(&mut connection, &failing).unwrap_err();
        assert_eq!(version(&connection), 2);
        connection
            .execute("INSERT INTO a (x, y) VALUES (1, 'kept')", ())
            .unwrap();
        let b: u32 = connection
            .query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'b'", (), |r| {
                r.get(0)
            })
            .unwrap();
        assert_eq!(b, 0, "the third left nothing behind");
    }

    #[test]
    fn deployments_of_the_first_schema_are_kept_and_no_number_comes_back() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, &MIGRATIONS[..1]).unwrap();
        let insert =
            "INSERT INTO deployment (environment, generation, release, configuration, state, created_ms)
                      VALUES ('staging', ?1, 'sha256:a', '{}', ?2, 1)";
        connection.execute(insert, (1, "live")).unwrap();
        connection.execute(insert, (2, "failed")).unwrap();
        connection
            .execute("DELETE FROM deployment WHERE generation = 2", ())
            .unwrap();
        migrate(&mut connection, &MIGRATIONS[..4]).unwrap();
        let kept: (i64, String, String) = connection
            .query_row("SELECT id, state, actor FROM deployment", (), |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .unwrap();
        assert_eq!(kept, (1, "live".into(), "unknown".into()));
        connection
            .execute(
                "INSERT INTO deployment (environment, generation, release, configuration, actor, origin, state, created_ms)
                 VALUES ('staging', 3, 'sha256:b', '{}', 'uid 0', '{}', 'superseded', 1)",
                (),
            )
            .unwrap();
        assert_eq!(connection.last_insert_rowid(), 3);
    }

    #[test]
    fn a_full_disk_fails_the_call_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("control.db")).unwrap();
        let pages: u32 = store
            .connection()
            .query_row("PRAGMA page_count", (), |r| r.get(0))
            .unwrap();
        let set = |pages: u32| {
            store
                .connection()
                .query_row(&format!("PRAGMA max_page_count = {pages}"), (), |r| {
                    r.get::<_, u32>(0)
                })
                .unwrap()
        };
        set(pages + 3);
        let big = serde_json::json!("x".repeat(10_000));
        let mut written = 0;
        let error = loop {
            match store.audit("t", "a", "s", &big, written) {
                Ok(_) => written += 1,
                Err(error) => break error,
            }
            assert!(written < 100);
        };
        assert!(error.is_disk_full(), "{error:?}");
        assert_eq!(store.audit_verify().unwrap().entries, written);
        set(10_000);
        store.audit("t", "a", "s", &big, 0).unwrap();
        assert_eq!(store.audit_verify().unwrap().entries, written + 1);
        assert_eq!(store.check().unwrap(), Vec::<String>::new());
    }
}
