//! `cargo xtask bench NAME`: one module for each bench, one line in [`BENCHES`]. A bench prints one figure a
//! line and compares it with the goal in `docs/benchmarks.md`; it uses the release profile and loopback only.

mod deploy;
mod dns;
mod edge;
mod logs;
mod push;
mod recover;
mod up;
mod waf;

use crate::platform::Platform;
use crate::{Failure, cargo, run as run_command};
use std::path::Path;
use std::time::Duration;

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
    (
        "edge",
        "requests per CPU second and slowest hundredth beside nginx; bytes of an idle connection, 5,000 requests/s from 10,000",
        edge::run,
    ),
    (
        "push",
        "seconds from `git push` of a one-line change to the change being served on development",
        push::run,
    ),
    (
        "recover",
        "seconds from `astraler recover database` to the starter's database being as it was before a table was dropped",
        recover::run,
    ),
    (
        "dns",
        "queries per second and CPU of one, plain and signed, with dnsperf on the same cores",
        dns::run,
    ),
    (
        "logs",
        "what storing 5,000 records a second takes, bytes of a record, seconds of a question to an hour of them",
        logs::run,
    ),
    (
        "waf",
        "CPU of a transaction through the firewall beside nginx with ModSecurity, with the same rules",
        waf::run,
    ),
];

pub(crate) use waf::example as waf_example;

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

/// Builds the program (`dev` among the arguments: in the dev profile), measures on a platform of the starter, and looks
/// that nothing of it is left.
pub(crate) fn on_a_platform(
    root: &Path,
    arguments: &[&str],
    measure: impl FnOnce(&Platform) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let platform = Platform::new(root, built(root, arguments)?)?;
    let measured = measure(&platform);
    let ended = platform
        .astraler(&["down"])
        .and_then(|()| platform.nothing_left());
    measured.and(ended)
}

/// Builds the program, in the dev profile where the arguments say `dev`; the folder below target/ in which it is.
fn built(root: &Path, arguments: &[&str]) -> Result<&'static str, Failure> {
    let profile = match arguments.contains(&"dev") {
        true => "debug",
        false => "release",
    };
    let mut build = cargo();
    build
        .current_dir(root)
        .args(["build", "--locked", "--package", "astraler"]);
    if profile == "release" {
        build.arg("--release");
    }
    run_command(&mut build)?;
    Ok(profile)
}

/// What else the machine does: figures of a busy one are upper bounds.
pub(crate) fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let minute = text.split_whitespace().next().unwrap_or("unknown");
    format!("load average before: {minute} on {cores} cores")
}

/// Median and worst of what was measured.
fn shown(samples: &mut [Duration]) -> String {
    samples.sort();
    let at = |index: usize| samples.get(index).map_or(0.0, Duration::as_secs_f64);
    format!(
        "{:.2} s median, {:.2} s worst of {}",
        at(samples.len() / 2),
        at(samples.len().saturating_sub(1)),
        samples.len()
    )
}
