//! Custom rules in Cloudflare's rules language: `http.request.uri.path contains "/admin" and not ip.src in {10.0.0.0/8}`.
//!
//! An expression is checked and compiled once ([`Expression::compile`]) and then asked about requests. What it asks for is
//! read where it lies: nothing is copied, unless a function has to change something. Every search is linear: patterns are
//! those of the `regex` crate, as at Cloudflare.
//!
//! What is different from Cloudflare stands in `docs/waf-expressions.md`.

mod call;
mod check;
mod error;
mod evaluate;
mod field;
mod function;
mod languages;
mod lex;
mod list;
mod literal;
mod parse;
mod parts;
mod replace;
mod rule;
mod subject;
mod value;

pub use error::ExpressionError;
pub use list::{List, ListError, ListKind, Lists};
pub use rule::{Action, Decision, Managed, Rule, Skip, decide};
pub use subject::{Body, Response, Subject};

use parse::Test;

/// Bytes of an expression, as at Cloudflare.
pub const MAX_BYTES: usize = 4096;
/// Parentheses and functions within each other.
pub const MAX_DEPTH: usize = 32;
/// Patterns in one expression.
pub const MAX_PATTERNS: usize = 64;

/// A compiled expression.
#[derive(Debug, Clone)]
pub struct Expression {
    source: Box<str>,
    test: Test,
    needs: Needs,
}

/// What an expression looks at beyond a request's head.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs {
    /// The request's body.
    pub body: bool,
    /// The response: the rule is asked once that is there.
    pub response: bool,
    /// Which country the client is in, by [`Subject::country`].
    pub country: bool,
    /// Where else the client is, by [`Subject::place`].
    pub place: bool,
    /// Which network the client is in, by [`Subject::network`].
    pub network: bool,
}

impl Expression {
    /// Checks and compiles. `lists` are those that `in $name` may name.
    pub fn compile(source: &str, lists: &Lists) -> Result<Expression, ExpressionError> {
        let (test, needs) = parse::expression(source, lists)?;
        Ok(Expression {
            source: source.into(),
            test,
            needs,
        })
    }

    /// Whether it is true of a request. What is not there (a header, the response) is unequal to everything, and every other
    /// comparison with it is false.
    pub fn matches(&self, subject: &Subject<'_>) -> bool {
        evaluate::test(&self.test, subject)
    }

    /// What it looks at beyond the head.
    pub fn needs(&self) -> Needs {
        self.needs
    }

    /// As it was written.
    pub fn source(&self) -> &str {
        &self.source
    }
}

#[cfg(test)]
mod tests;
