//! Backups: what was tried, and what came of it; and how far the log of each cluster is away from here.

use crate::database::{Fault, at_most, cut, integer, natural};
use crate::{MAX_ROWS, Store, StoreError};
use rusqlite::{OptionalExtension, Row, params};
use serde::Serialize;

const MAX_SUBJECT: usize = 256;
const MAX_ERROR: usize = 4 << 10;
/// Failures that are remembered; what is done goes with its set.
const FAILURES_KEPT: u32 = 200;
const COLUMNS: &str = "id, kind, subject, state, location, sha256, bytes, error, started_ms, ended_ms";

/// How a backup stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BackupState {
    /// It is being made.
    Running,
    /// It is at the destination.
    Done,
    /// It was not made.
    Failed,
}

/// One backup that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackupRecord {
    /// Its number.
    pub id: u64,
    /// `base`, `dump`…
    pub kind: String,
    /// The cluster, or the database.
    pub subject: String,
    /// How it stands.
    pub state: BackupState,
    /// Its folder at the destination.
    pub location: Option<String>,
    /// SHA-256 of its description.
    pub sha256: Option<String>,
    /// Its size.
    pub bytes: Option<u64>,
    /// Why it was not made.
    pub error: Option<String>,
    /// When it was begun, in milliseconds since the Unix epoch.
    pub started_ms: u64,
    /// When it ended.
    pub ended_ms: Option<u64>,
}

/// A backup that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewBackup<'a> {
    /// Its folder at the destination.
    pub location: &'a str,
    /// SHA-256 of its description.
    pub sha256: &'a str,
    /// Its size.
    pub bytes: u64,
}

/// How far the log of a cluster is at the destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ArchiveRecord {
    /// Which cluster.
    pub cluster: String,
    /// The last segment that is there.
    pub segment: Option<String>,
    /// When that was finished.
    pub archived_ms: Option<u64>,
    /// Files that wait on this machine.
    pub waiting: u64,
    /// The first segment that was left out for want of room.
    pub gap: Option<String>,
    /// Why nothing goes there now.
    pub error: Option<String>,
    /// When this was last known.
    pub changed_ms: u64,
}

impl Store {
    /// A backup begins.
    pub fn backup_begin(&self, kind: &str, subject: &str, now_ms: u64) -> Result<u64, StoreError> {
        at_most("the subject of a backup", subject.as_bytes(), MAX_SUBJECT)?;
        let now = integer("a time", now_ms)?;
        self.write("write down a backup", |t| {
            let sql = "INSERT INTO backup (kind, subject, state, started_ms) VALUES (?, ?, 'running', ?)";
            t.prepare_cached(sql)?.execute(params![kind, subject, now])?;
            Ok(natural("a backup's number", t.last_insert_rowid())?)
        })
    }

    /// It ended, well or not. The first end counts.
    pub fn backup_end(
        &self,
        id: u64,
        made: Result<&NewBackup<'_>, &str>,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let (now, id) = (integer("a time", now_ms)?, integer("a backup's number", id)?);
        self.write("end a backup", |t| {
            match made {
                Ok(made) => {
                    let sql = "UPDATE backup SET state = 'done', location = ?2, sha256 = ?3, bytes = ?4, ended_ms = ?5
                               WHERE id = ?1 AND state = 'running'";
                    let bytes = integer("a backup's size", made.bytes)?;
                    t.prepare_cached(sql)?
                        .execute(params![id, made.location, made.sha256, bytes, now])?;
                }
                Err(error) => {
                    let sql = "UPDATE backup SET state = 'failed', error = ?2, ended_ms = ?3
                               WHERE id = ?1 AND state = 'running'";
                    t.prepare_cached(sql)?
                        .execute(params![id, cut(error, MAX_ERROR), now])?;
                }
            }
            let sql = "DELETE FROM backup WHERE state = 'failed' AND id NOT IN
                       (SELECT id FROM backup WHERE state = 'failed' ORDER BY id DESC LIMIT ?)";
            t.prepare_cached(sql)?.execute([FAILURES_KEPT])?;
            Ok(())
        })
    }

    /// Backups that a killed process was making are none.
    pub fn backups_interrupted(&self, now_ms: u64) -> Result<u64, StoreError> {
        let now = integer("a time", now_ms)?;
        self.write("end interrupted backups", |t| {
            let sql = "UPDATE backup SET state = 'failed', error = 'interrupted', ended_ms = ?
                       WHERE state = 'running'";
            Ok(t.prepare_cached(sql)?.execute([now])? as u64)
        })
    }

    /// The newest backups, newest first; of one kind, or of all.
    pub fn backups(&self, kind: Option<&str>, limit: u32) -> Result<Vec<BackupRecord>, StoreError> {
        self.read("list backups", |t| {
            let sql = format!(
                "SELECT {COLUMNS} FROM backup WHERE ?1 IS NULL OR kind = ?1 ORDER BY id DESC LIMIT ?2"
            );
            let mut statement = t.prepare_cached(&sql)?;
            let mut rows = statement.query(params![kind, limit.min(MAX_ROWS)])?;
            let mut all = Vec::new();
            while let Some(row) = rows.next()? {
                all.push(record(row)?);
            }
            Ok(all)
        })
    }

    /// The newest backups of one subject that were made, newest first.
    pub fn backups_done(
        &self,
        kind: &str,
        subject: &str,
        limit: u32,
    ) -> Result<Vec<BackupRecord>, StoreError> {
        self.read("list backups of a subject", |t| {
            let sql = format!(
                "SELECT {COLUMNS} FROM backup WHERE kind = ? AND subject = ? AND state = 'done'
                 ORDER BY id DESC LIMIT ?"
            );
            let mut statement = t.prepare_cached(&sql)?;
            let mut rows = statement.query(params![kind, subject, limit.min(MAX_ROWS)])?;
            let mut all = Vec::new();
            while let Some(row) = rows.next()? {
                all.push(record(row)?);
            }
            Ok(all)
        })
    }

