//! The journal: what was meant before it is done, what came of it after. From any prefix of it the next run
//! knows what may have happened in the world, and resumes or rolls back.

use crate::database::{Fault, at_most, cut, integer, json, natural};
use crate::{MAX_ROWS, Store, StoreError};
use rusqlite::{OptionalExtension, Transaction, params};
use serde::Serialize;
use serde_json::Value;
use std::fmt;

const MAX_STEPS: usize = 1000;
const MAX_NAME: usize = 256;
const MAX_DETAIL: usize = 64 << 10;
const MAX_ERROR: usize = 8 << 10;

/// Names one operation in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct OperationId(i64);

/// One step of a plan, before it is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepDescription {
    /// What a person reads: `start postgres-shared`.
    pub name: String,
    /// What the next run needs to find out whether it happened, or to undo it. Never a secret. At most 64 KiB.
    pub detail: Value,
}

/// How a step or a whole operation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is done. An operation is done when each of its steps is done or was skipped.
    Done,
    /// It failed; what it had done so far may still be there.
    Failed {
        /// Why, for a person; the first 8 KiB are kept.
        error: String,
    },
    /// There was nothing to do.
    Skipped,
    /// What it had done was undone.
    RolledBack,
}

/// How far a step has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Nothing was begun.
    Planned,
    /// It was begun: anything between nothing and all of it may have happened.
    Intended,
    /// It is done.
    Done,
    /// It ended with an error.
    Failed,
    /// There was nothing to do.
    Skipped,
    /// Its undoing was begun.
    Undoing,
    /// It was undone.
    RolledBack,
}

/// An operation as the journal has it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Operation {
    /// Its id.
    pub id: OperationId,
    /// `up`, `down`, `deploy`…
    pub kind: String,
    /// What it is about, for example an environment.
    pub subject: String,
    /// When it began, in milliseconds since the Unix epoch.
    pub started_ms: u64,
    /// When it ended; absent while it runs, or when it was interrupted.
    pub ended_ms: Option<u64>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Its steps, in order.
    pub steps: Vec<Step>,
}

/// A step as the journal has it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// Its name, as planned.
    pub name: String,
    /// Its detail, as planned.
    pub detail: Value,
    /// How far it has come.
    pub state: StepState,
    /// How often it was begun.
    pub attempts: u64,
    /// When it was begun the last time.
    pub intent_ms: Option<u64>,
    /// When its last result was recorded.
    pub result_ms: Option<u64>,
    /// Why it failed, in state [`StepState::Failed`].
    pub error: Option<String>,
    /// What the step itself wrote down with its result.
    pub data: Option<Value>,
}

impl Store {
    /// Writes down a whole plan before its first step. At most 1,000 steps.
    pub fn operation_begin(
        &self,
        kind: &str,
        subject: &str,
        plan: &[StepDescription],
        now_ms: u64,
    ) -> Result<OperationId, StoreError> {
        at_most("the kind of an operation", kind.as_bytes(), MAX_NAME)?;
        at_most("the subject of an operation", subject.as_bytes(), MAX_NAME)?;
        if plan.len() > MAX_STEPS {
            return Err(StoreError::TooLarge {
                what: "a plan (in steps)",
                bytes: plan.len(),
                limit: MAX_STEPS,
            });
        }
        let mut details = Vec::with_capacity(plan.len());
        for step in plan {
            at_most("the name of a step", step.name.as_bytes(), MAX_NAME)?;
            let detail = step.detail.to_string();
            at_most("the detail of a step", detail.as_bytes(), MAX_DETAIL)?;
            details.push(detail);
        }
        let now = integer("a time", now_ms)?;
        self.write("begin an operation", |t| {
            t.prepare_cached("INSERT INTO operation (kind, subject, started_ms) VALUES (?, ?, ?)")?
                .execute(params![kind, subject, now])?;
            let id = t.last_insert_rowid();
            let sql = "INSERT INTO operation_step (operation, position, name, detail) VALUES (?, ?, ?, ?)";
            let mut insert = t.prepare_cached(sql)?;
            for (position, (step, detail)) in plan.iter().zip(&details).enumerate() {
                insert.execute(params![id, position as i64, step.name, detail])?;
            }
            Ok(OperationId(id))
        })
    }

    /// Records that a step is about to be taken: on disk before it is. Allowed again after a failure, an
    /// interruption or a rollback (the step is then taken once more).
    pub fn step_intent(&self, operation: OperationId, index: usize, now_ms: u64) -> Result<(), StoreError> {
        use StepState::{Failed, Intended, Planned, RolledBack};
        let from = [Planned, Intended, Failed, RolledBack];
        self.begin_step(
            operation,
            index,
            now_ms,
            &from,
            Intended,
            "record a step's intent",
        )
    }

    /// Records that a step is about to be undone: on disk before it is.
    pub fn step_undo_intent(
        &self,
        operation: OperationId,
        index: usize,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        use StepState::{Done, Failed, Intended, Undoing};
        let from = [Intended, Done, Failed, Undoing];
        self.begin_step(
            operation,
            index,
            now_ms,
            &from,
            Undoing,
            "record that a step is undone",
        )
    }

