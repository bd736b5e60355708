//! What a run would do: its event, the workflows that it starts, what their jobs may. Reads the repository, changes
//! nothing.

use super::cause::Cause;
use super::rules::Rules;
use crate::jobs;
use crate::platform::Platform;
use crate::repository::{Repository, RepositoryError};
use crate::secrets::{SecretError, SecretPlace};
use astraler_model::Environment;
use astraler_pipeline::{
    Event, Folders, GitError, Limits, RunSpec, Secrets, Source, WorkflowFile, workflow_files,
};
use astraler_store::Run;
use astraler_workflow::trigger;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Who owns repositories that live on this machine.
const OWNER: &str = "local";
/// Whose caches a run writes: those of protected branches are read by all.
const TRUSTED: &str = "protected";
const UNTRUSTED: &str = "branches";

/// Why a run cannot be drafted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DraftError {
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    #[error(transparent)]
    Sources(#[from] GitError),
    #[error(transparent)]
    Secrets(#[from] SecretError),
    #[error("the runner's tools cannot be used")]
    Tools(#[from] crate::platform::ToolsMissing),
}

/// The spec of a run, with the tree of `source`.
pub(super) fn draft(
    platform: &Platform,
    run: &Run,
    cause: &Cause,
    rules: &Rules,
    source: &Repository,
    sha: &str,
) -> Result<RunSpec, DraftError> {
    let installation = &platform.installation;
    let repository = format!("{OWNER}/{}", installation.application);
    let sources = Source {
        repository: source.path().to_owned(),
        sha: sha.to_owned(),
    };
    let files = workflow_files(&sources)?;
    let event = happened(cause, changed_files(source, cause));
    let mut workflows: Vec<WorkflowFile> = files.into_iter().filter(|file| starts(file, &event)).collect();
    if let Some(environment) = run.environment
        && !workflows.iter().any(|file| deploys(file, environment))
    {
        let tree = source.tree(sha)?;
        workflows.push(jobs::deploy_workflow(environment, &|path| {
            source.has(&tree, path)
        }));
    }
    let settings = &rules.config().pipeline;
    let pipeline = installation.layout.pipeline();
    let at = |name: &str| pipeline.join(name);
    let found = platform.tools()?;
    Ok(RunSpec {
        id: run.id.to_string(),
        number: run.id,
        attempt: 1,
        event: told(cause, &repository, sha, source, rules),
        workflows,
        jobs: vec![],
        source: sources,
        inputs: BTreeMap::new(),
        secrets: secrets(platform, run, cause)?,
        vars: Secrets::default(),
        folders: Folders {
            work: at("work"),
            cache: at("cache"),
            artifacts: at("artifacts"),
            tool_cache: at("tools"),
        },
        tools: super::runner_tools(&found, &installation.program),
        machine: super::tools::machine(&installation.layout),
        registries: settings.registries.clone(),
        ports: vec![installation.ports.http],
        hosts: run
            .environment
            .map(|environment| names(platform.hosts(environment, rules.config())))
            .unwrap_or_default(),
        limits: Limits {
            job_timeout_minutes: settings.job_timeout_minutes,
            ..Limits::default()
        },
        gates: settings.gate_names(),
        coverage_percent: settings.coverage_percent,
        trust: if rules.protected(&cause.branch) {
            TRUSTED
        } else {
            UNTRUSTED
        }
        .into(),
        control: None,
    })
}

/// What is granted to the pipeline. Jobs without an `environment:` see what development's have, in a pull request what
/// previews have; a job that names the run's environment sees that one's. So nothing of staging or production is in a run
/// of a branch that does not go there.
fn secrets(platform: &Platform, run: &Run, cause: &Cause) -> Result<Secrets, SecretError> {
    let usual = match cause.pull_request {
        Some(_) => SecretPlace::Preview,
        None => SecretPlace::Development,
    };
    platform.run_secrets(usual, run.environment)
}

/// Of the hosts of an environment, those that are names.
fn names(hosts: Vec<String>) -> Vec<String> {
    let name = |host: &String| host.contains(|c: char| c.is_ascii_alphabetic()) && !host.contains(':');
    hosts.into_iter().filter(name).collect()
}

/// What the filters of triggers look at.
fn happened(cause: &Cause, changed_files: Option<Vec<String>>) -> trigger::Event {
    let pull_request = cause.pull_request.as_ref();
    trigger::Event {
        name: cause.event().into(),
        activity: pull_request.map(|pull_request| pull_request.activity.clone()),
        branch: Some(
            pull_request
                .map_or(&cause.branch, |pull_request| &pull_request.base)
                .clone(),
        ),
        changed_files,
        ..trigger::Event::default()
    }
}

/// The files that a push or a pull request changes; none where that cannot be told, and then filters of paths hold.
fn changed_files(source: &Repository, cause: &Cause) -> Option<Vec<String>> {
    let found = match &cause.pull_request {
        Some(pull_request) => {
            let base = source.tip(&pull_request.base)?;
            source.changed_files(&base, &cause.sha, true)
        }
        None if cause.is_new() => return None,
        None => source.changed_files(&cause.before, &cause.sha, false),
    };
    found.ok().flatten()
}

/// Whether an event starts a workflow. One that cannot be read is taken: the run says what is wrong with it.
fn starts(file: &WorkflowFile, event: &trigger::Event) -> bool {
    match astraler_workflow::parse(&file.path, &file.text) {
        Ok(workflow) => trigger::matches(&workflow.on, event).is_ok(),
        Err(_) => true,
    }
}

fn deploys(file: &WorkflowFile, environment: Environment) -> bool {
    astraler_workflow::parse(&file.path, &file.text)
        .is_ok_and(|workflow| jobs::deploys(&workflow, environment))
}

/// The `github` context.
fn told(cause: &Cause, repository: &str, sha: &str, source: &Repository, rules: &Rules) -> Event {
    let pull_request = cause.pull_request.as_ref();
    Event {
        name: cause.event().into(),
        reference: match pull_request {
            Some(pull_request) => format!("refs/pull/{}/merge", pull_request.number),
            None => format!("refs/heads/{}", cause.branch),
        },
        sha: sha.to_owned(),
        head_ref: pull_request.map(|_| cause.branch.clone()).unwrap_or_default(),
        base_ref: pull_request
            .map(|pull_request| pull_request.base.clone())
            .unwrap_or_default(),
        repository: repository.to_owned(),
        actor: cause.actor.clone(),
        protected: pull_request.is_none() && rules.protected(&cause.branch),
        payload: payload(cause, repository, source),
    }
}

/// `github.event`: the fields of GitHub's payloads that are known here.
///
/// <https://docs.github.com/webhooks/webhook-events-and-payloads>
fn payload(cause: &Cause, repository: &str, source: &Repository) -> Value {
    let name = repository.split('/').next_back().unwrap_or(repository);
    let about = json!({
        "full_name": repository,
        "name": name,
        "owner": { "login": OWNER },
        "default_branch": "main",
    });
    let sender = json!({ "login": cause.actor });
    let subject = source.subject(&cause.sha).unwrap_or_default();
    match &cause.pull_request {
        Some(pull_request) => json!({
            "action": pull_request.activity,
            "number": pull_request.number,
            "pull_request": {
                "number": pull_request.number,
                "title": subject,
                "draft": false,
                "merged": false,
                "state": "open",
                "user": sender,
                "head": { "ref": cause.branch, "sha": cause.sha, "repo": about },
                "base": { "ref": pull_request.base, "sha": source.tip(&pull_request.base), "repo": about },
            },
            "repository": about,
            "sender": sender,
        }),
        None => json!({
            "ref": format!("refs/heads/{}", cause.branch),
            "before": cause.before,
            "after": cause.sha,
            "created": cause.is_new(),
            "deleted": false,
            "forced": !cause.fast_forward,
            "head_commit": { "id": cause.sha, "message": subject },
            "repository": about,
            "pusher": { "name": cause.actor },
            "sender": sender,
        }),
    }
}

/// The commit that a run checks out: the pushed one, or for a pull request its merge into the base. Made in `copy`.
pub(super) fn commit(copy: &Repository, cause: &Cause) -> Result<String, RepositoryError> {
    let Some(pull_request) = &cause.pull_request else {
        return Ok(cause.sha.clone());
    };
    let merge = match copy.tip(&pull_request.base) {
        Some(base) if !copy.is_ancestor(&base, &cause.sha) => {
            copy.merge((&pull_request.base, &base), (&cause.branch, &cause.sha))?
        }
        // There is nothing to merge with.
        _ => cause.sha.clone(),
    };
    copy.name(&format!("refs/pull/{}/merge", pull_request.number), &merge)?;
    Ok(merge)
}
