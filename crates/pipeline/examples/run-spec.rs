//! Runs a spec from a file, for the tests that kill the runner.

use astraler_pipeline::{NoDeploys, RunSpec, run};
use std::sync::Arc;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::args_os().nth(1).ok_or("which file?")?;
    let spec: RunSpec = serde_json::from_slice(&std::fs::read(file)?)?;
    let (sender, mut events) = tokio::sync::mpsc::channel(64);
    let running = tokio::spawn(run(
        spec,
        Arc::new(NoDeploys),
        sender,
        tokio_util::sync::CancellationToken::new(),
    ));
    while events.recv().await.is_some() {}
    running.await??;
    Ok(())
}
