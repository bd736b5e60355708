//! Gates: which jobs and steps of a run must pass.

use crate::event::{Conclusion, Coverage, GateReport, GateState, JobReport};
use astraler_workflow::{Job, Node, Step, StepAction, Template, Workflow};
use std::collections::BTreeSet;

/// The gate that measures, and only warns.
pub const COVERAGE: &str = "coverage";

/// How the gates stand. A job is a gate if its id or name has the gate's name as a word; where no job is, a step is.
pub(crate) fn gates(
    names: &[String],
    jobs: &[JobReport],
    coverage: &[Coverage],
    percent: u8,
) -> Vec<GateReport> {
    let mut all: Vec<GateReport> = names.iter().map(|name| gate(name, jobs)).collect();
    let (lines, covered) = coverage.iter().fold((0, 0), |(lines, covered), found| {
        (lines + found.lines, covered + found.covered)
    });
    all.push(GateReport {
        name: COVERAGE.to_owned(),
        blocking: false,
        duration_ms: 0,
        state: if lines == 0 {
            GateState::Missing
        } else if covered * 100 >= lines * u64::from(percent) {
            GateState::Passed
        } else {
            GateState::Failed
        },
        detail: match (covered * 1000).checked_div(lines) {
            Some(tenths) => format!("{}.{} % of lines, wanted {percent} %", tenths / 10, tenths % 10),
            None => "no report".to_owned(),
        },
    });
    all
}

/// Of these gates, those that a job or a step of the workflows, or of what they call, is. Matrices and expressions are
/// taken as they stand.
pub(crate) fn gates_of<'w>(names: &[String], workflows: impl Iterator<Item = &'w Workflow>) -> Vec<String> {
    let jobs: Vec<Open> = workflows
        .flat_map(|workflow| workflow.jobs.iter().map(|job| Open::of(workflow, job)))
        .collect();
    let found = names
        .iter()
        .filter(|name| jobs.iter().any(|job| job.is(name) || job.has_step(name)));
    found.cloned().collect()
}

/// Says which gates have come to their end while a run goes on: those of which no job is open any more.
#[derive(Debug)]
pub(crate) struct Watch {
    open: Vec<Open>,
    waiting: Vec<String>,
}

impl Watch {
    /// `runs` says which jobs are part of the run.
    pub(crate) fn new<'w>(
        names: &[String],
        workflows: impl Iterator<Item = &'w Workflow>,
        runs: impl Fn(&Workflow, &Job) -> bool,
    ) -> Self {
        let runs = &runs;
        let open = workflows.flat_map(|workflow| {
            let jobs = workflow.jobs.iter().filter(move |job| runs(workflow, job));
            jobs.map(move |job| Open::of(workflow, job))
        });
        Self {
            open: open.collect(),
            waiting: names.to_vec(),
        }
    }

    /// A job of a workflow ended, with its matrix and all that it called. Answers the gates that ended with it.
    pub(crate) fn ended(&mut self, file: &str, id: &str, jobs: &[JobReport]) -> Vec<GateReport> {
        self.open.retain(|job| job.file != file || job.id != id);
        let mut ended = Vec::new();
        self.waiting.retain(|name| {
            let by_job = jobs.iter().any(|job| is(name, &job.id) || is(name, &job.name));
            let open = self
                .open
                .iter()
                .any(|job| job.is(name) || (!by_job && job.has_step(name)));
            let report = (!open).then(|| gate(name, jobs));
            match report {
                Some(report) if report.state != GateState::Missing => {
                    ended.push(report);
                    false
                }
                _ => true,
            }
        });
        ended
    }
}

/// A job that has not ended, by all names that it and what it calls can have.
#[derive(Debug)]
struct Open {
    file: String,
    id: String,
    names: BTreeSet<String>,
    steps: BTreeSet<String>,
}

impl Open {
    fn of(workflow: &Workflow, job: &Job) -> Self {
        let mut open = Self {
            file: workflow.file.clone(),
            id: job.id.clone(),
            names: BTreeSet::new(),
            steps: BTreeSet::new(),
        };
        open.add(job);
        open
    }

