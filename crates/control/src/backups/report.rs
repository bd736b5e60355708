//! How backups stand: what is there, how old and how large it is, and what is missing.

use super::subjects::{self, Subject, recipient};
use super::{Protected, archive, protected};
use crate::config_git::ConfigGitReport;
use crate::platform::{Platform, PlatformError, now_ms};
use astraler_model::ReplicationStanding;
use astraler_recovery::Kind;
use astraler_store::{ArchiveRecord, BackupRecord, BackupState};
use serde::{Deserialize, Serialize};

/// A backup that is so much older than it should be is overdue, in percent of the time between two.
const OVERDUE_PERCENT: u64 = 150;
/// A backup that is so much of the one before, in percent, has shrunk.
const SHRUNK_PERCENT: u64 = 50;
const NO_RECIPIENT: &str = "secrets are not backed up: `astraler secrets recovery-key create` makes the key that they are \
                            sealed to, for backups.recovery_recipient";
/// Smaller ones come and go as they like.
const SHRUNK_FROM_BYTES: u64 = 64 << 10;

/// What `astraler backup status` shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupReport {
    /// Clusters that have a destination.
    pub clusters: Vec<ClusterBackups>,
    /// The repository of the configuration.
    pub configuration: ConfigGitReport,
    /// What is not backed up because nobody asked for it, and how to.
    pub notes: Vec<String>,
    /// Environments whose buckets go to a second location.
    #[serde(default)]
    pub storage: Vec<ReplicationStanding>,
    /// All is as it should be: nothing is missing, failed, overdue or shrunken.
    pub healthy: bool,
}

/// One cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterBackups {
    /// Its name.
    pub cluster: String,
    /// Where its backups go.
    pub destination: String,
    /// The log; absent where it is not archived.
    pub archive: Option<ArchiveStanding>,
    /// Its base, and the dump of each of its databases.
    pub backups: Vec<BackupStanding>,
}

/// How far the log is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveStanding {
    /// The last segment at the destination.
    pub segment: Option<String>,
    /// When that was finished.
    pub archived_ms: Option<u64>,
    /// Segments that wait on this machine.
    pub waiting: u64,
    /// For how long the oldest of them has waited.
    pub lag_ms: u64,
    /// Longer than `recovery.recovery_point_s` allows.
    pub late: bool,
    /// The first segment that found no room: until the next base, points from there on cannot be brought back.
    pub gap: Option<String>,
    /// Why nothing goes there now.
    pub error: Option<String>,
}

/// How the backups of one thing stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupStanding {
    /// `base`, `dump`, `state`, `secrets` or `release`.
    pub kind: String,
    /// The cluster, the database, `platform`, the names of the root key and the recovery key, the digest.
    pub subject: String,
    /// Where the newest is.
    pub location: Option<String>,
    /// When that was made, in milliseconds since the Unix epoch.
    pub made_ms: Option<u64>,
    /// How old it is.
    pub age_ms: Option<u64>,
    /// Time between two; none where one is enough.
    pub interval_ms: Option<u64>,
    /// Its size.
    pub bytes: Option<u64>,
    /// None was made yet, or the newest is too old.
    pub overdue: bool,
    /// It is less than half of the one before.
    pub shrunken: bool,
    /// Why the last attempt failed, when that was after the newest.
    pub error: Option<String>,
}

impl BackupStanding {
    /// All is as it should be.
    pub fn healthy(&self) -> bool {
        !self.overdue && !self.shrunken && self.error.is_none()
    }
}

/// The whole report.
pub(crate) fn report(
    platform: &Platform,
    configuration: ConfigGitReport,
    storage: Vec<ReplicationStanding>,
) -> Result<BackupReport, PlatformError> {
    let mut clusters = Vec::new();
    let mut notes = Vec::new();
    for one in protected(platform)? {
        if one.whole && recipient(&one).is_none() {
            notes.push(NO_RECIPIENT.to_owned());
        }
        clusters.push(of(platform, &one)?);
    }
    let healthy = clusters.iter().all(|cluster| {
        cluster.backups.iter().all(BackupStanding::healthy)
            && cluster
                .archive
                .as_ref()
                .is_none_or(|archive| archive.gap.is_none() && archive.error.is_none() && !archive.late)
    });
    let replicated = storage
        .iter()
        .all(|standing| standing.error.is_none() && !crate::replicas::is_behind(platform, standing));
    Ok(BackupReport {
        clusters,
        storage,
        healthy: healthy && replicated && configuration.error.is_none(),
        configuration,
        notes,
    })
}

