//! `cargo xtask bench edge`: ours beside nginx, one after the other in five alternating rounds, the same number of
//! workers, the same origin, the same load.
//!
//! CPU is what the scheduler counts for the server's own threads (`/proc/PID/task/*/schedstat`), so neither the load
//! nor the origin is in it. Needs Debian's nginx and nghttp2-client (h2load).

#![expect(clippy::disallowed_methods, reason = "a bench waits on a thread of its own")]

mod connections;
mod server;

use super::{built, load_average};
use crate::{Failure, output};
use server::{Server, Servers};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const ROUNDS: usize = 5;
/// For `quick` among the arguments.
const QUICK_ROUNDS: usize = 1;
const THREADS: usize = 2;
const CLIENTS: u32 = 32;
const REQUESTS: u32 = 20_000;
/// Of the equal load on which the slowest hundredth is compared.
const RATE_PER_S: u32 = 1_600;
const RATE_SECONDS: u32 = 3;

const CASES: &[(&str, &str, f64)] = &[
    ("cached, 1 KB", "/cached/1k", 1.0),
    ("cached, 100 KB", "/cached/100k", 1.0),
    ("static, 10 KB", "/10k.css", 1.0),
    ("proxied, 1 KB", "/proxied/1k", 0.9),
];

/// How a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http1,
    Tls1,
    Tls2,
}

const PROTOCOLS: &[(Protocol, &str)] = &[
    (Protocol::Http1, "HTTP/1.1"),
    (Protocol::Tls1, "TLS, HTTP/1.1"),
    (Protocol::Tls2, "TLS, HTTP/2"),
];

pub(super) fn run(root: &Path, arguments: &[&str]) -> Result<(), Failure> {
    let profile = built(root, arguments)?;
    println!("{}", load_average());
    let folder = tempfile::Builder::new()
        .prefix("bench-edge-")
        .tempdir_in("/tmp")
        .map_err(|error| format!("cannot make a folder: {error}"))?;
    let rounds = match arguments.contains(&"quick") {
        true => QUICK_ROUNDS,
        false => ROUNDS,
    };
    let start = || Servers::start(root, profile, folder.path(), THREADS);
    if !arguments.contains(&"connections") {
        let servers = start()?;
        println!(
            "\nRequests per CPU second of the server, median of {rounds} rounds; the slowest hundredth at {RATE_PER_S} requests/s\n"
        );
        println!(
            "| | | nginx | ours | ratio (goal) | CPU of a request | p99 nginx | p99 ours | ratio (goal 1.2) |"
        );
        println!("|---|---|---|---|---|---|---|---|---|");
        let only = |name: &str| {
            arguments
                .iter()
                .find_map(|word| word.strip_prefix("case="))
                .is_none_or(|wanted| name.contains(wanted))
        };
        for &(case, path, goal) in CASES.iter().filter(|(case, ..)| only(case)) {
            for &(protocol, words) in PROTOCOLS {
                compare(&servers, (case, path, goal), (protocol, words), rounds)?;
            }
        }
    }
    connections::run(&start)
}

fn compare(
    servers: &Servers,
    (case, path, goal): (&str, &str, f64),
    (protocol, words): (Protocol, &str),
    rounds: usize,
) -> Result<(), Failure> {
    let both = [&servers.nginx, &servers.ours];
    let mut per_s: [Vec<f64>; 2] = Default::default();
    let mut slow: [Vec<f64>; 2] = Default::default();
    for server in both {
        // The caches are filled, connections to the origin are there.
        throughput(servers, server, path, protocol, 2_000)?;
    }
    for _ in 0..rounds {
        for (server, per_s) in both.into_iter().zip(&mut per_s) {
            per_s.push(throughput(servers, server, path, protocol, REQUESTS)?);
        }
        for (server, slow) in both.into_iter().zip(&mut slow) {
            slow.push(p99_ms(servers, server, path, protocol)?);
        }
    }
    let [nginx, ours] = per_s.map(median);
    let [nginx_slow, ours_slow] = slow.map(median);
    println!(
        "| {case} | {words} | {nginx:.0} | {ours:.0} | {:.2} ({goal}) | {:.1} / {:.1} us | {nginx_slow:.2} ms | {ours_slow:.2} ms | {:.2} |",
        ours / nginx,
        1e6 / nginx,
        1e6 / ours,
        ours_slow / nginx_slow,
    );
    Ok(())
}

