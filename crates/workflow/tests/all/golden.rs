//! Workflow files against the cases of GitHub's own parser, read where they are from outside the repository:
//! `../shared/suites/workflow-parser`, from the root of the workspace.
//!
//! A case is options, a workflow, workflows that it calls by name, and what is expected, parted by `---`. What
//! does not pass yet stands with its reason in `golden-not-passing.txt`; an entry that passes must go.

use crate::expressions::{say, suite};
use astraler_workflow::{
    Access, DefaultPermissions, Diagnostic, EventTrigger, InputKind, Job, Node, Options, Permissions, Step,
    StepAction, Template, Workflow, link,
};
use serde_json::{Map, Value as Json, json};
use std::collections::HashMap;
use std::path::PathBuf;

/// How many errors GitHub tells, and how much of each.
const MAX_ERRORS: usize = 10;
const MAX_MESSAGE: usize = 500;

struct Case {
    name: String,
    include_source: bool,
    /// It holds for the parser of editors alone, which checks all triggers and gives them.
    events: bool,
    skip_calls: bool,
    options: Options,
    permissions: DefaultPermissions,
    workflow: String,
    called: HashMap<String, String>,
    expected: Json,
}

#[test]
fn cases_of_the_suite_pass_or_stand_with_a_reason() {
    let Some(folder) = suite("workflow-parser") else {
        return;
    };
    let known = known();
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yml"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "the suite holds no case");
    let (mut passed, mut wrong) = (0, Vec::new());
    for path in &files {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let case = read(&name, &std::fs::read_to_string(path).unwrap());
        let actual = run(&case);
        let listed = known.contains_key(&name);
        if actual == case.expected {
            passed += 1;
            if listed {
                wrong.push(format!(
                    "{name}: it passes: take it out of golden-not-passing.txt"
                ));
            }
        } else if !listed {
            wrong.push(format!(
                "{name}:\n  expected {}\n  actual   {actual}",
                case.expected
            ));
        }
    }
    say(&format!(
        "workflow files: {passed} of {} outside cases pass",
        files.len()
    ));
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Name → reason.
fn known() -> HashMap<String, String> {
    include_str!("golden-not-passing.txt")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let (name, reason) = line.split_once(": ").expect("NAME: REASON");
            (name.to_owned(), reason.to_owned())
        })
        .collect()
}

fn read(name: &str, text: &str) -> Case {
    let mut parts: Vec<String> = vec![String::new()];
    for line in text.split('\n') {
        if line.trim_end() == "---" {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            if !part.is_empty() {
                part.push('\n');
            }
            part.push_str(line);
            if line.is_empty() && part.is_empty() {
                part.push('\n');
            }
        }
    }
    let header = parts.remove(0);
    let expected = parts.pop().unwrap();
    let workflow = parts.remove(0);
    let called = parts
        .chunks(2)
        .map(|pair| (pair[0].trim().to_owned(), pair[1].clone()))
        .collect();
    let option = |name: &str| {
        header.lines().find_map(|line| {
            let value = line.strip_prefix(name)?.strip_prefix(':')?;
            Some(value.split('#').next().unwrap().trim().to_owned())
        })
    };
    let number = |name: &str, default: usize| option(name).map_or(default, |text| text.parse().unwrap());
    let skipped: Vec<&str> = header
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- "))
        .collect();
    let events = skipped.contains(&"C#") && skipped.contains(&"Go");
    let default = Options::default();
    Case {
        name: format!(".github/workflows/{name}"),
        include_source: option("include-source").as_deref() == Some("true"),
        events,
        skip_calls: option("skip-reusable-workflows").as_deref() == Some("true"),
        options: Options {
            strict_triggers: events,
            max_depth: number("max-depth", default.max_depth),
            max_size: number("max-result-size", default.max_size),
            max_jobs: number("max-job-limit", default.max_jobs),
            max_calls: number("max-nested-reusable-workflows-depth", default.max_calls),
        },
        permissions: match option("permissions-policy").as_deref() {
            Some("LimitedRead") => DefaultPermissions::LimitedRead,
            _ => DefaultPermissions::Write,
        },
        workflow,
        called,
        expected: serde_json::from_str(&expected).unwrap(),
    }
}

