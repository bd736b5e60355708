//! Exceptions that nobody caught, in groups: one for each place in the sources, whatever release it came from. The lines
//! are written by the tail worker that each deployment has beside its workers; the stack is mapped back to the sources
//! with the map of the release that ran.

mod database;
mod group;
mod stack;

pub use database::{Errors, ErrorsError};
pub use stack::Frame;

use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// What the tail worker's lines begin with.
pub(crate) const MARK: &str = "astraler.exception ";

/// One group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Twelve hex digits.
    pub id: String,
    /// Where it happened.
    pub environment: String,
    /// In which worker.
    pub worker: String,
    /// For example `TypeError`.
    pub name: String,
    /// Its message the last time.
    pub message: String,
    /// The place in the sources, when it is known.
    pub place: Option<String>,
    /// How often.
    pub count: u64,
    /// When it was first seen.
    pub first_ms: i64,
    /// When it was last seen.
    pub last_ms: i64,
    /// The deployment in which it was first seen.
    pub first_deployment: String,
    /// The deployment in which it was last seen.
    pub last_deployment: String,
}

/// One time that it happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Occurrence {
    /// When.
    pub ts_ms: i64,
    /// In which deployment.
    pub deployment: String,
    /// Its message.
    pub message: String,
    /// The request, as the edge's record and the worker know it.
    pub request_id: Option<String>,
    /// Method and path of the request.
    pub request: Option<String>,
    /// The innermost call first.
    pub frames: Vec<Frame>,
}

/// What a line of the tail worker says.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Exception<'a> {
    #[serde(borrow)]
    worker: Cow<'a, str>,
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    message: Cow<'a, str>,
    #[serde(borrow)]
    stack: Cow<'a, str>,
    #[serde(borrow)]
    request_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    path: Option<Cow<'a, str>>,
}

/// Reads a worker's message; `None` when it is none of the tail worker's.
pub(crate) fn parse(message: &str) -> Option<Exception<'_>> {
    serde_json::from_str(message.strip_prefix(MARK)?).ok()
}

/// A message of the tail worker in words; `None` when it is none.
pub fn exception_words(message: &str) -> Option<String> {
    let found = parse(message)?;
    let mut text = format!("Uncaught {}: {}", found.name, found.message);
    if let Some(id) = &found.request_id {
        text.push_str(&format!(" (request {id})"));
    }
    if !found.stack.is_empty() {
        text.push('\n');
        text.push_str(&found.stack);
    }
    Some(text)
}
