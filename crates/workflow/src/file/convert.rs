//! A template that fits the schema to the model, with the rules that a schema cannot say.

use super::Problems;
use super::ids::Ids;
use super::reader::text_of;
use super::schema::{JOB_IF_NAMES, STEP_IF_NAMES};
use crate::diagnostic::Place;
use crate::expression::{Allowed, parse};
use crate::matrix;
use crate::model::{
    Access, Call, Condition, Definitions, EventTrigger, Input, InputKind, Job, Need, Permissions, Schedule,
    SecretInput, Step, StepAction, Triggers, Workflow,
};
use crate::template::{Node, Template};
use std::collections::HashSet;

const MAX_GROUP: usize = 400;
const DOCKER: &str = "docker://";

/// None where a problem was added that leaves nothing to build.
pub(super) fn workflow(
    file: &str,
    root: &Template,
    strict: bool,
    problems: &mut Problems<'_>,
) -> Option<Workflow> {
    let mut workflow = Workflow {
        file: file.to_owned(),
        name: None,
        run_name: None,
        on: Triggers::default(),
        env: None,
        defaults: None,
        concurrency: None,
        permissions: None,
        jobs: vec![],
    };
    for (key, value) in root.entries() {
        match key.literal()? {
            "on" => {
                workflow.on = triggers(value);
                if strict {
                    check_triggers(value, problems);
                }
            }
            "name" => workflow.name = value.literal().filter(|name| !name.is_empty()).map(str::to_owned),
            "run-name" => workflow.run_name = Some(value.clone()),
            "defaults" => workflow.defaults = Some(value.clone()),
            "env" => workflow.env = Some(value.clone()),
            "concurrency" => {
                check_concurrency(value, problems);
                workflow.concurrency = Some(value.clone());
            }
            "permissions" => workflow.permissions = Some(permissions(value)),
            "jobs" => workflow.jobs = jobs(value, problems),
            _ => {}
        }
    }
    Some(workflow)
}

impl Workflow {
    /// Jobs that say nothing may do what the workflow says.
    pub(crate) fn propagate_permissions(&mut self) {
        for job in &mut self.jobs {
            if job.permissions.is_none() {
                job.permissions.clone_from(&self.permissions);
            }
        }
    }
}

fn jobs(all: &Template, problems: &mut Problems<'_>) -> Vec<Job> {
    let before = problems.all.len();
    let jobs: Vec<Job> = all
        .entries()
        .iter()
        .filter_map(|(key, value)| job(key, value, problems))
        .collect();
    if problems.all.len() == before {
        check_needs(&jobs, all.place, problems);
    }
    jobs
}

/// Every job must be reached from one that needs nothing.
fn check_needs(jobs: &[Job], place: Place, problems: &mut Problems<'_>) {
    let reached = crate::needs::reached(jobs);
    let ring = crate::needs::cycle(jobs, &reached);
    let hint = ring.map(|ring| format!("the jobs need each other: {}", ring.join(" → ")));
    if !jobs.iter().any(|job| job.needs.is_empty()) {
        problems.add(
            Some(place),
            "The workflow must contain at least one job with no dependencies.",
        );
        if let Some(hint) = hint {
            problems.hint(&hint);
        }
        return;
    }
    let known: HashSet<String> = jobs.iter().map(|job| job.id.to_ascii_lowercase()).collect();
    for job in jobs {
        for need in &job.needs {
            let name = need.job.to_ascii_lowercase();
            if reached.contains(&name) {
                continue;
            }
            if known.contains(&name) {
                problems.add(
                    Some(need.place),
                    format!(
                        "Job '{}' depends on job '{}' which creates a cycle in the dependency graph.",
                        job.id, need.job
                    ),
                );
                if let Some(hint) = &hint {
                    problems.hint(hint);
                }
            } else {
                problems.add(
                    Some(need.place),
                    format!("Job '{}' depends on unknown job '{}'.", job.id, need.job),
                );
            }
        }
    }
}

