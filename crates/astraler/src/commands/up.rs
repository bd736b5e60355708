//! `astraler up`: the place, the tools, the release, `keep`, the daemon; then the daemon's own steps.

use crate::assemble;
use crate::cli::{Arguments, UpArguments};
use crate::failure::{Failure, Kind, Outcome};
use crate::managed_rules;
use crate::place::{self, Place};
use crate::progress::{Progress, line};
use crate::table;
use crate::upload::upload;
use astraler_control::{AdminClient, EnvironmentReport, Event, Fault, Installation, StepOutcome, UpRequest};
use astraler_host::keep::Client;
use astraler_host::supervisor::{Started, Supervisor};
use astraler_model::Environment;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A segment of PostgreSQL's write-ahead log: with less, a cluster cannot be created.
const FULL_BYTES: u64 = 16 << 20;
const KEEP_STARTS: Duration = Duration::from_secs(10);

pub(super) fn run(arguments: &Arguments, up: &UpArguments) -> Outcome {
    let environments = environments(up)?;
    let place = Place::find(arguments)?;
    let manifest = place::manifest(&place)?;
    assemble::check_requirements()?;
    managed_rules::check(&manifest.config, &place.layout, &environments)?;
    let began = Instant::now();
    astraler_host::file::make_dir(&place.layout.state, 0o755, None, None).map_err(|error| {
        Failure::of(&error)
            .context(format!(
                "the state folder {} cannot be written",
                place.layout.state.display()
            ))
            .hint("choose a folder that you may write to with --state, or mend its owner and mode")
    })?;
    let _lock = place.lock("astraler up")?;
    let installation =
        place::prepare(&place, &manifest.config, up.port).map_err(|failure| full_disk(failure, &place))?;

    // Asked beside all else: npm takes its time to say which registry it uses.
    let machine = std::thread::spawn(astraler_pipeline::Machine::probe);

    super::block_on(async {
        let mut progress = Progress::new(up.json);
        let work = async {
            let assembled =
                Box::pin(assemble::assemble(&place, &manifest, up.no_build, &mut progress)).await?;
            let mut changed = keep(&installation, &mut progress).await?;
            changed |= daemon(&installation, &mut progress).await?;
            let client = AdminClient::new(installation.layout.admin_socket());
            upload(&client, &assembled, None).await?;
            let origin = super::deploy::origin(&place.application).await;
            let mut reports = Vec::new();
            for environment in environments {
                let (report, environment_changed) = Box::pin(environment_up(
                    &client,
                    UpRequest {
                        environment,
                        release: assembled.release.digest.clone(),
                        origin: origin.clone(),
                    },
                    &mut progress,
                ))
                .await?;
                changed |= environment_changed;
                reports.push(report);
            }
            Ok((changed, reports))
        };
        let result = tokio::select! {
            result = work => result,
            _ = tokio::signal::ctrl_c() => Err(Failure::new(Kind::Interrupted, "interrupted")
                .hint("what was done stays: `astraler up` goes on from it, `astraler down` stops everything")),
        };
        progress.clear();
        let (changed, reports) = result.map_err(|failure| full_disk(failure, &place))?;
        if let Ok(machine) = machine.join() {
            place::keep_machine(&installation, &machine)?;
        }
        if !up.json {
            finish(changed, &reports, began);
        }
        if let Some(added) = super::git::remote(&place, &installation)
            && !up.json
        {
            line(&format!("`git push {added} BRANCH` sends your branches here"));
        }
        Ok(())
    })
}

fn environments(up: &UpArguments) -> Outcome<Vec<Environment>> {
    let mut environments = Vec::new();
    for name in &up.environments {
        let environment: Environment =
            name.parse()
                .map_err(|error: astraler_model::ParseEnvironmentError| {
                    Failure::of(&error).hint("for example `astraler up --env staging`")
                })?;
        if !environments.contains(&environment) {
            environments.push(environment);
        }
    }
    Ok(environments)
}

