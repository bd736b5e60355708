//! Unused connections, by origin. A connection is either in here or leased; a leased one comes back only when its
//! answer was read to the end and its origin is still named.

use crate::body::Body;
use crate::config::{Limits, ms};
use astraler_model::Origin;
use hyper::client::conn::http1::SendRequest;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long a connection that was just given back may take to become ready.
const SETTLE: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(super) struct Pool {
    idle: Mutex<HashMap<Origin, Shelf>>,
    max_idle: usize,
    max_age: Duration,
}

#[derive(Debug, Default)]
struct Shelf {
    connections: VecDeque<(SendRequest<Body>, Instant)>,
    /// Replaced when the origin was retired in between: an older lease does not come back.
    era: Arc<()>,
}

/// A connection in use.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) sender: SendRequest<Body>,
    pool: Arc<Pool>,
    origin: Origin,
    era: Arc<()>,
}

impl Pool {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            idle: Mutex::default(),
            max_idle: limits.upstream_max_idle,
            max_age: ms(limits.upstream_idle_ms),
        }
    }

    /// The youngest unused connection that still works.
    pub(super) async fn checkout(self: &Arc<Self>, origin: &Origin) -> Option<Lease> {
        loop {
            let (mut sender, era) = {
                let mut idle = self.lock();
                let shelf = idle.get_mut(origin)?;
                let (sender, since) = shelf.connections.pop_back()?;
                if since.elapsed() > self.max_age {
                    // The others are older still.
                    shelf.connections.clear();
                    return None;
                }
                (sender, shelf.era.clone())
            };
            if sender.is_closed() {
                continue;
            }
            if sender.is_ready() || matches!(tokio::time::timeout(SETTLE, sender.ready()).await, Ok(Ok(()))) {
                return Some(Lease {
                    sender,
                    pool: self.clone(),
                    origin: origin.clone(),
                    era,
                });
            }
        }
    }

    pub(super) fn lease(self: &Arc<Self>, origin: &Origin, sender: SendRequest<Body>) -> Lease {
        let era = self.lock().entry(origin.clone()).or_default().era.clone();
        Lease {
            sender,
            pool: self.clone(),
            origin: origin.clone(),
            era,
        }
    }

    pub(super) fn retain_only(&self, origins: &HashSet<Origin>) {
        self.lock().retain(|origin, _| origins.contains(origin));
    }

    pub(super) fn prune(&self) {
        let max_age = self.max_age;
        for shelf in self.lock().values_mut() {
            shelf
                .connections
                .retain(|(sender, since)| !sender.is_closed() && since.elapsed() <= max_age);
        }
    }

    pub(super) fn idle(&self) -> usize {
        self.lock().values().map(|shelf| shelf.connections.len()).sum()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Origin, Shelf>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// Its answer was read to the end.
    pub(super) fn give_back(self) {
        if self.sender.is_closed() {
            return;
        }
        let mut idle = self.pool.lock();
        let Some(shelf) = idle.get_mut(&self.origin) else {
            return;
        };
        if Arc::ptr_eq(&shelf.era, &self.era) && shelf.connections.len() < self.pool.max_idle {
            shelf.connections.push_back((self.sender, Instant::now()));
        }
    }
}
