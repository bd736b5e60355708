//! What the command line and the daemon say to each other over the admin socket.

use crate::gates::GateStanding;
use astraler_model::{AssetConfig, Attack, Environment, Maintenance, UnitStatus};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Bring an environment up with a release. Everything in it is idempotent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UpRequest {
    /// Which one.
    pub environment: Environment,
    /// Digest of the release that runs there, or the beginning of it.
    pub release: String,
    /// Where it comes from.
    #[serde(default)]
    pub origin: Origin,
}

/// Put a release into an environment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeployRequest {
    /// Which environment. A job's socket also knows `preview`: that of its own pull request.
    pub environment: String,
    /// Digest of the release, or the beginning of it.
    pub release: String,
    /// Where it comes from.
    #[serde(default)]
    pub origin: Origin,
}

/// Put the release that one environment runs into another.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PromoteRequest {
    /// Where it runs.
    pub from: Environment,
    /// Where it goes.
    pub to: Environment,
    /// Commit and branch are taken from the promoted deployment.
    #[serde(default)]
    pub origin: Origin,
}

/// Go back to a deployment that served before, with its release and its configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RollbackRequest {
    /// Which environment.
    pub environment: Environment,
    /// Which deployment; the last that was good when absent.
    #[serde(default)]
    pub to: Option<String>,
    /// Why; commit and branch are taken from that deployment.
    #[serde(default)]
    pub origin: Origin,
}

/// Where a deployment comes from: kept with it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Origin {
    /// What was asked for.
    pub action: Action,
    /// Git commit of the sources.
    pub commit: Option<String>,
    /// Git branch.
    pub branch: Option<String>,
    /// The run of the pipeline whose job asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<u64>,
    /// Why, in a person's words.
    pub reason: Option<String>,
    /// Why it was deployed although a gate had not passed.
    pub override_reason: Option<String>,
    /// How the release's gates stood. The daemon says it, whatever was sent.
    pub gates: Option<Vec<GateStanding>>,
    /// The environment it was promoted from, or the deployment that was rolled back.
    pub from: Option<String>,
}

/// What makes a deployment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// `astraler up`.
    Up,
    /// `astraler deploy`, or a push.
    #[default]
    Deploy,
    /// `astraler promote`.
    Promote,
    /// `astraler rollback`.
    Rollback,
    /// `astraler apply`: the release that runs, with the manifest's configuration.
    Apply,
}

/// A deployment as a list shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeploymentReport {
    /// Its id, `d-12`.
    pub id: String,
    /// Its environment.
    pub environment: Environment,
    /// 1 for the first in its environment, then one more each.
    pub generation: u64,
    /// Digest of its release.
    pub release: String,
    /// Who asked for it.
    pub actor: String,
    /// Where it comes from.
    #[serde(flatten)]
    pub origin: Origin,
    /// `created`, `starting`, `live`, `draining`, `retired`, `failed` or `superseded`.
    pub state: String,
    /// When it was asked for, in milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// When it last became live.
    pub switched_ms: Option<u64>,
    /// When it ended.
    pub ended_ms: Option<u64>,
    /// From being asked for to being live, or to its failure.
    pub took_ms: Option<u64>,
    /// Why it failed or was superseded.
    pub error: Option<String>,
    /// What was wrong with it while it served, as the watch found; then it is not gone back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bad: Option<String>,
}

/// One release with its configuration: what a deployment keeps, so that a rollback brings back both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Application {
    /// The validated manifest.
    pub config: astraler_manifest::Config,
    /// Digest of the release.
    pub release: String,
    /// Its workers.
    pub workers: Vec<WorkerPlan>,
    /// Its static assets, if any; the folder is inside the release.
    pub assets: Option<AssetConfig>,
    /// Folder of its migrations inside the release, if any.
    pub migrations: Option<PathBuf>,
    /// The script `database.mask`, if any.
    #[serde(default)]
    pub mask: Option<String>,
}

/// One worker of a release, with the values of one environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerPlan {
    /// Name.
    pub name: String,
    /// Path prefixes it answers.
    pub routes: Vec<String>,
    /// Modules, the entry first.
    pub modules: Vec<astraler_workers::Module>,
    /// Compatibility date, `YYYY-MM-DD`.
    pub compatibility_date: String,
    /// Compatibility flags.
    pub compatibility_flags: Vec<String>,
    /// Plain variables.
    pub vars: BTreeMap<String, serde_json::Value>,
    /// R2 bindings: binding → bucket.
    pub r2: BTreeMap<String, String>,
    /// Hyperdrive bindings.
    pub hyperdrive: Vec<String>,
    /// Memory limit of the worker's process.
    pub memory_bytes: Option<u64>,
    /// The user's secrets that it is granted: name → version. The daemon says it, whatever was sent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, u64>,
}

