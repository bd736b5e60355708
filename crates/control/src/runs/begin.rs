//! How a run begins: a copy of the repository, a spec, a unit. Beginning again what was begun changes nothing.

use super::cause::Cause;
use super::draft::{self, DraftError};
use super::rules::Rules;
use crate::installation::Installation;
use crate::platform::{Platform, PlatformError};
use crate::repository::Repository;
use astraler_host::file::{self, FileError};
use astraler_host::supervisor::SupervisorError;
use astraler_model::{
    LogPolicy, Ready, ResourceLimits, RestartPolicy, StopPolicy, UnitName, UnitNameError, UnitSpec,
};
use astraler_pipeline::{PipelineError, RunSpec};
use astraler_store::Run;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Time in which steps that clean up may still run after a run was told to end.
const GRACE_MS: u64 = 120_000;
/// The runner's processes are the first to go when the machine is out of memory.
const OOM_SCORE: i32 = 600;
/// Of the machine's memory, what all jobs of a run may take together.
const MEMORY_SHARE: (u64, u64) = (3, 4);
const OPEN_FILES: u64 = 16_384;

/// Why a run does not begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BeginError {
    #[error(transparent)]
    Platform(#[from] PlatformError),
    #[error(transparent)]
    Draft(#[from] DraftError),
    #[error(transparent)]
    Repository(#[from] crate::repository::RepositoryError),
    /// The workflows are not right, or use what is not supported.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    #[error("no workflow runs on this {event}, and no environment is deployed from `{branch}`")]
    Nothing { event: &'static str, branch: String },
    #[error("a file of the run cannot be written")]
    File(#[from] FileError),
    #[error("the run's spec cannot be written")]
    Spec(#[source] serde_json::Error),
    #[error(transparent)]
    Jobs(#[from] crate::jobs::JobsError),
    #[error(transparent)]
    Secrets(#[from] crate::secrets::SecretError),
    #[error("the runner cannot be started")]
    Supervisor(#[from] SupervisorError),
    #[error("a unit has no name")]
    Name(#[from] UnitNameError),
    #[error("a thread of the daemon broke")]
    Thread(#[from] tokio::task::JoinError),
}

/// What a run is, where it can begin.
pub(super) struct Prepared {
    pub(super) spec: RunSpec,
    /// The tree that is built and judged.
    pub(super) tree: String,
    pub(super) cause: Cause,
}

/// Reads and copies; starts nothing. Blocking.
pub(super) fn prepare(platform: &Platform, run: &Run) -> Result<Prepared, BeginError> {
    let cause = Cause::of(run)?;
    let installation = &platform.installation;
    let layout = &installation.layout;
    let group = Installation::group(installation.identities.runner.as_ref());
    let rules = Rules::of(platform)?;
    let folder = layout.run(run.id);
    file::make_dir(&folder, 0o750, None, group)?;
    let repository = Repository::new(layout.repository(&installation.application));
    let copy = repository.copy(&source(&folder), &cause.branch, &cause.sha)?;
    let sha = draft::commit(&copy, &cause)?;
    let spec = draft::draft(platform, run, &cause, &rules, &copy, &sha)?;
    if spec.workflows.is_empty() {
        return Err(BeginError::Nothing {
            event: cause.event(),
            branch: cause.branch,
        });
    }
    let gates = astraler_pipeline::gates_of(&spec.gates, &spec.workflows, &spec.source)?;
    copy.give(group)?;
    let tree = copy.tree(&sha)?;
    platform.gates_expected(&tree, run.id, run.environment, &gates)?;
    Ok(Prepared { spec, tree, cause })
}

/// The same of a run that was begun by a process that ended: its copy of the repository is there. Blocking.
pub(super) fn known(platform: &Platform, run: &Run) -> Result<Prepared, BeginError> {
    let cause = Cause::of(run)?;
    let rules = Rules::of(platform)?;
    let copy = Repository::new(source(&platform.installation.layout.run(run.id)));
    let sha = draft::commit(&copy, &cause)?;
    Ok(Prepared {
        spec: draft::draft(platform, run, &cause, &rules, &copy, &sha)?,
        tree: copy.tree(&sha)?,
        cause,
    })
}

/// Starts the runner.
pub(super) async fn start(platform: &Platform, number: u64, spec: &RunSpec) -> Result<(), BeginError> {
    let layout = &platform.installation.layout;
    let group = Installation::group(platform.installation.identities.runner.as_ref());
    let events = events(&layout.run(number));
    // The runner adds to it; a first line of nobody's would be lost if it were replaced while one runs.
    if !events.exists() {
        file::replace_owned(&events, b"", 0o660, group)?;
    }
    platform.audit_run_secrets(number, &spec.secrets)?;
    let input = spec_file(platform, number);
    let mut text = serde_json::to_vec(spec).map_err(BeginError::Spec)?;
    text.push(b'\n');
    file::replace(&input, &text, 0o600)?;
    platform
        .supervisor
        .start(&unit(platform, number, &input, &events)?)
        .await?;
    Ok(())
}

/// Whether nothing of a run is there that [`clear`] would remove.
pub(super) fn is_cleared(platform: &Platform, number: u64) -> bool {
    !source(&platform.installation.layout.run(number)).exists() && !spec_file(platform, number).exists()
}

/// Removes what a run no longer needs; its events stay. The spec, which may hold secrets, goes first.
pub(super) fn clear(platform: &Platform, number: u64) {
    let copy = source(&platform.installation.layout.run(number));
    let gone = |result: std::io::Result<()>, path: &Path| {
        if let Err(error) = result
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "what a run used stays");
        }
    };
    let input = spec_file(platform, number);
    gone(std::fs::remove_file(&input), &input);
    gone(std::fs::remove_dir_all(&copy), &copy);
}

/// The name of a run's unit.
pub(super) fn unit_name(number: u64) -> Result<UnitName, UnitNameError> {
    UnitName::new(format!("run-{number}"))
}

/// What a run has said, a line each.
pub(super) fn events(folder: &Path) -> PathBuf {
    folder.join("events.jsonl")
}

fn source(folder: &Path) -> PathBuf {
    folder.join("source.git")
}

/// It may hold secrets: it lives on the runtime folder, and `keep` opens it for the runner.
fn spec_file(platform: &Platform, number: u64) -> PathBuf {
    platform.installation.layout.secret(&format!("run-{number}.json"))
}

fn unit(platform: &Platform, number: u64, input: &Path, events: &Path) -> Result<UnitSpec, UnitNameError> {
    let installation = &platform.installation;
    let argv = [
        &*installation.program.display().to_string(),
        "runner",
        "--spec",
        // `keep` has opened it: the runner may not.
        "/dev/stdin",
        "--events",
        &*events.display().to_string(),
    ];
    let memory = astraler_host::process::machine_memory_bytes();
    Ok(UnitSpec {
        name: unit_name(number)?,
        argv: argv.map(str::to_owned).to_vec(),
        env: BTreeMap::from([("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned())]),
        cwd: None,
        identity: installation.identities.runner.clone(),
        directories: vec![],
        credentials: vec![],
        stdin: Some(input.to_owned()),
        listeners: vec![],
        ready: Ready::Spawned,
        restart: RestartPolicy::Never,
        stop: StopPolicy {
            signal: 15,
            grace_ms: GRACE_MS,
            descendants: false,
        },
        limits: ResourceLimits {
            memory_bytes: memory.map(|bytes| bytes / MEMORY_SHARE.1 * MEMORY_SHARE.0),
            pids: None,
            open_files: Some(OPEN_FILES),
            oom_score_adj: Some(OOM_SCORE),
        },
        log: LogPolicy::default(),
    })
}
