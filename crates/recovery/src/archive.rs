//! The archive of write-ahead logs: segments that PostgreSQL's `archive_command` has put into a spool folder, taken to
//! the destination.

use crate::destination::{Destination, DestinationError};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::time::SystemTime;

/// Written by the archiver instead of a segment for which the spool had no room.
pub const GAP_FILE: &str = "gap";
const SUFFIX: &str = ".gz";
/// A compressed segment is never larger: 64 MiB is the largest size that initdb takes without being asked twice.
const MAX_SEGMENT_BYTES: u64 = 80 << 20;
/// Segments that one call takes: the caller comes back for the others.
const MAX_SEGMENTS: usize = 512;

/// A segment, or a history file, at the destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalObject {
    /// Its key.
    pub key: String,
    /// PostgreSQL's name of it.
    pub segment: String,
    /// When it was archived, in milliseconds since the Unix epoch.
    pub archived_ms: u64,
    /// SHA-256 of the compressed bytes.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
}

/// What went to the destination.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Uploaded {
    /// How many files.
    pub files: u64,
    /// Their size.
    pub bytes: u64,
    /// The last segment, and when it was archived.
    pub last: Option<(String, u64)>,
    /// Files that wait still.
    pub left: u64,
}

pub(crate) fn folder(cluster: &str, system: &str) -> String {
    format!("wal/{cluster}/{system}")
}

/// Takes what the spool holds to the destination, oldest first, and removes each file when it is there. Killed at any
/// point, the next call goes on; a file that was taken twice is the same object.
pub async fn upload_spool(
    destination: &Destination,
    cluster: &str,
    system: &str,
    spool: &Path,
) -> Result<Uploaded, DestinationError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| DestinationError::File { path, source }
    };
    let mut waiting = Vec::new();
    for entry in std::fs::read_dir(spool).map_err(failed(spool))? {
        let name = entry.map_err(failed(spool))?.file_name();
        if let Some(segment) = name.to_str().and_then(|name| name.strip_suffix(SUFFIX))
            && is_wal(segment)
        {
            waiting.push(segment.to_owned());
        }
    }
    waiting.sort();
    let mut uploaded = Uploaded {
        left: waiting.len().saturating_sub(MAX_SEGMENTS) as u64,
        ..Uploaded::default()
    };
    for segment in waiting.into_iter().take(MAX_SEGMENTS) {
        let path = spool.join(format!("{segment}{SUFFIX}"));
        let metadata = std::fs::metadata(&path).map_err(failed(&path))?;
        if metadata.len() > MAX_SEGMENT_BYTES {
            let source = std::io::Error::other("larger than any segment");
            return Err(failed(&path)(source));
        }
        let archived = metadata.modified().map_err(failed(&path))?;
        let archived_ms = archived
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
        let bytes = tokio::fs::read(&path).await.map_err(failed(&path))?;
        let sha256 = hex::encode(Sha256::digest(&bytes));
        let key = format!(
            "{}/{segment}.{archived_ms}.{sha256}{SUFFIX}",
            folder(cluster, system)
        );
        let written = destination.put(&key, bytes.into()).await?;
        tokio::fs::remove_file(&path).await.map_err(failed(&path))?;
        uploaded.files += 1;
        uploaded.bytes += written.bytes;
        if is_segment(&segment) {
            uploaded.last = Some((segment, archived_ms));
        }
    }
    Ok(uploaded)
}

/// What the archive of a cluster holds, by segment. Of a segment that was archived twice the first counts.
pub async fn list_wal(
    destination: &Destination,
    cluster: &str,
    system: &str,
) -> Result<Vec<WalObject>, DestinationError> {
    let listed = destination.list(&folder(cluster, system)).await?;
    let mut all: Vec<WalObject> = listed
        .into_iter()
        .filter_map(|listed| parse(&listed.key, listed.bytes))
        .collect();
    all.sort_by(|a, b| (&a.segment, a.archived_ms).cmp(&(&b.segment, b.archived_ms)));
    all.dedup_by(|later, first| later.segment == first.segment);
    Ok(all)
}

/// All segments of all clusters, with cluster and system.
pub(crate) async fn list_all_wal(
    destination: &Destination,
) -> Result<Vec<((String, String), WalObject)>, DestinationError> {
    let listed = destination.list("wal").await?;
    let of = |key: &str| {
        let mut parts = key.split('/').skip(1).map(str::to_owned);
        Some((parts.next()?, parts.next()?))
    };
    Ok(listed
        .into_iter()
        .filter_map(|listed| Some((of(&listed.key)?, parse(&listed.key, listed.bytes)?)))
        .collect())
}

fn parse(key: &str, bytes: u64) -> Option<WalObject> {
    let name = key.rsplit('/').next()?.strip_suffix(SUFFIX)?;
    let (rest, sha256) = name.rsplit_once('.')?;
    let (segment, archived_ms) = rest.rsplit_once('.')?;
    let whole = is_wal(segment) && sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
    whole.then_some(WalObject {
        key: key.to_owned(),
        segment: segment.to_owned(),
        archived_ms: archived_ms.parse().ok()?,
        sha256: sha256.to_owned(),
        bytes,
    })
}

/// `000000010000000000000003`, or `….00000028.backup`, or `00000002.history`.
fn is_wal(name: &str) -> bool {
    let hex = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte))
    };
    let (first, rest) = name.split_once('.').unwrap_or((name, ""));
    match rest {
        "" => first.len() == 24 && hex(first),
        "history" => first.len() == 8 && hex(first),
        _ => {
            first.len() == 24
                && hex(first)
                && rest.ends_with(".backup")
                && rest.len() == 15
                && hex(&rest[..8])
        }
    }
}

pub(crate) fn is_segment(name: &str) -> bool {
    name.len() == 24 && is_wal(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_postgresql_writes_is_taken_for_a_segment() {
        for good in [
            "000000010000000000000003",
            "000000010000000000000003.00000028.backup",
            "00000002.history",
        ] {
            assert!(is_wal(good), "{good}");
        }
        for bad in [
            "",
            "gap",
            "000000010000000000000003.partial",
            "00000001000000000000000g",
            "../x",
            "x.history",
        ] {
            assert!(!is_wal(bad), "{bad}");
        }
    }

    #[test]
    fn a_key_is_read_back() {
        let sha256 = "a".repeat(64);
        let key = format!("wal/shared/71/000000010000000000000003.1700000000123.{sha256}.gz");
        let found = parse(&key, 7).unwrap();
        assert_eq!(found.segment, "000000010000000000000003");
        assert_eq!(found.archived_ms, 1_700_000_000_123);
        assert_eq!(found.sha256, sha256);
        assert_eq!(parse("wal/shared/71/000000010000000000000003.gz", 7), None);
    }
}
