//! Which gates a run has, and which have come to their end while it goes on.

use super::{gate, is, is_step};
use crate::event::{GateReport, GateState, JobReport, StepReport};
use astraler_workflow::{Job, Node, Step, StepAction, Template, Workflow};
use std::collections::BTreeSet;

/// A gate that a job or a step of a workflow is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promised {
    /// Its name.
    pub name: String,
    /// Whether some of it comes neither in nor after a job with an environment: a job that deploys can wait for that.
    pub before_deployments: bool,
}

/// Of these gates, those that a job or a step of the workflows, or of what they call, is. Matrices and expressions are
/// taken as they stand.
pub(crate) fn gates_of<'w>(names: &[String], workflows: impl Iterator<Item = &'w Workflow>) -> Vec<Promised> {
    let jobs: Vec<(Open, bool)> = workflows
        .flat_map(|workflow| {
            let jobs = workflow.jobs.iter();
            jobs.map(move |job| (Open::of(workflow, job), !after_deployment(workflow, job)))
        })
        .collect();
    let found = names.iter().filter_map(|name| {
        let has = jobs.iter().filter(|(job, _)| job.is(name) || job.has_step(name));
        let all: Vec<bool> = has.map(|(_, before)| *before).collect();
        (!all.is_empty()).then(|| Promised {
            name: name.clone(),
            before_deployments: all.contains(&true),
        })
    });
    found.collect()
}

/// Whether the job, one that it calls, or one that it needs has an environment.
fn after_deployment(workflow: &Workflow, job: &Job) -> bool {
    fn deploys(job: &Job) -> bool {
        let called = job.call.as_ref().and_then(|call| call.workflow.as_ref());
        job.environment.is_some() || called.is_some_and(|called| called.jobs.iter().any(deploys))
    }
    let mut seen = BTreeSet::new();
    let mut queue = vec![job];
    while let Some(job) = queue.pop() {
        if deploys(job) {
            return true;
        }
        for need in &job.needs {
            if seen.insert(need.job.to_ascii_lowercase()) {
                queue.extend(workflow.job(&need.job));
            }
        }
    }
    false
}

