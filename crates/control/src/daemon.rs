//! The control process: opens the store and the root key, heals what should be up, serves its API.

use crate::installation::Installation;
use crate::platform::{Platform, PlatformError};
use crate::words::Fault;
use crate::{api, deploy, status, up};
use astraler_model::Environment;
use std::collections::BTreeSet;
use std::net::TcpListener as StdTcpListener;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc};

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
    /// One change at a time.
    pub(crate) changes: Arc<Mutex<()>>,
    /// Environments that this process brought back after they had been down.
    healed: StdMutex<BTreeSet<Environment>>,
}

impl Daemon {
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
}

/// Runs until `shutdown`.
pub async fn run(
    installation: Installation,
    listening: Listening,
    shutdown: impl Future<Output = ()>,
) -> Result<(), DaemonError> {
    let platform = Platform::open(installation).map_err(PlatformErrorOpaque)?;
    platform.note_interrupted().map_err(PlatformErrorOpaque)?;
    let daemon = Arc::new(Daemon {
        platform,
        changes: Arc::new(Mutex::new(())),
        healed: StdMutex::default(),
    });
    let admin = UnixListener::from_std(listening.admin).map_err(DaemonError::Socket)?;
    let tcp = TcpListener::from_std(listening.api).map_err(DaemonError::Socket)?;
    // Healing takes the change lock before the first request can be read: an `up` that arrives now waits.
    let first_change = Arc::clone(&daemon.changes).lock_owned().await;
    tokio::spawn(reconcile(Arc::clone(&daemon), first_change));
    astraler_host::activation::notify_ready().map_err(DaemonError::Ready)?;
    tokio::select! {
        () = api::serve_admin(Arc::clone(&daemon), admin) => {}
        () = api::serve_api(daemon, tcp) => {}
        () = shutdown => {}
    }
    Ok(())
}

/// Brings back what should be up: at start, and whenever a look finds it down.
async fn reconcile(daemon: Arc<Daemon>, first_change: OwnedMutexGuard<()>) {
    let mut change = first_change;
    loop {
        heal(&daemon).await;
        drop(change);
        tokio::time::sleep(RECONCILE_EVERY).await;
        change = Arc::clone(&daemon.changes).lock_owned().await;
    }
}

async fn heal(daemon: &Daemon) {
    if let Err(error) = deploy::settle(&daemon.platform).await {
        tracing::warn!(
            error = crate::words::chain(&error),
            "half-done deployments cannot be ended; trying again"
        );
    }
    let live = match status::all_run(&daemon.platform).await {
        Ok(true) => return,
        Ok(false) => daemon.platform.live(),
        Err(error) => Err(error),
    };
    let live = match live {
        Ok(live) => live,
        Err(error) => {
            tracing::warn!(
                error = crate::words::chain(&error),
                "what should be up cannot be told; trying again"
            );
            return;
        }
    };
    for (environment, (_, application)) in live {
        let (events, mut received) = mpsc::channel(8);
        let discard = tokio::spawn(async move { while received.recv().await.is_some() {} });
        match Box::pin(up::up(
            &daemon.platform,
            environment,
            &application,
            "daemon",
            &events,
        ))
        .await
        {
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
        drop(events);
        discard.await.ok();
    }
}
