//! `release.json`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a release holds. Canonical form: this struct as compact JSON; maps are sorted by key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseManifest {
    /// 1.
    pub format_version: u32,
    /// The application's name.
    pub application: String,
    /// Every file but `release.json`, by path with `/`.
    pub files: BTreeMap<String, FileEntry>,
    /// Its workers.
    pub workers: BTreeMap<String, WorkerEntry>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// SHA-256 in hex.
    pub sha256: String,
    /// Size in bytes.
    pub size: u64,
}

/// One worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerEntry {
    /// Its modules in order, the entry first, each with what the builder says of it (for the runner alone).
    pub modules: Vec<serde_json::Value>,
    /// Compatibility date, `YYYY-MM-DD`.
    pub compatibility_date: String,
    /// Compatibility flags.
    pub compatibility_flags: Vec<String>,
}

impl ReleaseManifest {
    /// The bytes over which the digest is taken.
    pub fn canonical(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Whether there are static assets.
    pub fn has_assets(&self) -> bool {
        self.has("assets/")
    }

    /// Whether there are migrations.
    pub fn has_migrations(&self) -> bool {
        self.has("migrations/")
    }

    fn has(&self, prefix: &str) -> bool {
        self.files
            .range(prefix.to_owned()..)
            .next()
            .is_some_and(|(path, _)| path.starts_with(prefix))
    }
}
