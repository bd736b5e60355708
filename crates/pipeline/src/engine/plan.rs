//! What a run would use, looked at before anything runs.

use super::PipelineError;
use crate::git;
use crate::spec::{Source, WorkflowFile};
use astraler_workflow::{
    Action, DefaultPermissions, Diagnostic, Job, Node, Options, Place, Runs, Step, StepAction, Template,
    Workflow, action, link, refused,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Composite actions in composite actions.
const MAX_DEPTH: usize = 9;
/// Actions that are built in.
const NATIVE: [(&str, Native); 10] = [
    ("actions/checkout", Native::Checkout),
    ("actions/setup-node", Native::SetupNode),
    ("pnpm/action-setup", Native::SetupPnpm),
    ("actions/cache", Native::Cache),
    ("actions/cache/restore", Native::CacheRestore),
    ("actions/cache/save", Native::CacheSave),
    ("actions/upload-artifact", Native::UploadArtifact),
    ("actions/download-artifact", Native::DownloadArtifact),
    ("codecov/codecov-action", Native::Codecov),
    ("actions/upload-artifact/merge", Native::MergeArtifact),
];

/// An action that is built in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Native {
    Checkout,
    SetupNode,
    SetupPnpm,
    Cache,
    CacheRestore,
    CacheSave,
    UploadArtifact,
    DownloadArtifact,
    Codecov,
    /// Known, so that it can be refused by its own name.
    MergeArtifact,
}

/// The action that is built in under this name, whatever its version.
pub(crate) fn native(uses: &str) -> Option<Native> {
    let name = uses.split('@').next().unwrap_or(uses).trim_end_matches('/');
    let found = NATIVE.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    found
        .map(|(_, native)| *native)
        .filter(|native| *native != Native::MergeArtifact)
}

/// Workflows that can run.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) workflows: Vec<Arc<Workflow>>,
    /// Local actions by their path in the tree, as `uses` names them.
    pub(crate) actions: BTreeMap<String, Arc<Action>>,
    /// Ids of the jobs that run, in lower case, by file; a file that is not here runs whole.
    pub(crate) selected: BTreeMap<String, BTreeSet<String>>,
    /// Files whose workflows begin when the others have ended.
    pub(crate) after: BTreeSet<String>,
}

impl Plan {
    pub(crate) fn new(
        files: &[WorkflowFile],
        source: &Source,
        jobs: &[String],
    ) -> Result<Self, PipelineError> {
        if files.is_empty() {
            return Err(PipelineError::NoWorkflow);
        }
        let mut problems = Vec::new();
        let mut workflows = Vec::new();
        for file in files {
            let mut find = |uses: &str| {
                let path = uses.strip_prefix("./")?;
                git::file(source, path).ok().flatten()
            };
            // What a workflow of another repository says cannot be known: the call is refused, not followed.
            let unlinked = astraler_workflow::parse(&file.path, &file.text);
            let elsewhere = unlinked.as_ref().is_ok_and(|workflow| {
                let mut calls = workflow.jobs.iter().filter_map(|job| job.call.as_ref());
                calls.any(|call| !call.uses.starts_with("./"))
            });
            let read = if elsewhere {
                unlinked
            } else {
                let permissions = DefaultPermissions::default();
                link(
                    &file.path,
                    &file.text,
                    &Options::default(),
                    permissions,
                    &mut find,
                )
            };
            match read {
                Ok(workflow) => workflows.push(workflow),
                Err(found) => problems.extend(found),
            }
        }
        if !problems.is_empty() {
            return Err(PipelineError::Workflows(problems));
        }
        let selected = select(&mut workflows, jobs)?;
        let mut checker = Checker {
            source,
            actions: BTreeMap::new(),
            problems,
        };
        for workflow in &workflows {
            checker.workflow(workflow, selected.get(&workflow.file))?;
        }
        if !checker.problems.is_empty() {
            return Err(PipelineError::Workflows(checker.problems));
        }
        Ok(Self {
            actions: checker.actions,
            workflows: workflows.into_iter().map(Arc::new).collect(),
            selected,
            after: files
                .iter()
                .filter(|file| file.after)
                .map(|file| file.path.clone())
                .collect(),
        })
    }

    /// Whether a job of a workflow is part of the run.
    pub(crate) fn runs(&self, workflow: &Workflow, job: &Job) -> bool {
        let selected = self.selected.get(&workflow.file);
        selected.is_none_or(|ids| ids.contains(&job.id.to_ascii_lowercase()))
    }
}

/// The jobs that were asked for and those that they need; workflows that have none of them go.
fn select(
    workflows: &mut Vec<Workflow>,
    jobs: &[String],
) -> Result<BTreeMap<String, BTreeSet<String>>, PipelineError> {
    let mut selected: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    if jobs.is_empty() {
        return Ok(selected);
    }
    for wanted in jobs {
        let mut found = false;
        for workflow in workflows.iter() {
            let Some(job) = workflow.job(wanted) else { continue };
            found = true;
            let all = selected.entry(workflow.file.clone()).or_default();
            let mut queue = vec![job];
            while let Some(job) = queue.pop() {
                if all.insert(job.id.to_ascii_lowercase()) {
                    queue.extend(job.needs.iter().filter_map(|need| workflow.job(&need.job)));
                }
            }
        }
        if !found {
            let known = workflows.iter().flat_map(|workflow| &workflow.jobs);
            let known: Vec<&str> = known.map(|job| job.id.as_str()).collect();
            return Err(PipelineError::NoSuchJob {
                job: wanted.clone(),
                known: known.join(", "),
            });
        }
    }
    workflows.retain(|workflow| selected.contains_key(&workflow.file));
    Ok(selected)
}