fn job(key: &Template, definition: &Template, problems: &mut Problems<'_>) -> Option<Job> {
    let id = key.literal()?.to_owned();
    // One scope for each job: the keys of a mapping are unique already.
    if let Err(message) = Ids::default().take(&id) {
        problems.add(Some(key.place), message);
    }
    let mut job = Job {
        name: key.clone(),
        id,
        place: key.place,
        needs: vec![],
        condition: Condition::none(),
        permissions: None,
        concurrency: None,
        strategy: None,
        runs_on: None,
        environment: None,
        env: None,
        defaults: None,
        outputs: None,
        timeout_minutes: None,
        cancel_timeout_minutes: None,
        continue_on_error: None,
        container: None,
        services: None,
        snapshot: None,
        call: None,
        steps: vec![],
    };
    let mut call: Option<Call> = None;
    let (mut with, mut secrets, mut inherit) = (None, None, false);
    for (name, value) in definition.entries() {
        let some = || Some(value.clone());
        match name.literal()? {
            "name" if value.literal() != Some("") => job.name = value.clone(),
            "needs" => job.needs = needs(value),
            "if" => job.condition = condition(value, JOB_IF_NAMES, problems),
            "permissions" => job.permissions = Some(permissions(value)),
            "concurrency" => {
                check_concurrency(value, problems);
                job.concurrency = some();
            }
            "strategy" => {
                matrix::check(value, &mut |place, message| problems.add(Some(place), message));
                job.strategy = some();
            }
            "runs-on" => {
                check_runs_on(value, problems);
                job.runs_on = some();
            }
            "environment" => job.environment = some(),
            "env" => job.env = some(),
            "defaults" => job.defaults = some(),
            "outputs" => job.outputs = some(),
            "timeout-minutes" => job.timeout_minutes = some(),
            "cancel-timeout-minutes" => job.cancel_timeout_minutes = some(),
            "continue-on-error" => job.continue_on_error = some(),
            "container" => {
                check_container(value, false, problems);
                job.container = some();
            }
            "services" => {
                if !value.has_expression() {
                    for (_, service) in value.entries() {
                        check_container(service, true, problems);
                    }
                }
                job.services = some();
            }
            "snapshot" => {
                check_snapshot(value, problems);
                job.snapshot = some();
            }
            "steps" => job.steps = steps(value, STEP_IF_NAMES, problems),
            "uses" => {
                call = Some(Call {
                    uses: value.literal()?.to_owned(),
                    place: value.place,
                    with: None,
                    secrets: None,
                    inherit_secrets: false,
                    workflow: None,
                });
            }
            "with" => with = some(),
            "secrets" if value.literal() == Some("inherit") => inherit = true,
            "secrets" => secrets = some(),
            _ => {}
        }
    }
    job.call = call.map(|call| Call {
        with,
        secrets,
        inherit_secrets: inherit,
        ..call
    });
    Some(job)
}

fn needs(value: &Template) -> Vec<Need> {
    let one = std::slice::from_ref(value);
    let all = match &value.node {
        Node::Sequence(items) => items.as_slice(),
        _ => one,
    };
    let needs = all.iter().filter_map(|need| {
        Some(Need {
            job: need.literal()?.to_owned(),
            place: need.place,
        })
    });
    needs.collect()
}

pub(super) fn steps(all: &Template, if_names: &[&str], problems: &mut Problems<'_>) -> Vec<Step> {
    let mut ids = Ids::default();
    let mut steps: Vec<Step> = all
        .items()
        .iter()
        .filter_map(|definition| step(definition, if_names, &mut ids, problems))
        .collect();
    for step in steps.iter_mut().filter(|step| step.id.is_empty()) {
        let name = match &step.action {
            StepAction::Run { .. } => "run".to_owned(),
            StepAction::Uses { action, .. } => name_of_action(action),
        };
        match ids.make(&format!("__{name}")) {
            Some(id) => step.id = id,
            None => problems.add(Some(step.place), "Unable to create a unique name"),
        }
    }
    steps
}

/// What the id of a step says of its action.
fn name_of_action(action: &str) -> String {
    if let Some(image) = action.strip_prefix(DOCKER) {
        return image.to_owned();
    }
    if action.starts_with("./") || action.starts_with(".\\") {
        return "self".to_owned();
    }
    match repository(action) {
        Some((owner, name)) => format!("{owner}/{name}"),
        None => "run".to_owned(),
    }
}