fn of(platform: &Platform, one: &Protected) -> Result<ClusterBackups, PlatformError> {
    let archives = one.config.backups.archives();
    let record = platform.store.archive(one.cluster.name())?;
    let tried = platform.store.backups(None, astraler_store::MAX_ROWS)?;
    let mut backups = Vec::new();
    for Subject {
        kind,
        name: subject,
        interval_ms,
        ..
    } in subjects::of(platform, one)?
    {
        let done = platform.store.backups_done(kind.name(), &subject, 2)?;
        let last = tried.iter().find(|record| {
            record.kind == kind.name() && record.subject == subject && record.state != BackupState::Running
        });
        backups.push(standing(kind, subject, &done, last, interval_ms, now_ms()));
    }
    Ok(ClusterBackups {
        cluster: one.cluster.name().to_owned(),
        destination: one.config.backups.target_url.clone().unwrap_or_default(),
        archive: archives.then(|| archive_standing(platform, one, record)),
        backups,
    })
}

fn archive_standing(platform: &Platform, one: &Protected, record: Option<ArchiveRecord>) -> ArchiveStanding {
    let lag = archive::lag(&platform.installation.layout.wal_spool(one.cluster));
    let known = record.map_or_else(ArchiveStanding::default, |record| ArchiveStanding {
        segment: record.segment,
        archived_ms: record.archived_ms,
        waiting: record.waiting,
        gap: record.gap,
        error: record.error,
        ..ArchiveStanding::default()
    });
    ArchiveStanding {
        lag_ms: u64::try_from(lag.as_millis()).unwrap_or(u64::MAX),
        late: lag.as_secs() > u64::from(one.config.recovery.recovery_point_s),
        ..known
    }
}

fn standing(
    kind: Kind,
    subject: String,
    done: &[BackupRecord],
    last: Option<&BackupRecord>,
    interval_ms: Option<u64>,
    now_ms: u64,
) -> BackupStanding {
    let newest = done.first();
    let age_ms = newest.map(|newest| now_ms.saturating_sub(newest.started_ms));
    let bytes = newest.and_then(|newest| newest.bytes);
    let before = done.get(1).and_then(|before| before.bytes);
    let shrunken = match (bytes, before) {
        (Some(bytes), Some(before)) => before >= SHRUNK_FROM_BYTES && bytes < before / 100 * SHRUNK_PERCENT,
        _ => false,
    };
    BackupStanding {
        kind: kind.name().to_owned(),
        subject,
        location: newest.and_then(|newest| newest.location.clone()),
        made_ms: newest.map(|newest| newest.started_ms),
        age_ms,
        bytes,
        interval_ms,
        overdue: age_ms
            .is_none_or(|age| interval_ms.is_some_and(|interval| age > interval / 100 * OVERDUE_PERCENT)),
        shrunken,
        error: last
            .filter(|last| newest.is_none_or(|newest| last.id > newest.id))
            .and_then(|last| last.error.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(id: u64, bytes: u64, started_ms: u64) -> BackupRecord {
        BackupRecord {
            id,
            kind: "dump".into(),
            subject: "staging".into(),
            state: BackupState::Done,
            location: Some("dump/staging/x".into()),
            sha256: None,
            bytes: Some(bytes),
            error: None,
            started_ms,
            ended_ms: Some(started_ms + 1),
        }
    }

    #[test]
    fn missing_old_shrunken_and_failed_backups_are_told() {
        let of = |done: &[BackupRecord], last: Option<&BackupRecord>, now| {
            standing(Kind::Dump, "staging".into(), done, last, Some(1_000), now)
        };
        assert!(of(&[], None, 0).overdue, "none was made");
        assert!(!of(&[done(1, 10, 0)], None, 1_400).overdue);
        assert!(of(&[done(1, 10, 0)], None, 1_501).overdue);
        assert!(of(&[done(2, 400_000, 0), done(1, 1_000_000, 0)], None, 0).shrunken);
        assert!(!of(&[done(2, 600_000, 0), done(1, 1_000_000, 0)], None, 0).shrunken);
        let failed = BackupRecord {
            state: BackupState::Failed,
            error: Some("away".into()),
            ..done(3, 0, 5)
        };
        assert_eq!(
            of(&[done(2, 1, 0)], Some(&failed), 6).error.as_deref(),
            Some("away")
        );
        assert_eq!(
            of(&[done(4, 1, 0)], Some(&failed), 6).error,
            None,
            "it was made since"
        );
    }
}
