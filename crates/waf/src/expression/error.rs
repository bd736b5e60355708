//! What is wrong with an expression, and where.

use std::fmt;

/// Why an expression cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpressionError {
    /// Offset in the expression, in bytes.
    pub at: usize,
    /// What is wrong.
    pub what: String,
    /// What to write instead.
    pub hint: Option<String>,
}

impl ExpressionError {
    pub(super) fn new(at: usize, what: impl Into<String>) -> Self {
        ExpressionError {
            at,
            what: what.into(),
            hint: None,
        }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The line of the expression that is meant, with a mark below.
    pub fn render(&self, source: &str) -> String {
        let at = self.at.min(source.len());
        let start = source[..floor(source, at)].rfind('\n').map_or(0, |end| end + 1);
        let line = source[start..].lines().next().unwrap_or_default();
        let column = source[start..floor(source, at)].chars().count();
        format!("{self}\n  {line}\n  {:column$}^", "")
    }
}

/// The character that `at` is in begins here.
fn floor(source: &str, at: usize) -> usize {
    (0..=at)
        .rev()
        .find(|place| source.is_char_boundary(*place))
        .unwrap_or(0)
}

impl fmt::Display for ExpressionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.what, self.at + 1)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ExpressionError {}

/// The name that was probably meant.
pub(super) fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    known
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= 2.max(name.len() / 6))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
