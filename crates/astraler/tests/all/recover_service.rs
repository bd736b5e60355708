//! A service that is not as it should be, brought back with one command: what does not run is started, what does not answer
//! gives way to the last good release.

use crate::support::{eventually, small};
use astraler_host::keep::Client;
use astraler_host::supervisor::Supervisor;
use astraler_model::UnitName;
use astraler_testkit::{API_WORKER, Platform};
use serde_json::Value;
use std::io::Write;
use std::time::Duration;

fn recover(platform: &Platform, more: &[&str]) -> astraler_testkit::Finished {
    let mut all = vec!["recover", "service", "--env", "development"];
    all.extend(more);
    platform.run(&all).unwrap()
}

fn write(platform: &Platform, path: &str, text: &str) {
    let mut file = std::fs::File::create(platform.application().join(path)).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// Stops a unit as nothing but its supervisor can; it stays stopped until somebody starts it.
fn stop(platform: &Platform, unit: &str) {
    let record = std::fs::read(platform.state().join("installation.json")).unwrap();
    let record: Value = serde_json::from_slice(&record).unwrap();
    let socket = std::path::Path::new(record["layout"]["runtime"].as_str().unwrap()).join("keep.sock");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let name = UnitName::new(unit).unwrap();
    runtime.block_on(Client::new(socket).stop(&name)).unwrap();
}

fn live(platform: &Platform) -> Value {
    let all = platform.run(&["deployments", "--json"]).unwrap().ok().json();
    let all = all.as_array().cloned().unwrap();
    all.into_iter().find(|one| one["state"] == "live").unwrap()
}

#[test]
fn what_does_not_run_is_started_and_what_does_not_answer_is_gone_back_from() {
    let platform = small();
    let manifest = std::fs::read_to_string(platform.application().join("astraler.toml")).unwrap();
    let deploy = "[deploy]\nhealth_path = \"/api/health\"\nhealth_timeout_ms = 1500\ndrain_ms = 500\n";
    write(&platform, "astraler.toml", &format!("{manifest}\n{deploy}"));
    platform.up(&[]).unwrap().ok();
    let good = live(&platform);

    let nothing = recover(&platform, &["--dry-run"]).ok();
    assert!(nothing.out.contains("nothing would be done"), "{}", nothing.out);
    let nothing = recover(&platform, &[]).ok();
    assert!(nothing.out.contains("nothing to do"), "{}", nothing.out);
    let refused = platform
        .run(&["recover", "service", "--env", "staging"])
        .unwrap()
        .failed_with(1);
    assert!(refused.err.contains("is not deployed here"), "{}", refused.err);

    // The daemon looks every half minute too: it may have been there first.
    eventually("a stopped engine is seen", Duration::from_secs(20), || {
        stop(&platform, "redis-development");
        let told = recover(&platform, &["--dry-run"]).ok();
        told.out
            .contains("redis-development does not run: would start it anew")
    });
    let done = recover(&platform, &["--json"]).ok();
    let last: Value = serde_json::from_str(done.out.lines().last().unwrap()).unwrap();
    assert_eq!(last["event"], "done", "{}", done.out);
    assert_eq!(platform.get("/api/count").unwrap().status, 200);
    assert_eq!(live(&platform)["id"], good["id"]);

    // Good when it is probed; then it breaks, and stays so however often it is started: Redis remembers.
    let health = "if (pathname === \"/api/health\")";
    let bad = API_WORKER.replacen(
        health,
        &format!(
            "if (pathname === \"/api/break\") return Response.json(await redis(env, \"SET\", \"broken\", \"1\"));
    if (pathname === \"/api/health\" && await redis(env, \"GET\", \"broken\")) return new Response(\"no\", {{ status: 503 }});
    {health}"
        ),
        1,
    );
    write(&platform, "workers/api/index.js", &bad);
    platform
        .run(&["deploy", "--env", "development", "--wait"])
        .unwrap()
        .ok();
    let worse = live(&platform);
    assert_ne!(worse["id"], good["id"]);
    assert_eq!(platform.get("/api/break").unwrap().status, 200);
    assert_eq!(platform.get("/api/health").unwrap().status, 503);
    let told = recover(&platform, &["--dry-run"]).ok();
    let back = format!("would roll back to {}", good["id"].as_str().unwrap());
    assert!(told.out.contains(&back), "{}", told.out);
    assert_eq!(live(&platform)["id"], worse["id"], "nothing was done");
    let done = recover(&platform, &[]).ok();
    assert!(done.out.contains("rolled back"), "{}", done.out);
    assert_eq!(platform.get("/api/health").unwrap().status, 200);
    let serves = live(&platform);
    assert_eq!(
        (&serves["release"], &serves["action"], &serves["from"]),
        (&good["release"], &"rollback".into(), &worse["id"])
    );
    // It is as it was asked for: again is nothing.
    for more in [vec![], vec!["--to", good["id"].as_str().unwrap()]] {
        let nothing = recover(&platform, &more).ok();
        assert!(nothing.out.contains("nothing to do"), "{}", nothing.out);
    }
    assert_eq!(live(&platform)["id"], serves["id"]);
    platform.run(&["audit", "verify"]).unwrap().ok();
}
