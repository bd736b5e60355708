//! What rules have found, until the access record is at hand. Names and scores; never what a variable held.

use super::refusal;
use crate::record::Access;
use astraler_waf::engine::{Interruption, Match};

#[derive(Debug, Default)]
pub(super) struct Notes(Vec<Note>);

#[derive(Debug)]
enum Note {
    /// A custom rule, and what it led to.
    Custom(String, &'static str),
    /// A managed rule.
    Managed {
        rule: u64,
        action: &'static str,
        variable: Option<String>,
        score: i64,
    },
}

impl Notes {
    pub(super) fn custom(&mut self, rule: &str, action: &'static str) {
        self.0.push(Note::Custom(rule.to_owned(), action));
    }

    /// The rule that refuses stands before those that matched, with the sum.
    pub(super) fn managed(&mut self, stop: Option<&Interruption>, score: i64, matches: &[Match]) {
        if let Some(stop) = stop {
            self.0.push(Note::Managed {
                rule: stop.rule,
                action: refusal::word(stop),
                variable: None,
                score,
            });
        }
        let stopped_by = stop.map(|stop| stop.rule);
        for one in matches {
            // What only opens the way for others has no message, and what stopped it stands there already.
            if !one.msg.is_empty() && Some(one.rule) != stopped_by {
                self.0.push(Note::Managed {
                    rule: one.rule,
                    action: "match",
                    variable: Some(one.variable.clone()),
                    score: one.score,
                });
            }
        }
    }

    pub(super) fn append(&mut self, mut more: Self) {
        self.0.append(&mut more.0);
    }

    /// Into the record, which then knows them.
    pub(super) fn tell(&mut self, access: &mut Access) {
        for note in self.0.drain(..) {
            match note {
                Note::Custom(rule, action) => access.decided(&rule, action),
                Note::Managed {
                    rule,
                    action,
                    variable,
                    score,
                } => access.inspected(rule, action, variable.as_deref(), score),
            }
        }
    }
}
