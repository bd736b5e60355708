//! The index on disk: its tables, and how an older one becomes this one.

use crate::StoreError;
use rusqlite::Connection;

/// The version that [`MIGRATIONS`] lead to.
const VERSION: i64 = 2;

/// Keys are blobs, so that they are ordered by their bytes and an upper bound of a prefix need not be text.
/// `blob.data` holds the bytes of small objects themselves; it is the last column, so that the others are read
/// without it.
const FIRST: &str = "
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

/// What a second location has not seen yet. A row stands for its key, however often that changed since: there are no
/// more of them than objects and deletions that wait. `turn` grows with every change; `seq` is never used twice.
const REPLICATION: &str = "
    CREATE TABLE identity (id TEXT NOT NULL) STRICT;
    INSERT INTO identity (id) VALUES (lower(hex(randomblob(16))));
    CREATE TABLE replica (
        bucket TEXT NOT NULL PRIMARY KEY,
        target TEXT NOT NULL,
        queued_to BLOB,
        compared INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE change (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        bucket TEXT NOT NULL,
        key BLOB NOT NULL,
        turn INTEGER NOT NULL,
        since_ms INTEGER NOT NULL,
        due_ms INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        sent TEXT NOT NULL,
        UNIQUE (bucket, key)
    ) STRICT;
    CREATE INDEX change_by_age ON change (bucket, since_ms);
    PRAGMA user_version = 2;
";

/// Each leads from the version of its place to the next.
const MIGRATIONS: [&str; 2] = [FIRST, REPLICATION];

/// Brings an index to the version that this program knows, in one transaction.
pub(super) fn migrate(conn: &Connection) -> Result<(), StoreError> {
    let failed = StoreError::index("opening it");
    let found: i64 = conn
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(&failed)?;
    if found > VERSION {
        return Err(StoreError::NewerSchema {
            found,
            known: VERSION,
        });
    }
    let missing = MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0));
    let sql: String = missing.copied().collect();
    if !sql.is_empty() {
        conn.execute_batch(&format!("BEGIN IMMEDIATE; {sql} COMMIT;"))
            .map_err(&failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store of the version before, with what it held.
    #[test]
    fn an_index_of_an_earlier_version_is_brought_to_this_one() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(FIRST).unwrap();
        conn.execute_batch("INSERT INTO bucket (name, created_ms) VALUES ('files', 1)")
            .unwrap();
        for _ in 0..2 {
            migrate(&conn).unwrap();
            let held: (i64, String) = conn
                .query_row(
                    "SELECT user_version, name FROM pragma_user_version, bucket",
                    [],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )
                .unwrap();
            assert_eq!(held, (VERSION, "files".to_owned()));
        }
        conn.execute_batch("SELECT * FROM change; PRAGMA user_version = 3;")
            .unwrap();
        assert!(matches!(
            migrate(&conn).unwrap_err(),
            StoreError::NewerSchema {
                found: 3,
                known: VERSION
            }
        ));
    }
}
