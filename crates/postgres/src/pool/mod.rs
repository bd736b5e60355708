//! The pool behind the workers' Hyperdrive socket: many clients share few server connections.
//!
//! Transaction pooling: a client holds a server connection from the first message of a transaction to its
//! end. Prepared statements follow the client from server to server. What a session keeps beyond a
//! transaction (SET, LISTEN, PREPARE, session advisory locks, cursors WITH HOLD) keeps the server with the
//! client; what the pool cannot see is listed in `effects`. It does not parse SQL and does not route.

mod effects;
mod environment;
mod relay;
mod server;
mod session;
mod startup;
mod wire;

use astraler_model::{DataSnapshot, Environment};
use environment::EnvironmentPool;
use server::CancelTarget;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Bounds of the pool. Server connections are bounded by [`astraler_model::PostgresAccess::pool_size`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolLimits {
    /// Clients at once, of all environments.
    pub max_clients: usize,
    /// Clients of one environment that wait for a server connection.
    pub max_waiting: usize,
    /// How long a client waits before it gets error 53300.
    pub wait: Duration,
    /// After so long without use, a server connection is closed.
    pub idle: Duration,
    /// How long a client may take to log in.
    pub login: Duration,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self {
            max_clients: 10_000,
            max_waiting: 10_000,
            wait: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            login: Duration::from_secs(15),
        }
    }
}

/// One environment's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolStats {
    /// Clients connected.
    pub clients: usize,
    /// Clients that wait for a server connection.
    pub waiting: usize,
    /// Server connections in use.
    pub active: usize,
    /// Server connections that wait for a client.
    pub idle: usize,
    /// Server connections there may be.
    pub size: usize,
    /// Transactions since the start.
    pub transactions: u64,
    /// Times that no server connection could be had.
    pub refused: u64,
}

/// The pools of all environments.
#[derive(Debug)]
pub struct Pool {
    limits: PoolLimits,
    source: watch::Receiver<Arc<DataSnapshot>>,
    pools: Mutex<Pools>,
    cancels: Mutex<HashMap<(i32, i32), Arc<CancelSlot>>>,
    next_client: AtomicI32,
}

#[derive(Debug, Default)]
struct Pools {
    seen: Option<Arc<DataSnapshot>>,
    by_environment: BTreeMap<Environment, Arc<EnvironmentPool>>,
}

/// Which server a client's query runs on, if any.
#[derive(Debug, Default)]
struct CancelSlot(tokio::sync::Mutex<Option<CancelTarget>>);

/// Serves clients on a socket until `shutdown`, then lets transactions end for a few seconds.
pub async fn serve(
    listener: UnixListener,
    source: watch::Receiver<Arc<DataSnapshot>>,
    shutdown: CancellationToken,
) {
    Arc::new(Pool::new(source, PoolLimits::default()))
        .serve(listener, shutdown)
        .await;
}

impl Pool {
    /// A pool that follows the snapshots. Nothing is connected until a client comes.
    pub fn new(source: watch::Receiver<Arc<DataSnapshot>>, limits: PoolLimits) -> Self {
        Self {
            limits,
            source,
            pools: Mutex::default(),
            cancels: Mutex::default(),
            next_client: AtomicI32::new(1),
        }
    }

    /// The numbers of every environment that has a database.
    pub fn stats(&self) -> BTreeMap<Environment, PoolStats> {
        let stats = |pool: &EnvironmentPool| PoolStats {
            clients: pool.clients.load(Ordering::Relaxed),
            waiting: pool.waiting.load(Ordering::Relaxed),
            active: pool.active.load(Ordering::Relaxed),
            idle: pool.idle_count(),
            size: pool.access.pool_size as usize,
            transactions: pool.transactions.load(Ordering::Relaxed),
            refused: pool.refused.load(Ordering::Relaxed),
        };
        self.pools()
            .into_iter()
            .map(|(environment, pool)| (environment, stats(&pool)))
            .collect()
    }

