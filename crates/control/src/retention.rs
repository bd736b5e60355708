//! Which releases stay: those that an environment runs or can go back to, those that somebody is about to deploy, and
//! the newest, as many as `release.keep` says. All others go at the end of a deployment.

use crate::daemon::Daemon;
use crate::platform::{Platform, PlatformError};
use crate::requests;
use crate::words::chain;
use astraler_store::DeploymentState;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{Mutex, MutexGuard};

/// Releases of earlier deployments that each environment can go back to, one after the other.
const WAYS_BACK: usize = 3;
/// How long somebody may take from a release to its deployment.
const GRACE: Duration = Duration::from_secs(600);
/// Releases that are remembered as asked for; more are not deployed within [`GRACE`].
const MAX_WANTED: usize = 4_096;

/// Releases that somebody has asked for and not deployed yet.
#[derive(Debug, Default)]
pub(crate) struct Wanted(Mutex<BTreeMap<String, Instant>>);

impl Wanted {
    /// From here on the release stays for a while. Waits while releases are being removed.
    pub(crate) async fn note(&self, release: &str) {
        let mut all = self.0.lock().await;
        if all.len() < MAX_WANTED {
            all.insert(release.to_owned(), Instant::now());
        }
    }

    /// Those of the last minutes. Nobody asks for another one while the guard is held.
    async fn young(&self) -> MutexGuard<'_, BTreeMap<String, Instant>> {
        let mut all = self.0.lock().await;
        all.retain(|_, since| since.elapsed() < GRACE);
        all
    }
}

/// Removes what need not stay, whenever a deployment has ended.
pub(crate) async fn keep_releases(daemon: Arc<Daemon>) {
    loop {
        daemon.deployed.notified().await;
        match prune(&daemon).await {
            Ok(gone) if gone.is_empty() => {}
            Ok(gone) => tracing::info!(releases = gone.len(), "old releases are gone"),
            Err(error) => tracing::warn!(
                error = chain(&error),
                "old releases stay until the next deployment has ended"
            ),
        }
    }
}

async fn prune(daemon: &Daemon) -> Result<Vec<String>, PlatformError> {
    let platform = &daemon.platform;
    let Some(keep) = keep(platform)? else {
        return Ok(vec![]);
    };
    let wanted = daemon.wanted.young().await;
    let mut in_use = in_use(platform)?;
    in_use.extend(wanted.keys().cloned());
    let releases = platform.releases.clone();
    let pruned = tokio::task::spawn_blocking(move || {
        let came_in = releases.list()?.into_iter().filter(|stored| {
            let stored_at = SystemTime::UNIX_EPOCH + Duration::from_millis(stored.stored_at_ms.unwrap_or(0));
            stored_at.elapsed().map_or(true, |age| age < GRACE)
        });
        in_use.extend(came_in.map(|stored| stored.digest));
        releases.prune(keep, &in_use)
    });
    let gone = pruned.await.map_err(PlatformError::Task)??;
    drop(wanted);
    platform.store.gates_prune(&gone)?;
    Ok(gone)
}

/// `release.keep` of the manifest that decides for what environments share; none while nothing is deployed.
fn keep(platform: &Platform) -> Result<Option<usize>, PlatformError> {
    let live = platform.live()?;
    let Some((environment, (_, application))) = live.iter().next() else {
        return Ok(None);
    };
    let config = platform.governing(*environment, application, |_| true)?;
    Ok(Some(usize::try_from(config.release.keep).unwrap_or(usize::MAX)))
}

/// What environments run, will run, or can go back to.
fn in_use(platform: &Platform) -> Result<BTreeSet<String>, PlatformError> {
    let mut in_use = BTreeSet::new();
    for record in platform.environments()? {
        let history = platform.deployments(Some(record.environment), requests::HISTORY)?;
        let mut back = BTreeSet::new();
        for good in requests::good(&history) {
            if back.len() < WAYS_BACK {
                back.insert(good.release.clone());
            }
        }
        in_use.extend(back);
        let settled = |state| {
            matches!(
                state,
                DeploymentState::Retired | DeploymentState::Failed | DeploymentState::Superseded
            )
        };
        let others = history
            .into_iter()
            .filter(|deployment| !settled(deployment.state));
        in_use.extend(others.map(|deployment| deployment.release));
        let live = platform.live_deployment(record.environment)?;
        in_use.extend(live.map(|live| live.release));
    }
    Ok(in_use)
}