    fn add(&mut self, job: &Job) {
        self.names.insert(job.id.clone());
        self.names.extend(text(&job.name));
        self.steps.extend(job.steps.iter().map(step_name));
        let called = job.call.as_ref().and_then(|call| call.workflow.as_ref());
        for job in called.into_iter().flat_map(|workflow| &workflow.jobs) {
            self.add(job);
        }
    }

    fn is(&self, gate: &str) -> bool {
        self.names.iter().any(|name| is(gate, name))
    }

    fn has_step(&self, gate: &str) -> bool {
        self.steps.iter().any(|name| is(gate, name))
    }
}

/// As a step is shown that has no name of its own.
fn step_name(step: &Step) -> String {
    if let Some(name) = step.name.as_ref().and_then(text) {
        return name;
    }
    match &step.action {
        StepAction::Run { script, .. } => {
            let script = text(script).unwrap_or_default();
            format!("Run {}", script.trim().lines().next().unwrap_or_default())
        }
        StepAction::Uses { action, .. } => format!("Run {action}"),
    }
}

/// A text as it stands in its file.
fn text(template: &Template) -> Option<String> {
    match &template.node {
        Node::String(text) => Some(text.clone()),
        Node::Expression(expression) => Some(expression.source().to_owned()),
        _ => None,
    }
}

fn gate(name: &str, jobs: &[JobReport]) -> GateReport {
    let of_jobs: Vec<_> = jobs
        .iter()
        .filter(|job| is(name, &job.id) || is(name, &job.name))
        .map(|job| {
            let conclusion = if job.allowed_to_fail {
                Conclusion::Success
            } else {
                job.conclusion
            };
            (job.name.clone(), conclusion, job.duration_ms)
        })
        .collect();
    let found = if of_jobs.is_empty() {
        let steps = jobs
            .iter()
            .flat_map(|job| job.steps.iter().map(move |step| (job, step)));
        steps
            .filter(|(_, step)| is(name, &step.name))
            .map(|(job, step)| {
                (
                    format!("{} / {}", job.name, step.name),
                    step.conclusion,
                    step.duration_ms,
                )
            })
            .collect()
    } else {
        of_jobs
    };
    let has = |wanted: Conclusion| found.iter().any(|(_, conclusion, _)| *conclusion == wanted);
    let state = if found.is_empty() {
        GateState::Missing
    } else if has(Conclusion::Failure) || has(Conclusion::Cancelled) {
        GateState::Failed
    } else if has(Conclusion::Success) {
        GateState::Passed
    } else {
        GateState::Skipped
    };
    let names: Vec<&str> = found.iter().map(|(name, _, _)| name.as_str()).collect();
    GateReport {
        name: name.to_owned(),
        state,
        blocking: true,
        detail: if names.is_empty() {
            "no job or step of this name".to_owned()
        } else {
            names.join(", ")
        },
        duration_ms: found.iter().map(|(_, _, duration)| duration).sum(),
    }
}

/// Whether a name has the gate's name as a word: `unit-test`, `Run pnpm test:ci`. `test` and `tests` are one.
fn is(gate: &str, name: &str) -> bool {
    let word = |text: &str| text.to_ascii_lowercase().trim_end_matches('s').to_owned();
    let gate = word(gate);
    let all = word(name) == gate;
    all || name
        .split(|c: char| !c.is_ascii_alphanumeric())
        .any(|part| !part.is_empty() && word(part) == gate)
        && !name
            .split(|c: char| !c.is_ascii_alphanumeric())
            .any(|part| word(part) == "e2e" && gate != "e2e")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::StepReport;

    fn job(id: &str, conclusion: Conclusion, steps: &[(&str, Conclusion)]) -> JobReport {
        JobReport {
            key: id.into(),
            id: id.into(),
            name: id.into(),
            workflow: "ci.yml".into(),
            conclusion,
            allowed_to_fail: false,
            environment: None,
            url: None,
            outputs: [].into(),
            steps: steps
                .iter()
                .map(|(name, conclusion)| StepReport {
                    number: 1,
                    name: (*name).into(),
                    outcome: *conclusion,
                    conclusion: *conclusion,
                    duration_ms: 1,
                })
                .collect(),
            duration_ms: 10,
        }
    }

    fn states(names: &[&str], jobs: &[JobReport]) -> Vec<GateState> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let all = gates(&names, jobs, &[], 70);
        all.into_iter().take(names.len()).map(|gate| gate.state).collect()
    }

    #[test]
    fn jobs_are_gates_by_id_and_steps_where_no_job_is() {
        use Conclusion::{Failure, Skipped, Success};
        let jobs = [
            job("lint", Success, &[]),
            job("unit-tests", Failure, &[("Run pnpm build", Success)]),
            job("e2e-test", Skipped, &[]),
            job(
                "check",
                Success,
                &[("Run pnpm typecheck", Failure), ("Run pnpm build", Success)],
            ),
        ];
        assert_eq!(
            states(&["lint", "typecheck", "test", "build", "e2e", "other"], &jobs),
            [
                GateState::Passed,
                GateState::Failed,
                GateState::Failed,
                GateState::Passed,
                GateState::Skipped,
                GateState::Missing
            ]
        );
    }

    const CI: &str = r#"
