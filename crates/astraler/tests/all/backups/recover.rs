//! A table is dropped by mistake, and its database brought back to the second before.

use super::{platform, sql, to_daemon};
use crate::support::kill;
use astraler_testkit::Platform;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const DATABASE: &str = "development";
/// The event with which the database begins to be copied out of the scratch cluster.
const COPY: usize = 6;

#[test]
fn a_dropped_table_comes_back_and_a_kill_at_every_step_leaves_a_database_that_serves() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let target = folder.path().join("backups");
    std::fs::create_dir(&target).unwrap();
    let platform = platform(&format!("target_url = \"file://{}\"", target.display()));
    platform.up(&[]).unwrap().ok();
    // No backup can have been made yet: the folder is not the daemon's.
    let early = now(&platform);
    to_daemon(&platform, &target);
    run(&platform, "postgres", "CREATE DATABASE neighbour");
    run(&platform, "neighbour", "CREATE TABLE kept (n int)");
    run(
        &platform,
        DATABASE,
        "INSERT INTO notes VALUES (1, 'before the backup')",
    );

    platform.run(&["backup", "run"]).unwrap().ok();
    platform.run(&["backup", "verify"]).unwrap().ok();
    run(
        &platform,
        DATABASE,
        "INSERT INTO notes VALUES (2, 'after the backup')",
    );
    pause();
    let point = now(&platform);
    pause();
    run(&platform, DATABASE, "DROP TABLE notes");
    run(&platform, "neighbour", "INSERT INTO kept VALUES (7)");

    // Times that cannot be: the answer says which can.
    let outside = recover(&platform, &early, &[]).failed_with(1);
    assert!(outside.err.contains("the backups reach from"), "{}", outside.err);
    let future = recover(&platform, "2999-01-01T00:00:00Z", &[]).failed_with(1);
    assert!(future.err.contains("has not come yet"), "{}", future.err);
    let dry = recover(&platform, &point, &["--dry-run"]).ok();
    assert!(
        dry.out.contains("would bring database development"),
        "{}",
        dry.out
    );
    assert!(
        sql(&platform, DATABASE, "SELECT 1 FROM notes").is_err(),
        "nothing was done"
    );

    let done = recover(&platform, &point, &["--json"]).ok();
    let points: Vec<String> = done.out.lines().map(str::to_owned).collect();
    println!("recovered in {:?}", done.took);
    assert!(done.took < Duration::from_secs(30), "{:?}", done.took);
    whole(&platform, "first");
    assert_eq!(
        run(&platform, "neighbour", "SELECT n FROM kept"),
        "7",
        "the neighbour is not rewound"
    );
    assert_eq!(platform.get("/api/health").unwrap().status, 200);
    let closed = sql(&platform, "development_before", "SELECT 1").unwrap_err();
    assert!(closed.contains("not currently accepting connections"), "{closed}");
    assert_eq!(
        run(
            &platform,
            "postgres",
            "SELECT has_database_privilege('public', 'development', 'CONNECT')"
        ),
        "f",
        "no other environment's role may enter"
    );

    // The points are those that the journal has: a begin and an end of every step.
    let steps: Vec<&String> = points
        .iter()
        .filter(|line| !line.contains(r#""event":"done""#))
        .collect();
    assert_eq!(steps.len(), 14, "{points:#?}");
    assert!(steps[COPY].contains("copy"), "{points:#?}");
    let mut kills = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        not_too_often(&mut kills);
        run(&platform, DATABASE, "DROP TABLE IF EXISTS notes");
        let words = ["recover", "database", "--env", DATABASE, "--to", &point, "--json"];
        kill_daemon_at(&platform, &words, index);
        // The old one or the new one, under its name, at once.
        assert_eq!(run(&platform, DATABASE, "SELECT 1"), "1", "killed at {step}");
        assert_eq!(
            platform.get("/api/health").unwrap().status,
            200,
            "killed at {step}"
        );
        // Until the copy, a run has changed nothing that the next one does not begin with anew: the next one is the one
        // that is killed a little later.
        if index < COPY {
            continue;
        }
        let next = recover(&platform, &point, &[]);
        assert_eq!(next.code, 0, "killed at {step}:\n{}\n{}", next.out, next.err);
        whole(&platform, step);
        let left: Vec<PathBuf> = ["scratch", "fetched"]
            .map(|name| platform.state().join("postgres").join(name))
            .into_iter()
            .filter(|path| path.exists())
            .collect();
        assert_eq!(left, Vec::<PathBuf>::new(), "killed at {step}");
    }
    platform.run(&["audit", "verify"]).unwrap().ok();

    // A backup that somebody changed is not restored.
    for base in find(&target, "base.tar.gz") {
        let mut bytes = std::fs::read(&base).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::io::Write::write_all(&mut std::fs::File::create(&base).unwrap(), &bytes).unwrap();
    }
    let found = platform.run(&["backup", "verify"]).unwrap().failed_with(1);
    assert!(
        found.err.contains("base.tar.gz") && found.err.contains("was changed"),
        "{}",
        found.err
    );
    let refused = recover(&platform, &point, &[]).failed_with(1);
    assert!(refused.err.contains("was changed"), "{}", refused.err);
    whole(&platform, "tampered");
}

