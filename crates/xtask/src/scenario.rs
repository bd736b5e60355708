//! `cargo xtask scenario NAME`: stories played against a real platform, longer than a test may take. One module
//! for each, one line in [`SCENARIOS`].

mod day;
mod sink;

use crate::Failure;
use std::path::Path;

type Scenario = fn(root: &Path, arguments: &[&str]) -> Result<(), Failure>;

/// Name, what it plays, how.
const SCENARIOS: &[(&str, &str, Scenario)] = &[(
    "day",
    "a day in the life: from a feature branch to production, a bad release, a lost table, rotation, a drill",
    day::run,
)];

pub(crate) fn run(root: &Path, words: &[&str]) -> Result<(), Failure> {
    let known: Vec<String> = SCENARIOS
        .iter()
        .map(|(name, what, _)| format!("  {name:<12} {what}"))
        .collect();
    let Some((name, rest)) = words.split_first() else {
        return Err(format!("Usage: cargo xtask scenario NAME\n{}", known.join("\n")));
    };
    match SCENARIOS.iter().find(|(known, ..)| known == name) {
        Some((_, _, scenario)) => scenario(root, rest),
        None => Err(format!(
            "there is no scenario `{name}`; known:\n{}",
            known.join("\n")
        )),
    }
}
