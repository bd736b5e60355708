//! `astraler pipeline`.

use crate::cli::{Arguments, PipelineCommand};
use crate::failure::{Failure, Kind, Outcome};
use crate::place::Place;
use crate::progress::line;
use crate::table;
use astraler_manifest::{Diagnostic, Diagnostics};
use astraler_workflow::expression::{self, Contexts, Value};
use astraler_workflow::{DefaultPermissions, Options, Runs, StepAction, Workflow};
use serde_json::json;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where GitHub looks for workflows.
const WORKFLOWS: &str = ".github/workflows";
/// Largest file of contexts.
const MAX_CONTEXTS_BYTES: u64 = 64 * 1024 * 1024;
/// Most workflows that are checked at once.
const MAX_WORKFLOWS: usize = 1000;

pub(super) fn run(arguments: &Arguments, command: &PipelineCommand) -> Outcome {
    match command {
        PipelineCommand::Run(run) => super::pipeline_run::run(arguments, run),
        PipelineCommand::List { branch, lines, json } => {
            super::pipeline_runs::list(arguments, branch.as_deref(), *lines, json.json)
        }
        PipelineCommand::Show { run, json } => super::pipeline_runs::show(arguments, *run, json.json),
        PipelineCommand::Logs {
            run,
            follow,
            job,
            json,
        } => super::pipeline_runs::logs(arguments, *run, *follow, job.as_deref(), json.json),
        PipelineCommand::Cancel { run } => super::pipeline_runs::cancel(arguments, *run),
        PipelineCommand::Check { files, json } => check(arguments, files, json.json),
        PipelineCommand::Eval {
            contexts,
            json,
            expression,
        } => eval(contexts.as_deref(), expression, json.json),
    }
}

fn eval(contexts: Option<&Path>, text: &str, json: bool) -> Outcome {
    let contexts = match contexts {
        Some(file) => read_contexts(file)?,
        None => Contexts::default(),
    };
    match expression::evaluate(text, &contexts) {
        Ok(value) if json => {
            // JSON has no word for some numbers.
            let shown = match &value {
                Value::Number(number) if !number.is_finite() => json!(value.to_text()),
                value => json!(value),
            };
            Ok(table::print_json(
                &json!({ "kind": value.kind().name(), "value": shown }),
            )?)
        }
        Ok(value) => {
            match &value {
                Value::Array(_) | Value::Object(_) => table::print_json(&value)?,
                Value::Null => line("null"),
                value => line(&value.to_text()),
            }
            Ok(())
        }
        Err(error) => {
            let mut failure = Failure::new(Kind::General, error.message.clone());
            if json {
                let kind = error.kind;
                table::print_json(&json!({ "error": { "kind": kind, "message": error.message } }))?;
                failure.rendered = Some(String::new());
            }
            Err(failure)
        }
    }
}

fn read_contexts(file: &Path) -> Outcome<Contexts> {
    let wrong = |what: String| Failure::new(Kind::General, format!("{}: {what}", file.display()));
    let size = std::fs::metadata(file)
        .map_err(|error| wrong(error.to_string()))?
        .len();
    if size > MAX_CONTEXTS_BYTES {
        return Err(wrong(format!(
            "it has {size} bytes, at most {MAX_CONTEXTS_BYTES}"
        )));
    }
    let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    match serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))? {
        serde_json::Value::Object(all) => {
            let all = all.into_iter();
            Ok(all.map(|(name, value)| (name, Value::from(value))).collect())
        }
        _ => Err(wrong("the contexts are not an object of names and values".into())),
    }
}

fn check(arguments: &Arguments, files: &[PathBuf], json: bool) -> Outcome {
    let (root, files) = if files.is_empty() {
        let application = Place::find(arguments)?.application;
        let files = workflows(&application)?;
        (application, files)
    } else {
        (std::env::current_dir()?, files.to_vec())
    };
    let mut found = Vec::new();
    let mut jobs = 0;
    for file in &files {
        let name = file.strip_prefix(&root).unwrap_or(file).display().to_string();
        let text = std::fs::read_to_string(file)
            .map_err(|error| Failure::new(Kind::Manifest, format!("{name}: {error}")))?;
        jobs += check_one(&repository_of(file, &root), &name, &text, &mut found);
    }
    let Some(diagnostics) = Diagnostics::new(found) else {
        if json {
            table::print_json(&json!({ "errors": [] }))?;
        } else if files.is_empty() {
            line(&format!("there is no workflow in {WORKFLOWS}"));
        } else {
            let plural = |count: usize| if count == 1 { "" } else { "s" };
            line(&format!(
                "{} workflow{} with {jobs} job{}: nothing to say",
                files.len(),
                plural(files.len()),
                plural(jobs)
            ));
        }
        return Ok(());
    };
    if json {
        table::print_json(&json!({ "errors": diagnostics.to_json() }))?;
    }
    let mut failure = Failure::diagnostics(&diagnostics);
    if json {
        failure.rendered = Some(String::new());
    }
    Err(failure)
}

