//! How much a job may put on the disk: no quota of the file system is needed, and none is there to be had.

use rustix::fs::statvfs;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often a running step is looked at.
pub(crate) const INTERVAL: Duration = Duration::from_millis(500);
/// What jobs leave to the rest of the machine.
const RESERVE_BYTES: u64 = 256 << 20;
const RESERVE_FILES: u64 = 10_000;
/// A folder is measured for at most a twentieth of the time.
const REST_FACTOR: u32 = 20;

/// Watches one folder.
#[derive(Debug)]
pub(crate) struct Watch {
    folder: PathBuf,
    limit: u64,
    measured: u64,
    free_then: u64,
    next: Instant,
}

impl Watch {
    /// Of a folder that may hold so much.
    pub(crate) fn new(folder: &Path, limit: u64) -> Self {
        Self {
            folder: folder.to_owned(),
            limit,
            measured: 0,
            free_then: statvfs(folder).map_or(0, |found| found.f_bavail * found.f_frsize),
            next: Instant::now(),
        }
    }

    /// Says why the job must end; none while there is room. Blocks while it measures, which it does only where the
    /// file system has lost enough space for it.
    pub(crate) fn over(&mut self) -> Option<String> {
        let found = statvfs(&self.folder).ok()?;
        let free = found.f_bavail * found.f_frsize;
        let estimated = self.measured.saturating_add(self.free_then.saturating_sub(free));
        let scarce = free < RESERVE_BYTES || (found.f_files > 0 && found.f_favail < RESERVE_FILES);
        if (estimated <= self.limit && !scarce) || Instant::now() < self.next {
            return None;
        }
        let begun = Instant::now();
        self.measured = measure(&self.folder).unwrap_or(estimated);
        self.free_then = free;
        self.next = Instant::now() + begun.elapsed() * REST_FACTOR;
        if self.measured > self.limit {
            let limit = self.limit >> 20;
            return Some(format!("the job uses more than {limit} MiB of disk"));
        }
        scarce.then(|| "the disk of this machine is nearly full".to_owned())
    }
}

/// The space that a folder takes.
fn measure(folder: &Path) -> io::Result<u64> {
    let mut all = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries.flatten() {
            // It may be gone again.
            let Ok(metadata) = entry.path().symlink_metadata() else {
                continue;
            };
            all += metadata.blocks() * 512;
            if metadata.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_over_its_limit_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let mut watch = Watch::new(folder.path(), 1 << 20);
        assert_eq!(watch.over(), None);
        #[allow(clippy::disallowed_methods)]
        fs::write(folder.path().join("x"), vec![1; 3 << 20]).unwrap();
        fs::File::open(folder.path().join("x"))
            .unwrap()
            .sync_all()
            .unwrap();
        // Others may free space meanwhile: what is measured counts.
        watch.free_then = u64::MAX;
        assert!(watch.over().unwrap().contains("more than 1 MiB"));
    }
}
