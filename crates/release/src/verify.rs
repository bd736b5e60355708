//! Opening and verifying a release: every byte follows from its digest.

use crate::image::{self, RELEASE_JSON, sha256};
use crate::manifest::{ManifestError, ReleaseManifest};
use crate::store::{Releases, StoreError};
use crate::{ArchiveError, Release, files, is_digest, layer, limits};
use oci_spec::image::{Descriptor, ImageManifest};
use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A release cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is not here.
    #[error("there is no release {digest}")]
    Unknown {
        /// Which.
        digest: String,
    },
    /// A blob is not what its digest says.
    #[error("release {digest} is damaged: blob {path} {damage}")]
    Blob {
        /// Which release.
        digest: String,
        /// The blob's file.
        path: PathBuf,
        /// How.
        damage: Damage,
    },
    /// A blob is what its digest says, and no part of a release.
    #[error("release {digest} is not one that this program reads: blob {path}: {reason}")]
    Foreign {
        /// Which release.
        digest: String,
        /// The blob's file.
        path: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// Its last layer cannot be read.
    #[error("release {digest}: its layer {path} cannot be read")]
    Layer {
        /// Which release.
        digest: String,
        /// The blob's file.
        path: PathBuf,
        /// Why.
        source: ArchiveError,
    },
    /// Its description is of another version, or not well formed.
    #[error("release {digest} cannot be used")]
    Manifest {
        /// Which release.
        digest: String,
        /// Why.
        source: ManifestError,
    },
    /// Its unpacked folder is missing.
    #[error("release {digest} is damaged: {path} is missing")]
    Folder {
        /// Which release.
        digest: String,
        /// The folder.
        path: PathBuf,
    },
    /// The folder of releases cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A release is not whole.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Its documents are not in order.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A blob is not what its digest says.
    #[error("release {digest} is damaged: blob {path} {damage}")]
    Blob {
        /// Which release.
        digest: String,
        /// The blob's file.
        path: PathBuf,
        /// How.
        damage: Damage,
    },
    /// An unpacked file is not what the image says.
    #[error("release {digest} is damaged: {path} {damage}; blob {blob} holds the original")]
    File {
        /// Which release.
        digest: String,
        /// The file on this machine.
        path: PathBuf,
        /// How.
        damage: Damage,
        /// Digest of the layer that the file belongs to.
        blob: String,
    },
    /// Something is in the unpacked folder that the release does not have.
    #[error("release {digest} is damaged: {path} is no part of it")]
    Added {
        /// Which release.
        digest: String,
        /// The file.
        path: PathBuf,
    },
    /// The layers do not hold what the description says.
    #[error("release {digest}: layer {path} is not what release.json says")]
    Layer {
        /// Which release.
        digest: String,
        /// The blob's file.
        path: PathBuf,
        /// Why.
        source: ArchiveError,
    },
    /// A folder cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// It is not there.
    Missing,
    /// Its bytes are others.
    Changed,
    /// It cannot be read, or is no regular file.
    Unreadable(io::ErrorKind),
}

impl fmt::Display for Damage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => formatter.write_str("is missing"),
            Self::Changed => formatter.write_str("has been changed"),
            Self::Unreadable(kind) => write!(formatter, "cannot be read ({kind})"),
        }
    }
}

/// The documents of one image, each checked against its digest.
pub(crate) struct Documents {
    pub(crate) image: ImageManifest,
    /// Hash of the tar in each layer, in hex.
    pub(crate) diff_ids: Vec<String>,
    /// What the image's configuration says of each layer.
    pub(crate) history: Vec<String>,
}

impl Releases {
    /// Opens a release and checks its documents against its digest; [`Releases::verify`] checks all files.
    pub fn open(&self, digest: &str) -> Result<Release, OpenError> {
        let documents = self.documents(digest)?;
        let (manifest, _) = self.release_manifest(digest, &documents)?;
        let directory = self.unpacked(digest);
        if !directory.is_dir() {
            return Err(OpenError::Folder {
                digest: digest.to_owned(),
                path: directory,
            });
        }
        Ok(Release {
            digest: digest.to_owned(),
            directory,
            manifest,
        })
    }

