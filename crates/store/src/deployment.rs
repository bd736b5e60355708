//! Deployments: one release with one configuration in one environment. Both are kept together, so that going
//! back brings back code, variables, routes and rules together.

use crate::database::{Fault, at_most, cut, integer, json, natural};
use crate::environment::parse as parse_environment;
use crate::{MAX_ROWS, Store, StoreError};
use astraler_model::Environment;
use rusqlite::{OptionalExtension, Row, Transaction, params};
use serde::Serialize;
use serde_json::Value;
use std::fmt;
use std::str::FromStr;

const MAX_RELEASE: usize = 256;
const MAX_CONFIGURATION: usize = 1 << 20;
const MAX_ERROR: usize = 8 << 10;
const MAX_ACTOR: usize = 256;
const MAX_ORIGIN: usize = 64 << 10;
const COLUMNS: &str =
    "id, environment, generation, release, configuration, actor, origin, state, error, created_ms,
     switched_ms, ended_ms";

/// Names a deployment: `d-` and a number that is never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(into = "String")]
pub struct DeploymentId(pub(crate) i64);

/// Where a deployment is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeploymentState {
    /// Written down; nothing runs.
    Created,
    /// Its processes start and are probed; nobody is sent to it.
    Starting,
    /// It serves its environment. One at most for each environment.
    Live,
    /// Its successor serves; it finishes what it had begun.
    Draining,
    /// It was stopped.
    Retired,
    /// It never served, or broke.
    Failed,
    /// A newer one was asked for while it waited for its turn.
    Superseded,
}

/// What a deployment is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct NewDeployment<'a> {
    /// Where it goes.
    pub environment: Environment,
    /// The release's digest, `sha256:…`.
    pub release: &'a str,
    /// The validated configuration that it runs with; no secret. At most 1 MiB.
    pub configuration: &'a Value,
    /// Who asked for it.
    pub actor: &'a str,
    /// Where it comes from, in the caller's own words (commit, branch, reason…); no secret. At most 64 KiB.
    pub origin: &'a Value,
}

/// A deployment as it is known.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Deployment {
    /// Its id.
    pub id: DeploymentId,
    /// Its environment.
    pub environment: Environment,
    /// 1 for the first in its environment, then one more each.
    pub generation: u64,
    /// The release's digest.
    pub release: String,
    /// The configuration that it runs with.
    pub configuration: Value,
    /// Who asked for it; `unknown` where that was not recorded yet.
    pub actor: String,
    /// Where it comes from, as it was written down.
    pub origin: Value,
    /// Where it is in its life.
    pub state: DeploymentState,
    /// Why it failed or was superseded.
    pub error: Option<String>,
    /// When it was written down, in milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// When it last became live.
    pub switched_ms: Option<u64>,
    /// When it was retired or failed.
    pub ended_ms: Option<u64>,
}

/// What a switch did.
#[derive(Debug, Clone, PartialEq)]
pub struct Switch {
    /// Serves now.
    pub live: Deployment,
    /// Served before, and drains now.
    pub previous: Option<Deployment>,
}

impl Store {
    /// Writes down a new deployment, in state `created`.
    pub fn deployment_create(&self, new: &NewDeployment<'_>, now_ms: u64) -> Result<Deployment, StoreError> {
        at_most("a release's digest", new.release.as_bytes(), MAX_RELEASE)?;
        let configuration = new.configuration.to_string();
        at_most(
            "a deployment's configuration",
            configuration.as_bytes(),
            MAX_CONFIGURATION,
        )?;
        at_most("an actor", new.actor.as_bytes(), MAX_ACTOR)?;
        let origin = new.origin.to_string();
        at_most("a deployment's origin", origin.as_bytes(), MAX_ORIGIN)?;
        let now = integer("a time", now_ms)?;
        self.write("create a deployment", |t| {
            let sql = "INSERT INTO deployment
                         (environment, generation, release, configuration, actor, origin, state, created_ms)
                       SELECT ?1, coalesce(max(generation), 0) + 1, ?2, ?3, ?4, ?5, 'created', ?6
                       FROM deployment WHERE environment = ?1";
            t.prepare_cached(sql)?.execute(params![
                new.environment.to_string(),
                new.release,
                configuration,
                new.actor,
                origin,
                now
            ])?;
            get(t, DeploymentId(t.last_insert_rowid()))
        })
    }

