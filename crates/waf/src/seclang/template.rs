//! Values with macros: `%{tx.score}` and the like, taken apart once.

use super::variable::Collection;
use super::{Kind, Selector, Variable, Wrong};

/// A value that may contain macros.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Template {
    /// Its parts in their order.
    pub parts: Vec<Part>,
}

/// A part of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Itself.
    Literal(String),
    /// What a variable holds at that time.
    Variable(Variable),
    /// `%{rule.id}` and the like.
    Rule(RuleField),
}

/// What `%{rule.…}` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleField {
    /// The id.
    Id,
    /// The revision.
    Rev,
    /// The severity.
    Severity,
    /// The message.
    Msg,
    /// The log data.
    Logdata,
}

impl Template {
    /// A value without macros.
    pub fn literal(text: &str) -> Self {
        Self {
            parts: vec![Part::Literal(text.to_owned())],
        }
    }

    /// The text, where it has no macros.
    pub fn as_literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// Takes a value apart. Only `%{` before a letter begins a macro: a pattern may say `%{2}`.
    pub(crate) fn parse(text: &str) -> Result<Self, Wrong> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("%{") {
            let (before, from) = rest.split_at(at);
            literal.push_str(before);
            let inner = &from[2..];
            let name = inner.find('}').map(|end| &inner[..end]);
            match name {
                Some(name) if name.starts_with(|c: char| c.is_ascii_alphabetic()) => {
                    if !literal.is_empty() {
                        parts.push(Part::Literal(std::mem::take(&mut literal)));
                    }
                    parts.push(part(name)?);
                    rest = &inner[name.len() + 1..];
                }
                _ => {
                    literal.push_str("%{");
                    rest = inner;
                }
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Self { parts })
    }
}

fn part(name: &str) -> Result<Part, Wrong> {
    let (collection, key) = match name.find(['.', ':']) {
        Some(at) => (&name[..at], Some(&name[at + 1..])),
        None => (name, None),
    };
    if collection.eq_ignore_ascii_case("rule") {
        let field = match key.map(str::to_ascii_lowercase).as_deref() {
            Some("id") => RuleField::Id,
            Some("rev") => RuleField::Rev,
            Some("severity") => RuleField::Severity,
            Some("msg") => RuleField::Msg,
            Some("logdata") => RuleField::Logdata,
            _ => {
                return Err(Wrong::new(format!("%{{{name}}} is not a field of a rule"))
                    .hint("there are id, rev, severity, msg and logdata"));
            }
        };
        return Ok(Part::Rule(field));
    }
    let collection = Collection::parse(collection)?;
    let selector = match (collection.kind(), key) {
        (Kind::Single, Some(_)) => {
            return Err(Wrong::new(format!(
                "%{{{name}}}: this variable has one value and takes no name"
            )));
        }
        (_, Some(key)) => Selector::Name(key.to_owned()),
        (_, None) => Selector::All,
    };
    Ok(Part::Variable(Variable { collection, selector }))
}
