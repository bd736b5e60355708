//! `cargo xtask bench waf`: CPU of one transaction with all of the Core Rule Set at paranoia level 1, blocking, beside nginx
//! with ModSecurity and the same rules, in one run.
//!
//! Ours is measured in this process: all phases of the request, and those of a small answer. The peer's is what the worker
//! of nginx takes with ModSecurity less what it takes without. Each figure is the best of some batches, in turns, since what
//! else the machine does only ever adds.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a bench for a terminal, on a thread of its own"
)]

mod peer;
mod requests;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use astraler_waf::compile::Program;
use astraler_waf::seclang::Rules;
use astraler_waf::suite;
use peer::{Peer, With};

const BATCHES: usize = 10;

/// What is measured: its name, how often in a batch, and the goal in microseconds.
struct Kind {
    name: &'static str,
    request: String,
    times: u32,
    goal: Option<u32>,
}

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
    let crs = std::env::args()
        .skip(1)
        .find(|word| !word.starts_with("--"))
        .map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/suites/crs"),
            PathBuf::from,
        );
    let program = program(&crs)?;
    let folder = tempfile::tempdir().map_err(|error| format!("no folder for the bench: {error}"))?;
    // nginx's worker has a user of its own.
    open(folder.path())?;
    let with = Peer::start(With::ModSecurity, &crs, folder.path())?;
    let bare = Peer::start(With::Nothing, &crs, folder.path())?;
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("load average before: {}", load.trim());
    println!("                 ours   ModSecurity   ratio   goal");
    for kind in kinds() {
        measure(&kind, &program, &with, &bare)?;
    }
    Ok(())
}

fn kinds() -> [Kind; 3] {
    [
        Kind {
            name: "plain GET",
            request: requests::GET.to_owned(),
            times: 100,
            goal: Some(150),
        },
        Kind {
            name: "JSON, 900 bytes",
            request: requests::post(&requests::orders(4)),
            times: 50,
            goal: Some(400),
        },
        Kind {
            name: "JSON, 64 KB",
            request: requests::large(),
            times: 3,
            goal: None,
        },
    ]
}

fn measure(kind: &Kind, program: &Program, with: &Peer, bare: &Peer) -> Result<(), String> {
    let request = kind.request.as_bytes();
    let (mut ours, mut theirs, mut nginx) = (Duration::MAX, Duration::MAX, Duration::MAX);
    for _ in 0..BATCHES {
        let begun = own_cpu()?;
        for _ in 0..kind.times {
            let (status, _) = suite::send(program, request);
            passes("our engine", kind, status)?;
        }
        ours = ours.min((own_cpu()? - begun) / kind.times);
        theirs = theirs.min(of_peer(kind, with)?);
        nginx = nginx.min(of_peer(kind, bare)?);
    }
    let theirs = theirs.saturating_sub(nginx);
    let goal = kind.goal.map_or_else(
        || "reported".to_owned(),
        |goal| format!("{goal} us, 10 times fewer"),
    );
    println!(
        "{:<15} {:>5} us {:>8} us {:>6.1}   {goal}   (nginx itself {} us, {} bytes)",
        kind.name,
        ours.as_micros(),
        theirs.as_micros(),
        theirs.as_secs_f64() / ours.as_secs_f64(),
        nginx.as_micros(),
        request.len(),
    );
    Ok(())
}

/// What the peer's worker takes for one.
fn of_peer(kind: &Kind, peer: &Peer) -> Result<Duration, String> {
    let mut connection = peer.connect()?;
    passes("nginx", kind, connection.send(kind.request.as_bytes())?)?;
    let begun = peer.cpu()?;
    for _ in 0..kind.times {
        passes("nginx", kind, connection.send(kind.request.as_bytes())?)?;
    }
    Ok((peer.cpu()? - begun) / kind.times)
}

/// One that is stopped early must not win.
fn passes(who: &str, kind: &Kind, status: u16) -> Result<(), String> {
    match status {
        200 => Ok(()),
        _ => Err(format!("{who} answered {status} to {}", kind.name)),
    }
}

fn program(crs: &Path) -> Result<Program, String> {
    let mut files = vec![crs.join("crs-setup.conf.example")];
    files.extend(suite::rule_files(&crs.join("rules")));
    let rules = Rules::base()
        .text("SecRuleEngine On\n", Path::new("bench.conf"))
        .files(&files);
    Program::new(&rules).map_err(|error| error.to_string())
}

/// What this thread has run.
fn own_cpu() -> Result<Duration, String> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").map_err(|error| error.to_string())?;
    let nanos = text.split_whitespace().next().and_then(|text| text.parse().ok());
    Ok(Duration::from_nanos(nanos.unwrap_or(0)))
}

fn open(folder: &Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))
        .map_err(|error| error.to_string())
}
