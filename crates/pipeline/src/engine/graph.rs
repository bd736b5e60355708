//! Which job runs when: `needs`, `if`, and which jobs a matrix makes of one.

use super::contexts::{self, Github};
use super::legs::{Leg, run_legs};
use super::scope::{JobFunctions, object};
use super::{Shared, worst};
use crate::event::{Annotation, Conclusion, JobReport, Level, RunEvent};
use astraler_workflow::expression::{Contexts, NoRun, Object, Scope, Value};
use astraler_workflow::matrix::{self, Strategy};
use astraler_workflow::{Job, Node, Workflow};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::pin::Pin;
use std::sync::Arc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Results by id in lower case.
pub(super) type Results = BTreeMap<String, Outcome>;

/// How a job ended, all of its matrix together.
#[derive(Debug, Clone)]
pub(super) struct Outcome {
    pub(super) id: String,
    pub(super) result: Conclusion,
    pub(super) outputs: BTreeMap<String, String>,
}

/// What a workflow is run with.
pub(super) struct Call {
    pub(super) inputs: Value,
    /// Those that a caller hands on; none where they are the run's.
    pub(super) secrets: Option<BTreeMap<String, String>>,
    /// `caller / ` before the names of jobs.
    pub(super) prefix: String,
    pub(super) selected: Option<BTreeSet<String>>,
    pub(super) cancel: CancellationToken,
}

impl Call {
    fn chosen(&self, job: &Job) -> bool {
        let id = job.id.to_ascii_lowercase();
        self.selected
            .as_ref()
            .is_none_or(|selected| selected.contains(&id))
    }
}

/// `github`, `inputs`, `vars`.
pub(super) fn early(shared: &Shared, workflow: &Workflow, job: &str, inputs: &Value) -> Contexts {
    let github = Github {
        workflow: workflow.name.as_deref().unwrap_or(&workflow.file),
        file: &workflow.file,
        job,
        workspace: "",
        action: "",
        action_path: None,
    };
    let mut all = Contexts::default();
    all.insert("github", contexts::github(&shared.spec, &github));
    all.insert("inputs", inputs.clone());
    all.insert("vars", object(&shared.spec.vars.of(None)));
    all
}

/// Runs a workflow that an event started; where it does not begin, its jobs are skipped.
pub(super) async fn run_top(shared: Arc<Shared>, workflow: Arc<Workflow>, begins: bool) -> Conclusion {
    let inputs = shared.spec.inputs.iter();
    let call = Call {
        inputs: Value::object(inputs.map(|(name, value)| (name.clone(), Value::from(value.clone())))),
        secrets: None,
        prefix: String::new(),
        selected: shared.plan.selected.get(&workflow.file).cloned(),
        cancel: shared.cancel.child_token(),
    };
    let call = Arc::new(call);
    if !begins {
        skip(&shared, &workflow, &call).await;
        return Conclusion::Skipped;
    }
    let results = run_workflow(shared, workflow, call).await;
    worst(results.into_values().map(|outcome| outcome.result))
}

/// Tells of each job that it is skipped.
async fn skip(shared: &Arc<Shared>, workflow: &Arc<Workflow>, call: &Arc<Call>) {
    for (index, job) in workflow.jobs.iter().enumerate() {
        if call.chosen(job) {
            let begun = Begun {
                shared,
                workflow,
                index,
                call,
                needs: Value::Null,
                contexts: early(shared, workflow, &job.id, &call.inputs),
            };
            begun.end(Conclusion::Skipped, None).await;
        }
    }
}

pub(super) type Running<T> = Pin<Box<dyn Future<Output = T> + Send>>;

