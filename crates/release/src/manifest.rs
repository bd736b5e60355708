//! `release.json`.

use crate::{image, is_hex64, limits};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a release holds. Canonical form: compact JSON, every object sorted by key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseManifest {
    /// [`ReleaseManifest::FORMAT`].
    pub format_version: u32,
    /// The application's name.
    pub application: String,
    /// The validated manifest of the application, as the builder wrote it: what an environment needs beside files.
    pub configuration: serde_json::Value,
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
    /// Its modules in order, the entry first, each with what the builder says of it (for the runner alone), and its
    /// file as `path`, which is one of the release's.
    pub modules: Vec<serde_json::Value>,
    /// Compatibility date, `YYYY-MM-DD`.
    pub compatibility_date: String,
    /// Compatibility flags.
    pub compatibility_flags: Vec<String>,
}

/// A description of a release is not well formed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It was written by another version of this program.
    #[error("its format is version {found}, and this program reads version {FORMAT}", FORMAT = ReleaseManifest::FORMAT)]
    Format {
        /// What it says.
        found: u32,
    },
    /// A name that nothing should have.
    #[error("`{name}` cannot be the name of {what}")]
    Name {
        /// The name, escaped.
        name: String,
        /// Of what.
        what: &'static str,
    },
    /// A file that no release can hold.
    #[error("`{path}` cannot be a file of a release: {reason}")]
    Path {
        /// The path, escaped.
        path: String,
        /// Why.
        reason: &'static str,
    },
    /// A worker's module is none of the files.
    #[error("worker `{worker}` has a module whose file is not in the release")]
    Module {
        /// The worker.
        worker: String,
    },
    /// More than a release may hold.
    #[error("it holds more than {limit} {of}")]
    TooMuch {
        /// The bound.
        limit: u64,
        /// Of what.
        of: &'static str,
    },
}

/// Top folders of a release, in the order of their layers: what changes least comes first.
pub(crate) const FOLDERS: &[&str] = &["waf", "migrations", "assets", "workers"];

impl ReleaseManifest {
    /// The version that this program writes and reads.
    pub const FORMAT: u32 = 2;

    /// The bytes of `release.json`: equal manifests have equal bytes.
    pub fn canonical(&self) -> Vec<u8> {
        image::canonical(self)
    }

    /// Whether there are static assets.
    pub fn has_assets(&self) -> bool {
        self.has("assets/")
    }

    /// Whether there are migrations.
    pub fn has_migrations(&self) -> bool {
        self.has("migrations/")
    }

    /// Checks everything that a reader relies on: paths stay inside, modules are files of the release.
    pub fn check(&self) -> Result<(), ManifestError> {
        if self.format_version != Self::FORMAT {
            return Err(ManifestError::Format {
                found: self.format_version,
            });
        }
        check_name(&self.application, "an application")?;
        if self.files.len() > limits::FILES {
            return Err(ManifestError::TooMuch {
                limit: limits::FILES as u64,
                of: "files",
            });
        }
        let mut bytes = 0u64;
        for (path, entry) in &self.files {
            check_path(path)?;
            if !is_hex64(&entry.sha256) {
                return Err(refused(path, "its hash is not one"));
            }
            bytes = bytes.saturating_add(entry.size);
        }
        self.check_nesting()?;
        if bytes > limits::UNPACKED_BYTES {
            return Err(ManifestError::TooMuch {
                limit: limits::UNPACKED_BYTES,
                of: "bytes",
            });
        }
        for (name, worker) in &self.workers {
            check_name(name, "a worker")?;
            let folder = format!("workers/{name}/");
            let known = |module: &serde_json::Value| {
                let path = module.get("path").and_then(serde_json::Value::as_str);
                path.is_some_and(|path| path.starts_with(&folder) && self.files.contains_key(path))
            };
            if !worker.modules.iter().all(known) {
                return Err(ManifestError::Module { worker: name.clone() });
            }
        }
        Ok(())
    }

    /// No file is a folder of another: `a`, `a-b`, `a/b` do not sort next to each other.
    fn check_nesting(&self) -> Result<(), ManifestError> {
        for path in self.files.keys() {
            for (index, _) in path.match_indices('/') {
                if self.files.contains_key(&path[..index]) {
                    return Err(refused(&path[..index], "another file is below it"));
                }
            }
        }
        Ok(())
    }

    fn has(&self, prefix: &str) -> bool {
        self.files
            .range(prefix.to_owned()..)
            .next()
            .is_some_and(|(path, _)| path.starts_with(prefix))
    }
}

