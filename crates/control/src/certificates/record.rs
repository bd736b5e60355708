//! What is known of each certificate: what is in force, and how far the next one has come.

use super::{CertificatesError, wanted};
use crate::platform::{Platform, PlatformError, now_ms};
use astraler_tls::{Facts, Timing};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// One certificate's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Record {
    /// In force.
    pub(super) current: Option<Current>,
    /// Attempts at the next one that failed, in a row.
    pub(super) failures: u32,
    /// Why the last one did.
    pub(super) error: Option<String>,
    /// Not before.
    pub(super) next_try_ms: Option<u64>,
    /// A person wants the next one now.
    pub(super) asked: bool,
    /// The order that was begun for the next one.
    pub(super) order: Option<OrderRecord>,
}

/// An order at a CA, from the moment at which it has a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OrderRecord {
    /// By which it can be taken up again.
    pub(super) url: String,
    /// Whose it is.
    pub(super) directory: String,
    /// The file with the private key that the certificate will be for.
    pub(super) key: String,
    pub(super) begun_ms: u64,
}

/// A certificate in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Current {
    /// Its name in the folder of certificates.
    pub(super) file: String,
    /// Of the local CA.
    pub(super) local: bool,
    pub(super) facts: Facts,
    /// When its CA wants it to be renewed.
    pub(super) suggested_ms: Option<u64>,
    /// When it was last asked.
    pub(super) asked_ms: Option<u64>,
}

impl Current {
    pub(super) fn covers(&self, name: &str) -> bool {
        let parent = name.split_once('.').map(|(_, parent)| format!("*.{parent}"));
        let names = &self.facts.names;
        names
            .iter()
            .any(|one| one == name || Some(one) == parent.as_ref())
    }
}

impl Record {
    pub(super) fn timing(&self) -> Option<Timing> {
        self.current.as_ref().map(|current| Timing {
            not_before_ms: current.facts.not_before_ms,
            not_after_ms: current.facts.not_after_ms,
            suggested_ms: current.suggested_ms,
            failures: self.failures,
        })
    }

    /// Whether the last attempt failed so shortly ago that the next one waits.
    pub(super) fn waits(&self, now: u64) -> bool {
        astraler_tls::waits(self.next_try_ms, now)
    }

    /// When the next one is to be asked for, as far as time decides.
    pub(super) fn due_ms(&self, subject: &str, now: u64) -> u64 {
        let due = self.timing().map_or(0, |timing| {
            let file = self.current.as_ref().map_or("", |current| &current.file);
            astraler_tls::due_ms(&timing, dice(&[subject, file]))
        });
        let due = if self.asked { 0 } else { due };
        due.max(self.next_try_ms.filter(|_| self.waits(now)).unwrap_or(0))
    }

    /// Its files in the folder of certificates.
    pub(super) fn files(&self) -> impl Iterator<Item = String> {
        let current = self.current.iter().map(|current| current.file.clone());
        current.chain(self.order.iter().map(|order| order.key.clone()))
    }

    /// An attempt failed.
    pub(super) fn failed(&mut self, subject: &str, error: String, retry_after_ms: Option<u64>, now: u64) {
        self.failures = self.failures.saturating_add(1);
        let dice = dice(&[subject, &self.failures.to_string()]);
        self.next_try_ms = Some(astraler_tls::next_try_ms(
            self.failures,
            now,
            retry_after_ms,
            dice,
        ));
        self.error = Some(error);
    }

    /// The next one is in force.
    pub(super) fn succeeded(&mut self, current: Current) {
        *self = Self {
            current: Some(current),
            ..Self::default()
        };
    }
}

/// A number that is one certificate's own and the same whenever it is asked for.
pub(super) fn dice(parts: &[&str]) -> u64 {
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

/// All of them. One of another version is as good as none: it is issued anew.
pub(super) fn all(platform: &Platform) -> Result<BTreeMap<String, Record>, PlatformError> {
    let stored = platform.store.certificates()?;
    Ok(stored
        .into_iter()
        .map(|(subject, body)| (subject, serde_json::from_value(body).unwrap_or_default()))
        .collect())
}

pub(super) fn put(platform: &Platform, subject: &str, record: &Record) -> Result<(), CertificatesError> {
    let body = serde_json::to_value(record).map_err(|source| CertificatesError::Record {
        subject: subject.to_owned(),
        source,
    })?;
    Ok(platform.store.certificate_put(subject, &body, now_ms())?)
}

/// Forgets what nobody wants any more. One of a CA of others stays until its end: who comes back the next day would
/// otherwise ask for one more.
pub(super) fn forget_unwanted(platform: &Platform, now: u64) -> Result<(), CertificatesError> {
    let wanted = wanted::all(platform)?;
    for (subject, record) in all(platform)? {
        let is_wanted = wanted.iter().any(|one| one.subject == subject);
        let holds = record
            .current
            .is_some_and(|current| !current.local && current.facts.not_after_ms > now);
        if !is_wanted && !holds {
            platform.store.certificate_remove(&subject)?;
        }
    }
    Ok(())
}
