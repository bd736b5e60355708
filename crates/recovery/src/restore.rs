//! Which base and which part of the log bring a cluster to a point in time, and their way back to this machine.

use crate::archive::{WalObject, is_segment, list_wal};
use crate::destination::{Destination, DestinationError};
use crate::set::{Kind, SetError, StoredSet, list_sets};
use std::path::{Path, PathBuf};

/// Segments that were archived so long after a point are fetched too: the clock may have jumped in between.
const MARGIN_MS: u64 = 60_000;
/// Space that must be left on the disk.
const RESERVE_BYTES: u64 = 256 << 20;
/// A cluster's files are so much larger than their backup, as a first estimate.
const GROWTH: u64 = 8;

/// The points in time that can be brought back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Point {
    /// From when, in milliseconds since the Unix epoch.
    pub from_ms: u64,
    /// Until when the log is at the destination.
    pub to_ms: u64,
}

/// What is needed to bring a cluster to a point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestorePlan {
    /// The base.
    pub base: StoredSet,
    /// The log from there on.
    pub wal: Vec<WalObject>,
    /// What is fetched.
    pub bytes: u64,
}

/// A point in time cannot be brought back.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// There is no base.
    #[error("there is no base backup of cluster {cluster} at {url}: `astraler backup run` makes one")]
    None {
        /// The cluster.
        cluster: String,
        /// The destination.
        url: String,
    },
    /// It lies outside.
    #[error("{} cannot be brought back: the backups reach from {} to {}",
        crate::timestamp(*asked_ms), crate::timestamp(*from_ms), crate::timestamp(*to_ms))]
    Outside {
        /// What was asked for.
        asked_ms: u64,
        /// The first point that can be.
        from_ms: u64,
        /// The last.
        to_ms: u64,
    },
    /// A segment is missing in between.
    #[error("segment {segment} of the log is not at the destination: points from {} on cannot be brought back until the next base backup", crate::timestamp(*after_ms))]
    Gap {
        /// The first that is missing.
        segment: String,
        /// What came last before it.
        after_ms: u64,
    },
    /// Not enough room.
    #[error("{} has {free_bytes} bytes free, and the restore needs about {needed_bytes}: make room, or choose another folder", folder.display())]
    Full {
        /// Where to.
        folder: PathBuf,
        /// What is free.
        free_bytes: u64,
        /// What is needed.
        needed_bytes: u64,
    },
    /// A set.
    #[error(transparent)]
    Set(#[from] SetError),
    /// The destination.
    #[error(transparent)]
    Destination(#[from] DestinationError),
}

/// Which points of a cluster can be brought back.
pub async fn range(destination: &Destination, cluster: &str) -> Result<Option<Point>, RestoreError> {
    let bases = list_sets(destination, Kind::Base, Some(cluster)).await?;
    let (Some(first), Some(last)) = (bases.first(), bases.last()) else {
        return Ok(None);
    };
    let wal = match &last.set.system {
        Some(system) => list_wal(destination, cluster, system).await?,
        None => vec![],
    };
    let archived = wal.iter().map(|wal| wal.archived_ms).max().unwrap_or(0);
    Ok(Some(Point {
        from_ms: first.set.ended_ms,
        to_ms: archived.max(last.set.ended_ms),
    }))
}

/// The newest base before the point, and the log from there until after it.
pub async fn plan_restore(
    destination: &Destination,
    cluster: &str,
    to_ms: u64,
) -> Result<RestorePlan, RestoreError> {
    let Some(point) = range(destination, cluster).await? else {
        return Err(RestoreError::None {
            cluster: cluster.to_owned(),
            url: destination.url().to_owned(),
        });
    };
    let outside = || RestoreError::Outside {
        asked_ms: to_ms,
        from_ms: point.from_ms,
        to_ms: point.to_ms,
    };
    let bases = list_sets(destination, Kind::Base, Some(cluster)).await?;
    let base = bases.into_iter().rfind(|stored| stored.set.ended_ms <= to_ms);
    let base = base.filter(|_| to_ms <= point.to_ms).ok_or_else(outside)?;
    let (Some(system), Some(start)) = (base.set.system.clone(), base.set.wal_start.clone()) else {
        return Err(outside());
    };
    let all = list_wal(destination, cluster, &system).await?;
    let (wal, _) = needed(all, &start, base.set.ended_ms, Some(to_ms))?;
    let bytes = base.bytes() + wal.iter().map(|wal| wal.bytes).sum::<u64>();
    Ok(RestorePlan { base, wal, bytes })
}

/// The newest base, and the log from there on as far as it is whole; with it the time that it reaches at least. `None`
/// where there is no base.
pub async fn plan_newest(
    destination: &Destination,
    cluster: &str,
) -> Result<Option<(RestorePlan, u64)>, RestoreError> {
    let Some(base) = list_sets(destination, Kind::Base, Some(cluster)).await?.pop() else {
        return Ok(None);
    };
    let (Some(system), Some(start)) = (base.set.system.clone(), base.set.wal_start.clone()) else {
        return Ok(None);
    };
    let all = list_wal(destination, cluster, &system).await?;
    let (wal, after_ms) = needed(all, &start, base.set.ended_ms, None)?;
    let bytes = base.bytes() + wal.iter().map(|wal| wal.bytes).sum::<u64>();
    Ok(Some((RestorePlan { base, wal, bytes }, after_ms)))
}

/// The segments from the first until one that was archived after the point, without a gap; without a point as many as
/// there are. With them the time that they reach at least.
fn needed(
    all: Vec<WalObject>,
    start: &str,
    from_ms: u64,
    to_ms: Option<u64>,
) -> Result<(Vec<WalObject>, u64), RestoreError> {
    let mut needed: Vec<WalObject> = Vec::new();
    let mut expected = Some(start.to_owned());
    let mut after_ms = from_ms;
    let mut covered = false;
    for wal in all {
        if !is_segment(&wal.segment) {
            // Histories of timelines are small, and which is needed only the server knows.
            if wal.segment.ends_with(".history") {
                needed.push(wal);
            }
            continue;
        }
        if wal.segment[8..] < start[8..] || covered {
            continue;
        }
        if let Some(expected) = &expected
            && wal.segment[8..] > expected[8..]
        {
            break;
        }
        after_ms = after_ms.max(wal.archived_ms);
        expected = next(&wal.segment);
        covered = to_ms.is_some_and(|to_ms| wal.archived_ms > to_ms.saturating_add(MARGIN_MS));
        needed.push(wal);
    }
    let short = to_ms.is_some_and(|to_ms| after_ms < to_ms);
    if short || !needed.iter().any(|wal| wal.segment[8..] == start[8..]) {
        let segment = expected.unwrap_or_default();
        return Err(RestoreError::Gap { segment, after_ms });
    }
    Ok((needed, after_ms))
}

/// The segment after this one, where segments have their usual 16 MiB.
fn next(segment: &str) -> Option<String> {
    let (timeline, log, low) = (&segment[..8], &segment[8..16], &segment[16..]);
    let (log, low) = (
        u32::from_str_radix(log, 16).ok()?,
        u32::from_str_radix(low, 16).ok()?,
    );
    Some(match low {
        0xFF => format!("{timeline}{:08X}{:08X}", log.checked_add(1)?, 0),
        low => format!("{timeline}{log:08X}{:08X}", low + 1),
    })
}

/// Brings what a plan names into a folder that is there: `base.tar.gz`, and `wal/SEGMENT.gz`. Everything is compared with
/// its SHA-256. What is there already, from a call that was interrupted, is fetched again.
pub async fn fetch(destination: &Destination, plan: &RestorePlan, folder: &Path) -> Result<(), RestoreError> {
    let file = |path: &Path| {
        let path = path.to_owned();
        move |source| DestinationError::File { path, source }
    };
    let needed_bytes = plan.bytes + plan.base.bytes() * GROWTH + RESERVE_BYTES;
    let space = rustix::fs::statvfs(folder).map_err(|error| file(folder)(error.into()))?;
    let free_bytes = space.f_bavail.saturating_mul(space.f_frsize);
    if free_bytes < needed_bytes {
        return Err(RestoreError::Full {
            folder: folder.to_owned(),
            free_bytes,
            needed_bytes,
        });
    }
    let wal = folder.join("wal");
    tokio::fs::create_dir_all(&wal).await.map_err(file(&wal))?;
    for object in &plan.base.set.objects {
        let key = format!("{}/{}", plan.base.key, object.name);
        destination
            .fetch(&key, &object.sha256, Some(&folder.join(&object.name)))
            .await?;
    }
    for segment in &plan.wal {
        let path = wal.join(format!("{}.gz", segment.segment));
        destination
            .fetch(&segment.key, &segment.sha256, Some(&path))
            .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wal(low: u32, archived_ms: u64) -> WalObject {
        WalObject {
            key: String::new(),
            segment: format!("0000000100000000{low:08X}"),
            archived_ms,
            sha256: String::new(),
            bytes: 1,
        }
    }

    #[test]
    fn the_log_is_taken_from_the_base_until_after_the_point() {
        let all = vec![
            wal(1, 100),
            wal(2, 200),
            wal(3, 300),
            wal(4, 400_000),
            wal(5, 500_000),
        ];
        let start = "000000010000000000000002";
        let taken = needed(all.clone(), start, 200, Some(250)).unwrap().0;
        let names: Vec<&str> = taken.iter().map(|wal| &wal.segment[16..]).collect();
        assert_eq!(
            names,
            ["00000002", "00000003", "00000004"],
            "with a margin for the clock"
        );
    }

    #[test]
    fn a_missing_segment_is_named_and_what_came_before_it_still_serves() {
        let all = vec![wal(2, 200), wal(3, 300), wal(5, 500)];
        let start = "000000010000000000000002";
        assert_eq!(needed(all.clone(), start, 200, Some(300)).unwrap().0.len(), 2);
        let (newest, reached) = needed(all.clone(), start, 200, None).unwrap();
        assert_eq!((newest.len(), reached), (2, 300), "as far as it is whole");
        match needed(all, start, 200, Some(450)).unwrap_err() {
            RestoreError::Gap { segment, after_ms } => {
                assert_eq!((segment.as_str(), after_ms), ("000000010000000000000004", 300));
            }
            other => panic!("{other}"),
        }
        assert!(
            needed(vec![wal(3, 300)], start, 200, Some(250)).is_err(),
            "the first is needed"
        );
    }

    #[test]
    fn segments_follow_each_other() {
        assert_eq!(
            next("0000000100000001000000FF").unwrap(),
            "000000010000000200000000"
        );
        assert_eq!(
            next("000000010000000100000009").unwrap(),
            "00000001000000010000000A"
        );
    }
}
