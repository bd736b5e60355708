//! Files and folders of a release on disk.

use astraler_host::file::{self, FileError};
use rustix::fs::FlockOperation;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Up to so many files are synced one by one; more of them cost less with one sync of the file system.
const SYNCED_ONE_BY_ONE: usize = 256;
const BLOCK: usize = 64 << 10;

pub(crate) fn at(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError {
        operation,
        path,
        source,
    }
}

/// Bytes cannot be copied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CopyError {
    /// Where they come from.
    #[error("cannot read it")]
    Read(#[source] io::Error),
    /// Where they go to.
    #[error(transparent)]
    Write(#[from] FileError),
}

/// What was copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Copied {
    /// SHA-256 in hex.
    pub(crate) sha256: String,
    pub(crate) size: u64,
}

/// Writes a new file; its mode is the umask's until the end.
pub(crate) fn write_new(path: &Path, reader: &mut dyn Read, sync: bool) -> Result<Copied, CopyError> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(path)
        .map_err(at("create", path))?;
    let mut hash = Sha256::new();
    let mut size = 0;
    let mut block = vec![0; BLOCK];
    loop {
        let read = match reader.read(&mut block) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(CopyError::Read(error)),
        };
        hash.update(&block[..read]);
        size += read as u64;
        file.write_all(&block[..read]).map_err(at("write", path))?;
    }
    file.set_permissions(fs::Permissions::from_mode(0o644))
        .map_err(at("set the mode of", path))?;
    if sync {
        file.sync_data().map_err(at("sync", path))?;
    }
    Ok(Copied {
        sha256: hex::encode(hash.finalize()),
        size,
    })
}

/// SHA-256 of a file, in hex, and its size.
pub(crate) fn hash(path: &Path) -> io::Result<Copied> {
    let mut file = open_regular(path)?;
    hash_of(&mut file)
}

/// SHA-256 of what a reader still has.
pub(crate) fn hash_of(reader: &mut dyn Read) -> io::Result<Copied> {
    let mut hash = Sha256::new();
    let size = io::copy(reader, &mut hash)?;
    Ok(Copied {
        sha256: hex::encode(hash.finalize()),
        size,
    })
}

/// Opens a regular file; a link or a device in its place is refused.
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(
            (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK)
                .bits()
                .cast_signed(),
        )
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a regular file",
        ));
    }
    Ok(file)
}

/// Reads a file that is at most so long.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_regular(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is too long"));
    }
    Ok(bytes)
}

/// A folder that is being filled: readable by all, durable at the end.
#[derive(Debug)]
pub(crate) struct Tree {
    root: PathBuf,
    folders: BTreeSet<PathBuf>,
    files: usize,
}

impl Tree {
    pub(crate) fn new(root: PathBuf) -> Result<Self, FileError> {
        fs::create_dir(&root).map_err(at("make", &root))?;
        Ok(Self {
            folders: [root.clone()].into(),
            root,
            files: 0,
        })
    }

    /// Writes a file. The path is relative and normal: `manifest::check_path` has said so.
    pub(crate) fn write(&mut self, path: &str, reader: &mut dyn Read) -> Result<Copied, CopyError> {
        let target = self.root.join(path);
        if let Some(parent) = target.parent()
            && !self.folders.contains(parent)
        {
            fs::create_dir_all(parent).map_err(at("make", parent))?;
            let new = parent
                .ancestors()
                .take_while(|folder| !self.folders.contains(*folder));
            let new: Vec<PathBuf> = new.map(Path::to_owned).collect();
            self.folders.extend(new);
        }
        self.files += 1;
        write_new(&target, reader, self.files <= SYNCED_ONE_BY_ONE)
    }

    /// Sets the modes, whatever the umask, and makes all of it durable.
    pub(crate) fn finish(self) -> Result<(), FileError> {
        let many = self.files > SYNCED_ONE_BY_ONE;
        for folder in self.folders.iter().rev() {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
                .map_err(at("set the mode of", folder))?;
            if !many {
                file::sync_dir(folder)?;
            }
        }
        if many {
            let folder = File::open(&self.root).map_err(at("open", &self.root))?;
            rustix::fs::syncfs(&folder)
                .map_err(|errno| at("sync the file system of", &self.root)(errno.into()))?;
        }
        Ok(())
    }
}

/// Tries the kernel's lock on a folder. It is released with the descriptor, however its process ends. Reading rights
/// are enough, and no file of its own is needed.
pub(crate) fn try_lock(folder: &Path) -> Result<Option<File>, FileError> {
    let file = File::open(folder).map_err(at("open", folder))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => Ok(None),
        Err(errno) => Err(at("lock", folder)(errno.into())),
    }
}

/// Removes a folder with all that is in it; one that is not there is fine.
pub(crate) fn remove_tree(path: &Path) -> Result<(), FileError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("remove", path)(error)),
        _ => Ok(()),
    }
}
