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
use std::io;
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
    #[error("cannot read {path}", path = .path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
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
    pub(super) fn in_force(&self, subject: &str) -> Result<Option<PathBuf>, StateError> {
        let current = self.record(subject)?.current;
        let file = current.map(|current| self.acme.join(current.file));
        Ok(file.filter(|file| file.exists()))
    }

    /// What is known. A record that is damaged is as good as none: the certificate is issued anew. One that cannot be read
    /// now is not: a process that is out of descriptors must not ask for what it has.
    pub(super) fn record(&self, subject: &str) -> Result<Record, StateError> {
        let text = self.read(&record_file(subject))?;
        Ok(text
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default())
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

    /// What is in a file; nothing where there is none.
    pub(super) fn read(&self, name: &str) -> Result<Option<String>, StateError> {
        let path = self.acme.join(name);
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StateError::Read { path, source }),
        }
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
                let text = self.read(&name)?;
                let record: Record = text
                    .and_then(|text| serde_json::from_str(&text).ok())
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

#[cfg(test)]
mod tests {
    use super::*;
    use astraler_tls::{Current, Facts, OrderRecord};

    const DAY_MS: u64 = 86_400_000;

    fn age(state: &State, name: &str, by: Duration) {
        let file = std::fs::File::options()
            .write(true)
            .open(state.path().join(name))
            .unwrap();
        file.set_modified(SystemTime::now() - by).unwrap();
    }

    #[test]
    fn only_what_nobody_needs_is_swept_away() {
        let folder = tempfile::tempdir().unwrap();
        let state = State {
            acme: folder.path().join("acme"),
        };
        let now = 20_000 * DAY_MS;
        let record = |file: &str, until: u64, key: Option<&str>| Record {
            current: Some(Current {
                file: file.to_owned(),
                local: false,
                facts: Facts {
                    issuer: String::new(),
                    not_before_ms: 0,
                    not_after_ms: until,
                    names: vec![],
                },
                suggested_ms: None,
                asked_ms: None,
            }),
            order: key.map(|key| OrderRecord {
                url: String::new(),
                directory: String::new(),
                key: key.to_owned(),
                begun_ms: 0,
            }),
            ..Record::default()
        };
        let ours = state.write_certificate("*.a.com", "now").unwrap();
        assert!(ours.starts_with("_.a.com-"), "{ours}");
        let key = state.write_key("*.a.com", "next").unwrap();
        state
            .put("*.a.com", &record(&ours, now - DAY_MS, Some(&key)))
            .unwrap();
        let others = state.write_certificate("b.com", "now").unwrap();
        state.put("b.com", &record(&others, now + DAY_MS, None)).unwrap();
        let gone = state.write_certificate("c.com", "ended").unwrap();
        state.put("c.com", &record(&gone, now - DAY_MS, None)).unwrap();
        let before = state.write_certificate("b.com", "before").unwrap();
        let fresh = state.write_certificate("b.com", "fresh").unwrap();
        state.write("account-1.key", b"").unwrap();
        state.write(".a.com.json.7.0.tmp", b"").unwrap();
        let year = Duration::from_secs(365 * 86_400);
        let all = [&ours, &key, &others, &gone, &before];
        let all = all.map(String::as_str).into_iter();
        for name in all.chain([
            "_.a.com.json",
            "b.com.json",
            "c.com.json",
            "account-1.key",
            ".a.com.json.7.0.tmp",
        ]) {
            age(&state, name, year);
        }
        state.sweep(&["*.a.com".to_owned()], now).unwrap();
        let mut left: Vec<String> = std::fs::read_dir(state.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        let mut wanted = vec![ours.clone(), key, others, fresh, "account-1.key".into()];
        wanted.extend(["_.a.com.json".to_owned(), "b.com.json".to_owned()]);
        wanted.sort();
        assert_eq!(left, wanted);
        // What is named is read; a record that is damaged is as good as none.
        let in_force = |name| state.in_force(name).unwrap();
        assert_eq!(in_force("*.a.com"), Some(state.path().join(&ours)));
        assert_eq!(in_force("d.com"), None);
        state.write("_.a.com.json", b"{").unwrap();
        assert_eq!(state.record("*.a.com").unwrap(), Record::default());
        // One that cannot be read now is told, and nothing is swept meanwhile.
        std::fs::remove_file(state.path().join("b.com.json")).unwrap();
        std::fs::create_dir(state.path().join("b.com.json")).unwrap();
        assert!(state.record("b.com").is_err() && state.sweep(&[], now).is_err());
    }
}
