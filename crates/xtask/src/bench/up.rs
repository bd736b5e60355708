//! `cargo xtask bench up [dev]`: how long a user waits for the first answer, and what the platform weighs when idle.
//!
//! The tools (workerd, esbuild, pnpm) are fetched once before: what is measured is `astraler up`, not a registry.

use crate::Failure;
use crate::platform::Platform;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

const ROUNDS: usize = 5;
const GIVE_UP: Duration = Duration::from_secs(120);
/// What start-up has allocated and read is given back or written by then.
const SETTLE: Duration = Duration::from_secs(15);

pub(crate) fn run(root: &Path, arguments: &[&str]) -> Result<(), Failure> {
    let profile = super::built(root, arguments)?;
    let warm = Platform::new(root, profile)?;
    warm.astraler(&["up", "--port", &warm.port.to_string()])?;
    warm.astraler(&["down"])?;

    let (mut empty, mut again, mut unchanged) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let platform = Platform::new(root, profile)?;
        let measured = (|| {
            empty.push(first_answer(&platform)?);
            platform.astraler(&["down"])?;
            platform.nothing_left()?;
            again.push(first_answer(&platform)?);
            let start = Instant::now();
            platform.astraler(&["up", "--port", &platform.port.to_string()])?;
            unchanged.push(start.elapsed());
            Ok(())
        })();
        let ended = platform
            .astraler(&["down"])
            .and_then(|()| platform.nothing_left());
        measured.and(ended)?;
    }

    let platform = Platform::new(root, profile)?;
    first_answer(&platform)?;
    #[expect(clippy::disallowed_methods, reason = "there is no executor to block")]
    std::thread::sleep(SETTLE);
    let memory = memory(&platform);
    platform
        .astraler(&["down"])
        .and_then(|()| platform.nothing_left())?;
    let memory = memory?;

    println!("\nfirst answer, empty state     {}", seconds(&mut empty));
    println!("first answer, existing state  {}", seconds(&mut again));
    println!("up when all is up             {}", seconds(&mut unchanged));
    println!("\nidle memory after {} s (PSS)", SETTLE.as_secs());
    let mut groups: Vec<(&str, u64)> = Vec::new();
    for (part, bytes) in &memory {
        match groups.iter_mut().find(|(name, _)| name == part) {
            Some((_, sum)) => *sum += bytes,
            None => groups.push((part, *bytes)),
        }
    }
    for (part, bytes) in &groups {
        println!("  {part:<12} {:>6.1} MiB", mebibytes(*bytes));
    }
    let own = |part: &str| !["postgres", "redis", "workerd"].contains(&part);
    let ours: u64 = groups
        .iter()
        .filter(|(part, _)| own(part))
        .map(|(_, bytes)| bytes)
        .sum();
    let whole: u64 = groups.iter().map(|(_, bytes)| bytes).sum();
    println!(
        "  our own      {:>6.1} MiB (goal: at most 120 MB)",
        mebibytes(ours)
    );
    println!(
        "  all          {:>6.1} MiB (goal: at most 350 MB)",
        mebibytes(whole)
    );
    println!(
        "\ndown leaves no process and no socket behind: looked for after each of {} runs",
        2 * ROUNDS + 1
    );
    Ok(())
}

/// From the start of `astraler up` to the first 200 of the API worker.
fn first_answer(platform: &Platform) -> Result<Duration, Failure> {
    let start = Instant::now();
    let mut up = platform
        .command(&["up", "--port", &platform.port.to_string()])
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot start the program: {error}"))?;
    let mut answered = None;
    while answered.is_none() && start.elapsed() < GIVE_UP {
        // Not connected yet is the usual case; only 200 ends the wait.
        if platform
            .get("/api/health")
            .is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
        {
            answered = Some(start.elapsed());
        } else {
            #[expect(clippy::disallowed_methods, reason = "there is no executor to block")]
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    let status = up
        .wait()
        .map_err(|error| format!("cannot wait for `up`: {error}"))?;
    match answered {
        Some(took) if status.success() => Ok(took),
        _ => Err(format!(
            "`astraler up` ended with {status}, and the API answered: {}",
            answered.is_some()
        )),
    }
}

/// Proportional set size of every process of the platform, by part.
fn memory(platform: &Platform) -> Result<Vec<(&'static str, u64)>, Failure> {
    let mut found = Vec::new();
    for (pid, command) in platform.all_processes()? {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = std::fs::read_to_string(&path)
            .map_err(|error| format!("cannot read {path}: {error}; run the bench as root or as one user"))?;
        let kibibytes: u64 = text
            .lines()
            .find_map(|line| line.strip_prefix("Pss:"))
            .and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse().ok())
            .ok_or_else(|| format!("{path} has no Pss"))?;
        found.push((part(&command), kibibytes * 1024));
    }
    Ok(found)
}

fn part(command: &str) -> &'static str {
    const PARTS: &[(&str, &str)] = &[
        ("--role data", "data"),
        ("--role egress", "egress"),
        ("--role signal", "signal"),
        (" daemon ", "daemon"),
        (" edge ", "edge"),
        (" keep --standby", "standby"),
        (" keep ", "keep"),
        ("workerd", "workerd"),
        ("redis", "redis"),
        ("postgres", "postgres"),
    ];
    PARTS
        .iter()
        .find(|(sign, _)| command.contains(sign))
        .map_or("other", |(_, part)| part)
}

fn seconds(samples: &mut [Duration]) -> String {
    samples.sort();
    let at = |index: usize| samples.get(index).map_or(0.0, Duration::as_secs_f64);
    format!(
        "{:>6.2} s median, {:.2} s worst of {}",
        at(samples.len() / 2),
        at(samples.len().saturating_sub(1)),
        samples.len()
    )
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
