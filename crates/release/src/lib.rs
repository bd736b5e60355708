//! A release: everything that a deployment runs, as one OCI image, named by the digest of its manifest.
//!
//! For: whoever builds one (the command line, the pipeline) and whoever keeps and runs them (the control plane).
//! It knows files, hashes and the image format; it does *not* know environments, secrets, or how a worker is run.
//!
//! [`Releases`] is a folder with an [OCI image layout](https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md),
//! which any tool of the field reads, and beside it one unpacked folder for each release, which the edge and the
//! workers read:
//!
//! ```text
//! oci-layout  index.json  blobs/sha256/…     the images
//! sha256-<hex>/release.json                  what the release holds: [`ReleaseManifest`]
//! sha256-<hex>/workers|assets|migrations/…   its files
//! ```
//!
//! The same input gives the same bytes, whenever and wherever it is built.

mod archive;
mod build;
mod describe;
mod export;
mod files;
mod image;
mod import;
mod key;
mod layer;
mod manifest;
mod restore;
mod store;
mod verify;

pub use archive::ArchiveError;
pub use build::{BuildError, Input};
pub use describe::{Description, LayerDescription};
pub use export::ExportError;
pub use import::ImportError;
pub use key::{Key, KeyInput, ParseKeyError};
pub use manifest::{FileEntry, ManifestError, ReleaseManifest, WorkerEntry};
pub use restore::RestoreError;
pub use store::{Options, Releases, ResolveError, Step, StepHook, StoreError, Stored};
pub use verify::{Damage, OpenError, VerifyError};

use std::path::PathBuf;

/// A release on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// `sha256:` and 64 hex digits: the digest of the image's manifest.
    pub digest: String,
    /// Its unpacked folder.
    pub directory: PathBuf,
    /// What it holds.
    pub manifest: ReleaseManifest,
}

/// What holds for every release. Whatever is built within these bounds can be imported again.
pub mod limits {
    /// Releases that one folder keeps.
    pub const RELEASES: usize = 4_096;
    /// Files of one release.
    pub const FILES: usize = 100_000;
    /// Bytes of all files of one release.
    pub const UNPACKED_BYTES: u64 = 4 << 30;
    /// Bytes of one image, as it is transferred.
    pub const ARCHIVE_BYTES: u64 = 4 << 30;
    /// Layers of one image.
    pub const LAYERS: usize = 8;
    /// Bytes of `release.json`.
    pub const RELEASE_JSON_BYTES: u64 = 32 << 20;
    /// Bytes of every other document: index, manifest, configuration of the image.
    pub const DOCUMENT_BYTES: u64 = 4 << 20;
    /// Bytes of a file's path in a release.
    pub const PATH_BYTES: usize = 1_024;
    /// Folders above a file.
    pub const DEPTH: usize = 32;
    /// Keys that one release answers to; the oldest is forgotten.
    pub const KEYS: usize = 64;
}

/// Folder name of a digest: `sha256-…`, since a colon is awkward in paths. It is also the name of the image in
/// `index.json`: `oci:<releases>:sha256-…`.
pub fn directory_name(digest: &str) -> String {
    digest.replace(':', "-")
}

/// Whether a text is a digest as this crate writes them.
pub fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(is_hex64)
}

pub(crate) fn is_hex64(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
