//! Ten thousand connections: what an idle one weighs, and how it is served among them.

#![expect(clippy::disallowed_methods, reason = "a bench waits on a thread of its own")]

use super::server::{Server, Servers};
use super::{Protocol, h2load, percentile_ms, settle};
use crate::Failure;
use std::process::{Command, Stdio};
use std::time::Duration;

const CONNECTIONS: u32 = 10_000;
/// Of all connections together.
const RATE_PER_S: f64 = 5_000.0;
const REQUESTS_EACH: u32 = 10;
/// A period has 50 ms.
const OPENED_IN_A_PERIOD: u32 = 50;
/// In which all connections are made and have had one answer.
const OPENING: Duration = Duration::from_secs(25);

/// `start`: new servers for each measurement, whose memory nothing has used before.
pub(super) fn run(start: &dyn Fn() -> Result<Servers, Failure>) -> Result<(), Failure> {
    println!("\n{CONNECTIONS} idle keep-alive connections, bytes of each\n");
    for (protocol, words, goal_kb) in [
        (Protocol::Http1, "plaintext", 12.0),
        (Protocol::Tls1, "TLS", 25.0),
    ] {
        let servers = start()?;
        let nginx = idle(&servers.nginx, protocol)?;
        let ours = idle(&servers.ours, protocol)?;
        println!("{words}: nginx {nginx:.1} KB, ours {ours:.1} KB (goal {goal_kb})");
        servers.alive()?;
    }
    println!("\n{RATE_PER_S:.0} requests/s from {CONNECTIONS} open connections\n");
    let servers = start()?;
    for server in [&servers.nginx, &servers.ours] {
        let log = servers.folder.join("h2load.log");
        let each = RATE_PER_S / f64::from(CONNECTIONS);
        let mut load = h2load(server, Protocol::Http1, "/10k.css");
        load.arg(format!("--log-file={}", log.display()));
        let ended = evenly(&mut load, each, REQUESTS_EACH)
            .stdout(Stdio::null())
            .status()
            .map_err(|error| format!("cannot start h2load: {error}"))?;
        if !ended.success() {
            return Err("h2load failed".to_owned());
        }
        let p95 = percentile_ms(&log, 0.95)?;
        println!("{}: p95 {p95:.1} ms (goal 50), no errors", server.name);
        servers.alive()?;
    }
    Ok(())
}

/// Kilobytes that a connection adds once its first request is answered.
fn idle(server: &Server, protocol: Protocol) -> Result<f64, Failure> {
    let before = server.resident();
    // Two requests each, so that the connection stays between them.
    let mut load = h2load(server, protocol, "/10k.css");
    let mut running = evenly(&mut load, 0.02, 2)
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot start h2load: {error}"))?;
    std::thread::sleep(OPENING);
    let (after, open) = (server.resident(), established(server, protocol));
    let _ = running.kill();
    let _ = running.wait();
    settle();
    if open < CONNECTIONS as usize {
        return Err(format!(
            "{}: only {open} of {CONNECTIONS} connections are open",
            server.name
        ));
    }
    #[expect(clippy::cast_precision_loss, reason = "megabytes")]
    let added = after.saturating_sub(before) as f64;
    Ok(added / f64::from(CONNECTIONS) / 1000.0)
}

/// Connections to the server's port, as the system lists them.
fn established(server: &Server, protocol: Protocol) -> usize {
    let port = format!(":{:04X}", server.port(protocol));
    let listed = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let own = |line: &&str| {
        let mut columns = line.split_whitespace().skip(1);
        let local = columns.next().is_some_and(|local| local.ends_with(&port));
        // 01: established.
        local && columns.nth(1) == Some("01")
    };
    listed.lines().filter(own).count()
}

/// All connections, each with so many requests at a rate of its own. They are opened one after the other, so that their
/// requests come evenly and their handshakes do not wait for each other.
fn evenly(load: &mut Command, rate_per_s: f64, requests_each: u32) -> &mut Command {
    load.args(["-c", &CONNECTIONS.to_string(), "--rps", &rate_per_s.to_string()])
        .args(["-r", &OPENED_IN_A_PERIOD.to_string(), "--rate-period", "50ms"])
        .args(["-n", &(CONNECTIONS * requests_each).to_string()])
}
