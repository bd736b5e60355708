//! Migrations: SQL files applied once, in order, all that are missing in one transaction: where one fails, the schema is
//! as it was. Files that cannot run in one (`CREATE INDEX CONCURRENTLY`) go statement by statement, each written down
//! before and after, and go on there the next time.

use crate::access::{Access, AccessError, connect};
use crate::split;
use sha2::Digest;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::Client;
use tokio_postgres::error::{ErrorPosition, SqlState};

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    /// File name, `NNNN_name.sql`.
    pub name: String,
    /// Its text.
    pub sql: String,
    /// SHA-256 of the text, in hex.
    pub checksum: String,
}

/// What a run did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Applied {
    /// Names applied now, in order.
    pub applied: Vec<String>,
    /// Number of those that were there already.
    pub already: usize,
    /// Names that the database has but the folder has not: normal after a rollback of the release.
    pub unknown: Vec<String>,
}

/// How long a run may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MigrateOptions {
    /// For another run on the same database to end.
    pub wait: Duration,
    /// For a lock on a table: a migration that waits stops every query behind it.
    pub lock_timeout: Duration,
    /// So often, with a pause in which those queries run.
    pub attempts: u32,
}

impl Default for MigrateOptions {
    fn default() -> Self {
        Self {
            wait: Duration::from_secs(60),
            lock_timeout: Duration::from_secs(2),
            attempts: 10,
        }
    }
}

/// The first line that asks for no transaction around a file (`CREATE INDEX CONCURRENTLY`).
const NO_TRANSACTION: &str = "-- astraler: no-transaction";

/// Between two attempts to get a lock.
const LOCK_PAUSE: Duration = Duration::from_millis(500);

/// Larger files are data, which belongs elsewhere.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// The folder of migrations cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MigrationsError {
    /// Reading failed.
    #[error("reading {}", path.display())]
    Read {
        /// Folder or file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A name out of order.
    #[error("{}: a migration is named NNNN_name.sql, for example 0001_tasks.sql", path.display())]
    Name {
        /// The file.
        path: PathBuf,
    },
    /// Two files with one number.
    #[error("migrations {first} and {second} have the same number: give one of them the next free number")]
    Duplicate {
        /// One.
        first: String,
        /// The other.
        second: String,
    },
    /// Too large.
    #[error("{} has {bytes} bytes; a migration may have {MAX_FILE_BYTES}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
}

/// A run did not come to its end. What was applied before stays applied.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The database could not be reached.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// Another run did not end in time.
    #[error("another migration of database `{database}` runs since more than {} s", waited.as_secs())]
    Busy {
        /// The database.
        database: String,
        /// How long this one waited.
        waited: Duration,
    },
    /// A file was changed after it had been applied.
    #[error(
        "migration {file} was changed after it had been applied to database `{database}`: restore it, and put the change into a new file"
    )]
    Changed {
        /// The file.
        file: String,
        /// The database.
        database: String,
    },
    /// A statement failed.
    #[error("{file}:{line}:{column}: {message} (SQLSTATE {code}){}", advice(hint))]
    Sql {
        /// The file.
        file: String,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What the server says.
        message: String,
        /// SQLSTATE.
        code: String,
        /// The server's hint, or ours.
        hint: Option<String>,
    },
    /// A file ended the transaction around it.
    #[error(
        "{file}: the file ends its own transaction (COMMIT or ROLLBACK): remove that, or begin the file with `{NO_TRANSACTION}`"
    )]
    Transaction {
        /// The file.
        file: String,
    },
    /// The bookkeeping failed.
    #[error("{step} in database `{database}`")]
    Bookkeeping {
        /// What was being done.
        step: &'static str,
        /// The database.
        database: String,
        /// Why it failed.
        #[source]
        source: Box<tokio_postgres::Error>,
    },
}

fn advice(hint: &Option<String>) -> String {
    hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default()
}