/// Relative, normal, in one of the release's folders.
pub(crate) fn check_path(path: &str) -> Result<(), ManifestError> {
    let reason = if path.len() > limits::PATH_BYTES {
        "its path is too long"
    } else if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        "its path is not relative and normal"
    } else if path.split('/').any(|part| part.len() > 255) {
        "a part of its path is too long"
    } else if path.split('/').count() > limits::DEPTH {
        "it is too deep"
    } else if path.chars().any(char::is_control) || path.contains('\\') {
        "its path has a control character or a backslash"
    } else if !FOLDERS.iter().any(|folder| {
        path.strip_prefix(folder)
            .is_some_and(|rest| rest.starts_with('/'))
    }) {
        "a release holds workers, assets, migrations and rules of a firewall"
    } else {
        return Ok(());
    };
    Err(refused(path, reason))
}

fn check_name(name: &str, what: &'static str) -> Result<(), ManifestError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if (1..=100).contains(&name.len()) && name.bytes().all(plain) {
        return Ok(());
    }
    Err(ManifestError::Name {
        name: shown(name),
        what,
    })
}

fn refused(path: &str, reason: &'static str) -> ManifestError {
    ManifestError::Path {
        path: shown(path),
        reason,
    }
}

/// A foreign text for an error message: escaped and short.
pub(crate) fn shown(text: &str) -> String {
    const SHOWN: usize = 120;
    let mut short: String = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn manifest(paths: &[&str]) -> ReleaseManifest {
        let entry = FileEntry {
            sha256: "0".repeat(64),
            size: 1,
        };
        ReleaseManifest {
            format_version: ReleaseManifest::FORMAT,
            application: "shop".into(),
            configuration: json!({}),
            files: paths
                .iter()
                .map(|path| ((*path).to_owned(), entry.clone()))
                .collect(),
            workers: BTreeMap::new(),
        }
    }

    #[test]
    fn the_order_of_keys_does_not_matter() {
        let mut one = manifest(&[]);
        one.configuration = json!({ "b": { "y": 1, "x": 2 }, "a": [] });
        let mut two = one.clone();
        two.configuration = json!({ "a": [], "b": { "x": 2, "y": 1 } });
        assert_eq!(one.canonical(), two.canonical());
    }

    #[test]
    fn paths_stay_inside() {
        let long = format!("assets/{}", "a".repeat(256));
        let deep = format!("assets/{}b", "a/".repeat(32));
        for bad in [
            "../x",
            "assets/../x",
            "/etc/passwd",
            "assets",
            "assets/",
            "assets//a",
            "assets/./a",
            "release.json",
            "other/a",
            "assetsx/a",
            "assets/a\nb",
            "assets/a\\b",
            "assets/\0",
            &long,
            &deep,
        ] {
            assert!(manifest(&[bad]).check().is_err(), "{bad:?}");
        }
        manifest(&["assets/a", "assets/a-b/c", "workers/api/index.js", "assets/ä ö"])
            .check()
            .unwrap();
    }

    #[test]
    fn a_file_is_no_folder_of_another() {
        for paths in [
            &["assets/a", "assets/a/b"][..],
            &["assets/a", "assets/a-b", "assets/a/b/c"],
        ] {
            let error = manifest(paths).check().unwrap_err();
            assert!(error.to_string().contains("`assets/a`"), "{error}");
        }
    }

    #[test]
    fn a_module_is_a_file_of_its_worker() {
        let with = |module: serde_json::Value| {
            let mut manifest = manifest(&["workers/api/index.js", "workers/web/index.js", "assets/a"]);
            let entry = WorkerEntry {
                modules: vec![module],
                compatibility_date: "2026-01-01".into(),
                compatibility_flags: vec![],
            };
            manifest.workers.insert("api".into(), entry);
            manifest.check()
        };
        with(json!({ "path": "workers/api/index.js" })).unwrap();
        for bad in [
            json!({ "path": "/etc/passwd" }),
            json!({ "path": "workers/api/../../../etc/passwd" }),
            json!({ "path": "workers/web/index.js" }),
            json!({ "path": "assets/a" }),
            json!({ "path": 1 }),
            json!("workers/api/index.js"),
        ] {
            assert!(with(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn hashes_sizes_and_versions_are_checked() {
        let mut bad = manifest(&["assets/a"]);
        bad.files.get_mut("assets/a").unwrap().sha256 = "0".into();
        assert!(bad.check().is_err());
        let mut bad = manifest(&["assets/a", "assets/b"]);
        bad.files
            .values_mut()
            .for_each(|entry| entry.size = u64::MAX / 2 + 1);
        assert!(matches!(bad.check(), Err(ManifestError::TooMuch { .. })));
        let mut bad = manifest(&[]);
        bad.format_version = 1;
        assert_eq!(bad.check(), Err(ManifestError::Format { found: 1 }));
        let mut bad = manifest(&[]);
        bad.application = "a/../b".into();
        assert!(bad.check().is_err());
    }
}
