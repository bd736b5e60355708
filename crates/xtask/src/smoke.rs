//! `cargo xtask smoke`: what a new user does, on the built binary and in folders of its own: up, a page, a
//! request that passes every layer, up again, down; then nothing may be left.

use crate::platform::Platform;
use crate::{Failure, cargo, run as run_command};
use std::path::Path;
use std::time::Instant;

pub(crate) fn run(root: &Path) -> Result<(), Failure> {
    // With the same features as `cargo test --workspace`, so that after the tests nothing is built again.
    let build = ["build", "--locked", "--workspace", "--bins", "--tests"];
    run_command(cargo().current_dir(root).args(build))?;
    let platform = Platform::new(root, "debug")?;
    let result = play(&platform);
    // Whatever happened, nothing of it may go on running; a second `down` is harmless.
    let ended = platform
        .astraler(&["down"])
        .and_then(|()| platform.nothing_left());
    result.and(ended)
}

fn play(platform: &Platform) -> Result<(), Failure> {
    let port = platform.port.to_string();
    let start = Instant::now();
    platform.astraler(&["up", "--port", &port])?;
    println!("up after {:.1} s", start.elapsed().as_secs_f64());
    let page = platform.get("/")?;
    expect(
        "GET / is a page",
        page.starts_with("HTTP/1.1 200") && page.contains("<html"),
        &page,
    )?;
    let health = platform.get("/api/health")?;
    expect(
        "GET /api/health is 200",
        health.starts_with("HTTP/1.1 200"),
        &health,
    )?;
    let before = platform.processes()?;
    let start = Instant::now();
    platform.astraler(&["up", "--port", &port])?;
    println!("up again after {:.1} s", start.elapsed().as_secs_f64());
    let after = platform.processes()?;
    expect(
        "a second up starts and ends no process",
        before == after,
        &format!("{before:?}\n{after:?}"),
    )?;
    platform.astraler(&["status"])?;
    let start = Instant::now();
    platform.astraler(&["down"])?;
    println!("down after {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}

fn expect(what: &str, holds: bool, seen: &str) -> Result<(), Failure> {
    let shown: String = seen.chars().take(2_000).collect();
    if holds {
        Ok(())
    } else {
        Err(format!("smoke: expected that {what}, but saw:\n{shown}"))
    }
}