    /// Records what came of a step, after it. `Done` and `Failed` need an intent; `Skipped` can be said without one.
    /// `data` is for the step itself (a process id, an address), never a secret; at most 64 KiB.
    pub fn step_result(
        &self,
        operation: OperationId,
        index: usize,
        outcome: &Outcome,
        data: Option<&Value>,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        use StepState::{Done, Failed, Intended, Planned, RolledBack, Skipped, Undoing};
        let (state, from): (_, &[StepState]) = match outcome {
            Outcome::Done => (Done, &[Intended]),
            Outcome::Failed { .. } => (Failed, &[Intended, Undoing]),
            Outcome::Skipped => (Skipped, &[Planned, Intended]),
            Outcome::RolledBack => (RolledBack, &[Intended, Done, Failed, Undoing]),
        };
        let data = data.map(Value::to_string);
        at_most(
            "the data of a step",
            data.as_deref().unwrap_or_default().as_bytes(),
            MAX_DETAIL,
        )?;
        let now = integer("a time", now_ms)?;
        let what = "record a step's result";
        self.write(what, |t| {
            check_step(t, operation, index, from, what)?;
            let sql =
                "UPDATE operation_step SET state = ?3, result_ms = ?4, error = ?5, data = coalesce(?6, data)
                       WHERE operation = ?1 AND position = ?2";
            t.prepare_cached(sql)?.execute(params![
                operation.0,
                index as i64,
                state.name(),
                now,
                error_of(outcome),
                data
            ])?;
            Ok(())
        })
    }

