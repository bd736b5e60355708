//! `cargo xtask bench NAME`: one module for each bench, one line in [`BENCHES`]. A bench prints one figure a
//! line and compares it with the goal in `docs/benchmarks.md`; it uses the release profile and loopback only.

mod deploy;
mod up;

use crate::Failure;
use std::path::Path;

type Bench = fn(root: &Path, arguments: &[&str]) -> Result<(), Failure>;

/// Name, what it measures, how.
const BENCHES: &[(&str, &str, Bench)] = &[
    (
        "up",
        "seconds from `astraler up` to the first answer of the API worker; memory when idle",
        up::run,
    ),
    (
        "deploy",
        "failed requests while deploying and rolling back; seconds of a rollback, and of a preview of 100 MB",
        deploy::run,
    ),
];

pub(crate) fn run(root: &Path, words: &[&str]) -> Result<(), Failure> {
    let known: Vec<String> = BENCHES
        .iter()
        .map(|(name, what, _)| format!("  {name:<12} {what}"))
        .collect();
    let Some((name, rest)) = words.split_first() else {
        return Err(format!("Usage: cargo xtask bench NAME\n{}", known.join("\n")));
    };
    match BENCHES.iter().find(|(known, ..)| known == name) {
        Some((_, _, bench)) => bench(root, rest),
        None => Err(format!(
            "there is no bench `{name}`; known:\n{}",
            known.join("\n")
        )),
    }
}
