//! The package store that jobs share: pnpm's, so that a warm install takes nothing from the network.
//!
//! A job gets a tree of hard links, so that it sees no other job's folder and pnpm can link from it; what is new in
//! it goes back at the end of the job, each file of content only if it is what its name says. Jobs that do not trust
//! each other have different stores; a store that is not there yet begins as a copy, which shares no file, of the
//! protected one.

use sha2::{Digest, Sha512};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The trust whose store others may read.
pub(crate) const PROTECTED: &str = "protected";
/// Most files of a store.
const MAX_FILES: usize = 500_000;

/// The store of a trust.
pub(crate) fn folder(cache: &Path, trust: &str) -> PathBuf {
    cache.join("stores").join(trust).join("pnpm")
}

/// Gives a job its tree. True where there was something to give.
pub(crate) fn take(cache: &Path, trust: &str, target: &Path) -> io::Result<bool> {
    let own = folder(cache, trust);
    fs::create_dir_all(target)?;
    if own.is_dir() {
        each(&own, &mut |from, relative| {
            put(from, &target.join(relative), true)
        })?;
        return Ok(true);
    }
    let protected = folder(cache, PROTECTED);
    if trust == PROTECTED || !protected.is_dir() {
        return Ok(false);
    }
    each(&protected, &mut |from, relative| {
        put(from, &target.join(relative), false)
    })?;
    Ok(true)
}

/// Takes back what is new in a job's tree. Gives how many files.
pub(crate) fn give_back(cache: &Path, trust: &str, from: &Path) -> io::Result<usize> {
    let own = folder(cache, trust);
    crate::work::make(&own)?;
    let mut count = 0;
    each(from, &mut |path, relative| {
        let target = own.join(relative);
        if target.exists() || !is_store_file(relative) || !is_what_it_says(path, relative)? {
            return Ok(());
        }
        put(path, &target, true)?;
        count += 1;
        Ok(())
    })?;
    Ok(count)
}

/// `v10/files/…` and `v10/index/…`: what else is there belongs to projects that are gone.
fn is_store_file(relative: &Path) -> bool {
    let mut parts = relative
        .components()
        .map(|part| part.as_os_str().to_string_lossy().into_owned());
    let version = parts.next().unwrap_or_default();
    version.starts_with('v') && matches!(parts.next().as_deref(), Some("files" | "index"))
}

/// A file of content is named by its SHA-512: two digits as the folder, the rest as the name, `-exec` after it
/// where it is executable.
fn is_what_it_says(path: &Path, relative: &Path) -> io::Result<bool> {
    let parts: Vec<String> = relative
        .components()
        .map(|part| part.as_os_str().to_string_lossy().into_owned())
        .collect();
    let [_, kind, folder, name] = parts.as_slice() else {
        return Ok(false);
    };
    if kind != "files" {
        return Ok(name.ends_with(".json"));
    }
    let mut hash = Sha512::new();
    io::copy(&mut File::open(path)?, &mut hash)?;
    let found = hex::encode(hash.finalize());
    Ok(format!("{folder}{}", name.trim_end_matches("-exec")) == found)
}

/// Every ordinary file of a tree, with its path in the tree. Links are left out.
fn each(root: &Path, found: &mut dyn FnMut(&Path, &Path) -> io::Result<()>) -> io::Result<()> {
    let mut folders = vec![root.to_owned()];
    let mut count = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                count += 1;
                if count > MAX_FILES {
                    return Err(io::Error::other(format!(
                        "the store has more than {MAX_FILES} files"
                    )));
                }
                let path = entry.path();
                let relative = path.strip_prefix(root).map_err(io::Error::other)?;
                found(&path, relative)?;
            }
        }
    }
    Ok(())
}

fn put(from: &Path, to: &Path, link: bool) -> io::Result<()> {
    if link {
        match fs::hard_link(from, to) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make_parent(to)?;
                match fs::hard_link(from, to) {
                    Ok(()) => return Ok(()),
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
                    // Another file system, or too many links.
                    Err(_) => {}
                }
            }
            Err(_) => {}
        }
    }
    make_parent(to)?;
    // Beside it first: another job may look.
    let partial = to.with_extension(format!("partial-{}", std::process::id()));
    fs::copy(from, &partial)?;
    let times = fs::FileTimes::new().set_modified(fs::metadata(from)?.modified()?);
    File::options().append(true).open(&partial)?.set_times(times).ok();
    debug_assert!(fs::metadata(&partial)?.nlink() >= 1);
    fs::rename(&partial, to)
}

fn make_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), crate::work::make)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;

    fn content(text: &str) -> (String, String) {
        let hash = hex::encode(Sha512::digest(text));
        (hash[..2].to_owned(), hash[2..].to_owned())
    }

    fn write(path: PathBuf, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn only_what_is_what_its_name_says_goes_back() {
        let cache = tempfile::tempdir().unwrap();
        let job = cache.path().join("job");
        let (folder_of, name) = content("good");
        write(job.join("v10/files").join(&folder_of).join(&name), "good");
        let (other, forged) = content("trusted");
        write(job.join("v10/files").join(&other).join(&forged), "evil");
        write(job.join("v10/projects/x"), "link");
        assert_eq!(give_back(cache.path(), "branch", &job).unwrap(), 1);
        let store = folder(cache.path(), "branch");
        assert!(store.join("v10/files").join(&folder_of).join(&name).is_file());
        assert!(!store.join("v10/files").join(&other).exists() && !store.join("v10/projects").exists());
        let again = cache.path().join("again");
        assert!(take(cache.path(), "branch", &again).unwrap());
        assert!(again.join("v10/files").join(folder_of).join(name).is_file());
    }

    #[test]
    fn a_branch_begins_with_a_copy_of_what_is_protected_and_cannot_change_it() {
        let cache = tempfile::tempdir().unwrap();
        let (folder_of, name) = content("text");
        let protected = folder(cache.path(), PROTECTED)
            .join("v10/files")
            .join(folder_of)
            .join(name);
        write(protected.clone(), "text");
        let job = cache.path().join("job");
        assert!(take(cache.path(), "branch", &job).unwrap());
        let own = job.join(protected.strip_prefix(folder(cache.path(), PROTECTED)).unwrap());
        fs::write(own, "changed in place").unwrap();
        assert_eq!(fs::read_to_string(&protected).unwrap(), "text");
        assert!(!take(&cache.path().join("empty"), "branch", &cache.path().join("none")).unwrap());
    }
}
