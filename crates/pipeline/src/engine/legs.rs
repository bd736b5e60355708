//! One job of a matrix, or a job without one: its turn in a concurrency group, its place, the workflow that it calls.

use super::graph::{Call, early, run_workflow};
use super::scope::object;
use super::{Shared, job, worst};
use crate::event::{Annotation, Conclusion, JobReport, Level, RunEvent};
use astraler_workflow::expression::{Contexts, NoRun, Object, Scope, Value};
use astraler_workflow::matrix::Strategy;
use astraler_workflow::trigger::call_inputs;
use astraler_workflow::{Concurrency, Job, Template, Workflow};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

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

/// Runs all jobs of a matrix. Results come in the order of the matrix.
pub(super) async fn run_legs(
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
