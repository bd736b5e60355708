//! SIGKILL of the control process at every step of an `apply` and a `destroy`.

use super::{NOTHING, manifest, run, superuser};
use crate::support::{kill, small};
use astraler_testkit::Platform;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};

/// The control process is killed when each step of an `apply` that makes an environment begins, at each of the `destroy`
/// that takes it away, and after the last of each: the points are those of a whole run's journal. That a step has ended
/// is seen together with the beginning of the next.
#[test]
fn killing_the_daemon_at_every_step_of_apply_and_destroy_is_healed_by_the_next() {
    let platform = small();
    platform.up(&[]).unwrap().ok();
    let apply = ["apply", "--env", "staging", "--yes", "--json"];
    let destroy = ["destroy", "--env", "staging", "--yes", "staging", "--json"];
    let points = [&apply[..], &destroy[..]].map(|words| points(&platform, words));
    for (of, steps) in points.iter().zip(["apply", "destroy"]) {
        assert!(of.len() >= 10, "{steps} has its steps and its end: {of:?}");
    }
    for index in 0..points[0].len().max(points[1].len()) {
        // `keep` gives up on what ends ten times in a minute: a platform that starts anew counts anew.
        if index % 4 == 3 {
            run(&platform, "down").ok();
            platform.up(&[]).unwrap().ok();
        }
        if let Some(point) = points[0].get(index) {
            kill_at(&platform, &apply, point);
            // On record with its first step, from where it is wanted whether or not it is named.
            let again = match index % 2 {
                0 => "apply --env staging --yes",
                _ => "apply --yes",
            };
            let again = run(&platform, again);
            assert_eq!(again.code, 0, "killed at {point}\n{}\n{}", again.out, again.err);
            let plan = run(&platform, "plan");
            assert_eq!(plan.code, NOTHING, "killed at {point}\n{}", plan.out);
            let health = platform
                .request("GET", "staging.localhost", "/api/health", b"")
                .unwrap();
            assert_eq!(health.status, 200, "killed at {point}");
            assert_settled(&platform, 2, point);
        }
        if let Some(point) = points[1].get(index) {
            kill_at(&platform, &destroy, point);
            // Either goes on with what was begun.
            let again = match index % 2 {
                0 => "apply --yes",
                _ => "destroy --env staging --yes staging",
            };
            let again = run(&platform, again);
            assert_eq!(again.code, 0, "killed at {point}\n{}\n{}", again.out, again.err);
            let plan = run(&platform, "plan");
            assert_eq!(plan.code, NOTHING, "killed at {point}\n{}", plan.out);
            assert!(!platform.state().join("redis/staging").exists(), "{point}");
            assert_settled(&platform, 1, point);
        }
    }
    run(&platform, "audit verify").ok();
}

/// The same of an `apply` that changes what runs and holds data: PostgreSQL, Redis, the edge and the workers are all
/// restarted or replaced on the way.
#[test]
fn killing_the_daemon_at_every_step_of_a_change_loses_nothing() {
    let platform = small();
    let as_written = std::fs::read_to_string(manifest(&platform)).unwrap();
    // So much apart that the limits of roles follow.
    let connections = |number: usize| 60 + 10 * number;
    let change = |number: usize| {
        let text = format!(
            "{as_written}\n[database]\npool_size = {}\nmax_connections = {}\n\n[redis]\nmaxmemory_bytes = {}\n\n[edge.limits]\nmax_headers = {}\n",
            5 + number,
            connections(number),
            (64 + number) << 20,
            50 + number
        );
        std::fs::write(manifest(&platform), text).unwrap();
    };
    platform.up(&[]).unwrap().ok();
    let put = platform.request("PUT", "localhost", "/api/files/kept", b"text");
    assert_eq!(put.unwrap().status, 204);
    superuser(&platform, "development", "INSERT INTO notes VALUES (1, 'kept')");
    let count = || platform.get("/api/count").unwrap().json()["count"].clone();
    assert_eq!(count(), 1);

    let apply = ["apply", "--yes", "--json"];
    change(0);
    let points = points(&platform, &apply);
    assert!(points.len() >= 7, "all of it changes: {points:?}");
    for (index, point) in points.iter().enumerate() {
        change(index + 1);
        kill_at(&platform, &apply, point);
        let health = platform.get("/api/health").unwrap();
        assert_eq!(health.status, 200, "nobody notices: killed at {point}");
        let again = run(&platform, "apply --yes");
        assert_eq!(again.code, 0, "killed at {point}\n{}\n{}", again.out, again.err);
        let plan = run(&platform, "plan");
        assert_eq!(plan.code, NOTHING, "killed at {point}\n{}", plan.out);
        assert_settled(&platform, 1, point);
        assert_eq!(count(), index + 2, "killed at {point}");
        let file = platform.get("/api/files/kept").unwrap();
        assert_eq!(file.text(), "text", "killed at {point}");
        let rows = superuser(&platform, "development", "SELECT text FROM notes");
        assert_eq!(rows, "kept", "killed at {point}");
        let shown = superuser(&platform, "development", "SHOW max_connections");
        assert_eq!(shown, connections(index + 1).to_string(), "killed at {point}");
    }
    run(&platform, "audit verify").ok();
}

/// Nothing is half-done, and development was there all the time.
#[track_caller]
fn assert_settled(platform: &Platform, environments: usize, point: &str) {
    let status = run(platform, "status --json").ok().json();
    assert_eq!(status["interrupted"], json!([]), "killed at {point}");
    let up = status["environments"].as_array().unwrap();
    assert_eq!(up.len(), environments, "killed at {point}: {status:#}");
    assert_eq!(platform.get("/api/health").unwrap().status, 200);
}

/// The beginnings of all steps of a whole run, and the end of the last.
fn points(platform: &Platform, words: &[&str]) -> Vec<String> {
    let whole = platform.run(words).unwrap().ok();
    let events: Vec<&str> = whole.out.lines().collect();
    let (applied, steps) = events.split_last().unwrap();
    assert!(applied.contains(r#""event":"applied""#), "{applied}");
    let begins = steps.iter().filter(|event| event.contains(r#""event":"begin""#));
    let mut points: Vec<String> = begins.map(|event| (*event).to_owned()).collect();
    let end: Value = serde_json::from_str(steps.last().unwrap()).unwrap();
    points.push(format!(r#""event":"end","part":{}"#, end["part"]));
    points
}

/// Runs a command and kills the daemon when an event like this is seen.
pub(super) fn kill_at(platform: &Platform, words: &[&str], point: &str) {
    let daemon = platform.pid("daemon").unwrap().unwrap();
    let mut child = platform.command(words).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    assert!(
        lines.by_ref().any(|line| line.contains(point)),
        "the run has the steps of the first: {point}"
    );
    kill(daemon);
    lines.for_each(drop);
    child.wait().unwrap();
}
