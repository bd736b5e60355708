//! Buckets on their way to a second location: a worker for each environment that has one. Nothing that serves a request
//! waits for it.

mod answers;
mod worker;

pub use answers::Answers;

use astraler_model::{DataEnvironment, DataSnapshot, Environment, ReplicationTarget};
use astraler_recovery::{Destination, DestinationConfig, DestinationError};
use astraler_storage::Store;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Pause after the store could not be told what is replicated.
const STORE_PAUSE: Duration = Duration::from_secs(5);

/// What is replicated of an environment, and to where.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Plan {
    target: ReplicationTarget,
    /// Names in the store.
    buckets: Vec<String>,
}

/// How it stands with an environment's replication.
#[derive(Debug, Clone, Default)]
struct Standing {
    /// Why it does not go on.
    error: Option<String>,
    /// Objects that were sent since the process began.
    objects: u64,
    /// Their bytes.
    bytes: u64,
    /// When something was sent or deleted last, in milliseconds since the Unix epoch.
    last_ms: Option<u64>,
}

/// Shared between the workers and who asks.
#[derive(Debug, Clone, Default)]
pub struct Standings(Arc<Mutex<BTreeMap<Environment, Standing>>>);

impl Standings {
    fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<Environment, Standing>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, environment: Environment, work: impl FnOnce(&mut Standing)) {
        self.with(|all| work(all.entry(environment).or_default()));
    }
}

impl Plan {
    fn of(environment: &DataEnvironment) -> Option<Self> {
        Some(Self {
            target: environment.replication.clone()?,
            buckets: environment.buckets.values().cloned().collect(),
        })
    }

    /// What the store remembers of the target: elsewhere there is nothing yet.
    fn place(&self) -> String {
        let endpoint = self.target.endpoint.as_deref().unwrap_or_default();
        format!("{} {endpoint} {}", self.target.url, self.target.name)
    }

    /// Reads the credentials anew each time: they may have been changed.
    fn destination(&self) -> Result<Destination, DestinationError> {
        let config = DestinationConfig {
            url: self.target.url.clone(),
            endpoint: self.target.endpoint.clone(),
            credentials_file: self.target.credentials_file.clone(),
        };
        Destination::open(&config, &self.target.name)
    }
}

fn plans(snapshot: &DataSnapshot) -> BTreeMap<Environment, Plan> {
    let each = snapshot.environments.iter();
    each.filter_map(|(environment, data)| Some((*environment, Plan::of(data)?)))
        .collect()
}

struct Worker {
    plan: Plan,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Worker {
    /// Ends in the middle of whatever it does: all of it can be done again.
    async fn end(self) {
        self.stop.cancel();
        self.task.await.ok();
    }
}

/// Replicates what each snapshot says until `stop`.
pub async fn run(
    store: Store,
    mut snapshot: watch::Receiver<Arc<DataSnapshot>>,
    standings: Standings,
    stop: CancellationToken,
) {
    let mut workers: BTreeMap<Environment, Worker> = BTreeMap::new();
    loop {
        let current = snapshot.borrow_and_update().clone();
        // The first one is there so that the process can start. It says nothing of what is replicated.
        let told = match current.version {
            0 => true,
            _ => adopt(&store, plans(&current), &mut workers, &standings, &stop).await,
        };
        tokio::select! {
            changed = snapshot.changed() => if changed.is_err() { break },
            () = tokio::time::sleep(STORE_PAUSE), if !told => {}
            () = stop.cancelled() => break,
        }
    }
    for (_, worker) in workers {
        worker.end().await;
    }
}

/// False when it must be tried again.
async fn adopt(
    store: &Store,
    wanted: BTreeMap<Environment, Plan>,
    workers: &mut BTreeMap<Environment, Worker>,
    standings: &Standings,
    stop: &CancellationToken,
) -> bool {
    let over: Vec<Environment> = workers
        .iter()
        .filter(|(environment, worker)| wanted.get(environment) != Some(&worker.plan))
        .map(|(environment, _)| *environment)
        .collect();
    for environment in over {
        if let Some(worker) = workers.remove(&environment) {
            worker.end().await;
        }
    }
    standings.with(|all| all.retain(|environment, _| wanted.contains_key(environment)));
    let places = wanted
        .values()
        .flat_map(|plan| plan.buckets.iter().map(|bucket| (bucket.clone(), plan.place())))
        .collect();
    if let Err(error) = store.replicate(&places).await {
        tracing::error!(%error, "what is replicated cannot be written down; trying again");
        return false;
    }
    for (environment, plan) in wanted {
        workers.entry(environment).or_insert_with(|| {
            standings.change(environment, |_| {});
            let stop = stop.child_token();
            let work = worker::work(
                worker::Work {
                    environment,
                    store: store.clone(),
                    plan: plan.clone(),
                    standings: standings.clone(),
                },
                stop.clone(),
            );
            Worker {
                plan,
                stop,
                task: tokio::spawn(work),
            }
        });
    }
    true
}
