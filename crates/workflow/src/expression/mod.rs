//! GitHub's expressions: what stands within `${{ }}`.
//!
//! [`parse`] reads one, with the names that may stand in it; [`Expression::evaluate`] gives its value in a
//! [`Scope`]. Kinds, conversions, comparisons, precedence and the words of errors are those of GitHub's own
//! implementation: <https://docs.github.com/actions/reference/workflows-and-actions/expressions>.

mod evaluate;
mod fold;
mod functions;
mod json;
mod lexer;
mod number;
mod parser;
mod value;

pub use value::{Array, Kind, Object, Value};

pub(crate) use fold::upper;
pub(crate) use number::{decimal, format as format_number, radix};

use parser::{Function, Node};
use serde::Serialize;
use std::fmt;
use std::sync::Arc;

/// Longest expression, in UTF-16 units.
pub const MAX_LENGTH: usize = 21_000;
/// Deepest nesting.
pub const MAX_DEPTH: usize = 50;
/// Most text that one evaluation makes, in bytes.
pub const MAX_MEMORY: usize = 10 * 1024 * 1024;
/// Deepest nesting of a JSON text.
pub const MAX_JSON_DEPTH: usize = 100;

/// Contexts by their names: `github`, `env`, `needs`… What is not there is null.
pub type Contexts = Object;

/// An expression that can be evaluated.
#[derive(Debug, Clone)]
pub struct Expression {
    source: Arc<str>,
    root: Option<Arc<Node>>,
}

/// Which names may stand in an expression beside literals and the functions that are there everywhere.
#[derive(Debug, Clone, Copy, Default)]
pub struct Allowed<'a> {
    /// Any name of a context or function: for syntax alone.
    pub any: bool,
    /// Contexts, and functions as `name(fewest,most)` where `MAX` is as many as one likes:
    /// `["github", "needs", "success(0,MAX)"]`.
    pub names: &'a [&'a str],
}

/// What an expression is evaluated with.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    /// What names stand for.
    pub contexts: &'a Contexts,
    /// What depends on the run.
    pub functions: &'a dyn Functions,
}

/// Functions whose results depend on the run. `always()` is true wherever it may stand.
pub trait Functions {
    /// `success()`; with names of jobs, whether all of these succeeded.
    fn success(&self, jobs: &[String]) -> bool;
    /// `failure()`; with names of jobs, whether one of these failed.
    fn failure(&self, jobs: &[String]) -> bool;
    /// `cancelled()`.
    fn cancelled(&self) -> bool;
    /// `hashFiles(…)`: SHA-256 in hex over the files that match, or nothing where none does.
    fn hash_files(&self, patterns: &[String]) -> Result<String, String>;
}

/// Functions where there is no run: nothing failed, and there are no files.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoRun;

/// Why there is no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// At which step.
    pub kind: ErrorKind,
    /// In GitHub's words.
    pub message: String,
}

/// At which step there was an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ErrorKind {
    /// What stands there is no token.
    Lexing,
    /// It is no expression, or a name in it may not stand there.
    Parsing,
    /// It has no value.
    Evaluation,
}

/// Reads an expression, without the `${{ }}` around it. An empty one is null.
pub fn parse(text: &str, allowed: &Allowed<'_>) -> Result<Expression, Error> {
    Ok(Expression {
        source: text.into(),
        root: parser::parse(text, allowed)?,
    })
}

/// Reads and evaluates an expression in which the names of these contexts may stand, and no other.
pub fn evaluate(text: &str, contexts: &Contexts) -> Result<Value, Error> {
    let names: Vec<&str> = contexts.iter().map(|(name, _)| name).collect();
    let allowed = Allowed {
        any: false,
        names: &names,
    };
    parse(text, &allowed)?.evaluate(&Scope {
        contexts,
        functions: &NoRun,
    })
}

impl Expression {
    /// The empty expression.
    pub(crate) fn null() -> Self {
        Self {
            source: "".into(),
            root: None,
        }
    }

    /// As it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Its value.
    pub fn evaluate(&self, scope: &Scope<'_>) -> Result<Value, Error> {
        match &self.root {
            Some(root) => evaluate::evaluate(root, &self.source, scope),
            None => Ok(Value::Null),
        }
    }

    /// Whether `always()`, `cancelled()`, `failure()` or `success()` is called in it.
    pub fn asks_for_status(&self) -> bool {
        const STATUS: [Function; 4] = [
            Function::Always,
            Function::Cancelled,
            Function::Failure,
            Function::Success,
        ];
        self.root.as_ref().is_some_and(|root| root.calls(&STATUS))
    }
}

impl<'a> Allowed<'a> {
    /// Contexts and functions by name.
    pub fn new(names: &'a [&'a str]) -> Self {
        Self { any: false, names }
    }

    /// Any name.
    pub fn anything() -> Self {
        Self {
            any: true,
            names: &[],
        }
    }

    fn has_context(&self, name: &str) -> bool {
        self.any || self.names.iter().any(|known| known.eq_ignore_ascii_case(name))
    }

    /// Fewest and most parameters.
    fn function(&self, name: &str) -> Option<(usize, usize)> {
        self.names.iter().find_map(|entry| {
            let (known, rest) = entry.split_once('(')?;
            if !known.eq_ignore_ascii_case(name) {
                return None;
            }
            let (least, most) = rest.strip_suffix(')')?.split_once(',')?;
            let most = match most.trim() {
                "MAX" => usize::MAX,
                most => most.parse().ok()?,
            };
            Some((least.trim().parse().ok()?, most))
        })
    }
}

impl fmt::Debug for Scope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope")
            .field("contexts", self.contexts)
            .finish_non_exhaustive()
    }
}

impl Functions for NoRun {
    fn success(&self, _: &[String]) -> bool {
        true
    }
    fn failure(&self, _: &[String]) -> bool {
        false
    }
    fn cancelled(&self) -> bool {
        false
    }
    fn hash_files(&self, _: &[String]) -> Result<String, String> {
        Ok(String::new())
    }
}

impl Error {
    fn parsing(message: String) -> Self {
        Self {
            kind: ErrorKind::Parsing,
            message,
        }
    }

    fn evaluation(message: impl Into<String>) -> Self {
        Self {
            kind: ErrorKind::Evaluation,
            message: message.into(),
        }
    }
}
