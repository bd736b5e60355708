//! `strategy`: which jobs one job becomes.
//!
//! <https://docs.github.com/actions/reference/workflows-and-actions/workflow-syntax#jobsjob_idstrategymatrix>:
//! the product of all lists, without what `exclude` names; an entry of `include` adds its values to every
//! combination that it does not change, and is a combination of its own where there is none.

use crate::diagnostic::Place;
use crate::expression::{Object, Scope, Value};
use crate::template::{Node, Template, TemplateError};

/// Most combinations of one job.
pub const MAX_COMBINATIONS: usize = 256;
/// Most combinations times filters, before anything is excluded.
const MAX_COMPARISONS: usize = 1_000_000;
/// Longest name of a job.
const MAX_NAME: usize = 100;

/// What one job becomes.
#[derive(Debug, Clone)]
pub struct Strategy {
    /// Whether one failure cancels the others.
    pub fail_fast: bool,
    /// How many run at once.
    pub max_parallel: Option<usize>,
    /// None where there is no matrix: the job runs once.
    pub combinations: Option<Vec<Combination>>,
}

/// One job of a matrix.
#[derive(Debug, Clone)]
pub struct Combination {
    /// The context `matrix`.
    pub matrix: Object,
    /// What is told apart in its name: `ubuntu, 20`.
    pub label: String,
}

impl Default for Strategy {
    fn default() -> Self {
        Self {
            fail_fast: true,
            max_parallel: None,
            combinations: None,
        }
    }
}

impl Strategy {
    /// The context `strategy` of one combination.
    pub fn context(&self, index: usize) -> Object {
        let total = self.combinations.as_ref().map_or(1, Vec::len);
        let parallel = self.max_parallel.unwrap_or(total);
        [
            ("fail-fast", Value::Boolean(self.fail_fast)),
            ("job-index", Value::Number(index as f64)),
            ("job-total", Value::Number(total as f64)),
            ("max-parallel", Value::Number(parallel as f64)),
        ]
        .into_iter()
        .collect()
    }
}

/// The name of a job of a matrix: `build (ubuntu, 20)`, cut where it is too long.
pub fn job_name(name: &str, label: &str) -> String {
    let full = if label.is_empty() {
        name.to_owned()
    } else {
        format!("{name} ({label})")
    };
    if full.chars().count() <= MAX_NAME {
        return full;
    }
    let cut: String = full.chars().take(MAX_NAME - 3).collect();
    format!("{cut}...")
}

/// What `strategy` of a job means.
pub fn expand(strategy: &Template, scope: &Scope<'_>) -> Result<Strategy, TemplateError> {
    let strategy = strategy.evaluate(scope)?;
    let mut first = None;
    let built = build(&strategy, &mut |place, message| {
        first.get_or_insert(TemplateError { place, message });
    });
    match first {
        Some(error) => Err(error),
        None => Ok(built),
    }
}

/// Says what is wrong as far as it can be known before a run.
pub(crate) fn check(strategy: &Template, problem: &mut dyn FnMut(Place, String)) {
    if !strategy.has_expression() {
        build(strategy, problem);
        return;
    }
    // Lists that are there already are checked even where others are not.
    let Some(matrix) = property(strategy, "matrix").filter(|matrix| matches!(matrix.node, Node::Mapping(_)))
    else {
        return;
    };
    check_vectors(matrix, problem);
}

fn property<'a>(of: &'a Template, name: &str) -> Option<&'a Template> {
    let Node::Mapping(entries) = &of.node else {
        return None;
    };
    let found = entries.iter().find(|(key, _)| text(key) == Some(name));
    found.map(|(_, value)| value)
}

fn text(template: &Template) -> Option<&str> {
    match &template.node {
        Node::String(text) => Some(text),
        _ => None,
    }
}

fn check_vectors(matrix: &Template, problem: &mut dyn FnMut(Place, String)) {
    let Node::Mapping(entries) = &matrix.node else {
        return;
    };
    let mut has_any = false;
    for (key, value) in entries {
        match (text(key), &value.node) {
            (Some("include"), Node::Sequence(items)) => has_any |= !items.is_empty(),
            (Some("include"), _) => has_any = true,
            (Some("exclude"), _) => {}
            (Some(name), Node::Sequence(items)) if items.is_empty() => {
                has_any = true;
                problem(
                    value.place,
                    format!("Matrix vector '{name}' does not contain any values"),
                );
            }
            _ => has_any = true,
        }
    }
    if !has_any {
        problem(matrix.place, "Matrix must define at least one vector".into());
    }
}

