//! What stands on the right of a comparison, and the comparing.

use std::net::IpAddr;
use std::sync::Arc;

use memchr::memmem::Finder;
use regex_automata::meta::Regex;
use regex_automata::util::syntax;

use super::list::List;
use super::value::Read;

#[derive(Debug, Clone)]
pub(super) enum Check {
    Bool(bool),
    Bytes(Order, Box<[u8]>),
    Int(Order, i64),
    Ip(Order, IpAddr),
    Contains(Box<Finder<'static>>),
    Matches(Arc<Regex>),
    In(Arc<List>),
    Not(Box<Check>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Equal,
    Unequal,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

impl Order {
    fn holds<T: PartialOrd>(self, left: &T, right: &T) -> bool {
        match self {
            Order::Equal => left == right,
            Order::Unequal => left != right,
            Order::Less => left < right,
            Order::AtMost => left <= right,
            Order::Greater => left > right,
            Order::AtLeast => left >= right,
        }
    }
}

impl Check {
    pub(super) fn of(&self, read: Read<'_>) -> bool {
        match (self, read) {
            (Check::Bool(wanted), Read::Bool(value)) => value == *wanted,
            (Check::Bytes(order, wanted), Read::Bytes(value)) => order.holds(&value, &&**wanted),
            (Check::Int(order, wanted), Read::Int(value)) => order.holds(&value, wanted),
            (Check::Ip(order, wanted), Read::Ip(value)) => order.holds(&value.to_canonical(), wanted),
            (Check::Contains(finder), Read::Bytes(value)) => finder.find(value).is_some(),
            (Check::Matches(regex), Read::Bytes(value)) => regex.is_match(value),
            (Check::In(list), Read::Bytes(value)) => list.has_text(value),
            (Check::In(list), Read::Int(value)) => list.has_int(value),
            (Check::In(list), Read::Ip(value)) => list.has_ip(value),
            (Check::Not(check), read) => !check.of(read),
            // The compiler lets only values of the same kind meet.
            _ => false,
        }
    }

    /// Of a value that is not there.
    pub(super) fn of_nothing(&self) -> bool {
        matches!(
            self,
            Check::Bytes(Order::Unequal, _) | Check::Int(Order::Unequal, _) | Check::Ip(Order::Unequal, _)
        )
    }
}

/// A pattern of the `regex` crate; it may match bytes that are no UTF-8.
pub(super) fn regex(pattern: &str) -> Result<Arc<Regex>, String> {
    let config = Regex::config()
        .nfa_size_limit(Some(1 << 20))
        .onepass_size_limit(Some(1 << 20))
        .hybrid_cache_capacity(1 << 20)
        .utf8_empty(false);
    Regex::builder()
        .configure(config)
        .syntax(syntax::Config::new().utf8(false))
        .build(pattern)
        .map(Arc::new)
        .map_err(|error| match (error.syntax_error(), error.size_limit()) {
            (Some(error), _) => error.to_string(),
            (None, Some(_)) => "this pattern is too large".into(),
            (None, None) => error.to_string(),
        })
}

/// A pattern with `*` for anything. `\*` and `\\` are the characters themselves.
pub(super) fn wildcard(pattern: &[u8], strict: bool) -> Result<Arc<Regex>, String> {
    with_stars(pattern, strict, ".*")
}

/// The same with a group for each star, which takes as little as it can.
pub(super) fn wildcard_groups(pattern: &[u8], strict: bool) -> Result<Arc<Regex>, String> {
    with_stars(pattern, strict, "(.*?)")
}

fn with_stars(pattern: &[u8], strict: bool, any: &str) -> Result<Arc<Regex>, String> {
    let mut regex_text = String::from(if strict { "(?s-u)\\A" } else { "(?is-u)\\A" });
    let mut bytes = pattern.iter().peekable();
    let mut star = false;
    while let Some(byte) = bytes.next() {
        let literal = match byte {
            b'*' if star => return Err("two stars beside each other".into()),
            b'*' => {
                star = true;
                regex_text.push_str(any);
                continue;
            }
            b'\\' => match bytes.next() {
                Some(escaped @ (b'*' | b'\\')) => escaped,
                _ => return Err("a backslash stands only before '*' and '\\'".into()),
            },
            byte => byte,
        };
        star = false;
        regex_text.push_str(&format!("\\x{literal:02x}"));
    }
    regex_text.push_str("\\z");
    regex(&regex_text)
}
