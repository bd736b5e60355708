//! The programs that a run uses, and the registries that the owner uses.

use crate::installation::Layout;
use astraler_pipeline::{Machine, Tools};
use astraler_workers as workers;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The pinned tools, as a run takes them. `program` is a copy of this program that the runner's user can execute.
pub fn runner_tools(found: &workers::tools::Tools, program: &Path) -> Tools {
    let version = |file: PathBuf| {
        let text = std::fs::read_to_string(file).ok()?;
        let json: serde_json::Value = serde_json::from_str(&text).ok()?;
        Some(json["version"].as_str()?.to_owned())
    };
    let pnpm = found.pnpm.parent().and_then(Path::parent).map(Path::to_owned);
    let node = Command::new(&found.node)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .ok()
        .map(|output| {
            String::from_utf8_lossy(&output.stdout)
                .trim()
                .trim_start_matches('v')
                .to_owned()
        });
    Tools {
        helper: vec![program.display().to_string(), "sandbox-init".into()],
        bwrap: astraler_host::isolation::probe()
            .bwrap
            .unwrap_or_else(|| "/usr/bin/bwrap".into()),
        node: node.map(|version| (found.node.clone(), version)),
        pnpm: pnpm.and_then(|folder| Some((folder.clone(), version(folder.join("package.json"))?))),
        // What `astraler deploy` bundles and builds with.
        deploy: found
            .directory()
            .map(|folder| ("ASTRALER_TOOLS".to_owned(), folder.to_owned()))
            .into_iter()
            .collect(),
        program: Some(program.to_owned()),
    }
}

/// What `up` found in its owner's environment; where it could not be read, what this process finds.
pub(super) fn machine(layout: &Layout) -> Machine {
    let kept = std::fs::read(layout.machine()).ok();
    kept.and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_else(Machine::probe)
}
