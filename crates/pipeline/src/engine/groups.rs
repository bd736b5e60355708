//! Concurrency between runs: the groups that their workflows name.

use super::contexts::{self, Github};
use crate::spec::RunSpec;
use astraler_workflow::Concurrency;
use astraler_workflow::expression::{Contexts, NoRun, Scope, Value};

/// The groups that the run's workflows are in. A workflow that is not right has none: it does not run.
pub fn concurrency(spec: &RunSpec) -> Vec<Concurrency> {
    let parsed = spec
        .workflows
        .iter()
        .filter_map(|file| astraler_workflow::parse(&file.path, &file.text).ok());
    let groups = parsed.filter_map(|workflow| {
        let template = workflow.concurrency.as_ref()?;
        let github = Github {
            workflow: workflow.name.as_deref().unwrap_or(&workflow.file),
            file: &workflow.file,
            job: "",
            workspace: "",
            action: "",
            action_path: None,
        };
        let mut known = Contexts::default();
        known.insert("github", contexts::github(spec, &github));
        known.insert("inputs", Value::Null);
        known.insert("vars", super::scope::object(&spec.vars.of(None)));
        let scope = Scope {
            contexts: &known,
            functions: &NoRun,
        };
        template.concurrency(&scope).ok()
    });
    groups.collect()
}
