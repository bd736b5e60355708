//! `cargo xtask ci`: every step in order, the cheap ones first, stopping at the first that fails, and a table
//! of the seconds that each took.

use crate::{Failure, cargo, deny, run as run_command, smoke, tidy};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

type Step = fn(root: &Path) -> Result<(), Failure>;

/// For each target: enough to see that it builds, runs, and finds nothing at once.
const FUZZ_SECONDS: &str = "5";

/// Clippy, docs and tests share the dev profile, so that each dependency is checked once and built once.
const STEPS: &[(&str, Step)] = &[
    ("fmt", |root| {
        run_command(cargo().current_dir(root).args(["fmt", "--all", "--check"]))
    }),
    ("tidy", tidy::run),
    ("scripts", scripts),
    ("deny", deny::run),
    ("clippy", |root| {
        let clippy = [
            "clippy",
            "--locked",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ];
        run_command(cargo().current_dir(root).args(clippy))
    }),
    ("docs", |root| {
        let doc = [
            "doc",
            "--locked",
            "--workspace",
            "--no-deps",
            "--document-private-items",
        ];
        run_command(
            cargo()
                .current_dir(root)
                .env("RUSTDOCFLAGS", "-D warnings")
                .args(doc),
        )
    }),
    ("test", |root| {
        run_command(
            cargo()
                .current_dir(root)
                .args(["test", "--locked", "--workspace", "--no-fail-fast"]),
        )
    }),
    ("fuzz", |root| {
        run_command(
            Command::new("scripts/fuzz.sh")
                .current_dir(root)
                .arg(FUZZ_SECONDS),
        )
    }),
    ("smoke", smoke::run),
];

pub(crate) fn run(root: &Path, words: &[&str]) -> Result<(), Failure> {
    let names: Vec<&str> = STEPS.iter().map(|(name, _)| *name).collect();
    let first = match words {
        [] => 0,
        ["--from", step] => names
            .iter()
            .position(|name| name == step)
            .ok_or_else(|| format!("there is no step `{step}`: expected one of {}", names.join(", ")))?,
        _ => {
            return Err(format!(
                "Usage: cargo xtask ci [--from STEP], STEP one of {}",
                names.join(", ")
            ));
        }
    };
    let mut table = Vec::new();
    let mut result = Ok(());
    for (name, step) in &STEPS[first..] {
        println!("\n── {name}");
        let start = Instant::now();
        result = step(root);
        let word = if result.is_ok() { "ok" } else { "failed" };
        table.push(format!(
            "{name:<8} {:>7.1} s  {word}",
            start.elapsed().as_secs_f64()
        ));
        if result.is_err() {
            break;
        }
    }
    println!("\n{}", table.join("\n"));
    result
}

/// Shell scripts parse; where shellcheck is installed they are checked with it.
fn scripts(root: &Path) -> Result<(), Failure> {
    let mut scripts = tidy::tracked(root)?;
    scripts.retain(|path| path == Path::new(".ci/run") || path.extension().is_some_and(|e| e == "sh"));
    for script in &scripts {
        run_command(Command::new("bash").current_dir(root).arg("-n").arg(script))?;
    }
    let found = Command::new("shellcheck")
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success());
    if found {
        return run_command(Command::new("shellcheck").current_dir(root).args(&scripts));
    }
    println!(
        "{} scripts parse; shellcheck is not installed, so they were not checked further",
        scripts.len()
    );
    Ok(())
}