/// From a strategy without expressions.
fn build(strategy: &Template, problem: &mut dyn FnMut(Place, String)) -> Strategy {
    let mut built = Strategy::default();
    if let Some(value) = property(strategy, "fail-fast") {
        match value.node {
            Node::Boolean(fail_fast) => built.fail_fast = fail_fast,
            _ => problem(
                value.place,
                format!("Unexpected value '{}'", value.to_plain_text()),
            ),
        }
    }
    if let Some(value) = property(strategy, "max-parallel") {
        match value.node {
            Node::Number(number) if number >= 1.0 => built.max_parallel = Some(number as usize),
            Node::Number(_) => {}
            _ => problem(
                value.place,
                format!("Unexpected value '{}'", value.to_plain_text()),
            ),
        }
    }
    let Some(matrix) = property(strategy, "matrix") else {
        return built;
    };
    if !matches!(matrix.node, Node::Mapping(_)) {
        problem(
            matrix.place,
            format!("Unexpected value '{}'", matrix.to_plain_text()),
        );
        return built;
    }
    check_vectors(matrix, problem);
    built.combinations = Some(combinations(matrix, problem));
    built
}

fn combinations(matrix: &Template, problem: &mut dyn FnMut(Place, String)) -> Vec<Combination> {
    let mut vectors: Vec<(&str, Vec<Value>)> = Vec::new();
    let (mut include, mut exclude): (&[Template], &[Template]) = (&[], &[]);
    let Node::Mapping(entries) = &matrix.node else {
        return vec![];
    };
    for (key, value) in entries {
        let Node::Sequence(items) = &value.node else {
            problem(
                value.place,
                format!("Unexpected value '{}'", value.to_plain_text()),
            );
            continue;
        };
        match text(key) {
            Some("include") => include = items,
            Some("exclude") => exclude = items,
            Some(name) => vectors.push((name, items.iter().map(Template::to_value).collect())),
            None => {}
        }
    }
    let names: Vec<&str> = vectors.iter().map(|(name, _)| *name).collect();
    let exclude = exclusions(exclude, &names, problem);
    let mut include = inclusions(include, &names, problem);
    let total = vectors
        .iter()
        .try_fold(1_usize, |total, (_, values)| total.checked_mul(values.len()));
    let too_many = format!("A matrix may have at most {MAX_COMBINATIONS} combinations");
    // What is excluded counts too: the product must be gone through, with each filter.
    let filters = 1 + exclude.len() + include.len();
    let total = match total {
        Some(total) if total.saturating_mul(filters) <= MAX_COMPARISONS => total,
        _ => {
            problem(matrix.place, too_many);
            return vec![];
        }
    };
    let mut all = Vec::new();
    for index in 0..if vectors.is_empty() { 0 } else { total } {
        let mut block = total;
        let mut values = Object::default();
        for (name, vector) in &vectors {
            block /= vector.len();
            values.insert(*name, vector[(index / block) % vector.len()].clone());
        }
        let whole = Value::from(values.clone());
        if exclude
            .iter()
            .any(|filter| filter.iter().all(|leaf| leaf.holds(&whole)))
        {
            continue;
        }
        let label = label(&values);
        for entry in &mut include {
            if entry.filter.iter().all(|leaf| leaf.holds(&whole)) {
                entry.used = true;
                for (name, value) in entry.extra.iter() {
                    values.insert(name, value.clone());
                }
            }
        }
        all.push(Combination {
            matrix: values,
            label,
        });
    }
    for entry in include.into_iter().filter(|entry| !entry.used) {
        let label = label(&entry.all);
        all.push(Combination {
            matrix: entry.all,
            label,
        });
    }
    if all.len() > MAX_COMBINATIONS {
        problem(matrix.place, too_many);
        all.truncate(MAX_COMBINATIONS);
    }
    all
}

/// A value within a combination, by the way to it.
struct Leaf {
    path: Vec<Value>,
    value: Value,
}

