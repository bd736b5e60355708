//! Bundling: every worker of an application in one run of esbuild.

use crate::tools::Tools;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

const TIMEOUT: Duration = Duration::from_secs(120);

/// One worker's sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleInput {
    /// Name.
    pub name: String,
    /// Absolute path of the entry.
    pub main: PathBuf,
    /// Its folder: names in errors and in the bundle are relative to it.
    pub directory: PathBuf,
    /// Compatibility flags: `nodejs_compat` makes `require` of Node's modules work.
    pub compatibility_flags: Vec<String>,
    /// Folder for the bundle.
    pub out: PathBuf,
}

/// One worker's bundle.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Bundled {
    /// Name.
    pub name: String,
    /// Modules, the entry first.
    pub modules: Vec<Module>,
}

/// One module of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    /// Name by which it is imported.
    pub name: String,
    /// What it is.
    pub kind: ModuleKind,
    /// Its file, relative to the bundle's folder; whoever moves the bundle rewrites it.
    #[serde(alias = "file")]
    pub path: PathBuf,
}

/// workerd's kinds of module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModuleKind {
    /// ECMAScript module.
    EsModule,
    /// Text.
    Text,
    /// Bytes.
    Data,
    /// WebAssembly.
    Wasm,
}

/// The workers cannot be bundled.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The sources have errors.
    #[error("{}", list(errors))]
    Sources {
        /// Each with its place.
        errors: Vec<SourceError>,
    },
    /// The bundler did not run.
    #[error("the bundler cannot be run")]
    Run(#[source] io::Error),
    /// The bundler took too long.
    #[error("the bundler did not end within {} s", TIMEOUT.as_secs())]
    Timeout,
    /// The bundler failed by itself.
    #[error("the bundler failed: {0}")]
    Failed(String),
}

/// One error in a source file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SourceError {
    /// The worker.
    pub worker: String,
    /// File, relative to the worker's folder.
    pub file: Option<String>,
    /// Line, from 1.
    pub line: Option<u64>,
    /// Column in bytes, from 0.
    pub column: Option<u64>,
    /// What is wrong.
    pub text: String,
}

fn list(errors: &[SourceError]) -> String {
    let line = |error: &SourceError| match (&error.file, error.line, error.column) {
        (Some(file), Some(line), Some(column)) => {
            format!(
                "worker `{}`: {file}:{line}:{}: {}",
                error.worker,
                column + 1,
                error.text
            )
        }
        _ => format!("worker `{}`: {}", error.worker, error.text),
    };
    errors.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Errors { errors: Vec<SourceError> },
    Workers { workers: Vec<Bundled> },
}

/// Bundles the workers; each bundle lies in its `out` folder.
pub async fn bundle(tools: &Tools, inputs: &[BundleInput]) -> Result<Vec<Bundled>, BundleError> {
    if inputs.is_empty() {
        return Ok(vec![]);
    }
    let workers: Vec<serde_json::Value> = inputs
        .iter()
        .map(|input| {
            serde_json::json!({
                "name": input.name,
                "main": input.main,
                "directory": input.directory,
                "node_compat": input.compatibility_flags.iter().any(|flag| flag == "nodejs_compat"),
                "out": input.out,
            })
        })
        .collect();
    let request = serde_json::json!({ "workers": workers }).to_string();
    let run = async {
        let mut child = tokio::process::Command::new(&tools.node)
            .arg(&tools.bundle_script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(request.as_bytes()).await?;
        }
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(TIMEOUT, run)
        .await
        .map_err(|_| BundleError::Timeout)?
        .map_err(BundleError::Run)?;
    match serde_json::from_slice(&output.stdout) {
        Ok(Answer::Workers { workers }) => Ok(workers),
        Ok(Answer::Errors { errors }) => Err(BundleError::Sources { errors }),
        Err(_) => Err(BundleError::Failed(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        )),
    }
}