    /// Serves clients on a socket until `shutdown`, then lets transactions end for a few seconds.
    pub async fn serve(self: Arc<Self>, listener: UnixListener, shutdown: CancellationToken) {
        const UPKEEP: Duration = Duration::from_secs(5);
        let places = Arc::new(Semaphore::new(self.limits.max_clients));
        let mut sessions = JoinSet::new();
        let mut upkeep = tokio::time::interval(UPKEEP.min(self.limits.idle));
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => self.admit(stream, &places, &mut sessions, &shutdown),
                    Err(error) => {
                        // No descriptors, most likely: some will come back.
                        tracing::warn!(%error, "accepting a client of the database pool");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
                _ = upkeep.tick() => self.pools().values().for_each(|pool| pool.reap()),
                Some(_) = sessions.join_next() => {}
                () = shutdown.cancelled() => break,
            }
        }
        drop(listener);
        while sessions.join_next().await.is_some() {}
        self.pools().values().for_each(|pool| pool.retire());
    }

    fn admit(
        self: &Arc<Self>,
        stream: UnixStream,
        places: &Arc<Semaphore>,
        sessions: &mut JoinSet<()>,
        shutdown: &CancellationToken,
    ) {
        let Ok(place) = Arc::clone(places).try_acquire_owned() else {
            let mut pipe = wire::Pipe::new(stream);
            let mut word = bytes::BytesMut::new();
            wire::ErrorResponse::new(true, "53300", "sorry, too many clients already").write(&mut word);
            pipe.last_word(&word);
            return;
        };
        let (pool, shutdown) = (Arc::clone(self), shutdown.clone());
        sessions.spawn(async move {
            session::run(&pool, stream, &shutdown).await;
            drop(place);
        });
    }

    /// The pools of the present snapshot. Those whose access changed are replaced; their connections end as
    /// they are given back.
    fn present(&self) -> MutexGuard<'_, Pools> {
        let snapshot = self.source.borrow().clone();
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if pools
            .seen
            .as_ref()
            .is_none_or(|seen| !Arc::ptr_eq(seen, &snapshot))
        {
            let mut old = std::mem::take(&mut pools.by_environment);
            for (environment, data) in &snapshot.environments {
                let Some(access) = &data.postgres else { continue };
                let pool = match old.remove(environment) {
                    Some(same) if same.access == *access => same,
                    other => {
                        old.extend(other.map(|other| (*environment, other)));
                        Arc::new(EnvironmentPool::new(access.clone(), self.limits))
                    }
                };
                pools.by_environment.insert(*environment, pool);
            }
            old.values().for_each(|pool| pool.retire());
            pools.seen = Some(snapshot);
        }
        pools
    }

    fn pools(&self) -> BTreeMap<Environment, Arc<EnvironmentPool>> {
        self.present().by_environment.clone()
    }

    fn pool_of(&self, environment: Environment) -> Option<Arc<EnvironmentPool>> {
        self.present().by_environment.get(&environment).cloned()
    }

    fn new_key(&self) -> (i32, i32) {
        (
            self.next_client.fetch_add(1, Ordering::Relaxed) & i32::MAX,
            rand::random(),
        )
    }

    fn register(&self, key: (i32, i32)) -> Arc<CancelSlot> {
        let slot = Arc::new(CancelSlot::default());
        self.cancels
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key, Arc::clone(&slot));
        slot
    }

    fn unregister(&self, key: (i32, i32)) {
        self.cancels
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&key);
    }

    /// Passes a cancel request on to the server that runs the client's query at this moment.
    async fn cancel(&self, key: (i32, i32)) {
        let slot = self
            .cancels
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
            .cloned();
        if let Some(slot) = slot {
            // Held until the server has passed it on: the session cannot let go of the server meanwhile.
            let target = slot.0.lock().await;
            if let Some(target) = &*target {
                target.cancel().await;
            }
        }
    }
}
