//! Import: a tar of an OCI image layout from somebody else. Nothing in it is believed before it is checked, and nothing
//! of it is kept when anything is wrong.

use crate::archive::{self, Bounded, Entry};
use crate::files::{self, CopyError, Tree, at};
use crate::image::{self, LAYOUT, RELEASE_JSON, sha256};
use crate::manifest::{ManifestError, ReleaseManifest, shown};
use crate::store::{Partial, Releases, Staged, Step, StoreError};
use crate::{ArchiveError, Release, is_hex64, layer, limits, verify};
use astraler_host::file::FileError;
use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, MediaType, OciLayout};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::Path;

/// An archive is not imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The archive, or a layer in it, breaks off or holds what it must not.
    #[error("the archive is refused")]
    Archive(#[from] ArchiveError),
    /// A document or blob is not in order.
    #[error("the archive is refused: `{name}`: {reason}")]
    Refused {
        /// Which, escaped.
        name: String,
        /// Why.
        reason: &'static str,
    },
    /// It is an image, and no release.
    #[error("the archive is refused: its release.json is not in order")]
    Manifest(#[from] ManifestError),
    /// Writing it here.
    #[error("the release cannot be written")]
    Store(#[from] StoreError),
}

impl From<FileError> for ImportError {
    fn from(error: FileError) -> Self {
        Self::Store(error.into())
    }
}

/// Blobs of one image: layers, configuration, manifest.
const MAX_BLOBS: usize = limits::LAYERS + 2;
/// With `oci-layout`, `index.json` and the folders.
const MAX_ENTRIES: usize = MAX_BLOBS + 4;

/// What was found in the archive, its blobs staged and each of them true to its name.
struct Found {
    layout: Vec<u8>,
    index: Vec<u8>,
    /// Hex digits → size.
    blobs: BTreeMap<String, u64>,
}

impl Releases {
    /// Imports one release from a tar of an OCI image layout, as [`Releases::export`] and `skopeo copy` to
    /// `oci-archive:` write it. A release that is here already is made anew.
    pub fn import(&self, from: impl Read) -> Result<Release, ImportError> {
        let partial = self.stage()?;
        let found = self.receive(&partial, from)?;
        let (digest, image) = check_documents(&partial, &found)?;
        let config = staged_document(&partial, image.config())?;
        let diff_ids = image::parse_diff_ids(&config, image.layers().len())
            .map_err(|reason| refused(image.config().digest().as_ref(), reason))?;
        let manifest = self.unpack(&partial, &partial.blobs(), &image, &diff_ids)?;
        let hex = digest.trim_start_matches("sha256:");
        let staged = Staged {
            application: manifest.application.clone(),
            manifest_size: found.blobs.get(hex).copied().unwrap_or_default(),
            blobs: found.blobs.into_keys().collect(),
            digest,
        };
        self.commit(&partial, &staged)?;
        Ok(Release {
            directory: self.unpacked(&staged.digest),
            digest: staged.digest,
            manifest,
        })
    }

    /// Stages the blobs of the archive. Every one must hash to its name.
    fn receive(&self, partial: &Partial, from: impl Read) -> Result<Found, ImportError> {
        let mut found = Found {
            layout: vec![],
            index: vec![],
            blobs: BTreeMap::new(),
        };
        let from = Bounded::new(from, limits::ARCHIVE_BYTES);
        archive::each(from, MAX_ENTRIES, |entry, bytes| {
            let document = match entry.path.as_str() {
                "" | "." | "blobs" | "blobs/sha256" if entry.folder => return Ok(()),
                "oci-layout" if !entry.folder => &mut found.layout,
                "index.json" if !entry.folder => &mut found.index,
                path => {
                    let hex = path.strip_prefix("blobs/sha256/").unwrap_or_default();
                    if entry.folder || !is_hex64(hex) {
                        return Err(refused(path, "an archive of one image has no such entry"));
                    }
                    return self.receive_blob(partial, hex, entry, bytes, &mut found.blobs);
                }
            };
            if !document.is_empty() {
                return Err(refused(&entry.path, "it is there twice"));
            }
            if entry.size > limits::DOCUMENT_BYTES {
                return Err(refused(&entry.path, "it is too large"));
            }
            bytes.read_to_end(document).map_err(ArchiveError::Read)?;
            if document.len() as u64 != entry.size {
                return Err(ArchiveError::Read(io::ErrorKind::UnexpectedEof.into()).into());
            }
            Ok(())
        })?;
        Ok(found)
    }

    fn receive_blob(
        &self,
        partial: &Partial,
        hex: &str,
        entry: &Entry,
        bytes: &mut dyn Read,
        blobs: &mut BTreeMap<String, u64>,
    ) -> Result<(), ImportError> {
        if blobs.len() == MAX_BLOBS {
            return Err(refused(&entry.path, "an image has fewer blobs"));
        }
        if blobs.insert(hex.to_owned(), entry.size).is_some() {
            return Err(refused(&entry.path, "it is there twice"));
        }
        let copied = files::write_new(&partial.blobs().join(hex), bytes, true).map_err(copy_error)?;
        self.step(Step::LayerWritten);
        if copied.size != entry.size {
            return Err(ArchiveError::Read(io::ErrorKind::UnexpectedEof.into()).into());
        }
        if copied.sha256 != hex {
            return Err(refused(&entry.path, "its content does not have this digest"));
        }
        Ok(())
    }

    /// Reads the description, then unpacks exactly what it names. The blobs are what their names say.
    pub(crate) fn unpack(
        &self,
        partial: &Partial,
        blobs: &Path,
        image: &ImageManifest,
        diff_ids: &[String],
    ) -> Result<ReleaseManifest, ImportError> {
        let mut layers = image.layers().iter().zip(diff_ids);
        let Some((last, diff_id)) = layers.next_back() else {
            return Err(refused("manifest", "it has no layer"));
        };
        let json = layer::read_release_json(open_blob(blobs, last)?, diff_id)?;
        let manifest = verify::parse(&json).map_err(|error| match error {
            Some(error) => error.into(),
            None => refused(RELEASE_JSON, "it is not the description of a release"),
        })?;
        let mut tree = Tree::new(partial.tree())?;
        let mut seen = BTreeSet::new();
        for (descriptor, diff_id) in layers {
            let blob = open_blob(blobs, descriptor)?;
            layer::read_files::<ImportError>(blob, diff_id, &manifest, &mut seen, |path, entry, bytes| {
                let copied = tree.write(path, bytes).map_err(copy_error)?;
                self.step(Step::FileWritten);
                if copied.size != entry.size || copied.sha256 != entry.sha256 {
                    return Err(refused(path, "release.json says another hash"));
                }
                Ok(())
            })?;
        }
        if let Some(path) = manifest.files.keys().find(|path| !seen.contains(*path)) {
            return Err(refused(path, "release.json names it, and no layer holds it"));
        }
        tree.write(RELEASE_JSON, &mut json.as_slice())
            .map_err(copy_error)?;
        tree.finish()?;
        Ok(manifest)
    }
}

/// Layout, index and manifest: one image, and no blob that it does not need.
fn check_documents(partial: &Partial, found: &Found) -> Result<(String, ImageManifest), ImportError> {
    let layout: OciLayout = serde_json::from_slice(&found.layout)
        .map_err(|_| refused("oci-layout", "it is missing, or not the mark of an image layout"))?;
    let known: Option<OciLayout> = serde_json::from_slice(LAYOUT).ok();
    if Some(layout) != known {
        return Err(refused("oci-layout", "it is of another version"));
    }
    let index: ImageIndex = serde_json::from_slice(&found.index)
        .map_err(|_| refused("index.json", "it is missing, or not the index of an image layout"))?;
    let [entry] = index.manifests().as_slice() else {
        return Err(refused("index.json", "it does not name exactly one image"));
    };
    if index.schema_version() != 2 || *entry.media_type() != MediaType::ImageManifest {
        return Err(refused("index.json", "what it names is not an image"));
    }
    let mut needed: BTreeSet<&str> = BTreeSet::new();
    let name = check_descriptor(entry, found)?;
    needed.insert(name);
    let bytes = staged_document(partial, entry)?;
    let image = image::parse_manifest(&bytes).map_err(|reason| refused(entry.digest().as_ref(), reason))?;
    for descriptor in image.layers().iter().chain([image.config()]) {
        needed.insert(check_descriptor(descriptor, found)?);
    }
    if needed.len() != image.layers().len() + 2 {
        return Err(refused(entry.digest().as_ref(), "it names one blob twice"));
    }
    if let Some(hex) = found.blobs.keys().find(|hex| !needed.contains(hex.as_str())) {
        return Err(refused(hex, "no document names this blob"));
    }
    Ok((format!("sha256:{name}"), image))
}

/// The blob of a descriptor is there, and as long as the descriptor says; its digest was checked as it came.
fn check_descriptor<'d>(descriptor: &'d Descriptor, found: &Found) -> Result<&'d str, ImportError> {
    let name = descriptor.digest().as_ref();
    let hex = image::hex_of(descriptor).map_err(|reason| refused(name, reason))?;
    match found.blobs.get(hex) {
        None => Err(refused(name, "the archive does not hold this blob")),
        Some(size) if *size != descriptor.size() => Err(refused(name, "its size is not what is said of it")),
        Some(_) => Ok(hex),
    }
}

