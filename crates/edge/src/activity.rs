//! Who is being served: for each deployment its requests in flight, so that one can be drained, and when the last one
//! came, so that an idle one can sleep.

use astraler_model::Environment;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// One deployment's. It lives as long as requests do, longer than the routes that led to it.
#[derive(Debug)]
pub(crate) struct Activity {
    in_flight: AtomicU64,
    requests: AtomicU64,
    /// Milliseconds after `since`.
    last: AtomicU64,
    since: Instant,
}

/// A deployment in the body of `GET /status`.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Seen {
    environment: Environment,
    /// Requests and tunnels that have not ended.
    in_flight: u64,
    /// Requests since this edge knows it.
    requests: u64,
    /// Since the last request began or ended, or since this edge knows it.
    idle_ms: u64,
}

/// Counts a request until it is dropped.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Activity>);

/// All of them, by deployment.
#[derive(Debug, Default)]
pub(crate) struct Activities {
    known: Mutex<BTreeMap<String, (Environment, Arc<Activity>)>>,
}

impl Activity {
    pub(crate) fn begin(self: &Arc<Self>) -> InFlight {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        self.touch();
        InFlight(self.clone())
    }

    fn touch(&self) {
        let now = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.fetch_max(now, Ordering::Relaxed);
    }

    fn idle_ms(&self) -> u64 {
        let now = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        now.saturating_sub(self.last.load(Ordering::Relaxed))
    }
}

impl Default for Activity {
    fn default() -> Self {
        Self {
            in_flight: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            last: AtomicU64::new(0),
            since: Instant::now(),
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.touch();
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Activities {
    /// That of a deployment, the same one every time.
    pub(crate) fn of(&self, deployment: &str, environment: Environment) -> Arc<Activity> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, activity) = known
            .entry(deployment.to_owned())
            .or_insert_with(|| (environment, Arc::default()));
        activity.clone()
    }

    /// Forgets deployments that no route leads to once their last request has ended; tells of the others.
    pub(crate) fn seen(&self, routed: impl Fn(&str) -> bool) -> BTreeMap<String, Seen> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|deployment, (_, activity)| {
            routed(deployment) || activity.in_flight.load(Ordering::SeqCst) > 0
        });
        known
            .iter()
            .map(|(deployment, (environment, activity))| {
                let seen = Seen {
                    environment: *environment,
                    in_flight: activity.in_flight.load(Ordering::SeqCst),
                    requests: activity.requests.load(Ordering::Relaxed),
                    idle_ms: activity.idle_ms(),
                };
                (deployment.clone(), seen)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deployment_is_known_until_its_last_request_ends() {
        let all = Activities::default();
        let request = all.of("d-1", Environment::Staging).begin();
        assert_eq!(all.seen(|_| false)["d-1"].in_flight, 1);
        drop(request);
        assert_eq!(all.seen(|_| true)["d-1"].in_flight, 0, "routes lead to it");
        assert_eq!(all.seen(|_| false), BTreeMap::new());
    }
}
