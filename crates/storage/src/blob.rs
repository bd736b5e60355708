//! Blob files: how bytes get on the disk, and off it again.
//!
//! A blob is written to `tmp/`, synced, renamed into one of 256 folders, and the folder is synced before the index
//! names it. It is unlinked after the index has forgotten it and no reader holds it.

use crate::StoreError;
use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A point in a write at which a crash is interesting. Tests kill the process there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// The temporary file is there, empty.
    TempCreated,
    /// All bytes were written to it.
    TempWritten,
    /// They are on the disk.
    DataSynced,
    /// It has its final name.
    Renamed,
    /// The transaction is complete but not committed.
    Applied,
    /// The folders that hold the new names are on the disk.
    FoldersSynced,
    /// The index names the blob.
    Committed,
    /// The old blob is gone.
    Unlinked,
}

/// Called at each step of each write.
pub type StepHook = Arc<dyn Fn(Step) + Send + Sync>;

/// The identity of a blob: its file name in hex, and its key in the index. Ids grow with time, so that new rows of
/// the index land side by side; the lowest byte is a counter, so that files spread over all folders.
pub(crate) type BlobId = i64;

/// Number of folders.
pub(crate) const FOLDERS: i64 = 256;

/// The folder of blob files.
pub(crate) struct Blobs {
    root: PathBuf,
    next: AtomicI64,
    /// Bytes announced by writes under way.
    pending: AtomicU64,
    reserve: u64,
    held: Mutex<Held>,
    hook: Option<StepHook>,
}

#[derive(Default)]
struct Held {
    readers: HashMap<BlobId, usize>,
    doomed: HashSet<BlobId>,
}

impl Blobs {
    /// Makes the folders where they are missing and syncs their parents.
    pub(crate) fn open(root: &Path, reserve: u64, hook: Option<StepHook>) -> Result<Self, StoreError> {
        let blobs = Self {
            root: root.to_owned(),
            next: AtomicI64::new(0),
            pending: AtomicU64::new(0),
            reserve,
            held: Mutex::default(),
            hook,
        };
        let folders = (0..FOLDERS).map(|folder| blobs.folder(folder));
        for folder in [blobs.temporary()].into_iter().chain(folders) {
            fs::create_dir_all(&folder).map_err(StoreError::io("create", &folder))?;
        }
        sync_folder(&root.join("blobs"))?;
        sync_folder(root)?;
        Ok(blobs)
    }

    pub(crate) fn step(&self, step: Step) {
        if let Some(hook) = &self.hook {
            hook(step);
        }
    }

    pub(crate) fn temporary(&self) -> PathBuf {
        self.root.join("tmp")
    }

    pub(crate) fn folder(&self, id: BlobId) -> PathBuf {
        self.root
            .join("blobs")
            .join(format!("{:02x}", id.rem_euclid(FOLDERS)))
    }

    pub(crate) fn path(&self, id: BlobId) -> PathBuf {
        self.folder(id).join(format!("{id:016x}"))
    }

    /// No id up to this one is given out.
    pub(crate) fn start_after(&self, id: BlobId) {
        self.next.fetch_max(id, Ordering::SeqCst);
    }

    /// A new id: milliseconds since the epoch in the upper bits, above every id given out before.
    pub(crate) fn new_id(&self) -> BlobId {
        let now = i64::try_from(crate::now_ms()).unwrap_or(i64::MAX >> 20) << 20;
        let mut last = self.next.load(Ordering::SeqCst);
        loop {
            let id = now.max(last + 1);
            // The counter in the lowest byte goes on where the clock moved, or all files would land in folder 00.
            let id = if id == now { now | ((last + 1) & 0xff) } else { id };
            match self
                .next
                .compare_exchange(last, id, Ordering::SeqCst, Ordering::SeqCst)
            {
                Ok(_) => return id,
                Err(other) => last = other,
            }
        }
    }

    /// Refuses when `bytes` more, beside what other writes announced, would eat into the reserve.
    pub(crate) fn check_space(&self, bytes: u64) -> Result<(), StoreError> {
        let stat = rustix::fs::statvfs(&self.root)
            .map_err(|errno| StoreError::io("measure", &self.root)(errno.into()))?;
        let available = stat.f_bavail.saturating_mul(stat.f_frsize);
        let wanted = bytes.saturating_add(self.pending.load(Ordering::Relaxed));
        if available < self.reserve.saturating_add(wanted) {
            return Err(StoreError::InsufficientStorage {
                available,
                reserve: self.reserve,
            });
        }
        Ok(())
    }

