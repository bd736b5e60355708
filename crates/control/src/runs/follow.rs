//! A run from its first step to its report: what it says is read, gates are recorded, its end is written down.

use super::Live;
use super::begin::{self, BeginError, Prepared};
use super::tail::Tail;
use crate::daemon::Daemon;
use crate::jobs::{self, RunAccess, RunScope};
use crate::platform::now_ms;
use crate::status;
use crate::words::chain;
use astraler_model::UnitPhase;
use astraler_pipeline::{Conclusion, RunEvent, RunReport};
use astraler_store::{Run, RunConclusion, RunState, StoreError};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How soon a new line is seen.
pub(super) const LOOK: Duration = Duration::from_millis(60);
/// How often it is looked whether the runner still lives, and whether somebody wants it to end.
const LOOK_AT_UNIT: Duration = Duration::from_millis(500);

/// How long it waits before it tries again to write down how a run ended.
const AGAIN: Duration = Duration::from_secs(5);

/// How a run ended.
struct End {
    conclusion: RunConclusion,
    report: Option<RunReport>,
    error: Option<String>,
}

impl End {
    fn failed(error: impl Into<String>) -> Self {
        Self {
            conclusion: RunConclusion::Failure,
            report: None,
            error: Some(error.into()),
        }
    }
}

/// Begins a run and sees it to its end. After a restart it goes on from what there is.
pub(super) async fn run(daemon: Arc<Daemon>, run: Run, live: Arc<Live>) {
    let end = match begun(&daemon, &run).await {
        Ok((access, tree)) => {
            let end = watch(&daemon, &run, &tree, &live).await;
            access.close();
            end
        }
        Err(BeginError::Nothing { event, branch }) => End {
            conclusion: RunConclusion::Skipped,
            report: None,
            error: Some(BeginError::Nothing { event, branch }.to_string()),
        },
        Err(error) => End::failed(chain(&error)),
    };
    finish(&daemon, &run, end).await;
}

/// The runner runs, or has run.
async fn begun(daemon: &Arc<Daemon>, run: &Run) -> Result<(RunAccess, String), BeginError> {
    let number = run.id;
    let platform = &daemon.platform;
    platform
        .store
        .run_start(number, now_ms())
        .map_err(crate::platform::PlatformError::from)?;
    let shared = Arc::clone(daemon);
    let again = run.clone();
    let there = runs(daemon, number).await?;
    let Prepared {
        mut spec,
        tree,
        cause,
    } = tokio::task::spawn_blocking(move || {
        if there {
            begin::known(&shared.platform, &again)
        } else {
            begin::prepare(&shared.platform, &again)
        }
    })
    .await??;
    let scope = RunScope {
        number,
        environment: run.environment,
        tree: tree.clone(),
        commit: cause.sha,
        branch: Some(cause.branch),
        actor: cause.actor,
    };
    let access = jobs::open(daemon, scope)?;
    if !there {
        spec.control = Some(access.socket().to_owned());
        begin::start(platform, number, &spec).await?;
    }
    Ok((access, tree))
}

/// Whether the run's unit is there, or it has said something already: then it is not begun again.
async fn runs(daemon: &Daemon, number: u64) -> Result<bool, BeginError> {
    let folder = daemon.platform.installation.layout.run(number);
    let said = std::fs::metadata(begin::events(&folder)).is_ok_and(|events| events.len() > 0);
    let unit = status::unit(&daemon.platform, &begin::unit_name(number)?).await?;
    Ok(said || unit.is_some_and(|unit| unit.pid.is_some()))
}

