//! What stands on the left of a comparison.

use std::fmt;
use std::net::IpAddr;

use super::call::Call;
use super::field::{Collection, Field};

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Bytes,
    Int,
    Ip,
    Bool,
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Type::Bytes => "a string",
            Type::Int => "a number",
            Type::Ip => "an IP address",
            Type::Bool => "true or false",
        })
    }
}

/// A value to be read from a request.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Field(Field, Type),
    /// Elements of an array.
    Items(Source, Pick),
    /// How many elements an array has.
    Count(Source),
    /// One of many.
    Nth(Box<Value>, usize),
    /// How many of many there are.
    CountOf(Box<Value>),
    Literal(Box<[u8]>),
    Call(Box<Call>),
}

/// An array of strings.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) collection: Collection,
    pub(super) part: Part,
}

#[derive(Debug, Clone)]
pub(super) enum Part {
    Names,
    Values,
    /// The values of this name.
    Of(Box<[u8]>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pick {
    /// `[0]`
    At(usize),
    /// `[*]`
    All,
}

impl Value {
    pub(super) fn kind(&self) -> Type {
        match self {
            Value::Field(_, kind) => *kind,
            Value::Items(..) | Value::Literal(_) => Type::Bytes,
            Value::Count(_) | Value::CountOf(_) => Type::Int,
            Value::Nth(value, _) => value.kind(),
            Value::Call(call) => call.kind(),
        }
    }

    /// Whether it is many: `[*]` is in it.
    pub(super) fn is_many(&self) -> bool {
        match self {
            Value::Items(_, pick) => *pick == Pick::All,
            Value::Call(call) => call.is_many(),
            Value::Field(..) | Value::Count(_) | Value::CountOf(_) | Value::Nth(..) | Value::Literal(_) => {
                false
            }
        }
    }
}

/// A value, read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Read<'r> {
    Bytes(&'r [u8]),
    Int(i64),
    Ip(IpAddr),
    Bool(bool),
}

impl<'r> Read<'r> {
    /// Its bytes, if it has any.
    pub(super) fn bytes(self) -> &'r [u8] {
        match self {
            Read::Bytes(bytes) => bytes,
            Read::Int(_) | Read::Ip(_) | Read::Bool(_) => b"",
        }
    }
}