#[track_caller]
fn run(platform: &Platform, database: &str, statement: &str) -> String {
    match sql(platform, database, statement) {
        Ok(answer) => answer,
        Err(error) => panic!("{statement}: {error}"),
    }
}

#[track_caller]
fn whole(platform: &Platform, when: &str) {
    let rows = run(
        platform,
        DATABASE,
        "SELECT string_agg(id::text, ',' ORDER BY id) FROM notes",
    );
    assert_eq!(rows, "1,2", "{when}");
}

fn recover(platform: &Platform, to: &str, more: &[&str]) -> astraler_testkit::Finished {
    let mut all = vec!["recover", "database", "--env", DATABASE, "--to", to];
    all.extend(more);
    platform.run(&all).unwrap()
}

fn now(platform: &Platform) -> String {
    run(
        platform,
        "postgres",
        "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')",
    )
}

/// So that what is before a point in time is before it by milliseconds too.
fn pause() {
    #[expect(clippy::disallowed_methods, reason = "a test thread may wait")]
    std::thread::sleep(Duration::from_millis(50));
}

/// Kills the daemon when the event of a command with this index is seen; returns when `keep` has started another.
pub(super) fn kill_daemon_at(platform: &Platform, words: &[&str], index: usize) {
    let mut command = platform.command(words).spawn().unwrap();
    let mut lines = BufReader::new(command.stdout.take().unwrap()).lines();
    assert!(
        lines.by_ref().nth(index).is_some(),
        "a run has as many events as the first"
    );
    let daemon = || {
        let all = platform.processes().into_iter();
        all.filter(|(_, command)| command.contains(" daemon --installation"))
            .map(|(pid, _)| pid)
            .next()
    };
    let pid = daemon().unwrap();
    kill(pid);
    lines.for_each(drop);
    command.wait().unwrap();
    crate::support::eventually("another daemon answers", Duration::from_secs(30), || {
        daemon().is_some_and(|new| new != pid) && platform.run(&["status", "--json"]).unwrap().code == 0
    });
}

/// `keep` gives up on a daemon that ends ten times within a minute: there are no more than nine kills in one.
fn not_too_often(kills: &mut Vec<Instant>) {
    if let Some(ninth) = kills.len().checked_sub(9) {
        let over = kills[ninth] + Duration::from_secs(61);
        #[expect(clippy::disallowed_methods, reason = "a test thread may wait")]
        std::thread::sleep(over.saturating_duration_since(Instant::now()));
    }
    kills.push(Instant::now());
}

pub(super) fn find(folder: &std::path::Path, name: &str) -> Vec<PathBuf> {
    let mut queue = vec![folder.to_owned()];
    let mut found = Vec::new();
    while let Some(folder) = queue.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                queue.push(path);
            } else if path.file_name().is_some_and(|file| file == name) {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "no {name}");
    found
}