/// Requests per second of the server's own CPU.
fn throughput(
    servers: &Servers,
    server: &Server,
    path: &str,
    protocol: Protocol,
    requests: u32,
) -> Result<f64, Failure> {
    let mut load = h2load(server, protocol, path);
    load.args(["-n", &requests.to_string(), "-c", &CLIENTS.to_string()]);
    let before = server.cpu()?;
    all_succeeded(&output(&mut load)?, requests)?;
    let used = server.cpu()?.saturating_sub(before);
    servers.alive()?;
    Ok(f64::from(requests) / used.as_secs_f64())
}

/// Milliseconds in which 99 of 100 requests were answered.
fn p99_ms(servers: &Servers, server: &Server, path: &str, protocol: Protocol) -> Result<f64, Failure> {
    let log = servers.folder.join("h2load.log");
    let mut load = h2load(server, protocol, path);
    let clients = 16;
    load.args([
        "-c",
        &clients.to_string(),
        "--rps",
        &(RATE_PER_S / clients).to_string(),
    ])
    .args(["-D", &RATE_SECONDS.to_string()])
    .arg(format!("--log-file={}", log.display()));
    output(&mut load)?;
    percentile_ms(&log, 0.99)
}

fn h2load(server: &Server, protocol: Protocol, path: &str) -> Command {
    let mut command = Command::new("h2load");
    command.arg("-t1");
    let scheme = match protocol {
        Protocol::Http1 => "http",
        Protocol::Tls1 | Protocol::Tls2 => "https",
    };
    if protocol != Protocol::Tls2 {
        command.arg("--h1");
    }
    if protocol == Protocol::Tls2 {
        command.args(["-m", "8"]);
    }
    let port = server.port(protocol);
    command.arg(format!("--connect-to=127.0.0.1:{port}"));
    command.arg(format!("{scheme}://bench.test:{port}{path}"));
    command
}

fn all_succeeded(said: &str, requests: u32) -> Result<(), Failure> {
    let wanted = format!("{requests} succeeded");
    let codes = format!("{requests} 2xx");
    match said.contains(&wanted) && said.contains(&codes) {
        true => Ok(()),
        false => Err(format!("not every request was answered with 2xx:\n{said}")),
    }
}

/// Of the third column of h2load's log: microseconds of each request.
fn percentile_ms(log: &Path, share: f64) -> Result<f64, Failure> {
    let text = std::fs::read_to_string(log).map_err(|error| format!("no log of h2load: {error}"))?;
    let mut micros = Vec::new();
    for line in text.lines() {
        let mut columns = line.split('\t').skip(1);
        let (status, took) = (
            columns.next(),
            columns.next().and_then(|text| text.parse::<u32>().ok()),
        );
        match (status, took) {
            (Some("200"), Some(took)) => micros.push(took),
            _ => return Err(format!("a request failed: {line}")),
        }
    }
    let _ = std::fs::remove_file(log);
    micros.sort_unstable();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of a length"
    )]
    let index = (micros.len() as f64 * share) as usize;
    let took = micros.get(index.min(micros.len().saturating_sub(1)));
    took.map(|&took| f64::from(took) / 1000.0)
        .ok_or_else(|| "h2load sent nothing".to_owned())
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Waits a moment in which nothing is expected.
fn settle() {
    std::thread::sleep(Duration::from_secs(2));
}
