//! Whether an event starts a workflow, and with which inputs.
//!
//! <https://docs.github.com/actions/reference/workflows-and-actions/events-that-trigger-workflows>

use crate::expression::{Object, Scope, Value, upper};
use crate::glob::{Pattern, PatternError, any_matches};
use crate::model::{EventTrigger, Input, InputKind, Triggers};
use crate::template::{Node, Template, TemplateError};

/// What happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    /// `push`, `pull_request`…
    pub name: String,
    /// Type of activity: `opened`, `synchronize`…
    pub activity: Option<String>,
    /// The branch that was pushed, or the base of a pull request, without `refs/heads/`.
    pub branch: Option<String>,
    /// The tag that was pushed, without `refs/tags/`.
    pub tag: Option<String>,
    /// Files that changed; none where it is not known, and then every filter of paths holds, as for GitHub.
    pub changed_files: Option<Vec<String>>,
    /// Of `workflow_run`: name of the workflow that ran.
    pub workflow: Option<String>,
    /// Of `schedule`: the entry that is due.
    pub schedule: Option<String>,
}

/// Why an event does not start a workflow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoMatch {
    /// `on` does not name it.
    #[error("the workflow does not run on `{event}`; it runs on {known}")]
    Event {
        /// What happened.
        event: String,
        /// What it runs on.
        known: String,
    },
    /// Its type is not among `types`.
    #[error("the activity `{activity}` is not among the types of `{event}`: {types}")]
    Activity {
        /// What happened.
        event: String,
        /// Its type.
        activity: String,
        /// Those that count.
        types: String,
    },
    /// A filter does not let it through.
    #[error("`{what}` is not in `{filter}` of `{event}`: {patterns}")]
    Filtered {
        /// What happened.
        event: String,
        /// Which filter.
        filter: &'static str,
        /// The branch, the tag or the workflow.
        what: String,
        /// The filter's patterns.
        patterns: String,
    },
    /// A filter takes it out.
    #[error("`{what}` is in `{filter}` of `{event}`: {patterns}")]
    Ignored {
        /// What happened.
        event: String,
        /// Which filter.
        filter: &'static str,
        /// The branch or the tag.
        what: String,
        /// The filter's patterns.
        patterns: String,
    },
    /// Only branches are filtered, and a tag was pushed; or the other way round.
    #[error("`{event}` is filtered by {filtered}, and so it does not run for a {kind}")]
    OtherKind {
        /// What happened.
        event: String,
        /// What is filtered.
        filtered: &'static str,
        /// What was pushed.
        kind: &'static str,
    },
    /// None of the changed files counts.
    #[error("none of the {files} changed files counts for `{filter}` of `{event}`: {patterns}")]
    Paths {
        /// What happened.
        event: String,
        /// Which filter.
        filter: &'static str,
        /// How many files changed.
        files: usize,
        /// The filter's patterns.
        patterns: String,
    },
    /// A pattern of the workflow is none.
    #[error(transparent)]
    Pattern(#[from] PatternError),
}

/// Whether the event starts a workflow with these triggers.
pub fn matches(on: &Triggers, event: &Event) -> Result<(), NoMatch> {
    let Some(trigger) = on.event(&event.name) else {
        let known: Vec<&str> = on.events.iter().map(|event| event.name.as_str()).collect();
        return Err(NoMatch::Event {
            event: event.name.clone(),
            known: known.join(", "),
        });
    };
    activity(trigger, event)?;
    if let (Some(wanted), Some(workflow)) = (&trigger.workflows, &event.workflow)
        && !wanted.contains(workflow)
    {
        return Err(filtered(event, "workflows", workflow, wanted));
    }
    if let Some(due) = &event.schedule {
        let all: Vec<String> = trigger.schedules.iter().map(|entry| entry.cron.clone()).collect();
        if !all.contains(due) {
            return Err(filtered(event, "schedule", due, &all));
        }
    }
    references(trigger, event)?;
    // A tag has no files of its own.
    if event.tag.is_none() {
        paths(trigger, event)?;
    }
    Ok(())
}

/// Types of activity that count where the workflow names none; nothing means all.
fn default_types(event: &str) -> &'static [&'static str] {
    match event {
        "pull_request" | "pull_request_target" => &["opened", "synchronize", "reopened"],
        "merge_group" => &["checks_requested"],
        _ => &[],
    }
}

