//! Bad input and broken machines: a clear error, nothing lost.

use crate::support::{eventually, kill, small};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

#[test]
fn a_taken_port_names_its_holder_and_offers_the_next() {
    let platform = small();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, platform.port)).unwrap();
    let failed = platform.up(&[]).unwrap().failed_with(6);
    assert!(
        failed
            .err
            .contains(&format!("port {} is taken by", platform.port)),
        "{}",
        failed.err
    );
    assert!(
        failed.err.contains(&format!("(pid {})", std::process::id())),
        "{}",
        failed.err
    );
    assert!(failed.err.contains("astraler up --port "), "{}", failed.err);
    drop(taken);
    assert_eq!(platform.processes(), [], "nothing was started");
}

#[test]
fn a_state_folder_that_cannot_be_written_is_named() {
    let platform = small();
    // A file where the folder should be: even root cannot write below it.
    std::fs::File::create(platform.state()).unwrap();
    let failed = platform.up(&[]).unwrap().failed_with(1);
    assert!(
        failed.err.contains(&platform.state().display().to_string()),
        "{}",
        failed.err
    );
    assert!(failed.err.contains("--state"), "{}", failed.err);
}

#[test]
fn ten_errors_in_a_manifest_are_all_shown() {
    let platform = small();
    let manifest = r#"name = 7
domain = "not a domain"
colour = "blue"

[edge]
http_port = 70000
listen_addreses = []

[workers.api]
path = "workers/missing"
routes = ["api"]

[redis]
maxmemory_bytes = "much"
appendfsync = "sometimes"

[database]
pool_size = -1
"#;
    std::io::Write::write_all(
        &mut std::fs::File::create(platform.application().join("astraler.toml")).unwrap(),
        manifest.as_bytes(),
    )
    .unwrap();
    let failed = platform
        .run(&["manifest", "check", "--json"])
        .unwrap()
        .failed_with(3);
    let errors = failed.json()["errors"].as_array().cloned().unwrap();
    let lines: std::collections::BTreeSet<u64> =
        errors.iter().filter_map(|error| error["line"].as_u64()).collect();
    for line in [1, 2, 3, 6, 7, 10, 11, 14, 15, 18] {
        assert!(
            lines.contains(&line),
            "line {line} has an error that is not shown: {errors:#?}"
        );
    }
    let up = platform.up(&[]).unwrap().failed_with(3);
    assert!(
        up.err.contains("listen_addresses"),
        "the nearest right name is offered: {}",
        up.err
    );
}

#[test]
fn of_two_ups_at_once_the_second_says_who_holds_the_lock() {
    let platform = small();
    // Its build waits until the test lets it go on: the lock is held for as long as that takes.
    let manifest = platform.application().join("astraler.toml");
    let mut file = std::fs::OpenOptions::new().append(true).open(manifest).unwrap();
    let build = "touch building; until [ -e go ]; do sleep 0.05; done";
    std::io::Write::write_all(
        &mut file,
        format!("\n[build]\ncommand = \"{build}\"\n").as_bytes(),
    )
    .unwrap();
    let mut first = platform
        .command(&["up", "--port", &platform.port.to_string()])
        .spawn()
        .unwrap();
    eventually("the first builds", Duration::from_secs(60), || {
        platform.application().join("building").exists()
    });
    for words in [&["up"][..], &["down"]] {
        let second = platform.run(words).unwrap().failed_with(5);
        assert!(
            second.err.contains(&format!("process {}", first.id())),
            "it names the process: {}",
            second.err
        );
        assert!(second.err.contains("astraler up"), "{}", second.err);
    }
    std::fs::File::create(platform.application().join("go")).unwrap();
    assert!(first.wait().unwrap().success());
    assert_eq!(platform.get("/api/health").unwrap().status, 200);
}

#[test]
fn an_application_that_was_moved_is_told_how_to_take_its_key_along() {
    let platform = small();
    platform.up(&[]).unwrap().ok();
    assert_eq!(platform.get("/api/count").unwrap().json()["count"], 1);
    platform.run(&["down"]).unwrap().ok();
    let moved = platform.application().with_file_name("moved");
    std::fs::rename(platform.application(), &moved).unwrap();
    let run = |words: &[&str]| {
        let as_before = platform.command(words);
        // `--dir` and its value are the last two.
        let words: Vec<_> = as_before.get_args().collect();
        std::process::Command::new(as_before.get_program())
            .args(&words[..words.len() - 1])
            .arg(&moved)
            .envs(
                as_before
                    .get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            )
            .output()
            .unwrap()
    };
    let port = platform.port.to_string();
    let failed = run(&["up", "--port", &port]);
    let err = String::from_utf8_lossy(&failed.stderr);
    assert_eq!(failed.status.code(), Some(1), "{err}");
    assert!(err.contains("was made for `small` in another folder"), "{err}");
    let (_, command) = err.split_once("take its root key along: ").unwrap();
    let done = std::process::Command::new("sh")
        .args(["-c", command])
        .status()
        .unwrap();
    assert!(done.success(), "{command}");
    let up = run(&["up", "--port", &port]);
    assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
    assert_eq!(platform.get("/api/count").unwrap().json()["count"], 2);
    let down = run(&["down"]);
    assert!(down.status.success(), "{}", String::from_utf8_lossy(&down.stderr));
    assert_eq!(platform.processes(), []);
}

