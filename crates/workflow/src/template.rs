//! Values of a file in which `${{ }}` may stand, and what they become.

use crate::diagnostic::Place;
use crate::expression::{Expression, Object, Scope, Value, format_number};
use std::collections::HashMap;
use std::fmt;

/// A value of a workflow file, with its place.
#[derive(Debug, Clone)]
pub struct Template {
    /// Where it stands.
    pub place: Place,
    /// What it is.
    pub node: Node,
}

/// What a [`Template`] is.
#[derive(Debug, Clone)]
pub enum Node {
    /// Nothing.
    Null,
    /// `true`, `false`.
    Boolean(bool),
    /// A number.
    Number(f64),
    /// Text without an expression.
    String(String),
    /// A list.
    Sequence(Vec<Template>),
    /// Keys and values, in the order of the file.
    Mapping(Vec<(Template, Template)>),
    /// A lone `${{ … }}` keeps its type; text around it makes it `format('…{0}…', …)`, which is a string.
    Expression(Expression),
    /// `${{ insert }}` as a key: the mapping under it is put in its place.
    Insert,
}

/// Why a template has no value of the type that is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateError {
    /// Where the value stands.
    pub place: Place,
    /// What is wrong, in GitHub's words.
    pub message: String,
}

/// `concurrency`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concurrency {
    /// Runs or jobs of one group do not run at once. Never empty.
    pub group: String,
    /// Whether a newer one cancels the one that runs.
    pub cancel_in_progress: bool,
    /// Whether all that wait are kept (`queue: max`), instead of the newest alone.
    pub keep_all_waiting: bool,
}

/// `environment` of a job.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Its name. Never empty.
    pub name: String,
    /// Where it can be seen: evaluated after the last step, because steps say it.
    pub url: Option<Template>,
    /// Whether it counts as a deployment.
    pub deployment: bool,
}

/// `runs-on`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunsOn {
    /// What the runner must have.
    pub labels: Vec<String>,
    /// Of which group it must be.
    pub group: Option<String>,
}

/// `defaults.run`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunDefaults {
    /// Which shell.
    pub shell: Option<String>,
    /// Where.
    pub working_directory: Option<String>,
}

type Outcome<T> = Result<T, TemplateError>;

impl Template {
    /// The same with all expressions put in.
    pub fn evaluate(&self, scope: &Scope<'_>) -> Outcome<Self> {
        let place = self.place;
        let node = match &self.node {
            Node::Expression(_) => return Ok(Self::of_value(place, &self.expression(scope)?)),
            Node::Insert => {
                return Err(self.error("The expression directive 'insert' is not supported in this context"));
            }
            Node::Sequence(items) => {
                let items: Outcome<Vec<Self>> = items.iter().map(|item| item.evaluate(scope)).collect();
                Node::Sequence(items?)
            }
            Node::Mapping(entries) => Node::Mapping(entries_of(entries, scope)?),
            node => node.clone(),
        };
        Ok(Self { place, node })
    }

    /// Its value, of whatever type.
    pub fn value(&self, scope: &Scope<'_>) -> Outcome<Value> {
        match &self.node {
            Node::Expression(_) => self.expression(scope),
            _ => Ok(self.evaluate(scope)?.to_value()),
        }
    }

    /// Text. Numbers and booleans become text; lists and mappings are errors.
    pub fn string(&self, scope: &Scope<'_>) -> Outcome<String> {
        match self.value(scope)? {
            Value::Array(_) => Err(self.error("A sequence was not expected")),
            Value::Object(_) => Err(self.error("A mapping was not expected")),
            value => Ok(value.to_text()),
        }
    }

    /// `true` or `false`, and nothing that only counts as one: the text `'true'` is an error, as it is for
    /// GitHub.
    pub fn boolean(&self, scope: &Scope<'_>) -> Outcome<bool> {
        match self.value(scope)? {
            Value::Boolean(value) => Ok(value),
            value => Err(self.unexpected(&value)),
        }
    }

    /// A number, and not the text of one.
    pub fn number(&self, scope: &Scope<'_>) -> Outcome<f64> {
        match self.value(scope)? {
            Value::Number(value) => Ok(value),
            value => Err(self.unexpected(&value)),
        }
    }

