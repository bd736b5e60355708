//! A workflow as it stands in its file: every value that may hold `${{ }}` is still a template.

use crate::diagnostic::Place;
use crate::expression::Expression;
use crate::template::Template;
use serde::Serialize;
use std::fmt;

/// A workflow file.
#[derive(Debug, Clone)]
pub struct Workflow {
    /// The file, as the caller named it.
    pub file: String,
    /// Name of the workflow; none means that its path is its name.
    pub name: Option<String>,
    /// Name of a run.
    pub run_name: Option<Template>,
    /// What starts it.
    pub on: Triggers,
    /// Variables of every job: [`Template::string_map`].
    pub env: Option<Template>,
    /// `defaults.run`: [`Template::run_defaults`].
    pub defaults: Option<Template>,
    /// [`Template::concurrency`].
    pub concurrency: Option<Template>,
    /// What the token of a job may do, where the job says nothing.
    pub permissions: Option<Permissions>,
    /// In the order of the file. Never empty; ids are unique without regard to case.
    pub jobs: Vec<Job>,
}

/// A job: steps, or a call of another workflow.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its key.
    pub id: String,
    /// Of its key.
    pub place: Place,
    /// The id where the file gives none.
    pub name: Template,
    /// Jobs that end before this one begins.
    pub needs: Vec<Need>,
    /// `if`; `success()` where the file gives none.
    pub condition: Condition,
    /// Of the file, or of the workflow where the job says nothing.
    pub permissions: Option<Permissions>,
    /// [`Template::concurrency`].
    pub concurrency: Option<Template>,
    /// [`crate::matrix::expand`].
    pub strategy: Option<Template>,
    /// [`Template::runs_on`]; none in a call.
    pub runs_on: Option<Template>,
    /// [`Template::environment`].
    pub environment: Option<Template>,
    /// [`Template::string_map`].
    pub env: Option<Template>,
    /// [`Template::run_defaults`].
    pub defaults: Option<Template>,
    /// Name → expression: [`Template::string_map`] after the last step.
    pub outputs: Option<Template>,
    /// A number.
    pub timeout_minutes: Option<Template>,
    /// A number: how long a cancelled job may clean up.
    pub cancel_timeout_minutes: Option<Template>,
    /// A boolean.
    pub continue_on_error: Option<Template>,
    /// Kept so that it can be refused by its name.
    pub container: Option<Template>,
    /// Kept so that they can be refused by their name.
    pub services: Option<Template>,
    /// Kept so that it can be refused by its name.
    pub snapshot: Option<Template>,
    /// The workflow that this job calls, instead of steps.
    pub call: Option<Call>,
    /// Empty in a call.
    pub steps: Vec<Step>,
}

/// An entry of `needs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// Id of a job of this workflow.
    pub job: String,
    /// Where it stands.
    pub place: Place,
}

/// `uses`, `with` and `secrets` of a job.
#[derive(Debug, Clone)]
pub struct Call {
    /// `./.github/workflows/FILE`, or `OWNER/REPOSITORY/.github/workflows/FILE@REF`.
    pub uses: String,
    /// Of `uses`.
    pub place: Place,
    /// Input → value.
    pub with: Option<Template>,
    /// Secret → value.
    pub secrets: Option<Template>,
    /// `secrets: inherit`.
    pub inherit_secrets: bool,
    /// The workflow that is called, where [`crate::link()`] found it.
    pub workflow: Option<Box<Workflow>>,
}

/// A step.
#[derive(Debug, Clone)]
pub struct Step {
    /// Of the file, or made as GitHub makes it: `__run`, `__actions_checkout`, `__run_2`.
    pub id: String,
    /// Of the step.
    pub place: Place,
    /// None: the caller shows what it does.
    pub name: Option<Template>,
    /// `if`; `success()` where the file gives none.
    pub condition: Condition,
    /// What it does.
    pub action: StepAction,
    /// [`Template::string_map`].
    pub env: Option<Template>,
    /// A boolean.
    pub continue_on_error: Option<Template>,
    /// A number.
    pub timeout_minutes: Option<Template>,
}

/// What a step does.
#[derive(Debug, Clone)]
pub enum StepAction {
    /// Runs a script.
    Run {
        /// The script.
        script: Template,
        /// Which shell.
        shell: Option<Template>,
        /// Where.
        working_directory: Option<Template>,
    },
    /// Uses an action.
    Uses {
        /// `OWNER/REPOSITORY[/PATH]@REF`, `./PATH` or `docker://IMAGE`.
        action: String,
        /// Of `uses`.
        place: Place,
        /// Input → value: [`Template::string_map`].
        with: Option<Template>,
    },
}

