//! The engine: what is planned, in which order jobs run, what a step does.

mod contexts;
mod given;
mod graph;
mod groups;
mod job;
mod legs;
mod line;
mod plan;
mod post;
mod scope;
mod shell;
mod step;

pub use groups::concurrency;
pub(crate) use job::{Frame, Job};
pub(crate) use plan::Native;
pub(crate) use post::{Post, STORE};
pub(crate) use step::Failed;

use crate::artifact::Artifacts;
use crate::control::Deploys;
use crate::event::{Annotation, Conclusion, Coverage, JobReport, Level, RunEvent, RunReport, StepReport};
use crate::gate::{Promised, Watch};
use crate::git::GitError;
use crate::mask::Masks;
use crate::sandbox::ETC_FILES;
use crate::spec::{RunSpec, Source, SpecError, WorkflowFile};
use crate::work::RunFolder;
use astraler_host::isolation::{self, Isolation};
use astraler_workflow::{Diagnostic, Job as WorkflowJob, Workflow};
use plan::Plan;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Why nothing was run.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The spec.
    #[error("the run cannot be started as it is asked for")]
    Spec(#[from] SpecError),
    /// The sources.
    #[error("the sources cannot be read")]
    Git(#[from] GitError),
    /// The workflows are not right, or use what is not supported.
    #[error("{}", list(.0))]
    Workflows(Vec<Diagnostic>),
    /// There is nothing to run.
    #[error("there is no workflow to run")]
    NoWorkflow,
    /// A job that is not there.
    #[error("no workflow has a job {job:?}; there are: {known}")]
    NoSuchJob {
        /// The one that was asked for.
        job: String,
        /// Those that are there.
        known: String,
    },
    /// No sandbox can be made.
    #[error("steps run in a sandbox, and none can be made here: {0}")]
    NoSandbox(String),
    /// A file or folder.
    #[error("cannot {operation} {path}", path = path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

fn list(problems: &[Diagnostic]) -> String {
    let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
    all.join("\n")
}

/// Looks at workflows as [`run`] does first: whether they are right, and use nothing that is not supported. `jobs`
/// are the ids of those that would run; empty for all.
pub fn check(files: &[WorkflowFile], source: &Source, jobs: &[String]) -> Result<(), PipelineError> {
    Plan::new(files, source, jobs).map(drop)
}

/// Looks at workflows as [`check`] does, and tells which of the gates they have: those that a run will tell of.
pub fn gates_of(
    names: &[String],
    files: &[WorkflowFile],
    source: &Source,
) -> Result<Vec<Promised>, PipelineError> {
    let plan = Plan::new(files, source, &[])?;
    let workflows = plan.workflows.iter().map(Arc::as_ref);
    Ok(crate::gate::gates_of(names, workflows))
}

/// What the jobs of a run share.
pub(crate) struct Shared {
    pub(crate) spec: RunSpec,
    pub(crate) plan: Plan,
    pub(crate) masks: Masks,
    pub(crate) folder: PathBuf,
    pub(crate) artifacts: Artifacts,
    pub(crate) deploys: Arc<dyn Deploys>,
    pub(crate) cancel: CancellationToken,
    events: mpsc::Sender<RunEvent>,
    slots: Arc<Semaphore>,
    sweeping: Mutex<JoinSet<()>>,
    next_job: AtomicU64,
    groups: Mutex<HashMap<String, Arc<legs::Group>>>,
    found: Mutex<Findings>,
    gates: Mutex<Watch>,
}

#[derive(Default)]
struct Findings {
    jobs: Vec<JobReport>,
    annotations: Vec<Annotation>,
    coverage: Vec<Coverage>,
}

impl Shared {
    /// Sends an event. Whoever listens no more misses it.
    pub(crate) async fn send(&self, event: RunEvent) {
        if let RunEvent::Annotation { annotation, .. } = &event {
            let mut found = self.found();
            if found.annotations.len() < RunReport::MAX_ANNOTATIONS {
                found.annotations.push(annotation.clone());
            }
        }
        if let RunEvent::JobEnded { report } = &event {
            self.found().jobs.push(report.clone());
        }
        self.events.send(event).await.ok();
    }

    /// A job of a workflow that an event started has ended, all of its matrix together. Gates that end with it are told
    /// before the jobs that need it begin.
    async fn job_ended(&self, workflow: &Workflow, job: &WorkflowJob) {
        let gates = {
            let found = self.found();
            let mut watch = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
            watch.ended(&workflow.file, &job.id, &found.jobs)
        };
        if !gates.is_empty() {
            self.send(RunEvent::Gates { gates }).await;
        }
    }

    /// A step of a job ended. Of a job of a matrix, and of one that was called, it counts when all of them have ended.
    async fn step_ended(&self, leg: &legs::Leg, step: &StepReport) {
        let job = leg.job();
        if leg.key != job.id {
            return;
        }
        let gates = {
            let found = self.found();
            let mut watch = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
            watch.step_ended(&leg.workflow.file, &job.id, &leg.name, step, &found.jobs)
        };
        if !gates.is_empty() {
            self.send(RunEvent::Gates { gates }).await;
        }
    }

    pub(crate) fn add_coverage(&self, coverage: Coverage) {
        self.found().coverage.push(coverage);
    }

    fn found(&self) -> std::sync::MutexGuard<'_, Findings> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sweeping(&self) -> std::sync::MutexGuard<'_, JoinSet<()>> {
        self.sweeping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes the folder of a job that has ended, while others go on: some ten thousand files take seconds. What cannot
    /// be removed goes with the run's folder.
    fn sweep(&self, folder: PathBuf) {
        self.sweeping().spawn_blocking(move || {
            crate::work::remove(&folder).ok();
        });
    }

    /// The next job's number, and its folder.
    fn next_job(&self) -> (u64, PathBuf) {
        let number = self.next_job.fetch_add(1, Ordering::Relaxed);
        (number, self.folder.join(number.to_string()))
    }
}

/// Runs workflows to their end. Events come in order; the last one is the report, which is also the result. Cancelled,
/// the run ends in the way of GitHub: steps are asked to end, and those that clean up still run, for a bounded time.
pub async fn run(
    spec: RunSpec,
    deploys: Arc<dyn Deploys>,
    events: mpsc::Sender<RunEvent>,
    cancel: CancellationToken,
) -> Result<RunReport, PipelineError> {
    let begun = Instant::now();
    spec.validate()?;
    let plan = Plan::new(&spec.workflows, &spec.source, &spec.jobs)?;
    let isolation = isolation::probe();
    if !isolation.bwrap_usable {
        return Err(PipelineError::NoSandbox(
            isolation.describe().into_iter().nth(4).unwrap_or_default(),
        ));
    }
    let at = |operation, path: &Path| {
        let path = path.to_owned();
        move |source| PipelineError::Io {
            operation,
            path,
            source,
        }
    };
    let folder = RunFolder::open(&spec.folders.work, &spec.id)
        .map_err(at("make the folder of the run in", &spec.folders.work))?;
    for folder in [&spec.folders.cache, &spec.folders.tool_cache] {
        crate::work::make(folder).map_err(at("make", folder))?;
    }
    write_etc(folder.path(), &spec.hosts).map_err(at("write to", folder.path()))?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let artifacts = Artifacts::open(&spec.folders.artifacts, &spec.id, now)
        .map_err(at("open the artifacts in", &spec.folders.artifacts))?;
    let masks = Masks::default();
    let secrets = spec.secrets.environments.values().chain([&spec.secrets.all]);
    masks.add(secrets.flat_map(|all| all.values().map(String::as_str)));
    let gates = Watch::new(
        &spec.gates,
        plan.workflows.iter().map(Arc::as_ref),
        |workflow, job| plan.runs(workflow, job),
    );
    let shared = Arc::new(Shared {
        slots: Arc::new(Semaphore::new(spec.limits.jobs.max(1))),
        sweeping: Mutex::default(),
        folder: folder.path().to_owned(),
        plan,
        masks,
        artifacts,
        deploys,
        cancel,
        events,
        next_job: AtomicU64::new(0),
        groups: Mutex::default(),
        found: Mutex::default(),
        gates: Mutex::new(gates),
        spec,
    });
    shared
        .send(RunEvent::RunStarted {
            run: shared.spec.id.clone(),
            isolation: words(&isolation),
        })
        .await;
    let conclusion = workflows(&shared).await;
    let report = report(&shared, conclusion, begun);
    shared
        .send(RunEvent::RunEnded {
            report: Box::new(report.clone()),
        })
        .await;
    // Nobody has to wait for this but the process.
    let mut sweeping = std::mem::take(&mut *shared.sweeping());
    while sweeping.join_next().await.is_some() {}
    tokio::task::spawn_blocking(move || drop(folder)).await.ok();
    Ok(report)
}

/// All workflows at once; then those that come after the others.
async fn workflows(shared: &Arc<Shared>) -> Conclusion {
    let mut results = Vec::new();
    for after in [false, true] {
        let well = |result: &Conclusion| matches!(result, Conclusion::Success | Conclusion::Skipped);
        let begins = results.iter().all(well);
        let mut all = JoinSet::new();
        for workflow in &shared.plan.workflows {
            if shared.plan.after.contains(&workflow.file) == after {
                all.spawn(graph::run_top(Arc::clone(shared), Arc::clone(workflow), begins));
            }
        }
        while let Some(ended) = all.join_next().await {
            results.push(ended.unwrap_or(Conclusion::Failure));
        }
    }
    worst(results)
}

fn report(shared: &Shared, conclusion: Conclusion, begun: Instant) -> RunReport {
    let found = std::mem::take(&mut *shared.found());
    let spec = &shared.spec;
    let promised = {
        let watch = shared.gates.lock().unwrap_or_else(PoisonError::into_inner);
        watch.promised().to_vec()
    };
    let gates = crate::gate::gates(
        &spec.gates,
        &promised,
        &found.jobs,
        &found.coverage,
        spec.coverage_percent,
    );
    let artifacts = shared.artifacts.list().unwrap_or_default();
    let mut annotations = found.annotations;
    let low = gates
        .iter()
        .find(|gate| gate.name == "coverage" && gate.state == crate::event::GateState::Failed);
    if let Some(gate) = low {
        annotations.push(Annotation::new(
            Level::Warning,
            format!("coverage: {}", gate.detail),
        ));
    }
    RunReport {
        run: spec.id.clone(),
        conclusion,
        jobs: found.jobs,
        gates,
        annotations,
        coverage: found.coverage,
        artifacts: artifacts.into_iter().map(|artifact| artifact.name).collect(),
        duration_ms: millis(begun),
    }
}

/// A failure before a cancellation before success; all skipped is skipped.
pub(crate) fn worst(all: impl IntoIterator<Item = Conclusion>) -> Conclusion {
    let mut worst = None;
    for one in all {
        worst = Some(match (worst, one) {
            (Some(Conclusion::Failure), _) | (_, Conclusion::Failure) => Conclusion::Failure,
            (Some(Conclusion::Cancelled), _) | (_, Conclusion::Cancelled) => Conclusion::Cancelled,
            (Some(Conclusion::Success), _) | (_, Conclusion::Success) => Conclusion::Success,
            _ => Conclusion::Skipped,
        });
    }
    worst.unwrap_or(Conclusion::Success)
}

pub(crate) fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn words(isolation: &Isolation) -> Vec<String> {
    let mut all = vec![
        "steps: bubblewrap with namespaces of their own (user, pid, network, mount, ipc, uts), no capability, a read-only system".to_owned(),
        "network: none but the registries, through a proxy".to_owned(),
    ];
    all.push(if isolation.own_users {
        "user: steps run as root outside of their namespace; start the run as another user to keep them apart"
            .to_owned()
    } else {
        "user: steps run as this user outside of their namespace".to_owned()
    });
    all.push("memory: limited by the control group that the runner is in, where there is one".to_owned());
    all
}

fn write_etc(folder: &Path, hosts: &[String]) -> io::Result<()> {
    let etc = folder.join("etc");
    crate::work::make(&etc)?;
    for (name, text) in ETC_FILES {
        let mut text = text.to_owned();
        if name == "hosts" {
            text.extend(hosts.iter().map(|host| format!("127.0.0.1 {host}\n")));
        }
        write(&etc.join(name), text.as_bytes())?;
    }
    Ok(())
}

/// Writes a file that lives no longer than the run: it needs no fsync.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write;
    std::fs::File::create(path)?.write_all(bytes)
}
