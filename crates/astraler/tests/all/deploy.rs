//! Deployments on a real platform: promotion and rollback, what does not come up, previews, a daemon that is killed.

use crate::support::{eventually, kill, small};
use astraler_testkit::Platform;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::time::Duration;

fn write(platform: &Platform, path: &str, text: &str) {
    let path = platform.application().join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut file = std::fs::File::create(path).unwrap();
    std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
}

fn edit(platform: &Platform, path: &str, from: &str, to: &str) {
    let text = std::fs::read_to_string(platform.application().join(path)).unwrap();
    assert!(text.contains(from), "{path} has no {from}");
    write(platform, path, &text.replace(from, to));
}

fn greeting(platform: &Platform, host: &str) -> Value {
    let answer = platform.request("GET", host, "/api/health", b"").unwrap();
    assert_eq!(answer.status, 200, "{host}: {}", answer.text());
    answer.json()["greeting"].clone()
}

fn deployments(platform: &Platform) -> Vec<Value> {
    let listed = platform.run(&["deployments", "--json"]).unwrap().ok().json();
    listed.as_array().cloned().unwrap()
}

#[test]
fn a_release_goes_from_staging_to_production_and_back() {
    let platform = small();
    edit(
        &platform,
        "astraler.toml",
        "[environments.development.vars]",
        "[deploy]\ndrain_ms = 700\n[environments.production.vars]\nGREETING = \"hello production\"\n[environments.development.vars]",
    );
    platform.up(&["--env", "staging"]).unwrap().ok();
    edit(&platform, "workers/api/wrangler.jsonc", "\"hello\"", "\"second\"");
    // A request under way outlives its deployment; what takes longer than the drain is cut.
    let slow = {
        let port = platform.port;
        std::thread::spawn(move || {
            astraler_testkit::request(port, "GET", "staging.localhost", "/api/slow?ms=400", b"")
        })
    };
    platform
        .run(&["deploy", "--env", "staging", "--wait", "--reason", "try"])
        .unwrap()
        .ok();
    assert_eq!(slow.join().unwrap().unwrap().text(), "slow");
    assert_eq!(greeting(&platform, "staging.localhost"), "second");
    let staging = deployments(&platform)[0].clone();
    assert_eq!(
        (&staging["state"], &staging["reason"]),
        (&"live".into(), &"try".into())
    );

    // The same digest, with production's own variables.
    platform.run(&["promote", "staging", "production"]).unwrap().ok();
    assert_eq!(greeting(&platform, "app.localhost"), "hello production");
    let production = deployments(&platform)[0].clone();
    assert_eq!(production["release"], staging["release"]);
    assert_eq!(
        (&production["action"], &production["from"]),
        (&"promote".into(), &"staging".into())
    );

    let back = platform
        .run(&["rollback", "--env", "staging", "--reason", "bad"])
        .unwrap()
        .ok();
    assert_eq!(greeting(&platform, "staging.localhost"), "hello");
    assert!(back.took < Duration::from_secs(10), "{:?}", back.took);
    // What was rolled back from is not good, and there is nothing before the first.
    let again = platform
        .run(&["rollback", "--env", "staging"])
        .unwrap()
        .failed_with(1);
    assert!(
        again.err.contains("no earlier deployment that was good"),
        "{}",
        again.err
    );
    platform
        .run(&[
            "rollback",
            "--env",
            "staging",
            "--to",
            staging["id"].as_str().unwrap(),
            "--wait",
        ])
        .unwrap()
        .ok();
    assert_eq!(greeting(&platform, "staging.localhost"), "second");

    // A release that was tampered with goes nowhere, and what serves goes on.
    let folder = staging["release"].as_str().unwrap().replace(':', "-");
    let file = platform
        .state()
        .join("releases")
        .join(folder)
        .join("assets/index.html");
    let mut text = std::fs::read_to_string(&file).unwrap();
    text.push_str("<script>evil()</script>");
    std::io::Write::write_all(&mut std::fs::File::create(&file).unwrap(), text.as_bytes()).unwrap();
    let refused = platform
        .run(&["promote", "staging", "production"])
        .unwrap()
        .failed_with(1);
    assert!(refused.err.contains("index.html"), "{}", refused.err);
    assert_eq!(greeting(&platform, "app.localhost"), "hello production");
    platform.run(&["audit", "verify"]).unwrap().ok();
}

