//! Building: copy into a temporary folder, hash, make durable, rename. Killed at any instant, it leaves either
//! the whole release or a temporary folder that the next build removes.

use crate::manifest::{FileEntry, ReleaseManifest, WorkerEntry};
use crate::{Release, directory_name, verify};
use astraler_host::file;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What goes into a release.
#[derive(Debug, Clone)]
pub struct Input {
    /// The application's name.
    pub application: String,
    /// Folders or files to copy: source and where below the release (`assets`, `workers/api`).
    pub copies: Vec<(PathBuf, String)>,
    /// Its workers.
    pub workers: BTreeMap<String, WorkerEntry>,
}

/// A release cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A file or folder.
    #[error("cannot {operation} {path}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// What a release cannot hold.
    #[error("{path} cannot be part of a release: {reason}")]
    Refused {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// Making it durable.
    #[error("the release cannot be written")]
    File(#[from] file::FileError),
}

/// Files of one release; a bound, not a quota.
const MAX_FILES: usize = 100_000;

/// Prefix of folders that are not finished.
const PARTIAL: &str = ".partial-";

/// Builds a release below `releases`. The same input gives the same digest, and the folder that is there already
/// when it is whole.
pub fn build(input: &Input, releases: &Path) -> Result<Release, BuildError> {
    let at = |operation, path: &Path| {
        let path = path.to_owned();
        move |source| BuildError::Io {
            operation,
            path,
            source,
        }
    };
    fs::create_dir_all(releases).map_err(at("make", releases))?;
    remove_partial(releases);
    let partial = releases.join(format!("{PARTIAL}{}", std::process::id()));
    fs::create_dir(&partial).map_err(at("make", &partial))?;
    let mut manifest = ReleaseManifest {
        format_version: 1,
        application: input.application.clone(),
        files: BTreeMap::new(),
        workers: input.workers.clone(),
    };
    for (source, target) in &input.copies {
        copy(source, &partial, target, &mut manifest.files)?;
    }
    let canonical = manifest.canonical();
    let digest = format!("sha256:{}", hex::encode(Sha256::digest(&canonical)));
    let directory = releases.join(directory_name(&digest));
    let release = Release {
        digest,
        directory: directory.clone(),
        manifest,
    };
    if verify(&release).is_ok() {
        fs::remove_dir_all(&partial).map_err(at("remove", &partial))?;
        return Ok(release);
    }
    file::replace(partial.join("release.json"), &canonical, 0o644)?;
    make_readable_and_durable(&partial)?;
    if directory.exists() {
        // It is not whole (see above): what took its name is not a release.
        fs::remove_dir_all(&directory).map_err(at("remove", &directory))?;
    }
    fs::rename(&partial, &directory).map_err(at("rename to", &directory))?;
    file::sync_dir(releases)?;
    Ok(release)
}

fn remove_partial(releases: &Path) {
    for entry in fs::read_dir(releases).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(PARTIAL) {
            // One build at a time holds the platform's lock: what is there was left by a killed one.
            fs::remove_dir_all(entry.path()).ok();
        }
    }
}

fn copy(
    source: &Path,
    root: &Path,
    target: &str,
    files: &mut BTreeMap<String, FileEntry>,
) -> Result<(), BuildError> {
    let at = |operation| {
        let path = source.to_owned();
        move |error| BuildError::Io {
            operation,
            path,
            source: error,
        }
    };
    let kind = fs::symlink_metadata(source).map_err(at("read"))?.file_type();
    if kind.is_symlink() {
        return Err(BuildError::Refused {
            path: source.to_owned(),
            reason: "it is a symbolic link",
        });
    }
    if kind.is_dir() {
        let mut entries: Vec<_> = fs::read_dir(source)
            .map_err(at("read"))?
            .collect::<Result<_, _>>()
            .map_err(at("read"))?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                return Err(BuildError::Refused {
                    path: entry.path(),
                    reason: "its name is not UTF-8",
                });
            };
            copy(&entry.path(), root, &format!("{target}/{name}"), files)?;
        }
        return Ok(());
    }
    if !kind.is_file() {
        return Err(BuildError::Refused {
            path: source.to_owned(),
            reason: "it is neither a file nor a folder",
        });
    }
    if files.len() == MAX_FILES {
        return Err(BuildError::Refused {
            path: source.to_owned(),
            reason: "a release holds at most 100,000 files",
        });
    }
    let path = root.join(target);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(at("make the folder of the copy of"))?;
    }
    let mut from = fs::File::open(source).map_err(at("open"))?;
    let mut to = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(&path)
        .map_err(at("make the copy of"))?;
    let mut hash = Sha256::new();
    let mut size = 0;
    let mut block = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut block).map_err(at("read"))?;
        if read == 0 {
            break;
        }
        hash.update(&block[..read]);
        size += read as u64;
        to.write_all(&block[..read]).map_err(at("write the copy of"))?;
    }
    to.sync_data().map_err(at("sync the copy of"))?;
    files.insert(
        target.to_owned(),
        FileEntry {
            sha256: hex::encode(hash.finalize()),
            size,
        },
    );
    Ok(())
}

/// The edge and the workers' sandbox read a release as other users.
fn make_readable_and_durable(folder: &Path) -> Result<(), BuildError> {
    let at = |operation, path: &Path| {
        let path = path.to_owned();
        move |source| BuildError::Io {
            operation,
            path,
            source,
        }
    };
    for entry in fs::read_dir(folder).map_err(at("read", folder))?.flatten() {
        let path = entry.path();
        let directory = path.is_dir();
        let mode = if directory { 0o755 } else { 0o644 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(at("set the mode of", &path))?;
        if directory {
            make_readable_and_durable(&path)?;
        }
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).map_err(at("set the mode of", folder))?;
    Ok(file::sync_dir(folder)?)
}
