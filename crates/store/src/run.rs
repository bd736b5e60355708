//! Runs of the pipeline: what was asked for, how far it is, how it ended.

use crate::database::{Fault, at_most, cut, integer, json, natural};
use crate::environment::parse as parse_environment;
use crate::{MAX_ROWS, Store, StoreError};
use astraler_model::Environment;
use rusqlite::{Row, Transaction, params};
use serde::Serialize;
use serde_json::Value;

const MAX_CAUSE: usize = 256 << 10;
const MAX_REPORT: usize = 4 << 20;
const MAX_ERROR: usize = 16 << 10;
const MAX_LINE: usize = 512;
const COLUMNS: &str = "id, state, conclusion, event, cause, line, environment, cancelling, report, error,
     created_ms, started_ms, ended_ms";

/// Where a run is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// The push that asks for it is under way, and may still be refused.
    Received,
    /// It waits for its turn.
    Queued,
    /// It runs.
    Running,
    /// It has a conclusion.
    Ended,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunConclusion {
    /// All of it did what it should.
    Success,
    /// Something of it did not, or it could not be run.
    Failure,
    /// It was told to end.
    Cancelled,
    /// Nothing of it had to run.
    Skipped,
    /// A newer one of its line came while it waited.
    Superseded,
}

/// A run that is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRun<'a> {
    /// `push`, `pull_request`…
    pub event: &'a str,
    /// What happened, in the caller's own words; no secret. At most 256 KiB.
    pub cause: &'a Value,
    /// Runs of one line wait for each other, and of those that wait the newest runs.
    pub line: &'a str,
    /// Where it deploys to.
    pub environment: Option<Environment>,
}

/// A run as it is known.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    /// Its number, never used twice.
    pub id: u64,
    /// Where it is in its life.
    pub state: RunState,
    /// How it ended.
    pub conclusion: Option<RunConclusion>,
    /// `push`, `pull_request`…
    pub event: String,
    /// What happened.
    pub cause: Value,
    /// Its line.
    pub line: String,
    /// Where it deploys to.
    pub environment: Option<Environment>,
    /// Somebody asked that it end.
    pub cancelling: bool,
    /// The pipeline's report.
    pub report: Option<Value>,
    /// Why it could not be run, or was superseded.
    pub error: Option<String>,
    /// When it was asked for, in milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// When it began.
    pub started_ms: Option<u64>,
    /// When it ended.
    pub ended_ms: Option<u64>,
}

impl Store {
    /// Writes down the runs that a push asks for, all or none; returns their numbers, in their order.
    pub fn runs_receive(&self, new: &[NewRun<'_>], now_ms: u64) -> Result<Vec<u64>, StoreError> {
        let now = integer("a time", now_ms)?;
        let mut texts = Vec::with_capacity(new.len());
        for run in new {
            let cause = run.cause.to_string();
            at_most("the cause of a run", cause.as_bytes(), MAX_CAUSE)?;
            at_most("the line of a run", run.line.as_bytes(), MAX_LINE)?;
            texts.push(cause);
        }
        self.write("write down a run", |t| {
            let sql = "INSERT INTO run (state, event, cause, line, environment, created_ms)
                       VALUES ('received', ?, ?, ?, ?, ?)";
            let mut numbers = Vec::with_capacity(new.len());
            for (run, cause) in new.iter().zip(&texts) {
                let environment = run.environment.map(|environment| environment.to_string());
                t.prepare_cached(sql)?
                    .execute(params![run.event, cause, run.line, environment, now])?;
                numbers.push(natural("a run's number", t.last_insert_rowid())?);
            }
            Ok(numbers)
        })
    }

    /// The push was taken: the run waits for its turn. One that is past that stays as it is.
    pub fn run_queue(&self, id: u64) -> Result<(), StoreError> {
        self.run_update(
            "queue a run",
            "UPDATE run SET state = 'queued' WHERE id = ?1 AND state = 'received'",
            id,
        )
    }

    /// The push was refused: the run was never asked for.
    pub fn run_forget(&self, id: u64) -> Result<(), StoreError> {
        self.run_update(
            "forget a run",
            "DELETE FROM run WHERE id = ?1 AND state = 'received'",
            id,
        )
    }

    /// Somebody asked that the run end. One that has ended stays as it is; says whether it had not.
    pub fn run_cancel(&self, id: u64) -> Result<bool, StoreError> {
        self.write("cancel a run", |t| {
            let sql = "UPDATE run SET cancelling = 1 WHERE id = ? AND state IN ('queued', 'running')";
            Ok(t.prepare_cached(sql)?.execute([integer("a run's number", id)?])? > 0)
        })
    }

    /// The run is about to begin. Beginning again what began before changes nothing.
    pub fn run_start(&self, id: u64, now_ms: u64) -> Result<(), StoreError> {
        let operation = "start a run";
        let now = integer("a time", now_ms)?;
        self.write(operation, |t| {
            let run = get(t, id)?;
            match run.state {
                RunState::Running => Ok(()),
                RunState::Queued => {
                    let sql = "UPDATE run SET state = 'running', started_ms = ?2 WHERE id = ?1";
                    t.prepare_cached(sql)?
                        .execute(params![integer("a run's number", id)?, now])?;
                    Ok(())
                }
                state => {
                    let reason = format!("run {id} is {state:?}");
                    Err(StoreError::Refused { operation, reason }.into())
                }
            }
        })
    }

    /// The run has ended. The first end counts.
    pub fn run_end(
        &self,
        id: u64,
        conclusion: RunConclusion,
        report: Option<&Value>,
        error: Option<&str>,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let now = integer("a time", now_ms)?;
        let report = report.map(Value::to_string);
        at_most(
            "a run's report",
            report.as_deref().unwrap_or_default().as_bytes(),
            MAX_REPORT,
        )?;
        let error = error.map(|error| cut(error, MAX_ERROR));
        self.write("end a run", |t| {
            let sql =
                "UPDATE run SET state = 'ended', conclusion = ?2, report = ?3, error = ?4, ended_ms = ?5
                       WHERE id = ?1 AND state <> 'ended'";
            t.prepare_cached(sql)?.execute(params![
                integer("a run's number", id)?,
                conclusion.name(),
                report,
                error,
                now
            ])?;
            Ok(())
        })
    }

    /// One run.
    pub fn run(&self, id: u64) -> Result<Run, StoreError> {
        self.read("read a run", |t| get(t, id))
    }

    /// The newest runs, newest first; of one line, or of all.
    pub fn runs(&self, line: Option<&str>, limit: u32) -> Result<Vec<Run>, StoreError> {
        self.read("list runs", |t| {
            let sql = format!(
                "SELECT {COLUMNS} FROM run WHERE state <> 'received' AND (?1 IS NULL OR line = ?1)
                 ORDER BY id DESC LIMIT ?2"
            );
            all(t, &sql, params![line, limit.min(MAX_ROWS)])
        })
    }

    /// Runs that have not ended, oldest first.
    pub fn runs_open(&self) -> Result<Vec<Run>, StoreError> {
        self.read("list open runs", |t| {
            let sql = format!("SELECT {COLUMNS} FROM run WHERE state <> 'ended' ORDER BY id LIMIT ?");
            all(t, &sql, params![MAX_ROWS])
        })
    }

    /// Deletes ended runs but for the newest `keep`; returns their numbers.
    pub fn runs_prune(&self, keep: u32) -> Result<Vec<u64>, StoreError> {
        self.write("prune runs", |t| {
            let sql = "DELETE FROM run WHERE id IN
                       (SELECT id FROM run WHERE state = 'ended' ORDER BY id DESC LIMIT -1 OFFSET ?) RETURNING id";
            let mut statement = t.prepare_cached(sql)?;
            let ids = statement
                .query_map([keep], |row| row.get(0))?
                .collect::<Result<Vec<i64>, _>>()?;
            let ids = ids.into_iter().map(|id| natural("a run's number", id));
            Ok(ids.collect::<Result<Vec<_>, _>>()?)
        })
    }

    fn run_update(&self, operation: &'static str, sql: &str, id: u64) -> Result<(), StoreError> {
        self.write(operation, |t| {
            t.prepare_cached(sql)?.execute([integer("a run's number", id)?])?;
            Ok(())
        })
    }
}

impl RunState {
    const ALL: [Self; 4] = [Self::Received, Self::Queued, Self::Running, Self::Ended];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Ended => "ended",
        }
    }
}

