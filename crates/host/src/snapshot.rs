//! Immutable, versioned snapshots: the daemon publishes, the data plane watches and keeps the last good one.

use crate::file::{self, FileError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

/// Content beyond this is not read: a snapshot of thousands of routes is far below it.
const MAX_BYTES: u64 = 64 << 20;
/// Where inotify sees nothing (network folders, a folder that was replaced) this finds the change.
const POLL: Duration = Duration::from_secs(1);

/// A snapshot was not published or not found.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It cannot be written as JSON.
    #[error("cannot encode the snapshot for {path}", path = path.display())]
    Encode {
        /// Where it was to go.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// It cannot be written to disk.
    #[error(transparent)]
    File(#[from] FileError),
    /// No readable one appeared in time.
    #[error("no valid snapshot appeared at {path} within {waited:?}", path = path.display())]
    Absent {
        /// Where it was expected.
        path: PathBuf,
        /// How long it had.
        waited: Duration,
    },
}

/// Writes a snapshot as one JSON document, atomically and durably.
pub fn publish<T: Serialize>(
    path: impl AsRef<Path>,
    value: &T,
    mode: u32,
    gid: Option<u32>,
) -> Result<(), SnapshotError> {
    let path = path.as_ref();
    let bytes = serde_json::to_vec(value).map_err(|source| SnapshotError::Encode {
        path: path.to_owned(),
        source,
    })?;
    Ok(file::replace_owned(path, &bytes, mode, gid)?)
}

/// Waits for the first valid snapshot, then follows it for as long as a receiver is alive. Content that is not valid
/// is logged and passed over: the receiver keeps the last good one.
pub async fn watch<T>(path: impl Into<PathBuf>) -> watch::Receiver<Arc<T>>
where
    T: DeserializeOwned + Send + Sync + 'static,
{
    let mut source = Source::new(path.into());
    loop {
        if let Some(value) = source.read_if_changed() {
            let (sender, receiver) = watch::channel(Arc::new(value));
            tokio::spawn(follow(source, sender));
            return receiver;
        }
        source.changed().await;
    }
}

/// [`watch()`] that gives up when there is no valid snapshot in time.
pub async fn watch_within<T>(
    path: impl Into<PathBuf>,
    limit: Duration,
) -> Result<watch::Receiver<Arc<T>>, SnapshotError>
where
    T: DeserializeOwned + Send + Sync + 'static,
{
    let path = path.into();
    tokio::time::timeout(limit, watch(path.clone()))
        .await
        .map_err(|_| SnapshotError::Absent { path, waited: limit })
}

async fn follow<T>(mut source: Source, sender: watch::Sender<Arc<T>>)
where
    T: DeserializeOwned + Send + Sync + 'static,
{
    loop {
        tokio::select! {
            () = sender.closed() => return,
            () = source.changed() => {}
        }
        if let Some(value) = source.read_if_changed() {
            sender.send_replace(Arc::new(value));
        }
    }
}

/// A file and how to learn that it changed.
struct Source {
    path: PathBuf,
    events: Option<AsyncFd<OwnedFd>>,
    seen: Option<Version>,
}

/// What tells one version of a file from another: it is always replaced, never written in place.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Version {
    inode: u64,
    modified: (i64, i64),
    length: u64,
}

impl Source {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            events: None,
            seen: None,
        }
    }

    fn read_if_changed<T: DeserializeOwned>(&mut self) -> Option<T> {
        let found = fs::metadata(&self.path).ok()?;
        let version = Version {
            inode: found.ino(),
            modified: (found.mtime(), found.mtime_nsec()),
            length: found.len(),
        };
        if self.seen == Some(version) {
            return None;
        }
        self.seen = Some(version);
        if version.length > MAX_BYTES {
            tracing::warn!(path = %self.path.display(), bytes = version.length, "snapshot is too large: the last good one stays");
            return None;
        }
        let parsed = fs::read(&self.path)
            .map_err(|error| error.to_string())
            .and_then(|bytes| serde_json::from_slice(&bytes).map_err(|error| error.to_string()));
        match parsed {
            Ok(value) => Some(value),
            Err(error) => {
                tracing::warn!(path = %self.path.display(), error, "snapshot is not valid: the last good one stays");
                None
            }
        }
    }

    /// Ends when something happened in the folder, and every [`POLL`] anyway.
    async fn changed(&mut self) {
        if self.events.is_none() {
            self.events = self.subscribe();
            if self.events.is_some() {
                // What happened before the subscription must not be missed.
                return;
            }
        }
        let Some(events) = &self.events else {
            tokio::time::sleep(POLL).await;
            return;
        };
        let woken = tokio::time::timeout(POLL, events.readable()).await;
        if let Ok(Ok(mut guard)) = woken {
            let mut buffer = [0u8; 4096];
            while rustix::io::read(events.get_ref(), &mut buffer).is_ok_and(|read| read > 0) {}
            guard.clear_ready();
        }
        if !self.path.parent().is_some_and(Path::is_dir) {
            self.events = None;
            tokio::time::sleep(POLL).await;
        }
    }

    fn subscribe(&self) -> Option<AsyncFd<OwnedFd>> {
        use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
        let folder = self.path.parent()?;
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok()?;
        inotify::add_watch(&fd, folder, WatchFlags::MOVED_TO | WatchFlags::CLOSE_WRITE).ok()?;
        crate::reactor::readable(fd).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[tokio::test]
    async fn follows_good_content_and_keeps_it_over_bad() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("snapshot.json");
        let waiting = tokio::spawn(watch_within::<u64>(path.clone(), Duration::from_secs(10)));
        tokio::time::sleep(Duration::from_millis(50)).await;
        publish(&path, &1u64, 0o600, None).unwrap();
        let mut receiver = waiting.await.unwrap().unwrap();
        assert_eq!(**receiver.borrow_and_update(), 1);

        let asked = Instant::now();
        publish(&path, &2u64, 0o600, None).unwrap();
        receiver.changed().await.unwrap();
        assert_eq!(**receiver.borrow_and_update(), 2);
        assert!(
            asked.elapsed() < Duration::from_millis(900),
            "inotify, not the poll, must wake it"
        );

        file::replace(&path, b"{ not json", 0o600).unwrap();
        assert!(
            tokio::time::timeout(Duration::from_millis(1500), receiver.changed())
                .await
                .is_err()
        );
        assert_eq!(**receiver.borrow(), 2);
        publish(&path, &3u64, 0o600, None).unwrap();
        receiver.changed().await.unwrap();
        assert_eq!(**receiver.borrow(), 3);
    }

    #[tokio::test]
    async fn says_what_is_absent() {
        let error =
            watch_within::<u64>("/nonexistent/astraler/snapshot.json", Duration::from_millis(50)).await;
        assert!(matches!(error, Err(SnapshotError::Absent { .. })));
    }
}