on: push
jobs:
  lint: { runs-on: x, steps: [{ run: "true" }] }
  unit:
    runs-on: x
    name: "Test ${{ matrix.node }}"
    strategy: { matrix: { node: [20, 24] } }
    steps: [{ run: "true" }]
  check:
    runs-on: x
    steps: [{ run: pnpm typecheck }, { name: Build the page, run: make }]
  last: { runs-on: x, steps: [{ name: build again, run: make }] }
"#;

    fn names(all: &[&str]) -> Vec<String> {
        all.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_a_workflow_holds_is_known_before_it_runs() {
        let workflow = astraler_workflow::parse("ci.yml", CI).unwrap();
        let wanted = names(&["lint", "typecheck", "test", "build", "e2e"]);
        let found = gates_of(&wanted, std::iter::once(&workflow));
        assert_eq!(found, names(&["lint", "typecheck", "test", "build"]));
    }

    #[test]
    fn a_gate_ends_with_the_last_job_or_step_of_its_name() {
        use Conclusion::{Failure, Success};
        let workflow = astraler_workflow::parse("ci.yml", CI).unwrap();
        let wanted = names(&["lint", "typecheck", "test", "build", "e2e"]);
        let mut watch = Watch::new(&wanted, std::iter::once(&workflow), |_, _| true);
        let mut jobs = vec![job("lint", Success, &[])];
        let ended = |watch: &mut Watch, id: &str, jobs: &[JobReport]| -> Vec<(String, GateState)> {
            let found = watch.ended("ci.yml", id, jobs).into_iter();
            found.map(|gate| (gate.name, gate.state)).collect()
        };
        assert_eq!(
            ended(&mut watch, "lint", &jobs),
            [("lint".into(), GateState::Passed)]
        );
        jobs.push(job(
            "check",
            Success,
            &[("Run pnpm typecheck", Failure), ("Build the page", Success)],
        ));
        // A step of `last` is the gate `build` too.
        assert_eq!(
            ended(&mut watch, "check", &jobs),
            [("typecheck".into(), GateState::Failed)]
        );
        jobs.push(job("Test 20", Success, &[]));
        jobs.push(job("Test 24", Failure, &[]));
        assert_eq!(
            ended(&mut watch, "unit", &jobs),
            [("test".into(), GateState::Failed)]
        );
        jobs.push(job("last", Success, &[("build again", Success)]));
        assert_eq!(
            ended(&mut watch, "last", &jobs),
            [("build".into(), GateState::Passed)]
        );
    }

    #[test]
    fn coverage_warns_and_never_blocks() {
        let found = [Coverage {
            file: "lcov.info".into(),
            lines: 1000,
            covered: 699,
        }];
        let all = gates(&[], &[], &found, 70);
        assert_eq!((all[0].state, all[0].blocking), (GateState::Failed, false));
        assert_eq!(all[0].detail, "69.9 % of lines, wanted 70 %");
        assert_eq!(gates(&[], &[], &found, 69)[0].state, GateState::Passed);
    }
}
