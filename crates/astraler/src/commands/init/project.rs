//! What an existing application says of itself: its package manager and its scripts.

use std::path::Path;

/// Who installs the packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manager {
    Npm,
    /// Whether `package.json` says which version (`packageManager`).
    Pnpm {
        pinned: bool,
    },
    Yarn,
}

/// An application that `init` found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Project {
    /// `None` without a `package.json`.
    pub(super) manager: Option<Manager>,
    scripts: Vec<String>,
}

impl Project {
    /// Reads `package.json` and looks for lock files; an application without either is one too.
    pub(super) fn read(folder: &Path) -> Self {
        let package: serde_json::Value = std::fs::read(folder.join("package.json"))
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let said = package["packageManager"].as_str().unwrap_or_default();
        let has = |name: &str| folder.join(name).is_file();
        let manager = if said.starts_with("pnpm") || has("pnpm-lock.yaml") {
            let pinned = said.starts_with("pnpm");
            Some(Manager::Pnpm { pinned })
        } else if said.starts_with("yarn") || has("yarn.lock") {
            Some(Manager::Yarn)
        } else if has("package.json") {
            Some(Manager::Npm)
        } else {
            None
        };
        let scripts = package["scripts"].as_object().into_iter().flatten();
        Self {
            manager,
            scripts: scripts.map(|(name, _)| name.clone()).collect(),
        }
    }

    /// The first of these scripts that there is.
    pub(super) fn script(&self, names: &[&'static str]) -> Option<&'static str> {
        names
            .iter()
            .copied()
            .find(|name| self.scripts.iter().any(|script| script == name))
    }

    /// The command that runs a script.
    pub(super) fn run(&self, script: &str) -> String {
        match self.manager {
            Some(Manager::Pnpm { .. }) => format!("pnpm run {script}"),
            Some(Manager::Yarn) => format!("yarn run {script}"),
            _ => format!("npm run {script}"),
        }
    }
}