    /// Checks every blob against its digest, and every unpacked file against its layer; names the first that is not
    /// what it was.
    pub fn verify(&self, digest: &str) -> Result<Release, VerifyError> {
        let documents = self.documents(digest)?;
        self.check_layers(digest, &documents)?;
        let (manifest, json) = self.release_manifest(digest, &documents)?;
        let directory = self.unpacked(digest);
        let mut seen = BTreeSet::new();
        let (last, layers) = split(&documents);
        for (layer, diff_id) in layers {
            self.verify_layer(digest, layer, diff_id, &manifest, &mut seen)?;
        }
        let damaged = |path: PathBuf, damage, blob: &Descriptor| VerifyError::File {
            digest: digest.to_owned(),
            path,
            damage,
            blob: blob.digest().to_string(),
        };
        if let Some(path) = manifest.files.keys().find(|path| !seen.contains(*path)) {
            return Err(damaged(directory.join(path), Damage::Missing, last));
        }
        check_file(&directory.join(RELEASE_JSON), &sha256(&json))
            .map_err(|(path, damage)| damaged(path, damage, last))?;
        if let Some(path) = first_added(&directory, &manifest)? {
            return Err(VerifyError::Added {
                digest: digest.to_owned(),
                path,
            });
        }
        Ok(Release {
            digest: digest.to_owned(),
            directory,
            manifest,
        })
    }

    /// Every layer's blob against its digest.
    pub(crate) fn check_layers(&self, digest: &str, documents: &Documents) -> Result<(), VerifyError> {
        for layer in documents.image.layers() {
            self.check_blob(layer)
                .map_err(|(path, damage)| VerifyError::Blob {
                    digest: digest.to_owned(),
                    path,
                    damage,
                })?;
        }
        Ok(())
    }

    /// One layer: its files are what the manifest says, and the unpacked files are the same.
    fn verify_layer(
        &self,
        digest: &str,
        layer: &Descriptor,
        diff_id: &str,
        manifest: &ReleaseManifest,
        seen: &mut BTreeSet<String>,
    ) -> Result<(), VerifyError> {
        let path = self.blob(image::hex_of(layer).unwrap_or_default());
        let directory = self.unpacked(digest);
        let blob = files::open_regular(&path).map_err(|error| VerifyError::Blob {
            digest: digest.to_owned(),
            path: path.clone(),
            damage: damage(&error),
        })?;
        let read = layer::read_files(blob, diff_id, manifest, seen, |name, entry, bytes| {
            let inside = files::hash_of(bytes).map_err(ArchiveError::Read)?;
            if inside.sha256 != entry.sha256 {
                return Err(ArchiveError::refused(name, "release.json says another hash").into());
            }
            check_file(&directory.join(name), &entry.sha256).map_err(|(path, damage)| {
                LayerError::Verify(VerifyError::File {
                    digest: digest.to_owned(),
                    path,
                    damage,
                    blob: layer.digest().to_string(),
                })
            })
        });
        read.map_err(|error| match error {
            LayerError::Verify(error) => error,
            LayerError::Archive(source) => VerifyError::Layer {
                digest: digest.to_owned(),
                path,
                source,
            },
        })
    }

    /// The manifest and the configuration of an image.
    pub(crate) fn documents(&self, digest: &str) -> Result<Documents, OpenError> {
        if !is_digest(digest) || !self.knows(digest)? {
            return Err(OpenError::Unknown {
                digest: crate::manifest::shown(digest),
            });
        }
        let hex = digest.trim_start_matches("sha256:");
        let foreign = |hex: &str, reason| OpenError::Foreign {
            digest: digest.to_owned(),
            path: self.blob(hex),
            reason,
        };
        let bytes = self.document(digest, hex)?;
        let image = image::parse_manifest(&bytes).map_err(|reason| foreign(hex, reason))?;
        let config = image::hex_of(image.config()).map_err(|reason| foreign(hex, reason))?;
        let bytes = self.document(digest, config)?;
        let diff_ids =
            image::parse_diff_ids(&bytes, image.layers().len()).map_err(|reason| foreign(config, reason))?;
        Ok(Documents {
            image,
            diff_ids,
            history: image::parse_history(&bytes),
        })
    }

    /// The description in the last layer, and its bytes.
    pub(crate) fn release_manifest(
        &self,
        digest: &str,
        documents: &Documents,
    ) -> Result<(ReleaseManifest, Vec<u8>), OpenError> {
        let (last, _) = split(documents);
        let diff_id = documents.diff_ids.last().map_or("", String::as_str);
        self.check_blob(last).map_err(|(path, damage)| OpenError::Blob {
            digest: digest.to_owned(),
            path,
            damage,
        })?;
        let path = self.blob(image::hex_of(last).unwrap_or_default());
        let blob = files::open_regular(&path).map_err(|error| OpenError::Blob {
            digest: digest.to_owned(),
            path: path.clone(),
            damage: damage(&error),
        })?;
        let json = layer::read_release_json(blob, diff_id).map_err(|source| OpenError::Layer {
            digest: digest.to_owned(),
            path: path.clone(),
            source,
        })?;
        let manifest = parse(&json).map_err(|error| match error {
            Some(source) => OpenError::Manifest {
                digest: digest.to_owned(),
                source,
            },
            None => OpenError::Foreign {
                digest: digest.to_owned(),
                path,
                reason: "its release.json is not one",
            },
        })?;
        Ok((manifest, json))
    }

