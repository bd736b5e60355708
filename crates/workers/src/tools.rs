//! The pinned npm tools: workerd, esbuild, pnpm, and a Node.js where the system's is too old.

use astraler_host::lock::FileLock;
use sha2::{Digest, Sha256};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

const FILES: [(&str, &str); 3] = [
    ("package.json", include_str!("../../../tools/package.json")),
    (
        "package-lock.json",
        include_str!("../../../tools/package-lock.json"),
    ),
    ("bundle.mjs", include_str!("../../../tools/bundle.mjs")),
];

const NODE_FILES: [(&str, &str); 2] = [
    ("package.json", include_str!("../../../tools/node/package.json")),
    (
        "package-lock.json",
        include_str!("../../../tools/node/package-lock.json"),
    ),
];

/// The oldest Node.js that the tools run on.
pub const MIN_NODE: (u32, u32) = (20, 0);

const INSTALL_TIMEOUT: Duration = Duration::from_secs(600);

/// Where the tools live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolsConfig {
    /// A folder for them, which other users can enter: workerd runs as one.
    pub directory: PathBuf,
}

/// The tools, found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tools {
    /// Node.js.
    pub node: PathBuf,
    /// workerd's program.
    pub workerd: PathBuf,
    /// pnpm's script, run with node.
    pub pnpm: PathBuf,
    /// Our bundling script, run with node.
    pub bundle_script: PathBuf,
}

impl Tools {
    /// [`ToolsConfig::directory`], in which they were found.
    pub fn directory(&self) -> Option<&Path> {
        self.bundle_script.parent()?.parent()
    }
}

/// The tools cannot be installed.
#[derive(Debug, thiserror::Error)]
pub enum ToolsError {
    /// npm is not there.
    #[error(
        "npm is not installed: it brings workerd and esbuild; `astraler doctor` shows the command that installs it"
    )]
    NoNpm(#[source] io::Error),
    /// npm failed.
    #[error("npm could not install the pinned tools (is the registry reachable?):\n{output}")]
    Npm {
        /// The end of what it said.
        output: String,
    },
    /// npm took too long.
    #[error("npm did not end within {} minutes", INSTALL_TIMEOUT.as_secs() / 60)]
    Timeout,
    /// What was installed is not whole: another processor, perhaps.
    #[error(
        "the tools are installed in {directory}, but {missing} is not there: this platform needs Linux on x86-64 or arm64"
    )]
    Incomplete {
        /// The folder.
        directory: PathBuf,
        /// What is missing.
        missing: &'static str,
    },
    /// A file or folder.
    #[error("cannot write {path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The lock.
    #[error("the tools' folder cannot be locked")]
    Lock(#[from] astraler_host::lock::LockError),
    /// A durable write.
    #[error("cannot write the tools' folder")]
    File(#[from] astraler_host::file::FileError),
}

/// The tools, if they are installed. Looks only.
pub fn find(config: &ToolsConfig) -> Option<Tools> {
    let folder = folder(config, &FILES);
    let node = match system_node(MIN_NODE) {
        Some(node) => node,
        None => platform_package(&self::folder(config, &NODE_FILES), "node-linux-", "bin/node")?,
    };
    complete(&folder, node).ok()
}

/// workerd's version, as its package says.
pub fn workerd_version(tools: &Tools) -> Option<String> {
    let package = tools.workerd.parent()?.parent()?.join("package.json");
    let package: serde_json::Value = serde_json::from_slice(&std::fs::read(package).ok()?).ok()?;
    package["version"].as_str().map(str::to_owned)
}

/// Installs the tools where they are missing: into a temporary folder first, so that a kill leaves nothing
/// half-installed under the final name.
pub async fn ensure(config: &ToolsConfig) -> Result<Tools, ToolsError> {
    if let Some(tools) = find(config) {
        return Ok(tools);
    }
    let node = node_for(config, MIN_NODE).await?;
    let folder = install(config, &FILES).await?;
    complete(&folder, node).map_err(|missing| ToolsError::Incomplete {
        directory: folder.clone(),
        missing,
    })
}

/// A Node.js of at least this version: the system's, or the pinned one.
pub async fn node_for(config: &ToolsConfig, min: (u32, u32)) -> Result<PathBuf, ToolsError> {
    if let Some(node) = system_node(min) {
        return Ok(node);
    }
    let folder = install(config, &NODE_FILES).await?;
    platform_package(&folder, "node-linux-", "bin/node").ok_or(ToolsError::Incomplete {
        directory: folder,
        missing: "node",
    })
}

fn complete(folder: &Path, node: PathBuf) -> Result<Tools, &'static str> {
    let modules = folder.join("node_modules");
    let file = |path: PathBuf, name| if path.is_file() { Ok(path) } else { Err(name) };
    Ok(Tools {
        node,
        workerd: platform_package(
            &folder.join("node_modules/@cloudflare"),
            "workerd-linux-",
            "bin/workerd",
        )
        .ok_or("workerd")?,
        pnpm: file(modules.join("pnpm/bin/pnpm.cjs"), "pnpm")?,
        bundle_script: file(folder.join("bundle.mjs"), "bundle.mjs")?,
    })
}

