//! Building: copy the input, hash it, put it into layers, move the whole into place.

use crate::files::{CopyError, Tree};
use crate::image::{self, RELEASE_JSON, sha256};
use crate::manifest::{FOLDERS, FileEntry, ManifestError, ReleaseManifest, WorkerEntry, check_path};
use crate::store::{Partial, Releases, Staged, Step, StoreError};
use crate::{Release, files, layer, limits};
use astraler_host::file::FileError;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What goes into a release.
#[derive(Debug, Clone)]
pub struct Input {
    /// The application's name.
    pub application: String,
    /// The validated manifest with its workers: whatever an environment needs beside the files. No path of this
    /// machine and no time belongs into it.
    pub configuration: serde_json::Value,
    /// Folders or files to copy: source, and where below the release (`assets`, `migrations`, `workers/api`).
    pub copies: Vec<(PathBuf, String)>,
    /// Its workers.
    pub workers: BTreeMap<String, WorkerEntry>,
}

/// A release cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A source.
    #[error("cannot read {path}")]
    Read {
        /// The file or folder.
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
    /// The whole is not a release.
    #[error("this is not a release")]
    Manifest(#[from] ManifestError),
    /// Writing it.
    #[error("the release cannot be written")]
    Store(#[from] StoreError),
}

impl From<FileError> for BuildError {
    fn from(error: FileError) -> Self {
        Self::Store(error.into())
    }
}

impl Releases {
    /// Builds a release. The same input gives the same digest; a release that is here already is made anew, so that
    /// what was damaged is whole again.
    pub fn build(&self, input: &Input) -> Result<Release, BuildError> {
        let mut sources = BTreeMap::new();
        for (source, target) in &input.copies {
            collect(source, target, &mut sources)?;
        }
        let partial = self.stage()?;
        let mut tree = Tree::new(partial.tree())?;
        let mut files = BTreeMap::new();
        for (path, source) in sources {
            let copied = copy(&source, &path, &mut tree)?;
            self.step(Step::FileWritten);
            let entry = FileEntry {
                sha256: copied.sha256,
                size: copied.size,
            };
            files.insert(path, entry);
        }
        let mut configuration = input.configuration.clone();
        configuration.sort_all_objects();
        let manifest = ReleaseManifest {
            format_version: ReleaseManifest::FORMAT,
            application: input.application.clone(),
            configuration,
            files,
            workers: input.workers.clone(),
        };
        manifest.check()?;
        let json = manifest.canonical();
        if json.len() as u64 > limits::RELEASE_JSON_BYTES {
            return Err(ManifestError::TooMuch {
                limit: limits::RELEASE_JSON_BYTES,
                of: "bytes in release.json",
            }
            .into());
        }
        tree.write(RELEASE_JSON, &mut json.as_slice())
            .map_err(|error| written(error, Path::new(RELEASE_JSON)))?;
        tree.finish()?;
        let staged = self.write_image(&partial, &manifest)?;
        self.commit(&partial, &staged)?;
        Ok(Release {
            directory: self.unpacked(&staged.digest),
            digest: staged.digest,
            manifest,
        })
    }

    /// Layers, configuration and manifest of what is in the staged folder.
    fn write_image(&self, partial: &Partial, manifest: &ReleaseManifest) -> Result<Staged, BuildError> {
        let blobs = partial.blobs();
        let mut layers = Vec::new();
        for folder in FOLDERS {
            let prefix = format!("{folder}/");
            let paths: Vec<&str> = manifest
                .files
                .keys()
                .filter(|path| path.starts_with(&prefix))
                .map(String::as_str)
                .collect();
            if !paths.is_empty() {
                layers.push(layer::write(folder, &partial.tree(), &paths, &blobs)?);
                self.step(Step::LayerWritten);
            }
        }
        layers.push(layer::write(
            "configuration",
            &partial.tree(),
            &[RELEASE_JSON],
            &blobs,
        )?);
        self.step(Step::LayerWritten);
        let configuration = image::configuration(&layers).map_err(StoreError::from)?;
        let configuration = image::canonical(&configuration);
        let document =
            image::manifest(&manifest.application, &configuration, &layers).map_err(StoreError::from)?;
        let document = image::canonical(&document);
        let mut names: BTreeSet<String> = layers.into_iter().map(|layer| layer.blob).collect();
        for bytes in [&configuration, &document] {
            let name = sha256(bytes);
            let path = blobs.join(&name);
            files::write_new(&path, &mut bytes.as_slice(), true).map_err(|error| written(error, &path))?;
            names.insert(name);
        }
        Ok(Staged {
            digest: format!("sha256:{}", sha256(&document)),
            application: manifest.application.clone(),
            manifest_size: document.len() as u64,
            blobs: names,
        })
    }
}

/// Every file of a source, by its path in the release. Nothing but files and folders is followed.
fn collect(source: &Path, target: &str, sources: &mut BTreeMap<String, PathBuf>) -> Result<(), BuildError> {
    let failed = |error| BuildError::Read {
        path: source.to_owned(),
        source: error,
    };
    let refused = |reason| BuildError::Refused {
        path: source.to_owned(),
        reason,
    };
    let kind = fs::symlink_metadata(source).map_err(failed)?.file_type();
    if kind.is_symlink() {
        return Err(refused("it is a symbolic link"));
    }
    if kind.is_dir() {
        if target.split('/').count() > limits::DEPTH {
            return Err(refused("it is too deep"));
        }
        for entry in fs::read_dir(source).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                return Err(BuildError::Refused {
                    path: entry.path(),
                    reason: "its name is not UTF-8",
                });
            };
            collect(&entry.path(), &format!("{target}/{name}"), sources)?;
        }
        return Ok(());
    }
    if !kind.is_file() {
        return Err(refused("it is neither a file nor a folder"));
    }
    if sources.len() == limits::FILES {
        return Err(refused("a release holds at most 100,000 files"));
    }
    check_path(target)?;
    if sources.insert(target.to_owned(), source.to_owned()).is_some() {
        return Err(refused("another file has its place in the release"));
    }
    Ok(())
}

fn copy(source: &Path, path: &str, tree: &mut Tree) -> Result<files::Copied, BuildError> {
    let failed = |error| BuildError::Read {
        path: source.to_owned(),
        source: error,
    };
    let mut file = files::open_regular(source).map_err(failed)?;
    tree.write(path, &mut file)
        .map_err(|error| written(error, source))
}

fn written(error: CopyError, source: &Path) -> BuildError {
    match error {
        CopyError::Read(error) => BuildError::Read {
            path: source.to_owned(),
            source: error,
        },
        CopyError::Write(error) => error.into(),
    }
}
