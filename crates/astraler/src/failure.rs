//! What a user sees when something fails: kind, message, the causes once, a hint.

use std::fmt;
use std::io::{IsTerminal, Write};

/// Which kind of failure: each has a stable exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Anything without a code of its own.
    General,
    /// The manifest or a file beside it is not valid.
    Manifest,
    /// Something that must be installed is missing.
    Missing,
    /// Another command changes this platform now.
    Locked,
    /// A port is taken.
    Port,
    /// The platform is not up.
    NotUp,
    /// A release is not what its digest says.
    Damaged,
    /// A newer deployment was asked for while this one waited.
    Superseded,
    /// A look found that the manifest wants changes.
    Wanted,
    /// A look found what was changed by hand.
    Drift,
    /// A plan would destroy what is protected.
    Protected,
    /// A plan does not fit the machine any more.
    Stale,
    /// Two environments are not the same.
    Differs,
    /// A gate has not passed.
    Gates,
    /// Ctrl-C.
    Interrupted,
}

impl Kind {
    /// Stable: documented in `docs/reference/exit-codes.md`. 2 is clap's, for wrong usage.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::General => 1,
            Self::Manifest => 3,
            Self::Missing => 4,
            Self::Locked => 5,
            Self::Port => 6,
            Self::NotUp => 7,
            Self::Damaged => 8,
            Self::Superseded => 9,
            Self::Wanted => 10,
            Self::Drift => 11,
            Self::Protected => 12,
            Self::Stale => 13,
            Self::Differs => 14,
            Self::Gates => 15,
            Self::Interrupted => 130,
        }
    }
}

/// A failure ready to be shown.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    pub(crate) message: String,
    pub(crate) details: Vec<String>,
    pub(crate) hint: Option<String>,
    /// Already rendered text, for diagnostics that point into files.
    pub(crate) rendered: Option<String>,
}

impl Failure {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            details: vec![],
            hint: None,
            rendered: None,
        }
    }

    /// The exit code alone: what there is to say stands on standard output.
    pub(crate) fn said(kind: Kind) -> Self {
        let mut failure = Self::new(kind, "");
        failure.rendered = Some(String::new());
        failure
    }

    /// An error with its causes, each said once.
    pub(crate) fn of(error: &dyn std::error::Error) -> Self {
        let mut failure = Self::new(Kind::General, error.to_string());
        let mut said = failure.message.clone();
        let mut source = error.source();
        while let Some(cause) = source {
            let words = cause.to_string();
            if !said.contains(&words) {
                said.push_str(&words);
                failure.details.push(words);
            }
            source = cause.source();
        }
        failure
    }

    pub(crate) fn kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn details(mut self, details: Vec<String>) -> Self {
        self.details.extend(details);
        self
    }

    pub(crate) fn context(mut self, message: impl fmt::Display) -> Self {
        self.details
            .insert(0, std::mem::replace(&mut self.message, message.to_string()));
        self
    }

    pub(crate) fn diagnostics(diagnostics: &astraler_manifest::Diagnostics) -> Self {
        let color = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let mut failure = Self::new(Kind::Manifest, format!("{} errors", diagnostics.len()));
        failure.rendered = Some(diagnostics.render(color, 110));
        failure
    }

    /// Writes it to standard error. Nothing is left to do when even that fails.
    pub(crate) fn print(&self) {
        let mut text = String::new();
        if let Some(rendered) = &self.rendered {
            text.push_str(rendered);
            if !rendered.is_empty() && !rendered.ends_with('\n') {
                text.push('\n');
            }
        } else {
            text.push_str(&format!("error: {}\n", self.message));
            for detail in &self.details {
                for line in detail.lines() {
                    text.push_str(&format!("  {line}\n"));
                }
            }
        }
        if let Some(hint) = &self.hint {
            text.push_str(&format!("hint: {hint}\n"));
        }
        std::io::stderr().lock().write_all(text.as_bytes()).ok();
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::of(&error)
    }
}

/// The result of a command.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;
