//! Runs of the pipeline: what a push asks for, from the moment it is received to its report.
//!
//! A run is a row of the store, a folder with what it said, and a unit of `keep` while it runs: the daemon may end and
//! come back at any time, the run goes on and is found again. Order: received with its push → queued when the push was
//! taken → running, its intent written before its unit starts → ended, its report written before its unit is forgotten.

mod api;
mod begin;
mod cause;
mod draft;
mod follow;
mod pull_requests;
mod queue;
mod receive;
mod rules;
mod tail;
mod tools;

pub(crate) use api::{router, stream};
pub(crate) use cause::Cause;
pub(crate) use pull_requests::end as end_pull_request;
pub(crate) use receive::{received, refusal, taken};
pub(crate) use rules::Rules;
pub use tools::runner_tools;

use crate::daemon::Daemon;
use crate::platform::{PlatformError, now_ms};
use crate::repository::Repository;
use crate::words::chain;
use astraler_store::{Run, RunConclusion, RunState};
use astraler_workflow::Concurrency;
use queue::{Decision, Open, decide};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// How often it is looked after runs that nobody woke it for.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Ended runs that are remembered, with what they said.
const RUNS_KEPT: u32 = 200;
/// How long a request waits until what its run said before was heard.
const CATCH_UP: Duration = Duration::from_secs(5);

/// The runs that this process looks after.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    /// Something may have changed.
    wake: Notify,
    live: Mutex<BTreeMap<u64, Arc<Live>>>,
    /// Groups of runs that have not ended, computed once.
    groups: Mutex<BTreeMap<u64, Vec<Concurrency>>>,
}

/// A run that is followed.
#[derive(Debug)]
pub(crate) struct Live {
    /// How much of what it said was heard, in bytes.
    read: watch::Sender<u64>,
}

impl Runs {
    /// Says that there may be something to do.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    fn live(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Live>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn groups(&self) -> MutexGuard<'_, BTreeMap<u64, Vec<Concurrency>>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ended(&self, number: u64) {
        self.live().remove(&number);
        self.wake();
    }
}

impl Daemon {
    /// Waits until all that a run has said by now was heard: gates that ended before are on record.
    pub(crate) async fn catch_up(&self, number: u64) {
        let Some(live) = self.runs.live().get(&number).map(Arc::clone) else {
            return;
        };
        let folder = self.platform.installation.layout.run(number);
        let said = std::fs::metadata(begin::events(&folder)).map_or(0, |events| events.len());
        let mut read = live.read.subscribe();
        // A run that says nothing more has been heard; the bound is for one that has just died.
        let heard = read.wait_for(|read| *read >= said);
        tokio::time::timeout(CATCH_UP, heard).await.ok();
    }
}

/// Looks after runs for as long as the daemon lives.
pub(crate) async fn keep(daemon: Arc<Daemon>) {
    if let Err(error) = follow::clear_ended(&daemon).await {
        tracing::warn!(error = chain(&error), "what ended runs left stays");
    }
    loop {
        if let Err(error) = look(&daemon).await {
            tracing::warn!(error = chain(&error), "runs cannot be looked after; trying again");
        }
        let _ = tokio::time::timeout(LOOK_EVERY, daemon.runs.wake.notified()).await;
    }
}

async fn look(daemon: &Arc<Daemon>) -> Result<(), PlatformError> {
    let store = &daemon.platform.store;
    receive::settle(daemon).await?;
    pull_requests::settle(daemon).await?;
    let open: Vec<Run> = store
        .runs_open()?
        .into_iter()
        .filter(|run| run.state != RunState::Received)
        .collect();
    for run in open.iter().filter(|run| run.state == RunState::Running) {
        // After a restart of the daemon.
        follow(daemon, run);
    }
    let groups = groups(daemon, &open).await;
    let all: Vec<Open> = open
        .iter()
        .map(|run| Open {
            id: run.id,
            state: run.state,
            line: run.line.clone(),
            groups: groups.get(&run.id).cloned().unwrap_or_default(),
            cancelling: run.cancelling,
        })
        .collect();
    for decision in decide(&all) {
        match decision {
            Decision::Start(id) => {
                if let Some(run) = open.iter().find(|run| run.id == id) {
                    follow(daemon, run);
                }
            }
            Decision::Supersede { run, by } => {
                let words = format!("run {by} came while this one waited");
                store.run_end(run, RunConclusion::Superseded, None, Some(&words), now_ms())?;
            }
            Decision::Drop(run) => {
                let words = "it was cancelled before it began";
                store.run_end(run, RunConclusion::Cancelled, None, Some(words), now_ms())?;
            }
            Decision::Cancel { run, by } => {
                tracing::info!(run, by, "cancelled, as the concurrency of its workflow says");
                store.run_cancel(run)?;
            }
        }
    }
    for gone in store.runs_prune(RUNS_KEPT)? {
        let folder = daemon.platform.installation.layout.run(gone);
        if let Err(error) = std::fs::remove_dir_all(&folder)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(run = gone, %error, "what an old run said stays");
        }
    }
    Ok(())
}

/// Sees to a run, unless somebody does.
fn follow(daemon: &Arc<Daemon>, run: &Run) {
    let live = {
        let mut all = daemon.runs.live();
        if all.contains_key(&run.id) {
            return;
        }
        let live = Arc::new(Live {
            read: watch::Sender::new(0),
        });
        all.insert(run.id, Arc::clone(&live));
        live
    };
    tokio::spawn(Box::pin(follow::run(Arc::clone(daemon), run.clone(), live)));
}

/// The groups of open runs: from their workflows, read once.
async fn groups(daemon: &Arc<Daemon>, open: &[Run]) -> BTreeMap<u64, Vec<Concurrency>> {
    let ids: BTreeSet<u64> = open.iter().map(|run| run.id).collect();
    daemon.runs.groups().retain(|id, _| ids.contains(id));
    for run in open {
        if daemon.runs.groups().contains_key(&run.id) {
            continue;
        }
        let (shared, of) = (Arc::clone(daemon), run.clone());
        let found = tokio::task::spawn_blocking(move || groups_of(&shared, &of)).await;
        // A run that cannot be drafted ends with the reason when its turn comes.
        let found = found.ok().flatten().unwrap_or_default();
        daemon.runs.groups().insert(run.id, found);
    }
    daemon.runs.groups().clone()
}

fn groups_of(daemon: &Daemon, run: &Run) -> Option<Vec<Concurrency>> {
    let platform = &daemon.platform;
    let cause = Cause::of(run).ok()?;
    let rules = Rules::of(platform).ok()?;
    let installation = &platform.installation;
    let repository = Repository::new(installation.layout.repository(&installation.application));
    let draft = draft::draft(platform, run, &cause, &rules, &repository, &cause.sha).ok()?;
    Some(astraler_pipeline::concurrency(&draft))
}
