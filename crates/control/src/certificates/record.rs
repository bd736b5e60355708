//! Where records of certificates are kept: in the store.

use super::{CertificatesError, wanted};
use crate::platform::{Platform, PlatformError, now_ms};
use std::collections::BTreeMap;

pub(super) use astraler_tls::{Current, Record};

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