    /// Names and texts, in order: `env`, `with`, `outputs`. Of names that are alike the last counts.
    pub fn string_map(&self, scope: &Scope<'_>) -> Outcome<Vec<(String, String)>> {
        let template = self.evaluate(scope)?;
        let Node::Mapping(entries) = &template.node else {
            return match template.node {
                Node::Null => Ok(vec![]),
                _ => Err(template.not_expected()),
            };
        };
        let mut all: Vec<(String, String)> = Vec::with_capacity(entries.len());
        let mut places: HashMap<String, usize> = HashMap::new();
        for (key, value) in entries {
            let (name, text) = (key.plain()?, value.plain()?);
            match places.get(&name) {
                Some(&at) => all[at].1 = text,
                None => {
                    places.insert(name.clone(), all.len());
                    all.push((name, text));
                }
            }
        }
        Ok(all)
    }

    /// As `concurrency`: a group, or a mapping with one.
    pub fn concurrency(&self, scope: &Scope<'_>) -> Outcome<Concurrency> {
        let template = self.evaluate(scope)?;
        let mut concurrency = Concurrency {
            group: String::new(),
            cancel_in_progress: false,
            keep_all_waiting: false,
        };
        match &template.node {
            Node::Mapping(entries) => {
                for (key, value) in entries {
                    match key.plain()?.as_str() {
                        "group" => concurrency.group = value.plain()?,
                        "cancel-in-progress" => concurrency.cancel_in_progress = value.plain_boolean()?,
                        "queue" => concurrency.keep_all_waiting = value.plain()? == "max",
                        other => return Err(key.error(format!("Unexpected value '{other}'"))),
                    }
                }
            }
            _ => concurrency.group = template.plain()?,
        }
        if concurrency.group.is_empty() {
            return Err(self.error("Concurrency group name cannot be empty"));
        }
        if concurrency.group.encode_utf16().count() > 400 {
            return Err(self.error("Concurrency group name must be less than 400 characters"));
        }
        Ok(concurrency)
    }

    /// As `environment`: a name, or a mapping with one. None where the name is empty.
    pub fn environment(&self, scope: &Scope<'_>) -> Outcome<Option<Environment>> {
        let mut environment = Environment {
            name: String::new(),
            url: None,
            deployment: true,
        };
        match &self.node {
            Node::Mapping(entries) => {
                for (key, value) in entries {
                    match key.string(scope)?.as_str() {
                        "name" => environment.name = value.string(scope)?,
                        "url" => environment.url = Some(value.clone()),
                        "deployment" => environment.deployment = value.boolean(scope)?,
                        other => return Err(key.error(format!("Unexpected value '{other}'"))),
                    }
                }
            }
            Node::Expression(_) => {
                let template = self.evaluate(scope)?;
                match template.node {
                    Node::Mapping(_) => return template.environment(scope),
                    _ => environment.name = template.plain()?,
                }
            }
            _ => environment.name = self.plain()?,
        }
        Ok((!environment.name.is_empty()).then_some(environment))
    }

    /// As `runs-on`: a label, labels, or a mapping with a group and labels.
    pub fn runs_on(&self, scope: &Scope<'_>) -> Outcome<RunsOn> {
        let template = self.evaluate(scope)?;
        let mut runs_on = RunsOn::default();
        match &template.node {
            Node::Mapping(entries) => {
                for (key, value) in entries {
                    match key.plain()?.as_str() {
                        "group" => runs_on.group = Some(value.plain()?),
                        "labels" => runs_on.labels = value.labels()?,
                        other => return Err(key.error(format!("Unexpected value '{other}'"))),
                    }
                }
            }
            _ => runs_on.labels = template.labels()?,
        }
        Ok(runs_on)
    }

    /// As `defaults`: what its `run` says.
    pub fn run_defaults(&self, scope: &Scope<'_>) -> Outcome<RunDefaults> {
        let template = self.evaluate(scope)?;
        let mut defaults = RunDefaults::default();
        let Node::Mapping(entries) = &template.node else {
            return Ok(defaults);
        };
        let run = entries
            .iter()
            .find(|(key, _)| matches!(&key.node, Node::String(name) if name == "run"));
        let Some(Node::Mapping(entries)) = run.map(|(_, value)| &value.node) else {
            return Ok(defaults);
        };
        for (key, value) in entries {
            match key.plain()?.as_str() {
                "shell" => defaults.shell = Some(value.plain()?),
                "working-directory" => defaults.working_directory = Some(value.plain()?),
                other => return Err(key.error(format!("Unexpected value '{other}'"))),
            }
        }
        Ok(defaults)
    }

