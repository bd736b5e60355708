//! The workflow that deploys where none of the application's own does.

use astraler_model::Environment;
use astraler_pipeline::WorkflowFile;
use astraler_workflow::{Job, Node, Step, StepAction, Template, Workflow};

/// Its file: in no repository.
const PATH: &str = "astraler/deploy.yml";
/// What a step that deploys runs.
const DEPLOYING: [&str; 2] = ["astraler deploy", "astraler promote"];

/// How a job names an environment: every preview is `preview`.
pub(crate) fn name_in_workflows(environment: Environment) -> String {
    match environment {
        Environment::Preview(_) => "preview".to_owned(),
        other => other.to_string(),
    }
}

/// Whether a job's name of an environment means this one. Case does not count, as it does not for GitHub.
pub(crate) fn is_named(environment: Environment, name: &str) -> bool {
    [environment.to_string(), name_in_workflows(environment)]
        .iter()
        .any(|known| known.eq_ignore_ascii_case(name))
}

/// Deploys what the run has checked out. `astraler deploy` installs what pnpm locks, and only where it has to build. To
/// staging and production it goes when all other workflows have ended well.
pub(crate) fn deploy_workflow(environment: Environment, tree_has: &dyn Fn(&str) -> bool) -> WorkflowFile {
    let name = name_in_workflows(environment);
    let mut steps = vec!["- uses: actions/checkout@v4".to_owned()];
    if tree_has("pnpm-lock.yaml") {
        steps.push("- uses: actions/setup-node@v4\n        with: { cache: pnpm }".to_owned());
    } else if tree_has("package-lock.json") {
        steps.push("- run: npm ci".to_owned());
    }
    steps.push(format!("- run: astraler deploy --env {name}"));
    let steps = steps.join("\n      ");
    WorkflowFile {
        path: PATH.to_owned(),
        text: format!(
            "name: Deploy\non: [push, pull_request, workflow_dispatch]\njobs:\n  deploy:\n    runs-on: ubuntu-latest\n    \
             environment: {name}\n    steps:\n      {steps}\n"
        ),
        after: matches!(environment, Environment::Staging | Environment::Production),
    }
}

/// Whether a job of the workflow deploys to the environment, as far as its file tells: its `environment:` names it, and
/// a step runs `astraler deploy` or `astraler promote`. In an expression the name counts where it stands as a text.
pub(crate) fn deploys(workflow: &Workflow, environment: Environment) -> bool {
    let by_itself = |job: &Job| {
        let named = job
            .environment
            .as_ref()
            .is_some_and(|template| names(template, environment));
        named && job.steps.iter().any(is_deploying)
    };
    let by_call = |job: &Job| {
        let called = job.call.as_ref().and_then(|call| call.workflow.as_deref());
        called.is_some_and(|called| deploys(called, environment))
    };
    workflow.jobs.iter().any(|job| by_itself(job) || by_call(job))
}

fn names(template: &Template, environment: Environment) -> bool {
    match &template.node {
        Node::String(name) => is_named(environment, name),
        Node::Mapping(entries) => entries.iter().any(|(key, value)| {
            matches!(&key.node, Node::String(key) if key == "name") && names(value, environment)
        }),
        Node::Expression(expression) => {
            let mut known = vec![environment.to_string(), name_in_workflows(environment)];
            if matches!(environment, Environment::Preview(_)) {
                // `pr-${{ … }}`
                known.push("pr-{0}".to_owned());
            }
            let source = expression.source().to_ascii_lowercase();
            known.iter().any(|name| source.contains(&format!("'{name}'")))
        }
        _ => false,
    }
}

fn is_deploying(step: &Step) -> bool {
    let StepAction::Run { script, .. } = &step.action else {
        return false;
    };
    let text = match &script.node {
        Node::String(text) => text,
        Node::Expression(expression) => expression.source(),
        _ => return false,
    };
    DEPLOYING.iter().any(|words| text.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Workflow {
        astraler_workflow::parse("ci.yml", text).unwrap()
    }

    fn job(environment: &str, run: &str) -> Workflow {
        parsed(&format!(
            "on: push\njobs:\n  d:\n    runs-on: x\n    environment: {environment}\n    steps: [{{ run: {run} }}]\n"
        ))
    }

    #[test]
    fn what_is_appended_is_a_workflow_that_deploys() {
        let all = [
            Environment::Development,
            Environment::Preview(7),
            Environment::Staging,
            Environment::Production,
        ];
        for environment in all {
            for lock in ["pnpm-lock.yaml", "package-lock.json", "none"] {
                let file = deploy_workflow(environment, &|path| path == lock);
                let workflow = parsed(&file.text);
                assert!(astraler_workflow::refused(&workflow).is_empty());
                assert!(deploys(&workflow, environment), "{}", file.text);
                for other in all.iter().filter(|other| **other != environment) {
                    assert!(!deploys(&workflow, *other), "{}", file.text);
                }
                let waits = matches!(environment, Environment::Staging | Environment::Production);
                assert_eq!(file.after, waits);
                assert_eq!(file.text.contains("cache: pnpm"), lock == "pnpm-lock.yaml");
                assert_eq!(file.text.contains("npm ci"), lock == "package-lock.json");
            }
        }
    }

    #[test]
    fn a_job_deploys_by_its_environment_and_what_it_runs() {
        let staging = |environment: &str, run: &str| deploys(&job(environment, run), Environment::Staging);
        assert!(staging("staging", "astraler deploy --env staging"));
        assert!(staging("Staging", "astraler promote development staging"));
        assert!(staging(
            "{ name: staging, url: 'https://x' }",
            "'x && astraler deploy'"
        ));
        assert!(staging(
            "${{ github.ref == 'refs/heads/main' && 'production' || 'staging' }}",
            "'astraler deploy --env ${{ github.ref_name }}'"
        ));
        assert!(!staging("staging", "pnpm e2e"), "it looks, and does not deploy");
        assert!(!staging("production", "astraler deploy"));
        assert!(!staging("${{ inputs.where }}", "astraler deploy"));
        assert!(!deploys(
            &parsed("on: push\njobs:\n  d:\n    runs-on: x\n    steps: [{ run: astraler deploy }]\n"),
            Environment::Staging
        ));
    }

    #[test]
    fn previews_have_one_name_in_workflows_and_one_of_their_own() {
        let preview =
            |environment: &str| deploys(&job(environment, "astraler deploy"), Environment::Preview(7));
        assert!(preview("preview"));
        assert!(preview("pr-7"));
        assert!(preview("pr-${{ github.event.number }}"));
        assert!(!preview("pr-8"));
        assert!(!preview("staging"));
    }
}