/// A file in the package of this platform: `folder/[node_modules/]<prefix><cpu>/<path>`.
fn platform_package(folder: &Path, prefix: &str, path: &str) -> Option<PathBuf> {
    let cpus: &[&str] = if cfg!(target_arch = "aarch64") {
        &["arm64"]
    } else {
        &["x64", "64"]
    };
    cpus.iter()
        .flat_map(|cpu| {
            let package = format!("{prefix}{cpu}");
            [
                folder.join(&package).join(path),
                folder.join("node_modules").join(&package).join(path),
            ]
        })
        .find(|candidate| candidate.is_file())
}

fn folder(config: &ToolsConfig, files: &[(&str, &str)]) -> PathBuf {
    let mut hash = Sha256::new();
    for (name, contents) in files {
        hash.update(name.as_bytes());
        hash.update([0]);
        hash.update(contents.as_bytes());
    }
    config.directory.join(&hex::encode(hash.finalize())[..12])
}

async fn install(config: &ToolsConfig, files: &[(&str, &str)]) -> Result<PathBuf, ToolsError> {
    let target = folder(config, files);
    if target.is_dir() {
        return Ok(target);
    }
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| ToolsError::Io { path, source }
    };
    astraler_host::file::make_dir(&config.directory, 0o755, None, None)?;
    // One install at a time: another process may do the same now.
    let lock = config.directory.join("install.lock");
    let waiting = tokio::task::spawn_blocking(move || FileLock::wait(lock, "installing the npm tools"));
    let _lock = waiting.await.map_err(|_| ToolsError::Timeout)??;
    if target.is_dir() {
        return Ok(target);
    }
    let partial = config.directory.join(".partial");
    if partial.exists() {
        fs::remove_dir_all(&partial).map_err(at(&partial))?;
    }
    astraler_host::file::make_dir(&partial, 0o755, None, None)?;
    for (name, contents) in files {
        astraler_host::file::replace(partial.join(name), contents.as_bytes(), 0o644)?;
    }
    // The binaries come inside platform packages: no install script needs to run.
    let npm = tokio::process::Command::new("npm")
        .args([
            "ci",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--loglevel=error",
        ])
        .current_dir(&partial)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(INSTALL_TIMEOUT, npm)
        .await
        .map_err(|_| ToolsError::Timeout)?
        .map_err(ToolsError::NoNpm)?;
    if !output.status.success() {
        fs::remove_dir_all(&partial).ok();
        let text = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = text.lines().collect();
        return Err(ToolsError::Npm {
            output: lines[lines.len().saturating_sub(10)..].join("\n"),
        });
    }
    fs::rename(&partial, &target).map_err(at(&target))?;
    Ok(target)
}

fn system_node(min: (u32, u32)) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let node = std::env::split_paths(&path)
        .map(|folder| folder.join("node"))
        .find(|node| node.is_file())?;
    let output = std::process::Command::new(&node)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut numbers = text
        .trim()
        .trim_start_matches('v')
        .split('.')
        .map(str::parse::<u32>);
    let version = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    (version >= min).then_some(node)
}
