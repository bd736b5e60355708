//! Export: one image as a tar of an OCI image layout, the same bytes each time.

use crate::image::{self, LAYOUT};
use crate::store::Releases;
use crate::{OpenError, files, limits};
use oci_spec::OciSpecError;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use tar::{EntryType, Header};

/// A release cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Its documents are not in order.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A blob is not what its digest says. What was written so far is of no use.
    #[error("release {digest} is damaged: blob {path} has been changed")]
    Changed {
        /// Which release.
        digest: String,
        /// The blob's file.
        path: PathBuf,
    },
    /// A blob cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The blob's file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The tar cannot be written.
    #[error("the archive cannot be written")]
    Write(#[source] io::Error),
    /// A document cannot be put together.
    #[error("the index of the archive cannot be written")]
    Image(#[from] OciSpecError),
}

impl Releases {
    /// Writes a release as a tar of an OCI image layout with this one image: what [`Releases::import`] reads, and
    /// skopeo and podman as `oci-archive:`. Its keys stay here.
    pub fn export(&self, digest: &str, to: impl Write) -> Result<(), ExportError> {
        let documents = self.documents(digest)?;
        let hex = digest.trim_start_matches("sha256:");
        let manifest = self
            .read_blob(hex, limits::DOCUMENT_BYTES)
            .map_err(|source| ExportError::Read {
                path: self.blob(hex),
                source,
            })?;
        let application = documents
            .image
            .annotations()
            .as_ref()
            .and_then(|annotations| annotations.get(oci_spec::image::ANNOTATION_TITLE));
        let application = application.map_or("", String::as_str);
        let entry = image::index_entry(application, hex, manifest.len() as u64)?;
        let index = image::canonical(&image::index(vec![entry]));
        let mut blobs: BTreeMap<&str, u64> = [(hex, manifest.len() as u64)].into();
        for descriptor in documents.image.layers().iter().chain([documents.image.config()]) {
            blobs.insert(image::hex_of(descriptor).unwrap_or_default(), descriptor.size());
        }
        let mut tar = tar::Builder::new(to);
        append(&mut tar, "oci-layout", LAYOUT.len() as u64, LAYOUT)?;
        append(&mut tar, "index.json", index.len() as u64, index.as_slice())?;
        for (hex, size) in blobs {
            let path = self.blob(hex);
            let failed = |source| ExportError::Read {
                path: path.clone(),
                source,
            };
            let changed = || ExportError::Changed {
                digest: digest.to_owned(),
                path: path.clone(),
            };
            let mut file = files::open_regular(&path).map_err(failed)?;
            if file.metadata().map_err(failed)?.len() != size {
                return Err(changed());
            }
            // Before it is written: an archive with a changed blob is never whole.
            if files::hash_of(&mut file).map_err(failed)?.sha256 != hex {
                return Err(changed());
            }
            let file = files::open_regular(&path).map_err(failed)?;
            append(&mut tar, &format!("blobs/sha256/{hex}"), size, file.take(size))?;
        }
        tar.into_inner()
            .map_err(ExportError::Write)?
            .flush()
            .map_err(ExportError::Write)
    }
}

fn append(
    tar: &mut tar::Builder<impl Write>,
    name: &str,
    size: u64,
    content: impl Read,
) -> Result<(), ExportError> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    tar.append_data(&mut header, name, content)
        .map_err(ExportError::Write)
}