fn run(case: &Case) -> Json {
    let mut find = |uses: &str| case.called.get(uses).cloned();
    let result = if case.skip_calls {
        astraler_workflow::parse_with(&case.name, &case.workflow, &case.options)
    } else {
        link(
            &case.name,
            &case.workflow,
            &case.options,
            case.permissions,
            &mut find,
        )
    };
    match result {
        Ok(workflow) => {
            let mut files = Vec::new();
            file_table(&workflow, &mut files);
            Writer {
                source: case.include_source,
                file: 1,
                files: &files,
            }
            .workflow(&workflow, case.events)
        }
        Err(problems) => {
            let messages = problems.iter().take(MAX_ERRORS).map(Diagnostic::to_string);
            let cut = messages.map(|message| match message.char_indices().nth(MAX_MESSAGE) {
                Some((at, _)) => format!("{}[...]", &message[..at]),
                None => message,
            });
            json!({ "errors": cut.map(|message| json!({ "Message": message })).collect::<Vec<_>>() })
        }
    }
}

struct Writer<'a> {
    source: bool,
    /// Number of the file of what is written.
    file: usize,
    files: &'a [String],
}

/// Files in the order in which they are read.
fn file_table(workflow: &Workflow, files: &mut Vec<String>) {
    if !files.contains(&workflow.file) {
        files.push(workflow.file.clone());
    }
    let called = workflow
        .jobs
        .iter()
        .filter_map(|job| job.call.as_ref()?.workflow.as_ref());
    for workflow in called {
        file_table(workflow, files);
    }
}

type Entries = Map<String, Json>;

