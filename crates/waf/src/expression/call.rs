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
    /// How many bits of an address stay, of either family.
    Cidr(u8, u8),
    Concat,
    DecodeBase64,
    EndsWith(Box<[u8]>),
    /// What stands between two.
    Join(Box<[u8]>),
    Len,
    LookupJson(Box<[Step]>, Type),
    Lower,
    /// The replacement, in pieces: of `regex_replace` and `wildcard_replace`.
    Replace(Arc<Regex>, Box<[Replacement]>),
    /// The bytes to be removed.
    RemoveBytes(Box<[bool; 256]>),
    /// Names of arguments.
    RemoveQueryArgs(Box<[Box<[u8]>]>),
    /// At what, into how many at most.
    Split(Box<[u8]>, usize),
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
            Function::Cidr(..) => Type::Ip,
            Function::LookupJson(_, kind) => *kind,
            Function::Concat
            | Function::DecodeBase64
            | Function::Join(_)
            | Function::Lower
            | Function::Replace(..)
            | Function::RemoveBytes(_)
            | Function::RemoveQueryArgs(_)
            | Function::Split(..)
            | Function::Substring(..)
            | Function::ToString
            | Function::Upper
            | Function::UrlDecode { .. } => Type::Bytes,
        }
    }

    pub(super) fn is_many(&self) -> bool {
        match self.function {
            Function::Split(..) => true,
            Function::Join(_) => false,
            _ => self.values.iter().any(Value::is_many),
        }
    }

    pub(super) fn values(&self) -> &[Value] {
        &self.values
    }
}
