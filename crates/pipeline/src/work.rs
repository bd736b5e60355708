//! The folders of a run, gone with it. Those of runs that were killed go at the next one's start.

use astraler_host::lock::FileLock;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Held while a run's folder is made; beside the folder of all runs, in which nothing stays.
const OPENING: &str = "opening.lock";

/// A folder that belongs to one run, as long as its lock is held.
#[derive(Debug)]
pub(crate) struct RunFolder {
    path: PathBuf,
    _lock: FileLock,
}

impl RunFolder {
    /// Makes it anew. Folders whose run is dead are removed first.
    pub(crate) fn open(work: &Path, run: &str) -> io::Result<Self> {
        make(work)?;
        // One after the other: a lock that a run has just made and not yet taken would look like that of a dead one.
        let opening = work.with_extension(OPENING);
        let _opening = FileLock::wait(opening, "opening the folder of a run").map_err(io::Error::other)?;
        for entry in fs::read_dir(work)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(dead) = name.strip_suffix(".lock") else {
                continue;
            };
            // A lock that can be had has no run.
            if dead != run
                && let Ok(lock) = FileLock::try_acquire(entry.path(), "clearing away a run")
            {
                remove(&work.join(dead))?;
                let _ = fs::remove_file(lock.path());
            }
        }
        let lock =
            FileLock::try_acquire(work.join(format!("{run}.lock")), "a run").map_err(io::Error::other)?;
        let path = work.join(run);
        remove(&path)?;
        make(&path)?;
        Ok(Self { path, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the folder of a run is left behind");
            return;
        }
        let _ = fs::remove_file(self._lock.path());
    }
}

/// Makes a folder that others cannot enter.
pub(crate) fn make(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Removes a tree, whatever its modes are. Links are removed, not followed.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.is_dir() => return fs::remove_file(path),
        Ok(_) => {}
    }
    if fs::remove_dir_all(path).is_ok() {
        return Ok(());
    }
    // A step may have taken its own rights away.
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    fs::remove_dir_all(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_run_left_is_cleared_away_and_a_living_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let work = folder.path().join("work");
        let living = RunFolder::open(&work, "living").unwrap();
        fs::create_dir_all(work.join("dead/0/locked/x")).unwrap();
        fs::File::create(work.join("dead.lock")).unwrap();
        fs::set_permissions(work.join("dead/0/locked"), fs::Permissions::from_mode(0o000)).unwrap();
        assert!(RunFolder::open(&work, "living").is_err(), "one at a time");
        let other = RunFolder::open(&work, "other").unwrap();
        assert!(!work.join("dead").exists() && !work.join("dead.lock").exists());
        assert!(living.path().is_dir());
        drop(other);
        drop(living);
        assert_eq!(fs::read_dir(&work).unwrap().count(), 0, "nothing stays");
    }
}
