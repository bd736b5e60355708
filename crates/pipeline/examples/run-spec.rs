//! Runs a spec from a file and says what happens, for the tests that kill the runner, or run it as another user.

use astraler_pipeline::{NoDeploys, RunSpec, run};
use std::io::Write;
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
    while let Some(event) = events.recv().await {
        writeln!(std::io::stdout(), "{}", serde_json::to_string(&event)?)?;
    }
    running.await??;
    Ok(())
}
