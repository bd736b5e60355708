//! One holder at a time, by the kernel's lock on a file: it is released when the holder dies, however it dies.

use rustix::fs::FlockOperation;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A held lock; dropping it releases it. Its descriptor is not inherited by children.
#[derive(Debug)]
pub struct FileLock {
    file: File,
    path: PathBuf,
}

/// The lock could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("{path} is locked by {what} (process {pid}); wait for it or end it", path = path.display())]
    Held {
        /// The lock file.
        path: PathBuf,
        /// Process id of the holder; 0 where it has not written it yet.
        pid: u32,
        /// What the holder said it is doing.
        what: String,
    },
    /// The file cannot be used.
    #[error("cannot lock {path}", path = path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl FileLock {
    /// Takes the lock, or says at once who has it. `what` is what the next caller will be told.
    pub fn try_acquire(path: impl AsRef<Path>, what: &str) -> Result<Self, LockError> {
        Self::acquire(path.as_ref(), what, FlockOperation::NonBlockingLockExclusive)
    }

    /// Waits in the kernel until the lock is free: blocks the calling thread.
    pub fn wait(path: impl AsRef<Path>, what: &str) -> Result<Self, LockError> {
        Self::acquire(path.as_ref(), what, FlockOperation::LockExclusive)
    }

    /// The lock file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn acquire(path: &Path, what: &str, operation: FlockOperation) -> Result<Self, LockError> {
        let io_error = |source: io::Error| LockError::Io {
            path: path.to_owned(),
            source,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .open(path)
            .map_err(io_error)?;
        loop {
            match rustix::fs::flock(&file, operation) {
                Ok(()) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    let (pid, what) = read_holder(&mut file);
                    return Err(LockError::Held {
                        path: path.to_owned(),
                        pid,
                        what,
                    });
                }
                Err(errno) => return Err(io_error(errno.into())),
            }
        }
        // What is written is for people only; the lock itself is the kernel's.
        let note = format!("{} {what}\n", std::process::id());
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(note.as_bytes()))
            .map_err(io_error)?;
        Ok(Self {
            file,
            path: path.to_owned(),
        })
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        let _ = self.file.set_len(0);
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}

fn read_holder(file: &mut File) -> (u32, String) {
    let mut text = String::new();
    let _ = file.take(4096).read_to_string(&mut text);
    let (pid, what) = text
        .trim_end()
        .split_once(' ')
        .unwrap_or(("0", "another process"));
    (pid.parse().unwrap_or(0), what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_has_it_and_gets_it_after() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let first = FileLock::try_acquire(&path, "astraler up").unwrap();
        let Err(LockError::Held { pid, what, .. }) = FileLock::try_acquire(&path, "astraler down") else {
            panic!("two holders");
        };
        assert_eq!((pid, what.as_str()), (std::process::id(), "astraler up"));
        drop(first);
        FileLock::try_acquire(&path, "astraler down").unwrap();
    }
}
