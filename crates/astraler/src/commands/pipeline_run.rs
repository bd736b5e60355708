//! `astraler pipeline run`, and the process that runs workflows for it and for the daemon.

use crate::cli::{Arguments, PipelineRunArguments};
use crate::failure::{Failure, Kind, Outcome};
use crate::place::{self, Place};
use crate::progress::line;
use astraler_manifest::{Diagnostic, Diagnostics, Manifest};
use astraler_model::Identity;
use astraler_pipeline::{
    Conclusion, ControlDeploys, Deploys, Event, Folders, Limits, Machine, NoDeploys, PipelineError, Renderer,
    RunEvent, RunReport, RunSpec, Source, WorkflowFile,
};
use astraler_workers::tools::{self, ToolsConfig};
use astraler_workflow::trigger;
use serde_json::json;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Events that wait for whoever reads them.
const MAX_WAITING: usize = 256;

/// `astraler pipeline run`.
pub(super) fn run(arguments: &Arguments, run: &PipelineRunArguments) -> Outcome {
    let place = Place::find(arguments)?;
    let manifest = place::manifest(&place)?;
    let root = Root::prepare(&place)?;
    let snapshot = root.folder.join(format!("source-{}.git", std::process::id()));
    let result =
        prepare(&place, &manifest, run, &root, &snapshot).and_then(|spec| execute(&spec, run.json, &root));
    std::fs::remove_dir_all(&snapshot).ok();
    let report = result?;
    match report.conclusion {
        Conclusion::Success | Conclusion::Skipped => Ok(()),
        Conclusion::Cancelled => {
            let mut failure = Failure::new(Kind::Interrupted, "the run was cancelled");
            failure.rendered = run.json.then(String::new);
            Err(failure)
        }
        Conclusion::Failure => {
            let mut failure = Failure::new(Kind::General, "the run failed");
            failure.rendered = run.json.then(String::new);
            Err(failure)
        }
    }
}

/// The folder of the pipeline, and the user whose it is.
struct Root {
    folder: PathBuf,
    /// As root, steps belong to a user who owns nothing else.
    user: Option<Identity>,
    program: PathBuf,
}

impl Root {
    fn prepare(place: &Place) -> Outcome<Self> {
        let user = if place::is_root() {
            Some(astraler_host::users::ensure_system_user("astraler-runner")?)
        } else {
            None
        };
        let ids = user.as_ref().map(|user| (user.uid, user.gid));
        let (uid, gid) = ids.map_or((None, None), |(uid, gid)| (Some(uid), Some(gid)));
        let folder = place.layout.state.join("pipeline");
        astraler_host::file::make_dir(&place.layout.state, 0o755, None, None)?;
        astraler_host::file::make_dir(&folder, 0o700, uid, gid)?;
        let programs = place.layout.state.join("runner");
        astraler_host::file::make_dir(&programs, 0o755, None, None)?;
        let program = place::copy_program(&programs)?;
        Ok(Self {
            folder,
            user,
            program,
        })
    }
}

fn prepare(
    place: &Place,
    manifest: &Manifest,
    run: &PipelineRunArguments,
    root: &Root,
    snapshot: &Path,
) -> Outcome<RunSpec> {
    let source = astraler_pipeline::snapshot(&place.application, snapshot)?;
    if let Some(user) = &root.user {
        give(snapshot, user)?;
    }
    let name = manifest.config.name.clone();
    let event = event(place, run, &name, &source);
    let files = astraler_pipeline::workflow_files(&source)?;
    let all = !run.jobs.is_empty();
    let (workflows, jobs) = choose(&files, &event, run)?;
    if workflows.is_empty() {
        return Err(Failure::new(
            Kind::General,
            format!(
                "no workflow in .github/workflows runs on `{}` of {}",
                event.name, event.reference
            ),
        )
        .hint("choose another event with --event or --ref, or name a job"));
    }
    let given = super::pipeline_given::given(run, &workflows)?;
    astraler_pipeline::check(&workflows, &source, &jobs).map_err(|error| refused(&error, &workflows))?;
    if !all && !run.json {
        for left_out in left_out(&workflows, &jobs) {
            line(&format!("left out: {left_out} deploys; name it to run it"));
        }
    }
    let config = ToolsConfig {
        directory: place.layout.tools.clone(),
    };
    let tools = super::block_on(async { Ok(tools::ensure(&config).await?) })?;
    let settings = &manifest.config.pipeline;
    let at = |name: &str| root.folder.join(name);
    Ok(RunSpec {
        id: format!("local-{}", std::process::id()),
        number: 1,
        attempt: 1,
        event,
        workflows,
        jobs,
        source,
        inputs: given.inputs,
        secrets: given.secrets,
        vars: given.vars,
        folders: Folders {
            work: at("work"),
            cache: at("cache"),
            artifacts: at("artifacts"),
            tool_cache: at("tools"),
        },
        tools: astraler_control::runner_tools(&tools, &root.program),
        machine: Machine::probe(),
        registries: settings.registries.clone(),
        ports: vec![],
        hosts: vec![],
        limits: Limits {
            job_timeout_minutes: settings.job_timeout_minutes,
            ..Limits::default()
        },
        gates: settings.gate_names(),
        coverage_percent: settings.coverage_percent,
        trust: "local".into(),
        control: None,
    })
}

