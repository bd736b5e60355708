use crate::lines::{NOON, Place, access, append};
use astraler_signal::{Asked, Metrics, PROBE_AGENT};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const HOUR: i64 = 3_600_000;

fn open(place: &Place) -> Metrics {
    fs::create_dir_all(place.store()).unwrap();
    Metrics::open(&place.store(), &place.logs()).unwrap()
}

#[test]
fn each_request_counts_once_whoever_is_killed() {
    let place = Place::new();
    let mut metrics = open(&place);
    place.requests(0..90);
    metrics.tick().unwrap();
    place.requests(90..100);
    drop(metrics);
    let mut metrics = open(&place);
    place.rotate();
    place.requests(100..120);
    metrics.tick().unwrap();
    metrics.tick().unwrap();
    let found = metrics.summary(None, NOON - HOUR, NOON + HOUR).unwrap();
    let names: Vec<&str> = found.iter().map(|one| one.environment.as_str()).collect();
    assert_eq!(names, ["production", "staging"]);
    assert_eq!((found[0].requests, found[0].errors), (80, 8));
    assert_eq!((found[1].requests, found[1].errors), (40, 4));
    assert_eq!(found[0].error_percent, Some(10.0));
    assert_eq!(
        (found[0].slow, found[0].up, found[0].connections),
        (0, None, None)
    );
    let p95 = found[0].p95_us.unwrap();
    assert!((1_040..1_190).contains(&p95), "{p95}");
    let minute = metrics
        .summary(Some("staging"), NOON + 60_000, NOON + 120_000)
        .unwrap();
    assert_eq!((minute.len(), minute[0].requests), (1, 20));
}

#[test]
fn probes_and_connections_are_states_and_what_is_nobodys_request_does_not_count() {
    let place = Place::new();
    let mut metrics = open(&place);
    let line = access(1).replace("curl/8", PROBE_AGENT);
    append(
        &place.access_log(),
        &(line.replace("192.0.2.7", "127.0.0.1") + "\n"),
    );
    // A stranger under its name counts.
    append(&place.access_log(), &(line + "\n"));
    // What an operator has closed does not fail.
    let closed = access(1).replace("\"error\":null", "\"error\":\"maintenance\"");
    append(&place.access_log(), &(closed + "\n"));
    for second in 0..30_u32 {
        metrics.probed("production", NOON + i64::from(second) * 10_000, second < 27);
    }
    metrics.connected("production", NOON, 17, 20);
    metrics.connected("production", NOON + 10_000, 3, 20);
    metrics.tick().unwrap();
    let found = metrics.summary(None, NOON - HOUR, NOON + HOUR).unwrap();
    let one = &found[0];
    assert_eq!(
        (one.requests, one.probes, one.probes_up, one.up),
        (1, 30, 27, Some(false))
    );
    assert_eq!(one.uptime_percent, Some(90.0));
    let connections = one.connections.unwrap();
    assert_eq!(
        (connections.active, connections.most, connections.limit),
        (3, 17, 20)
    );
    metrics.probed("production", NOON, true);
    assert!(!metrics.in_doubt("production"));
}

#[test]
fn windows_count_deployments_and_the_time_that_looks_stand_for() {
    let place = Place::new();
    let mut metrics = open(&place);
    // 120 seconds: requests 0 to 119, two of three of production; then another deployment, which is slow and fails.
    place.requests(0..120);
    for number in [121, 122, 124] {
        let line = access(number).replace("\"d-1\"", "\"d-2\"");
        let line = line.replace("\"status\":200", "\"status\":500");
        let taken = format!("\"duration_us\":{}", 1_000 + number);
        append(
            &place.access_log(),
            &(line.replace(&taken, "\"duration_us\":250001") + "\n"),
        );
    }
    metrics.slow_from(250);
    metrics.tick().unwrap();
    let ask = |metrics: &Metrics, deployment: Option<&str>, until: i64| {
        let asked = Asked {
            environment: "production".into(),
            deployment: deployment.map(str::to_owned),
            seconds: vec![60, 3_600],
            until_ms: NOON + until,
        };
        metrics.windows(&asked).unwrap()
    };
    let found = ask(&metrics, None, 125_000);
    assert_eq!((found[0].seconds, found[1].seconds), (60, 3_600));
    assert_eq!((found[1].requests, found[1].errors, found[1].slow), (83, 11, 3));
    assert_eq!(
        (found[0].requests, found[0].errors),
        (43, 7),
        "the minute in which it begins is in it"
    );
    let new = &ask(&metrics, Some("d-2"), 125_000)[1];
    assert_eq!((new.requests, new.errors, new.slow), (3, 3, 3));
    // The one before, up to the switch.
    let old = &ask(&metrics, Some("d-1"), 120_000)[1];
    assert_eq!((old.requests, old.errors, old.slow), (80, 8, 0));

    // Looks: a probe stands for the time since the one before; one that nobody made for none.
    for (second, up) in [(0, true), (10, true), (20, false), (25, false), (500, true)] {
        metrics.probed("production", NOON + second * 1_000, up);
        metrics.connected("production", NOON + second * 1_000, 17 - u64::from(up), 20);
    }
    metrics.tick().unwrap();
    metrics.tick().unwrap();
    drop(metrics);
    let found = ask(&open(&place), None, 500_001);
    assert_eq!((found[1].up_s, found[1].down_s), (5 + 10 + 15, 10 + 5));
    assert_eq!((found[1].pool_s, found[1].pool_least_permille), (45, 800));
    assert_eq!((found[0].up_s, found[0].requests), (15, 0));
    let none = &ask(&open(&place), None, -1)[1];
    assert_eq!((none.up_s, none.pool_s, none.pool_least_permille), (0, 0, 0));
}