/// Owner and name in `OWNER/NAME[/PATH]@REF`.
fn repository(action: &str) -> Option<(&str, &str)> {
    let (path, reference) = action.split_once('@')?;
    if reference.is_empty() || reference.contains('@') {
        return None;
    }
    let mut segments = path.split(['/', '\\']).filter(|segment| !segment.is_empty());
    Some((segments.next()?, segments.next()?))
}

fn step(
    definition: &Template,
    if_names: &[&str],
    ids: &mut Ids,
    problems: &mut Problems<'_>,
) -> Option<Step> {
    let mut step = Step {
        id: String::new(),
        place: definition.place,
        name: None,
        condition: Condition::none(),
        action: StepAction::Run {
            script: definition.clone(),
            shell: None,
            working_directory: None,
        },
        env: None,
        continue_on_error: None,
        timeout_minutes: None,
    };
    let (mut run, mut uses, mut with, mut shell, mut working_directory) = (None, None, None, None, None);
    let mut condition_of = None;
    for (name, value) in definition.entries() {
        let some = || Some(value.clone());
        match name.literal()? {
            "id" => {
                let id = value.literal()?;
                match ids.take(id) {
                    Ok(()) => step.id = id.to_owned(),
                    Err(message) => problems.add(Some(value.place), message),
                }
            }
            "name" => step.name = some(),
            "if" => condition_of = Some(value),
            "env" => step.env = some(),
            "continue-on-error" => step.continue_on_error = some(),
            "timeout-minutes" => step.timeout_minutes = some(),
            "run" => run = some(),
            "shell" => shell = some(),
            "working-directory" => working_directory = some(),
            "uses" => uses = Some(value),
            "with" => with = some(),
            "parallel" => {
                problems.add(Some(name.place), "The key 'parallel' is not allowed");
                return None;
            }
            _ => {}
        }
    }
    if let Some(value) = condition_of {
        step.condition = condition(value, if_names, problems);
    }
    step.action = match (run, uses) {
        (Some(script), _) => StepAction::Run {
            script,
            shell,
            working_directory,
        },
        (None, Some(uses)) => {
            let action = uses.literal()?.to_owned();
            let elsewhere = ["./", ".\\", DOCKER]
                .iter()
                .any(|prefix| action.starts_with(prefix));
            if !elsewhere && repository(&action).is_none() {
                problems.add(
                    Some(uses.place),
                    format!("Expected format {{org}}/{{repo}}[/path]@ref. Actual '{action}'"),
                );
            }
            StepAction::Uses {
                action,
                place: uses.place,
                with,
            }
        }
        (None, None) => return None,
    };
    Some(step)
}

impl Condition {
    fn none() -> Self {
        let names = ["success(0,0)"];
        let expression = parse("success()", &Allowed::new(&names));
        Self {
            place: None,
            // It is one.
            expression: expression.unwrap_or_else(|_| crate::expression::Expression::null()),
        }
    }
}

/// `if`: without a status function in it, it stands behind `success() &&`.
fn condition(value: &Template, names: &[&str], problems: &mut Problems<'_>) -> Condition {
    let text = match &value.node {
        Node::Expression(expression) => expression.source().to_owned(),
        node => text_of(node),
    };
    let allowed = Allowed::new(names);
    let complete = if text.trim().is_empty() {
        Ok("success()".to_owned())
    } else {
        parse(&text, &allowed).map(|expression| {
            if expression.asks_for_status() {
                text
            } else {
                format!("success() && ({text})")
            }
        })
    };
    match complete.and_then(|text| parse(&text, &allowed)) {
        Ok(expression) => Condition {
            place: Some(value.place),
            expression,
        },
        Err(error) => {
            problems.add(Some(value.place), error.message);
            Condition::none()
        }
    }
}

fn check_concurrency(value: &Template, problems: &mut Problems<'_>) {
    let group = match &value.node {
        Node::Mapping(entries) => {
            let group = entries.iter().find(|(key, _)| key.literal() == Some("group"));
            group.and_then(|(_, value)| value.literal())
        }
        _ => value.literal(),
    };
    if group.is_some_and(|group| group.encode_utf16().count() > MAX_GROUP) {
        problems.add(
            Some(value.place),
            format!("Concurrency group name must be less than {MAX_GROUP} characters"),
        );
    }
}

