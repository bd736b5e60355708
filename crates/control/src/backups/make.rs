//! Bases, dumps, and what may go.

use super::{BackupsError, Progress, Protected, archive, subjects, whole};
use crate::engines;
use crate::platform::{Platform, PlatformError, now_ms};
use crate::words::{Fault, chain};
use astraler_postgres as postgres;
use astraler_recovery::{
    BackupError, BaseRequest, Destination, DumpRequest, GAP_FILE, Kind, StoredSet, base_backup, dump, prune,
    prune_releases,
};
use astraler_store::NewBackup;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tokio::sync::mpsc;

const DAY_MS: u64 = 24 * 3_600_000;
/// How often a base waits for what its log needs to be taken from the spool.
const TAKE_EVERY: std::time::Duration = std::time::Duration::from_secs(1);

/// Makes what is due of one cluster. One failure does not keep the rest from being made.
pub(super) async fn cluster(
    platform: &Platform,
    one: &Protected,
    all: bool,
    events: &mpsc::Sender<Progress>,
) -> Result<bool, Fault> {
    let part = format!("backups of postgres {}", one.cluster.name());
    let fault = |error: &dyn std::error::Error| Fault::of(&part, error);
    let now = now_ms();
    let spool = platform.installation.layout.wal_spool(one.cluster);
    let gap = spool.join(GAP_FILE).exists();
    let mut due = Vec::new();
    for subject in subjects::of(platform, one).map_err(|error| fault(&error))? {
        let last = platform
            .store
            .backups_done(subject.kind.name(), &subject.name, 1)
            .map_err(|error| fault(&error))?;
        let last = last.first().map(|last| last.started_ms);
        let asked = all && subject.interval_ms.is_some();
        if asked || (gap && subject.kind == Kind::Base) || subject.is_due(last, now) {
            due.push((subject.kind, subject.name));
        }
    }
    if due.is_empty() {
        return Ok(false);
    }
    let destination = match one.destination(platform) {
        Ok(destination) => destination,
        Err(error) => {
            // Nothing can be made: that is written down for each, so that it is seen.
            for (kind, subject) in &due {
                note(platform, *kind, subject, &chain(&error));
            }
            return Err(fault(&error));
        }
    };
    let mut failed = None;
    for (kind, subject) in due {
        let name = format!("{} {subject}", kind.name());
        events.send(Progress::Begin { part: name.clone() }).await.ok();
        let began = Instant::now();
        match recorded(platform, one, &destination, kind, &subject).await {
            Ok(set) => {
                if kind == Kind::Base && gap {
                    astraler_host::file::remove_if_present(spool.join(GAP_FILE))
                        .map_err(|error| fault(&error))?;
                }
                let elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                events
                    .send(Progress::End {
                        part: name,
                        detail: format!("{} bytes", set.bytes()),
                        elapsed_ms,
                    })
                    .await
                    .ok();
            }
            Err(error) => failed = failed.or_else(|| Some(Fault::of(&name, &error))),
        }
    }
    if let Some(fault) = failed {
        return Err(fault);
    }
    let keep_after = now.saturating_sub(u64::from(one.config.backups.retention_days.max(1)) * DAY_MS);
    let pruned = prune(&destination, keep_after)
        .await
        .map_err(|error| fault(&error))?;
    let mut gone = pruned.sets;
    if one.whole {
        let live = platform.live().map_err(|error| fault(&error))?;
        let needed = live
            .into_values()
            .map(|(live, _)| astraler_release::directory_name(&live.release))
            .collect();
        let releases = prune_releases(&destination, &needed, keep_after).await;
        gone.extend(releases.map_err(|error| fault(&error))?);
    }
    platform
        .store
        .backups_forget(&gone)
        .map_err(|error| fault(&error))?;
    Ok(true)
}

