//! Why there is a run: a push, or a pull request that it belongs to.

use crate::platform::PlatformError;
use astraler_store::Run;
use serde::{Deserialize, Serialize};

/// Kept with the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cause {
    /// The push that it came with.
    pub(crate) push: u64,
    /// Who pushed.
    pub(crate) actor: String,
    /// The branch.
    pub(crate) branch: String,
    /// What the branch named before; all zeros where it was new.
    pub(crate) before: String,
    /// What it names since.
    pub(crate) sha: String,
    /// Whether the new commit has the old one in its history.
    pub(crate) fast_forward: bool,
    /// The pull request.
    #[serde(default)]
    pub(crate) pull_request: Option<PullRequestCause>,
}

/// A pull request, as a push knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PullRequestCause {
    /// Its number.
    pub(crate) number: u32,
    /// The branch that it goes to.
    pub(crate) base: String,
    /// `opened` or `synchronize`.
    pub(crate) activity: String,
}

impl Cause {
    /// GitHub's word for what happened.
    pub(crate) fn event(&self) -> &'static str {
        match self.pull_request {
            Some(_) => "pull_request",
            None => "push",
        }
    }

    /// Runs of one branch, and those of one pull request, come one after the other.
    pub(crate) fn line(&self) -> String {
        match &self.pull_request {
            Some(pull_request) => format!("pull request {}", pull_request.number),
            None => format!("branch {}", self.branch),
        }
    }

    /// The push made the branch.
    pub(crate) fn is_new(&self) -> bool {
        self.before.bytes().all(|digit| digit == b'0')
    }

    /// The cause of a run.
    pub(crate) fn of(run: &Run) -> Result<Self, PlatformError> {
        serde_json::from_value(run.cause.clone()).map_err(|source| PlatformError::Record {
            record: format!("run {}", run.id),
            source,
        })
    }
}