/// Reads a folder of `NNNN_name.sql`, sorted by number. Other files than `.sql` are ignored.
pub fn read_migrations(directory: &Path) -> Result<Vec<Migration>, MigrationsError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        |source| MigrationsError::Read { path, source }
    };
    let mut numbered: BTreeMap<u64, Migration> = BTreeMap::new();
    for entry in std::fs::read_dir(directory).map_err(failed(directory))? {
        let path = entry.map_err(failed(directory))?.path();
        if path.extension().is_none_or(|extension| extension != "sql") {
            continue;
        }
        let (number, name) =
            number_and_name(&path).ok_or_else(|| MigrationsError::Name { path: path.clone() })?;
        let bytes = std::fs::metadata(&path).map_err(failed(&path))?.len();
        if bytes > MAX_FILE_BYTES {
            return Err(MigrationsError::TooLarge { path, bytes });
        }
        let sql = std::fs::read_to_string(&path).map_err(failed(&path))?;
        let checksum = hex::encode(sha2::Sha256::digest(sql.as_bytes()));
        if let Some(other) = numbered.insert(
            number,
            Migration {
                name: name.clone(),
                sql,
                checksum,
            },
        ) {
            let [first, second] = if other.name < name {
                [other.name, name]
            } else {
                [name, other.name]
            };
            return Err(MigrationsError::Duplicate { first, second });
        }
    }
    Ok(numbered.into_values().collect())
}

fn number_and_name(path: &Path) -> Option<(u64, String)> {
    let name = path.file_name()?.to_str()?;
    let (number, rest) = name.split_once('_')?;
    let valid = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) && rest.len() > ".sql".len();
    valid
        .then(|| number.parse().ok())
        .flatten()
        .map(|number| (number, name.to_owned()))
}

/// Applies what is missing, as the database's owner, with the default deadlines.
pub async fn migrate(owner: &Access, migrations: &[Migration]) -> Result<Applied, MigrateError> {
    migrate_with(owner, migrations, MigrateOptions::default()).await
}

/// Applies what is missing, as the database's owner.
pub async fn migrate_with(
    owner: &Access,
    migrations: &[Migration],
    options: MigrateOptions,
) -> Result<Applied, MigrateError> {
    let run = Run {
        client: connect(owner).await?,
        database: owner.database.clone(),
    };
    run.prepare(options).await?;
    let mut known = run.applied().await?;
    let mut result = Applied::default();
    // All checksums first: a changed file stops the run before anything is touched.
    let mut missing = vec![];
    for migration in migrations {
        match known.remove(&migration.name) {
            None => missing.push(migration),
            Some(checksum) if checksum == migration.checksum => result.already += 1,
            Some(_) => {
                return Err(MigrateError::Changed {
                    file: migration.name.clone(),
                    database: run.database,
                });
            }
        }
    }
    result.unknown = known.into_keys().collect::<BTreeSet<_>>().into_iter().collect();
    for group in missing.chunk_by(|a, b| a.in_transaction() && b.in_transaction()) {
        match group {
            [alone] if !alone.in_transaction() => run.apply_in_pieces(alone, options).await?,
            _ => run.apply_together(group, options).await?,
        }
        result
            .applied
            .extend(group.iter().map(|migration| migration.name.clone()));
    }
    Ok(result)
}

/// Key of the advisory lock, in the migrated database: `migrates`, in ASCII.
const LOCK: i64 = 0x6d69_6772_6174_6573;

struct Run {
    client: Client,
    database: String,
}

