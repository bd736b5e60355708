//! Production as people use it: the load of the requirement alerts nobody, rules that break are heard within seconds,
//! and a bad deployment is gone back from.

use crate::sink::{Sink, give, http};
use crate::support::{PROGRAM, eventually, kill};
use astraler_testkit::{API_WORKER, Platform, small_application};
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const HOST: &str = "app.localhost";
/// The figure: from the second of the breach to the sink.
const HEARD_WITHIN: Duration = Duration::from_secs(15);

const WORKER: &str = "workers/api/index.js";

/// The small application's worker, with a path that fails.
fn worker() -> String {
    let first = r#"if (pathname === "/api/count")"#;
    let fails = format!(
        r#"if (pathname === "/api/fail") return new Response("no", {{ status: 503 }});
    {first}"#
    );
    API_WORKER.replacen(first, &fails, 1)
}

fn write(path: &Path, text: &str) {
    let mut file = std::fs::File::create(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// For docs/benchmarks.md, with `--nocapture`.
#[expect(clippy::print_stderr, reason = "a figure that a person asked for")]
fn figure(text: &str) {
    eprintln!("{text}");
}

fn ask(platform: &Platform, path: &str) -> u16 {
    platform.request("GET", HOST, path, b"").unwrap().status
}

fn json(platform: &Platform, words: &str) -> Value {
    let words: Vec<&str> = words.split(' ').collect();
    platform.run(&words).unwrap().ok().json()
}

#[test]
fn production_alerts_nobody_until_something_is_wrong_and_goes_back_from_a_bad_deployment() {
    let sink = Sink::new(http);
    sink.away.store(false, Ordering::SeqCst);
    let platform = Platform::new(PROGRAM, |folder| {
        small_application(folder)?;
        let manifest = folder.join("astraler.toml");
        let text = std::fs::read_to_string(&manifest)?;
        let more = format!(
            r#"
[environments.production]
watch_minutes = 3

[alerts]
error_rate_percent = 2.0
p95_ms = 700
uptime_percent = 99.0
connections_percent = 70

[alerts.pagerduty]
url = "http://127.0.0.1:{}/v2/enqueue"
"#,
            sink.port
        );
        write(&manifest, &(text + &more));
        write(&folder.join(WORKER), &worker());
        Ok(())
    })
    .unwrap();
    platform.up(&["--env", "production"]).unwrap().ok();
    give(
        &platform,
        "PAGERDUTY_ROUTING_KEY",
        "0123456789abcdef0123456789abcdef",
    );
    give(
        &platform,
        "SLACK_WEBHOOK_URL",
        &format!("http://127.0.0.1:{}/services/hook", sink.port),
    );
    thresholds(&platform);
    present_load(&platform);
    assert_eq!(json(&platform, "alerts list --json")["alerts"], json!([]));
    assert_eq!(sink.heard("event_action"), 0);
    breach(&platform, &sink);
    slow(&platform);
    bad_deployment(&platform, &sink);
    platform.run(&["down"]).unwrap().ok();
}

/// The manifest's figures are those of the rules.
fn thresholds(platform: &Platform) {
    let report = json(platform, "alerts list --json");
    let levels = |name: &str| {
        let rules = report["rules"].as_array().unwrap();
        rules.iter().find(|rule| rule["name"] == name).unwrap()["levels"].clone()
    };
    let percent = |name: &str, index: usize| levels(name)[index]["percent"].as_f64().unwrap();
    assert_eq!((percent("errors", 0), percent("errors", 1)), (2.0, 20.0));
    assert_eq!(
        levels("slow")[0]["metric"],
        json!({ "slower_than": { "ms": 700 } })
    );
    // 1 % may be down: six times as fast as it may be used up, and 14.4 times.
    assert_eq!((percent("uptime", 1), percent("uptime", 2)), (6.0, 14.4));
    let pool = |index: usize| levels("connections")[index]["metric"]["connections_over"]["percent"].clone();
    assert_eq!((pool(0), pool(1)), (json!(70), json!(85)));
}

/// 100 users, 50 requests a second, for half a minute.
fn present_load(platform: &Platform) {
    const USERS: usize = 100;
    const REQUESTS: usize = 15;
    let failed = AtomicUsize::new(0);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for user in 0..USERS {
            let failed = &failed;
            scope.spawn(move || {
                for number in 0..REQUESTS {
                    let due = Duration::from_millis(20 * (user + number * USERS) as u64);
                    #[expect(clippy::disallowed_methods, reason = "a user's thread may wait")]
                    std::thread::sleep(due.saturating_sub(began.elapsed()));
                    let path = ["/", "/api/health", "/api/count"][(user + number) % 3];
                    if ask(platform, path) >= 500 {
                        failed.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    assert_eq!(failed.load(Ordering::SeqCst), 0);
    figure(&format!(
        "{} requests in {:?}, none failed",
        USERS * REQUESTS,
        began.elapsed()
    ));
    // What is counted last is looked at too.
    let counted = || json(platform, "metrics --env production --since 10m --json")[0]["requests"].as_u64();
    eventually("all are counted", Duration::from_secs(10), || {
        counted().is_some_and(|requests| requests >= (USERS * REQUESTS) as u64)
    });
}

/// More than 2 % of the requests of 5 minutes and of the hour fail.
fn breach(platform: &Platform, sink: &Sink) {
    for _ in 0..60 {
        assert_eq!(ask(platform, "/api/fail"), 503);
    }
    let began = Instant::now();
    eventually("the rule is heard of", HEARD_WITHIN, || sink.heard("[HIGH]") > 0);
    let (heard, said) = sink.first("[HIGH]").unwrap();
    assert!(said.contains("(alerts at &gt; 2 %)"), "{said}");
    figure(&format!("high: heard {:?} after the breach", heard - began));
}

/// More than 5 % of the requests take longer than the manifest's 700 ms.
fn slow(platform: &Platform) {
    std::thread::scope(|scope| {
        for _ in 0..120 {
            scope.spawn(|| assert_eq!(ask(platform, "/api/slow?ms=710"), 200));
        }
    });
    let fires = || {
        let report = json(platform, "alerts list --json");
        let mut open = report["alerts"].as_array().unwrap().iter();
        open.any(|alert| alert["key"]["rule"] == "slow" && alert["summary"].to_string().contains("700 ms"))
    };
    eventually("it is slow", HEARD_WITHIN, fires);
}

/// A deployment of which half the requests fail, with a daemon that is killed on the way back from it.
fn bad_deployment(platform: &Platform, sink: &Sink) {
    let live = |platform: &Platform| json(platform, "status --json")["environments"][0].clone();
    let before = live(platform);
    assert_eq!(before["deployment"], "d-1");
    let broken = worker().replacen(
        r#"if (pathname === "/api/count")"#,
        r#"if (pathname === "/api/count") throw new Error("broken");
    if (pathname === "/api/counted")"#,
        1,
    );
    write(&platform.application().join(WORKER), &broken);
    let deploy = ["deploy", "--env", "production", "--wait"];
    platform.run(&deploy).unwrap().ok();
    let watched = live(platform);
    assert_eq!(watched["deployment"], "d-2");
    assert!(
        watched["watch"].as_str().unwrap().starts_with("watched for"),
        "{watched}"
    );

    let began = Instant::now();
    for _ in 0..10 {
        assert_eq!(ask(platform, "/api/count"), 500);
        assert_eq!(ask(platform, "/api/health"), 200);
    }
    let all = || json(platform, "deployments --env production --json");
    let bad = |all: &Value| {
        let all = all.as_array().unwrap();
        all.iter()
            .find(|one| one["id"] == "d-2")
            .is_some_and(|one| one["bad"].is_string())
    };
    eventually("the verdict", HEARD_WITHIN, || bad(&all()));
    // In the middle of the way back, wherever that is.
    kill(platform.pid("daemon").unwrap().unwrap());
    eventually("production is well again", Duration::from_secs(30), || {
        ask(platform, "/api/count") == 200
    });
    figure(&format!(
        "rolled back after {:?}, with a killed daemon",
        began.elapsed()
    ));
    eventually("people are told", Duration::from_secs(30), || {
        sink.heard("\"event_action\":\"trigger\"") > 0 && sink.heard("deployment d-2") > 1
    });
    let (heard, said) = sink.first("\"event_action\":\"trigger\"").unwrap();
    figure(&format!(
        "critical: heard {:?} after the first failure",
        heard - began
    ));
    for words in [
        "[CRITICAL] production: deployment d-2",
        "answers 10 of 20 requests",
        "d-1 before it answered 60 of",
        "rolled back: d-",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }

    let after = live(platform);
    assert_eq!(after["release"], before["release"]);
    let words = after["watch"].as_str().unwrap();
    assert!(words.starts_with("rolled back by itself: d-2"), "{words}");
    let list = all();
    let newest = &list[0];
    assert_eq!(newest["id"], after["deployment"]);
    assert_eq!(
        (&newest["action"], &newest["from"], &newest["actor"]),
        (&json!("rollback"), &json!("d-2"), &json!("daemon"))
    );
    let audit = platform
        .run(&["audit", "list", "-n", "20", "--json"])
        .unwrap()
        .ok()
        .out;
    assert!(audit.contains("\"deployment condemned\""), "{audit}");

    // Going back is not gone back from, however it goes.
    for _ in 0..40 {
        assert_eq!(ask(platform, "/api/fail"), 503);
    }
    let count = list.as_array().unwrap().len();
    let looked = Instant::now();
    eventually("some looks", Duration::from_secs(10), || {
        looked.elapsed() > Duration::from_secs(6)
    });
    assert_eq!(all().as_array().unwrap().len(), count);
    assert_eq!(
        sink.heard("[CRITICAL] production: deployment d-2"),
        2,
        "once each"
    );
}