#[test]
fn what_does_not_come_up_leaves_the_old_one_serving() {
    let platform = small();
    platform.up(&[]).unwrap().ok();
    // A migration that fails half-way.
    write(
        &platform,
        "migrations/0002_half.sql",
        "CREATE TABLE half (n int);\nALTER TABLE notes ADD COLUMN nonsense nosuchtype;\n",
    );
    let failed = platform.run(&["deploy"]).unwrap().failed_with(1);
    assert!(failed.err.contains("0002_half.sql:2"), "{}", failed.err);
    assert_eq!(greeting(&platform, "localhost"), "hello development");
    // The same statement without the mistake is no repetition: nothing of the file is there.
    write(
        &platform,
        "migrations/0002_half.sql",
        "CREATE TABLE half (n int);\n",
    );
    platform.run(&["deploy", "--wait"]).unwrap().ok();

    // A probe that never passes: the path is there only in the manifest.
    edit(
        &platform,
        "astraler.toml",
        "[environments.development.vars]",
        "[deploy]\nhealth_path = \"/api/nowhere\"\nhealth_timeout_ms = 700\n[environments.development.vars]",
    );
    let failed = platform.run(&["deploy"]).unwrap().failed_with(1);
    assert!(
        failed.err.contains("it answered 404 to the probe"),
        "{}",
        failed.err
    );
    assert_eq!(greeting(&platform, "localhost"), "hello development");
    let newest = deployments(&platform)[0].clone();
    assert_eq!(newest["state"], "failed", "{newest}");
    edit(&platform, "astraler.toml", "/api/nowhere", "/api/health");
    platform.run(&["deploy"]).unwrap().ok();

    // Of deployments that wait, only the newest runs; the others end with that word.
    let good = deployments(&platform)[0]["release"].as_str().unwrap().to_owned();
    edit(&platform, "astraler.toml", "/api/health", "/api/nowhere");
    edit(&platform, "astraler.toml", "= 700", "= 10000");
    let long = platform.command(&["deploy"]).spawn().unwrap();
    eventually("the first runs", Duration::from_secs(30), || {
        deployments(&platform)[0]["state"] == "starting"
    });
    let waits = platform.command(&["deploy", "--release", &good]).spawn().unwrap();
    eventually("the second waits", Duration::from_secs(30), || {
        deployments(&platform)[0]["state"] == "created"
    });
    platform.run(&["deploy", "--release", &good]).unwrap().ok();
    assert_eq!(long.wait_with_output().unwrap().status.code(), Some(1));
    let superseded = waits.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&superseded.stderr).into_owned();
    assert_eq!(superseded.status.code(), Some(9), "{said}");
    assert!(said.contains("was superseded by"), "{said}");
}

#[test]
fn previews_are_copies_that_sleep_wake_and_go() {
    let platform = small();
    write(
        &platform,
        "migrations/0002_rows.sql",
        "INSERT INTO notes VALUES (1, 'secret of a customer');\n",
    );
    write(&platform, "mask.sql", "UPDATE notes SET text = 'masked';\n");
    edit(
        &platform,
        "astraler.toml",
        "[environments.development.vars]",
        "[database]\nmask = \"mask.sql\"\n[environments.preview]\nidle_sleep_minutes = 1\nttl_hours = 1\n[environments.development.vars]",
    );
    platform.up(&["--env", "staging"]).unwrap().ok();
    let release = deployments(&platform)[0]["release"].as_str().unwrap().to_owned();
    let deploy = |name: &str| {
        let out = platform
            .run(&["deploy", "--env", name, "--release", &release, "--json"])
            .unwrap()
            .ok()
            .out;
        out.contains("a copy of staging's")
    };
    // The golden copy is made in the background, after the deployment of staging.
    let mut number = 6;
    eventually("a preview is a copy of staging", Duration::from_secs(60), || {
        number += 1;
        deploy(&format!("pr-{number}"))
    });
    let name = format!("pr-{number}");
    let host = format!("{name}.preview.localhost");
    let ports: Value =
        serde_json::from_slice(&std::fs::read(platform.state().join("ports.json")).unwrap()).unwrap();
    let password = platform
        .run(&["env", "credential", &name, "postgres_service_password"])
        .unwrap()
        .ok();
    let identifier = name.replace('-', "_");
    let text = std::process::Command::new("psql")
        .args([
            "-XAt",
            "-h",
            "127.0.0.1",
            "-p",
            &ports["postgres_shared"].to_string(),
        ])
        .args(["-U", &format!("{identifier}_service"), "-d", &identifier])
        .args(["-c", "SELECT text FROM notes"])
        .env("PGPASSWORD", password.out.trim())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&text.stdout).trim(), "masked", "{text:?}");
    // Its own Redis and its own bucket.
    let count = |host: &str| {
        let answer = platform.request("GET", host, "/api/count", b"").unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["count"].clone()
    };
    assert_eq!((count(&host), count(&host)), (1.into(), 2.into()));
    assert_eq!(count("staging.localhost"), 1);
    let put = platform.request("PUT", &host, "/api/files/a", b"mine").unwrap();
    assert_eq!(put.status, 204, "{}", put.text());
    let other = platform
        .request("GET", "staging.localhost", "/api/files/a", b"")
        .unwrap();
    assert_eq!(other.status, 404);

    // Asleep when idle, awake with the next request, its data as it was.
    let asleep = || {
        let status = platform.run(&["status", "--json"]).unwrap().ok().json();
        let all = status["environments"].as_array().cloned().unwrap();
        all.iter()
            .any(|one| one["environment"] == *name && one["asleep"] == true)
    };
    eventually("the preview sleeps", Duration::from_secs(150), asleep);
    let workers = format!("workers-{name}-");
    eventually("its processes end", Duration::from_secs(30), || {
        !platform
            .processes()
            .iter()
            .any(|(_, command)| command.contains(&workers) || command.contains(&format!("redis/{name}/")))
    });
    for look in ["plan", "drift"] {
        let seen = platform.run(&[look]).unwrap().ok();
        assert!(asleep(), "a look wakes nobody: {}", seen.out);
    }
    assert_eq!(count(&host), 3, "woken by the request, with its data");
    assert!(!asleep());

    platform.run(&["env", "remove", &name]).unwrap().ok();
    let gone = platform.request("GET", &host, "/api/health", b"").unwrap();
    assert_eq!(gone.status, 421);
    assert!(!platform.state().join("redis").join(&name).exists());
    let status = platform.run(&["status", "--json"]).unwrap().ok();
    assert!(
        !status.out.contains(&format!("-{name}")) && !status.out.contains(&host),
        "{}",
        status.out
    );
    platform
        .run(&["env", "remove", "staging"])
        .unwrap()
        .failed_with(1);
    // The number can come again, with nothing of the one before.
    assert!(deploy(&name));
    assert_eq!(count(&host), 1);
    let file = platform.request("GET", &host, "/api/files/a", b"").unwrap();
    assert_eq!(file.status, 404);
}

