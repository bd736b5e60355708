//! Who asks a worker, and who waits for that answer: one request for equal ones (RFC 9111 section 4, "collapsed").

use super::pump::Fill;
use crate::fault::Fault;
use astraler_http_cache::Failure;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Requests on their way for others at once; one more goes by itself.
const MAX_FLIGHTS: usize = 4096;
/// Requests that wait at once; one more goes by itself.
const MAX_WAITING: usize = 16_384;
/// For how long a request waits before it goes by itself.
const WAIT: Duration = Duration::from_secs(10);
/// For how long a key that was no use to those who waited is remembered.
const ALONE: Duration = Duration::from_secs(5);
/// Keys remembered so.
const MAX_ALONE: usize = 16_384;

#[derive(Debug, Clone)]
pub(super) enum Flight {
    /// No answer yet.
    Pending,
    /// The one who asked went away before the answer.
    Abandoned,
    /// It is stored, or what was stored still holds: look again.
    Stored,
    /// Its content is on its way.
    Fill(Arc<Fill>),
    /// It is of no use to others.
    NotShared,
    /// There was no answer, or one that something stored could stand in for.
    Failed(Failure, Option<Fault>),
}

pub(super) enum Role {
    /// Ask, and publish.
    Leader(Lead),
    /// Wait.
    Follower(watch::Receiver<Flight>),
    /// Ask for yourself.
    Alone,
}

#[derive(Debug, Default)]
pub(super) struct Flights {
    flying: Mutex<HashMap<String, watch::Sender<Flight>>>,
    alone: Mutex<HashMap<String, Instant>>,
    waiting: AtomicUsize,
}

impl Flights {
    pub(super) fn join(self: &Arc<Self>, key: &str) -> Role {
        let mut flying = self.flying.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flying.get(key) {
            if self.waiting.load(Ordering::Relaxed) >= MAX_WAITING {
                return Role::Alone;
            }
            return Role::Follower(flight.subscribe());
        }
        if flying.len() >= MAX_FLIGHTS {
            return Role::Alone;
        }
        let (flight, _) = watch::channel(Flight::Pending);
        flying.insert(key.to_owned(), flight);
        Role::Leader(Lead {
            flights: self.clone(),
            key: key.to_owned(),
        })
    }

    /// Only if nobody asks already: for what happens behind a client's back.
    pub(super) fn lead(self: &Arc<Self>, key: &str) -> Option<Lead> {
        match self.join(key) {
            Role::Leader(lead) => Some(lead),
            Role::Follower(_) | Role::Alone => None,
        }
    }

    /// `None` when it took too long.
    pub(super) async fn wait(&self, mut flight: watch::Receiver<Flight>) -> Option<Flight> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        let landed = tokio::time::timeout(WAIT, flight.wait_for(|flight| !matches!(flight, Flight::Pending)));
        match landed.await {
            Ok(Ok(flight)) => Some(flight.clone()),
            Ok(Err(_)) => Some(Flight::Abandoned),
            Err(_) => None,
        }
    }

    /// Equal requests go by themselves for a while, all at once.
    pub(super) fn go_alone(&self, key: &str) {
        let mut alone = self.alone.lock().unwrap_or_else(PoisonError::into_inner);
        if alone.len() >= MAX_ALONE {
            let now = Instant::now();
            alone.retain(|_, until| *until > now);
        }
        if alone.len() < MAX_ALONE {
            alone.insert(key.to_owned(), Instant::now() + ALONE);
        }
    }

    pub(super) fn goes_alone(&self, key: &str) -> bool {
        let mut alone = self.alone.lock().unwrap_or_else(PoisonError::into_inner);
        match alone.get(key) {
            Some(until) if *until > Instant::now() => true,
            Some(_) => {
                alone.remove(key);
                false
            }
            None => false,
        }
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The one who asks. Others find the flight until this is dropped.
#[derive(Debug)]
pub(super) struct Lead {
    flights: Arc<Flights>,
    key: String,
}

impl Lead {
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    pub(super) fn publish(&self, state: Flight) {
        let flying = self.flights.flying.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flying.get(&self.key) {
            flight.send_replace(state);
        }
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        let mut flying = self.flights.flying.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flying.remove(&self.key) {
            flight.send_if_modified(|state| {
                let pending = matches!(state, Flight::Pending);
                if pending {
                    *state = Flight::Abandoned;
                }
                pending
            });
        }
    }
}