impl WorkerPlan {
    /// What the manifest says of a worker in one environment: no module is built yet, and no secret is granted.
    pub fn of(worker: &astraler_manifest::Worker, environment: Environment) -> Self {
        let r2 = worker.r2.iter();
        let hyperdrive = worker.hyperdrive.iter();
        Self {
            name: worker.name.clone(),
            routes: worker.routes.clone(),
            modules: vec![],
            compatibility_date: worker.compatibility_date.clone(),
            compatibility_flags: worker.compatibility_flags.clone(),
            vars: worker.vars_for(environment),
            r2: r2.map(|r2| (r2.binding.clone(), r2.bucket.clone())).collect(),
            hyperdrive: hyperdrive.map(|hyperdrive| hyperdrive.binding.clone()).collect(),
            memory_bytes: worker.memory_bytes,
            secrets: BTreeMap::new(),
        }
    }
}

/// Make a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewTokenRequest {
    /// Who will bear it: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// What its bearer may do.
    pub scopes: Vec<astraler_model::Scope>,
    /// How long it holds; until it is revoked when absent.
    #[serde(default)]
    pub expires_in_ms: Option<u64>,
}

/// A token that was just made. Its text is in this answer and nowhere else.
#[derive(Clone, Serialize, Deserialize)]
pub struct NewTokenReport {
    /// Its public part.
    pub id: String,
    /// The token.
    pub token: String,
    /// When it ends by itself, in milliseconds since the Unix epoch.
    pub expires_ms: Option<u64>,
}

/// What the hook of a push asks: may all of this be taken?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushRequest {
    /// The push.
    pub push: u64,
    /// What it would change.
    pub updates: Vec<RefUpdate>,
    /// Push options, as git passes them on.
    #[serde(default)]
    pub options: Vec<String>,
}

/// What the hook of a push that was taken tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushTaken {
    /// The push.
    pub push: u64,
}

/// One reference that a push would change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefUpdate {
    /// Its whole name: `refs/heads/main`.
    pub name: String,
    /// The object that it names now; all zeros when it is new.
    pub old: String,
    /// The object that it would name; all zeros when it is deleted.
    pub new: String,
    /// Whether the new one has the old one in its history.
    pub fast_forward: bool,
}

/// The answer to a [`PushRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushVerdict {
    /// Why not, for the pusher; empty when it is taken.
    pub refused: Vec<String>,
}

impl RefUpdate {
    /// The branch; none for another kind of reference.
    pub fn branch(&self) -> Option<&str> {
        self.name.strip_prefix("refs/heads/")
    }

    /// The reference would be deleted.
    pub fn is_deletion(&self) -> bool {
        self.new.bytes().all(|digit| digit == b'0')
    }
}

/// A run of the pipeline, as others see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunSummary {
    /// Its number.
    pub number: u64,
    /// `queued`, `running` or `ended`.
    pub state: String,
    /// `success`, `failure`, `cancelled`, `skipped` or `superseded`.
    pub conclusion: Option<String>,
    /// `push` or `pull_request`.
    pub event: String,
    /// The branch that was pushed.
    pub branch: String,
    /// The commit that was pushed.
    pub commit: String,
    /// Number of the pull request.
    pub pull_request: Option<u32>,
    /// Where it deploys to.
    pub environment: Option<Environment>,
    /// Who pushed.
    pub actor: String,
    /// Somebody asked that it end.
    pub cancelling: bool,
    /// Why it could not be run, or was superseded.
    pub error: Option<String>,
    /// When it was asked for, in milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// When it began.
    pub started_ms: Option<u64>,
    /// When it ended.
    pub ended_ms: Option<u64>,
    /// Where its environment is seen.
    pub urls: Vec<String>,
    /// The report, once it has ended; not in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<astraler_pipeline::RunReport>,
}

/// One line of what a run says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunLine {
    /// How a run stands: the first line, whenever that changes, and the last.
    Run(Box<RunSummary>),
    /// What the pipeline says.
    Event(astraler_pipeline::RunEvent),
    /// A word of the platform's.
    Note(String),
}