    fn document(&self, digest: &str, hex: &str) -> Result<Vec<u8>, OpenError> {
        let damaged = |damage| OpenError::Blob {
            digest: digest.to_owned(),
            path: self.blob(hex),
            damage,
        };
        let bytes = self
            .read_blob(hex, limits::DOCUMENT_BYTES)
            .map_err(|error| damaged(damage(&error)))?;
        if sha256(&bytes) != hex {
            return Err(damaged(Damage::Changed));
        }
        Ok(bytes)
    }

    fn check_blob(&self, descriptor: &Descriptor) -> Result<(), (PathBuf, Damage)> {
        let hex = image::hex_of(descriptor).unwrap_or_default();
        check_file(&self.blob(hex), hex)
    }
}

/// The bytes of `release.json` as a manifest in order; no error where they are not JSON of its shape.
pub(crate) fn parse(json: &[u8]) -> Result<ReleaseManifest, Option<ManifestError>> {
    // The version comes first: another version may have another shape.
    #[derive(serde::Deserialize)]
    struct Version {
        format_version: u32,
    }
    let version: Version = serde_json::from_slice(json).map_err(|_| None)?;
    if version.format_version != ReleaseManifest::FORMAT {
        return Err(Some(ManifestError::Format {
            found: version.format_version,
        }));
    }
    let manifest: ReleaseManifest = serde_json::from_slice(json).map_err(|_| None)?;
    manifest.check().map_err(Some)?;
    Ok(manifest)
}

/// The last layer, which is the description, and those before it.
fn split(documents: &Documents) -> (&Descriptor, impl Iterator<Item = (&Descriptor, &str)>) {
    let layers = documents.image.layers();
    // `parse_manifest` has seen that there is one.
    let (last, before) = layers.split_last().unwrap_or((documents.image.config(), &[]));
    let diff_ids = documents.diff_ids.iter().map(String::as_str);
    (last, before.iter().zip(diff_ids))
}

enum LayerError {
    Archive(ArchiveError),
    Verify(VerifyError),
}

impl From<ArchiveError> for LayerError {
    fn from(error: ArchiveError) -> Self {
        Self::Archive(error)
    }
}

fn damage(error: &io::Error) -> Damage {
    match error.kind() {
        io::ErrorKind::NotFound => Damage::Missing,
        kind => Damage::Unreadable(kind),
    }
}

fn check_file(path: &Path, sha256: &str) -> Result<(), (PathBuf, Damage)> {
    match files::hash(path) {
        Ok(found) if found.sha256 == sha256 => Ok(()),
        Ok(_) => Err((path.to_owned(), Damage::Changed)),
        Err(error) => Err((path.to_owned(), damage(&error))),
    }
}

/// The first file, link or folder of the unpacked folder that the release does not have.
fn first_added(directory: &Path, manifest: &ReleaseManifest) -> Result<Option<PathBuf>, VerifyError> {
    let folders: BTreeSet<&str> = manifest
        .files
        .keys()
        .flat_map(|path| path.match_indices('/').map(|(end, _)| &path[..end]))
        .collect();
    let mut pending = vec![String::new()];
    while let Some(inside) = pending.pop() {
        let folder = directory.join(&inside);
        let failed = |source| VerifyError::Read {
            path: folder.clone(),
            source,
        };
        let mut entries = fs::read_dir(&folder)
            .map_err(failed)?
            .collect::<Result<Vec<_>, _>>()
            .map_err(failed)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let kind = entry.file_type().map_err(failed)?;
            let name = entry.file_name();
            let path = match (name.to_str(), inside.as_str()) {
                (None, _) => return Ok(Some(entry.path())),
                (Some(name), "") => name.to_owned(),
                (Some(name), inside) => format!("{inside}/{name}"),
            };
            let known = if kind.is_dir() {
                folders.contains(path.as_str())
            } else {
                kind.is_file() && (path == RELEASE_JSON || manifest.files.contains_key(&path))
            };
            if !known {
                return Ok(Some(entry.path()));
            }
            if kind.is_dir() {
                pending.push(path);
            }
        }
    }
    Ok(None)
}
