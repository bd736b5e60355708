//! What may go: sets older than the retention, but never the newest of a subject; and the log before the oldest base.

use crate::archive::{is_segment, list_all_wal};
use crate::destination::Destination;
use crate::set::{Kind, SET_FILE, SetError, StoredSet, list_sets, stamp};
use std::collections::{BTreeMap, BTreeSet};

/// What went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Folders of sets.
    pub sets: Vec<String>,
    /// Objects of sets that never were: their maker was killed.
    pub unfinished: u64,
    /// Segments of the log.
    pub segments: u64,
}

/// Deletes what ended before `keep_after_ms`. A set's description goes first: killed in between, what is left is no set.
pub async fn prune(destination: &Destination, keep_after_ms: u64) -> Result<Pruned, SetError> {
    let mut pruned = Pruned::default();
    for kind in [Kind::Base, Kind::Dump, Kind::State, Kind::Secrets] {
        let sets = list_sets(destination, kind, None).await?;
        for old in old(&sets, keep_after_ms) {
            delete(destination, old).await?;
            pruned.sets.push(old.key.clone());
        }
    }
    pruned.unfinished = unfinished(destination, keep_after_ms).await?;
    // The oldest base that stays of each cluster says from where its log is needed.
    let mut needed: BTreeMap<(String, String), String> = BTreeMap::new();
    for stored in list_sets(destination, Kind::Base, None).await? {
        let (Some(system), Some(start)) = (stored.set.system, stored.set.wal_start) else {
            continue;
        };
        let first = needed
            .entry((stored.set.subject, system))
            .or_insert_with(|| start.clone());
        if start < *first {
            *first = start;
        }
    }
    let gone: Vec<String> = list_all_wal(destination)
        .await?
        .into_iter()
        .filter(|(of, wal)| match needed.get(of) {
            Some(first) => is_segment(&wal.segment) && wal.segment[8..] < first[8..],
            // A cluster that is no more: nothing can be brought forward with it.
            None => wal.archived_ms < keep_after_ms,
        })
        .map(|(_, wal)| wal.key)
        .collect();
    destination.delete(&gone).await?;
    pruned.segments = gone.len() as u64;
    Ok(pruned)
}

/// Deletes releases that ended before `keep_after_ms` and that nothing in `needed` names; the folders of their sets.
pub async fn prune_releases(
    destination: &Destination,
    needed: &BTreeSet<String>,
    keep_after_ms: u64,
) -> Result<Vec<String>, SetError> {
    let mut gone = Vec::new();
    for stored in list_sets(destination, Kind::Release, None).await? {
        if stored.set.ended_ms < keep_after_ms && !needed.contains(&stored.set.subject) {
            delete(destination, &stored).await?;
            gone.push(stored.key);
        }
    }
    Ok(gone)
}

/// Deletes objects that were begun before `keep_after_ms` and whose set has no description; how many.
async fn unfinished(destination: &Destination, keep_after_ms: u64) -> Result<u64, SetError> {
    let before = stamp(keep_after_ms);
    let mut gone = 0;
    for kind in Kind::ALL {
        let mut sets: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for listed in destination.list(kind.name()).await? {
            if let Some((folder, _)) = listed.key.rsplit_once('/') {
                sets.entry(folder.to_owned()).or_default().push(listed.key);
            }
        }
        sets.retain(|folder, objects| {
            let begun = folder.rsplit('/').next().unwrap_or_default();
            begun < before.as_str() && !objects.contains(&format!("{folder}/{SET_FILE}"))
        });
        let objects: Vec<String> = sets.into_values().flatten().collect();
        destination.delete(&objects).await?;
        gone += objects.len() as u64;
    }
    Ok(gone)
}

async fn delete(destination: &Destination, stored: &StoredSet) -> Result<(), SetError> {
    destination
        .delete(&[format!("{}/{SET_FILE}", stored.key)])
        .await?;
    let objects: Vec<String> = stored
        .set
        .objects
        .iter()
        .map(|object| format!("{}/{}", stored.key, object.name))
        .collect();
    Ok(destination.delete(&objects).await?)
}

