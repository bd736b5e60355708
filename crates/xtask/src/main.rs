//! Development tasks, run as `cargo xtask NAME`: what CI runs, and what holds the repository's own rules.
//!
//! For: people who work on Astraler. It knows the workspace as files and commands; it links none of the other
//! crates, so that it builds in seconds. It does not know how the product works: the smoke run drives the built
//! binary as a user would.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for a terminal"
)]

mod bench;
mod ci;
mod deny;
mod git;
mod load;
mod platform;
mod scenario;
mod smoke;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// What a task says when it did not succeed: for a person, ending in what to do.
type Failure = String;

const USAGE: &str = "Usage: cargo xtask TASK

  ci [--from STEP]  every step of CI in order, with the seconds of each
  tidy              the repository's own rules: layers, docs, sizes, links
  deny              licences, bans and sources of dependencies; advisories where they can be reached
  smoke             the built binary: up, a request, up again, down, nothing left behind
  bench NAME        measure; the figures go to docs/benchmarks.md
  waf-verdicts      ask ModSecurity about the requests of the firewall's blocking suite, and write down what it says
  waf-compare       ask ModSecurity and the firewall's engine about requests made from each rule's own pattern;
                    `waf-compare injection [--count N] [--seed S]` about strings that libinjection is to judge
  scenario NAME     play a story against a running platform";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let root = root();
    let result = match words[..] {
        ["tidy"] => tidy::run(&root),
        ["ci", ref rest @ ..] => ci::run(&root, rest),
        ["deny"] => deny::run(&root),
        ["smoke"] => smoke::run(&root),
        ["bench", ref rest @ ..] => bench::run(&root, rest),
        ["waf-verdicts", ref rest @ ..] => bench::waf_example(&root, "verdicts", rest),
        ["waf-compare", "injection", ref rest @ ..] => bench::waf_example(&root, "injection", rest),
        ["waf-compare", ref rest @ ..] => bench::waf_example(&root, "compare", rest),
        ["scenario", ref rest @ ..] => scenario::run(&root, rest),
        _ => Err(USAGE.to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

/// The workspace's folder.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// Runs a command with its output on the terminal.
fn run(command: &mut Command) -> Result<(), Failure> {
    let shown = shown(command);
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{shown}` ended with {status}")),
        Err(error) => Err(format!("cannot run `{shown}`: {error}")),
    }
}

/// Runs a command and returns what it printed.
fn output(command: &mut Command) -> Result<String, Failure> {
    let shown = shown(command);
    let output = command
        .output()
        .map_err(|error| format!("cannot run `{shown}`: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!(
            "`{shown}` ended with {}:\n{}",
            output.status,
            said.trim_end()
        ));
    }
    String::from_utf8(output.stdout).map_err(|_| format!("`{shown}` printed no text"))
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// The cargo that runs us.
fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}