    /// Moves a deployment on in its life. `error` is kept with `Failed` and `Superseded` only. To make one live, use
    /// [`Store::deployment_switch`], which moves its predecessor in the same transaction.
    pub fn deployment_transition(
        &self,
        id: DeploymentId,
        to: DeploymentState,
        error: Option<&str>,
        now_ms: u64,
    ) -> Result<Deployment, StoreError> {
        let operation = "move a deployment";
        if to == DeploymentState::Live {
            let reason = format!("{id} becomes live by a switch only");
            return Err(StoreError::Refused { operation, reason });
        }
        self.write(operation, |t| {
            change(t, operation, &get(t, id)?, to, error, now_ms)?;
            get(t, id)
        })
    }

    /// Makes a started (or draining: a rollback in time) deployment the live one; the one that was live drains.
    /// Both happen or neither. Switching to the live one changes nothing.
    pub fn deployment_switch(&self, id: DeploymentId, now_ms: u64) -> Result<Switch, StoreError> {
        let operation = "switch to a deployment";
        self.write(operation, |t| {
            let next = get(t, id)?;
            if next.state == DeploymentState::Live {
                return Ok(Switch {
                    live: next,
                    previous: None,
                });
            }
            let previous = live(t, next.environment)?;
            if let Some(previous) = &previous {
                change(t, operation, previous, DeploymentState::Draining, None, now_ms)?;
            }
            change(t, operation, &next, DeploymentState::Live, None, now_ms)?;
            let previous = previous.map(|previous| get(t, previous.id)).transpose()?;
            Ok(Switch {
                live: get(t, id)?,
                previous,
            })
        })
    }

    /// Puts another configuration into the place of a deployment's: the same in other folders, after a move.
    pub fn deployment_relocate(&self, id: DeploymentId, configuration: &Value) -> Result<(), StoreError> {
        let configuration = configuration.to_string();
        at_most(
            "a deployment's configuration",
            configuration.as_bytes(),
            MAX_CONFIGURATION,
        )?;
        self.write("move a deployment's folders", |t| {
            let sql = "UPDATE deployment SET configuration = ?2 WHERE id = ?1";
            t.prepare_cached(sql)?.execute(params![id.0, configuration])?;
            Ok(())
        })
    }

    /// One deployment.
    pub fn deployment(&self, id: DeploymentId) -> Result<Deployment, StoreError> {
        self.read("read a deployment", |t| get(t, id))
    }

    /// The deployment that serves an environment.
    pub fn deployment_live(&self, environment: Environment) -> Result<Option<Deployment>, StoreError> {
        self.read("read the live deployment", |t| live(t, environment))
    }

    /// The newest deployments, of one environment or of all, newest first.
    pub fn deployments(
        &self,
        environment: Option<Environment>,
        limit: u32,
    ) -> Result<Vec<Deployment>, StoreError> {
        self.read("list deployments", |t| {
            let sql = format!(
                "SELECT {COLUMNS} FROM deployment WHERE (?1 IS NULL OR environment = ?1) ORDER BY id DESC LIMIT ?2"
            );
            let mut statement = t.prepare_cached(&sql)?;
            let name = environment.map(|environment| environment.to_string());
            let mut rows = statement.query(params![name, limit.min(MAX_ROWS)])?;
            let mut all = Vec::new();
            while let Some(row) = rows.next()? {
                all.push(deployment(row)?);
            }
            Ok(all)
        })
    }

    /// Deletes retired, failed and superseded deployments of an environment but for the newest `keep`; returns their ids.
    pub fn deployments_prune(
        &self,
        environment: Environment,
        keep: u32,
    ) -> Result<Vec<DeploymentId>, StoreError> {
        self.write("prune deployments", |t| {
            let sql = "DELETE FROM deployment WHERE id IN
                       (SELECT id FROM deployment WHERE environment = ? AND state IN ('retired', 'failed', 'superseded')
                        ORDER BY id DESC LIMIT -1 OFFSET ?) RETURNING id";
            let mut statement = t.prepare_cached(sql)?;
            let rows = statement.query_map(params![environment.to_string(), keep], |row| {
                row.get(0).map(DeploymentId)
            })?;
            Ok(rows.collect::<Result<Vec<_>, _>>()?)
        })
    }
}

