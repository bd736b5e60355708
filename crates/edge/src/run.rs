//! From a configuration to a running edge, and to its end.

use crate::activity::Activities;
use crate::config::{Config, Limits};
use crate::log::{self, AccessLog};
use crate::route::Routes;
use crate::upstream::Upstream;
use crate::{EdgeSnapshot, accept, control};
use arc_swap::ArcSwap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Old pooled connections are looked for so often.
const PRUNE_EVERY: Duration = Duration::from_secs(2);

/// The edge cannot start.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    /// The access log cannot be opened.
    #[error("cannot open the access log {path}", path = .path.display())]
    AccessLog {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A listener cannot be used.
    #[error("cannot use a listening socket")]
    Listener {
        /// What the system said.
        source: io::Error,
    },
}

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Edge {
    pub(crate) routes: ArcSwap<Routes>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) upstream: Upstream,
    /// For the control plane alone: see [`crate::wake`].
    pub(crate) waker: Upstream,
    pub(crate) activities: Activities,
    pub(crate) log: AccessLog,
    pub(crate) counters: Arc<Counters>,
    /// Connections and tunnels.
    pub(crate) tasks: TaskTracker,
    pub(crate) turning_away: Arc<tokio::sync::Semaphore>,
    /// No new connections, no further requests on the old ones.
    pub(crate) draining: CancellationToken,
    /// The drain took too long.
    pub(crate) aborting: CancellationToken,
    pub(crate) begun: Instant,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) connections: AtomicU64,
    pub(crate) in_flight: AtomicU64,
    pub(crate) requests_total: AtomicU64,
    pub(crate) turned_away_total: AtomicU64,
}

/// Serves until `shutdown` completes, then drains: stops accepting, closes idle connections, lets requests in flight end
/// within [`Limits::drain_ms`], writes the last log records.
///
/// # Errors
/// Only at the start: see [`EdgeError`].
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), EdgeError> {
    let Config {
        listeners,
        snapshot,
        limits,
        access_log,
        control,
    } = config;
    let path = access_log.path.clone();
    let (log, writer) = log::open(access_log).map_err(|source| EdgeError::AccessLog { path, source })?;
    let listeners = listeners.into_iter().map(tcp).collect::<io::Result<Vec<_>>>();
    let listeners = listeners.map_err(|source| EdgeError::Listener { source })?;
    let control = control
        .map(unix)
        .transpose()
        .map_err(|source| EdgeError::Listener { source })?;

    let mut snapshot = snapshot;
    let activities = Activities::default();
    let first = Routes::of(&snapshot.borrow_and_update(), &activities);
    let edge = Arc::new(Edge {
        routes: ArcSwap::from_pointee(first),
        upstream: Upstream::new(&limits),
        waker: Upstream::new(&Limits::default()),
        activities,
        limits: Arc::new(limits),
        log,
        counters: Arc::default(),
        tasks: TaskTracker::new(),
        turning_away: accept::turning_away(),
        draining: CancellationToken::new(),
        aborting: CancellationToken::new(),
        begun: Instant::now(),
    });

    let mut helpers = tokio::task::JoinSet::new();
    helpers.spawn(follow(edge.clone(), snapshot));
    helpers.spawn(prune([edge.upstream.clone(), edge.waker.clone()]));
    if let Some(control) = control {
        helpers.spawn(control::listen(edge.clone(), control));
    }
    let mut acceptors = tokio::task::JoinSet::new();
    for listener in listeners {
        for _ in 0..accept::ACCEPTORS {
            acceptors.spawn(accept::accept(edge.clone(), listener.clone()));
        }
    }

    shutdown.await;
    edge.draining.cancel();
    // The listeners are closed here: whoever inherited them gets the next connection.
    while acceptors.join_next().await.is_some() {}
    accept::drained(&edge).await;
    helpers.shutdown().await;
    drop(edge);
    writer.finish().await;
    Ok(())
}

/// Replaces the routes with each snapshot. Requests in flight keep the ones they have.
async fn follow(edge: Arc<Edge>, mut snapshot: watch::Receiver<Arc<EdgeSnapshot>>) {
    while snapshot.changed().await.is_ok() {
        let new = snapshot.borrow_and_update().clone();
        let routes = Routes::of(&new, &edge.activities);
        let origins = routes.origins();
        tracing::info!(
            version = routes.version,
            environments = new.routes.len(),
            "new routes"
        );
        edge.routes.store(Arc::new(routes));
        edge.upstream.retain_only(&origins);
    }
}

async fn prune(pools: [Upstream; 2]) {
    let mut tick = tokio::time::interval(PRUNE_EVERY);
    loop {
        tick.tick().await;
        pools.iter().for_each(Upstream::prune);
    }
}

fn tcp(listener: std::net::TcpListener) -> io::Result<Arc<tokio::net::TcpListener>> {
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener).map(Arc::new)
}

fn unix(listener: std::os::unix::net::UnixListener) -> io::Result<tokio::net::UnixListener> {
    listener.set_nonblocking(true)?;
    tokio::net::UnixListener::from_std(listener)
}