impl Run {
    async fn prepare(&self, options: MigrateOptions) -> Result<(), MigrateError> {
        const STEP: &str = "preparing for migrations";
        let lock_timeout = options.lock_timeout.as_millis();
        self.execute(STEP, &format!("SET lock_timeout = {lock_timeout}; SET statement_timeout = 0; SET client_min_messages = warning; SET client_connection_check_interval = 1000"))
            .await?;
        // Tried again and again, because a session that waits inside the lock holds a snapshot for which
        // CREATE INDEX CONCURRENTLY of the other run would wait for ever.
        let deadline = Instant::now() + options.wait;
        loop {
            let row = self
                .client
                .query_one("SELECT pg_try_advisory_lock($1)", &[&LOCK])
                .await;
            if row.map_err(|source| self.failed(STEP, source))?.get(0) {
                break;
            }
            if Instant::now() >= deadline {
                return Err(MigrateError::Busy {
                    database: self.database.clone(),
                    waited: options.wait,
                });
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.execute(
            STEP,
            "CREATE SCHEMA IF NOT EXISTS astraler;
             CREATE TABLE IF NOT EXISTS astraler.schema_migrations (
                 name text PRIMARY KEY,
                 checksum text NOT NULL,
                 applied_at timestamptz NOT NULL DEFAULT now(),
                 duration_ms bigint NOT NULL
             );
             CREATE TABLE IF NOT EXISTS astraler.schema_migration_progress (
                 name text PRIMARY KEY,
                 checksum text NOT NULL,
                 done int NOT NULL,
                 begun int NOT NULL
             )",
        )
        .await
    }

    async fn applied(&self) -> Result<BTreeMap<String, String>, MigrateError> {
        let rows = self
            .client
            .query("SELECT name, checksum FROM astraler.schema_migrations", &[])
            .await;
        let rows = rows.map_err(|source| self.failed("reading which migrations were applied", source))?;
        Ok(rows.into_iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// All or none, again when a lock cannot be had.
    async fn apply_together(
        &self,
        migrations: &[&Migration],
        options: MigrateOptions,
    ) -> Result<(), MigrateError> {
        let mut attempt = 1;
        loop {
            let error = match self.transaction_of(migrations).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            match error.code() {
                Some(code) if code == SqlState::LOCK_NOT_AVAILABLE.code() && attempt < options.attempts => {
                    attempt += 1;
                    tokio::time::sleep(LOCK_PAUSE).await;
                }
                // A value of an enumeration can be used only after the transaction that added it.
                Some(code)
                    if code == SqlState::UNSAFE_NEW_ENUM_VALUE_USAGE.code() && migrations.len() > 1 =>
                {
                    for migration in migrations {
                        Box::pin(self.apply_together(&[migration], options)).await?;
                    }
                    return Ok(());
                }
                _ => return Err(error),
            }
        }
    }

    async fn transaction_of(&self, migrations: &[&Migration]) -> Result<(), MigrateError> {
        self.execute("around a migration", "BEGIN").await?;
        let mut result = Ok(());
        for migration in migrations {
            result = self.apply_inside(migration, Instant::now()).await;
            if result.is_err() {
                break;
            }
        }
        let end = if result.is_ok() { "COMMIT" } else { "ROLLBACK" };
        let ended = self.client.batch_execute(end).await;
        // A COMMIT can fail by itself: deferred constraints are checked there.
        let last = migrations.last();
        result.and_then(|()| match (ended, last) {
            (Err(source), Some(last)) => Err(self.sql_error(last, 0, &source, false)),
            _ => Ok(()),
        })
    }

    /// Statement by statement, each written down before and after.
    async fn apply_in_pieces(
        &self,
        migration: &Migration,
        options: MigrateOptions,
    ) -> Result<(), MigrateError> {
        const STEP: &str = "writing down how far a migration has come";
        let started = Instant::now();
        let row = self
            .client
            .query_opt(
                "SELECT done, begun FROM astraler.schema_migration_progress WHERE name = $1 AND checksum = $2",
                &[&migration.name, &migration.checksum],
            )
            .await
            .map_err(|source| self.failed(STEP, source))?;
        let (done, begun): (i32, i32) = row.map_or((0, 0), |row| (row.get(0), row.get(1)));
        for (number, (offset, statement)) in (1..).zip(split::statements(&migration.sql)) {
            if number <= done {
                continue;
            }
            let progress = "INSERT INTO astraler.schema_migration_progress VALUES ($1, $2, $3, $4)
                            ON CONFLICT (name) DO UPDATE SET checksum = $2, done = $3, begun = $4";
            let note = async |done: i32| {
                let values: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
                    [&migration.name, &migration.checksum, &done, &number];
                self.client
                    .execute(progress, &values)
                    .await
                    .map(drop)
                    .map_err(|source| self.failed(STEP, source))
            };
            note(number - 1).await?;
            if !self.index_is_there(statement, number == begun).await? {
                self.piece(migration, offset, statement, options).await?;
            }
            note(number).await?;
        }
        self.record(migration, started).await?;
        self.client
            .execute(
                "DELETE FROM astraler.schema_migration_progress WHERE name = $1",
                &[&migration.name],
            )
            .await
            .map(drop)
            .map_err(|source| self.failed(STEP, source))
    }

    async fn piece(
        &self,
        migration: &Migration,
        offset: usize,
        statement: &str,
        options: MigrateOptions,
    ) -> Result<(), MigrateError> {
        let mut attempt = 1;
        while let Err(source) = self.client.batch_execute(statement).await {
            if source.code() != Some(&SqlState::LOCK_NOT_AVAILABLE) || attempt >= options.attempts {
                return Err(self.sql_error(migration, offset, &source, true));
            }
            attempt += 1;
            tokio::time::sleep(LOCK_PAUSE).await;
            self.index_is_there(statement, false).await?;
        }
        Ok(())
    }

    /// An index that was built concurrently and not to its end is there and of no use: it is dropped. Says whether a
    /// whole one is there that an interrupted run of this very statement has made.
    async fn index_is_there(&self, statement: &str, interrupted: bool) -> Result<bool, MigrateError> {
        const STEP: &str = "looking for an index that was not built to its end";
        let Some(index) = concurrent_index(statement) else {
            return Ok(false);
        };
        let row = self
            .client
            .query_opt(
                "SELECT indisvalid, indexrelid::regclass::text FROM pg_index WHERE indexrelid = to_regclass($1)",
                &[&index],
            )
            .await
            .map_err(|source| self.failed(STEP, source))?;
        let Some(row) = row else { return Ok(false) };
        if row.get(0) {
            return Ok(interrupted);
        }
        let name: String = row.get(1);
        self.execute(STEP, &format!("DROP INDEX CONCURRENTLY {name}"))
            .await?;
        Ok(false)
    }

    async fn apply_inside(&self, migration: &Migration, started: Instant) -> Result<(), MigrateError> {
        let before = self.transaction().await?;
        let done = self.client.batch_execute(&migration.sql).await;
        done.map_err(|source| self.sql_error(migration, 0, &source, false))?;
        if self.transaction().await? != before {
            return Err(MigrateError::Transaction {
                file: migration.name.clone(),
            });
        }
        self.record(migration, started).await
    }

    async fn transaction(&self) -> Result<String, MigrateError> {
        let row = self
            .client
            .query_one("SELECT pg_current_xact_id()::text", &[])
            .await;
        Ok(row
            .map_err(|source| self.failed("asking for the transaction", source))?
            .get(0))
    }

    async fn record(&self, migration: &Migration, started: Instant) -> Result<(), MigrateError> {
        let duration = i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.client
            .execute(
                "INSERT INTO astraler.schema_migrations (name, checksum, duration_ms) VALUES ($1, $2, $3)",
                &[&migration.name, &migration.checksum, &duration],
            )
            .await
            .map(drop)
            .map_err(|source| self.failed("recording a migration", source))
    }

    async fn execute(&self, step: &'static str, sql: &str) -> Result<(), MigrateError> {
        self.client
            .batch_execute(sql)
            .await
            .map_err(|source| self.failed(step, source))
    }

    fn failed(&self, step: &'static str, source: tokio_postgres::Error) -> MigrateError {
        MigrateError::Bookkeeping {
            step,
            database: self.database.clone(),
            source: Box::new(source),
        }
    }

    /// `offset`: where in the file, in bytes, the text begins in which the server counts.
    fn sql_error(
        &self,
        migration: &Migration,
        offset: usize,
        source: &tokio_postgres::Error,
        stays: bool,
    ) -> MigrateError {
        let server = source.as_db_error();
        let position = match server.and_then(|error| error.position()) {
            Some(ErrorPosition::Original(position)) => *position as usize,
            // The server names no place: the statement itself, behind the space that separates it from the one before.
            _ => {
                let text = &migration.sql[offset..];
                text.chars().take_while(|c| c.is_whitespace()).count() + 1
            }
        };
        let (line, column) = line_and_column(&migration.sql, offset, position);
        let own_hint = match source.code() {
            Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                Some("another session holds a lock on that table: try again when it is quieter")
            }
            _ if stays => Some(
                "this file runs without a transaction: its earlier statements stay applied, and the next run goes on here",
            ),
            _ => None,
        };
        MigrateError::Sql {
            file: migration.name.clone(),
            line,
            column,
            message: server.map_or_else(|| source.to_string(), |error| error.message().to_owned()),
            code: source.code().map_or("none", |code| code.code()).to_owned(),
            hint: server
                .and_then(|error| error.hint())
                .or(own_hint)
                .map(str::to_owned),
        }
    }
}

impl Migration {
    /// Whether its first line does not say otherwise.
    fn in_transaction(&self) -> bool {
        let text = self.sql.trim_start_matches('\u{feff}');
        text.lines().next().unwrap_or_default().trim() != NO_TRANSACTION
    }
}

impl MigrateError {
    fn code(&self) -> Option<&str> {
        match self {
            Self::Sql { code, .. } => Some(code),
            _ => None,
        }
    }
}

/// The name, with its table's schema, of the index that a statement builds concurrently, as it is written.
fn concurrent_index(statement: &str) -> Option<String> {
    let plain: String = statement
        .lines()
        .map(|line| line.split("--").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join(" ");
    let mut words = plain.split_whitespace().peekable();
    let mut is = |expected: &str| {
        words
            .next_if(|word| word.eq_ignore_ascii_case(expected))
            .is_some()
    };
    if !is("create") {
        return None;
    }
    is("unique");
    if !is("index") || !is("concurrently") {
        return None;
    }
    if is("if") && !(is("not") && is("exists")) {
        return None;
    }
    if is("on") {
        return None;
    }
    let name = words.next()?;
    words.next_if(|word| word.eq_ignore_ascii_case("on"))?;
    words.next_if(|word| word.eq_ignore_ascii_case("only"));
    let table = words.next()?.split('(').next()?;
    Some(match table.rsplit_once('.') {
        Some((schema, _)) => format!("{schema}.{name}"),
        None => name.to_owned(),
    })
}

/// `position` counts characters from 1, as the server does.
fn line_and_column(sql: &str, offset: usize, position: usize) -> (usize, usize) {
    let characters = sql[..offset].chars().count() + position.saturating_sub(1);
    let before: String = sql.chars().take(characters).collect();
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            #[expect(clippy::disallowed_methods, reason = "a test")]
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn files_are_sorted_by_number() {
        let folder = folder(&[("0010_b.sql", "b"), ("0002_a.sql", "a"), ("README.md", "no")]);
        let names: Vec<_> = read_migrations(folder.path())
            .unwrap()
            .into_iter()
            .map(|m| m.name)
            .collect();
        assert_eq!(names, ["0002_a.sql", "0010_b.sql"]);
    }

    #[test]
    fn one_number_for_two_files_is_refused() {
        let folder = folder(&[("0001_a.sql", "a"), ("1_b.sql", "b")]);
        let error = read_migrations(folder.path()).unwrap_err().to_string();
        assert!(error.contains("0001_a.sql and 1_b.sql"), "{error}");
    }

    #[test]
    fn a_file_without_a_number_is_refused() {
        for name in ["tasks.sql", "_tasks.sql", "1x_tasks.sql", "0001_.sql"] {
            let folder = folder(&[(name, "a")]);
            assert!(
                matches!(read_migrations(folder.path()), Err(MigrationsError::Name { .. })),
                "{name}"
            );
        }
    }

    #[test]
    fn an_index_that_is_built_concurrently_is_named() {
        for (statement, index) in [
            ("CREATE INDEX CONCURRENTLY a ON t (x)", Some("a")),
            (
                "-- why\ncreate unique index concurrently if not exists a\n on only s.t(x)",
                Some("s.a"),
            ),
            ("CREATE INDEX CONCURRENTLY ON t (x)", None),
            ("CREATE INDEX a ON t (x)", None),
            ("VACUUM t", None),
        ] {
            assert_eq!(concurrent_index(statement).as_deref(), index, "{statement}");
        }
    }

    #[test]
    fn positions_count_characters() {
        assert_eq!(line_and_column("é\nab", 0, 4), (2, 2));
        assert_eq!(line_and_column("é;\nab", 3, 3), (2, 2));
        assert_eq!(line_and_column("", 0, 1), (1, 1));
    }
}
