//! `"!@rx ^a"`: what a rule asks of a value. Which operators there are, [`crate::operator`] knows.

use super::{Template, Wrong};

/// An operator as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// `!`: whether the answer is turned round.
    pub negated: bool,
    /// Its name without `@`, in lower case; `rx` where none is written.
    pub name: String,
    /// Its argument as it is written.
    pub argument: String,
    /// Its argument with macros taken apart.
    pub template: Template,
}

impl Operator {
    pub(crate) fn parse(text: &str) -> Result<Self, Wrong> {
        let text = text.trim_start();
        let (negated, rest) = match text.strip_prefix('!') {
            Some(rest) => (true, rest.trim_start()),
            None => (false, text),
        };
        let (name, argument) = match rest.strip_prefix('@') {
            Some(named) => {
                let end = named
                    .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                    .unwrap_or(named.len());
                (named[..end].to_ascii_lowercase(), named[end..].trim_start())
            }
            None => ("rx".to_owned(), rest),
        };
        let negated = negated && name != "unconditionalmatch";
        let template = match name.as_str() {
            // Patterns are no templates, except where they name a variable.
            "pm" | "pmf" | "pmfromfile" => Template::literal(argument),
            "rx" | "rxglobal" if !argument.to_ascii_lowercase().contains("%{tx.") => {
                Template::literal(argument)
            }
            _ => Template::parse(argument)?,
        };
        Ok(Self {
            negated,
            name,
            argument: argument.to_owned(),
            template,
        })
    }
}