fn staged_document(partial: &Partial, descriptor: &Descriptor) -> Result<Vec<u8>, ImportError> {
    let name = descriptor.digest().as_ref();
    let hex = image::hex_of(descriptor).map_err(|reason| refused(name, reason))?;
    if descriptor.size() > limits::DOCUMENT_BYTES {
        return Err(refused(name, "it is too large"));
    }
    let path = partial.blobs().join(hex);
    let bytes = files::read_bounded(&path, limits::DOCUMENT_BYTES).map_err(at("read", &path))?;
    debug_assert_eq!(sha256(&bytes), hex);
    Ok(bytes)
}

fn open_blob(blobs: &Path, descriptor: &Descriptor) -> Result<std::fs::File, ImportError> {
    let hex = image::hex_of(descriptor).map_err(|reason| refused(descriptor.digest().as_ref(), reason))?;
    let path = blobs.join(hex);
    Ok(files::open_regular(&path).map_err(at("open", &path))?)
}

fn refused(name: &str, reason: &'static str) -> ImportError {
    ImportError::Refused {
        name: shown(name),
        reason,
    }
}

fn copy_error(error: CopyError) -> ImportError {
    match error {
        CopyError::Read(error) => ArchiveError::Read(error).into(),
        CopyError::Write(error) => error.into(),
    }
}
