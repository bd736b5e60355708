//! Who hears how backups stand: an alert for people, numbers for machines.

use super::report::{self, BackupReport, BackupStanding, ClusterBackups};
use crate::daemon::Daemon;
use crate::platform::PlatformError;
use crate::words::chain;
use astraler_alert::Severity;
use std::fmt::Write;

/// Name of the alert.
const RULE: &str = "backups";

/// What was said last, so that it is said once.
#[derive(Debug, Default)]
pub(super) struct Told(Option<String>);

impl Told {
    /// Raises the alert when something is not as it should be, and lowers it when all is. Replicas have one of their own.
    pub(super) fn tell(&mut self, daemon: &Daemon) {
        let trouble = match report::report(&daemon.platform, daemon.config_git.report(), vec![]) {
            Ok(report) => trouble(&report),
            Err(error) => {
                tracing::warn!(error = chain(&error), "how backups stand cannot be told");
                return;
            }
        };
        let said = match &trouble {
            _ if self.0.as_ref() == Some(&trouble) => return,
            none if none.is_empty() => daemon.lower_alert(RULE, None),
            _ => daemon
                .raise_alert(RULE, None, Severity::High, trouble.clone())
                .map(|_| ()),
        };
        match said {
            Ok(()) => self.0 = Some(trouble),
            Err(error) => tracing::warn!(
                error = chain(&error),
                "how backups stand cannot be told; trying again"
            ),
        }
    }
}

/// What is not as it should be, in words that stay the same while it stays so; empty when all is well.
fn trouble(report: &BackupReport) -> String {
    let mut all = Vec::new();
    for cluster in &report.clusters {
        if let Some(archive) = &cluster.archive {
            if let Some(gap) = &archive.gap {
                all.push(format!(
                    "the log of postgres {} lacks segment {gap}",
                    cluster.cluster
                ));
            }
            if archive.late {
                all.push(format!(
                    "the log of postgres {} does not reach {}",
                    cluster.cluster, cluster.destination
                ));
            }
        }
        for backup in cluster.backups.iter().filter(|backup| !backup.healthy()) {
            all.push(format!("{} {} {}", backup.kind, backup.subject, why(backup)));
        }
    }
    if report.configuration.error.is_some() {
        all.push("the configuration does not reach its remote".to_owned());
    }
    match all.is_empty() {
        true => String::new(),
        false => format!("{}; `astraler backup status` shows more", all.join("; ")),
    }
}

fn why(backup: &BackupStanding) -> &'static str {
    match (backup.made_ms, &backup.error) {
        (None, _) => "was never made",
        (_, Some(_)) => "was not made",
        _ if backup.overdue => "is overdue",
        _ => "is less than half of the one before",
    }
}

/// In Prometheus' text format.
pub(crate) fn exposition(daemon: &Daemon) -> Result<String, PlatformError> {
    let report = report::report(&daemon.platform, daemon.config_git.report(), vec![])?;
    let backups = || report.clusters.iter().flat_map(|cluster| &cluster.backups);
    let archives = || {
        let of = |cluster: &'_ ClusterBackups| Some((cluster.cluster.clone(), cluster.archive.clone()?));
        report.clusters.iter().filter_map(of)
    };
    let mut text = String::new();
    let mut family = |name: &str, help: &str, samples: Vec<(String, u64)>| {
        if samples.is_empty() {
            return;
        }
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
        for (labels, value) in samples {
            let _ = writeln!(text, "{name}{{{labels}}} {value}");
        }
    };
    // Kinds, clusters and databases are words of ours: none needs an escape.
    let backup = |value: fn(&BackupStanding) -> Option<u64>| {
        let sample = |backup: &BackupStanding| {
            let labels = format!("kind=\"{}\",subject=\"{}\"", backup.kind, backup.subject);
            Some((labels, value(backup)?))
        };
        backups().filter_map(sample).collect::<Vec<_>>()
    };
    let archive = |value: fn(&report::ArchiveStanding) -> u64| {
        archives()
            .map(|(cluster, archive)| (format!("cluster=\"{cluster}\""), value(&archive)))
            .collect::<Vec<_>>()
    };
    family(
        "astraler_backup_success",
        "Whether the last attempt at this backup succeeded.",
        backup(|one| Some(u64::from(one.made_ms.is_some() && one.error.is_none()))),
    );
    family(
        "astraler_backup_healthy",
        "Whether it is there, in time, and not shrunken.",
        backup(|one| Some(u64::from(one.healthy()))),
    );
    family(
        "astraler_backup_age_seconds",
        "Age of the newest.",
        backup(|one| one.age_ms.map(|age| age / 1_000)),
    );
    family(
        "astraler_backup_size_bytes",
        "Size of the newest.",
        backup(|one| one.bytes),
    );
    family(
        "astraler_backup_log_lag_seconds",
        "For how long the oldest segment of the log has waited for the destination.",
        archive(|one| one.lag_ms / 1_000),
    );
    family(
        "astraler_backup_log_waiting_segments",
        "Segments of the log that wait for the destination.",
        archive(|one| one.waiting),
    );
    family(
        "astraler_backup_log_gap",
        "Whether a segment of the log is missing at the destination until the next base.",
        archive(|one| u64::from(one.gap.is_some())),
    );
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backups::ArchiveStanding;

    fn backup(made_ms: Option<u64>, overdue: bool, shrunken: bool) -> BackupStanding {
        BackupStanding {
            kind: "dump".into(),
            subject: "staging".into(),
            location: None,
            made_ms,
            age_ms: None,
            bytes: None,
            interval_ms: None,
            overdue,
            shrunken,
            error: None,
        }
    }

    #[test]
    fn what_is_missing_late_or_shrunken_is_said_and_what_is_well_is_not() {
        let said = |backups: Vec<BackupStanding>, archive: ArchiveStanding| {
            trouble(&BackupReport {
                storage: vec![],
                healthy: false,
                configuration: crate::config_git::ConfigGitReport::default(),
                notes: vec![],
                clusters: vec![ClusterBackups {
                    cluster: "shared".into(),
                    destination: "s3://team/x".into(),
                    archive: Some(archive),
                    backups,
                }],
            })
        };
        let well = ArchiveStanding::default;
        assert_eq!(said(vec![backup(Some(1), false, false)], well()), "");
        for (one, words) in [
            (backup(None, true, false), "dump staging was never made"),
            (backup(Some(1), true, false), "dump staging is overdue"),
            (
                backup(Some(1), false, true),
                "is less than half of the one before",
            ),
        ] {
            let said = said(vec![one], well());
            assert!(said.contains(words), "{said}");
        }
        let late = ArchiveStanding {
            late: true,
            gap: Some("0A".into()),
            ..well()
        };
        let said = said(vec![], late);
        assert!(
            said.contains("lacks segment 0A") && said.contains("does not reach s3://team/x"),
            "{said}"
        );
    }
}
