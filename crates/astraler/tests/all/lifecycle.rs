//! `up`, serve, `up` again, survive the death of any process, `down`.

use crate::support::{eventually, kill, small};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

#[test]
fn up_serves_every_layer_and_a_second_up_changes_nothing() {
    let platform = small();
    let first = platform.up(&[]).unwrap().ok();
    assert!(first.out.contains("up in"), "{}", first.out);

    let page = platform.get("/").unwrap();
    assert_eq!(page.status, 200);
    assert!(page.text().contains("<h1>small</h1>"));
    let health = platform.get("/api/health").unwrap();
    assert_eq!(
        health.json(),
        serde_json::json!({ "ok": true, "environment": "development", "greeting": "hello development" })
    );
    assert_eq!(
        platform.get("/api/count").unwrap().json()["count"],
        1,
        "Redis counts"
    );
    assert_eq!(platform.get("/api/count").unwrap().json()["count"], 2);
    let file = vec![7_u8; 300_000];
    assert_eq!(
        platform
            .request("PUT", "localhost", "/api/files/a", &file)
            .unwrap()
            .status,
        204
    );
    assert_eq!(
        platform.get("/api/files/a").unwrap().body,
        file,
        "object storage gives back what it got"
    );
    assert_eq!(platform.get("/api/files/b").unwrap().status, 404);
    let private = platform.get("/api/private").unwrap();
    assert!(
        private.text().contains("not a public address"),
        "workers cannot reach this machine: {}",
        private.text()
    );
    assert_eq!(
        platform
            .request("GET", "unknown.example", "/", b"")
            .unwrap()
            .status,
        421
    );

    let pids = |platform: &astraler_testkit::Platform| {
        let status = platform.run(&["status", "--json"]).unwrap().ok().json();
        let parts = status["parts"].as_array().cloned().unwrap();
        parts
            .iter()
            .map(|part| (part["name"].clone(), part["pid"].clone()))
            .collect::<Vec<_>>()
    };
    let before = pids(&platform);
    let second = platform.up(&[]).unwrap().ok();
    assert!(second.out.contains("nothing to change"), "{}", second.out);
    assert_eq!(pids(&platform), before, "no process was restarted");

    platform.run(&["down"]).unwrap().ok();
    assert_eq!(platform.processes(), [], "no process stays");
    assert_eq!(
        platform.sockets(),
        Vec::<std::path::PathBuf>::new(),
        "no socket stays"
    );

    platform.up(&[]).unwrap().ok();
    assert_eq!(
        platform.get("/api/count").unwrap().json()["count"],
        3,
        "Redis remembers"
    );
    assert_eq!(
        platform.get("/api/files/a").unwrap().body,
        file,
        "object storage remembers"
    );
}

#[test]
fn another_port_is_taken_at_once_and_kept() {
    let mut platform = small();
    platform.up(&[]).unwrap().ok();
    let engine = platform.pid("postgres-shared").unwrap();
    platform.port += 1;
    platform.up(&[]).unwrap().ok();
    let again = platform.run(&["up"]).unwrap().ok();
    assert!(
        again.out.contains(&format!("localhost:{}", platform.port)),
        "{}",
        again.out
    );
    assert_eq!(platform.get("/api/health").unwrap().status, 200);
    assert_eq!(
        platform.pid("postgres-shared").unwrap(),
        engine,
        "no engine was restarted"
    );
    platform.port -= 1;
    assert!(platform.get("/").is_err(), "the first port is given up");
}