/// Those that may go: of each subject all that ended before, but for the newest.
fn old(sets: &[StoredSet], keep_after_ms: u64) -> Vec<&StoredSet> {
    let mut newest: BTreeMap<&str, u64> = BTreeMap::new();
    for stored in sets {
        let ended = newest.entry(&stored.set.subject).or_default();
        *ended = (*ended).max(stored.set.ended_ms);
    }
    sets.iter()
        .filter(|stored| {
            stored.set.ended_ms < keep_after_ms
                && newest.get(stored.set.subject.as_str()) != Some(&stored.set.ended_ms)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::{DestinationConfig, DestinationError};
    use crate::set::{BackupSet, SetObject, seal, verify};
    use bytes::Bytes;

    async fn set(destination: &Destination, kind: Kind, subject: &str, ms: u64, start: u32) -> StoredSet {
        let mut set = BackupSet::new(kind, subject, "15.1", ms);
        set.ended_ms = ms + 10;
        if kind == Kind::Base {
            set.system = Some("71".into());
            set.wal_start = Some(segment(start));
        }
        let key = format!("{}/object", set.folder());
        let written = destination.put(&key, Bytes::from(vec![7; 1000])).await.unwrap();
        set.objects.push(SetObject {
            name: "object".into(),
            bytes: written.bytes,
            sha256: written.sha256,
        });
        seal(destination, set).await.unwrap()
    }

    fn segment(low: u32) -> String {
        format!("0000000100000000{low:08X}")
    }

    fn destination(folder: &std::path::Path) -> Destination {
        let config = DestinationConfig {
            url: format!("file://{}", folder.display()),
            endpoint: None,
            credentials_file: None,
        };
        Destination::open(&config, "shop").unwrap()
    }

    async fn keys(destination: &Destination) -> Vec<String> {
        let all = destination.list("").await.unwrap();
        all.into_iter().map(|listed| listed.key).collect()
    }

    #[tokio::test]
    async fn old_sets_go_but_for_the_newest_and_the_log_goes_with_them() {
        let folder = tempfile::tempdir().unwrap();
        let destination = destination(folder.path());
        set(&destination, Kind::Base, "shared", 1_000, 2).await;
        let kept = set(&destination, Kind::Base, "shared", 5_000, 4).await;
        let only = set(&destination, Kind::Dump, "staging", 1_000, 0).await;
        let spool = folder.path().join("spool");
        std::fs::create_dir(&spool).unwrap();
        for low in [1, 2, 3, 4, 5] {
            let path = spool.join(format!("{}.gz", segment(low)));
            std::io::Write::write_all(&mut std::fs::File::create(path).unwrap(), &[1, 2, 3]).unwrap();
        }
        std::fs::File::create(spool.join("gap")).unwrap();
        let uploaded = crate::upload_spool(&destination, "shared", "71", &spool)
            .await
            .unwrap();
        assert_eq!((uploaded.files, uploaded.left), (5, 0));
        assert_eq!(uploaded.last.unwrap().0, segment(5));
        assert!(spool.join("gap").exists() && std::fs::read_dir(&spool).unwrap().count() == 1);

        // Killed in the middle of a set: an old one, one that may still be made.
        for ms in [1_000, 6_000] {
            let begun = BackupSet::new(Kind::State, "platform", "", ms);
            let key = format!("{}/control.sqlite", begun.folder());
            destination.put(&key, Bytes::from_static(b"half")).await.unwrap();
        }

        let pruned = prune(&destination, 4_000).await.unwrap();
        assert_eq!(pruned.sets.len(), 1, "{pruned:?}");
        assert_eq!(pruned.unfinished, 1);
        assert_eq!(pruned.segments, 3);
        let left = keys(&destination).await;
        assert_eq!(left.len(), 7, "{left:#?}");
        for stored in [&kept, &only] {
            verify(&destination, &stored.key, Some(&stored.sha256))
                .await
                .unwrap();
        }
        // Again is nothing.
        assert_eq!(prune(&destination, 4_000).await.unwrap(), Pruned::default());
    }

    #[tokio::test]
    async fn what_was_changed_is_found_in_an_object_and_in_the_description() {
        let folder = tempfile::tempdir().unwrap();
        let destination = destination(folder.path());
        let stored = set(&destination, Kind::Dump, "staging", 1_000, 0).await;
        let damaged = |error: SetError| match error {
            SetError::Destination(DestinationError::Damaged { key, .. }) => key,
            other => panic!("{other}"),
        };
        let object = format!("{}/object", stored.key);
        destination
            .put(&object, Bytes::from(vec![8; 1000]))
            .await
            .unwrap();
        let found = verify(&destination, &stored.key, Some(&stored.sha256))
            .await
            .unwrap_err();
        assert_eq!(damaged(found), object);
        // Who changes the description too is found by who wrote it down elsewhere.
        let mut set = stored.set.clone();
        let written = destination
            .put(&object, Bytes::from(vec![9; 1000]))
            .await
            .unwrap();
        set.objects[0].sha256 = written.sha256;
        seal(&destination, set).await.unwrap();
        verify(&destination, &stored.key, None).await.unwrap();
        let found = verify(&destination, &stored.key, Some(&stored.sha256))
            .await
            .unwrap_err();
        assert!(damaged(found).ends_with("set.json"));
    }

    #[test]
    fn what_is_no_destination_is_said_before_anybody_is_asked() {
        for url in ["", "nonsense", "ftp://x/y", "s3://", "file://relative"] {
            let config = DestinationConfig {
                url: url.into(),
                endpoint: None,
                credentials_file: None,
            };
            let error = Destination::open(&config, "shop").unwrap_err();
            assert!(matches!(error, DestinationError::Url { .. }), "{url}: {error}");
        }
    }
}
