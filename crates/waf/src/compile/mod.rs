//! From parsed rules to a program: what is removed, updated and inherited is settled here, once.
//!
//! A [`Program`] never changes; a server shares it between threads and swaps it for a new one.

pub(crate) mod chains;
mod draft;
pub(crate) mod gate;
mod lower;
pub(crate) mod names;
mod reach;
pub(crate) mod rule;
mod settings;
pub(crate) mod target;
pub(crate) mod value;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use chains::Chains;
use gate::Gate;
use names::Names;
use reach::Reach;
use rule::{Rule, RuleId, Step};
pub use settings::Settings;

use crate::engine::Scratch;
use crate::operator::Pattern;
use crate::seclang::{self, LoadError, Problem, Rules};
use crate::transform::UnicodeMap;

/// A rule set, compiled.
#[derive(Debug)]
pub struct Program {
    pub(crate) settings: Settings,
    pub(crate) rules: Vec<Rule>,
    /// The heads of each phase in their order.
    pub(crate) phases: [Vec<Step>; 5],
    /// What those of the response look at.
    pub(crate) reach: Reach,
    pub(crate) chains: Chains,
    pub(crate) names: Names,
    /// How many lists are summed up.
    pub(crate) sums: usize,
    /// Variables whose growth is a score.
    pub(crate) scores: Vec<bool>,
    pub(crate) patterns: Vec<Arc<Pattern>>,
    pub(crate) request_gate: Gate,
    pub(crate) response_gate: Gate,
    pub(crate) unicode_map: Option<UnicodeMap>,
    pub(crate) spare: Mutex<Vec<Scratch>>,
    /// Patterns with macros, by their text; none where it is no pattern.
    expanded: Mutex<Expanded>,
    warnings: Vec<Problem>,
}

/// Patterns by their text.
type Expanded = HashMap<Box<[u8]>, Option<Arc<Pattern>>>;

/// What one rule is, for lists and logs.
#[derive(Debug, Clone)]
pub struct RuleInfo<'p> {
    /// Its id.
    pub id: u64,
    /// Its phase.
    pub phase: u8,
    /// Its message, where that is a plain text.
    pub msg: Option<&'p str>,
    /// Its tags.
    pub tags: &'p [Box<str>],
    /// Where it stands.
    pub place: &'p seclang::Place,
}

impl Program {
    /// Compiles rules. What is wrong with them, with what was found when they were read, is told together.
    pub fn new(rules: &Rules) -> Result<Self, LoadError> {
        let mut problems = rules.problems().to_vec();
        let drafts = draft::gather(rules.directives(), &mut problems);
        lower::program(drafts, problems).map_err(|mut error| {
            error.sort(rules);
            error
        })
    }

    /// What loads and cannot work here, with the reason.
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// What the rules set for all transactions.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether there are rules for responses. Without, a server need not show any.
    pub fn looks_at_responses(&self) -> bool {
        self.phases[2..4].iter().any(|steps| !steps.is_empty())
    }

    /// Whether rules of the response's phases look at the request's body: a server that pauses a transaction keeps it for
    /// them.
    pub fn looks_back_at_request_body(&self) -> bool {
        self.reach.request_body
    }

    /// Whether any rule looks at the body of a response: a server then has it uncompressed from whoever answers.
    pub fn reads_response_body(&self) -> bool {
        self.reach.response_body && self.settings.response_body_access
    }

    /// Whether rules ask where a client is, beside its country: [`crate::engine::Transaction::set_place`].
    pub fn looks_at_places(&self) -> bool {
        self.reach.place
    }

    /// All rules in the order of their phases.
    pub fn rules(&self) -> impl Iterator<Item = RuleInfo<'_>> {
        self.phases.iter().flatten().filter_map(|step| {
            let head = self.rules[*step as usize].head.as_ref()?;
            let msg = head.msg.as_ref().and_then(|msg| msg.as_literal());
            Some(RuleInfo {
                id: head.id,
                phase: head.phase,
                msg: msg.and_then(|text| std::str::from_utf8(text).ok()),
                tags: &head.tags,
                place: &head.place,
            })
        })
    }

    /// A pattern whose text is known only now. It is compiled once for each text.
    pub(crate) fn expanded(&self, text: &[u8]) -> Option<Arc<Pattern>> {
        let mut expanded = self
            .expanded
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(known) = expanded.get(text) {
            return known.clone();
        }
        if expanded.len() >= EXPANDED {
            expanded.clear();
        }
        let pattern = std::str::from_utf8(text)
            .ok()
            .filter(|text| text.len() <= EXPANDED_BYTES)
            .and_then(|text| crate::operator::pattern(text).ok())
            .map(Arc::new);
        expanded.insert(text.into(), pattern.clone());
        pattern
    }

    pub(crate) fn rule(&self, id: RuleId) -> &Rule {
        &self.rules[id as usize]
    }

    /// How much the searches take, in bytes: the larger part of what a program holds.
    pub fn search_bytes(&self) -> usize {
        self.request_gate.memory()
            + self.response_gate.memory()
            + self.patterns.iter().map(|one| one.memory()).sum::<usize>()
    }
}

/// How many patterns with macros are kept.
const EXPANDED: usize = 64;
/// How long one may be: its text may be a client's.
const EXPANDED_BYTES: usize = 1024;