struct Checker<'a> {
    source: &'a Source,
    actions: BTreeMap<String, Arc<Action>>,
    problems: Vec<Diagnostic>,
}

impl Checker<'_> {
    fn workflow(
        &mut self,
        workflow: &Workflow,
        selected: Option<&BTreeSet<String>>,
    ) -> Result<(), PipelineError> {
        let file = &workflow.file;
        // What is refused of a job that does not run is nobody's concern.
        let mut running = workflow.clone();
        running
            .jobs
            .retain(|job| selected.is_none_or(|ids| ids.contains(&job.id.to_ascii_lowercase())));
        self.problems.extend(refused(&running));
        for job in &workflow.jobs {
            if selected.is_some_and(|ids| !ids.contains(&job.id.to_ascii_lowercase())) {
                continue;
            }
            if let Some(label) = job.runs_on.as_ref().and_then(foreign_system) {
                self.refuse(
                    file,
                    label.place,
                    format!(
                        "jobs run on this machine, which is Linux: `runs-on: {}` is not",
                        text(label)
                    ),
                    "name a Linux runner, such as ubuntu-latest",
                );
            }
            if let Some(workflow) = job.call.as_ref().and_then(|call| call.workflow.as_ref()) {
                self.workflow(workflow, None)?;
            }
            self.steps(file, &job.steps, 0)?;
        }
        Ok(())
    }

    fn steps(&mut self, file: &str, steps: &[Step], depth: usize) -> Result<(), PipelineError> {
        for step in steps {
            if let StepAction::Uses { action, place, .. } = &step.action {
                self.action(file, action, *place, depth)?;
            }
        }
        Ok(())
    }

    fn action(&mut self, file: &str, uses: &str, place: Place, depth: usize) -> Result<(), PipelineError> {
        if uses.starts_with("docker://") {
            return Ok(());
        }
        let Some(path) = uses.strip_prefix("./") else {
            if native(uses).is_none() {
                let known: Vec<&str> = NATIVE
                    .iter()
                    .take(NATIVE.len() - 1)
                    .map(|(name, _)| *name)
                    .collect();
                self.refuse(
                    file,
                    place,
                    format!("the action `{uses}` is not supported"),
                    &format!(
                        "built in are {}; put what it does into `run` steps, or into an action of your own (`uses: ./path`)",
                        known.join(", ")
                    ),
                );
            }
            return Ok(());
        };
        if self.actions.contains_key(uses) {
            return Ok(());
        }
        if depth >= MAX_DEPTH {
            let message = format!("actions use actions more than {MAX_DEPTH} deep");
            self.refuse(file, place, message, "does one of them use itself?");
            return Ok(());
        }
        let folder = crate::glob::segments(path).join("/");
        let prefix = if folder.is_empty() {
            String::new()
        } else {
            format!("{folder}/")
        };
        for name in ["action.yml", "action.yaml"] {
            let path = format!("{prefix}{name}");
            let Some(text) = git::file(self.source, &path)? else {
                continue;
            };
            let action = match action::parse(&path, &text) {
                Ok(action) => action,
                Err(problems) => {
                    self.problems.extend(problems);
                    return Ok(());
                }
            };
            let Runs::Composite { steps } = &action.runs else {
                let kind = match &action.runs {
                    Runs::Node { version, .. } => format!("JavaScript (node{version})"),
                    _ => "a container".to_owned(),
                };
                self.refuse(
                    file,
                    place,
                    format!("the action `{uses}` is {kind}, which is not supported"),
                    "composite actions are",
                );
                return Ok(());
            };
            let (steps, file) = (steps.clone(), action.file.clone());
            self.actions.insert(uses.to_owned(), Arc::new(action));
            return self.steps(&file, &steps, depth + 1);
        }
        self.refuse(
            file,
            place,
            format!("there is no action.yml in `{uses}`"),
            "local actions are those of the commit that runs",
        );
        Ok(())
    }

    fn refuse(&mut self, file: &str, place: Place, message: String, hint: &str) {
        self.problems.push(Diagnostic {
            file: Some(file.to_owned()),
            place: Some(place),
            message,
            hint: Some(hint.to_owned()),
        });
    }
}

/// A label of another system, where it can be known already.
fn foreign_system(runs_on: &Template) -> Option<&Template> {
    match &runs_on.node {
        Node::String(label) => {
            let label = label.to_ascii_lowercase();
            (label.starts_with("windows") || label.starts_with("macos")).then_some(runs_on)
        }
        Node::Sequence(items) => items.iter().find_map(foreign_system),
        _ => None,
    }
}

fn text(template: &Template) -> &str {
    match &template.node {
        Node::String(text) => text,
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_known_by_name_whatever_their_version() {
        assert_eq!(native("actions/checkout@v4"), Some(Native::Checkout));
        assert_eq!(
            native("Actions/Cache/Restore@0123456789abcdef0123456789abcdef01234567"),
            Some(Native::CacheRestore)
        );
        assert_eq!(native("actions/upload-artifact/merge@v4"), None);
        assert_eq!(native("evil/checkout@v4"), None);
    }
}
