//! The state folder of an edge that stands alone: what CAs have issued, how far the next ones have come, and the keys of
//! both. Each file is the old one or the new one, and its owner's alone. Several edges may share a folder.

use crate::failure::Outcome;
use crate::place;
use astraler_host::file::{self, FileError};
use astraler_host::lock::{FileLock, LockError};
use astraler_manifest::Standalone;
use astraler_tls::Record;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A file that nobody needs stays so long: another edge may be about to read it.
const UNUSED_FOR: Duration = Duration::from_secs(3_600);
/// A record of a name that this edge does not serve may be another edge's.
const FORGET_AFTER: Duration = Duration::from_secs(90 * 86_400);

/// The part of it that is about CAs of others.
#[derive(Debug, Clone)]
pub(super) struct State {
    acme: PathBuf,
}

/// It cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum StateError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error("the record of {subject} cannot be written")]
    Record {
        subject: String,
        #[source]
        source: serde_json::Error,
    },
}

impl State {
    /// The whole folder.
    pub(super) fn folder(settings: &Standalone) -> Outcome<PathBuf> {
        match &settings.state_folder {
            Some(folder) => Ok(std::path::absolute(folder)?),
            None => place::edge_folder(),
        }
    }

    pub(super) fn of(settings: &Standalone) -> Outcome<Self> {
        Ok(Self {
            acme: Self::folder(settings)?.join("acme"),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.acme
    }

    /// The file of the certificate that is in force for a name.
    pub(super) fn in_force(&self, subject: &str) -> Option<PathBuf> {
        let file = self.acme.join(self.record(subject).current?.file);
        file.exists().then_some(file)
    }

    /// What is known. A record that cannot be read is as good as none: the certificate is issued anew.
    pub(super) fn record(&self, subject: &str) -> Record {
        let text = std::fs::read(self.acme.join(record_file(subject)));
        let read = text.ok().and_then(|text| serde_json::from_slice(&text).ok());
        read.unwrap_or_default()
    }

    pub(super) fn put(&self, subject: &str, record: &Record) -> Result<(), StateError> {
        let text = serde_json::to_vec(record).map_err(|source| StateError::Record {
            subject: subject.to_owned(),
            source,
        })?;
        self.write(&record_file(subject), &text)
    }

    /// Whoever has it may ask a CA. The kernel takes it back from a process that has died.
    pub(super) fn turn(&self) -> Result<FileLock, StateError> {
        file::make_dir(&self.acme, 0o700, None, None)?;
        Ok(FileLock::try_acquire(
            self.acme.join("lock"),
            "an edge that asks for a certificate",
        )?)
    }

    pub(super) fn read(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.acme.join(name)).ok()
    }

    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), StateError> {
        file::make_dir(&self.acme, 0o700, None, None)?;
        Ok(file::replace(self.acme.join(name), bytes, 0o600)?)
    }

    /// Writes a certificate with its key, in a file that is named by what is in it.
    pub(super) fn write_certificate(&self, subject: &str, pem: &str) -> Result<String, StateError> {
        let digest = hex::encode(Sha256::digest(pem.as_bytes()));
        let name = format!("{}-{}.pem", file_stem(subject), &digest[..12]);
        self.write(&name, pem.as_bytes())?;
        Ok(name)
    }

    /// Writes the key of a certificate that is still to come.
    pub(super) fn write_key(&self, subject: &str, pem: &str) -> Result<String, StateError> {
        let name = format!("{}.key", file_stem(subject));
        self.write(&name, pem.as_bytes())?;
        Ok(name)
    }

    /// Removes what no record names, and records of names that are long forgotten.
    pub(super) fn sweep(&self, wanted: &[String], now_ms: u64) -> Result<(), StateError> {
        let wanted: BTreeSet<String> = wanted.iter().map(|name| record_file(name)).collect();
        let (mut used, mut others) = (BTreeSet::new(), Vec::new());
        for entry in std::fs::read_dir(&self.acme).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let age = entry
                .metadata()
                .and_then(|found| found.modified())
                .ok()
                .and_then(|changed| SystemTime::now().duration_since(changed).ok())
                .unwrap_or_default();
            if name.ends_with(".json") {
                let record: Record = std::fs::read(entry.path())
                    .ok()
                    .and_then(|text| serde_json::from_slice(&text).ok())
                    .unwrap_or_default();
                let holds = record
                    .current
                    .as_ref()
                    .is_some_and(|current| current.facts.not_after_ms > now_ms);
                if wanted.contains(&name) || holds || age < FORGET_AFTER {
                    used.extend(record.files());
                } else {
                    file::remove_if_present(entry.path())?;
                }
            } else if is_of_a_name(&name) && age > UNUSED_FOR {
                others.push(name);
            }
        }
        for name in others.iter().filter(|name| !used.contains(*name)) {
            file::remove_if_present(self.acme.join(name))?;
        }
        Ok(())
    }
}

impl StateError {
    /// Somebody else is at it.
    pub(super) fn is_taken(&self) -> bool {
        matches!(self, Self::Lock(LockError::Held { .. }))
    }
}

/// The account's key stays.
fn is_of_a_name(file: &str) -> bool {
    (file.ends_with(".pem") || file.ends_with(".key") || file.ends_with(".tmp"))
        && !file.starts_with("account-")
}

fn record_file(subject: &str) -> String {
    format!("{}.json", file_stem(subject))
}

fn file_stem(subject: &str) -> String {
    subject.replace('*', "_")
}
