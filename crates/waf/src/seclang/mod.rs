//! Rule files, read: directives with their places. Nothing is decided here; [`crate::compile`] makes a program of it.
//!
//! The language is that of ModSecurity's reference manual. What it does not document is an error with file and line, and
//! all of a set's errors are reported together: a rule that is skipped in silence is a hole.

mod action;
mod ctl;
mod directive;
mod lines;
mod operator;
mod setting;
mod setvar;
mod template;
mod variable;
mod words;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use action::{Action, Allow, Disruptive};
pub use ctl::{Ctl, Processor, Removed};
pub use operator::Operator;
pub use setting::{BodyLimitAction, Mode, Setting};
pub use setvar::{Change, SetVar, Store};
pub use template::{Part, RuleField, Template};
pub(crate) use variable::nearest;
pub use variable::{Collection, Kind, Selector, Target, Variable};

/// Where something stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The rule file.
    pub file: Arc<Path>,
    /// The line on which the directive begins, from 1.
    pub line: u32,
}

/// A directive with its place.
#[derive(Debug, Clone)]
pub struct Directive {
    /// Where it stands.
    pub place: Place,
    /// What it says.
    pub kind: DirectiveKind,
}

/// What a directive says.
#[derive(Debug, Clone)]
pub enum DirectiveKind {
    /// `SecRule`, or `SecAction` (a rule that always matches).
    Rule(Rule),
    /// `SecMarker`: where `skipAfter` goes on.
    Marker(String),
    /// `SecDefaultAction`.
    DefaultAction(Vec<Action>),
    /// `SecRuleRemoveById`, `…ByTag`, `…ByMsg`.
    Remove(Removed),
    /// `SecRuleUpdateTargetById`, `…ByTag`, `…ByMsg`.
    UpdateTarget(Removed, Vec<Target>),
    /// `SecRuleUpdateActionById`: the rule, and which link of its chain.
    UpdateAction(u64, usize, Vec<Action>),
    /// Everything else.
    Setting(Setting),
    /// A rule that cannot be read, and whether it says `chain`: its links must not be taken for rules of their own.
    Unread {
        /// Whether a link follows.
        chained: bool,
    },
}

/// One `SecRule` or `SecAction`.
#[derive(Debug, Clone)]
pub struct Rule {
    /// What is looked at; empty for `SecAction`.
    pub targets: Vec<Target>,
    /// What is asked; none for `SecAction`.
    pub operator: Option<Operator>,
    /// Its actions in their order.
    pub actions: Vec<Action>,
}

impl Rule {
    /// Its id, where it has one: links of a chain have none.
    pub fn id(&self) -> Option<u64> {
        self.actions.iter().find_map(|action| match action {
            Action::Id(id) => Some(*id),
            _ => None,
        })
    }
}

/// One thing that is wrong with a rule set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1; 0 where the whole file is meant.
    pub line: u32,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file.display(), self.message)?,
            line => write!(f, "{}:{line}: {}", self.file.display(), self.message)?,
        }
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

/// A rule set that cannot be used, with everything that is wrong in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadError {
    /// In the order of the files and lines.
    pub problems: Vec<Problem>,
}

impl std::error::Error for LoadError {}

impl LoadError {
    /// Puts the problems in the order in which the files were read.
    pub(crate) fn sort(&mut self, rules: &Rules) {
        let mut files: Vec<&Path> = Vec::new();
        let read = rules.directives.iter().map(|directive| &*directive.place.file);
        for file in read.chain(rules.problems.iter().map(|problem| problem.file.as_path())) {
            if files.last() != Some(&file) && !files.contains(&file) {
                files.push(file);
            }
        }
        let rank = |problem: &Problem| files.iter().position(|file| *file == problem.file);
        self.problems
            .sort_by_key(|problem| (rank(problem).unwrap_or(usize::MAX), problem.line));
    }
}

impl std::fmt::Display for LoadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.problems.len() {
            1 => f.write_str("1 problem in the rules")?,
            count => write!(f, "{count} problems in the rules")?,
        }
        for problem in self.problems.iter().take(SHOWN) {
            write!(f, "\n{problem}")?;
        }
        match self.problems.len().checked_sub(SHOWN) {
            None | Some(0) => Ok(()),
            Some(more) => write!(f, "\n… and {more} more"),
        }
    }
}

/// How many problems one message lists: the rest is in [`LoadError::problems`].
const SHOWN: usize = 50;

/// What is wrong in one directive, before its place is known.
#[derive(Debug)]
pub(crate) struct Wrong {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Wrong {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
        }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn at(self, place: &Place) -> Problem {
        Problem {
            file: place.file.to_path_buf(),
            line: place.line,
            message: self.message,
            hint: self.hint,
        }
    }
}

/// Rules, read: what files and texts say, in the order in which they were read, and what is wrong with them.
///
/// Reading goes on behind what cannot be read, and compiling does too: all that is wrong with a set is told together, by
/// [`Program::new`](crate::compile::Program::new).
#[derive(Debug, Clone, Default)]
pub struct Rules {
    directives: Vec<Directive>,
    problems: Vec<Problem>,
}

impl Rules {
    /// Begins with [`crate::BASE`]. A set that brings a rule of the same id replaces that of the base.
    pub fn base() -> Self {
        Self::default().text(crate::BASE, Path::new(BASE_FILE))
    }

    /// More rules, from files in this order and what they include.
    #[must_use]
    pub fn files(mut self, paths: &[PathBuf]) -> Self {
        let mut reader = directive::Reader::default();
        for path in paths {
            reader.file(path, None);
        }
        self.take(reader);
        self
    }

    /// More rules, from a text; `file` is what messages call it, and its folder is where lists and includes are looked for.
    #[must_use]
    pub fn text(mut self, text: &str, file: &Path) -> Self {
        let mut reader = directive::Reader::default();
        reader.text(text, file);
        self.take(reader);
        self
    }

    fn take(&mut self, reader: directive::Reader) {
        self.directives.extend(reader.directives);
        self.problems.extend(reader.problems);
    }

    /// What was read.
    pub fn directives(&self) -> &[Directive] {
        &self.directives
    }

    /// What cannot be read.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

/// What messages call [`crate::BASE`].
pub(crate) const BASE_FILE: &str = "base.conf of astraler-waf";