/// One line of the answer to a request that changes something, as it happens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A part begins.
    Begin {
        /// Name of the part, for example `postgres shared`.
        part: String,
    },
    /// A part ended well.
    End {
        /// Name of the part.
        part: String,
        /// What happened.
        outcome: StepOutcome,
        /// A few words for people.
        detail: String,
        /// How long it took.
        elapsed_ms: u64,
    },
    /// The deployment serves now: the edge has confirmed it. What follows ends the one before.
    Live {
        /// Its id.
        deployment: String,
        /// The environment as it is now.
        environment: EnvironmentReport,
    },
    /// The end: a newer deployment of this environment was asked for while this one waited.
    Superseded {
        /// Its id.
        deployment: String,
        /// The newer one.
        by: String,
    },
    /// The end: a gate has not passed.
    Blocked {
        /// The environment that it was to go to.
        environment: Environment,
        /// Which gates, and in which runs.
        message: String,
        /// What to do next.
        hint: String,
        /// All gates.
        gates: Vec<GateStanding>,
    },
    /// The end: there is no such environment any more.
    Removed {
        /// Which.
        environment: Environment,
    },
    /// The end: all is done.
    Done {
        /// False when nothing had to be done.
        changed: bool,
        /// The environment as it is now.
        environment: EnvironmentReport,
    },
    /// The end, here; what was done stays done and the next `up` goes on from it.
    Failed(Fault),
}

/// Whether a step found work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepOutcome {
    /// It changed something.
    Changed,
    /// All was as it should be.
    Unchanged,
}

/// An error as a user sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The part that failed.
    pub part: String,
    /// What is wrong, each cause once.
    pub message: String,
    /// The last lines of the log of the process concerned.
    #[serde(default)]
    pub log: Vec<String>,
    /// What to do next.
    #[serde(default)]
    pub hint: Option<String>,
}

/// The platform as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusReport {
    /// The application's name.
    pub application: String,
    /// Version of the program.
    pub version: String,
    /// Its environments.
    pub environments: Vec<EnvironmentReport>,
    /// Its processes.
    pub parts: Vec<PartReport>,
    /// Operations that were interrupted and have not been finished since.
    pub interrupted: Vec<String>,
    /// Environments whose destruction was begun and has not ended.
    #[serde(default)]
    pub destroying: Vec<Environment>,
    /// Of each cluster that can be restored: when a drill last proved it.
    #[serde(default)]
    pub drills: Vec<crate::recover::DrillReport>,
    /// The newest of them.
    #[serde(default)]
    pub last_proven_restore: Option<crate::recover::DrillReport>,
    /// Which process isolation is in force, in words.
    pub isolation: Vec<String>,
}

/// One process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartReport {
    /// As `keep` sees it.
    #[serde(flatten)]
    pub unit: UnitStatus,
    /// Proportional set size of it and its descendants.
    pub memory_bytes: Option<u64>,
}

/// One environment: every URL, endpoint and credential reference. No credential itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnvironmentReport {
    /// Which one.
    pub environment: Environment,
    /// Its live deployment.
    pub deployment: Option<String>,
    /// The release it runs.
    pub release: Option<String>,
    /// Git commit of the release's sources, where that is known.
    #[serde(default)]
    pub commit: Option<String>,
    /// Git branch.
    #[serde(default)]
    pub branch: Option<String>,
    /// Its workers and its Redis are stopped until the next request.
    #[serde(default)]
    pub asleep: bool,
    /// That its deployment is watched, is bad, or took the place of a bad one.
    #[serde(default)]
    pub watch: Option<String>,
    /// An operator has closed it.
    #[serde(default)]
    pub maintenance: Option<Maintenance>,
    /// An operator has tightened its limits.
    #[serde(default)]
    pub attack: Option<Attack>,
    /// Where people open it.
    pub urls: Vec<String>,
    /// Endpoint name → URL without credentials.
    pub endpoints: BTreeMap<String, String>,
    /// Credential name → reference, `astraler env credential ENV NAME` prints the value.
    pub credentials: BTreeMap<String, String>,
    /// Workers, by name, with their routes.
    pub workers: BTreeMap<String, Vec<String>>,
}

impl std::fmt::Debug for NewTokenReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewTokenReport")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Fault {
    /// An error of a part, each cause once.
    pub fn of(part: &str, error: &dyn std::error::Error) -> Self {
        Self {
            part: part.to_owned(),
            message: chain(error),
            log: vec![],
            hint: None,
        }
    }

    /// A failure to start or stop a process, with its last log lines and what to do.
    pub fn of_supervisor(part: &str, error: &astraler_host::supervisor::SupervisorError) -> Self {
        use astraler_host::supervisor::SupervisorError as E;
        let mut fault = Self::of(part, error);
        match error {
            E::NotReady { last_lines, .. } | E::Failed { last_lines, .. } => fault.log.clone_from(last_lines),
            E::PortTaken { .. } => {
                fault.hint = Some("stop that process, or choose another port with --port".into());
            }
            _ => {}
        }
        fault
    }
}

/// An error and its causes, joined by colons; a cause that its parent already told is left out.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = cause.source();
    }
    text
}