impl Leaf {
    fn holds(&self, matrix: &Value) -> bool {
        let mut at = matrix;
        for step in &self.path {
            let next = match (at, step) {
                (Value::Object(object), Value::String(name)) => object.get(name),
                (Value::Array(array), Value::Number(index)) => array.items().get(*index as usize),
                _ => None,
            };
            match next {
                Some(next) => at = next,
                None => return Value::Null.equals(&self.value),
            }
        }
        at.equals(&self.value)
    }
}

/// All values within a filter, each with the way to it.
fn leaves(template: &Template, path: &mut Vec<Value>, all: &mut Vec<Leaf>) {
    match &template.node {
        Node::Mapping(entries) => {
            for (key, value) in entries {
                path.push(Value::String(key.to_plain_text()));
                leaves(value, path, all);
                path.pop();
            }
        }
        Node::Sequence(items) => {
            for (index, item) in items.iter().enumerate() {
                path.push(Value::Number(index as f64));
                leaves(item, path, all);
                path.pop();
            }
        }
        _ => all.push(Leaf {
            path: path.clone(),
            value: template.to_value(),
        }),
    }
}

fn exclusions(all: &[Template], names: &[&str], problem: &mut dyn FnMut(Place, String)) -> Vec<Vec<Leaf>> {
    let mut filters = Vec::new();
    for entry in all {
        let Node::Mapping(entries) = &entry.node else {
            problem(
                entry.place,
                format!("Unexpected value '{}'", entry.to_plain_text()),
            );
            continue;
        };
        if entries.is_empty() {
            problem(entry.place, "Matrix exclude filter must not be empty".into());
            continue;
        }
        for (key, _) in entries {
            let name = key.to_plain_text();
            if !names.iter().any(|known| same_name(known, &name)) {
                problem(
                    key.place,
                    format!("Matrix exclude key '{name}' does not match any key within the matrix"),
                );
            }
        }
        let mut filter = Vec::new();
        leaves(entry, &mut vec![], &mut filter);
        filters.push(filter);
    }
    filters
}

/// An entry of `include`.
struct Inclusion {
    /// What a combination must have.
    filter: Vec<Leaf>,
    /// What it gets.
    extra: Object,
    all: Object,
    used: bool,
}

fn inclusions(all: &[Template], names: &[&str], problem: &mut dyn FnMut(Place, String)) -> Vec<Inclusion> {
    let mut inclusions = Vec::new();
    for entry in all {
        let Node::Mapping(entries) = &entry.node else {
            problem(
                entry.place,
                format!("Unexpected value '{}'", entry.to_plain_text()),
            );
            continue;
        };
        if entries.is_empty() {
            problem(
                entry.place,
                "Matrix include mapping does not contain any values".into(),
            );
            continue;
        }
        let mut inclusion = Inclusion {
            filter: vec![],
            extra: Object::default(),
            all: Object::default(),
            used: false,
        };
        // Those that are a list of the matrix come first in a combination of its own.
        for known in [true, false] {
            for (key, value) in entries {
                let name = key.to_plain_text();
                if names.iter().any(|vector| same_name(vector, &name)) != known {
                    continue;
                }
                if known {
                    leaves(
                        value,
                        &mut vec![Value::String(name.clone())],
                        &mut inclusion.filter,
                    );
                } else {
                    inclusion.extra.insert(name.clone(), value.to_value());
                }
                inclusion.all.insert(name, value.to_value());
            }
        }
        inclusions.push(inclusion);
    }
    inclusions
}

fn same_name(left: &str, right: &str) -> bool {
    crate::expression::upper(left) == crate::expression::upper(right)
}

/// The values of a combination in a row, those within lists and mappings too.
fn label(values: &Object) -> String {
    fn collect(value: &Value, all: &mut Vec<String>) {
        match value {
            Value::Null => {}
            Value::Array(array) => array.items().iter().for_each(|item| collect(item, all)),
            Value::Object(object) => object.iter().for_each(|(_, value)| collect(value, all)),
            simple => all.push(simple.to_text()),
        }
    }
    let mut all = Vec::new();
    for (_, value) in values.iter() {
        collect(value, &mut all);
    }
    all.retain(|text| !text.is_empty());
    all.join(", ")
}
