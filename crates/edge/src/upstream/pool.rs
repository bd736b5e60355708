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

/// So much earlier than an upstream closes a connection it is not used any more.
const MARGIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Pool {
    shelves: Mutex<HashMap<Origin, Arc<Shelf>>>,
    max_idle: usize,
    max_age: Duration,
}

/// The unused connections to one origin. Those in use hold it too, so that they find back.
#[derive(Debug, Default)]
struct Shelf {
    unused: Mutex<Unused>,
}

#[derive(Debug, Default)]
struct Unused {
    /// Each with the time until which it may be used again.
    connections: VecDeque<(Connection, Instant)>,
    /// The origin is no longer named: nothing comes back. Named again, it has another shelf.
    retired: bool,
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
    shelf: Arc<Shelf>,
    max_idle: usize,
    max_age: Duration,
}

impl Pool {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            shelves: Mutex::default(),
            max_idle: limits.upstream_max_idle,
            max_age: ms(limits.upstream_idle_ms),
        }
    }

    /// The youngest unused connection that still works.
    pub(super) fn checkout(&self, origin: &Origin) -> Option<Lease> {
        let shelf = lock(&self.shelves).get(origin)?.clone();
        let connection = shelf.take()?;
        Some(Lease {
            connection,
            shelf,
            max_idle: self.max_idle,
            max_age: self.max_age,
        })
    }

    pub(super) fn lease(&self, origin: &Origin, stream: Stream) -> Lease {
        let shelf = lock(&self.shelves).entry(origin.clone()).or_default().clone();
        let deadline = Deadline::default();
        Lease {
            connection: Connection { stream, deadline },
            shelf,
            max_idle: self.max_idle,
            max_age: self.max_age,
        }
    }

    pub(super) fn retain_only(&self, origins: &HashSet<Origin>) {
        lock(&self.shelves).retain(|origin, shelf| {
            let stays = origins.contains(origin);
            if !stays {
                *lock(&shelf.unused) = Unused {
                    connections: VecDeque::new(),
                    retired: true,
                };
            }
            stays
        });
    }

    pub(super) fn prune(&self) {
        for shelf in lock(&self.shelves).values() {
            let now = Instant::now();
            lock(&shelf.unused)
                .connections
                .retain(|(connection, until)| *until >= now && connection.stream.is_quiet());
        }
    }

    pub(super) fn idle(&self) -> usize {
        let shelves = lock(&self.shelves);
        let unused = |shelf: &Arc<Shelf>| lock(&shelf.unused).connections.len();
        shelves.values().map(unused).sum()
    }
}

impl Shelf {
    fn take(&self) -> Option<Connection> {
        let mut unused = lock(&self.unused);
        let now = Instant::now();
        while let Some((connection, until)) = unused.connections.pop_back() {
            if until >= now && connection.stream.is_quiet() {
                return Some(connection);
            }
        }
        None
    }
}

impl Lease {
    /// The upstream has said after how long it will close a connection that is not used: well before that it is not
    /// used any more. A request that crosses with the end of its connection is lost, and most cannot be sent again.
    pub(super) fn is_kept_for(&mut self, time: Duration) {
        let margin = (time / 2).min(MARGIN);
        self.max_age = self.max_age.min(time - margin);
    }

    /// Its answer was read to the end, and nothing behind it.
    pub(super) fn give_back(self) {
        let mut unused = lock(&self.shelf.unused);
        if !unused.retired && unused.connections.len() < self.max_idle {
            unused
                .connections
                .push_back((self.connection, Instant::now() + self.max_age));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
