//! The contexts of expressions, and the variables that say the same to programs.
//!
//! <https://docs.github.com/actions/reference/workflows-and-actions/contexts>

use crate::spec::RunSpec;
use astraler_workflow::expression::Value;
use std::collections::BTreeMap;

/// What the `github` context says of one step.
pub(crate) struct Github<'a> {
    pub(crate) workflow: &'a str,
    pub(crate) file: &'a str,
    pub(crate) job: &'a str,
    pub(crate) workspace: &'a str,
    pub(crate) action: &'a str,
    pub(crate) action_path: Option<&'a str>,
}

/// Where GitHub would be; nothing listens there.
const SERVER: &str = "https://github.localhost";

fn names(spec: &RunSpec) -> (&str, &str, &str, &str) {
    let reference = spec.event.reference.as_str();
    let kind = if reference.starts_with("refs/tags/") {
        "tag"
    } else {
        "branch"
    };
    let short = ["refs/heads/", "refs/tags/", "refs/pull/"]
        .iter()
        .find_map(|prefix| reference.strip_prefix(prefix));
    let repository = spec.event.repository.as_str();
    let owner = repository.split('/').next().unwrap_or(repository);
    (short.unwrap_or(reference), kind, owner, repository)
}

/// Name and text of all that is in the `github` context and in a `GITHUB_` variable too.
fn shared(spec: &RunSpec, github: &Github<'_>) -> Vec<(&'static str, String)> {
    let (short, kind, owner, repository) = names(spec);
    let event = &spec.event;
    vec![
        ("action", github.action.to_owned()),
        ("actor", event.actor.clone()),
        ("api_url", format!("{SERVER}/api/v3")),
        ("base_ref", event.base_ref.clone()),
        ("event_name", event.name.clone()),
        ("event_path", crate::sandbox::EVENT.to_owned()),
        ("graphql_url", format!("{SERVER}/api/graphql")),
        ("head_ref", event.head_ref.clone()),
        ("job", github.job.to_owned()),
        ("ref", event.reference.clone()),
        ("ref_name", short.to_owned()),
        ("ref_protected", event.protected.to_string()),
        ("ref_type", kind.to_owned()),
        ("repository", repository.to_owned()),
        ("repository_owner", owner.to_owned()),
        ("retention_days", crate::artifact::DEFAULT_DAYS.to_string()),
        ("run_attempt", spec.attempt.to_string()),
        ("run_id", spec.id.clone()),
        ("run_number", spec.number.to_string()),
        ("server_url", SERVER.to_owned()),
        ("sha", event.sha.clone()),
        ("triggering_actor", event.actor.clone()),
        ("workflow", github.workflow.to_owned()),
        (
            "workflow_ref",
            format!("{repository}/{}@{}", github.file, event.reference),
        ),
        ("workflow_sha", event.sha.clone()),
        ("workspace", github.workspace.to_owned()),
    ]
}

/// The `github` context.
pub(crate) fn github(spec: &RunSpec, github: &Github<'_>) -> Value {
    let mut all: Vec<(&str, Value)> = shared(spec, github)
        .into_iter()
        .map(|(name, text)| (name, Value::String(text)))
        .collect();
    if let Some(found) = all.iter_mut().find(|(name, _)| *name == "ref_protected") {
        found.1 = Value::Boolean(spec.event.protected);
    }
    all.push(("event", Value::from(spec.event.payload.clone())));
    all.push((
        "repositoryUrl",
        format!("file://{}", crate::sandbox::REPOSITORY).into(),
    ));
    all.push(("secret_source", "Actions".into()));
    all.push(("token", "".into()));
    if let Some(path) = github.action_path {
        all.push(("action_path", path.into()));
    }
    Value::object(all)
}

/// The `GITHUB_` and `RUNNER_` variables.
pub(crate) fn variables(spec: &RunSpec, github: &Github<'_>) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = shared(spec, github)
        .into_iter()
        .map(|(name, text)| (format!("GITHUB_{}", name.to_ascii_uppercase()), text))
        .collect();
    if let Some(path) = github.action_path {
        all.insert("GITHUB_ACTION_PATH".into(), path.to_owned());
    }
    for (name, text) in runner_texts() {
        all.insert(format!("RUNNER_{}", name.to_ascii_uppercase()), text);
    }
    for (name, text) in [
        ("CI", "true"),
        ("GITHUB_ACTIONS", "true"),
        ("RUNNER_WORKSPACE", "/runner/work"),
        ("ImageOS", "linux"),
    ] {
        all.insert(name.to_owned(), text.to_owned());
    }
    all
}

fn runner_texts() -> Vec<(&'static str, String)> {
    let arch = if cfg!(target_arch = "aarch64") {
        "ARM64"
    } else {
        "X64"
    };
    vec![
        ("arch", arch.to_owned()),
        ("environment", "self-hosted".to_owned()),
        ("name", "astraler".to_owned()),
        ("os", "Linux".to_owned()),
        ("temp", crate::sandbox::TEMP.to_owned()),
        ("tool_cache", crate::sandbox::TOOL_CACHE.to_owned()),
    ]
}

/// The `runner` context.
pub(crate) fn runner() -> Value {
    Value::object(
        runner_texts()
            .into_iter()
            .map(|(name, text)| (name, Value::String(text))),
    )
}
