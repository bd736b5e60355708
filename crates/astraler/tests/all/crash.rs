//! SIGKILL at every step of an `up`: the points are those that the journal records, taken from a whole run.

use crate::support::{kill, small};
use astraler_testkit::Platform;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout};

/// Who is killed when a step begins or ends.
#[derive(Debug, Clone, Copy)]
enum Victim {
    /// The command line: the daemon goes on alone.
    Up,
    /// The control process: `keep` starts another.
    Daemon,
    /// The parent of all: its standby takes over.
    Keep,
}

#[test]
fn killing_up_at_every_step_is_healed_by_the_next() {
    every_step(Victim::Up);
}

#[test]
fn killing_the_daemon_at_every_step_is_healed_by_the_next_up() {
    every_step(Victim::Daemon);
}

#[test]
fn killing_keep_at_every_step_is_healed_by_the_next_up() {
    every_step(Victim::Keep);
}

fn every_step(victim: Victim) {
    let platform = small();
    let points = points(&platform);
    assert!(points.len() >= 16, "steps of an up: {points:?}");
    drop(platform);
    let mut killed = 0;
    for (index, point) in points.iter().enumerate() {
        // A fresh place each time: only the first `up` creates what can be left half-made.
        let platform = small();
        if !kill_at(&platform, index, victim) {
            continue;
        }
        killed += 1;
        let up = platform.up(&[]).unwrap();
        assert_eq!(
            up.code, 0,
            "{victim:?} killed at {point}:\n{}\n{}",
            up.out, up.err
        );
        let health = platform.get("/api/health").unwrap();
        assert_eq!(
            health.status,
            200,
            "{victim:?} killed at {point}: {}",
            health.text()
        );
        platform.run(&["audit", "verify"]).unwrap().ok();
        let status = platform.run(&["status", "--json"]).unwrap().ok().json();
        assert_eq!(
            status["interrupted"],
            serde_json::json!([]),
            "{victim:?} killed at {point}"
        );
        platform.run(&["down"]).unwrap().ok();
        assert_eq!(platform.processes(), [], "{victim:?} killed at {point}");
    }
    // Before `keep` there is nobody but the command line: tools, release and the start of `keep` itself.
    assert!(
        killed + 8 >= points.len(),
        "{victim:?}: {killed} kills, {points:#?}"
    );
}

/// The events of a whole `up`, one line each.
fn points(platform: &Platform) -> Vec<String> {
    let (mut up, lines) = start(platform);
    let points: Vec<String> = lines.lines().map(Result::unwrap).collect();
    assert!(up.wait().unwrap().success());
    let done = points
        .iter()
        .position(|line| line.contains(r#""event":"done""#))
        .unwrap();
    points.into_iter().take(done).collect()
}

/// Kills the victim when the event with this index is seen. False when there is no such process yet.
fn kill_at(platform: &Platform, index: usize, victim: Victim) -> bool {
    let (mut up, lines) = start(platform);
    let mut lines = lines.lines();
    assert!(
        lines.by_ref().nth(index).is_some(),
        "the run has as many events as the first"
    );
    let word = match victim {
        Victim::Up => None,
        Victim::Daemon => Some(" daemon "),
        Victim::Keep => Some(" keep --installation"),
    };
    let pid = match word {
        None => Some(up.id()),
        Some(word) => platform
            .processes()
            .into_iter()
            .find(|(_, command)| command.contains(word))
            .map(|(pid, _)| pid),
    };
    if let Some(pid) = pid {
        kill(pid);
    }
    // It ends by itself, well or not; what it writes must not block it.
    lines.for_each(drop);
    up.wait().unwrap();
    pid.is_some()
}

fn start(platform: &Platform) -> (Child, BufReader<ChildStdout>) {
    let mut up = platform
        .command(&["up", "--json", "--port", &platform.port.to_string()])
        .spawn()
        .unwrap();
    let lines = BufReader::new(up.stdout.take().unwrap());
    (up, lines)
}