impl DeploymentState {
    const ALL: [Self; 7] = [
        Self::Created,
        Self::Starting,
        Self::Live,
        Self::Draining,
        Self::Retired,
        Self::Failed,
        Self::Superseded,
    ];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Starting => "starting",
            Self::Live => "live",
            Self::Draining => "draining",
            Self::Retired => "retired",
            Self::Failed => "failed",
            Self::Superseded => "superseded",
        }
    }

    /// Whether a deployment may go from this state to another. Retired, failed and superseded are ends: going back to an old
    /// release is a new deployment of it.
    pub fn can_become(self, to: Self) -> bool {
        use DeploymentState::{Created, Draining, Failed, Live, Retired, Starting, Superseded};
        matches!(
            (self, to),
            (Created, Starting | Failed | Superseded)
                | (Starting, Live | Failed)
                | (Live, Draining | Failed)
                | (Draining, Live | Retired | Failed)
        )
    }
}

fn change(
    t: &Transaction<'_>,
    operation: &'static str,
    deployment: &Deployment,
    to: DeploymentState,
    error: Option<&str>,
    now_ms: u64,
) -> Result<(), Fault> {
    if !deployment.state.can_become(to) {
        let reason = format!(
            "{} is {} and cannot become {}",
            deployment.id,
            deployment.state.name(),
            to.name()
        );
        return Err(StoreError::Refused { operation, reason }.into());
    }
    let now = integer("a time", now_ms)?;
    let switched = (to == DeploymentState::Live).then_some(now);
    let never_again = matches!(to, DeploymentState::Failed | DeploymentState::Superseded);
    let ended = (never_again || to == DeploymentState::Retired).then_some(now);
    let error = error.filter(|_| never_again).map(|error| cut(error, MAX_ERROR));
    let sql =
        "UPDATE deployment SET state = ?2, switched_ms = coalesce(?3, switched_ms), ended_ms = ?4, error = ?5
               WHERE id = ?1";
    t.prepare_cached(sql)?
        .execute(params![deployment.id.0, to.name(), switched, ended, error])?;
    Ok(())
}

fn get(t: &Transaction<'_>, id: DeploymentId) -> Result<Deployment, Fault> {
    let mut statement = t.prepare_cached(&format!("SELECT {COLUMNS} FROM deployment WHERE id = ?"))?;
    let mut rows = statement.query([id.0])?;
    match rows.next()? {
        Some(row) => deployment(row),
        None => Err(StoreError::NotFound {
            what: format!("deployment {id}"),
        }
        .into()),
    }
}

fn live(t: &Transaction<'_>, environment: Environment) -> Result<Option<Deployment>, Fault> {
    let sql = "SELECT id FROM deployment WHERE environment = ? AND state = 'live'";
    let mut statement = t.prepare_cached(sql)?;
    let id = statement
        .query_row([environment.to_string()], |row| row.get(0).map(DeploymentId))
        .optional()?;
    id.map(|id| get(t, id)).transpose()
}

fn deployment(row: &Row<'_>) -> Result<Deployment, Fault> {
    let (environment, configuration, origin, state): (String, String, String, String) =
        (row.get(1)?, row.get(4)?, row.get(6)?, row.get(7)?);
    let time = |index| -> Result<Option<u64>, Fault> {
        Ok(row
            .get::<_, Option<i64>>(index)?
            .map(|ms| natural("a time", ms))
            .transpose()?)
    };
    let state = DeploymentState::ALL
        .into_iter()
        .find(|known| known.name() == state)
        .ok_or_else(|| StoreError::Damaged {
            what: "a deployment's state",
            reason: format!("`{state}` is unknown"),
        })?;
    Ok(Deployment {
        id: DeploymentId(row.get(0)?),
        environment: parse_environment(&environment)?,
        generation: natural("a generation", row.get(2)?)?,
        release: row.get(3)?,
        configuration: json("a deployment's configuration", &configuration)?,
        actor: row.get(5)?,
        origin: json("a deployment's origin", &origin)?,
        state,
        error: row.get(8)?,
        created_ms: natural("a time", row.get(9)?)?,
        switched_ms: time(10)?,
        ended_ms: time(11)?,
    })
}

impl fmt::Display for DeploymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "d-{}", self.0)
    }
}

impl From<DeploymentId> for String {
    fn from(id: DeploymentId) -> Self {
        id.to_string()
    }
}

/// The text names no deployment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no deployment: expected `d-` and a number")]
pub struct ParseDeploymentIdError(String);

impl FromStr for DeploymentId {
    type Err = ParseDeploymentIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.strip_prefix("d-")
            .filter(|digits| !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|digits| digits.parse().ok())
            .map(Self)
            .ok_or_else(|| ParseDeploymentIdError(text.to_owned()))
    }
}