/// Makes one set, with its beginning and its end in the store.
async fn recorded(
    platform: &Platform,
    one: &Protected,
    destination: &Destination,
    kind: Kind,
    subject: &str,
) -> Result<StoredSet, MakeError> {
    let id = platform
        .store
        .backup_begin(kind.name(), subject, now_ms())
        .map_err(PlatformError::Store)?;
    let made = make(platform, one, destination, kind, subject).await;
    let end = match &made {
        Ok(set) => platform.store.backup_end(
            id,
            Ok(&NewBackup {
                location: &set.key,
                sha256: &set.sha256,
                bytes: set.bytes(),
            }),
            now_ms(),
        ),
        Err(error) => platform.store.backup_end(id, Err(&chain(error)), now_ms()),
    };
    let made = made?;
    end.map_err(PlatformError::Store)?;
    Ok(made)
}

/// Something kept a set from being made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MakeError {
    #[error(transparent)]
    Platform(#[from] PlatformError),
    #[error(transparent)]
    Backups(#[from] BackupsError),
    #[error(transparent)]
    Backup(#[from] BackupError),
    #[error(transparent)]
    Binaries(#[from] postgres::BinariesError),
    #[error(transparent)]
    Whole(#[from] whole::WholeError),
    #[error("the password file cannot be written")]
    File(#[from] astraler_host::file::FileError),
}

async fn make(
    platform: &Platform,
    one: &Protected,
    destination: &Destination,
    kind: Kind,
    subject: &str,
) -> Result<StoredSet, MakeError> {
    if !matches!(kind, Kind::Dump | Kind::Base) {
        return whole::make(platform, one, destination, kind, subject).await;
    }
    let admin = engines::admin_access(platform, one.cluster).map_err(BackupsError::Credential)?;
    let binaries = engines::postgres_binaries(platform, one.cluster)?;
    let password_file = PasswordFile::write(platform, "backup.pgpass", &admin)?;
    match kind {
        Kind::Base => {
            let system = postgres::system_identifier(&admin)
                .await
                .map_err(BackupsError::Database)?;
            let request = BaseRequest {
                cluster: subject,
                system: &system,
                access: &admin,
                binaries: &binaries,
                password_file: password_file.path(),
            };
            // It waits until its log is in the spool; a spool that is full waits for us.
            let base = base_backup(destination, &request);
            let takes = async {
                loop {
                    tokio::time::sleep(TAKE_EVERY).await;
                    archive::take(platform, one).await.ok();
                }
            };
            let base = tokio::select! {
                base = base => base?,
                never = takes => never,
            };
            // A base without the log until its end is none.
            archive::take(platform, one).await?;
            Ok(base)
        }
        _ => {
            let access = postgres::Access {
                database: subject.to_owned(),
                ..admin
            };
            let request = DumpRequest {
                access: &access,
                binaries: &binaries,
                password_file: password_file.path(),
            };
            Ok(dump(destination, &request).await?)
        }
    }
}

fn note(platform: &Platform, kind: Kind, subject: &str, error: &str) {
    let id = platform.store.backup_begin(kind.name(), subject, now_ms());
    let noted = id.and_then(|id| platform.store.backup_end(id, Err(error), now_ms()));
    if let Err(error) = noted {
        tracing::warn!(%error, subject, "a backup that was not made cannot be written down");
    }
}

/// The superuser's password, for PostgreSQL's programs alone and as long as they run.
pub(crate) struct PasswordFile(PathBuf);

impl PasswordFile {
    pub(crate) fn write(
        platform: &Platform,
        name: &str,
        admin: &postgres::Access,
    ) -> Result<Self, astraler_host::file::FileError> {
        let path = platform.installation.layout.secret(name);
        let escaped = |text: &str| text.replace('\\', "\\\\").replace(':', "\\:");
        let line = format!("*:*:*:{}:{}\n", escaped(&admin.user), escaped(&admin.password));
        astraler_host::file::replace(&path, line.as_bytes(), 0o600)?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for PasswordFile {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}
