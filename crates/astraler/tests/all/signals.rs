//! Records of what happened, on a running platform.

use crate::support::{PROGRAM, eventually, kill};
use astraler_testkit::{API_WORKER, Platform, small_application};
use serde_json::Value;
use std::time::Duration;

const SIGNALS: &str = "
[signals]
access_retention_days = 5
application_retention_days = 20
error_retention_days = 30
max_bytes = 100000000
";

/// The small application, with a worker that complains and fails.
fn loud() -> Platform {
    Platform::new(PROGRAM, |folder| {
        small_application(folder)?;
        let first = r#"if (pathname === "/api/count")"#;
        let loud = format!(
            r#"if (pathname === "/api/shout") {{ console.error("it hurts"); return new Response("shouted"); }}
    if (pathname === "/api/throw") tooFar(7);
    {first}"#
        );
        let worker = API_WORKER.replacen(first, &loud, 1);
        assert_ne!(worker, API_WORKER);
        let worker =
            format!("{worker}\nfunction tooFar(by) {{\n  throw new RangeError(`too far by ${{by}}`);\n}}\n");
        let mut file = std::fs::File::create(folder.join("workers/api/index.js"))?;
        std::io::Write::write_all(&mut file, worker.as_bytes())?;
        let mut manifest = std::fs::OpenOptions::new()
            .append(true)
            .open(folder.join("astraler.toml"))?;
        std::io::Write::write_all(&mut manifest, SIGNALS.as_bytes())
    })
    .unwrap()
}

