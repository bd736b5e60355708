//! Backups off this machine, and what is needed to come back from them: destinations, the layout of backup sets, the
//! archive of write-ahead logs, verification, retention, and the choice of what restores a point in time.
//!
//! For: `control`, which says when, and runs what a restore needs. It must work when the rest does not: it knows no
//! daemon, no supervisor and no control store, only a destination, object storage, PostgreSQL's own programs and files.
//!
//! At a destination, everything of one platform is below `PREFIX/NAME/`:
//!
//! ```text
//! base/CLUSTER/STAMP/set.json     written last: a set without it does not exist
//! base/CLUSTER/STAMP/base.tar.gz  pg_basebackup
//! dump/DATABASE/STAMP/set.json
//! dump/DATABASE/STAMP/dump.pgc    pg_dump -Fc
//! state/platform/STAMP/…          control.sqlite, repository.bundle
//! secrets/KEYS/STAMP/…            root.key.age, control.sqlite.age
//! release/DIGEST/STAMP/…          release.tar, an OCI image layout
//! wal/CLUSTER/SYSTEM/SEGMENT.MS.SHA256.gz
//! storage/BUCKET/…                the replica of a bucket: see [`replica`]
//! ```
//!
//! `set.json` names every object of its set with size and SHA-256; a segment of the log carries its own in its name.

mod archive;
mod credentials;
mod destination;
mod files;
mod names;
mod program;
pub mod replica;
mod restore;
mod retention;
mod set;

pub use archive::{GAP_FILE, Uploaded, WalObject, list_wal, upload_spool};
pub use credentials::CredentialsError;
pub use destination::{Destination, DestinationConfig, DestinationError};
pub use files::file_set;
pub use names::names;
pub use program::{BackupError, BaseRequest, DumpRequest, base_backup, dump};
pub use restore::{Point, RestoreError, RestorePlan, fetch, plan_newest, plan_restore, range};
pub use retention::{Pruned, prune, prune_releases};
pub use set::{BackupSet, Kind, SetError, SetObject, StoredSet, fetch_set, list_sets, verify};

/// A time as people and PostgreSQL read it: `2026-11-27 18:50:30.123+00`.
pub fn timestamp(ms: u64) -> String {
    i64::try_from(ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .map_or_else(
            || format!("{ms} ms"),
            |time| time.strftime("%F %T%.3f+00").to_string(),
        )
}