/// The points are the events of a deployment, which are its journal's: before and after each step.
#[test]
fn killing_the_daemon_at_every_step_of_a_deployment_leaves_one_that_serves() {
    let platform = small();
    platform.up(&[]).unwrap().ok();
    let mut points = usize::MAX;
    let mut point = 0;
    let mut killed = 0;
    while point < points {
        // `keep` gives up on what ends ten times in a minute: a platform that starts anew counts anew.
        if point % 6 == 5 {
            platform.run(&["down"]).unwrap().ok();
            platform.up(&[]).unwrap().ok();
        }
        let text = format!("version {point}");
        edit_greeting(&platform, &text);
        let daemon = platform.pid("daemon").unwrap().unwrap();
        let mut deploy = platform.command(&["deploy", "--wait", "--json"]).spawn().unwrap();
        let mut lines = BufReader::new(deploy.stdout.take().unwrap()).lines();
        // What the command line does before it asks the daemon is none of its steps.
        let queue = lines
            .by_ref()
            .map(Result::unwrap)
            .find(|line| line.contains("queue development"))
            .unwrap();
        assert!(queue.contains("begin"), "{queue}");
        if point > 0 && lines.by_ref().take(point).count() < point {
            points = point;
        } else {
            kill(daemon);
            killed += 1;
        }
        lines.for_each(drop);
        deploy.wait().unwrap();
        // Old or new, never neither: the data plane needs no control plane.
        let served = greeting(&platform, "localhost");
        let old = format!("version {}", point.saturating_sub(1));
        assert!(
            served == text.as_str() || served == old.as_str() || served == "hello development",
            "killed at {point}: {served}"
        );
        // And it can be done again.
        platform.run(&["deploy", "--wait"]).unwrap().ok();
        assert_eq!(
            greeting(&platform, "localhost"),
            text.as_str(),
            "killed at {point}"
        );
        let workers = platform.run(&["status", "--json"]).unwrap().ok().json()["parts"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|part| part["name"].as_str().unwrap().starts_with("workers-"))
            .count();
        assert_eq!(workers, 1, "killed at {point}: a deployment is left over");
        point += 1;
    }
    assert!(killed >= 20, "{killed} points");
    platform.run(&["audit", "verify"]).unwrap().ok();
}

fn edit_greeting(platform: &Platform, text: &str) {
    let manifest = std::fs::read_to_string(platform.application().join("astraler.toml")).unwrap();
    let (before, _) = manifest.split_once("GREETING = ").unwrap();
    write(
        platform,
        "astraler.toml",
        &format!("{before}GREETING = \"{text}\"\n"),
    );
}
