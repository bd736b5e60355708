//! A release: an immutable folder named by its digest, holding everything that a deployment runs.
//!
//! For: whoever builds one (the command line, later the pipeline) and whoever runs one (the control plane).
//! It knows files and hashes; it does *not* know environments, secrets, or how a worker is run. Its contents are
//! kept fit for an OCI image layout: sorted, hashed, without times or owners.
//!
//! Layout: `release.json`, `workers/<name>/…`, `assets/…`, `migrations/…`.

mod build;
mod manifest;
mod verify;

pub use build::{BuildError, Input, build};
pub use manifest::{FileEntry, ReleaseManifest, WorkerEntry};
pub use verify::{OpenError, VerifyError, open, verify};

use std::path::PathBuf;

/// A release on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// `sha256:` and 64 hex digits, over the canonical `release.json`.
    pub digest: String,
    /// Its folder.
    pub directory: PathBuf,
    /// What it holds.
    pub manifest: ReleaseManifest,
}

/// Folder name of a digest: `sha256-…`, since a colon is awkward in paths.
pub fn directory_name(digest: &str) -> String {
    digest.replace(':', "-")
}