#[test]
fn minutes_become_hours_and_nothing_is_lost_by_it() {
    let place = Place::new();
    let mut metrics = open(&place);
    place.requests(0..600);
    metrics.probed("production", NOON, true);
    metrics.tick().unwrap();
    let before = metrics.summary(None, NOON - HOUR, NOON + HOUR).unwrap();
    metrics.forget(NOON + 80 * HOUR).unwrap();
    metrics.forget(NOON + 80 * HOUR).unwrap();
    assert_eq!(metrics.summary(None, NOON - HOUR, NOON + HOUR).unwrap(), before);
    // The clock jumps three months ahead.
    metrics.forget(NOON + 100 * 24 * HOUR).unwrap();
    assert_eq!(metrics.summary(None, NOON - HOUR, NOON + HOUR).unwrap(), []);
}

#[test]
fn the_number_of_names_is_bounded() {
    let place = Place::new();
    let mut metrics = open(&place);
    for number in 0..200 {
        let line = access(1)
            .replace("worker:api", &format!("worker:{number}"))
            .replace("production", &format!("pr-{}", number % 100));
        append(&place.access_log(), &(line + "\n"));
    }
    for number in 0..200 {
        let line = access(1).replace("worker:api", &format!("worker:{number}"));
        append(&place.access_log(), &(line + "\n"));
    }
    metrics.tick().unwrap();
    let found = metrics.summary(None, NOON - HOUR, NOON + HOUR).unwrap();
    assert_eq!(found.len(), 65, "64 and `other`");
    assert_eq!(found.iter().map(|one| one.requests).sum::<u64>(), 400);
    let text = metrics.exposition().unwrap();
    assert!(text.lines().count() < 64 * 60 * 17, "{}", text.lines().count());
    assert!(text.contains("environment=\"other\",route=\"other\""));
}

/// The parser of PyPI's `prometheus-client`, which is the Prometheus project's own.
#[test]
fn prometheus_own_parser_reads_the_numbers() {
    let place = Place::new();
    let mut metrics = open(&place);
    place.requests(0..100);
    append(
        &place.access_log(),
        &(access(1).replace("worker:api", "worker:a\\\"\\\\b") + "\n"),
    );
    metrics.probed("production", NOON, true);
    metrics.connected("production", NOON, 2, 20);
    metrics.tick().unwrap();
    let file = place.store().join("metrics.txt");
    fs::write(&file, metrics.exposition().unwrap()).unwrap();
    let out = Command::new("python3")
        .arg("-B")
        .arg(scripts().join("read.py"))
        .arg(&file)
        .env("PYTHONPATH", installed())
        .output()
        .expect("python3 is needed for this test: scripts/setup.sh installs it");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/prometheus")
}

/// A folder with the parser, installed once for each list of requirements.
fn installed() -> PathBuf {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools");
    fs::create_dir_all(&tools).unwrap();
    let folder = std::path::absolute(tools).unwrap().join("prometheus");
    let lock = fs::File::create(folder.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    let requirements = scripts().join("requirements.txt");
    let done = folder.join("installed.txt");
    if fs::read(&done).ok() == fs::read(&requirements).ok() {
        return folder;
    }
    if folder.exists() {
        fs::remove_dir_all(&folder).unwrap();
    }
    let install = Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"])
        .args(["--only-binary=:all:", "--no-compile", "--target"])
        .arg(&folder)
        .arg("--requirement")
        .arg(&requirements)
        .output()
        .unwrap();
    assert!(
        install.status.success(),
        "{}",
        String::from_utf8_lossy(&install.stderr)
    );
    fs::copy(requirements, done).unwrap();
    folder
}