pub(super) fn run_workflow(
    shared: Arc<Shared>,
    workflow: Arc<Workflow>,
    call: Arc<Call>,
) -> Running<Results> {
    Box::pin(async move {
        let mut waiting: Vec<usize> = (0..workflow.jobs.len())
            .filter(|index| call.chosen(&workflow.jobs[*index]))
            .collect();
        let mut results = Results::new();
        let mut running = JoinSet::new();
        loop {
            waiting.retain(|index| {
                let job = &workflow.jobs[*index];
                let ready = job
                    .needs
                    .iter()
                    .all(|need| results.contains_key(&need.job.to_ascii_lowercase()));
                if ready {
                    let before = ancestors(&workflow, job);
                    let before = results.iter().filter(|(id, _)| before.contains(*id));
                    let before: Results = before
                        .map(|(id, outcome)| (id.clone(), outcome.clone()))
                        .collect();
                    let (shared, workflow, call) =
                        (Arc::clone(&shared), Arc::clone(&workflow), Arc::clone(&call));
                    let index = *index;
                    running.spawn(async move { run_job(shared, workflow, index, call, before).await });
                }
                !ready
            });
            let Some(ended) = running.join_next().await else {
                return results;
            };
            // A task that panicked has told nobody its job: the run must not wait for it.
            if let Ok(outcome) = ended {
                results.insert(outcome.id.to_ascii_lowercase(), outcome);
            } else {
                waiting.clear();
                results.insert(
                    "\0".into(),
                    Outcome {
                        id: String::new(),
                        result: Conclusion::Failure,
                        outputs: BTreeMap::new(),
                    },
                );
            }
        }
    })
}

/// All jobs that come before this one, in lower case.
fn ancestors(workflow: &Workflow, job: &Job) -> HashSet<String> {
    let mut found = HashSet::new();
    let mut queue: Vec<&Job> = vec![job];
    while let Some(job) = queue.pop() {
        for need in &job.needs {
            if found.insert(need.job.to_ascii_lowercase()) {
                queue.extend(workflow.job(&need.job));
            }
        }
    }
    found
}

/// What a job is before it is known which jobs it becomes.
struct Begun<'a> {
    shared: &'a Arc<Shared>,
    workflow: &'a Arc<Workflow>,
    index: usize,
    call: &'a Arc<Call>,
    needs: Value,
    contexts: Contexts,
}

async fn run_job(
    shared: Arc<Shared>,
    workflow: Arc<Workflow>,
    index: usize,
    call: Arc<Call>,
    before: Results,
) -> Outcome {
    let job = &workflow.jobs[index];
    let needs = Value::object(job.needs.iter().filter_map(|need| {
        let outcome = before.get(&need.job.to_ascii_lowercase())?;
        let value = Value::object([
            ("result", Value::from(outcome.result.word())),
            ("outputs", object(&outcome.outputs)),
        ]);
        Some((outcome.id.clone(), value))
    }));
    let mut contexts = early(&shared, &workflow, &job.id, &call.inputs);
    contexts.insert("needs", needs.clone());
    let begun = Begun {
        shared: &shared,
        workflow: &workflow,
        index,
        call: &call,
        needs,
        contexts,
    };
    let outcome = |result, outputs| Outcome {
        id: job.id.clone(),
        result,
        outputs,
    };
    let outcome = match begun.decide(&before) {
        Ok(Decision::Run(legs, strategy)) => {
            let ended = run_legs(&shared, &workflow, &call, legs, &strategy).await;
            let mut outputs = BTreeMap::new();
            for (_, found) in &ended {
                // Of a matrix the last that says something is heard.
                let said = found.iter().filter(|(_, value)| !value.is_empty());
                outputs.extend(said.map(|(name, value)| (name.clone(), value.clone())));
            }
            outcome(worst(ended.into_iter().map(|(result, _)| result)), outputs)
        }
        Ok(Decision::Skip(skipped)) => {
            begun.end(skipped, None).await;
            outcome(skipped, BTreeMap::new())
        }
        Err(why) => {
            begun.end(Conclusion::Failure, Some(why)).await;
            outcome(Conclusion::Failure, BTreeMap::new())
        }
    };
    if call.prefix.is_empty() {
        shared.job_ended(&workflow, job).await;
    }
    outcome
}

enum Decision {
    Run(Vec<Leg>, Strategy),
    Skip(Conclusion),
}

