//! From a configuration to a running edge, and to its end.

use crate::activity::Activities;
use crate::cache::Cache;
use crate::clients::Clients;
use crate::compress::Places;
use crate::config::{Config, Limits};
use crate::log::{self, AccessLog};
use crate::memory::Memory;
use crate::rate::Rates;
use crate::route::Routes;
use crate::serve::Scheme;
use crate::tls::Tls;
use crate::upstream::Upstream;
use crate::waf::{Programs, Room};
use crate::{EdgeSnapshot, accept, control, threads};
use arc_swap::ArcSwap;
use http::HeaderValue;
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
    /// A thread cannot be started.
    #[error("cannot start a thread")]
    Thread {
        /// What the system said.
        source: io::Error,
    },
    /// A listener cannot be used.
    #[error("cannot use a listening socket")]
    Listener {
        /// What the system said.
        source: io::Error,
    },
    /// TLS has no randomness, or no version in common with us.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

/// What the connections of one thread share. Each thread has its own: what stands behind an `Arc` here is shared by all
/// threads, the rest is the thread's, see [`Edge::of_a_thread`].
#[derive(Debug, Clone)]
pub(crate) struct Edge {
    pub(crate) routes: Arc<ArcSwap<Routes>>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) tls: Arc<Tls>,
    /// The thread's own pool.
    pub(crate) upstream: Upstream,
    /// For the control plane alone: see [`crate::wake`]. The thread's own.
    pub(crate) waker: Upstream,
    pub(crate) activities: Arc<Activities>,
    pub(crate) rates: Arc<Rates>,
    /// The firewall's rules, compiled.
    pub(crate) programs: Arc<Programs>,
    /// For bodies that it looks at.
    pub(crate) inspecting: Arc<Room>,
    /// Of answers that are being compressed.
    pub(crate) compressing: Places,
    pub(crate) cache: Arc<Cache>,
    pub(crate) log: AccessLog,
    /// Client connections of all threads.
    pub(crate) connections: Arc<AtomicU64>,
    /// The thread's own: counting costs no other thread's cache line.
    pub(crate) counters: Arc<Counters>,
    /// Connections and tunnels of the thread.
    pub(crate) tasks: TaskTracker,
    /// Connections by client, of all threads.
    pub(crate) clients: Arc<Clients>,
    pub(crate) memory: Arc<Memory>,
    /// Handshakes of TLS over TCP that are under way, of all threads.
    pub(crate) handshakes: Arc<tokio::sync::Semaphore>,
    /// What answers over TLS say of HTTP/3, where it is served (RFC 7838).
    pub(crate) alt_svc: Option<HeaderValue>,
    pub(crate) turning_away: Arc<tokio::sync::Semaphore>,
    /// No new connections, no further requests on the old ones. The thread's own child of one token.
    pub(crate) draining: CancellationToken,
    /// The drain took too long.
    pub(crate) aborting: CancellationToken,
    pub(crate) begun: Instant,
}

/// What the requests of one thread add up to.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) in_flight: AtomicU64,
    pub(crate) requests_total: AtomicU64,
    pub(crate) turned_away_total: AtomicU64,
}

impl Edge {
    /// Its own part new, the rest shared.
    pub(crate) fn of_a_thread(&self) -> Self {
        Self {
            upstream: Upstream::new(&self.limits),
            waker: Upstream::new(&Limits::default()),
            log: self.log.of_a_thread(),
            counters: Arc::default(),
            tasks: TaskTracker::new(),
            draining: self.draining.child_token(),
            aborting: self.aborting.child_token(),
            ..self.clone()
        }
    }

    /// For a connection that begins now: with tighter limits while an environment is under attack.
    pub(crate) fn for_a_connection(self: &Arc<Self>) -> Arc<Self> {
        match self.routes.load().tightened(&self.limits) {
            Some(limits) => Arc::new(Self {
                limits: Arc::new(limits),
                ..(**self).clone()
            }),
            None => self.clone(),
        }
    }
}