/// The workflow files of an application, by name.
fn workflows(application: &Path) -> Outcome<Vec<PathBuf>> {
    let folder = application.join(WORKFLOWS);
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => {
            return Err(Failure::new(
                Kind::General,
                format!("{}: {error}", folder.display()),
            ));
        }
    };
    let mut files = Vec::new();
    for entry in entries.take(MAX_WORKFLOWS) {
        let path = entry?.path();
        let is_yaml = path
            .extension()
            .is_some_and(|extension| extension == "yml" || extension == "yaml");
        if is_yaml && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The folder that `./` means in a workflow: the one that holds `.github`.
fn repository_of(file: &Path, otherwise: &Path) -> PathBuf {
    let holds = file.ancestors().find(|folder| folder.ends_with(".github"));
    match holds.and_then(Path::parent) {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => otherwise.to_owned(),
    }
}

/// Checks one workflow with the local ones that it calls and the local actions that it uses. How many jobs it
/// has.
fn check_one(repository: &Path, name: &str, text: &str, found: &mut Vec<Diagnostic>) -> usize {
    let own: Arc<str> = text.into();
    let mut called: Vec<(String, Arc<str>)> = Vec::new();
    let mut find = |uses: &str| {
        let path = uses.strip_prefix("./")?;
        let text = std::fs::read_to_string(inside(repository, path)?).ok()?;
        called.push((path.to_owned(), text.as_str().into()));
        Some(text)
    };
    let options = Options::default();
    // What a workflow of another repository says cannot be known: such a call is refused, not followed.
    let unlinked = astraler_workflow::parse_with(name, text, &options);
    let calls_elsewhere = unlinked.as_ref().is_ok_and(|workflow| {
        let mut calls = workflow.jobs.iter().filter_map(|job| job.call.as_ref());
        calls.any(|call| !call.uses.starts_with("./"))
    });
    let workflow = if calls_elsewhere {
        unlinked
    } else {
        let permissions = DefaultPermissions::default();
        astraler_workflow::link(name, text, &options, permissions, &mut find)
    };
    let problems = match &workflow {
        Ok(workflow) => {
            let mut problems = astraler_workflow::refused(workflow);
            check_actions(repository, workflow, &mut problems);
            problems
        }
        Err(problems) => problems.clone(),
    };
    for problem in problems {
        let file = problem.file.as_deref().unwrap_or(name);
        let text = called
            .iter()
            .find(|(path, _)| path == file)
            .map_or(&own, |(_, text)| text);
        let place = problem.place.map_or((1, 1), |place| (place.line, place.column));
        found.push(Diagnostic::at(
            (file, text),
            place,
            "workflow",
            problem.message.clone(),
            problem.hint.clone(),
        ));
    }
    workflow.map_or(0, |workflow| workflow.jobs.len())
}

/// Local actions must be there, and of a kind that can be run.
fn check_actions(repository: &Path, workflow: &Workflow, problems: &mut Vec<astraler_workflow::Diagnostic>) {
    let mut seen = HashSet::new();
    for step in workflow.jobs.iter().flat_map(|job| &job.steps) {
        let StepAction::Uses { action, place, .. } = &step.action else {
            continue;
        };
        let Some(path) = action.strip_prefix("./") else {
            continue;
        };
        if !seen.insert(path) {
            continue;
        }
        let mut problem = |message: String, hint: Option<String>| {
            problems.push(astraler_workflow::Diagnostic {
                file: Some(workflow.file.clone()),
                place: Some(*place),
                message,
                hint,
            });
        };
        let text = ["action.yml", "action.yaml"].iter().find_map(|name| {
            let file = format!("{}/{name}", path.trim_end_matches('/'));
            let text = std::fs::read_to_string(inside(repository, &file)?).ok()?;
            Some((file, text))
        });
        let Some((file, text)) = text else {
            let hint = "an action that a step makes or checks out is found when it runs".to_owned();
            problem(format!("there is no action.yml in `{action}`"), Some(hint));
            continue;
        };
        match astraler_workflow::action::parse(&file, &text) {
            Ok(action) => {
                if let Runs::Docker { image } = action.runs {
                    problem(
                        format!(
                            "`{file}` runs in the container `{image}`, and there is no container runtime here"
                        ),
                        Some("make it a JavaScript or composite action".into()),
                    );
                }
            }
            Err(errors) => {
                for error in errors {
                    problem(error.to_string(), None);
                }
            }
        }
    }
}

/// A path within the repository; none where it leads out of it.
fn inside(repository: &Path, path: &str) -> Option<PathBuf> {
    let leads_out = Path::new(path).components().any(|part| {
        !matches!(
            part,
            std::path::Component::Normal(_) | std::path::Component::CurDir
        )
    });
    (!leads_out).then(|| repository.join(path))
}