async fn watch(daemon: &Arc<Daemon>, run: &Run, tree: &str, live: &Live) -> End {
    let folder = daemon.platform.installation.layout.run(run.id);
    let mut tail = Tail::new(&begin::events(&folder));
    let mut looked = Instant::now();
    let mut gone = false;
    let mut stopping = false;
    loop {
        let events = match tail.next() {
            Ok(events) => events,
            Err(error) => return End::failed(format!("what the run says cannot be read: {error}")),
        };
        let quiet = events.is_empty();
        for event in events {
            if let Some(report) = hear(daemon, run, tree, event) {
                return End {
                    conclusion: conclusion(report.conclusion),
                    report: Some(report),
                    error: None,
                };
            }
        }
        live.read.send_replace(tail.place());
        if !quiet {
            continue;
        }
        if gone {
            return lost(daemon, run).await;
        }
        if looked.elapsed() >= LOOK_AT_UNIT {
            looked = Instant::now();
            gone = ended(daemon, run.id).await;
            let asked = daemon.platform.store.run(run.id);
            if !stopping && asked.is_ok_and(|run| run.cancelling) {
                stopping = true;
                stop(daemon, run.id);
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Records what counts; returns the report, which is the last event.
fn hear(daemon: &Daemon, run: &Run, tree: &str, event: RunEvent) -> Option<RunReport> {
    match event {
        RunEvent::RunEnded { report } => {
            record(daemon, run, tree, &report.gates);
            Some(*report)
        }
        RunEvent::Gates { gates } => {
            record(daemon, run, tree, &gates);
            None
        }
        _ => None,
    }
}

fn record(daemon: &Daemon, run: &Run, tree: &str, gates: &[astraler_pipeline::GateReport]) {
    let platform = &daemon.platform;
    if let Err(error) = platform.gates_record(tree, run.id, run.environment, gates) {
        tracing::warn!(run = run.id, error = chain(&error), "gates cannot be recorded");
    }
}

/// Whether the runner has ended; where that cannot be told, it has not.
async fn ended(daemon: &Daemon, number: u64) -> bool {
    let Ok(name) = begin::unit_name(number) else {
        return true;
    };
    match status::unit(&daemon.platform, &name).await {
        Ok(None) => true,
        Ok(Some(unit)) => matches!(unit.phase, UnitPhase::Stopped | UnitPhase::Failed),
        Err(_) => false,
    }
}

/// Asks the runner to end; it cleans up first, for a bounded time.
fn stop(daemon: &Arc<Daemon>, number: u64) {
    let daemon = Arc::clone(daemon);
    tokio::spawn(async move {
        let Ok(name) = begin::unit_name(number) else {
            return;
        };
        if let Err(error) = daemon.platform.supervisor.stop(&name).await {
            tracing::warn!(run = number, error = chain(&error), "a run cannot be stopped");
        }
    });
}

/// The runner ended, and there is no report.
async fn lost(daemon: &Daemon, run: &Run) -> End {
    let cancelled = daemon.platform.store.run(run.id).is_ok_and(|run| run.cancelling);
    let mut words = "the runner ended without a report".to_owned();
    if let Ok(name) = begin::unit_name(run.id) {
        let unit = status::unit(&daemon.platform, &name).await.ok().flatten();
        if let Some(exit) = unit.and_then(|unit| unit.last_exit) {
            words = format!("{words} ({exit})");
        }
        for line in daemon.platform.last_log_lines(&name) {
            words = format!("{words}\n{line}");
        }
    }
    End {
        conclusion: if cancelled {
            RunConclusion::Cancelled
        } else {
            RunConclusion::Failure
        },
        report: None,
        error: Some(words),
    }
}

/// Writes the end down, then clears up. Where the end cannot be written, nothing is cleared: the run is taken up again
/// from what it said.
async fn finish(daemon: &Arc<Daemon>, run: &Run, end: End) {
    match write_down(daemon, run.id, &end) {
        Ok(()) => clear_up(daemon, run.id).await,
        Err(error) => {
            tracing::warn!(
                run = run.id,
                error = chain(&error),
                "the end of a run cannot be recorded; trying again"
            );
            tokio::time::sleep(AGAIN).await;
        }
    }
    daemon.runs.ended(run.id);
}

fn write_down(daemon: &Daemon, number: u64, end: &End) -> Result<(), StoreError> {
    let store = &daemon.platform.store;
    let report = end
        .report
        .as_ref()
        .and_then(|report| serde_json::to_value(report).ok());
    let error = end.error.as_deref();
    match store.run_end(number, end.conclusion, report.as_ref(), error, now_ms()) {
        Err(StoreError::TooLarge { .. }) => {
            let words = "its report is too large to be kept; its events have all of it";
            store.run_end(
                number,
                end.conclusion,
                None,
                Some(error.unwrap_or(words)),
                now_ms(),
            )
        }
        written => written,
    }
}

/// Clears up after runs whose end was written down by a process that was killed before it had done so.
pub(super) async fn clear_ended(daemon: &Daemon) -> Result<(), StoreError> {
    let runs = daemon.platform.store.runs(None, super::RUNS_KEPT)?;
    for run in runs.iter().filter(|run| run.state == RunState::Ended) {
        if !begin::is_cleared(&daemon.platform, run.id) {
            clear_up(daemon, run.id).await;
        }
    }
    Ok(())
}

/// What a run that has ended no longer needs goes; all of it may be gone already. Its copy of the repository goes last:
/// while that is there, this is done again.
async fn clear_up(daemon: &Daemon, number: u64) {
    let platform = &daemon.platform;
    if let Err(error) = platform.gates_close(number) {
        tracing::warn!(
            run = number,
            error = chain(&error),
            "gates that never ended stay expected"
        );
    }
    if let Ok(name) = begin::unit_name(number)
        && let Err(error) = platform.supervisor.remove(&name).await
    {
        tracing::warn!(run = number, error = chain(&error), "the unit of a run stays");
    }
    begin::clear(platform, number);
}

fn conclusion(found: Conclusion) -> RunConclusion {
    match found {
        Conclusion::Success => RunConclusion::Success,
        Conclusion::Failure => RunConclusion::Failure,
        Conclusion::Cancelled => RunConclusion::Cancelled,
        Conclusion::Skipped => RunConclusion::Skipped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::Platform;
    use astraler_host::sim::{SimClock, SimFaults, SimSupervisor};
    use astraler_pipeline::Promised;
    use astraler_store::{GateState, NewRun};
    use serde_json::json;

    /// A daemon was killed between the end of a run being written down and what it used being cleared away.
    #[tokio::test]
    async fn what_an_ended_run_left_is_cleared_at_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let supervisor = SimSupervisor::new(7, SimFaults::NONE, SimClock::automatic(1_000));
        let platform = Platform::simulated(folder.path(), Arc::new(supervisor));
        let new = NewRun {
            event: "push",
            cause: &json!({}),
            line: "branch work",
            environment: None,
        };
        let store = &platform.store;
        let numbers = store.runs_receive(&[new.clone(), new], now_ms()).unwrap();
        let layout = platform.installation.layout.clone();
        std::fs::create_dir_all(layout.secret("")).unwrap();
        for number in &numbers {
            store.run_queue(*number).unwrap();
            store.run_start(*number, now_ms()).unwrap();
            let lint = Promised {
                name: "lint".into(),
                before_deployments: true,
            };
            platform.gates_expected("tree", *number, None, &[lint]).unwrap();
            std::fs::create_dir_all(layout.run(*number).join("source.git")).unwrap();
            let spec = layout.secret(&format!("run-{number}.json"));
            astraler_host::file::replace(&spec, b"{}", 0o600).unwrap();
        }
        store
            .release_source_add("release", "tree", numbers[0], now_ms())
            .unwrap();
        let [ended, running] = numbers[..] else {
            panic!("two runs")
        };
        store
            .run_end(ended, RunConclusion::Success, None, None, now_ms())
            .unwrap();
        let daemon = Daemon::new(platform);
        clear_ended(&daemon).await.unwrap();
        assert!(begin::is_cleared(&daemon.platform, ended));
        assert!(
            !begin::is_cleared(&daemon.platform, running),
            "one that runs keeps what it has"
        );
        let gates = daemon.platform.store.gates_of_release("release").unwrap();
        let state = |run| gates.iter().find(|gate| gate.run == run).unwrap().state;
        assert_eq!(state(ended), GateState::Skipped);
        assert_eq!(state(running), GateState::Expected);
    }
}
