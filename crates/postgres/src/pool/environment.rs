//! The server connections of one environment: a bounded number, a bounded queue in front of them.

use super::PoolLimits;
use super::server::{CancelTarget, Server, ServerError, Settings};
use super::wire::ErrorResponse;
use astraler_model::PostgresAccess;
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Reports of the server kept for log-ins, by what the client asked for.
const MAX_REPORTS: usize = 64;
/// A server that restarts is waited for so long.
const OPEN_PATIENCE: Duration = Duration::from_secs(2);
const OPEN_RETRY: Duration = Duration::from_millis(50);
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// What the pool itself asks of a server takes no longer.
const UPKEEP_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct EnvironmentPool {
    pub(super) access: PostgresAccess,
    limits: PoolLimits,
    places: Arc<Semaphore>,
    idle: Mutex<Vec<Server>>,
    reports: Mutex<HashMap<Settings, Settings>>,
    /// Its environment is gone or is reached otherwise by now.
    retired: AtomicBool,
    pub(super) clients: AtomicUsize,
    pub(super) waiting: AtomicUsize,
    pub(super) active: AtomicUsize,
    pub(super) transactions: AtomicU64,
    pub(super) refused: AtomicU64,
}

/// A server connection in use; it counts until it is given back or dropped.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) server: Server,
    _place: Place,
}