/// Serves until `shutdown` completes, then drains: stops accepting, closes idle connections, lets requests in flight end
/// within [`Limits::drain_ms`], writes the last log records.
///
/// # Errors
/// Only at the start: see [`EdgeError`].
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), EdgeError> {
    let Config {
        listeners,
        https,
        quic,
        snapshot,
        in_force,
        limits,
        access_log,
        cache_folder,
        control,
        give_back,
    } = config;
    let path = access_log.path.clone();
    let (log, writer) = log::open(access_log).map_err(|source| EdgeError::AccessLog { path, source })?;
    let control = control
        .map(unix)
        .transpose()
        .map_err(|source| EdgeError::Listener { source })?;

    let mut snapshot = snapshot;
    let activities = Arc::new(Activities::default());
    let tls = Tls::new().map_err(EdgeError::Tls)?;
    let first = snapshot.borrow_and_update().clone();
    tls.take(&first.tls);
    let cache = Cache::new(&first.cache, cache_folder).map_err(|source| EdgeError::Thread { source })?;
    let rates = Arc::new(Rates::default());
    let programs = Arc::new(Programs::default());
    programs.prepare(&first).await;
    let first = Routes::of(&first, &activities, &rates, &programs);
    let clients = Clients::new();
    let memory = Arc::new(Memory::new(limits.max_memory_bytes, give_back));
    let edge = Edge {
        routes: Arc::new(ArcSwap::from_pointee(first)),
        upstream: Upstream::new(&limits),
        waker: Upstream::new(&Limits::default()),
        activities,
        tls: Arc::new(tls),
        rates,
        programs,
        inspecting: Arc::new(Room::new(&limits)),
        compressing: Places::default(),
        cache: Arc::new(cache),
        limits: Arc::new(limits),
        log,
        connections: Arc::default(),
        counters: Arc::default(),
        tasks: TaskTracker::new(),
        clients,
        memory,
        handshakes: Arc::new(tokio::sync::Semaphore::new(crate::greet::MAX_HANDSHAKES)),
        alt_svc: alt_svc(&quic),
        turning_away: accept::turning_away(),
        draining: CancellationToken::new(),
        aborting: CancellationToken::new(),
        begun: Instant::now(),
    };
    // Dropped without a shutdown, it takes its threads along.
    let _abandoned = (
        edge.draining.clone().drop_guard(),
        edge.aborting.clone().drop_guard(),
    );
    let threads = threads::start(&edge, doors(listeners, https), quic)?;
    let edges: Arc<[Arc<Edge>]> = threads.iter().map(|thread| thread.edge.clone()).collect();

    let mut helpers = tokio::task::JoinSet::new();
    helpers.spawn(follow(edges.clone(), snapshot, in_force));
    helpers.spawn(prune(edges.clone()));
    let memory = edge.memory.clone();
    helpers.spawn(async move { tokio::join!(memory.watch(), memory.give_back()).0 });
    if let Some(control) = control {
        helpers.spawn(control::listen(edges, control));
    }

    shutdown.await;
    // The listeners are closed here: whoever inherited them gets the next connection.
    edge.draining.cancel();
    for thread in threads {
        thread.ended().await;
    }
    helpers.shutdown().await;
    drop(edge);
    writer.finish().await;
    Ok(())
}

/// Replaces the routes with each snapshot. Requests in flight keep the ones they have.
async fn follow(
    edges: Arc<[Arc<Edge>]>,
    mut snapshot: watch::Receiver<Arc<EdgeSnapshot>>,
    in_force: Option<watch::Sender<u64>>,
) {
    while snapshot.changed().await.is_ok() {
        let new = snapshot.borrow_and_update().clone();
        let Some(edge) = edges.first() else { return };
        edge.tls.take(&new.tls);
        edge.programs.prepare(&new).await;
        let routes = Routes::of(&new, &edge.activities, &edge.rates, &edge.programs);
        let origins = routes.origins();
        tracing::info!(
            version = routes.version,
            environments = new.routes.len(),
            "new routes"
        );
        edge.cache.resize(&new.cache);
        edge.routes.store(Arc::new(routes));
        for edge in &*edges {
            edge.upstream.retain_only(&origins);
        }
        if let Some(in_force) = &in_force {
            in_force.send_replace(new.version);
        }
    }
}

async fn prune(edges: Arc<[Arc<Edge>]>) {
    let mut tick = tokio::time::interval(PRUNE_EVERY);
    loop {
        tick.tick().await;
        for edge in &*edges {
            edge.upstream.prune();
            edge.waker.prune();
        }
    }
}

/// The listeners, each with what is spoken there.
fn doors(
    http: Vec<std::net::TcpListener>,
    https: Vec<std::net::TcpListener>,
) -> Vec<(std::net::TcpListener, Scheme)> {
    let http = http.into_iter().map(|listener| (listener, Scheme::Http));
    let https = https.into_iter().map(|listener| (listener, Scheme::Https));
    http.chain(https).collect()
}

/// The port is ours: in front of a port that is forwarded from another one, HTTP/3 is not found, and nothing is lost.
fn alt_svc(quic: &[std::net::UdpSocket]) -> Option<HeaderValue> {
    let port = quic.first()?.local_addr().ok()?.port();
    HeaderValue::from_str(&format!("h3=\":{port}\"; ma=86400")).ok()
}

fn unix(listener: std::os::unix::net::UnixListener) -> io::Result<tokio::net::UnixListener> {
    listener.set_nonblocking(true)?;
    tokio::net::UnixListener::from_std(listener)
}