fn event(place: &Place, run: &PipelineRunArguments, name: &str, source: &Source) -> Event {
    let asked = |arguments: &[&str]| {
        let output = std::process::Command::new("git")
            .arg("-C")
            .arg(&place.application)
            .args(arguments)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .ok()?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        (output.status.success() && !text.is_empty()).then_some(text)
    };
    let branch = || asked(&["symbolic-ref", "--short", "HEAD"]).unwrap_or_else(|| "main".into());
    let given = run.reference.clone().unwrap_or_else(branch);
    let reference = if given.starts_with("refs/") {
        given
    } else {
        format!("refs/heads/{given}")
    };
    let short = reference
        .strip_prefix("refs/heads/")
        .unwrap_or(&reference)
        .to_owned();
    let repository = format!("local/{name}");
    let actor = asked(&["config", "user.name"]).unwrap_or_else(|| "local".into());
    let about = json!({ "full_name": repository, "name": name, "owner": { "login": "local" } });
    let mut payload =
        json!({ "ref": reference, "after": source.sha, "repository": about, "sender": { "login": actor } });
    let pull = run.event == "pull_request";
    if pull {
        payload["number"] = json!(0);
        payload["action"] = json!("synchronize");
        payload["pull_request"] = json!({
            "number": 0,
            "head": { "ref": short, "sha": source.sha, "repo": about },
            "base": { "ref": run.base, "repo": about },
        });
    }
    Event {
        name: run.event.clone(),
        reference: if pull {
            "refs/pull/0/merge".into()
        } else {
            reference
        },
        sha: source.sha.clone(),
        head_ref: if pull { short } else { String::new() },
        base_ref: if pull { run.base.clone() } else { String::new() },
        repository,
        actor,
        protected: false,
        payload,
    }
}

/// The workflows that the event starts, and the jobs: those that are named, else all that do not deploy.
fn choose(
    files: &[WorkflowFile],
    event: &Event,
    run: &PipelineRunArguments,
) -> Outcome<(Vec<WorkflowFile>, Vec<String>)> {
    let what = trigger::Event {
        name: event.name.clone(),
        activity: (event.name == "pull_request").then(|| "synchronize".into()),
        branch: if event.name == "pull_request" {
            Some(event.base_ref.clone())
        } else {
            event.reference.strip_prefix("refs/heads/").map(str::to_owned)
        },
        tag: event.reference.strip_prefix("refs/tags/").map(str::to_owned),
        ..trigger::Event::default()
    };
    let mut chosen = Vec::new();
    let mut jobs = Vec::new();
    for file in files {
        // One that is not right must be told, whatever starts it.
        let Ok(workflow) = astraler_workflow::parse(&file.path, &file.text) else {
            chosen.push(file.clone());
            continue;
        };
        let named = run.jobs.iter().any(|job| workflow.job(job).is_some());
        if run.jobs.is_empty() && trigger::matches(&workflow.on, &what).is_ok() {
            let kept = workflow.jobs.iter().filter(|job| !deploys(&workflow, job));
            let kept: Vec<String> = kept.map(|job| job.id.clone()).collect();
            if !kept.is_empty() {
                jobs.extend(kept);
                chosen.push(file.clone());
            }
        } else if named {
            chosen.push(file.clone());
        }
    }
    if !run.jobs.is_empty() {
        jobs.clone_from(&run.jobs);
    }
    Ok((chosen, jobs))
}

/// Whether a job, or one that it needs, has an environment.
fn deploys(workflow: &astraler_workflow::Workflow, job: &astraler_workflow::Job) -> bool {
    let mut seen: Vec<&str> = Vec::new();
    let mut queue = vec![job];
    while let Some(job) = queue.pop() {
        if job.environment.is_some() {
            return true;
        }
        for need in job.needs.iter().filter_map(|need| workflow.job(&need.job)) {
            if !seen.contains(&need.id.as_str()) {
                seen.push(&need.id);
                queue.push(need);
            }
        }
    }
    false
}

fn left_out(workflows: &[WorkflowFile], jobs: &[String]) -> Vec<String> {
    let parsed = workflows
        .iter()
        .filter_map(|file| astraler_workflow::parse(&file.path, &file.text).ok());
    parsed
        .flat_map(|workflow| workflow.jobs)
        .map(|job| job.id)
        .filter(|id| !jobs.contains(id))
        .collect()
}