    /// Announces bytes to come, so that concurrent writes do not all count on the same free space.
    pub(crate) fn announce(self: &Arc<Self>, bytes: u64) -> Result<Announced, StoreError> {
        self.check_space(bytes)?;
        self.pending.fetch_add(bytes, Ordering::Relaxed);
        Ok(Announced {
            blobs: Arc::clone(self),
            bytes,
        })
    }

    /// Creates a temporary file for a new blob.
    pub(crate) fn create(self: &Arc<Self>) -> Result<NewBlob, StoreError> {
        let id = self.new_id();
        let path = self.temporary().join(format!("{id:016x}"));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(StoreError::io("create", &path))?;
        self.step(Step::TempCreated);
        Ok(NewBlob {
            blobs: Arc::clone(self),
            id,
            path: Some(path),
            file: Some(file),
        })
    }

    /// Keeps blobs on the disk while the guard lives, even when the index forgets them.
    pub(crate) fn hold(self: &Arc<Self>, ids: Vec<BlobId>) -> Hold {
        let mut held = self.held();
        for id in &ids {
            *held.readers.entry(*id).or_default() += 1;
        }
        drop(held);
        Hold {
            blobs: Arc::clone(self),
            ids,
        }
    }

    /// Unlinks a blob that the index has forgotten, now or when its last reader is done.
    pub(crate) fn doom(&self, id: BlobId) {
        let mut held = self.held();
        if held.readers.contains_key(&id) {
            held.doomed.insert(id);
            return;
        }
        drop(held);
        self.unlink(id);
    }

