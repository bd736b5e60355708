//! What is known of each certificate: what is in force, and how far the next one has come.

use crate::{Facts, Timing};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How often a CA is asked when it wants a certificate renewed.
const ASK_EVERY_MS: u64 = 6 * 3_600_000;

/// One certificate's, as its keeper writes it down.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// In force.
    pub current: Option<Current>,
    /// Attempts at the next one that failed, in a row.
    pub failures: u32,
    /// Why the last one did.
    pub error: Option<String>,
    /// Not before.
    pub next_try_ms: Option<u64>,
    /// A person wants the next one now.
    pub asked: bool,
    /// The order that was begun for the next one.
    pub order: Option<OrderRecord>,
}

/// An order at a CA, from the moment at which it has a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderRecord {
    /// By which it can be taken up again.
    pub url: String,
    /// Whose it is.
    pub directory: String,
    /// The file with the private key that the certificate will be for.
    pub key: String,
    /// When, in milliseconds since the Unix epoch.
    pub begun_ms: u64,
}

/// A certificate in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Current {
    /// Its name in the folder of certificates.
    pub file: String,
    /// Of the local CA.
    pub local: bool,
    /// What it says of itself.
    pub facts: Facts,
    /// When its CA wants it to be renewed.
    pub suggested_ms: Option<u64>,
    /// When it was last asked.
    pub asked_ms: Option<u64>,
}

impl Current {
    /// Whether it vouches for a host.
    pub fn covers(&self, name: &str) -> bool {
        let parent = name.split_once('.').map(|(_, parent)| format!("*.{parent}"));
        let names = &self.facts.names;
        names
            .iter()
            .any(|one| one == name || Some(one) == parent.as_ref())
    }
}

impl Record {
    /// When the one in force began and ends.
    pub fn timing(&self) -> Option<Timing> {
        self.current.as_ref().map(|current| Timing {
            not_before_ms: current.facts.not_before_ms,
            not_after_ms: current.facts.not_after_ms,
            suggested_ms: current.suggested_ms,
            failures: self.failures,
        })
    }

    /// Whether the last attempt failed so shortly ago that the next one waits.
    pub fn waits(&self, now: u64) -> bool {
        crate::waits(self.next_try_ms, now)
    }

    /// When the next one is to be asked for, as far as time decides.
    pub fn due_ms(&self, subject: &str, now: u64) -> u64 {
        let due = self.timing().map_or(0, |timing| {
            let file = self.current.as_ref().map_or("", |current| &current.file);
            crate::due_ms(&timing, dice(&[subject, file]))
        });
        let due = if self.asked { 0 } else { due };
        due.max(self.next_try_ms.filter(|_| self.waits(now)).unwrap_or(0))
    }

    /// Whether the next one is to be asked for: by time, because there is none (`is_there` says whether a file is), or
    /// because an order is under way.
    pub fn is_due(&self, subject: &str, is_there: impl Fn(&str) -> bool, now: u64) -> bool {
        let missing = self
            .current
            .as_ref()
            .is_none_or(|current| !is_there(&current.file));
        !self.waits(now) && (missing || self.order.is_some() || self.due_ms(subject, now) <= now)
    }

    /// Whether its CA may be asked when it wants it renewed.
    pub fn may_ask(&self, now: u64) -> bool {
        let current = self.current.as_ref().filter(|current| !current.local);
        current.is_some_and(|current| {
            current
                .asked_ms
                .is_none_or(|asked| now.saturating_sub(asked) > ASK_EVERY_MS)
        })
    }

    /// Its files in the folder of certificates.
    pub fn files(&self) -> impl Iterator<Item = String> {
        let current = self.current.iter().map(|current| current.file.clone());
        current.chain(self.order.iter().map(|order| order.key.clone()))
    }

    /// An attempt failed.
    pub fn failed(&mut self, subject: &str, error: String, retry_after_ms: Option<u64>, now: u64) {
        self.failures = self.failures.saturating_add(1);
        let dice = dice(&[subject, &self.failures.to_string()]);
        self.next_try_ms = Some(crate::next_try_ms(self.failures, now, retry_after_ms, dice));
        self.error = Some(error);
    }

    /// The next one is in force.
    pub fn succeeded(&mut self, current: Current) {
        *self = Self {
            current: Some(current),
            ..Self::default()
        };
    }
}

/// A number that is one certificate's own and the same whenever it is asked for.
pub fn dice(parts: &[&str]) -> u64 {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part.as_bytes());
        digest.update([0]);
    }
    let digest: [u8; 32] = digest.finalize().into();
    u64::from_be_bytes([
        digest[0], digest[1], digest[2], digest[3], digest[4], digest[5], digest[6], digest[7],
    ])
}
