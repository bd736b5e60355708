//! Workflows that call workflows: what is given against what is asked for, and what each may do.

use crate::diagnostic::{Diagnostic, Place};
use crate::expression::upper;
use crate::file::{Budget, Options, check_call_value, count_jobs, read};
use crate::model::{Access, EventTrigger, Job, Permissions, Workflow};
use crate::template::{Node, Template};

/// Longest message, in characters.
const MAX_LISTED: usize = 17;
/// All that a token may be for, in GitHub's order. `read-all` and `write-all` mean the first thirteen.
const PERMISSIONS: [&str; MAX_LISTED] = [
    "actions",
    "checks",
    "contents",
    "deployments",
    "discussions",
    "issues",
    "packages",
    "pages",
    "pull-requests",
    "repository-projects",
    "statuses",
    "security-events",
    "id-token",
    "artifact-metadata",
    "attestations",
    "models",
    "vulnerability-alerts",
];
const ALL: usize = 13;

/// What a token may do where no file says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DefaultPermissions {
    /// Reading contents and packages.
    LimitedRead,
    /// Everything.
    #[default]
    Write,
}

/// Gives the text of a called workflow, by what stands in `uses`; none where it is not there.
pub type Find<'a> = dyn FnMut(&str) -> Option<String> + 'a;

/// Reads a workflow and all that it calls: [`crate::Call::workflow`] is set where there is a call. What a called
/// workflow asks for and may do is checked against its caller.
pub fn link(
    file: &str,
    text: &str,
    options: &Options,
    permissions: DefaultPermissions,
    find: &mut Find<'_>,
) -> Result<Workflow, Vec<Diagnostic>> {
    let mut budget = Budget::new(options);
    let mut workflow = read(file, text, options, &mut budget)?;
    workflow.propagate_permissions();
    let mut linker = Linker {
        options,
        permissions,
        find,
        budget,
        problems: vec![],
    };
    let file = workflow.file.clone();
    for job in workflow.jobs.iter_mut().filter(|job| job.call.is_some()) {
        linker.load(&file, job, 1);
        if !linker.problems.is_empty() {
            return Err(linker.problems);
        }
    }
    count_jobs(&workflow, options)?;
    Ok(workflow)
}

struct Linker<'a, 'b> {
    options: &'a Options,
    permissions: DefaultPermissions,
    find: &'a mut Find<'b>,
    budget: Budget,
    problems: Vec<Diagnostic>,
}

impl Linker<'_, '_> {
    fn load(&mut self, caller: &str, job: &mut Job, depth: usize) {
        if depth > self.options.max_calls {
            let limit = self.options.max_calls;
            self.problems.push(Diagnostic {
                file: None,
                place: None,
                message: format!("Nested reusable workflow depth exceeded {limit}."),
                hint: None,
            });
            return;
        }
        let Some(mut workflow) = self.read(caller, job) else {
            return;
        };
        for nested in workflow.jobs.iter_mut().filter(|job| job.call.is_some()) {
            self.load(&workflow.file, nested, depth + 1);
            if !self.problems.is_empty() {
                return;
            }
        }
        if let Some(call) = &mut job.call {
            call.workflow = Some(Box::new(workflow));
        }
    }

    /// Reads and checks one called workflow. Problems of the called file say who called it.
    fn read(&mut self, caller: &str, job: &mut Job) -> Option<Workflow> {
        let call = job.call.as_ref()?;
        let (uses, place) = (call.uses.clone(), call.place);
        let Some(text) = (self.find)(&uses) else {
            self.problem(caller, place, format!("The workflow '{uses}' was not found."));
            return None;
        };
        let file = uses.strip_prefix("./").unwrap_or(&uses).to_owned();
        match read(&file, &text, self.options, &mut self.budget) {
            Ok(mut workflow) => {
                self.check_call(caller, job, &workflow);
                self.check_permissions(caller, job, &mut workflow);
                self.problems.is_empty().then_some(workflow)
            }
            Err(problems) => {
                let prefix = format!(
                    "In {caller} (Line: {}, Col: {}): Error from called workflow ",
                    place.line, place.column
                );
                self.problems
                    .extend(problems.into_iter().map(|problem| Diagnostic {
                        message: format!("{prefix}{problem}"),
                        file: None,
                        ..problem
                    }));
                None
            }
        }
    }

    fn problem(&mut self, file: &str, place: Place, message: String) {
        self.problems.push(Diagnostic {
            file: Some(file.to_owned()),
            place: Some(place),
            message,
            hint: None,
        });
    }

    fn check_call(&mut self, caller: &str, job: &Job, workflow: &Workflow) {
        let Some(call) = &job.call else { return };
        let Some(event) = workflow.on.event("workflow_call") else {
            self.problem(
                caller,
                call.place,
                "workflow_call key is not defined in the referenced workflow.".into(),
            );
            return;
        };
        let mut found = Vec::new();
        let with = entries(call.with.as_ref());
        for input in &event.inputs {
            if let Some(default) = &input.default {
                check_call_value(&workflow.file, default, input.kind, &mut found);
            }
            match given(with, &input.name) {
                Some(value) => check_call_value(caller, value, input.kind, &mut found),
                None if input.required => found.push(problem(
                    caller,
                    call.place,
                    format!(
                        "Input {} is required, but not provided while calling.",
                        input.name
                    ),
                )),
                None => {}
            }
        }
        undefined(
            caller,
            with,
            "input",
            |name| event.inputs.iter().any(|input| same(&input.name, name)),
            &mut found,
        );
        if !call.inherit_secrets {
            check_secrets(
                caller,
                call.place,
                entries(call.secrets.as_ref()),
                event,
                &mut found,
            );
        }
        self.problems.extend(found);
    }