    fn unlink(&self, id: BlobId) {
        let path = self.path(id);
        match fs::remove_file(&path) {
            Ok(()) => self.step(Step::Unlinked),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            // Space is lost until the next start, which removes it as an orphan; nothing else is.
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot remove a blob that is no longer used");
            }
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes that a write under way still counts on.
pub(crate) struct Announced {
    blobs: Arc<Blobs>,
    bytes: u64,
}

impl Drop for Announced {
    fn drop(&mut self) {
        self.blobs.pending.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Keeps blobs readable.
pub(crate) struct Hold {
    blobs: Arc<Blobs>,
    ids: Vec<BlobId>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut free = Vec::new();
        let mut held = self.blobs.held();
        for id in &self.ids {
            let Some(readers) = held.readers.get_mut(id) else {
                continue;
            };
            *readers -= 1;
            if *readers == 0 {
                held.readers.remove(id);
                if held.doomed.remove(id) {
                    free.push(*id);
                }
            }
        }
        drop(held);
        for id in free {
            self.blobs.unlink(id);
        }
    }
}

/// A blob that no index row names yet. Dropped before [`NewBlob::keep`], its file goes away.
pub(crate) struct NewBlob {
    blobs: Arc<Blobs>,
    pub(crate) id: BlobId,
    path: Option<PathBuf>,
    file: Option<File>,
}

impl NewBlob {
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        if let (Some(file), Some(path)) = (&mut self.file, &self.path) {
            file.write_all(bytes).map_err(StoreError::io("write", path))?;
        }
        Ok(())
    }

    /// Makes the bytes durable and gives the file its final name. The folder is not synced yet: the committer does
    /// that for many blobs at once.
    pub(crate) fn settle(&mut self) -> Result<(), StoreError> {
        let (Some(file), Some(temporary)) = (self.file.take(), self.path.clone()) else {
            return Ok(());
        };
        self.blobs.step(Step::TempWritten);
        file.sync_data().map_err(StoreError::io("sync", &temporary))?;
        self.blobs.step(Step::DataSynced);
        let path = self.blobs.path(self.id);
        fs::rename(&temporary, &path).map_err(StoreError::io("rename", &temporary))?;
        self.path = Some(path);
        self.blobs.step(Step::Renamed);
        Ok(())
    }

    /// The index names it now, or may: it stays.
    pub(crate) fn keep(&mut self) {
        self.path = None;
    }
}

impl Drop for NewBlob {
    fn drop(&mut self) {
        if let Some(path) = self.path.take()
            && let Err(error) = fs::remove_file(&path)
        {
            tracing::warn!(path = %path.display(), %error, "cannot remove an unfinished blob");
        }
    }
}

/// Makes a folder and those above it where they are missing, and each new name durable: a store whose own folder a
/// power cut takes away is empty. Answers the folders that were synced.
pub(crate) fn create_folder(path: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let parent = |path: &Path| match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from(if path.is_absolute() { "/" } else { "." }),
    };
    let named = |folder: &&Path| !folder.as_os_str().is_empty();
    let missing: Vec<&Path> = path
        .ancestors()
        .filter(named)
        .take_while(|folder| !folder.exists())
        .collect();
    fs::create_dir_all(path).map_err(StoreError::io("create", path))?;
    let mut synced = Vec::new();
    for folder in missing.iter().rev() {
        sync_folder(&parent(folder))?;
        synced.push(parent(folder));
    }
    if missing.is_empty() {
        // Who made it may have been killed before the sync.
        match sync_folder(&parent(path)) {
            Ok(()) => synced.push(parent(path)),
            // A parent that may be entered but not read was made by somebody else, long ago.
            Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::PermissionDenied => {}
            Err(error) => return Err(error),
        }
    }
    Ok(synced)
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(path: &Path) -> Result<(), StoreError> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(StoreError::io("sync", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_and_spread_over_the_folders() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path(), 0, None).unwrap();
        let ids: Vec<BlobId> = (0..20_000).map(|_| blobs.new_id()).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
        let mut counts = [0usize; 256];
        ids.iter().for_each(|id| counts[(id & 0xff) as usize] += 1);
        assert!(counts.iter().all(|count| (20..300).contains(count)), "{counts:?}");
        blobs.start_after(i64::MAX >> 1);
        assert!(blobs.new_id() > i64::MAX >> 1);
    }

    #[test]
    fn the_names_of_new_folders_are_made_durable() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("a"), dir.path().join("a/b"));
        let synced = create_folder(&dir.path().join("a/b/c")).unwrap();
        assert_eq!(synced, [dir.path(), &first, &second]);
        assert_eq!(create_folder(&dir.path().join("a/b/c")).unwrap(), [second]);
        assert_eq!(create_folder(&first).unwrap(), [dir.path()]);
        assert_eq!(create_folder(Path::new("src")).unwrap(), [Path::new(".")]);
    }

    #[test]
    fn a_held_blob_outlives_its_doom() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Arc::new(Blobs::open(dir.path(), 0, None).unwrap());
        let mut new = blobs.create().unwrap();
        new.write(b"hello").unwrap();
        new.settle().unwrap();
        new.keep();
        let (first, second) = (blobs.hold(vec![new.id]), blobs.hold(vec![new.id]));
        blobs.doom(new.id);
        drop(first);
        assert_eq!(fs::read(blobs.path(new.id)).unwrap(), b"hello");
        drop(second);
        assert!(!blobs.path(new.id).exists());
    }

    #[test]
    fn an_unfinished_blob_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Arc::new(Blobs::open(dir.path(), 0, None).unwrap());
        let mut settled = blobs.create().unwrap();
        settled.settle().unwrap();
        let path = blobs.path(settled.id);
        assert!(path.exists());
        drop((settled, blobs.create().unwrap()));
        assert!(!path.exists());
        assert_eq!(fs::read_dir(blobs.temporary()).unwrap().count(), 0);
    }

    #[test]
    fn the_reserve_is_counted_with_what_others_announced() {
        let dir = tempfile::tempdir().unwrap();
        let free = {
            let stat = rustix::fs::statvfs(dir.path()).unwrap();
            stat.f_bavail * stat.f_frsize
        };
        let blobs = Arc::new(Blobs::open(dir.path(), 0, None).unwrap());
        let announced = blobs.announce(free / 4 * 3).unwrap();
        assert!(matches!(
            blobs.announce(free / 2),
            Err(StoreError::InsufficientStorage { .. })
        ));
        drop(announced);
        assert!(blobs.announce(free / 2).is_ok());
    }
}