/// `if`, complete: `success() && (…)` where no status function is named in it.
#[derive(Debug, Clone)]
pub struct Condition {
    /// None where the file gives no `if`.
    pub place: Option<Place>,
    /// What is evaluated; its value counts as true or false ([`crate::expression::Value::is_truthy`]).
    pub expression: Expression,
}

/// What starts a workflow: see [`crate::trigger`].
#[derive(Debug, Clone, Default)]
pub struct Triggers {
    /// In the order of the file.
    pub events: Vec<EventTrigger>,
}

impl Triggers {
    /// What is said of an event.
    pub fn event(&self, name: &str) -> Option<&EventTrigger> {
        self.events.iter().find(|event| event.name == name)
    }
}

/// One event that starts a workflow, and what must hold for it. None: the file does not say; an empty list: it
/// says that there is none.
#[derive(Debug, Clone)]
pub struct EventTrigger {
    /// `push`, `pull_request`…
    pub name: String,
    /// Where it stands.
    pub place: Place,
    /// Of activity; none means the event's defaults.
    pub types: Option<Vec<String>>,
    /// Patterns.
    pub branches: Option<Vec<String>>,
    /// Patterns.
    pub branches_ignore: Option<Vec<String>>,
    /// Patterns.
    pub tags: Option<Vec<String>>,
    /// Patterns.
    pub tags_ignore: Option<Vec<String>>,
    /// Patterns.
    pub paths: Option<Vec<String>>,
    /// Patterns.
    pub paths_ignore: Option<Vec<String>>,
    /// Of `workflow_run`: names.
    pub workflows: Option<Vec<String>>,
    /// Of `image_version`: names of images.
    pub names: Option<Vec<String>>,
    /// Of `image_version`: patterns of versions.
    pub versions: Option<Vec<String>>,
    /// Of `schedule`: POSIX cron, in UTC unless a time zone is given.
    pub schedules: Vec<Schedule>,
    /// Of `workflow_dispatch` and `workflow_call`.
    pub inputs: Vec<Input>,
    /// Of `workflow_call`: name, and whether it is required.
    pub secrets: Vec<SecretInput>,
    /// Of `workflow_call`: name → expression.
    pub outputs: Vec<(String, Template)>,
    /// Of `workflow_call`: its interface as it stands in the file.
    pub definitions: Definitions,
}

/// The interface of a workflow that others call, as it stands in the file.
#[derive(Debug, Clone, Default)]
pub struct Definitions {
    /// `inputs`.
    pub inputs: Option<Template>,
    /// `secrets`.
    pub secrets: Option<Template>,
    /// `outputs`.
    pub outputs: Option<Template>,
}

/// An entry of `schedule`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// Five fields.
    pub cron: String,
    /// IANA name.
    pub timezone: Option<String>,
    /// Where it stands.
    pub place: Place,
}

/// An input of `workflow_dispatch` or `workflow_call`.
#[derive(Debug, Clone)]
pub struct Input {
    /// Its key.
    pub name: String,
    /// Of its key.
    pub place: Place,
    /// What a person reads.
    pub description: Option<String>,
    /// What its value is.
    pub kind: InputKind,
    /// Whether a caller must give it.
    pub required: bool,
    /// What it is otherwise.
    pub default: Option<Template>,
    /// Of a choice.
    pub options: Vec<String>,
}

/// What the value of an input is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum InputKind {
    /// Any text.
    String,
    /// `true` or `false`.
    Boolean,
    /// A number.
    Number,
    /// One of the options.
    Choice,
    /// Name of an environment.
    Environment,
}

/// A secret that `workflow_call` takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretInput {
    /// Its key.
    pub name: String,
    /// Whether a caller must give it.
    pub required: bool,
}

/// What the token of a job may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Permissions {
    /// `read-all`, `write-all`.
    All(Access),
    /// What is not named is [`Access::None`].
    Each(Vec<(String, Access)>),
}

/// What may be done with one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Nothing.
    None,
    /// Read.
    Read,
    /// Read and write.
    Write,
}

impl Permissions {
    /// What may be done with `contents`, `packages`…
    pub fn access(&self, to: &str) -> Access {
        match self {
            Self::All(access) => *access,
            Self::Each(all) => {
                let found = all.iter().find(|(name, _)| name == to);
                found.map_or(Access::None, |(_, access)| *access)
            }
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Read => "read",
            Self::Write => "write",
        })
    }
}

impl Workflow {
    /// A job by its id, without regard to case.
    pub fn job(&self, id: &str) -> Option<&Job> {
        self.jobs.iter().find(|job| job.id.eq_ignore_ascii_case(id))
    }
}
