//! Groups and their last occurrences, in SQLite, beside the positions up to which the workers' logs had been read.

use super::stack::{Maps, frames};
use super::{Exception, Group, MARK, Occurrence, group, parse};
use crate::source::{self, Position};
use crate::store::lines;
use crate::stream::{Stream, deployment, parse_text};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, params};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes of a log that are read at once.
const CHUNK: usize = 1 << 20;
/// Groups that are kept; those that were not seen for the longest time go first.
const MAX_GROUPS: u32 = 2_000;
/// Occurrences of a group that are kept.
const MAX_OCCURRENCES: u32 = 20;
const DAY_MS: i64 = 86_400_000;

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS source (name TEXT PRIMARY KEY, position TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS error_group (
  id TEXT PRIMARY KEY, environment TEXT NOT NULL, worker TEXT NOT NULL, name TEXT NOT NULL, message TEXT NOT NULL,
  place TEXT, count INTEGER NOT NULL, first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL,
  first_deployment TEXT NOT NULL, last_deployment TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS occurrence (
  number INTEGER PRIMARY KEY, id TEXT NOT NULL REFERENCES error_group ON DELETE CASCADE, ts_ms INTEGER NOT NULL,
  deployment TEXT NOT NULL, message TEXT NOT NULL, request_id TEXT, request TEXT, frames TEXT NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS occurrence_of ON occurrence (id, number);
";

/// Errors cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum ErrorsError {
    /// The database.
    #[error("the database of errors cannot be used")]
    Database(#[from] rusqlite::Error),
    /// A worker's log.
    #[error("cannot read {path}", path = path.display())]
    Log {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// The groups.
#[derive(Debug)]
pub struct Errors {
    database: Connection,
    positions: BTreeMap<String, Position>,
    maps: Maps,
}

impl Errors {
    /// Opens the groups in a folder, to add to them. The caller sees to it that it is the only one.
    pub fn open(folder: &Path) -> Result<Self, ErrorsError> {
        let database = Connection::open(folder.join("errors.db"))?;
        database.busy_timeout(Duration::from_secs(5))?;
        database.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -256; PRAGMA foreign_keys = ON;",
        )?;
        database.execute_batch(TABLES)?;
        let positions = database
            .prepare("SELECT name, position FROM source")?
            .query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?
            .collect::<Result<Vec<(String, String)>, _>>()?;
        Ok(Self {
            database,
            positions: positions
                .into_iter()
                .filter_map(|(name, text)| Some((name, serde_json::from_str(&text).ok()?)))
                .collect(),
            maps: Maps::default(),
        })
    }

    /// Opens them to look; `None` where there are none yet.
    pub fn look(folder: &Path) -> Result<Option<Self>, ErrorsError> {
        let path = folder.join("errors.db");
        if !path.exists() {
            return Ok(None);
        }
        let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        database.busy_timeout(Duration::from_secs(5))?;
        Ok(Some(Self {
            database,
            positions: BTreeMap::new(),
            maps: Maps::default(),
        }))
    }

    /// Adds what workers wrote since the last time. `bundles` says in which folder the workers of a deployment lie.
    pub fn tick(&mut self, logs: &Path, bundles: &BTreeMap<String, PathBuf>) -> Result<(), ErrorsError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| ErrorsError::Log { path, source }
        };
        let sources = Stream::Application.sources(logs).map_err(failed(logs))?;
        let gone: Vec<String> = self
            .positions
            .keys()
            .filter(|known| !sources.iter().any(|(name, _)| name == *known))
            .cloned()
            .collect();
        for name in gone {
            self.database
                .execute("DELETE FROM source WHERE name = ?1", params![name])?;
            self.positions.remove(&name);
        }
        for (name, path) in sources {
            loop {
                let chunk = source::read(&path, self.positions.get(&name), CHUNK).map_err(failed(&path))?;
                if self.positions.get(&name) == Some(&chunk.position) {
                    break;
                }
                self.add(&name, &chunk.bytes, bundles, &chunk.position)?;
                self.positions.insert(name.clone(), chunk.position);
            }
        }
        self.maps.clear();
        Ok(())
    }

    fn add(
        &mut self,
        unit: &str,
        bytes: &[u8],
        bundles: &BTreeMap<String, PathBuf>,
        position: &Position,
    ) -> Result<(), ErrorsError> {
        let (environment, deployment) = deployment(unit).unwrap_or_default();
        let transaction = self.database.transaction()?;
        for line in lines(bytes).filter(|line| memchr::memmem::find(line, MARK.as_bytes()).is_some()) {
            let line = String::from_utf8_lossy(line);
            let Some(text) = parse_text(&line) else { continue };
            let Some(exception) = parse(&text.message) else {
                continue;
            };
            let mut found = frames(&exception.stack);
            if let Some(bundle) = bundles.get(deployment) {
                self.maps
                    .apply(&bundle.join(exception.worker.as_ref()), &mut found);
            }
            let occurrence = Occurrence {
                ts_ms: text.ts,
                deployment: deployment.to_owned(),
                message: exception.message.clone().into_owned(),
                request_id: exception.request_id.as_deref().map(str::to_owned),
                request: request(&exception),
                frames: found,
            };
            insert(&transaction, environment, &exception, &occurrence)?;
        }
        transaction.execute(
            "INSERT INTO source (name, position) VALUES (?1, ?2)
             ON CONFLICT (name) DO UPDATE SET position = excluded.position",
            params![unit, serde_json::to_string(position).unwrap_or_default()],
        )?;
        transaction.commit()?;
        Ok(())
    }

    /// Forgets groups that were not seen for so many days.
    pub fn forget(&mut self, days: u32, now_ms: i64) -> Result<(), ErrorsError> {
        let before = now_ms - i64::from(days) * DAY_MS;
        self.database
            .execute("DELETE FROM error_group WHERE last_ms < ?1", params![before])?;
        Ok(())
    }

    /// The groups, the one that was seen last at the beginning.
    pub fn groups(&self, environment: Option<&str>, limit: u32) -> Result<Vec<Group>, ErrorsError> {
        let mut statement = self.database.prepare(
            "SELECT id, environment, worker, name, message, place, count, first_ms, last_ms, first_deployment,
             last_deployment FROM error_group WHERE ?1 IS NULL OR environment = ?1 ORDER BY last_ms DESC, id LIMIT ?2",
        )?;
        let groups = statement.query_map(params![environment, limit], |row| {
            let count: i64 = row.get(6)?;
            Ok(Group {
                id: row.get(0)?,
                environment: row.get(1)?,
                worker: row.get(2)?,
                name: row.get(3)?,
                message: row.get(4)?,
                place: row.get(5)?,
                count: u64::try_from(count).unwrap_or(0),
                first_ms: row.get(7)?,
                last_ms: row.get(8)?,
                first_deployment: row.get(9)?,
                last_deployment: row.get(10)?,
            })
        })?;
        Ok(groups.collect::<Result<_, _>>()?)
    }

    /// The last occurrences of a group, the newest first.
    pub fn occurrences(&self, id: &str) -> Result<Vec<Occurrence>, ErrorsError> {
        let mut statement = self.database.prepare(
            "SELECT ts_ms, deployment, message, request_id, request, frames FROM occurrence
             WHERE id = ?1 ORDER BY number DESC",
        )?;
        let found = statement.query_map(params![id], |row| {
            let frames: String = row.get(5)?;
            Ok(Occurrence {
                ts_ms: row.get(0)?,
                deployment: row.get(1)?,
                message: row.get(2)?,
                request_id: row.get(3)?,
                request: row.get(4)?,
                frames: serde_json::from_str(&frames).unwrap_or_default(),
            })
        })?;
        Ok(found.collect::<Result<_, _>>()?)
    }
}

fn request(exception: &Exception<'_>) -> Option<String> {
    Some(format!(
        "{} {}",
        exception.method.as_deref()?,
        exception.path.as_deref()?
    ))
}

fn insert(
    transaction: &Transaction<'_>,
    environment: &str,
    exception: &Exception<'_>,
    occurrence: &Occurrence,
) -> Result<(), ErrorsError> {
    let frames = &occurrence.frames;
    let id = group::id(
        environment,
        &exception.worker,
        &exception.name,
        &exception.message,
        frames,
    );
    let place = frames.first().map(|frame| {
        let function = frame
            .function
            .as_deref()
            .map_or_else(String::new, |name| format!(" ({name})"));
        format!("{}:{}:{}{function}", frame.file, frame.line, frame.column)
    });
    let known: Option<i64> = transaction
        .query_row(
            "SELECT count FROM error_group WHERE id = ?1",
            params![id],
            |row| row.get(0),
        )
        .optional()?;
    if known.is_some() {
        transaction.execute(
            "UPDATE error_group SET message = ?2, place = ?3, count = count + 1, last_ms = max(last_ms, ?4),
             last_deployment = ?5 WHERE id = ?1",
            params![
                id,
                exception.message,
                place,
                occurrence.ts_ms,
                occurrence.deployment
            ],
        )?;
    } else {
        transaction.execute(
            "DELETE FROM error_group WHERE id IN (
               SELECT id FROM error_group ORDER BY last_ms DESC LIMIT -1 OFFSET ?1)",
            params![MAX_GROUPS - 1],
        )?;
        transaction.execute(
            "INSERT INTO error_group VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1, ?7, ?7, ?8, ?8)",
            params![
                id,
                environment,
                exception.worker,
                exception.name,
                exception.message,
                place,
                occurrence.ts_ms,
                occurrence.deployment
            ],
        )?;
    }
    transaction.execute(
        "INSERT INTO occurrence (id, ts_ms, deployment, message, request_id, request, frames)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            id,
            occurrence.ts_ms,
            occurrence.deployment,
            occurrence.message,
            occurrence.request_id,
            occurrence.request,
            serde_json::to_string(frames).unwrap_or_default()
        ],
    )?;
    transaction.execute(
        "DELETE FROM occurrence WHERE id = ?1 AND number NOT IN (
           SELECT number FROM occurrence WHERE id = ?1 ORDER BY number DESC LIMIT ?2)",
        params![id, MAX_OCCURRENCES],
    )?;
    Ok(())
}