impl Writer<'_> {
    fn workflow(&self, workflow: &Workflow, events: bool) -> Json {
        let mut all = Map::new();
        if events {
            let events = workflow.on.events.iter();
            let events: Entries = events
                .map(|event| (event.name.clone(), self.event(event)))
                .collect();
            all.insert("events".into(), Json::Object(events));
        } else if let Some(dispatch) = workflow.on.event("workflow_dispatch")
            && !dispatch.inputs.is_empty()
        {
            let types = dispatch
                .inputs
                .iter()
                .map(|input| (input.name.clone(), json!(input.kind)));
            all.insert("input-types".into(), Json::Object(types.collect()));
        }
        self.put(&mut all, "defaults", workflow.defaults.as_ref());
        self.put(&mut all, "env", workflow.env.as_ref());
        self.put(&mut all, "concurrency", workflow.concurrency.as_ref());
        if let Some(permissions) = &workflow.permissions {
            all.insert("permissions".into(), permission_map(permissions));
        }
        all.insert("jobs".into(), self.jobs(workflow));
        if self.source {
            all.insert("file-table".into(), json!(self.files));
        }
        Json::Object(all)
    }

    fn event(&self, event: &EventTrigger) -> Json {
        let mut all = Map::new();
        let lists = [
            ("types", &event.types),
            ("branches", &event.branches),
            ("branches-ignore", &event.branches_ignore),
            ("tags", &event.tags),
            ("tags-ignore", &event.tags_ignore),
            ("paths", &event.paths),
            ("paths-ignore", &event.paths_ignore),
            ("workflows", &event.workflows),
            ("names", &event.names),
            ("versions", &event.versions),
        ];
        for (name, list) in lists {
            if let Some(list) = list {
                all.insert(name.into(), json!(list));
            }
        }
        if event.name == "schedule" {
            let entries = event.schedules.iter().map(|entry| json!({ "cron": entry.cron }));
            return Json::Array(entries.collect());
        }
        if !event.inputs.is_empty() {
            let inputs = event.inputs.iter().map(|input| {
                let mut all = Map::new();
                all.insert("type".into(), json!(input.kind));
                if input.required {
                    all.insert("required".into(), json!(true));
                }
                if let Some(description) = &input.description {
                    all.insert("description".into(), json!(description));
                }
                if let Some(default) = &input.default {
                    all.insert(
                        "default".into(),
                        Writer {
                            source: false,
                            ..*self
                        }
                        .token(default),
                    );
                }
                if input.kind == InputKind::Choice {
                    all.insert("options".into(), json!(input.options));
                }
                (input.name.clone(), Json::Object(all))
            });
            all.insert("inputs".into(), Json::Object(inputs.collect()));
        }
        Json::Object(all)
    }

    fn put(&self, all: &mut Entries, name: &str, value: Option<&Template>) {
        if let Some(value) = value {
            all.insert(name.into(), self.token(value));
        }
    }

    fn jobs(&self, workflow: &Workflow) -> Json {
        workflow.jobs.iter().map(|job| self.job(job)).collect()
    }

    fn job(&self, job: &Job) -> Json {
        let mut all = Map::new();
        let text = |place, text: &str| {
            self.token(&Template {
                place,
                node: Node::String(text.to_owned()),
            })
        };
        all.insert("id".into(), text(job.place, &job.id));
        all.insert("name".into(), self.token(&job.name));
        let needs: Vec<Json> = job.needs.iter().map(|need| text(need.place, &need.job)).collect();
        if !needs.is_empty() || job.call.is_some() {
            all.insert("needs".into(), Json::Array(needs));
        }
        all.insert("if".into(), self.condition(&job.condition));
        self.put(&mut all, "concurrency", job.concurrency.as_ref());
        self.put(&mut all, "strategy", job.strategy.as_ref());
        if let Some(permissions) = &job.permissions {
            all.insert("permissions".into(), permission_map(permissions));
        }
        let Some(call) = &job.call else {
            all.insert("type".into(), json!("job"));
            self.put(&mut all, "runs-on", job.runs_on.as_ref());
            self.put(&mut all, "environment", job.environment.as_ref());
            self.put(&mut all, "env", job.env.as_ref());
            self.put(&mut all, "defaults", job.defaults.as_ref());
            self.put(&mut all, "outputs", job.outputs.as_ref());
            self.put(&mut all, "timeout-minutes", job.timeout_minutes.as_ref());
            self.put(
                &mut all,
                "cancel-timeout-minutes",
                job.cancel_timeout_minutes.as_ref(),
            );
            self.put(&mut all, "continue-on-error", job.continue_on_error.as_ref());
            self.put(&mut all, "container", job.container.as_ref());
            self.put(&mut all, "services", job.services.as_ref());
            self.put(&mut all, "snapshot", job.snapshot.as_ref());
            if !job.steps.is_empty() {
                all.insert(
                    "steps".into(),
                    job.steps.iter().map(|step| self.step(step)).collect(),
                );
            }
            return Json::Object(all);
        };
        all.insert("type".into(), json!("reusableWorkflowJob"));
        all.insert("ref".into(), text(call.place, &call.uses));
        self.put(&mut all, "input-values", call.with.as_ref());
        self.put(&mut all, "secret-values", call.secrets.as_ref());
        if call.inherit_secrets {
            all.insert("inherit-secrets".into(), json!(true));
        }
        let mut jobs = json!([]);
        if let Some(workflow) = &call.workflow {
            let at = self.files.iter().position(|file| *file == workflow.file);
            let called = Writer {
                file: at.map_or(0, |at| at + 1),
                ..*self
            };
            called.put(&mut all, "env", workflow.env.as_ref());
            called.put(&mut all, "defaults", workflow.defaults.as_ref());
            called.put(&mut all, "embedded-concurrency", workflow.concurrency.as_ref());
            if let Some(event) = workflow.on.event("workflow_call") {
                called.put(&mut all, "input-definitions", event.definitions.inputs.as_ref());
                called.put(&mut all, "secret-definitions", event.definitions.secrets.as_ref());
                called.put(&mut all, "outputs", event.definitions.outputs.as_ref());
            }
            jobs = called.jobs(workflow);
        }
        all.insert("jobs".into(), jobs);
        Json::Object(all)
    }

    fn condition(&self, condition: &astraler_workflow::Condition) -> Json {
        let expr = condition.expression.source();
        match condition.place.filter(|_| self.source) {
            Some(place) => json!({
                "type": 3, "file": self.file, "line": place.line, "col": place.column, "expr": expr
            }),
            None => json!({ "type": 3, "expr": expr }),
        }
    }

    fn step(&self, step: &Step) -> Json {
        let mut all = Map::new();
        all.insert("id".into(), json!(step.id));
        self.put(&mut all, "name", step.name.as_ref());
        all.insert("if".into(), self.condition(&step.condition));
        self.put(&mut all, "env", step.env.as_ref());
        self.put(&mut all, "continue-on-error", step.continue_on_error.as_ref());
        self.put(&mut all, "timeout-minutes", step.timeout_minutes.as_ref());
        match &step.action {
            StepAction::Run {
                script,
                shell,
                working_directory,
            } => {
                self.put(&mut all, "run", Some(script));
                self.put(&mut all, "shell", shell.as_ref());
                self.put(&mut all, "working-directory", working_directory.as_ref());
            }
            StepAction::Uses { action, place, with } => {
                let uses = Template {
                    place: *place,
                    node: Node::String(action.clone()),
                };
                self.put(&mut all, "uses", Some(&uses));
                self.put(&mut all, "with", with.as_ref());
            }
        }
        Json::Object(all)
    }

    /// A token in the form of the suite: literals as they are where no places are asked for.
    fn token(&self, template: &Template) -> Json {
        let number = |value: f64| {
            if value.is_infinite() || value.is_nan() {
                json!(astraler_workflow::expression::Value::from(value).to_text())
            } else {
                json!(astraler_workflow::expression::Value::from(value))
            }
        };
        let (kind, name, value) = match &template.node {
            Node::String(text) => (0, "lit", json!(text)),
            Node::Sequence(items) => (1, "seq", items.iter().map(|item| self.token(item)).collect()),
            Node::Mapping(entries) => {
                let entries = entries
                    .iter()
                    .map(|(key, value)| json!({ "Key": self.token(key), "Value": self.token(value) }));
                (2, "map", entries.collect())
            }
            Node::Expression(expression) => (3, "expr", json!(expression.source())),
            Node::Insert => (4, "directive", json!("insert")),
            Node::Boolean(value) => (5, "bool", json!(value)),
            Node::Number(value) => (6, "num", number(*value)),
            Node::Null => (7, "null", Json::Null),
        };
        if !self.source && !(1..=4).contains(&kind) {
            return value;
        }
        let mut all = Map::new();
        all.insert("type".into(), json!(kind));
        if self.source {
            all.insert("file".into(), json!(self.file));
            all.insert("line".into(), json!(template.place.line));
            all.insert("col".into(), json!(template.place.column));
        }
        let empty = value.as_array().is_some_and(Vec::is_empty);
        if kind != 7 && !empty {
            all.insert(name.into(), value);
        }
        Json::Object(all)
    }
}

fn permission_map(permissions: &Permissions) -> Json {
    const ALL: [&str; 13] = [
        "actions",
        "checks",
        "contents",
        "deployments",
        "discussions",
        "id-token",
        "issues",
        "packages",
        "pages",
        "pull-requests",
        "repository-projects",
        "security-events",
        "statuses",
    ];
    let each: Vec<(String, Access)> = match permissions {
        Permissions::All(access) => ALL.iter().map(|name| ((*name).to_owned(), *access)).collect(),
        Permissions::Each(each) => each.clone(),
    };
    let granted = each.into_iter().filter(|(_, access)| *access > Access::None);
    Json::Object(granted.map(|(name, access)| (name, json!(access))).collect())
}
