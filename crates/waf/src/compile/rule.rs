//! A rule, ready to run.

use std::sync::Arc;

use super::chains::ChainId;
use super::gate::Bit;
use super::names::Slot;
use super::target::{Exclusion, Target};
use super::value::Value;
use crate::operator::{ByteSet, Check, Compare, Networks, Pattern, TextTest};
use crate::seclang::{Allow, Mode, Place, Processor, Store};

/// Which rule of a program: heads and links of chains are counted alike.
pub(crate) type RuleId = u32;

/// A rule or a link of a chain.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) test: Test,
    pub(crate) negated: bool,
    pub(crate) targets: Box<[Target]>,
    pub(crate) exclusions: Box<[Exclusion]>,
    pub(crate) chain: ChainId,
    pub(crate) multi_match: bool,
    pub(crate) capture: bool,
    /// The steps of its chain, where it looks at each.
    pub(crate) steps: Box<[ChainId]>,
    /// What each match does.
    pub(crate) effects: Box<[Effect]>,
    /// The next link.
    pub(crate) next: Option<RuleId>,
    /// What a whole match does; of heads only.
    pub(crate) head: Option<Box<Head>>,
}

/// What a rule with all its links does and is.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) id: u64,
    pub(crate) phase: u8,
    pub(crate) place: Place,
    pub(crate) disruption: Disruption,
    pub(crate) status: u16,
    pub(crate) log: bool,
    pub(crate) severity: Option<u8>,
    pub(crate) msg: Option<Value>,
    pub(crate) logdata: Option<Value>,
    pub(crate) tags: Arc<[Box<str>]>,
    pub(crate) ver: Option<Box<str>>,
    pub(crate) rev: Option<Box<str>>,
    /// Where the phase goes on after a match: an index of its steps.
    pub(crate) go_to: Option<u32>,
}

/// What happens to the transaction.
#[derive(Debug, Clone)]
pub(crate) enum Disruption {
    None,
    Allow(Allow),
    Deny,
    Drop,
    Redirect(Value),
}

/// What is asked of a value.
#[derive(Debug)]
pub(crate) enum Test {
    /// `SecAction`, `@unconditionalMatch`.
    Always,
    Never,
    /// The pattern, its number (for caches), and what it needs first.
    Pattern(Arc<Pattern>, u32, Gated),
    /// The phrases are the gate's.
    Phrases(Gated),
    Text(TextTest, Value),
    Number(Compare, Value),
    Address(Networks),
    ByteOutside(ByteSet),
    BadEscape,
    BadUtf8,
    Sqli,
    Xss,
    Verify(Check, Arc<Pattern>, u32, Gated),
    Country,
    /// A pattern with macros: compiled when its text is known.
    Expanded(Value),
}

impl Test {
    /// What a text must have; none where the test asks for nothing beforehand.
    pub(crate) fn gate(&self) -> Option<&Gated> {
        match self {
            Self::Pattern(_, _, gated) | Self::Phrases(gated) | Self::Verify(_, _, _, gated) => Some(gated),
            _ => None,
        }
    }
}

/// What a text must have before a pattern is tried.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gated {
    pub(crate) bytes: Box<[ByteSet]>,
    pub(crate) length: u32,
    pub(crate) bit: Option<Bit>,
}

/// What a match does beside counting.
#[derive(Debug)]
pub(crate) enum Effect {
    SetTx(Slot, Change),
    SetNamed(Store, Value, Change),
    Expire(Store, Value, Value),
    Deprecate(Store, Value, Value),
    Init(Store, Value),
    SetEnv(Value, Value),
    Engine(Mode),
    /// Rules, as a set of bits over a program's.
    Remove(Arc<[u64]>),
    RemoveTarget(Arc<[u64]>, Arc<[Exclusion]>),
    Processor(Processor),
    RequestBodyAccess(bool),
    ResponseBodyAccess(bool),
    ForceRequestBody(bool),
    RequestBodyLimit(usize),
    ResponseBodyLimit(usize),
}

/// What happens to a variable.
#[derive(Debug)]
pub(crate) enum Change {
    Unset,
    Set(Value),
    Add(Value),
    Subtract(Value),
}

/// A step of a phase: the head of a rule.
pub(crate) type Step = RuleId;