    /// A called workflow may do no more than its caller lets it.
    fn check_permissions(&mut self, caller: &str, job: &mut Job, workflow: &mut Workflow) {
        let allowed = job.permissions.clone();
        let mut found = Vec::new();
        let mut check = |requested: &Permissions, who: String| {
            let violations = self.violations(requested, allowed.as_ref());
            if violations.is_empty() {
                return;
            }
            let list = |pick: fn(&(&str, Access, Access)) -> (String, Access)| {
                let all = violations.iter().map(pick);
                all.map(|(name, access)| format!("{name}: {access}"))
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            let uses = job
                .call
                .as_ref()
                .map(|call| call.uses.as_str())
                .unwrap_or_default();
            found.push(problem(
                caller,
                job.place,
                format!(
                    "Error calling workflow '{uses}'. The {who} is requesting '{}', but is only allowed '{}'.",
                    list(|(name, requested, _)| ((*name).to_owned(), *requested)),
                    list(|(name, _, allowed)| ((*name).to_owned(), *allowed)),
                ),
            ));
        };
        if let Some(requested) = &workflow.permissions {
            let uses = job
                .call
                .as_ref()
                .map(|call| call.uses.as_str())
                .unwrap_or_default();
            check(requested, format!("workflow '{uses}'"));
        }
        for nested in &workflow.jobs {
            if let Some(requested) = &nested.permissions {
                check(requested, format!("nested job '{}'", nested.name.to_plain_text()));
            }
        }
        self.problems.extend(found);
        if workflow.permissions.is_some() {
            job.permissions.clone_from(&workflow.permissions);
        }
        for nested in workflow
            .jobs
            .iter_mut()
            .filter(|nested| nested.permissions.is_none())
        {
            nested.permissions.clone_from(&job.permissions);
        }
    }

    /// What is asked for beyond what is allowed: name, requested, allowed.
    fn violations(
        &self,
        requested: &Permissions,
        allowed: Option<&Permissions>,
    ) -> Vec<(&'static str, Access, Access)> {
        let default = match self.permissions {
            DefaultPermissions::Write => Permissions::All(Access::Write),
            DefaultPermissions::LimitedRead => Permissions::Each(vec![
                ("contents".into(), Access::Read),
                ("packages".into(), Access::Read),
            ]),
        };
        let allowed = allowed.unwrap_or(&default);
        let access = |permissions: &Permissions, index: usize| match permissions {
            Permissions::All(_) if index >= ALL => None,
            permissions => Some(permissions.access(PERMISSIONS[index])),
        };
        let all = (0..PERMISSIONS.len()).filter_map(|index| {
            let requested = access(requested, index)?;
            let allowed = access(allowed, index).unwrap_or(requested);
            (requested > allowed).then_some((PERMISSIONS[index], requested, allowed))
        });
        all.collect()
    }
}

fn check_secrets(
    caller: &str,
    place: Place,
    given_secrets: &[(Template, Template)],
    event: &EventTrigger,
    found: &mut Vec<Diagnostic>,
) {
    for secret in event.secrets.iter().filter(|secret| secret.required) {
        if given(given_secrets, &secret.name).is_none() {
            found.push(problem(
                caller,
                place,
                format!(
                    "Secret {} is required, but not provided while calling.",
                    secret.name
                ),
            ));
        }
    }
    let known = |name: &str| event.secrets.iter().any(|secret| same(&secret.name, name));
    undefined(caller, given_secrets, "secret", known, found);
}

fn undefined(
    caller: &str,
    entries: &[(Template, Template)],
    what: &str,
    known: impl Fn(&str) -> bool,
    found: &mut Vec<Diagnostic>,
) {
    for (name, value) in entries {
        let name = name.to_plain_text();
        if !known(&name) {
            let message = format!("Invalid {what}, {name} is not defined in the referenced workflow.");
            found.push(problem(caller, value.place, message));
        }
    }
}

fn problem(file: &str, place: Place, message: String) -> Diagnostic {
    Diagnostic {
        file: Some(file.to_owned()),
        place: Some(place),
        message,
        hint: None,
    }
}

fn entries(template: Option<&Template>) -> &[(Template, Template)] {
    match template.map(|template| &template.node) {
        Some(Node::Mapping(entries)) => entries,
        _ => &[],
    }
}

fn given<'a>(entries: &'a [(Template, Template)], name: &str) -> Option<&'a Template> {
    let found = entries.iter().find(|(key, _)| same(&key.to_plain_text(), name));
    found.map(|(_, value)| value)
}

fn same(left: &str, right: &str) -> bool {
    upper(left) == upper(right)
}