fn check_runs_on(value: &Template, problems: &mut Problems<'_>) {
    const PREFIXES: [&str; 4] = ["org", "organization", "ent", "enterprise"];
    for (key, value) in value.entries() {
        let (Some("group"), Some(group)) = (key.literal(), value.literal()) else {
            continue;
        };
        let parts: Vec<&str> = group.split('/').collect();
        let hint = match parts.as_slice() {
            [_] => continue,
            [_, ""] => "",
            [prefix, _] if PREFIXES.contains(prefix) => continue,
            _ => " Please use 'organization/' or 'enterprise/' prefix to target a single runner group.",
        };
        problems.add(
            Some(value.place),
            format!("Invalid runs-on group name '{group}'.{hint}"),
        );
    }
}

fn check_container(value: &Template, service: bool, problems: &mut Problems<'_>) {
    if value.has_expression() {
        return;
    }
    let image = match &value.node {
        Node::Mapping(entries) => {
            let image = entries.iter().find(|(key, _)| key.literal() == Some("image"));
            image.and_then(|(_, value)| value.literal()).unwrap_or_default()
        }
        _ => value.literal().unwrap_or_default(),
    };
    let empty = image.strip_prefix(DOCKER).unwrap_or(image).is_empty();
    if empty && (service || image.starts_with(DOCKER)) {
        problems.add(Some(value.place), "Container image cannot be empty");
    }
}

fn check_snapshot(value: &Template, problems: &mut Problems<'_>) {
    for (key, property) in value.entries() {
        match (key.literal(), property.literal()) {
            (Some("if"), _) => {
                condition(property, STEP_IF_NAMES, problems);
            }
            (Some("version"), Some(version)) => {
                let major = version.strip_suffix(".*");
                let legal = major.is_some_and(|major| {
                    major.bytes().all(|digit| digit.is_ascii_digit()) && major.parse::<i32>().is_ok()
                });
                if !legal {
                    problems.add(
                        Some(value.place),
                        format!("Expected format '{{major-version}}.*' Actual '{version}'"),
                    );
                }
            }
            _ => {}
        }
    }
}

fn permissions(value: &Template) -> Permissions {
    let access = |text: Option<&str>| match text {
        Some("read" | "read-all") => Access::Read,
        Some("write" | "write-all") => Access::Write,
        _ => Access::None,
    };
    match &value.node {
        Node::Mapping(entries) => {
            let each = entries.iter().filter_map(|(key, value)| {
                let name = key.literal()?;
                let access = access(value.literal());
                // There is nothing of it to write.
                let read_only = matches!(name, "models" | "vulnerability-alerts");
                let access = if read_only {
                    access.min(Access::Read)
                } else {
                    access
                };
                Some((name.to_owned(), access))
            });
            Permissions::Each(each.collect())
        }
        _ => Permissions::All(access(value.literal())),
    }
}

fn triggers(on: &Template) -> Triggers {
    let event = |name: &Template, settings: Option<&Template>| {
        let mut event = EventTrigger::new(name.literal()?, name.place);
        if let Some(settings) = settings {
            fill(&mut event, settings);
        }
        Some(event)
    };
    let events = match &on.node {
        Node::Sequence(names) => names.iter().filter_map(|name| event(name, None)).collect(),
        Node::Mapping(entries) => {
            let all = entries.iter();
            all.filter_map(|(name, settings)| event(name, Some(settings)))
                .collect()
        }
        _ => event(on, None).into_iter().collect(),
    };
    Triggers { events }
}

/// What a schema cannot say of triggers.
fn check_triggers(on: &Template, problems: &mut Problems<'_>) {
    const PATTERNS: [&str; 6] = [
        "branches",
        "branches-ignore",
        "tags",
        "tags-ignore",
        "paths",
        "paths-ignore",
    ];
    for (event, settings) in on.entries() {
        for [wanted, ignored] in PATTERNS.as_chunks::<2>().0 {
            if property(settings, wanted).is_some() && property(settings, ignored).is_some() {
                let message =
                    format!("you may only define one of `{wanted}` and `{ignored}` for a single event");
                problems.add(Some(event.place), message);
            }
        }
        for (key, value) in settings.entries() {
            if !key.literal().is_some_and(|key| PATTERNS.contains(&key)) {
                continue;
            }
            let one = std::slice::from_ref(value);
            let all = if value.items().is_empty() {
                one
            } else {
                value.items()
            };
            for pattern in all {
                if let Err(error) = crate::glob::Pattern::new(&text_of(&pattern.node)) {
                    problems.add(Some(pattern.place), error.to_string());
                }
            }
        }
        for entry in settings.items() {
            if let Some(cron) = property(entry, "cron")
                && let Err(error) = crate::cron::Cron::new(&text_of(&cron.node))
            {
                problems.add(Some(cron.place), error.to_string());
            }
        }
    }
}