    fn expression(&self, scope: &Scope<'_>) -> Outcome<Value> {
        match &self.node {
            Node::Expression(expression) => expression
                .evaluate(scope)
                .map_err(|error| self.error(error.message)),
            _ => Ok(Value::Null),
        }
    }

    fn labels(&self) -> Outcome<Vec<String>> {
        match &self.node {
            Node::Sequence(items) => items.iter().map(Self::plain).collect(),
            _ => Ok(vec![self.plain()?]),
        }
    }

    /// The text of a literal.
    fn plain(&self) -> Outcome<String> {
        match &self.node {
            Node::Sequence(_) | Node::Mapping(_) => Err(self.not_expected()),
            _ => Ok(self.to_plain_text()),
        }
    }

    fn plain_boolean(&self) -> Outcome<bool> {
        match &self.node {
            Node::Boolean(value) => Ok(*value),
            Node::Sequence(_) | Node::Mapping(_) => Err(self.not_expected()),
            _ => Err(self.error(format!("Unexpected value '{}'", self.to_plain_text()))),
        }
    }

    fn not_expected(&self) -> TemplateError {
        match &self.node {
            Node::Sequence(_) => self.error("A sequence was not expected"),
            Node::Mapping(_) => self.error("A mapping was not expected"),
            _ => self.error(format!("Unexpected value '{}'", self.to_plain_text())),
        }
    }

    fn unexpected(&self, value: &Value) -> TemplateError {
        match value {
            Value::Array(_) => self.error("A sequence was not expected"),
            Value::Object(_) => self.error("A mapping was not expected"),
            value => self.error(format!("Unexpected value '{}'", value.to_text())),
        }
    }

    fn error(&self, message: impl Into<String>) -> TemplateError {
        TemplateError {
            place: self.place,
            message: message.into(),
        }
    }

    /// The text of a literal; an expression as it was written.
    pub(crate) fn to_plain_text(&self) -> String {
        match &self.node {
            Node::Boolean(value) => value.to_string(),
            Node::Number(value) => format_number(*value),
            Node::String(value) => value.clone(),
            Node::Expression(expression) => format!("${{{{ {} }}}}", expression.source()),
            Node::Insert => "${{ insert }}".to_owned(),
            Node::Null | Node::Sequence(_) | Node::Mapping(_) => String::new(),
        }
    }

    /// The value of a template without expressions.
    pub(crate) fn to_value(&self) -> Value {
        match &self.node {
            Node::Null => Value::Null,
            Node::Boolean(value) => Value::Boolean(*value),
            Node::Number(value) => Value::Number(*value),
            Node::String(value) => Value::String(value.clone()),
            Node::Sequence(items) => Value::array(items.iter().map(Self::to_value)),
            Node::Mapping(entries) => {
                let all = entries.iter();
                Value::object(all.map(|(key, value)| (key.to_plain_text(), value.to_value())))
            }
            Node::Expression(_) | Node::Insert => Value::String(self.to_plain_text()),
        }
    }

    fn of_value(place: Place, value: &Value) -> Self {
        let of = |value: &Value| Self::of_value(place, value);
        let node = match value {
            Value::Null => Node::Null,
            Value::Boolean(value) => Node::Boolean(*value),
            Value::Number(value) => Node::Number(*value),
            Value::String(value) => Node::String(value.clone()),
            Value::Array(array) => Node::Sequence(array.items().iter().map(of).collect()),
            Value::Object(object) => {
                let all: &Object = object;
                Node::Mapping(
                    all.iter()
                        .map(|(name, value)| (of(&name.into()), of(value)))
                        .collect(),
                )
            }
        };
        Self { place, node }
    }
}

/// Entries with all expressions put in; `${{ insert }}` stands for the entries of its value.
fn entries_of(entries: &[(Template, Template)], scope: &Scope<'_>) -> Outcome<Vec<(Template, Template)>> {
    let mut all = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        if !matches!(key.node, Node::Insert) {
            let key = key.evaluate(scope)?;
            let key = Template {
                place: key.place,
                node: Node::String(key.plain()?),
            };
            all.push((key, value.evaluate(scope)?));
            continue;
        }
        let value = value.evaluate(scope)?;
        match value.node {
            Node::Mapping(inserted) => all.extend(inserted),
            _ => return Err(value.error("Expected a mapping")),
        }
    }
    Ok(all)
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "(Line: {}, Col: {}): {}",
            self.place.line, self.place.column, self.message
        )
    }
}

impl std::error::Error for TemplateError {}