fn activity(trigger: &EventTrigger, event: &Event) -> Result<(), NoMatch> {
    let Some(activity) = &event.activity else {
        return Ok(());
    };
    let defaults = default_types(&trigger.name).iter().map(|kind| (*kind).to_owned());
    let types: Vec<String> = match &trigger.types {
        Some(types) => types.clone(),
        None => defaults.collect(),
    };
    if (trigger.types.is_none() && types.is_empty()) || types.contains(activity) {
        return Ok(());
    }
    Err(NoMatch::Activity {
        event: event.name.clone(),
        activity: activity.clone(),
        types: types.join(", "),
    })
}

fn references(trigger: &EventTrigger, event: &Event) -> Result<(), NoMatch> {
    let has_branches = trigger.branches.is_some() || trigger.branches_ignore.is_some();
    let has_tags = trigger.tags.is_some() || trigger.tags_ignore.is_some();
    let other_kind = |filtered, kind| NoMatch::OtherKind {
        event: event.name.clone(),
        filtered,
        kind,
    };
    if let Some(tag) = &event.tag {
        if has_branches && !has_tags {
            return Err(other_kind("branches", "tag"));
        }
        return reference(
            event,
            tag,
            ("tags", trigger.tags.as_deref()),
            ("tags-ignore", trigger.tags_ignore.as_deref()),
        );
    }
    if let Some(branch) = &event.branch {
        if has_tags && !has_branches && trigger.name == "push" {
            return Err(other_kind("tags", "branch"));
        }
        return reference(
            event,
            branch,
            ("branches", trigger.branches.as_deref()),
            ("branches-ignore", trigger.branches_ignore.as_deref()),
        );
    }
    Ok(())
}

type Filter<'a> = (&'static str, Option<&'a [String]>);

fn reference(event: &Event, name: &str, wanted: Filter<'_>, ignored: Filter<'_>) -> Result<(), NoMatch> {
    if let Some(patterns) = wanted.1
        && !any_matches(&compile(patterns)?, name)
    {
        return Err(filtered(event, wanted.0, name, patterns));
    }
    if let Some(patterns) = ignored.1
        && any_matches(&compile(patterns)?, name)
    {
        return Err(NoMatch::Ignored {
            event: event.name.clone(),
            filter: ignored.0,
            what: name.to_owned(),
            patterns: patterns.join(", "),
        });
    }
    Ok(())
}

fn paths(trigger: &EventTrigger, event: &Event) -> Result<(), NoMatch> {
    let Some(files) = &event.changed_files else {
        return Ok(());
    };
    let none_counts = |filter, patterns: &[String]| NoMatch::Paths {
        event: event.name.clone(),
        filter,
        files: files.len(),
        patterns: patterns.join(", "),
    };
    if let Some(patterns) = &trigger.paths {
        let compiled = compile(patterns)?;
        if !files.iter().any(|file| any_matches(&compiled, file)) {
            return Err(none_counts("paths", patterns));
        }
    }
    if let Some(patterns) = &trigger.paths_ignore {
        let compiled = compile(patterns)?;
        if files.iter().all(|file| any_matches(&compiled, file)) {
            return Err(none_counts("paths-ignore", patterns));
        }
    }
    Ok(())
}

fn filtered(event: &Event, filter: &'static str, what: &str, patterns: &[String]) -> NoMatch {
    NoMatch::Filtered {
        event: event.name.clone(),
        filter,
        what: what.to_owned(),
        patterns: patterns.join(", "),
    }
}

fn compile(patterns: &[String]) -> Result<Vec<Pattern>, PatternError> {
    patterns.iter().map(|text| Pattern::new(text)).collect()
}

/// Why inputs do not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// One that must be given is not.
    #[error("the input `{0}` is required")]
    Missing(String),
    /// There is none of this name.
    #[error("there is no input `{0}`")]
    Unknown(String),
    /// It is not of its type.
    #[error("the input `{name}` is `{value}`, which is not {wanted}")]
    Type {
        /// Which one.
        name: String,
        /// What was given.
        value: String,
        /// What it must be.
        wanted: String,
    },
    /// A value of the workflow cannot be evaluated.
    #[error(transparent)]
    Template(#[from] TemplateError),
}

