//! What GitHub runs and a runner without containers cannot: refused by name, before anything runs.

use crate::diagnostic::{Diagnostic, Place};
use crate::model::{Job, StepAction, Workflow};

/// Everything in a workflow that needs what is not there, with what to do instead.
pub fn refused(workflow: &Workflow) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for job in &workflow.jobs {
        job_parts(workflow, job, &mut found);
        for step in &job.steps {
            if let StepAction::Uses { action, place, .. } = &step.action
                && action.starts_with("docker://")
            {
                found.push(refusal(
                    workflow,
                    *place,
                    format!("`{action}` runs in a container, and there is no container runtime here"),
                    "run the tool in a `run` step, or use a JavaScript or composite action",
                ));
            }
        }
        if let Some(call) = &job.call
            && !call.uses.starts_with("./")
        {
            found.push(refusal(
                workflow,
                call.place,
                format!("`{}` is a workflow of another repository", call.uses),
                "copy it to .github/workflows and call it as `./.github/workflows/FILE`",
            ));
        }
    }
    found
}

fn job_parts(workflow: &Workflow, job: &Job, found: &mut Vec<Diagnostic>) {
    let parts = [
        (
            "container",
            &job.container,
            "jobs run in a sandbox of their own: leave it out, and name tools in steps",
        ),
        (
            "services",
            &job.services,
            "use the environment's own PostgreSQL, Redis and object storage",
        ),
        (
            "snapshot",
            &job.snapshot,
            "images of runners are GitHub's: leave it out",
        ),
    ];
    for (name, value, hint) in parts {
        if let Some(value) = value {
            let message = format!("`{name}` of the job `{}` is not supported", job.id);
            found.push(refusal(workflow, value.place, message, hint));
        }
    }
}

fn refusal(workflow: &Workflow, place: Place, message: String, hint: &str) -> Diagnostic {
    Diagnostic {
        file: Some(workflow.file.clone()),
        place: Some(place),
        message,
        hint: Some(hint.to_owned()),
    }
}
