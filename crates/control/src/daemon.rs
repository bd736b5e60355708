//! The control process: opens the store and the root key, heals what should be up, serves its API.

use crate::installation::Installation;
use crate::platform::{Platform, PlatformError};
use crate::retention::{self, Wanted};
use crate::sleep::{self, Due};
use crate::turns::Turns;
use crate::words::{Fault, chain};
use crate::{api, deploy, preview, remove, requests, status, wake};
use astraler_model::Environment;
use astraler_store::Desired;
use std::collections::BTreeSet;
use std::net::TcpListener as StdTcpListener;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Notify, OwnedRwLockWriteGuard, RwLock, Semaphore, mpsc};

/// How often it looks whether a preview is idle.
const LOOK_AT_PREVIEWS_EVERY: Duration = Duration::from_secs(10);

/// Releases that are received at once: each is written to disk and hashed.
const MAX_UPLOADS: usize = 2;

/// How often the daemon looks whether everything that should be up still is.
const RECONCILE_EVERY: Duration = Duration::from_secs(30);

/// The daemon cannot run.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Something it stands on is missing.
    #[error(transparent)]
    Platform(#[from] PlatformErrorOpaque),
    /// The admin socket, or the port of the API.
    #[error("a listening socket cannot be used")]
    Socket(#[source] std::io::Error),
    /// It must tell `keep` that it is ready.
    #[error("readiness cannot be reported")]
    Ready(#[source] std::io::Error),
}

/// An error inside the platform; shown, not matched.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct PlatformErrorOpaque(#[from] PlatformError);

/// The state of the daemon's process.
pub(crate) struct Daemon {
    pub(crate) platform: Platform,
    /// Every change reads; whoever looks after everything at once writes.
    pub(crate) changes: Arc<RwLock<()>>,
    /// One change of an environment at a time.
    pub(crate) turns: Turns,
    /// Says that the golden copy of staging is to be made anew.
    pub(crate) stale: Notify,
    /// Says that a deployment has ended: releases that nobody needs may go.
    pub(crate) deployed: Notify,
    /// Releases that somebody is about to deploy.
    pub(crate) wanted: Wanted,
    /// Uploads of releases at once.
    pub(crate) uploads: Semaphore,
    /// Fetches and pushes under way.
    pub(crate) exchanges: crate::git::Exchanges,
    /// Runs of the pipeline.
    pub(crate) runs: crate::runs::Runs,
    /// What fires, and notices on their way.
    pub(crate) alerts: crate::alerts::Alerts,
    /// The repository of the configuration.
    pub(crate) config_git: crate::config_git::ConfigGit,
    /// Environments that this process brought back after they had been down.
    healed: StdMutex<BTreeSet<Environment>>,
}

impl Daemon {
    pub(crate) fn new(platform: Platform) -> Self {
        Self {
            platform,
            changes: Arc::default(),
            turns: Turns::default(),
            stale: Notify::new(),
            deployed: Notify::new(),
            wanted: Wanted::default(),
            uploads: Semaphore::new(MAX_UPLOADS),
            exchanges: crate::git::Exchanges::default(),
            runs: crate::runs::Runs::default(),
            alerts: crate::alerts::Alerts::default(),
            config_git: crate::config_git::ConfigGit::default(),
            healed: StdMutex::default(),
        }
    }

    /// Whether the environment was brought back since the last `up`; asked once.
    pub(crate) fn take_healed(&self, environment: Environment) -> bool {
        self.healed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&environment)
    }
}

/// The sockets that `keep` holds for the daemon.
#[derive(Debug)]
pub struct Listening {
    /// For the owner.
    pub admin: StdUnixListener,
    /// For bearers of tokens; loopback only.
    pub api: StdTcpListener,
    /// Where the edge asks that an environment be woken.
    pub wake: StdUnixListener,
}

/// Runs until `shutdown`.
pub async fn run(
    installation: Installation,
    listening: Listening,
    shutdown: impl Future<Output = ()>,
) -> Result<(), DaemonError> {
    let platform = Platform::open(installation).map_err(PlatformErrorOpaque)?;
    platform.note_interrupted().map_err(PlatformErrorOpaque)?;
    let daemon = Arc::new(Daemon::new(platform));
    let admin = UnixListener::from_std(listening.admin).map_err(DaemonError::Socket)?;
    let tcp = TcpListener::from_std(listening.api).map_err(DaemonError::Socket)?;
    let wake = UnixListener::from_std(listening.wake).map_err(DaemonError::Socket)?;
    // Healing takes the change lock before the first request can be read: an `up` that arrives now waits.
    let first_change = Arc::clone(&daemon.changes).write_owned().await;
    tokio::spawn(reconcile(Arc::clone(&daemon), first_change));
    tokio::spawn(keep_golden(Arc::clone(&daemon)));
    tokio::spawn(retention::keep_releases(Arc::clone(&daemon)));
    tokio::spawn(look_after_previews(Arc::clone(&daemon)));
    tokio::spawn(crate::runs::keep(Arc::clone(&daemon)));
    crate::alerts::keep(&daemon);
    tokio::spawn(crate::watch::keep(Arc::clone(&daemon)));
    tokio::spawn(crate::backups::keep(Arc::clone(&daemon)));
    tokio::spawn(crate::recover::drill::keep(Arc::clone(&daemon)));
    tokio::spawn(crate::certificates::keep(Arc::clone(&daemon)));
    tokio::spawn(crate::config_git::keep(Arc::clone(&daemon)));
    tokio::spawn(crate::replicas::keep(Arc::clone(&daemon)));
    tokio::spawn(crate::dns::keep(Arc::clone(&daemon)));
    tokio::spawn(wake::serve(Arc::clone(&daemon), wake));
    astraler_host::activation::notify_ready().map_err(DaemonError::Ready)?;
    tokio::select! {
        () = api::serve_admin(Arc::clone(&daemon), admin) => {}
        () = api::serve_api(daemon, tcp) => {}
        () = shutdown => {}
    }
    Ok(())
}

/// Brings back what should be up: at start, and whenever a look finds it down.
async fn reconcile(daemon: Arc<Daemon>, first_change: OwnedRwLockWriteGuard<()>) {
    heal(&daemon).await;
    drop(first_change);
    loop {
        tokio::time::sleep(RECONCILE_EVERY).await;
        // While something is changed, that change looks after its parts itself.
        if let Ok(_change) = Arc::clone(&daemon.changes).try_write_owned() {
            heal(&daemon).await;
        }
    }
}

async fn heal(daemon: &Daemon) {
    if let Err(error) = deploy::settle(&daemon.platform).await {
        tracing::warn!(
            error = chain(&error),
            "half-done deployments cannot be ended; trying again"
        );
    }
    if let Err(error) = quieten(daemon).await {
        tracing::warn!(
            error = chain(&error),
            "what should sleep cannot be stopped; trying again"
        );
    }
    let live = match status::all_run(&daemon.platform).await {
        Ok(true) => return,
        Ok(false) => daemon.platform.awake(),
        Err(error) => Err(error),
    };
    let live = match live {
        Ok(live) => live,
        Err(error) => {
            tracing::warn!(
                error = chain(&error),
                "what should be up cannot be told; trying again"
            );
            return;
        }
    };
    for (environment, (deployment, application)) in live {
        match Box::pin(requests::bring_back(&daemon.platform, &deployment, &application)).await {
            Ok(true) => {
                daemon
                    .healed
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(environment);
                tracing::info!(%environment, "brought back");
            }
            Ok(false) => {}
            Err(Fault { part, message, .. }) => {
                tracing::warn!(%environment, part, message, "cannot be brought back; trying again");
            }
        }
    }
}

/// Stops what a killed process had meant to put to sleep.
async fn quieten(daemon: &Daemon) -> Result<(), PlatformError> {
    for environment in daemon.platform.asleep()? {
        if let Some(deployment) = daemon.platform.live_deployment(environment)? {
            sleep::stop(&daemon.platform, &deployment)
                .await
                .map_err(PlatformError::Supervisor)?;
        }
    }
    Ok(())
}

/// Makes the golden copy of staging anew whenever it is stale; several wishes while it is made are one.
async fn keep_golden(daemon: Arc<Daemon>) {
    loop {
        daemon.stale.notified().await;
        if let Err(fault) = Box::pin(preview::refresh(&daemon.platform)).await {
            tracing::warn!(
                message = fault.message,
                "previews are copies of the golden copy before"
            );
        }
    }
}

/// Puts idle previews to sleep, removes those whose time is up, goes on with removals that were interrupted.
async fn look_after_previews(daemon: Arc<Daemon>) {
    loop {
        tokio::time::sleep(LOOK_AT_PREVIEWS_EVERY).await;
        if let Err(error) = previews(&daemon).await {
            tracing::warn!(
                error = chain(&error),
                "previews cannot be looked after; trying again"
            );
        }
    }
}

async fn previews(daemon: &Daemon) -> Result<(), sleep::SleepError> {
    let platform = &daemon.platform;
    for record in platform.environments()? {
        let environment = record.environment;
        if record.desired == Desired::Down && matches!(environment, Environment::Preview(_)) {
            end(daemon, environment, "its removal was interrupted").await;
        }
    }
    let asleep = platform.asleep()?;
    for (environment, deployment, application, idle_ms) in sleep::idle_times(platform).await? {
        let asleep = asleep.contains(&environment);
        let protected = platform.is_protected(environment)?;
        match sleep::due(environment, &application, idle_ms, asleep, protected) {
            Due::Nothing => {}
            Due::Removal => {
                end(
                    daemon,
                    environment,
                    "no request within environments.preview.ttl_hours",
                )
                .await;
            }
            Due::Sleep => {
                let _change = daemon.changes.read().await;
                let _turn = daemon.turns.take(environment).await;
                let still = platform.live_deployment(environment)?;
                if still.is_some_and(|still| still.id == deployment.id) {
                    sleep::sleep(platform, &deployment).await?;
                    tracing::info!(%environment, "asleep");
                }
            }
        }
    }
    Ok(())
}

async fn end(daemon: &Daemon, environment: Environment, reason: &str) {
    let _change = daemon.changes.read().await;
    let _turn = daemon.turns.take(environment).await;
    let (events, received) = mpsc::channel(1);
    drop(received);
    let removed = remove::remove(&daemon.platform, environment, "daemon", reason, &events).await;
    match removed {
        Ok(()) => tracing::info!(%environment, reason, "removed"),
        Err(Fault { part, message, .. }) => {
            tracing::warn!(%environment, part, message, "cannot be removed; trying again");
        }
    }
}
