//! What a run is told. Plain data: it can be written to a file and read by another process.

use crate::machine::Machine;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// One run.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunSpec {
    /// Names the run, also in file names: ASCII letters, digits, `-` and `_`, at most 64.
    pub id: String,
    /// `github.run_number`, from 1.
    pub number: u64,
    /// `github.run_attempt`, from 1.
    pub attempt: u64,
    /// What happened.
    pub event: Event,
    /// The workflows to run; which of them an event starts is for the caller to say.
    pub workflows: Vec<WorkflowFile>,
    /// Ids of the jobs to run, with those that they need; empty for all.
    #[serde(default)]
    pub jobs: Vec<String>,
    /// The tree to check out.
    pub source: Source,
    /// `inputs` of a `workflow_dispatch`.
    #[serde(default)]
    pub inputs: BTreeMap<String, Value>,
    /// `secrets`.
    #[serde(default)]
    pub secrets: Secrets,
    /// `vars`.
    #[serde(default)]
    pub vars: Secrets,
    /// Where things are kept.
    pub folders: Folders,
    /// Programs.
    pub tools: Tools,
    /// What the machine says of registries and certificates.
    #[serde(default)]
    pub machine: Machine,
    /// Registries that jobs may reach: `npm`, `pypi`, `crates.io`, or a host's name.
    #[serde(default)]
    pub registries: Vec<String>,
    /// Ports of this machine's loopback that a job with `environment:` may reach.
    #[serde(default)]
    pub ports: Vec<u16>,
    /// Names that mean this machine's loopback in the sandbox, beside `localhost`: those of environments.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// What a job may take.
    #[serde(default)]
    pub limits: Limits,
    /// Ids or names of jobs that must pass.
    #[serde(default)]
    pub gates: Vec<String>,
    /// Coverage under which the run warns.
    #[serde(default)]
    pub coverage_percent: u8,
    /// Whose caches a job may write: branches that trust each other have one name. Jobs read those of `protected` too.
    pub trust: String,
    /// The run's own socket, where jobs with an `environment:` are announced: see [`crate::ControlDeploys`]. Without
    /// one, nothing is deployed from here.
    #[serde(default)]
    pub control: Option<PathBuf>,
}

/// What happened: the part of the `github` context that a run is told.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// `push`, `pull_request`, `workflow_dispatch`…
    pub name: String,
    /// `refs/heads/main`, `refs/pull/7/merge`…
    pub reference: String,
    /// The commit.
    pub sha: String,
    /// Branch of a pull request.
    #[serde(default)]
    pub head_ref: String,
    /// Branch that a pull request goes to.
    #[serde(default)]
    pub base_ref: String,
    /// `owner/name`.
    pub repository: String,
    /// Who did it.
    pub actor: String,
    /// Whether the branch is a protected one.
    #[serde(default)]
    pub protected: bool,
    /// `github.event`.
    #[serde(default)]
    pub payload: Value,
}

/// A workflow file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkflowFile {
    /// `.github/workflows/ci.yml`.
    pub path: String,
    /// Its text.
    pub text: String,
    /// It begins when all others of the run have ended well, and is skipped if one has not.
    #[serde(default)]
    pub after: bool,
}

/// A tree in a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// A bare repository, without alternates. [`crate::snapshot`] makes one of a working folder.
    pub repository: PathBuf,
    /// The commit, in full.
    pub sha: String,
}

/// Names and values, for all jobs and for those of an environment.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Secrets {
    /// For all jobs.
    #[serde(default)]
    pub all: BTreeMap<String, String>,
    /// For jobs with this `environment:`; these win.
    #[serde(default)]
    pub environments: BTreeMap<String, BTreeMap<String, String>>,
}

/// Where things are kept. All are this user's, and on one file system so that files need no copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Folders {
    /// What lives as long as a run. Those of dead runs are removed at the next one's start.
    pub work: PathBuf,
    /// Caches and package stores.
    pub cache: PathBuf,
    /// Artifacts.
    pub artifacts: PathBuf,
    /// `RUNNER_TOOL_CACHE`.
    pub tool_cache: PathBuf,
}

/// Programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tools {
    /// What runs [`crate::sandbox_init()`]: a program and its arguments.
    pub helper: Vec<String>,
    /// bubblewrap.
    pub bwrap: PathBuf,
    /// The pinned Node.js, and its version: `24.21.0`.
    #[serde(default)]
    pub node: Option<(PathBuf, String)>,
    /// The pinned pnpm: the folder of its package, and its version.
    #[serde(default)]
    pub pnpm: Option<(PathBuf, String)>,
    /// Read-only folders that jobs with an `environment:` see at their own path, with variables that say where.
    #[serde(default)]
    pub deploy: BTreeMap<String, PathBuf>,
    /// The program that such jobs find as `astraler` in their path.
    #[serde(default)]
    pub program: Option<PathBuf>,
}

/// What a job may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Longest job.
    pub job_timeout_minutes: u32,
    /// Jobs at once.
    pub jobs: usize,
    /// Space of one job.
    pub disk_bytes: u64,
    /// Processes of one job.
    pub processes: u64,
    /// Space of all cache entries of one trust; the oldest go first.
    pub cache_bytes: u64,
}

/// A spec cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The id.
    #[error("the run's id {0:?} is not 1 to 64 ASCII letters, digits, '-' and '_'")]
    Id(String),
    /// The trust.
    #[error("the trust {0:?} is not 1 to 64 ASCII letters, digits, '-' and '_'")]
    Trust(String),
    /// The commit.
    #[error("{0:?} is not the full name of a commit")]
    Sha(String),
    /// A name for the sandbox's `/etc/hosts`.
    #[error("{0:?} is no name of a host, or there are more than {MAX_HOSTS}")]
    Host(String),
}

/// Most names beside `localhost`.
const MAX_HOSTS: usize = 64;
const MAX_NAME: usize = 64;

impl RunSpec {
    /// Looks at what becomes part of paths.
    pub fn validate(&self) -> Result<(), SpecError> {
        let plain = |name: &str| {
            (1..=MAX_NAME).contains(&name.len())
                && name
                    .bytes()
                    .all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_')
        };
        if !plain(&self.id) {
            return Err(SpecError::Id(self.id.clone()));
        }
        if !plain(&self.trust) {
            return Err(SpecError::Trust(self.trust.clone()));
        }
        let sha = &self.source.sha;
        if !matches!(sha.len(), 40 | 64) || !sha.bytes().all(|c| c.is_ascii_hexdigit()) {
            return Err(SpecError::Sha(sha.clone()));
        }
        let wrong = |(index, host): &(usize, &String)| {
            let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || c == b'.';
            *index >= MAX_HOSTS || host.is_empty() || host.len() > 253 || !host.bytes().all(plain)
        };
        if let Some((_, host)) = self.hosts.iter().enumerate().find(wrong) {
            return Err(SpecError::Host(host.clone()));
        }
        Ok(())
    }
}

impl Secrets {
    /// What a job of this environment sees.
    pub fn of(&self, environment: Option<&str>) -> BTreeMap<String, String> {
        let mut all = self.all.clone();
        // Case does not count, as it does not for GitHub.
        let named = |name: &str| {
            let mut known = self.environments.iter();
            known.find_map(|(known, own)| known.eq_ignore_ascii_case(name).then_some(own))
        };
        if let Some(own) = environment.and_then(named) {
            all.extend(own.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
        all
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secrets")
            .field("all", &self.all.keys())
            .finish_non_exhaustive()
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            job_timeout_minutes: 60,
            jobs: std::thread::available_parallelism().map_or(1, usize::from),
            disk_bytes: 10 << 30,
            processes: 4096,
            cache_bytes: 5 << 30,
        }
    }
}
