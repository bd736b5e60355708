//! What is backed up with a cluster, and when it is due.

use super::Protected;
use crate::platform::{Platform, PlatformError};
use astraler_recovery::Kind;
use astraler_secrets::{Recipient, RootKey};
use std::collections::BTreeSet;

const DAY_MS: u64 = 24 * 3_600_000;
/// What belongs to no cluster.
pub(super) const PLATFORM: &str = "platform";

/// One thing of which there are backups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) kind: Kind,
    pub(super) name: String,
    /// Time between two backups of it; none where one is enough.
    pub(super) interval_ms: Option<u64>,
    /// When it changed last, where a change does not wait for the interval.
    pub(super) changed_ms: Option<u64>,
}

impl Subject {
    /// Whether one must be made, `last_ms` being when the newest was begun.
    pub(super) fn is_due(&self, last_ms: Option<u64>, now_ms: u64) -> bool {
        let Some(last_ms) = last_ms else {
            return true;
        };
        let old = self
            .interval_ms
            .is_some_and(|interval| now_ms.saturating_sub(last_ms) >= interval);
        old || self.changed_ms.is_some_and(|changed| changed >= last_ms)
    }
}

/// Everything of one cluster, and of the platform where it goes with it.
pub(super) fn of(platform: &Platform, one: &Protected) -> Result<Vec<Subject>, PlatformError> {
    let often = Some(one.interval_ms());
    let of = |kind, name: String, interval_ms| Subject {
        kind,
        name,
        interval_ms,
        changed_ms: None,
    };
    let mut all = Vec::new();
    if one.config.backups.archives() {
        all.push(of(Kind::Base, one.cluster.name().to_owned(), often));
    }
    let databases = one.databases(platform)?.into_iter();
    all.extend(databases.map(|database| of(Kind::Dump, database, often)));
    if !one.whole {
        return Ok(all);
    }
    let live = platform.live()?;
    all.push(Subject {
        changed_ms: live.values().filter_map(|(live, _)| live.switched_ms).max(),
        ..of(Kind::State, PLATFORM.to_owned(), often)
    });
    if let Some(keys) = keys(platform, one) {
        let days = u64::from(one.config.backups.secrets_days.max(1));
        all.push(of(Kind::Secrets, keys, Some(days * DAY_MS)));
    }
    let releases: BTreeSet<String> = live.into_values().map(|(live, _)| live.release).collect();
    let releases = releases.into_iter();
    all.extend(releases.map(|digest| of(Kind::Release, astraler_release::directory_name(&digest), None)));
    Ok(all)
}

/// The root key and the recovery key, by their names: another root key, or another recovery key, is another subject, of
/// which there is no backup yet.
fn keys(platform: &Platform, one: &Protected) -> Option<String> {
    let recipient = recipient(one)?;
    let root = RootKey::load(&platform.installation.layout.root_key()).ok()?;
    Some(format!("{}-{}", root.id(), recipient.id()))
}

/// To whom secrets are sealed.
pub(super) fn recipient(one: &Protected) -> Option<Recipient> {
    let text = one.config.backups.recovery_recipient.as_deref()?;
    Recipient::parse(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_old_or_changed_is_due() {
        let subject = |interval_ms, changed_ms| Subject {
            kind: Kind::State,
            name: PLATFORM.into(),
            interval_ms,
            changed_ms,
        };
        assert!(subject(None, None).is_due(None, 0));
        assert!(!subject(None, None).is_due(Some(0), u64::MAX), "one is enough");
        assert!(!subject(Some(10), None).is_due(Some(0), 9));
        assert!(subject(Some(10), None).is_due(Some(0), 10));
        assert!(subject(Some(10), Some(5)).is_due(Some(4), 6));
        assert!(!subject(Some(10), Some(5)).is_due(Some(6), 7));
    }
}
