//! The configuration of every environment in a git repository of its own: committed when it changes, pushed to its remote.
//!
//! What a team reads there is what serves: the release, the manifest as it holds with its defaults, the variables of each
//! worker, who has which secret (never a value). Previews come and go, and are left out. A look compares the record with
//! the repository, so it matters neither who changed something nor when the daemon was killed.

mod commit;
mod push;

use crate::daemon::Daemon;
use crate::platform::{Platform, PlatformError, now_ms};
use crate::repository::RepositoryError;
use crate::words::chain;
use astraler_model::Environment;
use astraler_store::StoreError;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Between two pushes of which the first failed.
const PAUSE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(600));

/// Where the repository stands; shown by `backup status`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigGitReport {
    /// Its remote, if the manifest names one.
    pub remote: Option<String>,
    /// The newest commit.
    pub commit: Option<String>,
    /// The commit that the remote had last.
    pub pushed: Option<String>,
    /// Since when the remote lacks the newest commit, in milliseconds since the Unix epoch.
    pub behind_since_ms: Option<u64>,
    /// Why it does.
    pub error: Option<String>,
}

/// What the daemon remembers between two looks.
#[derive(Debug, Default)]
pub(crate) struct ConfigGit {
    report: Mutex<ConfigGitReport>,
}

impl ConfigGit {
    pub(crate) fn report(&self) -> ConfigGitReport {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, change: impl FnOnce(&mut ConfigGitReport)) {
        change(&mut self.report.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The configuration was not committed or not pushed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigGitError {
    #[error(transparent)]
    Platform(#[from] PlatformError),
    #[error("the control plane's database cannot be used")]
    Store(#[from] StoreError),
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    #[error("the configuration cannot be written down")]
    Form(#[from] serde_json::Error),
    #[error("{} cannot be used", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the remote {remote} does not take the configuration: {output}")]
    Remote { remote: String, output: String },
    #[error("the remote {remote} does not answer within {seconds} s")]
    Slow { remote: String, seconds: u64 },
    #[error("the work was cut short")]
    Cut,
}

/// Runs as long as the daemon.
pub(crate) async fn keep(daemon: Arc<Daemon>) {
    let mut seen = None;
    let mut wait = PAUSE.0;
    let mut push_at = Instant::now();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let platform = &daemon.platform;
        match look(platform, &mut seen).await {
            Ok(None) => continue,
            Ok(Some(head)) => daemon.config_git.note(|report| report.commit = Some(head)),
            Err(error) => {
                tracing::warn!(
                    error = chain(&error),
                    "the configuration is not committed; trying again"
                );
                continue;
            }
        }
        if Instant::now() < push_at {
            continue;
        }
        match push::newest(platform).await {
            Ok(done) => {
                wait = PAUSE.0;
                daemon.config_git.note(|report| {
                    (report.remote, report.pushed) = (done.remote, done.pushed);
                    (report.behind_since_ms, report.error) = (None, None);
                });
            }
            Err(error) => {
                let said = chain(&error).to_string();
                tracing::warn!(error = said, "the configuration is not pushed; trying again");
                daemon.config_git.note(|report| {
                    report.remote = push::remote(platform).ok().flatten().map(|remote| remote.url);
                    report.behind_since_ms.get_or_insert_with(now_ms);
                    report.error = Some(said);
                });
                push_at = Instant::now() + wait;
                wait = (wait * 2).min(PAUSE.1);
            }
        }
    }
}

/// Commits what is not committed yet; the newest commit. None while nothing was ever deployed.
async fn look(
    platform: &Platform,
    seen: &mut Option<(Vec<commit::File>, String)>,
) -> Result<Option<String>, ConfigGitError> {
    let files = commit::files(platform)?;
    if files.is_empty() {
        return Ok(None);
    }
    if let Some((known, head)) = seen
        && *known == files
    {
        return Ok(Some(head.clone()));
    }
    let path = platform.installation.layout.config_git();
    let wanted = files.clone();
    let head = tokio::task::spawn_blocking(move || commit::commit(&path, &wanted))
        .await
        .map_err(|_| ConfigGitError::Cut)??;
    *seen = Some((files, head.clone()));
    Ok(Some(head))
}

/// Environments of which the configuration is kept.
fn is_kept(environment: Environment) -> bool {
    !matches!(environment, Environment::Preview(_))
}
