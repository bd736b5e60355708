//! `cargo xtask waf-verdicts`: asks ModSecurity 3, in nginx, about each request of the blocking suite and writes down what
//! it said: `verdicts CRS-FOLDER`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    missing_docs
)]

#[path = "../benches/waf/peer.rs"]
mod peer;
#[path = "../tests/blocking/read.rs"]
mod read;

use std::fmt::Write as _;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use peer::{Peer, With};
use read::Asked;

const HEAD: &str = "# What ModSecurity 3 with the Core Rule Set 4 at paranoia level 1 says to each request, and the rules it names.\n\
                    # Made by `cargo xtask waf-verdicts`; `refuse`: nginx answered before any rule.\n";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let crs = std::env::args().nth(1).map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/suites/crs"),
        PathBuf::from,
    );
    let folder = tempfile::tempdir().map_err(|error| format!("no folder for nginx: {error}"))?;
    let peer = Peer::start(With::ModSecurityAndLog, &crs, folder.path())?;
    let mut log = std::fs::File::open(&peer.log).map_err(|error| format!("nginx writes no log: {error}"))?;
    log.seek(SeekFrom::End(0)).map_err(|error| error.to_string())?;
    let mut lines = HEAD.to_owned();
    for file in ["benign.jsonl", "attacks.jsonl"] {
        let mut blocked = 0;
        let requests = read::requests(file)?;
        for asked in &requests {
            let (said, rules) = verdict(&peer, &mut log, asked)?;
            blocked += usize::from(said == "block");
            let _ = writeln!(lines, "{}\t{said}\t{}", asked.id, rules.join(","));
        }
        println!("{file}: {blocked} of {} blocked", requests.len());
    }
    let file = read::folder().join("verdicts.tsv");
    std::fs::write(&file, lines).map_err(|error| format!("cannot write {}: {error}", file.display()))
}

fn verdict(
    peer: &Peer,
    log: &mut std::fs::File,
    asked: &Asked,
) -> Result<(&'static str, Vec<String>), String> {
    let status = peer
        .connect()?
        .send(&asked.bytes)
        .map_err(|error| format!("{} ({}): {error}", asked.id, asked.kind))?;
    let mut written = Vec::new();
    log.read_to_end(&mut written)
        .map_err(|error| format!("cannot read nginx's log: {error}"))?;
    let written = String::from_utf8_lossy(&written);
    let mut rules: Vec<String> = Vec::new();
    for after in written.split("[id \"").skip(1) {
        let id: String = after.chars().take_while(char::is_ascii_digit).collect();
        if !rules.contains(&id) {
            rules.push(id);
        }
    }
    let said = match status {
        200 => "pass",
        _ if written.contains("ModSecurity: Access denied") => "block",
        400..500 => "refuse",
        _ => return Err(format!("{}: nginx answered {status}:\n{written}", asked.id)),
    };
    Ok((said, rules))
}
