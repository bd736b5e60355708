//! From a cluster's spool to the destination.

use super::{BackupsError, Protected};
use crate::engines;
use crate::platform::{Platform, now_ms};
use crate::words::chain;
use astraler_postgres as postgres;
use astraler_recovery::{GAP_FILE, upload_spool};
use astraler_store::ArchiveRecord;
use std::path::Path;
use std::time::Duration;

/// How long a segment may take from its end into the spool.
const ARCHIVER_PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Takes what waits, and writes down how far the log is. An empty spool is looked at and nothing more.
pub(crate) async fn take(platform: &Platform, one: &Protected) -> Result<(), BackupsError> {
    let spool = platform.installation.layout.wal_spool(one.cluster);
    let before = platform
        .store
        .archive(one.cluster.name())
        .map_err(crate::platform::PlatformError::Store)?;
    let (waiting, gap) = look(&spool);
    let known = before
        .as_ref()
        .is_some_and(|before| before.error.is_none() && before.gap == gap);
    if waiting == 0 && known {
        return Ok(());
    }
    let taken = if waiting == 0 {
        Ok(None)
    } else {
        upload(platform, one, &spool).await.map(Some)
    };
    let (waiting, gap) = look(&spool);
    let last = taken
        .as_ref()
        .ok()
        .and_then(|taken| taken.clone().and_then(|taken| taken.last));
    let record = ArchiveRecord {
        cluster: one.cluster.name().to_owned(),
        segment: last.as_ref().map(|(segment, _)| segment.clone()),
        archived_ms: last.map(|(_, at)| at),
        waiting,
        gap,
        error: taken.as_ref().err().map(|error| chain(error)),
        changed_ms: now_ms(),
    };
    let failing_before = before.is_some_and(|before| before.error.is_some());
    platform
        .store
        .archive_set(&record)
        .map_err(crate::platform::PlatformError::Store)?;
    match taken {
        Ok(_) => Ok(()),
        Err(error) => {
            if !failing_before {
                let error = chain(&error);
                tracing::warn!(
                    cluster = one.cluster.name(),
                    error,
                    "the log does not reach the destination; it waits in the spool"
                );
            }
            Err(error)
        }
    }
}

async fn upload(
    platform: &Platform,
    one: &Protected,
    spool: &Path,
) -> Result<astraler_recovery::Uploaded, BackupsError> {
    let destination = one.destination(platform)?;
    let admin = engines::admin_access(platform, one.cluster)?;
    let system = postgres::system_identifier(&admin).await?;
    Ok(upload_spool(&destination, one.cluster.name(), &system, spool).await?)
}

/// Ends the segment that is written now and waits until it is in the spool: everything that is committed is in the
/// archive after the next [`take`].
pub(crate) async fn end_segment(platform: &Platform, one: &Protected) -> Result<(), BackupsError> {
    let admin = engines::admin_access(platform, one.cluster)?;
    let segment = postgres::end_segment(&admin).await?;
    let deadline = tokio::time::Instant::now() + ARCHIVER_PATIENCE;
    while tokio::time::Instant::now() < deadline {
        let (taken, _) = postgres::archiver(&admin).await?;
        if taken.is_some_and(|taken| taken.get(8..24) >= segment.get(8..24)) {
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    // What comes next says which segment is missing.
    Ok(())
}

/// Files that wait, and the first segment that found no room.
fn look(spool: &Path) -> (u64, Option<String>) {
    let gap = std::fs::read_to_string(spool.join(GAP_FILE)).ok();
    (
        waiting(spool).count() as u64,
        gap.map(|gap| gap.trim().to_owned()),
    )
}

/// For how long the oldest that waits has waited.
pub(super) fn lag(spool: &Path) -> Duration {
    let oldest = waiting(spool)
        .filter_map(|entry| entry.metadata().ok()?.modified().ok())
        .min();
    oldest
        .and_then(|oldest| oldest.elapsed().ok())
        .unwrap_or_default()
}

fn waiting(spool: &Path) -> impl Iterator<Item = std::fs::DirEntry> {
    let entries = std::fs::read_dir(spool).into_iter().flatten().flatten();
    entries.filter(|entry| {
        let path = entry.path();
        path.extension().is_some_and(|extension| extension == "gz")
    })
}
