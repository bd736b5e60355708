//! Unused connections, by origin. A connection is either in here or leased; a leased one comes back only when its
//! answer was read to the end and its origin is still named.

use super::stream::Stream;
use crate::config::{Limits, ms};
use crate::deadline::Deadline;
use astraler_model::Origin;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

#[derive(Debug)]
pub(super) struct Pool {
    idle: Mutex<HashMap<Origin, Shelf>>,
    max_idle: usize,
    max_age: Duration,
}

#[derive(Debug, Default)]
struct Shelf {
    connections: VecDeque<(Connection, Instant)>,
    /// Replaced when the origin was retired in between: an older lease does not come back.
    era: Arc<()>,
}

/// A stream, and the timer that waits for it: it goes from request to request without being set anew.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: Stream,
    pub(super) deadline: Deadline,
}

/// A connection in use.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) connection: Connection,
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
    pub(super) fn checkout(self: &Arc<Self>, origin: &Origin) -> Option<Lease> {
        let mut idle = self.lock();
        let shelf = idle.get_mut(origin)?;
        while let Some((connection, since)) = shelf.connections.pop_back() {
            if since.elapsed() > self.max_age {
                // The others are older still.
                shelf.connections.clear();
                return None;
            }
            if connection.stream.is_quiet() {
                return Some(Lease {
                    connection,
                    pool: self.clone(),
                    origin: origin.clone(),
                    era: shelf.era.clone(),
                });
            }
        }
        None
    }

    pub(super) fn lease(self: &Arc<Self>, origin: &Origin, stream: Stream) -> Lease {
        let era = self.lock().entry(origin.clone()).or_default().era.clone();
        let deadline = Deadline::default();
        Lease {
            connection: Connection { stream, deadline },
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
                .retain(|(connection, since)| since.elapsed() <= max_age && connection.stream.is_quiet());
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
    /// Its answer was read to the end, and nothing behind it.
    pub(super) fn give_back(self) {
        let mut idle = self.pool.lock();
        let Some(shelf) = idle.get_mut(&self.origin) else {
            return;
        };
        if Arc::ptr_eq(&shelf.era, &self.era) && shelf.connections.len() < self.pool.max_idle {
            shelf.connections.push_back((self.connection, Instant::now()));
        }
    }
}
