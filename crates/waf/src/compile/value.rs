//! Templates, resolved.

use super::names::{Names, Slot};
use super::target::Pick;
use crate::seclang::{Collection, Part as Written, RuleField, Template, Wrong};

/// A value that may contain macros.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// No macro; the second is what the text begins with, as a number.
    Literal(Box<[u8]>, i64),
    /// A variable of `TX` and nothing else.
    Slot(Slot),
    /// Parts.
    Parts(Box<[Part]>),
}

/// A part of a value.
#[derive(Debug, Clone)]
pub(crate) enum Part {
    Literal(Box<[u8]>),
    Slot(Slot),
    Variable(Collection, Pick),
    Rule(RuleField),
}

impl Value {
    pub(crate) fn new(template: &Template, names: &mut Names) -> Result<Self, Wrong> {
        if let Some(text) = template.as_literal() {
            return Ok(Self::literal(text));
        }
        let mut parts = Vec::with_capacity(template.parts.len());
        for part in &template.parts {
            parts.push(match part {
                Written::Literal(text) => Part::Literal(text.as_bytes().into()),
                Written::Rule(field) => Part::Rule(*field),
                Written::Variable(variable) => match Pick::new(variable, names)? {
                    Pick::Slot(slot) => Part::Slot(slot),
                    pick => Part::Variable(variable.collection, pick),
                },
            });
        }
        Ok(match parts.as_slice() {
            [Part::Slot(slot)] => Self::Slot(*slot),
            _ => Self::Parts(parts.into()),
        })
    }

    pub(crate) fn literal(text: &str) -> Self {
        Self::Literal(text.as_bytes().into(), crate::operator::number(text.as_bytes()))
    }

    /// The text, where it is one.
    pub(crate) fn as_literal(&self) -> Option<&[u8]> {
        match self {
            Self::Literal(text, _) => Some(text),
            _ => None,
        }
    }
}