#[test]
fn what_the_application_does_wrong_is_shown_and_what_runs_goes_on() {
    let platform = small();
    let write = |name: &str, text: &str| {
        let path = platform.application().join(name);
        std::io::Write::write_all(&mut std::fs::File::create(path).unwrap(), text.as_bytes()).unwrap();
    };
    platform.up(&[]).unwrap().ok();
    let worker = "workers/api/index.js";
    for (file, text, said) in [
        (
            "migrations/0002_bad.sql",
            "CREATE TABLE good (id int);\nCREAT TABLE bad;\n",
            "0002_bad.sql:2:1: syntax error",
        ),
        (worker, "export default { fetch( {\n", "index.js:2:1: "),
        (
            worker,
            "throw new Error('at the start');\nexport default {};\n",
            "at the start",
        ),
    ] {
        write(file, text);
        let failed = platform.up(&[]).unwrap().failed_with(1);
        assert!(failed.err.contains(said), "{file}: {}", failed.err);
        assert!(failed.err.contains("hint: "), "{file}: {}", failed.err);
        let health = platform.get("/api/health").unwrap();
        assert_eq!(health.status, 200, "{file}: the deployment before serves on");
        if file != worker {
            std::fs::remove_file(platform.application().join(file)).unwrap();
        }
    }
    write(worker, astraler_testkit::API_WORKER);
    platform.up(&[]).unwrap().ok();
    assert_eq!(platform.get("/api/health").unwrap().status, 200);
}

#[test]
fn an_engine_that_dies_at_start_shows_its_last_lines() {
    let platform = small();
    platform.up(&[]).unwrap().ok();
    platform.run(&["down"]).unwrap().ok();
    let control = platform.state().join("postgres/shared/data/global/pg_control");
    let whole = std::fs::read(&control).unwrap();
    std::fs::OpenOptions::new()
        .write(true)
        .open(&control)
        .unwrap()
        .set_len(10)
        .unwrap();
    let failed = platform.up(&[]).unwrap().failed_with(1);
    assert!(failed.err.contains("its last log lines"), "{}", failed.err);
    assert!(
        failed.err.contains("pg_control"),
        "PostgreSQL's own words: {}",
        failed.err
    );
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(&control)
        .unwrap();
    std::io::Write::write_all(&mut file, &whole).unwrap();
    platform.up(&[]).unwrap().ok();
}

#[test]
fn a_kill_in_the_middle_of_up_is_healed_by_the_next() {
    let platform = small();
    // One after the other: each round gets further than the one before.
    for round in 1..=6_u64 {
        let mut up = platform
            .command(&["up", "--port", &platform.port.to_string()])
            .spawn()
            .unwrap();
        #[expect(clippy::disallowed_methods, reason = "the moment of the kill")]
        std::thread::sleep(Duration::from_millis(350 * round));
        up.kill().unwrap();
        up.wait().unwrap();
        if round % 2 == 0
            && let Some((pid, _)) = platform
                .processes()
                .into_iter()
                .find(|(_, command)| command.contains(" daemon "))
        {
            kill(pid);
        }
    }
    platform.up(&[]).unwrap().ok();
    assert_eq!(platform.get("/api/health").unwrap().status, 200);
    platform.run(&["audit", "verify"]).unwrap().ok();
}

#[test]
fn a_missing_engine_is_said_with_the_command_that_mends_it() {
    let platform = small();
    let empty = platform.application().join("empty");
    std::fs::create_dir(&empty).unwrap();
    std::fs::set_permissions(&empty, std::fs::Permissions::from_mode(0o755)).unwrap();
    let output = platform
        .command(&["up", "--port", &platform.port.to_string()])
        .env("ASTRALER_POSTGRES_BIN", &empty)
        .output()
        .unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{err}");
    assert!(err.contains("apt-get install -y postgresql"), "{err}");
    assert_eq!(platform.processes(), []);
}

/// A program that says only its version.
fn engine(folder: &std::path::Path, name: &str, version: &str) {
    let path = folder.join(name);
    std::io::Write::write_all(
        &mut std::fs::File::create(&path).unwrap(),
        format!("#!/bin/sh\necho '{version}'\n").as_bytes(),
    )
    .unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn an_engine_of_a_wrong_version_is_refused_by_its_version() {
    let platform = small();
    let old = platform.application().join("old");
    std::fs::create_dir(&old).unwrap();
    engine(&old, "postgres", "postgres (PostgreSQL) 13.16");
    engine(&old, "initdb", "initdb (PostgreSQL) 13.16");
    engine(
        &old,
        "redis-server",
        "Redis server v=6.2.14 sha=00000000:0 malloc=jemalloc-5.2.1 bits=64 build=0",
    );
    for (variable, version, needed) in [
        ("ASTRALER_POSTGRES_BIN", "13.16", "PostgreSQL 14 to 18"),
        ("ASTRALER_REDIS_BIN", "6.2.14", "Redis 7"),
    ] {
        let output = platform
            .command(&["up", "--port", &platform.port.to_string()])
            .env(variable, &old)
            .output()
            .unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(4), "{err}");
        assert!(err.contains(version), "it says what it found: {err}");
        assert!(err.contains(needed), "and what it needs: {err}");
        assert!(err.contains("apt-get install"), "{err}");
    }
    assert_eq!(platform.processes(), []);
}

#[test]
fn data_of_another_postgresql_is_not_touched() {
    let platform = small();
    platform.up(&[]).unwrap().ok();
    platform.run(&["down"]).unwrap().ok();
    let record = platform.state().join("postgres/shared.version");
    std::io::Write::write_all(&mut std::fs::File::create(&record).unwrap(), b"14").unwrap();
    let failed = platform.up(&[]).unwrap().failed_with(1);
    assert!(failed.err.contains("no PostgreSQL 14 "), "{}", failed.err);
    std::fs::remove_file(&record).unwrap();
    platform.up(&[]).unwrap().ok();
}
