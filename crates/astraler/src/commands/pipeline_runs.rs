//! `astraler pipeline list`, `show`, `logs`, `cancel`: the runs that pushes asked for.

use crate::cli::Arguments;
use crate::failure::{Failure, Kind, Outcome};
use crate::progress::line;
use crate::table;
use astraler_control::{RunLine, RunSummary};
use astraler_pipeline::{Renderer, RunEvent, gates_table};

pub(super) fn list(arguments: &Arguments, branch: Option<&str>, lines: u32, json: bool) -> Outcome {
    let client = super::daemon(arguments)?;
    let all = super::block_on(async {
        let all = client.runs(branch, lines).await;
        all.map_err(|error| super::not_up(&error))
    })?;
    if json {
        return Ok(table::print_json(&all)?);
    }
    table::print(
        &[
            "run",
            "event",
            "state",
            "branch",
            "environment",
            "actor",
            "when",
            "took",
            "why",
        ],
        all.iter().map(row),
    );
    Ok(())
}

pub(super) fn show(arguments: &Arguments, number: u64, json: bool) -> Outcome {
    let client = super::daemon(arguments)?;
    let run = super::block_on(async {
        let run = client.run(number).await;
        run.map_err(|error| super::not_up(&error))
    })?;
    if json {
        return Ok(table::print_json(&run)?);
    }
    line(&title(&run));
    if let Some(error) = &run.error {
        line(error);
    }
    let Some(report) = &run.report else { return Ok(()) };
    let rows = report.jobs.iter().map(|job| {
        vec![
            job.name.clone(),
            job.conclusion.word().to_owned(),
            format!("{:.1} s", seconds(job.duration_ms)),
            job.url.clone().unwrap_or_default(),
        ]
    });
    table::print(&["job", "conclusion", "took", "url"], rows);
    for annotation in &report.annotations {
        let level = format!("{:?}", annotation.level).to_ascii_lowercase();
        line(&format!("{level}: {}", annotation.message));
    }
    gates_table(&report.gates).iter().for_each(|text| line(text));
    Ok(())
}

pub(super) fn logs(
    arguments: &Arguments,
    number: u64,
    follow: bool,
    job: Option<&str>,
    json: bool,
) -> Outcome {
    let client = super::daemon(arguments)?;
    let mut shown = Shown::whole(job);
    let mut last = None;
    super::block_on(async {
        let told = client
            .run_events(number, follow, |told| {
                if json {
                    line(&serde_json::to_string(&told).unwrap_or_default());
                } else {
                    shown.line(&told).iter().for_each(|text| line(text));
                }
                if let RunLine::Run(run) = told {
                    last = run.conclusion;
                }
                true
            })
            .await;
        told.map_err(|error| super::not_up(&error))
    })?;
    // Who follows wants to know how it ended.
    match last.as_deref() {
        Some("failure") if follow => Err(Failure::new(Kind::General, format!("run {number} failed"))),
        Some("cancelled") if follow => Err(Failure::new(
            Kind::Interrupted,
            format!("run {number} was cancelled"),
        )),
        _ => Ok(()),
    }
}

pub(super) fn cancel(arguments: &Arguments, number: u64) -> Outcome {
    let client = super::daemon(arguments)?;
    super::block_on(async {
        let cancelled = client.run_cancel(number).await;
        cancelled.map_err(|error| super::not_up(&error))
    })?;
    line(&format!(
        "run {number} is told to end; `astraler pipeline logs -f {number}` shows how it does"
    ));
    Ok(())
}

/// Turns what runs say into lines for people.
#[derive(Debug)]
pub(super) struct Shown {
    renderer: Renderer,
    job: Option<String>,
    brief: bool,
}

impl Shown {
    /// Output of steps only where they fail: for a pusher.
    pub(super) fn brief() -> Self {
        Self {
            renderer: Renderer::brief(),
            job: None,
            brief: true,
        }
    }

    /// Everything, or all of one job.
    fn whole(job: Option<&str>) -> Self {
        Self {
            renderer: Renderer::new(),
            job: job.map(str::to_owned),
            brief: false,
        }
    }

    pub(super) fn line(&mut self, told: &RunLine) -> Vec<String> {
        match told {
            RunLine::Note(note) => vec![note.clone()],
            RunLine::Event(event) if self.is_wanted(event) => self.renderer.lines(event),
            RunLine::Event(_) => vec![],
            RunLine::Run(run) => self.run(run),
        }
    }

    fn is_wanted(&self, event: &RunEvent) -> bool {
        let Some(wanted) = &self.job else { return true };
        let of = match event {
            RunEvent::JobStarted { job, .. }
            | RunEvent::StepStarted { job, .. }
            | RunEvent::Log { job, .. }
            | RunEvent::Annotation { job, .. }
            | RunEvent::Summary { job, .. }
            | RunEvent::StepEnded { job, .. } => job,
            RunEvent::JobEnded { report } => &report.key,
            RunEvent::RunStarted { .. } | RunEvent::Gates { .. } | RunEvent::RunEnded { .. } => return false,
        };
        of == wanted
    }

    fn run(&mut self, run: &RunSummary) -> Vec<String> {
        match run.state.as_str() {
            "queued" => vec![title(run), "waiting for its turn".into()],
            "running" if self.brief => vec![title(run)],
            "ended" => {
                // The next run of the same push begins anew.
                self.renderer = if self.brief {
                    Renderer::brief()
                } else {
                    Renderer::new()
                };
                let mut lines: Vec<String> = run
                    .error
                    .iter()
                    .flat_map(|error| error.lines())
                    .map(str::to_owned)
                    .collect();
                lines.push(title(run));
                let good = run.conclusion.as_deref() == Some("success");
                lines.extend(run.urls.first().filter(|_| good).cloned());
                lines
            }
            _ => vec![],
        }
    }
}

/// A run in one line: `run 12: develop → staging, success after 41.2 s`.
fn title(run: &RunSummary) -> String {
    let what = match run.pull_request {
        Some(number) => format!("{} (pull request {number})", run.branch),
        None => run.branch.clone(),
    };
    let place = run
        .environment
        .map_or_else(String::new, |environment| format!(" → {environment}"));
    let took = match (run.created_ms, run.ended_ms) {
        (created, Some(ended)) => format!(" after {:.1} s", seconds(ended.saturating_sub(created))),
        _ => String::new(),
    };
    format!("run {}: {what}{place}, {}{took}", run.number, state(run))
}

fn row(run: &RunSummary) -> Vec<String> {
    let at = i64::try_from(run.created_ms).unwrap_or(i64::MAX);
    let when = jiff::Timestamp::from_millisecond(at).map(|at| format!("{at:.0}"));
    let took = run
        .started_ms
        .zip(run.ended_ms)
        .map(|(began, ended)| format!("{:.1} s", seconds(ended.saturating_sub(began))));
    let why = run.error.as_deref().and_then(|error| error.lines().next());
    vec![
        run.number.to_string(),
        run.event.clone(),
        state(run),
        super::deploy::commit(Some(&run.commit), Some(&run.branch)),
        run.environment
            .map_or_else(|| "-".into(), |environment| environment.to_string()),
        run.actor.clone(),
        when.unwrap_or_default(),
        took.unwrap_or_else(|| "-".into()),
        why.unwrap_or_default().to_owned(),
    ]
}

fn state(run: &RunSummary) -> String {
    match &run.conclusion {
        Some(conclusion) => conclusion.clone(),
        None if run.cancelling => "cancelling".into(),
        None => run.state.clone(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}
