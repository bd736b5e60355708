//! What matched and why.

use std::sync::Arc;

use super::name::Matched;
use super::{Interruption, Transaction};
use crate::compile::rule::Head;
use crate::compile::value::Value;

/// A rule that matched.
#[derive(Debug, Clone)]
pub struct Match {
    /// Its id.
    pub rule: u64,
    /// Its phase.
    pub phase: u8,
    /// Its message.
    pub msg: String,
    /// What its author wants to see: most often the part that matched.
    pub data: String,
    /// Which variable its first condition matched in.
    pub variable: String,
    /// What that held, shortened. It may be a secret: a server decides what of it to keep.
    pub value: String,
    /// From 0 (emergency) to 7.
    pub severity: Option<u8>,
    /// Its tags.
    pub tags: Arc<[Box<str>]>,
    /// What it added to scores.
    pub score: i64,
}

/// A transaction, looked back on.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The rules that matched and are logged, in their order.
    pub matches: Vec<Match>,
    /// How many more there were than are recorded.
    pub left_out: usize,
    /// What stopped it.
    pub interruption: Option<Interruption>,
    /// The request's score.
    pub inbound_score: i64,
    /// The response's.
    pub outbound_score: i64,
    /// Whether a limit ended its inspection.
    pub exceeded: bool,
    /// Bytes that patterns and searches looked at.
    pub work: u64,
}

/// How much of a value is quoted.
const EXCERPT: usize = 200;

impl Transaction<'_> {
    pub(super) fn record(&mut self, head: &Head, first: Option<&Matched>) {
        if self.matches.len() >= self.limits.matches {
            self.matches_left_out += 1;
            return;
        }
        let mut bytes = Vec::new();
        let mut written = |this: &mut Self, value: Option<&Value>| {
            bytes.clear();
            if let Some(value) = value {
                this.write_value(value, &mut bytes);
            }
            excerpt(&bytes)
        };
        let msg = written(self, head.msg.as_ref());
        let data = written(self, head.logdata.as_ref());
        let (mut variable, mut value) = (Vec::new(), Vec::new());
        if let Some(first) = first {
            self.write_name(&first.name, &mut variable);
            self.write_held(&first.value, &mut value);
        }
        self.matches.push(Match {
            rule: head.id,
            phase: head.phase,
            msg,
            data,
            variable: excerpt(&variable),
            value: excerpt(&value),
            severity: head.severity,
            tags: Arc::clone(&head.tags),
            score: self.score,
        });
    }

    /// The request's score so far.
    pub fn inbound_score(&self) -> i64 {
        let score = |name: &str| self.tx.get_named(name).number();
        score("blocking_inbound_anomaly_score")
            .max(score("anomaly_score"))
            .max(score("inbound_anomaly_score"))
    }

    /// The response's score so far.
    pub fn outbound_score(&self) -> i64 {
        let score = |name: &str| self.tx.get_named(name).number();
        score("blocking_outbound_anomaly_score").max(score("outbound_anomaly_score"))
    }

    pub(super) fn report(&mut self) -> Report {
        Report {
            inbound_score: self.inbound_score(),
            outbound_score: self.outbound_score(),
            matches: std::mem::take(&mut self.matches),
            left_out: self.matches_left_out,
            interruption: self.interruption.take(),
            exceeded: self.exceeded,
            work: self.work + self.texts.work,
        }
    }
}

fn excerpt(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(EXCERPT)];
    let mut text = String::from_utf8_lossy(cut).into_owned();
    if cut.len() < bytes.len() {
        text.push('…');
    }
    text
}
