//! What may stand where in a workflow file, and which names its expressions may use.
//!
//! The shapes, contexts and functions are those that GitHub publishes for its workflow syntax:
//! <https://docs.github.com/actions/reference/workflows-and-actions/workflow-syntax>.

/// Names of contexts and functions that expressions may use.
pub(super) type Context = &'static [&'static str];

/// What a value may be.
pub(crate) struct Definition {
    /// Names that expressions may use here and below, beside those from above.
    pub(super) context: Context,
    pub(super) kind: Kind,
}

pub(super) enum Kind {
    Null,
    Boolean,
    Number,
    Text(Text),
    Sequence(&'static Definition),
    Mapping(Mapping),
    OneOf(&'static [&'static Definition]),
    Words(&'static [&'static str]),
}

#[derive(Clone, Copy)]
pub(super) enum Text {
    Any,
    NonEmpty,
    Constant(&'static str),
}

#[derive(Clone, Copy)]
pub(super) struct Mapping {
    pub(super) properties: &'static [Property],
    /// What other keys and their values may be.
    pub(super) loose: Option<(&'static Definition, &'static Definition)>,
}

pub(super) struct Property {
    pub(super) name: &'static str,
    pub(super) value: &'static Definition,
    pub(super) required: bool,
}

impl Definition {
    /// The simple alternatives that it stands for, in order.
    pub(super) fn alternatives(&'static self) -> Vec<&'static Kind> {
        match &self.kind {
            Kind::OneOf(all) => all.iter().flat_map(|nested| nested.alternatives()).collect(),
            kind => vec![kind],
        }
    }
}

pub(super) const fn define(context: Context, kind: Kind) -> Definition {
    Definition { context, kind }
}
pub(super) const fn plain(kind: Kind) -> Definition {
    define(&[], kind)
}
pub(super) const fn properties(properties: &'static [Property]) -> Kind {
    Kind::Mapping(Mapping {
        properties,
        loose: None,
    })
}
pub(super) const fn loose(key: &'static Definition, value: &'static Definition) -> Kind {
    Kind::Mapping(Mapping {
        properties: &[],
        loose: Some((key, value)),
    })
}
pub(super) const fn may(name: &'static str, value: &'static Definition) -> Property {
    Property {
        name,
        value,
        required: false,
    }
}
pub(super) const fn must(name: &'static str, value: &'static Definition) -> Property {
    Property {
        name,
        value,
        required: true,
    }
}
const fn word(word: &'static str) -> Definition {
    plain(Kind::Text(Text::Constant(word)))
}

const RUN: Context = &["github", "inputs", "vars"];
const NEEDS: Context = &["github", "inputs", "vars", "needs"];
const STRATEGY_NAMES: Context = &["github", "inputs", "vars", "needs", "strategy", "matrix"];
const JOB_SECRETS: Context = &[
    "github", "inputs", "vars", "needs", "strategy", "matrix", "secrets",
];
const RUNNER: Context = &[
    "github", "inputs", "vars", "needs", "strategy", "matrix", "secrets", "steps", "job", "runner", "env",
];
const RUNNER_WITHOUT_SECRETS: Context = &[
    "github", "inputs", "vars", "needs", "strategy", "matrix", "steps", "job", "runner", "env",
];
const STEP: Context = &[
    "github",
    "inputs",
    "vars",
    "needs",
    "strategy",
    "matrix",
    "secrets",
    "steps",
    "job",
    "runner",
    "env",
    "hashFiles(1,255)",
];
/// Names within `if` of a job.
pub(super) const JOB_IF_NAMES: Context = &[
    "github",
    "inputs",
    "vars",
    "needs",
    "always(0,0)",
    "failure(0,MAX)",
    "cancelled(0,0)",
    "success(0,MAX)",
];
/// Names within `if` of a step.
pub(super) const STEP_IF_NAMES: Context = &[
    "github",
    "inputs",
    "vars",
    "needs",
    "strategy",
    "matrix",
    "steps",
    "job",
    "runner",
    "env",
    "always(0,0)",
    "failure(0,0)",
    "cancelled(0,0)",
    "success(0,0)",
    "hashFiles(1,255)",
];

static NULL: Definition = plain(Kind::Null);
static BOOLEAN: Definition = plain(Kind::Boolean);
static NUMBER: Definition = plain(Kind::Number);
static STRING: Definition = plain(Kind::Text(Text::Any));
static NON_EMPTY: Definition = plain(Kind::Text(Text::NonEmpty));
static SEQUENCE: Definition = plain(Kind::Sequence(&ANY));
static MAPPING: Definition = plain(loose(&STRING, &ANY));
/// Anything at all.
pub(super) static ANY: Definition = plain(Kind::OneOf(&[
    &NULL, &BOOLEAN, &NUMBER, &STRING, &SEQUENCE, &MAPPING,
]));
static NON_EMPTY_LIST: Definition = plain(Kind::Sequence(&NON_EMPTY));
static ONE_OR_MORE: Definition = plain(Kind::OneOf(&[&NON_EMPTY, &NON_EMPTY_LIST]));

/// A workflow file, of whose triggers only what reusable workflows need is checked.
pub(crate) static WORKFLOW: Definition = plain(properties(&[
    may("on", &ON),
    may("name", &STRING),
    may("description", &STRING),
    may("run-name", &RUN_NAME),
    may("defaults", &WORKFLOW_DEFAULTS),
    may("env", &WORKFLOW_ENV),
    may("permissions", &PERMISSIONS),
    may("concurrency", &WORKFLOW_CONCURRENCY),
    must("jobs", &JOBS),
]));
/// A workflow file, all of which is checked.
pub(crate) static STRICT_WORKFLOW: Definition = plain(properties(&[
    must("on", &ON_STRICT),
    may("name", &STRING),
    may("description", &STRING),
    may("run-name", &RUN_NAME),
    may("defaults", &WORKFLOW_DEFAULTS),
    may("env", &WORKFLOW_ENV),
    may("permissions", &PERMISSIONS),
    may("concurrency", &WORKFLOW_CONCURRENCY),
    must("jobs", &JOBS),
]));
static RUN_NAME: Definition = define(RUN, Kind::Text(Text::Any));
static WORKFLOW_DEFAULTS: Definition = plain(properties(&[may("run", &WORKFLOW_DEFAULTS_RUN)]));
static WORKFLOW_DEFAULTS_RUN: Definition = plain(properties(&[
    may("shell", &NON_EMPTY),
    may("working-directory", &NON_EMPTY),
]));
static WORKFLOW_ENV: Definition = define(
    &["github", "inputs", "vars", "secrets"],
    loose(&NON_EMPTY, &STRING),
);
static WORKFLOW_CONCURRENCY: Definition = define(RUN, Kind::OneOf(&[&STRING, &CONCURRENCY]));
static CONCURRENCY: Definition = plain(properties(&[
    must("group", &NON_EMPTY),
    may("cancel-in-progress", &BOOLEAN),
    may("queue", &QUEUE),
]));
static QUEUE: Definition = plain(Kind::Words(&["single", "max"]));

static PERMISSIONS: Definition = plain(Kind::OneOf(&[&PERMISSION_EACH, &READ_ALL, &WRITE_ALL]));
static READ_ALL: Definition = word("read-all");
static WRITE_ALL: Definition = word("write-all");
static ACCESS: Definition = plain(Kind::Words(&["read", "write", "none"]));
static ACCESS_READ: Definition = plain(Kind::Words(&["read", "none"]));
static ACCESS_WRITE: Definition = plain(Kind::Words(&["write", "none"]));
static PERMISSION_EACH: Definition = plain(properties(&[
    may("actions", &ACCESS),
    may("artifact-metadata", &ACCESS),
    may("attestations", &ACCESS),
    may("checks", &ACCESS),
    may("contents", &ACCESS),
    may("deployments", &ACCESS),
    may("discussions", &ACCESS),
    may("id-token", &ACCESS_WRITE),
    may("issues", &ACCESS),
    may("models", &ACCESS_READ),
    may("packages", &ACCESS),
    may("pages", &ACCESS),
    may("pull-requests", &ACCESS),
    may("repository-projects", &ACCESS),
    may("security-events", &ACCESS),
    may("statuses", &ACCESS),
    may("vulnerability-alerts", &ACCESS_READ),
]));

static JOBS: Definition = plain(loose(&NON_EMPTY, &JOB));
static JOB: Definition = plain(Kind::OneOf(&[&STEPS_JOB, &CALLING_JOB]));
static STEPS_JOB: Definition = plain(properties(&[
    may("needs", &NEEDS_LIST),
    may("if", &JOB_IF),
    may("strategy", &STRATEGY),
    may("name", &STRATEGY_STRING),
    must("runs-on", &RUNS_ON),
    may("timeout-minutes", &STRATEGY_NUMBER),
    may("cancel-timeout-minutes", &STRATEGY_NUMBER),
    may("continue-on-error", &STRATEGY_BOOLEAN),
    may("container", &CONTAINER),
    may("services", &SERVICES),
    may("env", &JOB_ENV),
    may("environment", &ENVIRONMENT),
    may("permissions", &PERMISSIONS),
    may("concurrency", &JOB_CONCURRENCY),
    may("outputs", &JOB_OUTPUTS),
    may("defaults", &JOB_DEFAULTS),
    may("steps", &STEPS),
    may("snapshot", &SNAPSHOT),
]));
static CALLING_JOB: Definition = plain(properties(&[
    may("name", &STRATEGY_STRING),
    must("uses", &NON_EMPTY),
    may("with", &CALL_WITH),
    may("secrets", &CALL_SECRETS),
    may("needs", &NEEDS_LIST),
    may("if", &JOB_IF),
    may("permissions", &PERMISSIONS),
    may("concurrency", &JOB_CONCURRENCY),
    may("strategy", &STRATEGY),
]));
static CALL_WITH: Definition = plain(loose(&NON_EMPTY, &CALL_VALUE));
static CALL_VALUE: Definition = define(STRATEGY_NAMES, Kind::OneOf(&[&STRING, &BOOLEAN, &NUMBER]));
static CALL_SECRETS: Definition = plain(Kind::OneOf(&[&CALL_SECRETS_EACH, &INHERIT]));
static CALL_SECRETS_EACH: Definition = plain(loose(&NON_EMPTY, &CALL_SECRET));
static CALL_SECRET: Definition = define(JOB_SECRETS, Kind::OneOf(&[&STRING, &BOOLEAN, &NUMBER]));
static INHERIT: Definition = word("inherit");
static NEEDS_LIST: Definition = plain(Kind::OneOf(&[&NON_EMPTY_LIST, &NON_EMPTY]));
static JOB_IF: Definition = define(JOB_IF_NAMES, Kind::Text(Text::Any));
static STRATEGY: Definition = define(
    NEEDS,
    properties(&[
        may("fail-fast", &BOOLEAN),
        may("max-parallel", &NUMBER),
        may("matrix", &MATRIX),
    ]),
);
static MATRIX: Definition = plain(Kind::Mapping(Mapping {
    properties: &[may("include", &MATRIX_FILTERS), may("exclude", &MATRIX_FILTERS)],
    loose: Some((&NON_EMPTY, &SEQUENCE)),
}));
static MATRIX_FILTERS: Definition = plain(Kind::Sequence(&MATRIX_FILTER));
static MATRIX_FILTER: Definition = plain(loose(&NON_EMPTY, &ANY));
static STRATEGY_STRING: Definition = define(STRATEGY_NAMES, Kind::Text(Text::Any));
static STRATEGY_NUMBER: Definition = define(STRATEGY_NAMES, Kind::Number);
static STRATEGY_BOOLEAN: Definition = define(STRATEGY_NAMES, Kind::Boolean);
static SNAPSHOT: Definition = define(STRATEGY_NAMES, Kind::OneOf(&[&NON_EMPTY, &SNAPSHOT_MAPPING]));
static SNAPSHOT_MAPPING: Definition = plain(properties(&[
    must("image-name", &NON_EMPTY),
    may("if", &STEP_IF),
    may("version", &NON_EMPTY),
]));
static RUNS_ON: Definition = define(
    STRATEGY_NAMES,
    Kind::OneOf(&[&NON_EMPTY, &NON_EMPTY_LIST, &RUNS_ON_MAPPING]),
);
static RUNS_ON_MAPPING: Definition = plain(properties(&[
    may("group", &NON_EMPTY),
    may("labels", &ONE_OR_MORE),
]));
static JOB_ENV: Definition = define(JOB_SECRETS, loose(&NON_EMPTY, &STRING));
static JOB_CONCURRENCY: Definition = define(STRATEGY_NAMES, Kind::OneOf(&[&NON_EMPTY, &CONCURRENCY]));
static ENVIRONMENT: Definition = define(STRATEGY_NAMES, Kind::OneOf(&[&STRING, &ENVIRONMENT_MAPPING]));
static ENVIRONMENT_MAPPING: Definition = plain(properties(&[
    must("name", &STRATEGY_STRING),
    may("url", &ENVIRONMENT_URL),
    may("deployment", &BOOLEAN),
]));
static ENVIRONMENT_URL: Definition = define(RUNNER_WITHOUT_SECRETS, Kind::Text(Text::Any));
static JOB_DEFAULTS: Definition = plain(properties(&[may("run", &JOB_DEFAULTS_RUN)]));
static JOB_DEFAULTS_RUN: Definition = define(
    &["github", "inputs", "vars", "strategy", "matrix", "needs", "env"],
    properties(&[may("shell", &NON_EMPTY), may("working-directory", &NON_EMPTY)]),
);
static JOB_OUTPUTS: Definition = plain(loose(&NON_EMPTY, &RUNNER_STRING));
static RUNNER_STRING: Definition = define(RUNNER, Kind::Text(Text::Any));
static CONTAINER: Definition = define(STRATEGY_NAMES, Kind::OneOf(&[&STRING, &CONTAINER_MAPPING]));
static CONTAINER_MAPPING: Definition = plain(properties(&[
    may("image", &NON_EMPTY),
    may("options", &STRING),
    may("env", &CONTAINER_ENV),
    may("ports", &NON_EMPTY_LIST),
    may("volumes", &NON_EMPTY_LIST),
    may("credentials", &CREDENTIALS),
]));
static SERVICES: Definition = define(STRATEGY_NAMES, loose(&NON_EMPTY, &SERVICE));
static SERVICE: Definition = define(STRATEGY_NAMES, Kind::OneOf(&[&NON_EMPTY, &SERVICE_MAPPING]));
static SERVICE_MAPPING: Definition = plain(properties(&[
    may("image", &NON_EMPTY),
    may("options", &STRING),
    may("entrypoint", &STRING),
    may("command", &STRING),
    may("env", &CONTAINER_ENV),
    may("ports", &NON_EMPTY_LIST),
    may("volumes", &NON_EMPTY_LIST),
    may("credentials", &CREDENTIALS),
]));
static CREDENTIALS: Definition = define(
    &["github", "inputs", "vars", "secrets", "env"],
    properties(&[may("username", &NON_EMPTY), may("password", &NON_EMPTY)]),
);
static CONTAINER_ENV: Definition = plain(loose(&NON_EMPTY, &RUNNER_STRING));

static STEPS: Definition = plain(Kind::Sequence(&ANY_STEP));
static ANY_STEP: Definition = plain(Kind::OneOf(&[&RUN_STEP, &ACTION_STEP, &PARALLEL_STEP]));
static RUN_STEP: Definition = plain(properties(&[
    may("name", &STEP_STRING),
    may("id", &NON_EMPTY),
    may("if", &STEP_IF),
    may("timeout-minutes", &STEP_NUMBER),
    must("run", &STEP_STRING),
    may("continue-on-error", &STEP_BOOLEAN),
    may("env", &STEP_MAPPING),
    may("working-directory", &STEP_STRING),
    may("shell", &NON_EMPTY_STEP),
]));
static ACTION_STEP: Definition = plain(properties(&[
    may("name", &STEP_STRING),
    may("id", &NON_EMPTY),
    may("if", &STEP_IF),
    may("continue-on-error", &STEP_BOOLEAN),
    may("timeout-minutes", &STEP_NUMBER),
    must("uses", &NON_EMPTY),
    may("with", &STEP_MAPPING),
    may("env", &STEP_MAPPING),
]));
static PARALLEL_STEP: Definition = plain(properties(&[must("parallel", &STEPS)]));
static STEP_STRING: Definition = define(STEP, Kind::Text(Text::Any));
static NON_EMPTY_STEP: Definition = define(STEP, Kind::Text(Text::NonEmpty));
static STEP_NUMBER: Definition = define(STEP, Kind::Number);
static STEP_BOOLEAN: Definition = define(STEP, Kind::Boolean);
static STEP_MAPPING: Definition = define(STEP, loose(&NON_EMPTY, &STRING));
static STEP_IF: Definition = define(STEP_IF_NAMES, Kind::Text(Text::Any));

static ON: Definition = plain(Kind::OneOf(&[&STRING, &SEQUENCE, &ON_MAPPING]));
static ON_MAPPING: Definition = plain(Kind::Mapping(Mapping {
    properties: &[may("workflow_call", &WORKFLOW_CALL)],
    loose: Some((&NON_EMPTY, &ANY)),
}));
static ON_STRICT: Definition = plain(Kind::OneOf(&[&EVENT_NAME, &EVENT_NAMES, &EVENTS]));
static EVENT_NAMES: Definition = plain(Kind::Sequence(&EVENT_NAME));
static EVENT_NAME: Definition = plain(Kind::Words(&[
    "branch_protection_rule",
    "check_run",
    "check_suite",
    "create",
    "delete",
    "deployment",
    "deployment_status",
    "discussion",
    "discussion_comment",
    "fork",
    "gollum",
    "image_version",
    "issue_comment",
    "issues",
    "label",
    "merge_group",
    "milestone",
    "page_build",
    "project",
    "project_card",
    "project_column",
    "public",
    "pull_request",
    "pull_request_comment",
    "pull_request_review",
    "pull_request_review_comment",
    "pull_request_target",
    "push",
    "registry_package",
    "release",
    "repository_dispatch",
    "schedule",
    "status",
    "watch",
    "workflow_call",
    "workflow_dispatch",
    "workflow_run",
]));
static EVENTS: Definition = plain(properties(&[
    may("branch_protection_rule", &BRANCH_PROTECTION_RULE),
    may("check_run", &CHECK_RUN),
    may("check_suite", &CHECK_SUITE),
    may("create", &NULL),
    may("delete", &NULL),
    may("deployment", &NULL),
    may("deployment_status", &NULL),
    may("discussion", &DISCUSSION),
    may("discussion_comment", &COMMENT),
    may("fork", &NULL),
    may("gollum", &NULL),
    may("image_version", &IMAGE_VERSION),
    may("issue_comment", &COMMENT),
    may("issues", &ISSUES),
    may("label", &COMMENT),
    may("merge_group", &MERGE_GROUP),
    may("milestone", &MILESTONE),
    may("page_build", &NULL),
    may("project", &PROJECT),
    may("project_card", &PROJECT_CARD),
    may("project_column", &PROJECT_COLUMN),
    may("public", &NULL),
    may("pull_request", &PULL_REQUEST),
    may("pull_request_comment", &COMMENT),
    may("pull_request_review", &PULL_REQUEST_REVIEW),
    may("pull_request_review_comment", &COMMENT),
    may("pull_request_target", &PULL_REQUEST),
    may("push", &PUSH),
    may("registry_package", &REGISTRY_PACKAGE),
    may("release", &RELEASE),
    may("repository_dispatch", &REPOSITORY_DISPATCH),
    may("schedule", &SCHEDULE),
    may("status", &NULL),
    may("watch", &WATCH),
    may("workflow_call", &WORKFLOW_CALL),
    may("workflow_dispatch", &WORKFLOW_DISPATCH),
    may("workflow_run", &WORKFLOW_RUN),
]));

/// An event with nothing to say of it but its activity types.
macro_rules! activity {
    ($($name:ident: [$($word:literal),*];)*) => {
        $(static $name: Definition = {
            static TYPE: Definition = plain(Kind::Words(&[$($word),*]));
            static TYPES: Definition = plain(Kind::Sequence(&TYPE));
            static EITHER: Definition = plain(Kind::OneOf(&[&TYPE, &TYPES]));
            static SHAPE: Definition = plain(properties(&[may("types", &EITHER)]));
            plain(Kind::OneOf(&[&NULL, &SHAPE]))
        };)*
    };
}
activity! {
    BRANCH_PROTECTION_RULE: ["created", "edited", "deleted"];
    CHECK_RUN: ["completed", "created", "rerequested", "requested_action"];
    CHECK_SUITE: ["completed"];
    DISCUSSION: [
        "created", "edited", "deleted", "transferred", "pinned", "unpinned", "labeled", "unlabeled", "locked",
        "unlocked", "category_changed", "answered", "unanswered"
    ];
    COMMENT: ["created", "edited", "deleted"];
    ISSUES: [
        "opened", "edited", "deleted", "transferred", "pinned", "unpinned", "closed", "reopened", "assigned",
        "unassigned", "labeled", "unlabeled", "locked", "unlocked", "milestoned", "demilestoned"
    ];
    MILESTONE: ["created", "closed", "opened", "edited", "deleted"];
    PROJECT: ["created", "closed", "reopened", "edited", "deleted"];
    PROJECT_CARD: ["created", "moved", "converted", "edited", "deleted"];
    PROJECT_COLUMN: ["created", "updated", "moved", "deleted"];
    PULL_REQUEST_REVIEW: ["submitted", "edited", "dismissed"];
    REGISTRY_PACKAGE: ["published", "updated"];
    RELEASE: ["published", "unpublished", "created", "edited", "deleted", "prereleased", "released"];
    WATCH: ["started"];
}
static PULL_REQUEST_TYPE: Definition = plain(Kind::Words(&[
    "assigned",
    "unassigned",
    "labeled",
    "unlabeled",
    "opened",
    "edited",
    "closed",
    "reopened",
    "synchronize",
    "converted_to_draft",
    "ready_for_review",
    "locked",
    "unlocked",
    "review_requested",
    "review_request_removed",
    "auto_merge_enabled",
    "auto_merge_disabled",
    "milestoned",
    "demilestoned",
    "enqueued",
    "dequeued",
]));
static PULL_REQUEST_TYPES: Definition = plain(Kind::Sequence(&PULL_REQUEST_TYPE));
static PULL_REQUEST_ACTIVITY: Definition = plain(Kind::OneOf(&[&PULL_REQUEST_TYPE, &PULL_REQUEST_TYPES]));
static MERGE_GROUP: Definition = plain(Kind::OneOf(&[&NULL, &MERGE_GROUP_MAPPING]));
static MERGE_GROUP_TYPE: Definition = plain(Kind::Words(&["checks_requested"]));
static MERGE_GROUP_TYPES: Definition = plain(Kind::Sequence(&MERGE_GROUP_TYPE));
static MERGE_GROUP_ACTIVITY: Definition = plain(Kind::OneOf(&[&MERGE_GROUP_TYPE, &MERGE_GROUP_TYPES]));
static MERGE_GROUP_MAPPING: Definition = plain(properties(&[
    may("types", &MERGE_GROUP_ACTIVITY),
    may("branches", &ONE_OR_MORE),
    may("branches-ignore", &ONE_OR_MORE),
]));
static PULL_REQUEST: Definition = plain(Kind::OneOf(&[&NULL, &PULL_REQUEST_MAPPING]));
static PULL_REQUEST_MAPPING: Definition = plain(properties(&[
    may("types", &PULL_REQUEST_ACTIVITY),
    may("branches", &ONE_OR_MORE),
    may("branches-ignore", &ONE_OR_MORE),
    may("paths", &ONE_OR_MORE),
    may("paths-ignore", &ONE_OR_MORE),
]));
static PUSH: Definition = plain(Kind::OneOf(&[&NULL, &PUSH_MAPPING]));
static PUSH_MAPPING: Definition = plain(properties(&[
    may("branches", &ONE_OR_MORE),
    may("branches-ignore", &ONE_OR_MORE),
    may("tags", &ONE_OR_MORE),
    may("tags-ignore", &ONE_OR_MORE),
    may("paths", &ONE_OR_MORE),
    may("paths-ignore", &ONE_OR_MORE),
]));
static IMAGE_VERSION: Definition = plain(Kind::OneOf(&[&NULL, &IMAGE_VERSION_MAPPING]));
static IMAGE_VERSION_TYPE: Definition = plain(Kind::Words(&["created", "ready", "deleted"]));
static IMAGE_VERSION_TYPES: Definition = plain(Kind::Sequence(&IMAGE_VERSION_TYPE));
static IMAGE_VERSION_ACTIVITY: Definition = plain(Kind::OneOf(&[&IMAGE_VERSION_TYPE, &IMAGE_VERSION_TYPES]));
static IMAGE_VERSION_MAPPING: Definition = plain(properties(&[
    may("types", &IMAGE_VERSION_ACTIVITY),
    may("names", &ONE_OR_MORE),
    may("versions", &ONE_OR_MORE),
]));
static REPOSITORY_DISPATCH: Definition = plain(Kind::OneOf(&[&NULL, &REPOSITORY_DISPATCH_MAPPING]));
static REPOSITORY_DISPATCH_MAPPING: Definition = plain(properties(&[may("types", &ONE_OR_MORE)]));
static SCHEDULE: Definition = plain(Kind::Sequence(&CRON));
static CRON: Definition = plain(properties(&[
    may("cron", &NON_EMPTY),
    may("timezone", &NON_EMPTY),
]));
static WORKFLOW_RUN: Definition = plain(Kind::OneOf(&[&NULL, &WORKFLOW_RUN_MAPPING]));
static WORKFLOW_RUN_TYPE: Definition = plain(Kind::Words(&["requested", "completed", "in_progress"]));
static WORKFLOW_RUN_TYPES: Definition = plain(Kind::Sequence(&WORKFLOW_RUN_TYPE));
static WORKFLOW_RUN_ACTIVITY: Definition = plain(Kind::OneOf(&[&WORKFLOW_RUN_TYPE, &WORKFLOW_RUN_TYPES]));
static WORKFLOW_RUN_MAPPING: Definition = plain(properties(&[
    may("types", &WORKFLOW_RUN_ACTIVITY),
    may("workflows", &ONE_OR_MORE),
    may("branches", &ONE_OR_MORE),
    may("branches-ignore", &ONE_OR_MORE),
]));
static WORKFLOW_CALL: Definition = plain(Kind::OneOf(&[&NULL, &WORKFLOW_CALL_MAPPING]));
static WORKFLOW_CALL_MAPPING: Definition = plain(properties(&[
    may("inputs", &CALL_INPUTS),
    may("secrets", &CALL_SECRET_INPUTS),
    may("outputs", &CALL_OUTPUTS),
]));
static CALL_INPUTS: Definition = plain(loose(&NON_EMPTY, &CALL_INPUT));
static CALL_INPUT: Definition = plain(properties(&[
    may("description", &STRING),
    must("type", &CALL_INPUT_TYPE),
    may("required", &BOOLEAN),
    may("default", &CALL_INPUT_DEFAULT),
    may("deprecationMessage", &STRING),
]));
static CALL_INPUT_TYPE: Definition = plain(Kind::Words(&["string", "boolean", "number"]));
static CALL_INPUT_DEFAULT: Definition = define(RUN, Kind::OneOf(&[&STRING, &BOOLEAN, &NUMBER]));
static CALL_SECRET_INPUTS: Definition = plain(loose(&NON_EMPTY, &CALL_SECRET_INPUT));
static CALL_SECRET_INPUT: Definition = plain(Kind::OneOf(&[&NULL, &CALL_SECRET_INPUT_MAPPING]));
static CALL_SECRET_INPUT_MAPPING: Definition = plain(properties(&[
    may("description", &STRING),
    may("required", &BOOLEAN),
]));
static CALL_OUTPUTS: Definition = plain(loose(&NON_EMPTY, &CALL_OUTPUT));
static CALL_OUTPUT: Definition = plain(properties(&[
    may("description", &STRING),
    must("value", &CALL_OUTPUT_VALUE),
]));
static CALL_OUTPUT_VALUE: Definition = define(&["github", "inputs", "vars", "jobs"], Kind::Text(Text::Any));
static WORKFLOW_DISPATCH: Definition = plain(Kind::OneOf(&[&NULL, &WORKFLOW_DISPATCH_MAPPING]));
static WORKFLOW_DISPATCH_MAPPING: Definition = plain(properties(&[may("inputs", &DISPATCH_INPUTS_OR_NULL)]));
static DISPATCH_INPUTS_OR_NULL: Definition = plain(Kind::OneOf(&[&NULL, &DISPATCH_INPUTS]));
static DISPATCH_INPUTS: Definition = plain(loose(&NON_EMPTY, &DISPATCH_INPUT_OR_NULL));
static DISPATCH_INPUT_OR_NULL: Definition = plain(Kind::OneOf(&[&NULL, &DISPATCH_INPUT]));
static DISPATCH_INPUT: Definition = plain(properties(&[
    may("description", &STRING),
    may("type", &DISPATCH_INPUT_TYPE),
    may("required", &BOOLEAN),
    may("default", &DISPATCH_INPUT_DEFAULT),
    may("options", &NON_EMPTY_LIST),
    may("deprecationMessage", &STRING),
]));
static DISPATCH_INPUT_TYPE: Definition = plain(Kind::Words(&[
    "string",
    "boolean",
    "number",
    "environment",
    "choice",
]));
static DISPATCH_INPUT_DEFAULT: Definition = plain(Kind::OneOf(&[&STRING, &BOOLEAN, &NUMBER]));

/// What `with` of a call may be, by the type of the input.
pub(super) fn call_value(kind: crate::InputKind) -> &'static Definition {
    static BOOLEAN_VALUE: Definition = define(STRATEGY_NAMES, Kind::Boolean);
    static NUMBER_VALUE: Definition = define(STRATEGY_NAMES, Kind::Number);
    static STRING_VALUE: Definition = define(STRATEGY_NAMES, Kind::Text(Text::Any));
    match kind {
        crate::InputKind::Boolean => &BOOLEAN_VALUE,
        crate::InputKind::Number => &NUMBER_VALUE,
        _ => &STRING_VALUE,
    }
}
