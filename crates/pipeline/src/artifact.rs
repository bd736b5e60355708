//! Artifacts: what a job leaves for later jobs and for people. As version 4 of GitHub's actions has them: written
//! once, whole, under a name of the run.

use crate::confined::{Confined, Found};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Most artifacts of a run.
const MAX_ARTIFACTS: usize = 500;
const SECONDS_OF_A_DAY: u64 = 86_400;
/// Days that an artifact is kept where nobody says it.
pub(crate) const DEFAULT_DAYS: u64 = 7;
/// Most days that one can ask for.
pub(crate) const MAX_DAYS: u64 = 90;

/// The artifacts of one run.
#[derive(Debug, Clone)]
pub(crate) struct Artifacts {
    folder: PathBuf,
}

/// What is known of an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Artifact {
    pub(crate) name: String,
    pub(crate) files: usize,
    pub(crate) bytes: u64,
    /// SHA-256 of its archive.
    pub(crate) digest: String,
    /// In seconds since 1970.
    pub(crate) expires: u64,
}

impl Artifacts {
    /// Opens the folder of a run, and removes what has had its time in those of others.
    pub(crate) fn open(all: &Path, run: &str, now: u64) -> io::Result<Self> {
        crate::work::make(all)?;
        for run in fs::read_dir(all)?.flatten() {
            let Ok(entries) = fs::read_dir(run.path()) else {
                continue;
            };
            for entry in entries.flatten() {
                let path = entry.path();
                if path.extension().is_some_and(|kind| kind == "json")
                    && read(&path).is_ok_and(|artifact| artifact.expires <= now)
                {
                    fs::remove_file(path.with_extension("tar")).ok();
                    fs::remove_file(path).ok();
                }
            }
            // Only an empty one goes, and not that of a run which has not written yet.
            let modified = run.metadata().and_then(|found| found.modified());
            let age = modified.ok().and_then(|at| at.elapsed().ok()).unwrap_or_default();
            if age.as_secs() > SECONDS_OF_A_DAY {
                fs::remove_dir(run.path()).ok();
            }
        }
        let folder = all.join(run);
        crate::work::make(&folder)?;
        Ok(Self { folder })
    }

    /// Writes an artifact from files; `root` is what their paths in it are relative to.
    pub(crate) fn write(
        &self,
        name: &str,
        files: &[Found],
        root: &str,
        confined: &Confined,
        expires: u64,
        overwrite: bool,
    ) -> io::Result<Artifact> {
        check_name(name)?;
        let path = self.path(name);
        if path.exists() && !overwrite {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                format!(
                    "an artifact with the name {name} is there already; with overwrite: true it is replaced"
                ),
            ));
        }
        if self.list()?.len() >= MAX_ARTIFACTS {
            return Err(io::Error::other(format!(
                "a run has at most {MAX_ARTIFACTS} artifacts"
            )));
        }
        let mut partial = tempfile::NamedTempFile::new_in(&self.folder)?;
        let mut archive = tar::Builder::new(Hashing::new(partial.as_file_mut()));
        archive.mode(tar::HeaderMode::Deterministic);
        let mut bytes = 0;
        for file in files {
            let mut open = confined.open(&file.inside)?;
            let inside = file.inside.strip_prefix(root).unwrap_or(&file.inside);
            archive.append_file(inside.trim_start_matches('/'), &mut open)?;
            bytes += file.bytes;
        }
        let hashing = archive.into_inner()?;
        let digest = hex::encode(hashing.hash.finalize());
        partial.as_file().sync_all()?;
        let artifact = Artifact {
            name: name.to_owned(),
            files: files.len(),
            bytes,
            digest,
            expires,
        };
        partial.persist(&path).map_err(|error| error.error)?;
        let json = serde_json::to_vec(&artifact)?;
        astraler_host::file::replace(path.with_extension("json"), &json, 0o600).map_err(io::Error::other)?;
        Ok(artifact)
    }

    /// All, by name.
    pub(crate) fn list(&self) -> io::Result<Vec<Artifact>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.folder)?.flatten() {
            if entry.path().extension().is_some_and(|kind| kind == "json") {
                all.push(read(&entry.path())?);
            }
        }
        all.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(all)
    }

    /// Puts the files of an artifact into a folder of the sandbox. Gives how many.
    pub(crate) fn extract(&self, artifact: &Artifact, confined: &Confined, into: &str) -> io::Result<usize> {
        let mut archive = tar::Archive::new(File::open(self.path(&artifact.name))?);
        let mut count = 0;
        for entry in archive.entries()? {
            let mut entry = entry?;
            let path = entry.path()?.to_string_lossy().into_owned();
            let inside = format!("{into}/{path}");
            let outside = confined.outside(&inside)?;
            if let Some(parent) = outside.parent() {
                fs::create_dir_all(parent)?;
            }
            // It was made here, of ordinary files alone; what is in its place goes first.
            fs::remove_file(&outside).ok();
            let mut file = File::options().write(true).create_new(true).open(&outside)?;
            io::copy(&mut entry, &mut file)?;
            if entry.header().mode()? & 0o111 != 0 {
                use std::os::unix::fs::PermissionsExt;
                file.set_permissions(fs::Permissions::from_mode(0o755))?;
            }
            count += 1;
        }
        Ok(count)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{}.tar", hex::encode(name)))
    }
}

/// When something that is kept so many days goes.
pub(crate) fn expiry(now: u64, days: u64) -> u64 {
    now + days.clamp(1, MAX_DAYS) * SECONDS_OF_A_DAY
}

fn read(path: &Path) -> io::Result<Artifact> {
    let mut text = String::new();
    File::open(path)?.take(1 << 20).read_to_string(&mut text)?;
    serde_json::from_str(&text).map_err(io::Error::other)
}

fn check_name(name: &str) -> io::Result<()> {
    let forbidden = name.contains(['"', ':', '<', '>', '|', '*', '?', '\r', '\n', '\\', '/']);
    if name.is_empty() || name.len() > 120 || forbidden {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("the artifact's name {name:?} is empty, too long, or has one of \" : < > | * ? \\ /"),
        ));
    }
    Ok(())
}

struct Hashing<W> {
    to: W,
    hash: Sha256,
}

impl<W> Hashing<W> {
    fn new(to: W) -> Self {
        Self {
            to,
            hash: Sha256::new(),
        }
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.to.write(bytes)?;
        self.hash.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_has_written_nothing_yet_keeps_its_folder_when_another_begins() {
        let folder = tempfile::tempdir().unwrap();
        let first = Artifacts::open(folder.path(), "1", 1_000).unwrap();
        Artifacts::open(folder.path(), "2", 1_000).unwrap();
        assert_eq!(first.list().unwrap(), []);
        // An old empty one goes, and an artifact whose time is over.
        let old = folder.path().join("0");
        fs::create_dir(&old).unwrap();
        let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(2 * SECONDS_OF_A_DAY);
        File::open(&old).unwrap().set_modified(long_ago).unwrap();
        let over = Artifact {
            name: "over".into(),
            files: 1,
            bytes: 1,
            digest: String::new(),
            expires: 2_000,
        };
        let json = serde_json::to_vec(&over).unwrap();
        astraler_host::file::replace(first.path("over").with_extension("json"), &json, 0o600).unwrap();
        assert_eq!(first.list().unwrap().len(), 1);
        Artifacts::open(folder.path(), "2", 2_000).unwrap();
        assert_eq!(first.list().unwrap(), []);
        assert!(!old.exists());
    }
}