/// One JSON object a line.
fn records(platform: &Platform, arguments: &[&str]) -> Vec<Value> {
    let mut words = vec!["logs", "--json"];
    words.extend(arguments);
    let out = platform.run(&words).unwrap().ok().out;
    out.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn what_happened_is_found_while_its_keeper_comes_and_goes() {
    let platform = loud();
    platform.up(&[]).unwrap().ok();
    for number in 0..20 {
        assert_eq!(
            platform.get(&format!("/api/nowhere/{number}")).unwrap().status,
            404
        );
    }
    let wanted = [
        "--env",
        "development",
        "--since",
        "5m",
        "--where",
        r#"status=404 and path~"/api/nowhere""#,
    ];
    eventually("all requests are found", Duration::from_secs(5), || {
        records(&platform, &wanted).len() == 20
    });
    let found = records(&platform, &wanted);
    assert_eq!(found[0]["path"], "/api/nowhere/0");
    assert_eq!(found[0]["environment"], "development");
    assert_eq!(found[0]["route"], "worker:api");
    let id = found[7]["request_id"].as_str().unwrap();
    let one = records(&platform, &["--where", &format!("id={id}")]);
    assert_eq!(one, [found[7].clone()]);
    assert_eq!(records(&platform, &["--grep", "nowhere/13"]).len(), 1);
    assert_eq!(records(&platform, &["--env", "production"]), Vec::<Value>::new());

    // Nobody waits for the keeper: requests are served without it, and nothing is missing afterwards.
    let old = platform.pid("signal").unwrap().unwrap();
    kill(old);
    assert_eq!(platform.get("/api/nowhere/20").unwrap().status, 404);
    eventually("a new keeper", Duration::from_secs(20), || {
        platform
            .pid("signal")
            .is_ok_and(|new| new.is_some_and(|new| new != old))
    });
    eventually(
        "the request of that time is found",
        Duration::from_secs(5),
        || records(&platform, &wanted).len() == 21,
    );

    platform.get("/api/shout").unwrap();
    for stream in ["app", "error"] {
        eventually(stream, Duration::from_secs(5), || {
            let found = records(&platform, &["--stream", stream, "--where", "message~hurts"]);
            found.len() == 1
                && found[0]["environment"] == "development"
                && found[0]["deployment"] == "d-1"
                && found[0]["level"] == "error"
        });
    }
    numbers(&platform);
    exceptions(&platform);

    let audit = records(&platform, &["--stream", "audit", "--since", "5m"]);
    assert!(audit.iter().any(|entry| entry["action"] == "up"), "{audit:?}");

    let minutes = platform
        .run(&["logs", "--since", "10m", "--by-minute"])
        .unwrap()
        .ok()
        .out;
    assert!(minutes.contains("p95"), "{minutes}");
    let wrong = platform
        .run(&["logs", "--where", "status>=many"])
        .unwrap()
        .failed_with(1);
    assert!(
        wrong.err.contains("status is a number, at character 9"),
        "{}",
        wrong.err
    );

    // Nor does a question need the platform.
    platform.run(&["down"]).unwrap().ok();
    assert_eq!(records(&platform, &wanted).len(), 21);
    retention(&platform);
}

/// Days of which nothing may be left, and days that stay, by what the manifest says and not by the defaults.
fn retention(platform: &Platform) {
    let day = |stream: &str, ago: i64| {
        let time = jiff::Timestamp::now() - jiff::Span::new().hours(24 * ago);
        let folder = platform.state().join("signal").join(stream);
        folder.join(time.strftime("%Y-%m-%d").to_string())
    };
    let gone = [day("access", 7), day("application", 22), day("error", 32)];
    let stay = [day("access", 4), day("application", 10), day("error", 20)];
    for folder in gone.iter().chain(&stay) {
        std::fs::create_dir(folder).unwrap();
    }
    platform.up(&[]).unwrap().ok();
    eventually("old days go", Duration::from_secs(10), || {
        gone.iter().all(|folder| !folder.exists())
    });
    assert!(stay.iter().all(|folder| folder.exists()));
    let text = platform.runtime();
    let snapshot = std::fs::read_dir(&text)
        .unwrap()
        .flatten()
        .map(|entry| entry.path().join("snapshots/signal.json"))
        .chain([text.join("snapshots/signal.json")])
        .find_map(|path| std::fs::read(path).ok())
        .unwrap();
    let snapshot: Value = serde_json::from_slice(&snapshot).unwrap();
    assert_eq!(snapshot["max_bytes"], 100_000_000);
}

fn numbers(platform: &Platform) {
    let development = || {
        let found = platform
            .run(&["metrics", "--env", "development", "--json"])
            .unwrap()
            .ok()
            .json();
        found[0].clone()
    };
    eventually("requests are counted", Duration::from_secs(10), || {
        development()["client_errors"].as_u64() == Some(21)
    });
    eventually("it is asked whether it is up", Duration::from_secs(30), || {
        let found = development();
        found["up"] == true
            && found["uptime_percent"].as_f64() == Some(100.0)
            && found["connections"]["limit"].as_u64() > Some(0)
    });
    let found = development();
    assert_eq!(found["errors"].as_u64(), Some(0));
    assert!(found["p95_us"].as_u64() > Some(0), "{found}");
    let table = platform.run(&["metrics"]).unwrap().ok().out;
    assert!(
        table.contains("development") && table.contains("100.00 %"),
        "{table}"
    );

    let token = platform
        .run(&["token", "create", "scraper", "--scope", "read"])
        .unwrap()
        .ok()
        .out;
    let token = token
        .split_whitespace()
        .find(|word| word.starts_with("ast_"))
        .unwrap()
        .to_owned();
    assert_eq!(platform.api("GET", "/metrics", None, b"").unwrap().status, 401);
    let answer = platform.api("GET", "/metrics", Some(&token), b"").unwrap();
    assert_eq!(answer.status, 200);
    let text = String::from_utf8(answer.body).unwrap();
    let sample =
        r#"astraler_requests_total{environment="development",route="worker:api",outcome="client_error"} 21"#;
    assert!(text.contains(sample), "{text}");
    assert!(text.contains("astraler_edge_dropped_records_total 0"), "{text}");
}

fn exceptions(platform: &Platform) {
    for _ in 0..2 {
        assert_eq!(platform.get("/api/throw").unwrap().status, 500);
    }
    let list = || platform.run(&["errors", "list", "--json"]).unwrap().ok().json();
    eventually("the exception is a group", Duration::from_secs(10), || {
        list()[0]["count"].as_u64() == Some(2)
    });
    let group = list()[0].clone();
    assert_eq!(group["name"], "RangeError");
    assert_eq!(group["message"], "too far by 7");
    assert_eq!(group["worker"], "api");
    let id = group["id"].as_str().unwrap();
    let shown = platform.run(&["errors", "show", &id[..6]]).unwrap().ok().out;
    // The line of the source, not of the bundle.
    let source = std::fs::read_to_string(platform.application().join("workers/api/index.js")).unwrap();
    let line = source
        .lines()
        .position(|line| line.contains("new RangeError"))
        .unwrap()
        + 1;
    assert!(shown.contains(&format!("at tooFar (index.js:{line}:")), "{shown}");
    // Joined to its request.
    assert!(
        shown.contains("development 500 GET localhost/api/throw"),
        "{shown}"
    );
    platform
        .run(&["errors", "show", "nothing"])
        .unwrap()
        .failed_with(1);
}