#[test]
fn environments_have_data_of_their_own() {
    let platform = small();
    platform
        .up(&[
            "--env",
            "development",
            "--env",
            "staging",
            "--env",
            "production",
            "--env",
            "pr-7",
        ])
        .unwrap()
        .ok();
    for (host, environment) in [
        ("localhost", "development"),
        ("staging.localhost", "staging"),
        ("app.localhost", "production"),
        ("pr-7.preview.localhost", "pr-7"),
        ("app.small.example", "production"),
    ] {
        let health = platform.request("GET", host, "/api/health", b"").unwrap();
        assert_eq!(health.json()["environment"], environment, "{host}");
    }
    for host in [
        "localhost",
        "staging.localhost",
        "app.localhost",
        "pr-7.preview.localhost",
    ] {
        let count = platform.request("GET", host, "/api/count", b"").unwrap();
        assert_eq!(count.json()["count"], 1, "{host} has a Redis of its own");
        let name = host.as_bytes();
        assert_eq!(
            platform
                .request("PUT", host, "/api/files/name", name)
                .unwrap()
                .status,
            204
        );
    }
    for host in [
        "localhost",
        "staging.localhost",
        "app.localhost",
        "pr-7.preview.localhost",
    ] {
        let file = platform.request("GET", host, "/api/files/name", b"").unwrap();
        assert_eq!(file.text(), host, "{host} has a bucket of its own");
    }
    let shown = platform
        .run(&["env", "show", "production", "--json"])
        .unwrap()
        .ok()
        .json();
    assert_eq!(shown["environment"], "production");
    assert!(
        shown["endpoints"]["postgres"]
            .as_str()
            .unwrap()
            .starts_with("postgresql://production_service@127.0.0.1:")
    );
    for (name, reference) in shown["credentials"].as_object().unwrap() {
        assert_eq!(
            reference,
            &serde_json::json!(format!("astraler env credential production {name}")),
            "references only"
        );
        let credential = platform
            .run(&["env", "credential", "production", name])
            .unwrap()
            .ok();
        assert!(
            !shown.to_string().contains(credential.out.trim()),
            "{name} itself is not shown"
        );
    }
}

#[test]
fn killing_any_process_of_ours_loses_no_other_request() {
    let platform = Arc::new(small());
    platform.up(&[]).unwrap().ok();
    let stop = Arc::new(AtomicBool::new(false));
    let failed = Arc::new(AtomicU64::new(0));
    let served = Arc::new(AtomicU64::new(0));
    let load = {
        let (platform, stop, failed, served) = (
            Arc::clone(&platform),
            Arc::clone(&stop),
            Arc::clone(&failed),
            Arc::clone(&served),
        );
        std::thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                match platform.get("/api/health") {
                    Ok(answer) if answer.status == 200 => served.fetch_add(1, Ordering::SeqCst),
                    _ => failed.fetch_add(1, Ordering::SeqCst),
                };
            }
        })
    };
    let worker = "workers-development-d-1";
    let engines = ["postgres-shared", "redis-development", worker];
    let pid = |unit: &str| {
        platform
            .pid(unit)
            .unwrap()
            .unwrap_or_else(|| panic!("{unit} does not run"))
    };
    let engine_pids = engines.map(pid);
    let mut allowed = 0;
    for unit in ["daemon", "data", "egress", "edge"] {
        let old = pid(unit);
        let before = failed.load(Ordering::SeqCst);
        kill(old);
        eventually(&format!("a new {unit}"), Duration::from_secs(20), || {
            platform
                .pid(unit)
                .is_ok_and(|new| new.is_some_and(|new| new != old))
        });
        eventually("health", Duration::from_secs(10), || {
            platform
                .get("/api/health")
                .is_ok_and(|answer| answer.status == 200)
        });
        let lost = failed.load(Ordering::SeqCst) - before;
        // The edge was answering at most the one request of the one client.
        let own = u64::from(unit == "edge");
        assert!(lost <= own, "{unit}: {lost} requests were lost");
        allowed += own;
    }
    // `keep` itself: its standby takes over, nothing is restarted.
    let keep = platform
        .processes()
        .into_iter()
        .find(|(_, command)| command.contains(" keep --installation"))
        .unwrap()
        .0;
    kill(keep);
    eventually("a new keep", Duration::from_secs(10), || {
        platform.pid("edge").is_ok_and(|pid| pid.is_some())
    });
    assert_eq!(engines.map(pid), engine_pids, "no healthy engine was restarted");
    stop.store(true, Ordering::SeqCst);
    load.join().unwrap();
    assert!(failed.load(Ordering::SeqCst) <= allowed);
    assert!(served.load(Ordering::SeqCst) > 50, "the load was a load");
    let second = platform.up(&[]).unwrap().ok();
    assert!(second.out.contains("nothing to change"), "{}", second.out);
    platform.run(&["audit", "verify"]).unwrap().ok();
}