    /// Sets that are no longer at the destination.
    pub fn backups_forget(&self, locations: &[String]) -> Result<(), StoreError> {
        self.write("forget backups", |t| {
            let mut delete = t.prepare_cached("DELETE FROM backup WHERE location = ?")?;
            for location in locations {
                delete.execute([location])?;
            }
            Ok(())
        })
    }

    /// How far a cluster's log is. What is not known now stays as it was.
    pub fn archive_set(&self, record: &ArchiveRecord) -> Result<(), StoreError> {
        let archived = record.archived_ms.map(|ms| integer("a time", ms)).transpose()?;
        let (waiting, now) = (
            integer("a count", record.waiting)?,
            integer("a time", record.changed_ms)?,
        );
        self.write("write down how far the log is", |t| {
            let sql = "INSERT INTO backup_archive (cluster, segment, archived_ms, waiting, gap, error, changed_ms)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                       ON CONFLICT (cluster) DO UPDATE SET segment = coalesce(?2, segment),
                         archived_ms = coalesce(?3, archived_ms), waiting = ?4, gap = ?5, error = ?6, changed_ms = ?7";
            t.prepare_cached(sql)?.execute(params![
                record.cluster,
                record.segment,
                archived,
                waiting,
                record.gap,
                record.error.as_deref().map(|error| cut(error, MAX_ERROR)),
                now
            ])?;
            Ok(())
        })
    }

    /// How far a cluster's log is.
    pub fn archive(&self, cluster: &str) -> Result<Option<ArchiveRecord>, StoreError> {
        self.read("read how far the log is", |t| {
            let sql = "SELECT cluster, segment, archived_ms, waiting, gap, error, changed_ms
                       FROM backup_archive WHERE cluster = ?";
            let row = t.prepare_cached(sql)?.query_row([cluster], |row| {
                Ok((
                    row.get::<_, String>(0)?,
                    row.get(1)?,
                    row.get::<_, Option<i64>>(2)?,
                    row.get::<_, i64>(3)?,
                    row.get(4)?,
                    row.get(5)?,
                    row.get::<_, i64>(6)?,
                ))
            });
            let Some((cluster, segment, archived, waiting, gap, error, changed)) = row.optional()? else {
                return Ok(None);
            };
            Ok(Some(ArchiveRecord {
                cluster,
                segment,
                archived_ms: archived.map(|ms| natural("a time", ms)).transpose()?,
                waiting: natural("a count", waiting)?,
                gap,
                error,
                changed_ms: natural("a time", changed)?,
            }))
        })
    }
}

fn record(row: &Row<'_>) -> Result<BackupRecord, Fault> {
    let state: String = row.get(3)?;
    let number = |index, what| -> Result<Option<u64>, Fault> {
        let value = row.get::<_, Option<i64>>(index)?;
        Ok(value.map(|value| natural(what, value)).transpose()?)
    };
    Ok(BackupRecord {
        id: natural("a backup's number", row.get(0)?)?,
        kind: row.get(1)?,
        subject: row.get(2)?,
        state: match state.as_str() {
            "running" => BackupState::Running,
            "done" => BackupState::Done,
            _ => BackupState::Failed,
        },
        location: row.get(4)?,
        sha256: row.get(5)?,
        bytes: number(6, "a backup's size")?,
        error: row.get(7)?,
        started_ms: natural("a time", row.get(8)?)?,
        ended_ms: number(9, "a time")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_is_done_once_and_one_that_was_interrupted_never() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("control.db")).unwrap();
        let first = store.backup_begin("dump", "staging", 1).unwrap();
        let second = store.backup_begin("dump", "staging", 2).unwrap();
        let made = NewBackup {
            location: "dump/staging/a",
            sha256: "ab",
            bytes: 7,
        };
        store.backup_end(first, Ok(&made), 3).unwrap();
        store.backup_end(first, Err("late"), 4).unwrap();
        assert_eq!(store.backups_interrupted(5).unwrap(), 1);
        let all = store.backups(Some("dump"), 10).unwrap();
        assert_eq!((all[0].id, all[0].state), (second, BackupState::Failed));
        assert_eq!((all[1].state, all[1].bytes), (BackupState::Done, Some(7)));
        assert_eq!(store.backups_done("dump", "staging", 10).unwrap().len(), 1);
        store.backups_forget(&["dump/staging/a".to_owned()]).unwrap();
        assert_eq!(store.backups_done("dump", "staging", 10).unwrap(), []);
    }

    #[test]
    fn what_is_not_known_now_of_the_log_stays_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("control.db")).unwrap();
        let mut record = ArchiveRecord {
            cluster: "shared".into(),
            segment: Some("000000010000000000000002".into()),
            archived_ms: Some(5),
            waiting: 0,
            gap: None,
            error: None,
            changed_ms: 6,
        };
        store.archive_set(&record).unwrap();
        let later = ArchiveRecord {
            segment: None,
            archived_ms: None,
            waiting: 3,
            error: Some("away".into()),
            changed_ms: 7,
            ..record.clone()
        };
        store.archive_set(&later).unwrap();
        record.waiting = 3;
        record.error = Some("away".into());
        record.changed_ms = 7;
        assert_eq!(store.archive("shared").unwrap(), Some(record));
        assert_eq!(store.archive("production").unwrap(), None);
    }
}
