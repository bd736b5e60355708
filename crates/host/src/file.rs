//! Durable files: the old content or the new one, never a part of either.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// An operation on a file failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {path}{hint}", path = path.display(), hint = hint(source))]
pub struct FileError {
    /// What was tried: `write`, `rename`, `sync`…
    pub operation: &'static str,
    /// On which file or folder.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

impl FileError {
    /// The disk, the quota or the file size limit is used up.
    pub fn is_disk_full(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        )
    }
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull => ": the disk is full; free some space and try again",
        io::ErrorKind::QuotaExceeded => ": the disk quota is used up",
        io::ErrorKind::ReadOnlyFilesystem => ": the file system is read-only",
        _ => "",
    }
}

/// Replaces the content of a file, durably: temporary file in the same folder, fsync, rename, fsync of the folder.
/// `mode` is set exactly, whatever the umask. On error the old content is untouched and the temporary file is gone.
pub fn replace(path: impl AsRef<Path>, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    replace_owned(path, bytes, mode, None)
}

/// [`replace`], and gives the new file to a group before it is visible.
pub fn replace_owned(
    path: impl AsRef<Path>,
    bytes: &[u8],
    mode: u32,
    gid: Option<u32>,
) -> Result<(), FileError> {
    replace_for(path.as_ref(), bytes, mode, None, gid)
}

pub(crate) fn replace_for(
    path: &Path,
    bytes: &[u8],
    mode: u32,
    uid: Option<u32>,
    gid: Option<u32>,
) -> Result<(), FileError> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let folder = parent_of(path);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let temporary = folder.join(format!(".{name}.{}.{number}.tmp", std::process::id()));
    let written = write_new(&temporary, bytes, mode, uid, gid)
        .and_then(|()| fs::rename(&temporary, path).map_err(at("replace", path)));
    if let Err(error) = written {
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    sync_dir(folder)
}

fn write_new(
    path: &Path,
    bytes: &[u8],
    mode: u32,
    uid: Option<u32>,
    gid: Option<u32>,
) -> Result<(), FileError> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(at("create", path))?;
    file.write_all(bytes).map_err(at("write", path))?;
    if uid.is_some() || gid.is_some() {
        std::os::unix::fs::fchown(&file, uid, gid).map_err(at("change the owner of", path))?;
    }
    file.set_permissions(fs::Permissions::from_mode(mode))
        .map_err(at("set the mode of", path))?;
    file.sync_all().map_err(at("sync", path))
}

/// Makes a folder with its parents (those with mode 0755), and sees to it that it has this mode and owner. A symbolic
/// link in its place is refused.
pub fn make_dir(
    path: impl AsRef<Path>,
    mode: u32,
    uid: Option<u32>,
    gid: Option<u32>,
) -> Result<(), FileError> {
    let path = path.as_ref();
    if let Some(parent) = path.parent()
        && !parent.as_os_str().is_empty()
        && !parent.is_dir()
    {
        make_dir(parent, 0o755, None, None)?;
    }
    match fs::DirBuilder::new().mode(mode & 0o777).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(at("make the folder", path)(error)),
    }
    let folder = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_DIRECTORY | nix::libc::O_NOFOLLOW)
        .open(path)
        .map_err(at("open the folder", path))?;
    let found = folder.metadata().map_err(at("look at", path))?;
    let other_owner = uid.is_some_and(|uid| uid != found.uid()) || gid.is_some_and(|gid| gid != found.gid());
    if other_owner {
        std::os::unix::fs::fchown(&folder, uid, gid).map_err(at("change the owner of", path))?;
    }
    // A change of owner may clear bits, so the mode comes after it.
    if other_owner || found.mode() & 0o7777 != mode {
        folder
            .set_permissions(fs::Permissions::from_mode(mode))
            .map_err(at("set the mode of", path))?;
    }
    Ok(())
}

/// Makes the entries of a folder durable.
pub fn sync_dir(path: impl AsRef<Path>) -> Result<(), FileError> {
    let path = path.as_ref();
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(at("sync the folder", path))
}

/// Bytes that this process may still write to the file system of `path`.
pub fn free_bytes(path: impl AsRef<Path>) -> Result<u64, FileError> {
    let path = path.as_ref();
    let found =
        rustix::fs::statvfs(path).map_err(|errno| at("measure the free space of", path)(errno.into()))?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Removes a file; one that is not there is fine.
pub fn remove_if_present(path: impl AsRef<Path>) -> Result<(), FileError> {
    let path = path.as_ref();
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("remove", path)(error)),
        _ => Ok(()),
    }
}

fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

pub(crate) fn at(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError {
        operation,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_with_exact_mode_and_leaves_no_temporary_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        replace(&path, b"one", 0o640).unwrap();
        replace(&path, b"two", 0o604).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o604);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn makes_parents_and_mends_the_mode_but_refuses_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a/b");
        make_dir(&deep, 0o700, None, None).unwrap();
        make_dir(&deep, 0o750, None, None).unwrap();
        assert_eq!(fs::metadata(&deep).unwrap().mode() & 0o7777, 0o750);
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&deep, &link).unwrap();
        assert!(make_dir(&link, 0o700, None, None).is_err());
    }

    #[test]
    fn free_space_is_known() {
        assert!(free_bytes("/tmp").unwrap() > 0);
    }
}
