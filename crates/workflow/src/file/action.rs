//! The metadata of an action to its model.

use super::convert::{property, steps};
use super::reader::text_of;
use super::schema::{Context, Definition, Kind, Text, define, loose, may, must, plain, properties};
use super::{Budget, Options, Problems, reader};
use crate::action::{Action, ActionInput, ActionOutput, Hook, Runs};
use crate::diagnostic::Diagnostic;
use crate::template::Template;

const STEP: Context = &[
    "github",
    "inputs",
    "strategy",
    "matrix",
    "steps",
    "job",
    "runner",
    "env",
    "hashFiles(1,255)",
];
/// Names within `if` of a step of an action.
pub(super) const STEP_IF_NAMES: Context = &[
    "github",
    "inputs",
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
static STRING: Definition = plain(Kind::Text(Text::Any));
static NON_EMPTY: Definition = plain(Kind::Text(Text::NonEmpty));
static ACTION: Definition = plain(Kind::Mapping(super::schema::Mapping {
    properties: &[
        may("name", &STRING),
        may("description", &STRING),
        may("inputs", &INPUTS),
        must("runs", &RUNS),
        may("outputs", &OUTPUTS),
    ],
    loose: Some((&NON_EMPTY, &super::schema::ANY)),
}));
static INPUTS: Definition = plain(loose(&NON_EMPTY, &INPUT));
static INPUT: Definition = plain(Kind::Mapping(super::schema::Mapping {
    properties: &[may("default", &INPUT_DEFAULT)],
    loose: Some((&NON_EMPTY, &super::schema::ANY)),
}));
static INPUT_DEFAULT: Definition = define(
    &[
        "github",
        "strategy",
        "matrix",
        "job",
        "runner",
        "hashFiles(1,255)",
    ],
    Kind::Text(Text::Any),
);
static OUTPUTS: Definition = plain(loose(&NON_EMPTY, &OUTPUT));
static OUTPUT: Definition = plain(properties(&[
    may("description", &STRING),
    may("value", &OUTPUT_VALUE),
]));
static OUTPUT_VALUE: Definition = define(
    &[
        "github", "strategy", "matrix", "steps", "inputs", "job", "runner", "env",
    ],
    Kind::Text(Text::Any),
);
static RUNS: Definition = plain(Kind::OneOf(&[&DOCKER, &NODE, &COMPOSITE]));
static DOCKER: Definition = plain(properties(&[
    may("using", &NON_EMPTY),
    must("image", &NON_EMPTY),
    may("entrypoint", &NON_EMPTY),
    may("args", &DOCKER_ARGUMENTS),
    may("env", &DOCKER_ENV),
    may("pre-entrypoint", &NON_EMPTY),
    may("pre-if", &NON_EMPTY),
    may("post-entrypoint", &NON_EMPTY),
    may("post-if", &NON_EMPTY),
]));
static DOCKER_ARGUMENTS: Definition = plain(Kind::Sequence(&DOCKER_ARGUMENT));
static DOCKER_ARGUMENT: Definition = define(&["inputs"], Kind::Text(Text::Any));
static DOCKER_ENV: Definition = define(&["inputs"], loose(&NON_EMPTY, &STRING));
static NODE: Definition = plain(properties(&[
    may("using", &NON_EMPTY),
    must("main", &NON_EMPTY),
    may("pre", &NON_EMPTY),
    may("pre-if", &NON_EMPTY),
    may("post", &NON_EMPTY),
    may("post-if", &NON_EMPTY),
]));
static COMPOSITE: Definition = plain(properties(&[may("using", &NON_EMPTY), must("steps", &STEPS)]));
static STEPS: Definition = plain(Kind::Sequence(&ANY_STEP));
static ANY_STEP: Definition = plain(Kind::OneOf(&[&RUN_STEP, &USES_STEP]));
static RUN_STEP: Definition = plain(properties(&[
    may("name", &STEP_STRING),
    may("id", &NON_EMPTY),
    may("if", &STEP_IF),
    must("run", &STEP_STRING),
    may("env", &STEP_MAPPING),
    may("continue-on-error", &STEP_BOOLEAN),
    may("working-directory", &STEP_STRING),
    must("shell", &STEP_STRING),
]));
static USES_STEP: Definition = plain(properties(&[
    may("name", &STEP_STRING),
    may("id", &NON_EMPTY),
    may("if", &STEP_IF),
    must("uses", &NON_EMPTY),
    may("continue-on-error", &STEP_BOOLEAN),
    may("with", &STEP_MAPPING),
    may("env", &STEP_MAPPING),
]));
static STEP_STRING: Definition = define(STEP, Kind::Text(Text::Any));
static STEP_BOOLEAN: Definition = define(STEP, Kind::Boolean);
static STEP_MAPPING: Definition = define(STEP, loose(&NON_EMPTY, &STRING));
static STEP_IF: Definition = define(STEP_IF_NAMES, Kind::Text(Text::Any));

pub(crate) fn read_action(file: &str, text: &str) -> Result<Action, Vec<Diagnostic>> {
    let mut problems = Problems { file, all: vec![] };
    if !super::is_short_enough(text, &mut problems) {
        return Err(problems.all);
    }
    let mut budget = Budget::new(&Options::default());
    let template = reader::read(text, &ACTION, &mut budget, &mut problems);
    let Some(template) = template.filter(|_| problems.all.is_empty()) else {
        return Err(problems.all);
    };
    let action = convert(file, &template, &mut problems);
    match action.filter(|_| problems.all.is_empty()) {
        Some(action) => Ok(action),
        None => Err(problems.all),
    }
}

fn convert(file: &str, root: &Template, problems: &mut Problems<'_>) -> Option<Action> {
    let text = |of: &Template, name: &str| property(of, name).map(|value| text_of(&value.node));
    let entries = |name: &str| property(root, name).map(Template::entries).unwrap_or_default();
    let inputs = entries("inputs").iter().filter_map(|(name, input)| {
        Some(ActionInput {
            name: name.literal()?.to_owned(),
            required: text(input, "required").as_deref() == Some("true"),
            default: property(input, "default").cloned(),
            deprecated: text(input, "deprecationMessage"),
        })
    });
    let outputs = entries("outputs").iter().filter_map(|(name, output)| {
        Some(ActionOutput {
            name: name.literal()?.to_owned(),
            value: property(output, "value").cloned(),
        })
    });
    Some(Action {
        file: file.to_owned(),
        name: text(root, "name").unwrap_or_default(),
        inputs: inputs.collect(),
        outputs: outputs.collect(),
        runs: runs(property(root, "runs")?, problems)?,
    })
}

fn runs(runs: &Template, problems: &mut Problems<'_>) -> Option<Runs> {
    let text = |name: &str| {
        property(runs, name)
            .and_then(Template::literal)
            .map(str::to_owned)
    };
    let hook = |name: &str, condition: &str| {
        let file = property(runs, name)?;
        let condition = property(runs, condition);
        Some(Hook {
            file: file.literal()?.to_owned(),
            place: condition.unwrap_or(file).place,
            condition: condition.and_then(Template::literal).map(str::to_owned),
        })
    };
    let using = text("using").unwrap_or_default();
    let using_place = property(runs, "using").map_or(runs.place, |using| using.place);
    let using = using.to_ascii_lowercase();
    match (using.as_str(), using.strip_prefix("node")) {
        ("composite", _) => Some(Runs::Composite {
            steps: match property(runs, "steps") {
                Some(all) => steps(all, STEP_IF_NAMES, problems),
                None => {
                    problems.add(Some(runs.place), "Required property is missing: steps");
                    return None;
                }
            },
        }),
        ("docker", _) => match text("image") {
            Some(image) => Some(Runs::Docker { image }),
            None => {
                problems.add(Some(runs.place), "Required property is missing: image");
                None
            }
        },
        (_, Some(version)) if version.parse::<u32>().is_ok() => match text("main") {
            Some(main) => Some(Runs::Node {
                version: version.parse().unwrap_or_default(),
                main,
                pre: hook("pre", "pre-if"),
                post: hook("post", "post-if"),
            }),
            None => {
                problems.add(Some(runs.place), "Required property is missing: main");
                None
            }
        },
        _ => {
            problems.add(
                Some(using_place),
                format!("'using: {using}' is not supported, use 'docker', 'node20', 'node24' or 'composite' instead."),
            );
            None
        }
    }
}