/// The context `inputs` of a run that a person starts (`workflow_dispatch`), from texts.
pub fn dispatch_inputs(trigger: &EventTrigger, given: &[(String, String)]) -> Result<Object, InputError> {
    if let Some((name, _)) = given.iter().find(|(name, _)| find(trigger, name).is_none()) {
        return Err(InputError::Unknown(name.clone()));
    }
    let mut inputs = Object::default();
    for input in &trigger.inputs {
        let text = given.iter().find(|(name, _)| same(name, &input.name));
        let value = match (text, &input.default) {
            (Some((_, text)), _) => typed(input, &Value::String(text.clone()))?,
            (None, Some(default)) => typed(input, &literal(default))?,
            (None, None) if input.required => return Err(InputError::Missing(input.name.clone())),
            (None, None) => empty(input),
        };
        inputs.insert(input.name.clone(), value);
    }
    Ok(inputs)
}

/// The context `inputs` of a workflow that another calls (`workflow_call`): defaults are evaluated in the called
/// workflow's scope, values in the caller's.
pub fn call_inputs(
    trigger: &EventTrigger,
    with: Option<&Template>,
    caller: &Scope<'_>,
    called: &Scope<'_>,
) -> Result<Object, InputError> {
    let given = match with {
        Some(with) => with.evaluate(caller)?,
        None => Template {
            place: trigger.place,
            node: Node::Null,
        },
    };
    let entries = match &given.node {
        Node::Mapping(entries) => entries.as_slice(),
        _ => &[],
    };
    for (name, _) in entries {
        let name = name.to_plain_text();
        if find(trigger, &name).is_none() {
            return Err(InputError::Unknown(name));
        }
    }
    let mut inputs = Object::default();
    for input in &trigger.inputs {
        let value = entries
            .iter()
            .find(|(name, _)| same(&name.to_plain_text(), &input.name));
        let value = match (value, &input.default) {
            (Some((_, value)), _) => strict(input, value.to_value())?,
            (None, Some(default)) => strict(input, default.value(called)?)?,
            (None, None) if input.required => return Err(InputError::Missing(input.name.clone())),
            (None, None) => empty(input),
        };
        inputs.insert(input.name.clone(), value);
    }
    Ok(inputs)
}

fn find<'a>(trigger: &'a EventTrigger, name: &str) -> Option<&'a Input> {
    trigger.inputs.iter().find(|input| same(&input.name, name))
}

fn same(left: &str, right: &str) -> bool {
    upper(left) == upper(right)
}

fn literal(template: &Template) -> Value {
    template.to_value()
}

/// What an input is that nobody gives.
fn empty(input: &Input) -> Value {
    match input.kind {
        InputKind::Boolean => Value::Boolean(false),
        InputKind::Number => Value::Number(0.0),
        InputKind::Choice => Value::String(input.options.first().cloned().unwrap_or_default()),
        InputKind::String | InputKind::Environment => Value::String(String::new()),
    }
}

/// A text in the type of its input.
fn typed(input: &Input, value: &Value) -> Result<Value, InputError> {
    let text = value.to_text();
    let wrong = |wanted: String| InputError::Type {
        name: input.name.clone(),
        value: text.clone(),
        wanted,
    };
    match input.kind {
        InputKind::Boolean => match text.as_str() {
            "true" => Ok(Value::Boolean(true)),
            "false" => Ok(Value::Boolean(false)),
            _ => Err(wrong("`true` or `false`".into())),
        },
        InputKind::Number => {
            let number = value.to_number();
            if text.trim().is_empty() || number.is_nan() {
                return Err(wrong("a number".into()));
            }
            Ok(Value::Number(number))
        }
        InputKind::Choice if !input.options.contains(&text) => {
            Err(wrong(format!("one of {}", input.options.join(", "))))
        }
        _ => Ok(Value::String(text)),
    }
}

/// A value that must be of the type of its input already; only what becomes text may be of another.
fn strict(input: &Input, value: Value) -> Result<Value, InputError> {
    let fits = match input.kind {
        InputKind::Boolean => matches!(value, Value::Boolean(_)),
        InputKind::Number => matches!(value, Value::Number(_)),
        _ => !matches!(value, Value::Array(_) | Value::Object(_)),
    };
    if !fits {
        return Err(InputError::Type {
            name: input.name.clone(),
            value: value.to_text(),
            wanted: match input.kind {
                InputKind::Boolean => "a boolean".into(),
                InputKind::Number => "a number".into(),
                _ => "text".into(),
            },
        });
    }
    Ok(match input.kind {
        InputKind::Boolean | InputKind::Number => value,
        _ => Value::String(value.to_text()),
    })
}
