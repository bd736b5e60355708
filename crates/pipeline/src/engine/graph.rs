//! Which job runs when: `needs`, `if`, matrices, calls of workflows, concurrency.

use super::contexts::{self, Github};
use super::scope::{JobFunctions, object};
use super::{Shared, job, worst};
use crate::event::{Annotation, Conclusion, JobReport, Level, RunEvent};
use astraler_workflow::expression::{Contexts, NoRun, Object, Scope, Value};
use astraler_workflow::matrix::{self, Strategy};
use astraler_workflow::trigger::call_inputs;
use astraler_workflow::{Concurrency, Job, Node, Template, Workflow};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Results by id in lower case.
type Results = BTreeMap<String, Outcome>;

/// How a job ended, all of its matrix together.
#[derive(Debug, Clone)]
pub(super) struct Outcome {
    id: String,
    result: Conclusion,
    outputs: BTreeMap<String, String>,
}

/// What a workflow is run with.
struct Call {
    inputs: Value,
    /// Those that a caller hands on; none where they are the run's.
    secrets: Option<BTreeMap<String, String>>,
    /// `caller / ` before the names of jobs.
    prefix: String,
    selected: Option<BTreeSet<String>>,
    cancel: CancellationToken,
}

impl Call {
    fn chosen(&self, job: &Job) -> bool {
        let id = job.id.to_ascii_lowercase();
        self.selected
            .as_ref()
            .is_none_or(|selected| selected.contains(&id))
    }
}

/// One job of a matrix, or a job without one.
#[derive(Debug, Clone)]
pub(crate) struct Leg {
    pub(super) workflow: Arc<Workflow>,
    pub(super) index: usize,
    pub(super) key: String,
    pub(super) name: String,
    pub(super) continue_on_error: bool,
    pub(super) inputs: Value,
    pub(super) secrets: Option<BTreeMap<String, String>>,
    pub(super) needs: Value,
    pub(super) matrix: Object,
    pub(super) strategy: Object,
    /// What its steps left, when they have ended.
    pub(super) steps: Object,
    /// It runs although the run was cancelled.
    pub(super) cleans_up: bool,
    /// Outputs of a step that failed.
    pub(super) last_outputs: BTreeMap<String, String>,
}

/// Jobs of one concurrency group.
#[derive(Debug, Default)]
pub(crate) struct Group {
    turn: tokio::sync::Mutex<()>,
    running: Mutex<Option<CancellationToken>>,
    waiting: Mutex<Option<CancellationToken>>,
}

impl Leg {
    pub(super) fn job(&self) -> &Job {
        &self.workflow.jobs[self.index]
    }

    /// The contexts that are known before the job begins.
    pub(super) fn contexts(&self, shared: &Shared) -> Contexts {
        let mut all = early(shared, &self.workflow, &self.job().id, &self.inputs);
        all.insert("needs", self.needs.clone());
        all.insert("matrix", Value::from(self.matrix.clone()));
        all.insert("strategy", Value::from(self.strategy.clone()));
        if let Some(secrets) = &self.secrets {
            all.insert("secrets", object(secrets));
        }
        all
    }

    /// The functions before the job begins: nothing failed, and there are no files.
    pub(super) fn functions(&self) -> NoRun {
        NoRun
    }
}