/// Starts the parent of all processes, unless it runs.
pub(super) async fn keep(installation: &Installation, progress: &mut Progress) -> Outcome<bool> {
    let began = Instant::now();
    let socket = installation.layout.keep_socket();
    progress.begin("keep");
    if tokio::net::UnixStream::connect(&socket).await.is_ok() {
        progress.end("keep", StepOutcome::Unchanged, "runs", began);
        return Ok(false);
    }
    let output = installation.layout.logs().join("keep.out");
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&output)?;
    let mut child = Command::new(&installation.program)
        .args(["keep", "--installation"])
        .arg(installation.layout.installation_file())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .current_dir("/")
        .process_group(0)
        .spawn()?;
    let deadline = Instant::now() + KEEP_STARTS;
    while tokio::net::UnixStream::connect(&socket).await.is_err() {
        if let Some(status) = child.try_wait()? {
            return Err(Failure::new(
                Kind::General,
                format!("the parent process ended at once ({status})"),
            )
            .details(last_lines(&output)));
        }
        if Instant::now() > deadline {
            return Err(Failure::new(Kind::General, "the parent process does not answer")
                .details(last_lines(&output)));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    progress.end("keep", StepOutcome::Changed, format!("pid {}", child.id()), began);
    Ok(true)
}

async fn daemon(installation: &Installation, progress: &mut Progress) -> Outcome<bool> {
    let began = Instant::now();
    progress.begin("daemon");
    let fresh = start_daemon(installation).await?;
    let outcome = if fresh {
        StepOutcome::Changed
    } else {
        StepOutcome::Unchanged
    };
    progress.end("daemon", outcome, "control process", began);
    Ok(fresh)
}

/// Starts the control process, unless it runs; says whether it had to.
pub(super) async fn start_daemon(installation: &Installation) -> Outcome<bool> {
    let keep = Client::new(installation.layout.keep_socket());
    let unit = astraler_control::daemon_unit(installation)?;
    let started = keep
        .start(&unit)
        .await
        .map_err(|error| failed(&Fault::of_supervisor("daemon", &error)))?;
    Ok(matches!(started, Started::Fresh(_)))
}

async fn environment_up(
    client: &AdminClient,
    request: UpRequest,
    progress: &mut Progress,
) -> Outcome<(EnvironmentReport, bool)> {
    let mut last = None;
    client
        .up(&request, |event| {
            progress.event(&event);
            last = Some(event);
            true
        })
        .await
        .map_err(|error| super::not_up(&error))?;
    match last {
        Some(Event::Done { changed, environment }) => Ok((environment, changed)),
        Some(Event::Failed(fault)) => Err(failed(&fault)),
        _ => Err(stopped()),
    }
}

/// The daemon ended in the middle of its answer.
pub(super) fn stopped() -> Failure {
    Failure::new(
        Kind::General,
        "the control process stopped in the middle of its work",
    )
    .hint("run the command again: it goes on from what was done; `astraler logs daemon` says why")
}

pub(super) fn failed(fault: &Fault) -> Failure {
    let mut lines = fault.message.lines();
    let message = format!("{}: {}", fault.part, lines.next().unwrap_or_default());
    let mut failure = Failure::new(Kind::General, message);
    failure = failure.details(lines.map(str::to_owned).collect());
    if !fault.log.is_empty() {
        let mut details = vec!["its last log lines:".to_owned()];
        details.extend(fault.log.iter().map(|line| format!("  {line}")));
        failure = failure.details(details);
    }
    failure.hint(fault.hint.clone().unwrap_or_else(|| {
        "`astraler logs` shows what the processes wrote; `astraler doctor` checks the machine".to_owned()
    }))
}

/// A disk without space makes everything fail, and few say so: a process whose log is on it cannot.
fn full_disk(failure: Failure, place: &Place) -> Failure {
    let state = &place.layout.state;
    let Ok(disk) = rustix::fs::statvfs(state) else {
        return failure;
    };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free >= FULL_BYTES {
        return failure;
    }
    failure
        .details(vec![format!(
            "the disk is full: {} KiB are left for {}",
            free >> 10,
            state.display()
        )])
        .hint("make space there, or choose another folder with --state; then run `astraler up` again")
}

fn last_lines(path: &std::path::Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..]
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn finish(changed: bool, reports: &[EnvironmentReport], began: Instant) {
    table::print(
        &["environment", "url", "release"],
        reports.iter().map(|report| {
            let release: String = report
                .release
                .as_deref()
                .unwrap_or("-")
                .trim_start_matches("sha256:")
                .chars()
                .take(12)
                .collect();
            vec![report.environment.to_string(), report.urls.join("\n"), release]
        }),
    );
    let seconds = began.elapsed().as_secs_f64();
    if changed {
        line(&format!("up in {seconds:.1} s"));
    } else {
        line(&format!("nothing to change: everything is up ({seconds:.1} s)"));
    }
}
