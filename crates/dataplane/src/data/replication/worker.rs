//! One environment's worker: takes changes in their order, sends a few at one time, and backs off while that fails.

use super::{Plan, Standing, Standings};
use astraler_model::Environment;
use astraler_recovery::replica::{self, ReplicaError, Sent};
use astraler_recovery::{Destination, DestinationError};
use astraler_storage::{Change, Store, StoreError};
use std::collections::HashSet;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Objects on their way at one time. Of each, two parts of 8 MiB are in memory at most.
const AT_ONCE: usize = 4;
/// How often changes that were put off are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The first pause after a failure. It doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest while the destination does not answer.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The longest for one object that cannot be sent although others can.
const LONGEST_PUT_OFF: Duration = Duration::from_secs(300);

pub(super) struct Work {
    pub(super) environment: Environment,
    pub(super) store: Store,
    pub(super) plan: Plan,
    pub(super) standings: Standings,
}

/// Replicates until it is stopped.
pub(super) async fn work(work: Work, stop: CancellationToken) {
    tokio::select! {
        () = work.forever() => {}
        () = stop.cancelled() => {}
    }
}

type Done = (Change, Result<Sent, ReplicaError>);

impl Work {
    async fn forever(&self) {
        let mut failures = 0;
        let destination = loop {
            match Box::pin(self.prepare()).await {
                Ok(destination) => break destination,
                Err(error) => {
                    self.note_failure(&error);
                    failures += 1;
                    tokio::time::sleep(pause(failures, LONGEST_PAUSE)).await;
                }
            }
        };
        self.note(|standing| standing.error = None);
        Box::pin(self.send_all(destination)).await;
    }

    /// Makes sure that the location is there, is ours, and that what it held before is known.
    async fn prepare(&self) -> Result<Destination, ReplicaError> {
        let destination = self.plan.destination()?;
        if !self.plan.target.allow_same_device {
            let shares = destination.shares_device_with(self.store.root());
            if shares.map_err(|source| DestinationError::File {
                path: self.store.root().to_owned(),
                source,
            })? {
                let url = destination.url().to_owned();
                return Err(ReplicaError::SameDevice { url });
            }
        }
        for bucket in &self.plan.buckets {
            replica::claim(&destination, &self.store, bucket).await?;
        }
        for replica in self.store.replicas().await? {
            if !replica.compared && self.plan.buckets.contains(&replica.bucket) {
                let gone = replica::compare(&destination, &self.store, &replica).await?;
                tracing::info!(
                    environment = %self.environment, bucket = replica.bucket, gone,
                    "what the second location held was compared"
                );
            }
        }
        Ok(destination)
    }

    async fn send_all(&self, mut destination: Destination) {
        let mut queued = self.store.watch_changes();
        let mut tasks: JoinSet<Done> = JoinSet::new();
        // What is on its way; it stays in the queue until it has arrived.
        let mut flying: HashSet<(String, String)> = HashSet::new();
        let mut failures = 0;
        let mut not_before = Instant::now();
        loop {
            queued.borrow_and_update();
            if tasks.len() < AT_ONCE && Instant::now() >= not_before {
                for change in self.next(&flying).await {
                    if tasks.len() == AT_ONCE {
                        break;
                    }
                    flying.insert((change.bucket.clone(), change.key.clone()));
                    let (to, store) = (destination.clone(), self.store.clone());
                    tasks.spawn(async move {
                        let sent = Box::pin(replica::send(&to, &store, &change)).await;
                        (change, sent)
                    });
                }
            }
            let wake = not_before.max(Instant::now() + LOOK_EVERY);
            tokio::select! {
                Some(done) = tasks.join_next() => {
                    let Ok((change, sent)) = done else {
                        // A task that panicked: the change is in the queue still.
                        flying.clear();
                        tasks.shutdown().await;
                        continue;
                    };
                    flying.remove(&(change.bucket.clone(), change.key.clone()));
                    if self.ended(&change, sent, failures).await {
                        failures = 0;
                        not_before = Instant::now();
                    } else {
                        failures += 1;
                        not_before = Instant::now() + pause(failures, LONGEST_PAUSE);
                        // New credentials take effect without anybody doing anything.
                        if let Ok(again) = self.plan.destination() {
                            destination = again;
                        }
                    }
                }
                _ = queued.changed(), if tasks.len() < AT_ONCE && Instant::now() >= not_before => {}
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    async fn next(&self, flying: &HashSet<(String, String)>) -> Vec<Change> {
        let changes = self
            .store
            .changes(&self.plan.buckets, AT_ONCE + flying.len())
            .await;
        match changes {
            Ok(changes) => changes
                .into_iter()
                .filter(|change| !flying.contains(&(change.bucket.clone(), change.key.clone())))
                .collect(),
            Err(error) => {
                self.note_failure(&ReplicaError::Store(error));
                vec![]
            }
        }
    }

    /// Writes down what became of a change; whether it arrived.
    async fn ended(&self, change: &Change, sent: Result<Sent, ReplicaError>, failures: u32) -> bool {
        let written = match sent {
            Ok(sent) => match self.store.change_done(change).await {
                Ok(()) => Ok(sent),
                Err(error) => Err(ReplicaError::Store(error)),
            },
            Err(error) => Err(error),
        };
        match written {
            Ok(sent) => {
                self.note(|standing| {
                    if standing.error.take().is_some() {
                        tracing::info!(environment = %self.environment, "replication goes on");
                    }
                    if let Sent::Object(bytes) = sent {
                        standing.objects += 1;
                        standing.bytes += bytes;
                    }
                    standing.last_ms = Some(now_ms());
                });
                true
            }
            Err(error) => {
                self.note_failure(&error);
                // An object that fails alone waits longer each time; one that fails because the destination is away does
                // not wait when that is back.
                let longest = match &error {
                    ReplicaError::Store(StoreError::Corrupt { .. }) => LONGEST_PUT_OFF,
                    _ if failures == 0 => LONGEST_PUT_OFF,
                    _ => LONGEST_PAUSE,
                };
                let put_off = pause(change.attempts + 1, longest);
                if let Err(error) = self.store.change_failed(change, put_off).await {
                    tracing::warn!(%error, "a change cannot be put off");
                }
                false
            }
        }
    }

    fn note(&self, work: impl FnOnce(&mut Standing)) {
        self.standings.change(self.environment, work);
    }

    /// The first failure is a line of the log; what follows is seen by who asks.
    fn note_failure(&self, error: &ReplicaError) {
        let text = chain(error);
        self.note(|standing| {
            if standing.error.is_none() {
                tracing::warn!(environment = %self.environment, error = text, "replication does not go on; trying again");
            }
            standing.error = Some(text);
        });
    }
}

fn pause(failures: u32, longest: Duration) -> Duration {
    FIRST_PAUSE
        .saturating_mul(1 << failures.saturating_sub(1).min(16))
        .min(longest)
}

pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

pub(super) fn now_ms() -> u64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