#[derive(Debug)]
struct Place {
    pool: Arc<EnvironmentPool>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.pool.active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts one while it lives.
struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl EnvironmentPool {
    pub(super) fn new(access: PostgresAccess, limits: PoolLimits) -> Self {
        Self {
            places: Arc::new(Semaphore::new(access.pool_size.max(1) as usize)),
            access,
            limits,
            idle: Mutex::default(),
            reports: Mutex::default(),
            retired: AtomicBool::new(false),
            clients: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            active: AtomicUsize::new(0),
            transactions: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// What the server reports to a client with these settings. Asks a server the first time only.
    pub(super) async fn report(self: &Arc<Self>, settings: &Settings) -> Result<Settings, ErrorResponse> {
        let reports = || self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        let known = reports().get(settings).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let lease = self.lease(settings).await?;
        let report = lease.server.state.statuses.clone();
        self.give_back(lease, None);
        let mut reports = reports();
        if reports.len() >= MAX_REPORTS {
            reports.clear();
        }
        reports.insert(settings.clone(), report.clone());
        Ok(report)
    }

    /// A server connection with these settings: an idle one, a new one, or one for which it waits.
    pub(super) async fn lease(self: &Arc<Self>, settings: &Settings) -> Result<Lease, ErrorResponse> {
        let result = self.try_lease(settings).await;
        if let Err(error) = &result {
            self.refused.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(
                code = error.code,
                message = error.message,
                "no server connection for a client"
            );
        }
        result
    }

    async fn try_lease(self: &Arc<Self>, settings: &Settings) -> Result<Lease, ErrorResponse> {
        let permit = match Arc::clone(&self.places).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let before = self.waiting.fetch_add(1, Ordering::Relaxed);
                let _counted = Counted(&self.waiting);
                let patience = self.limits.wait;
                let waited = tokio::time::timeout(patience, Arc::clone(&self.places).acquire_owned());
                match if before >= self.limits.max_waiting {
                    None
                } else {
                    waited.await.ok()
                } {
                    Some(Ok(permit)) => permit,
                    _ => return Err(self.exhausted()),
                }
            }
        };
        self.active.fetch_add(1, Ordering::Relaxed);
        let place = Place {
            pool: Arc::clone(self),
            _permit: permit,
        };
        let mut server = match self.take_idle(settings) {
            Some(server) => server,
            None => self.open().await.map_err(|error| refusal(&error))?,
        };
        match tokio::time::timeout(UPKEEP_TIMEOUT, server.apply(settings)).await {
            Ok(Ok(())) => Ok(Lease {
                server,
                _place: place,
            }),
            Ok(Err(error)) => {
                let refused = refusal(&error);
                // A setting that the server does not accept leaves the connection as it was.
                if matches!(&error, ServerError::Refused(error) if !error.fatal) {
                    self.give_back(
                        Lease {
                            server,
                            _place: place,
                        },
                        None,
                    );
                }
                Err(refused)
            }
            Err(_) => Err(ErrorResponse::new(true, "08006", "PostgreSQL does not answer")),
        }
    }

    fn exhausted(&self) -> ErrorResponse {
        let size = self.access.pool_size;
        let message = format!(
            "all {size} connections to database \"{}\" are in use",
            self.access.database
        );
        ErrorResponse::new(false, "53300", message)
            .hint("Make transactions shorter, or raise the pool's size in astraler.toml.")
    }

    /// The connection used last: the others may then grow old. One with the right settings comes first.
    fn take_idle(&self, settings: &Settings) -> Option<Server> {
        loop {
            let server = {
                let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
                let fitting = idle.iter().rposition(|server| server.state.applied == *settings);
                match fitting {
                    Some(index) => idle.remove(index),
                    None => idle.pop()?,
                }
            };
            if server.pipe.is_silent() {
                return Some(server);
            }
        }
    }

    async fn open(&self) -> Result<Server, ServerError> {
        let deadline = Instant::now() + OPEN_PATIENCE;
        loop {
            let opened = tokio::time::timeout(OPEN_TIMEOUT, Server::open(&self.access)).await;
            let error = match opened {
                Ok(Ok(server)) => return Ok(server),
                Ok(Err(error)) => error,
                Err(_) => return Err(io::Error::from(io::ErrorKind::TimedOut).into()),
            };
            // "The database system is starting up", or no socket yet.
            let temporary = match &error {
                ServerError::Io(_) => true,
                ServerError::Refused(error) => error.code == "57P03",
                ServerError::Authentication => false,
            };
            if !temporary || Instant::now() + OPEN_RETRY >= deadline {
                return Err(error);
            }
            tokio::time::sleep(OPEN_RETRY).await;
        }
    }

    /// Takes a connection back; with `reset`, after what its client left behind was removed (the whole
    /// session's state when true).
    pub(super) fn give_back(self: &Arc<Self>, lease: Lease, reset: Option<bool>) {
        let Lease {
            mut server,
            _place: place,
        } = lease;
        server.pipe.shrink();
        if reset.is_none() && server.state.prepared.len() <= 2 * super::server::MAX_PREPARED {
            self.keep(server);
            return;
        }
        tokio::spawn(async move {
            let upkeep = async {
                if let Some(whole_session) = reset {
                    server.reset(whole_session).await?;
                }
                server.tidy().await
            };
            match tokio::time::timeout(UPKEEP_TIMEOUT, upkeep).await {
                Ok(Ok(())) => place.pool.keep(server),
                // Dropped, and so closed.
                Ok(Err(error)) => tracing::debug!(%error, "a server connection could not be reset"),
                Err(_) => tracing::debug!("a server connection could not be reset in time"),
            }
        });
    }

    fn keep(&self, mut server: Server) {
        if self.retired.load(Ordering::Acquire)
            || !server.pipe.incoming.is_empty()
            || !server.pipe.out.is_empty()
        {
            return;
        }
        server.last_used = Instant::now();
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(server);
    }

    /// Closes connections that were idle for long, or that the server has closed.
    pub(super) fn reap(&self) {
        let limit = self.limits.idle;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|server| server.last_used.elapsed() < limit && server.pipe.is_silent());
    }

    /// No connection is kept from now on.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(super) fn idle_count(&self) -> usize {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Lease {
    /// Ends a connection whose client went away in the middle: the query is cancelled, then all is dropped.
    pub(super) fn abandon(self) {
        let cancel: CancelTarget = self.server.cancel.clone();
        tokio::spawn(async move {
            cancel.cancel().await;
            drop(self);
        });
    }
}

/// What a client is told when the server cannot be used.
fn refusal(error: &ServerError) -> ErrorResponse {
    match error {
        ServerError::Refused(error) => {
            // The client's own connection lives on.
            ErrorResponse {
                fatal: false,
                ..error.clone()
            }
        }
        ServerError::Io(source) => {
            ErrorResponse::new(false, "08006", format!("PostgreSQL cannot be reached: {source}"))
        }
        ServerError::Authentication => ErrorResponse::new(false, "08006", error.to_string()),
    }
}
