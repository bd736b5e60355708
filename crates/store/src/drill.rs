//! Drills: restores that were tried on purpose, and what they proved.

use crate::database::{Fault, at_most, cut, integer, natural};
use crate::{BackupState, Store, StoreError};
use rusqlite::{Row, params};

const MAX_CLUSTER: usize = 64;
const MAX_PROOF: usize = 64 << 10;
const MAX_ERROR: usize = 4 << 10;
/// Drills of each state that are remembered: a year of daily ones.
const KEPT: u32 = 400;
const COLUMNS: &str = "id, cluster, state, proof, error, started_ms, ended_ms";

/// One drill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrillRecord {
    /// Its number.
    pub id: u64,
    /// Of which cluster.
    pub cluster: String,
    /// How it stands.
    pub state: BackupState,
    /// What it proved, as JSON.
    pub proof: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
    /// When it was begun, in milliseconds since the Unix epoch.
    pub started_ms: u64,
    /// When it ended.
    pub ended_ms: Option<u64>,
}

impl Store {
    /// A drill begins; its number.
    pub fn drill_begin(&self, cluster: &str, now_ms: u64) -> Result<u64, StoreError> {
        at_most("the name of a cluster", cluster.as_bytes(), MAX_CLUSTER)?;
        let now = integer("a time", now_ms)?;
        self.write("write down a drill", |t| {
            let sql = "INSERT INTO drill (cluster, state, started_ms) VALUES (?, 'running', ?)";
            t.prepare_cached(sql)?.execute(params![cluster, now])?;
            Ok(natural("a drill's number", t.last_insert_rowid())?)
        })
    }

    /// It ended: with its proof, or with what went wrong. The first end counts.
    pub fn drill_end(&self, id: u64, end: Result<&str, &str>, now_ms: u64) -> Result<(), StoreError> {
        let (now, id) = (integer("a time", now_ms)?, integer("a drill's number", id)?);
        if let Ok(proof) = end {
            at_most("the proof of a drill", proof.as_bytes(), MAX_PROOF)?;
        }
        self.write("end a drill", |t| {
            let (state, proof, error) = match end {
                Ok(proof) => ("done", Some(proof), None),
                Err(error) => ("failed", None, Some(cut(error, MAX_ERROR))),
            };
            let sql = "UPDATE drill SET state = ?2, proof = ?3, error = ?4, ended_ms = ?5
                       WHERE id = ?1 AND state = 'running'";
            t.prepare_cached(sql)?
                .execute(params![id, state, proof, error, now])?;
            let sql = "DELETE FROM drill WHERE state = ?1 AND id NOT IN
                       (SELECT id FROM drill WHERE state = ?1 ORDER BY id DESC LIMIT ?2)";
            t.prepare_cached(sql)?.execute(params![state, KEPT])?;
            Ok(())
        })
    }

    /// Drills of a killed process proved nothing.
    pub fn drills_interrupted(&self, now_ms: u64) -> Result<u64, StoreError> {
        let now = integer("a time", now_ms)?;
        self.write("end interrupted drills", |t| {
            let sql =
                "UPDATE drill SET state = 'failed', error = 'interrupted', ended_ms = ? WHERE state = 'running'";
            Ok(t.prepare_cached(sql)?.execute([now])? as u64)
        })
    }

    /// The newest drill of a cluster; only one that proved something, where that is asked for.
    pub fn drill_newest(&self, cluster: &str, proven: bool) -> Result<Option<DrillRecord>, StoreError> {
        self.read("read a drill", |t| {
            let sql = format!(
                "SELECT {COLUMNS} FROM drill WHERE cluster = ?1 AND (NOT ?2 OR state = 'done')
                 ORDER BY id DESC LIMIT 1"
            );
            let mut statement = t.prepare_cached(&sql)?;
            let mut rows = statement.query(params![cluster, proven])?;
            rows.next()?.map(record).transpose()
        })
    }
}

fn record(row: &Row<'_>) -> Result<DrillRecord, Fault> {
    let state: String = row.get(2)?;
    Ok(DrillRecord {
        id: natural("a drill's number", row.get(0)?)?,
        cluster: row.get(1)?,
        state: match state.as_str() {
            "running" => BackupState::Running,
            "done" => BackupState::Done,
            _ => BackupState::Failed,
        },
        proof: row.get(3)?,
        error: row.get(4)?,
        started_ms: natural("a time", row.get(5)?)?,
        ended_ms: row
            .get::<_, Option<i64>>(6)?
            .map(|ms| natural("a time", ms))
            .transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_stays_the_newest_one_while_later_drills_fail_or_are_interrupted() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("control.db")).unwrap();
        assert_eq!(store.drill_newest("shared", false).unwrap(), None);
        let first = store.drill_begin("shared", 1).unwrap();
        store.drill_end(first, Ok("{\"rows\":7}"), 2).unwrap();
        store.drill_end(first, Err("late"), 3).unwrap();
        let second = store.drill_begin("shared", 4).unwrap();
        store.drill_end(second, Err("away"), 5).unwrap();
        store.drill_begin("shared", 6).unwrap();
        assert_eq!(store.drills_interrupted(7).unwrap(), 1);
        let newest = store.drill_newest("shared", false).unwrap().unwrap();
        assert_eq!(
            (newest.started_ms, newest.error.as_deref()),
            (6, Some("interrupted"))
        );
        let proven = store.drill_newest("shared", true).unwrap().unwrap();
        assert_eq!(
            (proven.id, proven.proof.as_deref()),
            (first, Some("{\"rows\":7}"))
        );
        assert_eq!(store.drill_newest("production", true).unwrap(), None);
    }
}
