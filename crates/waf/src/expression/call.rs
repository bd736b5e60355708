//! Functions, as they are compiled.

use std::sync::Arc;

use regex_automata::meta::Regex;

use super::value::{Type, Value};

/// A function and its arguments: the values among them in their order; what must be written out is in the function.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) function: Function,
    pub(super) values: Vec<Value>,
}

#[derive(Debug, Clone)]
pub(super) enum Function {
    Concat,
    DecodeBase64,
    EndsWith(Box<[u8]>),
    Len,
    LookupJson(Box<[Step]>, Type),
    Lower,
    /// The replacement, in pieces.
    RegexReplace(Arc<Regex>, Box<[Replacement]>),
    /// The bytes to be removed.
    RemoveBytes(Box<[bool; 256]>),
    StartsWith(Box<[u8]>),
    /// Counted from the end where negative.
    Substring(i64, Option<i64>),
    ToString,
    Upper,
    UrlDecode {
        again: bool,
        unicode: bool,
    },
}

/// A step into a JSON document.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Key(Box<str>),
    Index(usize),
}

/// A piece of a replacement.
#[derive(Debug, Clone)]
pub(super) enum Replacement {
    Text(Box<[u8]>),
    /// `${1}`
    Group(usize),
}

impl Call {
    pub(super) fn kind(&self) -> Type {
        match &self.function {
            Function::EndsWith(_) | Function::StartsWith(_) => Type::Bool,
            Function::Len => Type::Int,
            Function::LookupJson(_, kind) => *kind,
            Function::Concat
            | Function::DecodeBase64
            | Function::Lower
            | Function::RegexReplace(..)
            | Function::RemoveBytes(_)
            | Function::Substring(..)
            | Function::ToString
            | Function::Upper
            | Function::UrlDecode { .. } => Type::Bytes,
        }
    }

    pub(super) fn values(&self) -> &[Value] {
        &self.values
    }
}
