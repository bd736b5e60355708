//! Backup sets: a folder of objects and the `set.json` that names them.

use crate::destination::{Destination, DestinationError};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::Path;

/// The file that makes objects a set.
pub(crate) const SET_FILE: &str = "set.json";
/// The version of [`BackupSet`] that is written, and the only one that is read.
const FORMAT: u32 = 1;
const MAX_SET_BYTES: u64 = 64 << 10;

/// What a set is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The files of a cluster, to be brought to any later second by its log.
    Base,
    /// One database, as SQL.
    Dump,
    /// What the control plane knows: its database, whose secrets are sealed, and the application's repository.
    State,
    /// The root key and the control plane's database, sealed to the recovery key.
    Secrets,
    /// One release.
    Release,
}

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Self; 5] = [Self::Base, Self::Dump, Self::State, Self::Secrets, Self::Release];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Dump => "dump",
            Self::State => "state",
            Self::Secrets => "secrets",
            Self::Release => "release",
        }
    }
}

/// One object of a set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetObject {
    /// Its name in the set's folder.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256, in hex.
    pub sha256: String,
}

/// What `set.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupSet {
    /// Version of this form.
    pub format: u32,
    /// What it is.
    pub kind: Kind,
    /// The cluster, the database, the release…
    pub subject: String,
    /// Version of PostgreSQL that made it; empty where none did.
    pub postgres: String,
    /// When it was begun, in milliseconds since the Unix epoch.
    pub started_ms: u64,
    /// When it had ended: of a base, the first moment that it can be brought to.
    pub ended_ms: u64,
    /// The cluster's own identifier: its log bears it.
    #[serde(default)]
    pub system: Option<String>,
    /// The first segment of the log that a base needs.
    #[serde(default)]
    pub wal_start: Option<String>,
    /// What it consists of.
    pub objects: Vec<SetObject>,
}

/// A set at the destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSet {
    /// Its folder.
    pub key: String,
    /// SHA-256 of its `set.json`: who wrote it down elsewhere knows when that was changed too.
    pub sha256: String,
    /// What it says.
    pub set: BackupSet,
}

impl StoredSet {
    /// Size of all its objects.
    pub fn bytes(&self) -> u64 {
        self.set.objects.iter().map(|object| object.bytes).sum()
    }
}

/// A set cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    /// The destination says no, or an object was changed.
    #[error(transparent)]
    Destination(#[from] DestinationError),
    /// Its `set.json` is not one of ours.
    #[error("`{key}` is no description of a backup set")]
    Form {
        /// The file.
        key: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A later version of the program wrote it.
    #[error("`{key}` is of format {format}, this program reads {FORMAT}")]
    Newer {
        /// The file.
        key: String,
        /// Its format.
        format: u32,
    },
}

impl BackupSet {
    pub(crate) fn new(kind: Kind, subject: &str, postgres: &str, started_ms: u64) -> Self {
        Self {
            format: FORMAT,
            kind,
            subject: subject.to_owned(),
            postgres: postgres.to_owned(),
            started_ms,
            ended_ms: started_ms,
            system: None,
            wal_start: None,
            objects: vec![],
        }
    }

    pub(crate) fn folder(&self) -> String {
        format!("{}/{}/{}", self.kind.name(), self.subject, stamp(self.started_ms))
    }
}

/// A time as folders of sets are named by it: in the order of their texts.
pub(crate) fn stamp(ms: u64) -> String {
    i64::try_from(ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .map_or_else(
            || ms.to_string(),
            |time| time.strftime("%Y%m%dT%H%M%S%3fZ").to_string(),
        )
}

/// Makes the objects that are there a set.
pub(crate) async fn seal(destination: &Destination, set: BackupSet) -> Result<StoredSet, SetError> {
    let key = set.folder();
    let file = format!("{key}/{SET_FILE}");
    let json = serde_json::to_vec_pretty(&set).map_err(|source| SetError::Form {
        key: file.clone(),
        source,
    })?;
    let written = destination.put(&file, Bytes::from(json)).await?;
    Ok(StoredSet {
        key,
        sha256: written.sha256,
        set,
    })
}

/// Sets of one subject, or of all, oldest first. What was never sealed is not among them.
pub async fn list_sets(
    destination: &Destination,
    kind: Kind,
    subject: Option<&str>,
) -> Result<Vec<StoredSet>, SetError> {
    let below = match subject {
        Some(subject) => format!("{}/{subject}", kind.name()),
        None => kind.name().to_owned(),
    };
    let mut sets = Vec::new();
    for listed in destination.list(&below).await? {
        let Some(key) = listed.key.strip_suffix(&format!("/{SET_FILE}")) else {
            continue;
        };
        sets.push(read(destination, key).await?);
    }
    sets.sort_by_key(|stored| stored.set.started_ms);
    Ok(sets)
}

async fn read(destination: &Destination, key: &str) -> Result<StoredSet, SetError> {
    let file = format!("{key}/{SET_FILE}");
    let bytes = destination.read(&file, MAX_SET_BYTES).await?;
    let set: BackupSet = serde_json::from_slice(&bytes).map_err(|source| SetError::Form {
        key: file.clone(),
        source,
    })?;
    if set.format != FORMAT {
        return Err(SetError::Newer {
            key: file,
            format: set.format,
        });
    }
    // Its objects become files here: a name must not lead anywhere else.
    let plain = |name: &str| !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0']);
    if !set.objects.iter().all(|object| plain(&object.name)) {
        let source = serde::de::Error::custom("the name of an object is no plain name");
        return Err(SetError::Form { key: file, source });
    }
    Ok(StoredSet {
        key: key.to_owned(),
        sha256: hex::encode(Sha256::digest(&bytes)),
        set,
    })
}

/// Brings the objects of a set into a folder that is there, each compared with its SHA-256.
pub async fn fetch_set(destination: &Destination, stored: &StoredSet, folder: &Path) -> Result<(), SetError> {
    for object in &stored.set.objects {
        let key = format!("{}/{}", stored.key, object.name);
        destination
            .fetch(&key, &object.sha256, Some(&folder.join(&object.name)))
            .await?;
    }
    Ok(())
}

/// Reads every object of a set and compares it; and the set's own description with the SHA-256 that was written down
/// when it was made, where that is known. Returns the bytes read.
pub async fn verify(destination: &Destination, key: &str, sha256: Option<&str>) -> Result<u64, SetError> {
    let stored = read(destination, key).await?;
    if let Some(sha256) = sha256
        && stored.sha256 != sha256
    {
        let reason = format!("its SHA-256 is {}, it was {sha256}", stored.sha256);
        return Err(destination.damaged(&format!("{key}/{SET_FILE}"), reason).into());
    }
    let mut bytes = 0;
    for object in &stored.set.objects {
        bytes += destination
            .fetch(&format!("{key}/{}", object.name), &object.sha256, None)
            .await?;
    }
    Ok(bytes)
}