/// `github`, `inputs`, `vars`.
fn early(shared: &Shared, workflow: &Workflow, job: &str, inputs: &Value) -> Contexts {
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

type Running<T> = Pin<Box<dyn Future<Output = T> + Send>>;

fn run_workflow(shared: Arc<Shared>, workflow: Arc<Workflow>, call: Arc<Call>) -> Running<Results> {
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

/// Runs all jobs of a matrix. Results come in the order of the matrix.
async fn run_legs(
    shared: &Arc<Shared>,
    workflow: &Arc<Workflow>,
    call: &Arc<Call>,
    legs: Vec<Leg>,
    strategy: &Strategy,
) -> Vec<(Conclusion, BTreeMap<String, String>)> {
    let places = strategy.max_parallel.unwrap_or(legs.len()).max(1);
    let places = Arc::new(Semaphore::new(places));
    let all = call.cancel.child_token();
    let mut running = JoinSet::new();
    for (index, leg) in legs.into_iter().enumerate() {
        let (shared, workflow, call) = (Arc::clone(shared), Arc::clone(workflow), Arc::clone(call));
        let (cancel, fail_fast) = (all.clone(), strategy.fail_fast);
        // In the order of the matrix.
        let place = Arc::clone(&places).acquire_owned().await;
        running.spawn(async move {
            let allowed = leg.continue_on_error;
            let _place = place;
            let (mut conclusion, outputs) = run_leg(shared, workflow, call, leg, cancel.child_token()).await;
            if conclusion == Conclusion::Failure {
                if allowed {
                    conclusion = Conclusion::Success;
                } else if fail_fast {
                    cancel.cancel();
                }
            }
            (index, conclusion, outputs)
        });
    }
    let mut ended = BTreeMap::new();
    while let Some(result) = running.join_next().await {
        match result {
            Ok((index, conclusion, outputs)) => ended.insert(index, (conclusion, outputs)),
            Err(_) => ended.insert(usize::MAX, (Conclusion::Failure, BTreeMap::new())),
        };
    }
    ended.into_values().collect()
}

async fn run_leg(
    shared: Arc<Shared>,
    workflow: Arc<Workflow>,
    call: Arc<Call>,
    mut leg: Leg,
    cancel: CancellationToken,
) -> (Conclusion, BTreeMap<String, String>) {
    let concurrency = match &leg.job().concurrency {
        Some(template) => match evaluate(&shared, &leg, template, Template::concurrency) {
            Ok(concurrency) => Some(concurrency),
            Err(why) => return fail(&shared, &leg, &why).await,
        },
        None => None,
    };
    let group = concurrency.as_ref().map(|concurrency| {
        let mut groups = shared.groups.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(groups.entry(concurrency.group.to_ascii_lowercase()).or_default())
    });
    let _turn = match (&group, &concurrency) {
        (Some(group), Some(concurrency)) => match group.turn(concurrency, &cancel).await {
            Some(turn) => Some(turn),
            None => return tell(&shared, &leg, Conclusion::Cancelled).await,
        },
        _ => None,
    };
    if let Some(calls) = &leg.job().call {
        let Some(called) = &calls.workflow else {
            return fail(&shared, &leg, "the workflow that it calls was not found").await;
        };
        return match call_of(&shared, &leg, called, &call, cancel) {
            Ok(inner) => run_called(shared, Arc::new((**called).clone()), Arc::new(inner)).await,
            Err(why) => fail(&shared, &leg, &why).await,
        };
    }
    drop(workflow);
    // A job that runs although the run was cancelled cleans up: it is not cancelled again, but its time is short.
    leg.cleans_up = call.cancel.is_cancelled();
    let cancel = if leg.cleans_up {
        CancellationToken::new()
    } else {
        cancel
    };
    let slot = tokio::select! {
        biased;
        () = cancel.cancelled() => None,
        slot = Arc::clone(&shared.slots).acquire_owned() => slot.ok(),
    };
    let Some(_slot) = slot else {
        return tell(&shared, &leg, Conclusion::Cancelled).await;
    };
    let result = job::run(shared, leg, cancel).await;
    (result.conclusion, result.outputs)
}

fn evaluate<T>(
    shared: &Shared,
    leg: &Leg,
    template: &Template,
    of: impl Fn(&Template, &Scope<'_>) -> Result<T, astraler_workflow::TemplateError>,
) -> Result<T, String> {
    let contexts = leg.contexts(shared);
    let functions = NoRun;
    let scope = Scope {
        contexts: &contexts,
        functions: &functions,
    };
    of(template, &scope).map_err(|error| format!("{} {error}", leg.workflow.file))
}

fn call_of(
    shared: &Arc<Shared>,
    leg: &Leg,
    called: &Workflow,
    call: &Call,
    cancel: CancellationToken,
) -> Result<Call, String> {
    let Some(calls) = &leg.job().call else {
        return Err("it calls no workflow".into());
    };
    let Some(trigger) = called.on.event("workflow_call") else {
        return Err(format!("{} has no workflow_call", called.file));
    };
    let caller = leg.contexts(shared);
    let inner = early(shared, called, &leg.job().id, &Value::Null);
    let functions = NoRun;
    let scope = |contexts| Scope {
        contexts,
        functions: &functions,
    };
    let inputs = call_inputs(trigger, calls.with.as_ref(), &scope(&caller), &scope(&inner))
        .map_err(|error| error.to_string())?;
    let own = || {
        call.secrets
            .clone()
            .unwrap_or_else(|| shared.spec.secrets.of(None))
    };
    let secrets = if calls.inherit_secrets {
        call.secrets.clone()
    } else {
        let mut with_secrets = caller.clone();
        with_secrets.insert("secrets", object(&own()));
        let given = match &calls.secrets {
            Some(template) => template
                .string_map(&scope(&with_secrets))
                .map_err(|error| error.to_string())?,
            None => vec![],
        };
        Some(given.into_iter().collect())
    };
    Ok(Call {
        inputs: Value::from(inputs),
        secrets,
        prefix: format!("{} / ", leg.name),
        selected: None,
        cancel,
    })
}

async fn run_called(
    shared: Arc<Shared>,
    workflow: Arc<Workflow>,
    call: Arc<Call>,
) -> (Conclusion, BTreeMap<String, String>) {
    let results = run_workflow(Arc::clone(&shared), Arc::clone(&workflow), Arc::clone(&call)).await;
    let mut contexts = early(&shared, &workflow, "", &call.inputs);
    let jobs = results.values().map(|outcome| {
        let value = Value::object([
            ("result", Value::from(outcome.result.word())),
            ("outputs", object(&outcome.outputs)),
        ]);
        (outcome.id.clone(), value)
    });
    contexts.insert("jobs", Value::object(jobs));
    let functions = NoRun;
    let scope = Scope {
        contexts: &contexts,
        functions: &functions,
    };
    let mut outputs = BTreeMap::new();
    for (name, template) in workflow
        .on
        .event("workflow_call")
        .into_iter()
        .flat_map(|event| &event.outputs)
    {
        if let Ok(value) = template.string(&scope) {
            outputs.insert(name.clone(), value);
        }
    }
    (
        worst(results.into_values().map(|outcome| outcome.result)),
        outputs,
    )
}

async fn fail(shared: &Shared, leg: &Leg, why: &str) -> (Conclusion, BTreeMap<String, String>) {
    let event = RunEvent::Annotation {
        job: leg.key.clone(),
        annotation: Annotation::new(Level::Error, why),
    };
    shared.send(event).await;
    tell(shared, leg, Conclusion::Failure).await
}

/// Tells the end of a job that never began.
async fn tell(shared: &Shared, leg: &Leg, conclusion: Conclusion) -> (Conclusion, BTreeMap<String, String>) {
    let report = JobReport {
        key: leg.key.clone(),
        id: leg.job().id.clone(),
        name: leg.name.clone(),
        workflow: leg.workflow.file.clone(),
        conclusion,
        allowed_to_fail: leg.continue_on_error,
        environment: None,
        url: None,
        outputs: BTreeMap::new(),
        steps: vec![],
        duration_ms: 0,
    };
    shared.send(RunEvent::JobEnded { report }).await;
    (conclusion, BTreeMap::new())
}

impl Group {
    /// Waits for its turn; none where a newer one took its place, or it was cancelled.
    async fn turn(
        &self,
        concurrency: &Concurrency,
        cancel: &CancellationToken,
    ) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        let lock = |slot: &'_ Mutex<Option<CancellationToken>>, put: Option<CancellationToken>| {
            std::mem::replace(&mut *slot.lock().unwrap_or_else(PoisonError::into_inner), put)
        };
        if concurrency.cancel_in_progress
            && let Some(running) = lock(&self.running, None)
        {
            running.cancel();
        }
        if !concurrency.keep_all_waiting
            && let Some(older) = lock(&self.waiting, Some(cancel.clone()))
        {
            older.cancel();
        }
        let turn = tokio::select! {
            turn = self.turn.lock() => turn,
            () = cancel.cancelled() => return None,
        };
        lock(&self.waiting, None);
        lock(&self.running, Some(cancel.clone()));
        Some(turn)
    }
}