fn fill(event: &mut EventTrigger, settings: &Template) {
    if event.name == "schedule" {
        event.schedules = settings.items().iter().filter_map(schedule).collect();
        return;
    }
    for (key, value) in settings.entries() {
        match key.literal() {
            Some("inputs") => event.definitions.inputs = Some(value.clone()),
            Some("secrets") => event.definitions.secrets = Some(value.clone()),
            Some("outputs") => event.definitions.outputs = Some(value.clone()),
            _ => {}
        }
        match key.literal() {
            Some("types") => event.types = Some(texts(value)),
            Some("branches") => event.branches = Some(texts(value)),
            Some("branches-ignore") => event.branches_ignore = Some(texts(value)),
            Some("tags") => event.tags = Some(texts(value)),
            Some("tags-ignore") => event.tags_ignore = Some(texts(value)),
            Some("paths") => event.paths = Some(texts(value)),
            Some("paths-ignore") => event.paths_ignore = Some(texts(value)),
            Some("workflows") => event.workflows = Some(texts(value)),
            Some("names") => event.names = Some(texts(value)),
            Some("versions") => event.versions = Some(texts(value)),
            Some("inputs") => event.inputs = value.entries().iter().filter_map(input).collect(),
            Some("secrets") => event.secrets = value.entries().iter().filter_map(secret).collect(),
            Some("outputs") => {
                let all = value.entries().iter();
                event.outputs = all
                    .filter_map(|(name, output)| {
                        Some((name.literal()?.to_owned(), property(output, "value")?.clone()))
                    })
                    .collect();
            }
            _ => {}
        }
    }
}

/// A text or a list of texts.
fn texts(value: &Template) -> Vec<String> {
    match &value.node {
        Node::Sequence(items) => items.iter().map(|item| text_of(&item.node)).collect(),
        Node::Null => vec![],
        node => vec![text_of(node)],
    }
}

pub(super) fn property<'a>(of: &'a Template, name: &str) -> Option<&'a Template> {
    let found = of.entries().iter().find(|(key, _)| key.literal() == Some(name));
    found.map(|(_, value)| value)
}

fn schedule(entry: &Template) -> Option<Schedule> {
    let text = |name| property(entry, name).map(|value| text_of(&value.node));
    Some(Schedule {
        cron: text("cron")?,
        timezone: text("timezone"),
        place: entry.place,
    })
}

fn input((name, value): &(Template, Template)) -> Option<Input> {
    let kind = match property(value, "type").and_then(Template::literal) {
        Some("boolean") => InputKind::Boolean,
        Some("number") => InputKind::Number,
        Some("choice") => InputKind::Choice,
        Some("environment") => InputKind::Environment,
        _ => InputKind::String,
    };
    Some(Input {
        name: name.literal()?.to_owned(),
        place: name.place,
        description: property(value, "description").map(|value| text_of(&value.node)),
        kind,
        required: property(value, "required").is_some_and(|value| matches!(value.node, Node::Boolean(true))),
        default: property(value, "default").cloned(),
        options: property(value, "options").map(texts).unwrap_or_default(),
    })
}

fn secret((name, value): &(Template, Template)) -> Option<SecretInput> {
    Some(SecretInput {
        name: name.literal()?.to_owned(),
        required: property(value, "required").is_some_and(|value| matches!(value.node, Node::Boolean(true))),
    })
}

impl EventTrigger {
    /// An event of which nothing is said.
    pub(crate) fn new(name: &str, place: Place) -> Self {
        Self {
            name: name.to_owned(),
            place,
            types: None,
            branches: None,
            branches_ignore: None,
            tags: None,
            tags_ignore: None,
            paths: None,
            paths_ignore: None,
            workflows: None,
            names: None,
            versions: None,
            schedules: vec![],
            inputs: vec![],
            secrets: vec![],
            outputs: vec![],
            definitions: Definitions::default(),
        }
    }
}
