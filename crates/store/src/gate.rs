//! How the gates of git trees stand, as runs told it.

use crate::database::{Fault, at_most, cut, integer, natural};
use crate::{MAX_ROWS, Store, StoreError};
use rusqlite::{Row, params};
use serde::Serialize;

const MAX_TREE: usize = 128;
const MAX_NAME: usize = 256;
const MAX_DETAIL: usize = 1024;
/// Records of trees without a release are kept for as many runs.
const RUNS_KEPT: u64 = 1_000;

/// How a gate stands in one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GateState {
    /// The run has a job or step of its name that has not ended.
    Expected,
    /// It passed.
    Passed,
    /// It did not.
    Failed,
    /// The run ended without it.
    Skipped,
}

/// What a run tells of a gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewGate<'a> {
    /// Its name.
    pub name: &'a str,
    /// How it stands.
    pub state: GateState,
    /// Which jobs or steps it is, or what was measured.
    pub detail: &'a str,
}

/// What is known of a gate from one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GateRecord {
    /// The git tree that ran.
    pub tree: String,
    /// Name of the gate.
    pub name: String,
    /// The run.
    pub run: u64,
    /// How it stands.
    pub state: GateState,
    /// Which jobs or steps it is, or what was measured.
    pub detail: String,
    /// When it came to stand so, in milliseconds since the Unix epoch.
    pub changed_ms: u64,
}

impl Store {
    /// Writes down what a run tells of its tree. What is expected takes the place of nothing.
    pub fn gates_put(
        &self,
        tree: &str,
        run: u64,
        gates: &[NewGate<'_>],
        now_ms: u64,
    ) -> Result<(), StoreError> {
        at_most("a tree", tree.as_bytes(), MAX_TREE)?;
        for gate in gates {
            at_most("a gate's name", gate.name.as_bytes(), MAX_NAME)?;
        }
        let (run, now) = (integer("a run", run)?, integer("a time", now_ms)?);
        self.write("write down gates", |t| {
            let sql = "INSERT INTO gate (tree, name, run, state, detail, changed_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                       ON CONFLICT (tree, name, run) DO UPDATE SET state = ?4, detail = ?5, changed_ms = ?6
                       WHERE ?4 <> 'expected' AND (state <> ?4 OR detail <> ?5)";
            let mut statement = t.prepare_cached(sql)?;
            for gate in gates {
                statement.execute(params![
                    tree,
                    gate.name,
                    run,
                    gate.state.name(),
                    cut(gate.detail, MAX_DETAIL),
                    now
                ])?;
            }
            Ok(())
        })
    }

    /// A run has ended: what it had promised and not told is skipped.
    pub fn gates_close(&self, run: u64, detail: &str, now_ms: u64) -> Result<(), StoreError> {
        let (run, now) = (integer("a run", run)?, integer("a time", now_ms)?);
        self.write("end the gates of a run", |t| {
            let sql = "UPDATE gate SET state = 'skipped', detail = ?2, changed_ms = ?3
                       WHERE run = ?1 AND state = 'expected'";
            t.prepare_cached(sql)?
                .execute(params![run, cut(detail, MAX_DETAIL), now])?;
            Ok(())
        })
    }

    /// What is known of the trees from which a release was built, the newest run first; at most 1,000 records.
    pub fn gates_of_release(&self, release: &str) -> Result<Vec<GateRecord>, StoreError> {
        self.read("read the gates of a release", |t| {
            let sql = "SELECT gate.tree, name, gate.run, state, detail, changed_ms FROM gate
                       JOIN release_source ON release_source.tree = gate.tree
                       WHERE release = ?1 ORDER BY gate.run DESC, name LIMIT ?2";
            let mut statement = t.prepare_cached(sql)?;
            let mut rows = statement.query(params![release, MAX_ROWS])?;
            let mut all = Vec::new();
            while let Some(row) = rows.next()? {
                all.push(record(row)?);
            }
            Ok(all)
        })
    }

    /// Forgets the sources of releases that are gone, and old gates of trees that no release was built from.
    pub fn gates_prune(&self, gone: &[String]) -> Result<(), StoreError> {
        self.write("forget old gates", |t| {
            let mut statement = t.prepare_cached("DELETE FROM release_source WHERE release = ?")?;
            for release in gone {
                statement.execute([release])?;
            }
            let kept = integer("a number of runs", RUNS_KEPT)?;
            let sql = "DELETE FROM gate WHERE run <= (SELECT max(run) FROM gate) - ?
                       AND tree NOT IN (SELECT tree FROM release_source)";
            t.prepare_cached(sql)?.execute([kept])?;
            Ok(())
        })
    }
}

impl GateState {
    const ALL: [Self; 4] = [Self::Expected, Self::Passed, Self::Failed, Self::Skipped];

    fn name(self) -> &'static str {
        match self {
            Self::Expected => "expected",
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

fn record(row: &Row<'_>) -> Result<GateRecord, Fault> {
    let state: String = row.get(3)?;
    let state = GateState::ALL
        .into_iter()
        .find(|known| known.name() == state)
        .ok_or_else(|| StoreError::Damaged {
            what: "a gate's state",
            reason: format!("`{state}` is unknown"),
        })?;
    Ok(GateRecord {
        tree: row.get(0)?,
        name: row.get(1)?,
        run: natural("a run", row.get(2)?)?,
        state,
        detail: row.get(4)?,
        changed_ms: natural("a time", row.get(5)?)?,
    })
}