/// Errors that point into workflow files, with the lines that they mean.
fn refused(error: &PipelineError, files: &[WorkflowFile]) -> Failure {
    let PipelineError::Workflows(problems) = error else {
        return Failure::of(error);
    };
    let found = problems.iter().map(|problem| {
        let name = problem.file.as_deref().unwrap_or(".github/workflows");
        let text: Arc<str> = files
            .iter()
            .find(|file| file.path == name)
            .map_or_else(|| "".into(), |file| file.text.as_str().into());
        let place = problem.place.map_or((1, 1), |place| (place.line, place.column));
        Diagnostic::at(
            (name, &text),
            place,
            "workflow",
            problem.message.clone(),
            problem.hint.clone(),
        )
    });
    match Diagnostics::new(found.collect()) {
        Some(diagnostics) => Failure::diagnostics(&diagnostics),
        None => Failure::of(error),
    }
}

/// Gives a tree to a user.
fn give(path: &Path, user: &Identity) -> Outcome {
    std::os::unix::fs::lchown(path, Some(user.uid), Some(user.gid))?;
    if path.symlink_metadata()?.is_dir() {
        for entry in std::fs::read_dir(path)? {
            give(&entry?.path(), user)?;
        }
    }
    Ok(())
}

/// Runs the spec in a process of its own, as the pipeline's user, and shows what it says.
fn execute(spec: &RunSpec, json: bool, root: &Root) -> Outcome<RunReport> {
    super::block_on(async {
        let mut command = tokio::process::Command::new(&root.program);
        command
            .args(["runner", "--spec", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .current_dir("/")
            .kill_on_drop(true)
            .process_group(0);
        if let Some(user) = &root.user {
            command.as_std_mut().uid(user.uid).gid(user.gid);
        }
        let mut child = command.spawn()?;
        let mut stdin = child
            .stdin
            .take()
            .ok_or_else(|| Failure::new(Kind::General, "the runner takes no spec"))?;
        let mut text = serde_json::to_vec(spec)?;
        text.push(b'\n');
        stdin.write_all(&text).await?;
        let stdout = child
            .stdout
            .take()
            .ok_or_else(|| Failure::new(Kind::General, "the runner says nothing"))?;
        let mut lines = BufReader::new(stdout).lines();
        let mut renderer = Renderer::new();
        let mut report = None;
        let mut stdin = Some(stdin);
        loop {
            tokio::select! {
                next = lines.next_line() => {
                    let Some(text) = next? else { break };
                    let event: RunEvent = serde_json::from_str(&text)?;
                    if json {
                        line(&text);
                    } else {
                        renderer.lines(&event).iter().for_each(|text| line(text));
                    }
                    if let RunEvent::RunEnded { report: ended } = event {
                        report = Some(*ended);
                    }
                }
                _ = tokio::signal::ctrl_c() => {
                    // The first asks the run to end and clean up, the second ends it.
                    if stdin.take().is_none() {
                        child.start_kill()?;
                    }
                }
            }
        }
        let status = child.wait().await?;
        report.ok_or_else(|| {
            Failure::new(
                Kind::General,
                format!("the runner ended without a report ({status})"),
            )
        })
    })
}

/// `astraler runner`: reads a spec, runs it, writes events as lines of JSON; the last one is the report. The end of
/// its standard input, where the spec is its first line (`-`), and SIGTERM cancel the run.
pub(crate) fn runner(file: &Path, events: Option<&Path>) -> Outcome {
    let from_stdin = file == Path::new("-");
    let mut text = String::new();
    if from_stdin {
        std::io::stdin().read_line(&mut text)?;
    } else if file == Path::new("/dev/stdin") {
        // Read, not opened: it may be a file that only its opener may open.
        std::io::stdin().read_to_string(&mut text)?;
    } else {
        text = std::fs::read_to_string(file)?;
    }
    let spec: RunSpec = serde_json::from_str(&text)?;
    let cancel = CancellationToken::new();
    if from_stdin {
        let token = cancel.clone();
        // It waits for as long as the process lives: no task of the runtime may.
        std::thread::spawn(move || {
            std::io::stdin().read_line(&mut String::new()).ok();
            token.cancel();
        });
    }
    // Whoever reads sets the pace: a write may wait.
    let mut out: Box<dyn Write + Send> = match events {
        // It is there already: whoever follows it has made it.
        Some(file) => Box::new(std::fs::OpenOptions::new().append(true).open(file)?),
        None => Box::new(std::io::stdout()),
    };
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(async move {
            let token = cancel.clone();
            tokio::spawn(async move {
                crate::processes::terminated().await;
                token.cancel();
            });
            let deploys: Arc<dyn Deploys> = match &spec.control {
                Some(socket) => Arc::new(ControlDeploys::new(socket)),
                None => Arc::new(NoDeploys),
            };
            let (sender, mut receiver) = mpsc::channel(MAX_WAITING);
            let running = tokio::spawn(astraler_pipeline::run(spec, deploys, sender, cancel));
            while let Some(event) = receiver.recv().await {
                let mut text = serde_json::to_vec(&event)?;
                text.push(b'\n');
                out.write_all(&text)?;
                out.flush()?;
            }
            let ended = running
                .await
                .map_err(|error| Failure::new(Kind::General, format!("the run broke: {error}")))?;
            ended.map(drop).map_err(|error| Failure::of(&error))
        })
}