    /// Records the end of an operation. `Done` is refused while a step is neither done nor skipped: the journal
    /// cannot say more than its steps do.
    pub fn operation_end(
        &self,
        operation: OperationId,
        outcome: &Outcome,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let what = "end an operation";
        let refused = |reason: String| StoreError::Refused {
            operation: what,
            reason,
        };
        let now = integer("a time", now_ms)?;
        self.write(what, |t| {
            check_open(t, operation, what)?;
            if *outcome == Outcome::Done {
                let sql = "SELECT name, state FROM operation_step
                           WHERE operation = ? AND state NOT IN ('done', 'skipped') ORDER BY position LIMIT 1";
                let open: Option<(String, String)> =
                    t.prepare_cached(sql)?.query_row([operation.0], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
                if let Some((name, state)) = open {
                    return Err(refused(format!("step `{name}` is {state}, not done")).into());
                }
            }
            t.prepare_cached("UPDATE operation SET ended_ms = ?2, outcome = ?3, error = ?4 WHERE id = ?1")?
                .execute(params![operation.0, now, outcome_name(outcome), error_of(outcome)])?;
            Ok(())
        })
    }

    /// The operations that have no end: running now, or interrupted. Oldest first, at most 1,000.
    pub fn unfinished(&self) -> Result<Vec<Operation>, StoreError> {
        self.read("read unfinished operations", |t| {
            let sql = "SELECT id FROM operation WHERE ended_ms IS NULL ORDER BY id LIMIT ?";
            let ids = t
                .prepare_cached(sql)?
                .query_map([MAX_ROWS], |row| row.get(0))?
                .collect::<Result<Vec<_>, _>>()?;
            ids.into_iter().map(|id| load(t, OperationId(id))).collect()
        })
    }

    /// The newest operations, newest first.
    pub fn operations(&self, limit: u32) -> Result<Vec<Operation>, StoreError> {
        self.read("read operations", |t| {
            let mut statement = t.prepare_cached("SELECT id FROM operation ORDER BY id DESC LIMIT ?")?;
            let ids = statement
                .query_map([limit.min(MAX_ROWS)], |row| row.get(0))?
                .collect::<Result<Vec<_>, _>>()?;
            ids.into_iter().map(|id| load(t, OperationId(id))).collect()
        })
    }

    /// One operation.
    pub fn operation(&self, id: OperationId) -> Result<Operation, StoreError> {
        self.read("read an operation", |t| load(t, id))
    }

    /// Deletes ended operations but for the newest `keep`; returns how many went.
    pub fn operations_prune(&self, keep: u32) -> Result<u64, StoreError> {
        self.write("prune the journal", |t| {
            let sql = "DELETE FROM operation WHERE ended_ms IS NOT NULL AND id NOT IN
                       (SELECT id FROM operation WHERE ended_ms IS NOT NULL ORDER BY id DESC LIMIT ?)";
            Ok(t.prepare_cached(sql)?.execute([keep])? as u64)
        })
    }

    fn begin_step(
        &self,
        operation: OperationId,
        index: usize,
        now_ms: u64,
        from: &[StepState],
        to: StepState,
        what: &'static str,
    ) -> Result<(), StoreError> {
        let now = integer("a time", now_ms)?;
        self.write(what, |t| {
            check_step(t, operation, index, from, what)?;
            let sql = "UPDATE operation_step SET state = ?3, intent_ms = ?4, result_ms = NULL, error = NULL,
                       attempts = attempts + (?3 = 'intended') WHERE operation = ?1 AND position = ?2";
            t.prepare_cached(sql)?
                .execute(params![operation.0, index as i64, to.name(), now])?;
            Ok(())
        })
    }
}

fn check_open(t: &Transaction<'_>, operation: OperationId, what: &'static str) -> Result<(), Fault> {
    let mut statement = t.prepare_cached("SELECT outcome FROM operation WHERE id = ?")?;
    let outcome: Option<Option<String>> = statement.query_row([operation.0], |row| row.get(0)).optional()?;
    match outcome {
        None => Err(StoreError::NotFound {
            what: format!("operation {operation}"),
        }
        .into()),
        Some(None) => Ok(()),
        Some(Some(outcome)) => {
            let reason = format!("operation {operation} has ended ({outcome})");
            Err(StoreError::Refused {
                operation: what,
                reason,
            }
            .into())
        }
    }
}

fn check_step(
    t: &Transaction<'_>,
    operation: OperationId,
    index: usize,
    from: &[StepState],
    what: &'static str,
) -> Result<(), Fault> {
    check_open(t, operation, what)?;
    let mut statement =
        t.prepare_cached("SELECT state FROM operation_step WHERE operation = ? AND position = ?")?;
    let state: Option<String> = statement
        .query_row(params![operation.0, index as i64], |row| row.get(0))
        .optional()?;
    let state = state.ok_or_else(|| StoreError::NotFound {
        what: format!("step {index} of operation {operation}"),
    })?;
    if from.contains(&StepState::parse(&state)?) {
        return Ok(());
    }
    let reason = format!("step {index} of operation {operation} is {state}");
    Err(StoreError::Refused {
        operation: what,
        reason,
    }
    .into())
}

fn load(t: &Transaction<'_>, id: OperationId) -> Result<Operation, Fault> {
    let sql = "SELECT kind, subject, started_ms, ended_ms, outcome, error FROM operation WHERE id = ?";
    type Row = (String, String, i64, Option<i64>, Option<String>, Option<String>);
    let row: Option<Row> = t
        .prepare_cached(sql)?
        .query_row([id.0], |r| {
            Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?, r.get(5)?))
        })
        .optional()?;
    let (kind, subject, started, ended, outcome, error) = row.ok_or_else(|| StoreError::NotFound {
        what: format!("operation {id}"),
    })?;
    let sql = "SELECT name, detail, state, attempts, intent_ms, result_ms, error, data
               FROM operation_step WHERE operation = ? ORDER BY position";
    let mut statement = t.prepare_cached(sql)?;
    let mut rows = statement.query([id.0])?;
    let mut steps = Vec::new();
    while let Some(row) = rows.next()? {
        let data: Option<String> = row.get(7)?;
        steps.push(Step {
            name: row.get(0)?,
            detail: json(
                "a step's detail",
                row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?,
            )?,
            state: StepState::parse(row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?)?,
            attempts: natural("a count of attempts", row.get(3)?)?,
            intent_ms: row
                .get::<_, Option<i64>>(4)?
                .map(|ms| natural("a time", ms))
                .transpose()?,
            result_ms: row
                .get::<_, Option<i64>>(5)?
                .map(|ms| natural("a time", ms))
                .transpose()?,
            error: row.get(6)?,
            data: data.map(|text| json("a step's data", &text)).transpose()?,
        });
    }
    let outcome = outcome.map(|name| match name.as_str() {
        "done" => Ok(Outcome::Done),
        "failed" => Ok(Outcome::Failed {
            error: error.unwrap_or_default(),
        }),
        "skipped" => Ok(Outcome::Skipped),
        "rolled_back" => Ok(Outcome::RolledBack),
        _ => Err(StoreError::Damaged {
            what: "an outcome",
            reason: format!("`{name}` is unknown"),
        }),
    });
    Ok(Operation {
        id,
        kind,
        subject,
        started_ms: natural("a time", started)?,
        ended_ms: ended.map(|ms| natural("a time", ms)).transpose()?,
        outcome: outcome.transpose()?,
        steps,
    })
}

fn outcome_name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Done => "done",
        Outcome::Failed { .. } => "failed",
        Outcome::Skipped => "skipped",
        Outcome::RolledBack => "rolled_back",
    }
}

fn error_of(outcome: &Outcome) -> Option<&str> {
    match outcome {
        Outcome::Failed { error } => Some(cut(error, MAX_ERROR)),
        _ => None,
    }
}

impl StepState {
    const ALL: [Self; 7] = [
        Self::Planned,
        Self::Intended,
        Self::Done,
        Self::Failed,
        Self::Skipped,
        Self::Undoing,
        Self::RolledBack,
    ];

    /// The word for it: `planned`, `intended`, `done`, `failed`, `skipped`, `undoing`, `rolled_back`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Intended => "intended",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Undoing => "undoing",
            Self::RolledBack => "rolled_back",
        }
    }

    fn parse(text: &str) -> Result<Self, StoreError> {
        Self::ALL
            .into_iter()
            .find(|state| state.name() == text)
            .ok_or_else(|| StoreError::Damaged {
                what: "a step's state",
                reason: format!("`{text}` is unknown"),
            })
    }
}

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