impl RunConclusion {
    const ALL: [Self; 5] = [
        Self::Success,
        Self::Failure,
        Self::Cancelled,
        Self::Skipped,
        Self::Superseded,
    ];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
            Self::Superseded => "superseded",
        }
    }
}

fn get(t: &Transaction<'_>, id: u64) -> Result<Run, Fault> {
    let mut statement = t.prepare_cached(&format!("SELECT {COLUMNS} FROM run WHERE id = ?"))?;
    let mut rows = statement.query([integer("a run's number", id)?])?;
    match rows.next()? {
        Some(row) => run(row),
        None => Err(StoreError::NotFound {
            what: format!("run {id}"),
        }
        .into()),
    }
}

fn all(t: &Transaction<'_>, sql: &str, parameters: impl rusqlite::Params) -> Result<Vec<Run>, Fault> {
    let mut statement = t.prepare_cached(sql)?;
    let mut rows = statement.query(parameters)?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        all.push(run(row)?);
    }
    Ok(all)
}

fn run(row: &Row<'_>) -> Result<Run, Fault> {
    let (id, state, conclusion): (i64, String, Option<String>) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let (cause, environment, report): (String, Option<String>, Option<String>) =
        (row.get(4)?, row.get(6)?, row.get(8)?);
    let unknown = |what, word: &str| StoreError::Damaged {
        what,
        reason: format!("`{word}` is unknown"),
    };
    let time = |index| -> Result<Option<u64>, Fault> {
        let ms = row.get::<_, Option<i64>>(index)?;
        Ok(ms.map(|ms| natural("a time", ms)).transpose()?)
    };
    Ok(Run {
        id: natural("a run's number", id)?,
        state: RunState::ALL
            .into_iter()
            .find(|known| known.name() == state)
            .ok_or_else(|| unknown("a run's state", &state))?,
        conclusion: match conclusion {
            None => None,
            Some(word) => Some(
                RunConclusion::ALL
                    .into_iter()
                    .find(|known| known.name() == word)
                    .ok_or_else(|| unknown("a run's conclusion", &word))?,
            ),
        },
        event: row.get(3)?,
        cause: json("the cause of a run", &cause)?,
        line: row.get(5)?,
        environment: environment.map(|name| parse_environment(&name)).transpose()?,
        cancelling: row.get(7)?,
        report: report.map(|report| json("a run's report", &report)).transpose()?,
        error: row.get(9)?,
        created_ms: time(10)?.unwrap_or_default(),
        started_ms: time(11)?,
        ended_ms: time(12)?,
    })
}