/// Says which gates have come to their end while a run goes on: those of which no job, or step, is open any more.
#[derive(Debug)]
pub(crate) struct Watch {
    open: Vec<Open>,
    waiting: Vec<String>,
    promised: Vec<String>,
    /// Steps that ended in jobs that have not: file and id of the job, its name, the step.
    steps: Vec<(String, String, (String, StepReport))>,
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
        let open: Vec<Open> = open.collect();
        let has = |name: &&String| open.iter().any(|job| job.is(name) || job.has_step(name));
        Self {
            promised: names.iter().filter(has).cloned().collect(),
            open,
            waiting: names.to_vec(),
            steps: vec![],
        }
    }

    /// The gates of which the run has a job or a step.
    pub(crate) fn promised(&self) -> &[String] {
        &self.promised
    }

    /// A step of a job without a matrix ended: what comes before a deployment in its own job counts for it. Answers the
    /// gates that ended with it.
    pub(crate) fn step_ended(
        &mut self,
        file: &str,
        id: &str,
        name: &str,
        step: &StepReport,
        jobs: &[JobReport],
    ) -> Vec<GateReport> {
        for job in self
            .open
            .iter_mut()
            .filter(|job| job.file == file && job.id == id)
        {
            // By its name: one that only the run knows stays open to the end of the job.
            if let Some(place) = job.steps.iter().position(|open| *open == step.name) {
                job.steps.remove(place);
            }
        }
        let step = (name.to_owned(), step.clone());
        self.steps.push((file.to_owned(), id.to_owned(), step));
        self.told(jobs)
    }

    /// A job of a workflow ended, with its matrix and all that it called. Answers the gates that ended with it.
    pub(crate) fn ended(&mut self, file: &str, id: &str, jobs: &[JobReport]) -> Vec<GateReport> {
        self.open.retain(|job| job.file != file || job.id != id);
        self.steps.retain(|(in_file, of, _)| in_file != file || of != id);
        self.told(jobs)
    }

    fn told(&mut self, jobs: &[JobReport]) -> Vec<GateReport> {
        let steps: Vec<(String, StepReport)> = self.steps.iter().map(|(_, _, step)| step.clone()).collect();
        let mut ended = Vec::new();
        self.waiting.retain(|name| {
            let by_job = jobs.iter().any(|job| is(name, &job.id) || is(name, &job.name));
            let open = self
                .open
                .iter()
                .any(|job| job.is(name) || (!by_job && job.has_step(name)));
            let report = (!open).then(|| gate(name, self.promised.contains(name), jobs, &steps));
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
    /// Names of steps that have not ended.
    steps: Vec<String>,
}

impl Open {
    fn of(workflow: &Workflow, job: &Job) -> Self {
        let mut open = Self {
            file: workflow.file.clone(),
            id: job.id.clone(),
            names: BTreeSet::new(),
            steps: vec![],
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
        self.steps.iter().any(|name| is_step(gate, name))
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

#[cfg(test)]
mod tests {
    use super::super::tests::job;
    use super::*;
    use crate::event::Conclusion;

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
        let found: Vec<String> = gates_of(&wanted, std::iter::once(&workflow))
            .into_iter()
            .map(|gate| gate.name)
            .collect();
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

    /// One job does it all, and another one looks at what was deployed.
    const ONE: &str = r#"
on: push
jobs:
  ship:
    runs-on: x
    environment: production
    steps:
      - run: pnpm lint
      - run: test -f dist/index.html
      - run: astraler deploy --env production
      - run: pnpm build
  after:
    needs: ship
    runs-on: x
    steps: [{ run: pnpm typecheck }]
"#;

    #[test]
    fn what_comes_after_a_deployment_is_not_waited_for_before_it() {
        let workflow = astraler_workflow::parse("ci.yml", ONE).unwrap();
        let wanted = names(&["lint", "typecheck", "test", "build"]);
        let found = gates_of(&wanted, std::iter::once(&workflow));
        let found: Vec<_> = found
            .iter()
            .map(|gate| (gate.name.as_str(), gate.before_deployments))
            .collect();
        assert_eq!(found, [("lint", false), ("typecheck", false), ("build", false)]);
    }

    #[test]
    fn a_step_is_a_gate_as_soon_as_it_has_ended_and_one_that_did_not_run_was_skipped() {
        use Conclusion::{Failure, Skipped, Success};
        let workflow = astraler_workflow::parse("ci.yml", ONE).unwrap();
        let wanted = names(&["lint", "typecheck", "test", "build"]);
        let mut watch = Watch::new(&wanted, std::iter::once(&workflow), |_, _| true);
        let lint = &job("ship", Success, &[("Run pnpm lint", Success)]).steps[0];
        let told = watch.step_ended("ci.yml", "ship", "ship", lint, &[]);
        assert_eq!((told.len(), told[0].name.as_str()), (1, "lint"));
        assert_eq!(
            (told[0].state, told[0].detail.as_str()),
            (GateState::Passed, "ship / Run pnpm lint")
        );
        let ship = job("ship", Failure, &[("Run pnpm lint", Success)]);
        let mut jobs = vec![ship];
        let told = watch.ended("ci.yml", "ship", &jobs);
        assert_eq!((told.len(), told[0].name.as_str()), (1, "build"));
        assert_eq!(told[0].state, GateState::Skipped);
        jobs.push(job("after", Skipped, &[]));
        let told = watch.ended("ci.yml", "after", &jobs);
        assert_eq!((told.len(), told[0].name.as_str()), (1, "typecheck"));
        assert_eq!(told[0].detail, "its job did not run");
        let end = super::super::gates(&wanted, watch.promised(), &jobs, &[], 70);
        let states: Vec<GateState> = end.iter().map(|gate| gate.state).collect();
        assert_eq!(
            states,
            [
                GateState::Passed,
                GateState::Skipped,
                GateState::Missing,
                GateState::Skipped,
                GateState::Missing
            ]
        );
    }
}