impl Begun<'_> {
    /// Whether the job runs, and what it becomes.
    fn decide(&self, before: &Results) -> Result<Decision, String> {
        let job = &self.workflow.jobs[self.index];
        let statuses = before
            .iter()
            .map(|(id, outcome)| (id.clone(), outcome.result))
            .collect();
        let cancelled = self.call.cancel.is_cancelled();
        let functions = JobFunctions {
            before: &statuses,
            cancelled,
        };
        let scope = Scope {
            contexts: &self.contexts,
            functions: &functions,
        };
        let held = job.condition.expression.evaluate(&scope);
        if !held
            .map_err(|error| format!("`if` of the job: {error}"))?
            .is_truthy()
        {
            return Ok(Decision::Skip(if cancelled {
                Conclusion::Cancelled
            } else {
                Conclusion::Skipped
            }));
        }
        let strategy = match &job.strategy {
            Some(template) => matrix::expand(template, &scope).map_err(|error| error.to_string())?,
            None => Strategy::default(),
        };
        let legs = self.legs(&strategy).map_err(|error| error.to_string())?;
        Ok(Decision::Run(legs, strategy))
    }

    /// Tells the end of a job that never began.
    async fn end(&self, conclusion: Conclusion, why: Option<String>) {
        let job = &self.workflow.jobs[self.index];
        let key = format!("{}{}", self.call.prefix, job.id);
        if let Some(why) = why {
            let text = format!("{} {why}", self.workflow.file);
            let event = RunEvent::Annotation {
                job: key.clone(),
                annotation: Annotation::new(Level::Error, text),
            };
            self.shared.send(event).await;
        }
        let name = {
            let scope = Scope {
                contexts: &self.contexts,
                functions: &NoRun,
            };
            job.name.string(&scope).unwrap_or_else(|_| job.id.clone())
        };
        let report = JobReport {
            key,
            id: job.id.clone(),
            name: format!("{}{name}", self.call.prefix),
            workflow: self.workflow.file.clone(),
            conclusion,
            allowed_to_fail: false,
            environment: None,
            url: None,
            outputs: BTreeMap::new(),
            steps: vec![],
            duration_ms: 0,
        };
        self.shared.send(RunEvent::JobEnded { report }).await;
    }

    fn legs(&self, strategy: &Strategy) -> Result<Vec<Leg>, astraler_workflow::TemplateError> {
        let job = &self.workflow.jobs[self.index];
        let none = [None];
        let combinations: Vec<Option<&matrix::Combination>> = match &strategy.combinations {
            Some(all) => all.iter().map(Some).collect(),
            None => none.to_vec(),
        };
        let mut legs = Vec::new();
        for (index, combination) in combinations.into_iter().enumerate() {
            let label = combination.map_or("", |combination| combination.label.as_str());
            let mut leg = Leg {
                workflow: Arc::clone(self.workflow),
                index: self.index,
                key: format!("{}{}", self.call.prefix, matrix::job_name(&job.id, label)),
                name: String::new(),
                continue_on_error: false,
                inputs: self.call.inputs.clone(),
                secrets: self.call.secrets.clone(),
                needs: self.needs.clone(),
                matrix: combination
                    .map(|combination| combination.matrix.clone())
                    .unwrap_or_default(),
                strategy: strategy.context(index),
                steps: Object::default(),
                cleans_up: false,
                last_outputs: BTreeMap::new(),
            };
            let contexts = leg.contexts(self.shared);
            let functions = NoRun;
            let scope = Scope {
                contexts: &contexts,
                functions: &functions,
            };
            let name = job.name.string(&scope)?;
            let name = match &job.name.node {
                // A name with an expression says itself what tells its jobs apart.
                Node::Expression(_) => name,
                _ => matrix::job_name(&name, label),
            };
            leg.name = format!("{}{name}", self.call.prefix);
            if let Some(template) = &job.continue_on_error {
                leg.continue_on_error = template.boolean(&scope)?;
            }
            legs.push(leg);
        }
        Ok(legs)
    }
}
