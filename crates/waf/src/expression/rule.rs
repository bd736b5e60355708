//! Rules: an expression, and what happens where it is true.

use std::collections::BTreeSet;

use super::{Expression, Subject};

/// A custom rule.
#[derive(Debug, Clone)]
pub struct Rule {
    /// By which the log names it.
    pub name: String,
    /// When it applies.
    pub expression: Expression,
    /// What happens then.
    pub action: Action,
}

/// What a rule does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The request is answered with 403.
    Block,
    /// It is logged, and goes on.
    Log,
    /// It passes over other rules.
    Skip(Skip),
    /// Managed rules are not run for it, or some of them are not.
    Exception(Managed),
}

/// What a request passes over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Skip {
    /// The custom rules behind this one.
    pub custom_rules: bool,
    /// Rules of the managed rule set.
    pub managed: Managed,
    /// Rate rules.
    pub rate_rules: bool,
}

/// Which rules of the managed set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Managed {
    /// All of them.
    pub all: bool,
    /// Those with these ids.
    pub ids: BTreeSet<u64>,
    /// Those with any of these tags.
    pub tags: BTreeSet<String>,
}

impl Managed {
    /// Whether a rule is meant.
    pub fn has<'t>(&self, id: u64, tags: impl IntoIterator<Item = &'t str>) -> bool {
        self.all || self.ids.contains(&id) || tags.into_iter().any(|tag| self.tags.contains(tag))
    }

    /// Whether none is.
    pub fn is_none(&self) -> bool {
        !self.all && self.ids.is_empty() && self.tags.is_empty()
    }

    fn add(&mut self, other: &Managed) {
        self.all |= other.all;
        self.ids.extend(&other.ids);
        self.tags.extend(other.tags.iter().cloned());
    }
}

/// What rules, asked one after the other, make of a request.
#[derive(Debug, Default)]
pub struct Decision<'r> {
    /// The rule that refuses it; those behind it were not asked.
    pub block: Option<&'r Rule>,
    /// The other rules that applied, in their order.
    pub applied: Vec<&'r Rule>,
    /// What it passes over from here on.
    pub skip: Skip,
}

/// Asks rules in their order. Nothing is allocated for a request that none applies to.
pub fn decide<'r>(rules: impl IntoIterator<Item = &'r Rule>, subject: &Subject<'_>) -> Decision<'r> {
    let mut decision = Decision::default();
    for rule in rules {
        if !rule.expression.matches(subject) {
            continue;
        }
        match &rule.action {
            Action::Block => {
                decision.block = Some(rule);
                break;
            }
            Action::Log => decision.applied.push(rule),
            Action::Exception(managed) => {
                decision.applied.push(rule);
                decision.skip.managed.add(managed);
            }
            Action::Skip(skip) => {
                decision.applied.push(rule);
                decision.skip.managed.add(&skip.managed);
                decision.skip.rate_rules |= skip.rate_rules;
                if skip.custom_rules {
                    decision.skip.custom_rules = true;
                    break;
                }
            }
        }
    }
    decision
}
