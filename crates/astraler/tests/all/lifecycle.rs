//! `up`, serve, `up` again, survive the death of any process, `down`.

use crate::support::{eventually, is_root, kill, small};
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

    let entries = |platform: &astraler_testkit::Platform| {
        let list = platform.run(&["audit", "list", "--json"]).unwrap().ok().json();
        let verified = platform.run(&["audit", "verify", "--json"]).unwrap().ok().json();
        assert_eq!(verified["ok"], true, "{verified}");
        assert_eq!(verified["entries"], list[0]["seq"], "{list}");
        list.as_array().unwrap().len()
    };
    let audited = entries(&platform);
    platform.run(&["down"]).unwrap().ok();
    assert_eq!(
        entries(&platform),
        audited + 1,
        "the chain is read without the daemon too"
    );
    let status = platform.run(&["status"]).unwrap().failed_with(7);
    assert_eq!(
        status.err,
        "error: the platform is not up\nhint: run `astraler up`\n"
    );
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
    assert_eq!(shown["endpoints"]["bucket_files"], "s3://files");
    let socket = shown["endpoints"]["redis_socket"].as_str().unwrap();
    let path = socket.strip_prefix("unix://app@").unwrap();
    assert!(std::path::Path::new(path).exists(), "{socket}");
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
    // One client asks the worker alone, the other goes through `data` to Redis.
    let load = ["/api/health", "/api/count"].map(|path| {
        let (platform, stop, failed, served) = (
            Arc::clone(&platform),
            Arc::clone(&stop),
            Arc::clone(&failed),
            Arc::clone(&served),
        );
        std::thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                match platform.get(path) {
                    Ok(answer) if answer.status == 200 => served.fetch_add(1, Ordering::SeqCst),
                    _ => failed.fetch_add(1, Ordering::SeqCst),
                };
            }
        })
    });
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
    for unit in ["daemon", "data", "egress", "signal", "edge"] {
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
        // The edge was answering at most one request of each client, `data` one of the client that needs it.
        let own = match unit {
            "edge" => 2,
            "data" => 1,
            _ => 0,
        };
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
    for client in load {
        client.join().unwrap();
    }
    assert!(failed.load(Ordering::SeqCst) <= allowed);
    assert!(served.load(Ordering::SeqCst) > 50, "the load was a load");
    let second = platform.up(&[]).unwrap().ok();
    assert!(second.out.contains("nothing to change"), "{}", second.out);
    platform.run(&["audit", "verify"]).unwrap().ok();
}

#[test]
fn where_node_is_too_old_npm_brings_one() {
    let platform = small();
    let manifest = platform.application().join("astraler.toml");
    let mut file = std::fs::OpenOptions::new().append(true).open(manifest).unwrap();
    std::io::Write::write_all(&mut file, b"\n[build]\ncommand = \"node --version > version\"\n").unwrap();
    let output = platform
        .command(&["up", "--port", &platform.port.to_string()])
        .env("PATH", crate::support::path_with_old_node(platform.application()))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(platform.get("/api/health").unwrap().status, 200);
    let version = std::fs::read_to_string(platform.application().join("version")).unwrap();
    let major: u32 = version
        .trim_start_matches('v')
        .split('.')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!(major >= 20, "the build has the pinned one: {version}");
}

/// Without root: the same program, engines and data, as one user.
#[test]
fn a_user_who_is_not_root_gets_the_same_platform() {
    use std::os::unix::process::CommandExt;
    if !is_root() {
        // Then every other test is this one.
        return;
    }
    const NOBODY: u32 = 65_534;
    // Brings the tools to where everyone finds them.
    let platform = small();
    platform.up(&[]).unwrap().ok();
    platform.run(&["down"]).unwrap().ok();

    let platform = small();
    let home = platform.application().parent().unwrap().to_owned();
    // The built program may be where only root may go.
    let program = home.join("astraler");
    std::fs::copy(crate::support::PROGRAM, &program).unwrap();
    // Beside the tools is the table of the machine's ports, which this user must write.
    let tools = home.join("share/tools");
    std::fs::create_dir(home.join("share")).unwrap();
    let shared = std::env::var_os("ASTRALER_TOOLS").unwrap_or_else(|| "/var/lib/astraler/tools".into());
    std::os::unix::fs::symlink(shared, &tools).unwrap();
    let owned = std::process::Command::new("chown")
        .args(["-R", &format!("{NOBODY}:{NOBODY}")])
        .arg(&home)
        .status()
        .unwrap();
    assert!(owned.success());
    let run = |words: &[&str]| {
        let as_root = platform.command(words);
        let mut command = std::process::Command::new(&program);
        command
            .args(as_root.get_args())
            .envs(
                as_root
                    .get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            )
            .env("HOME", &home)
            .env("ASTRALER_TOOLS", &tools)
            .uid(NOBODY)
            .gid(NOBODY);
        let output = command.output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        assert!(
            output.status.success(),
            "{words:?}: {}",
            String::from_utf8_lossy(&text)
        );
        String::from_utf8_lossy(&text).into_owned()
    };
    let doctor = run(&["doctor"]);
    assert!(doctor.contains("all units run as this user"), "{doctor}");
    run(&["up", "--port", &platform.port.to_string()]);
    assert_eq!(platform.get("/api/health").unwrap().status, 200);
    assert_eq!(platform.get("/api/count").unwrap().json()["count"], 1);
    for (pid, command) in platform.processes() {
        use std::os::unix::fs::MetadataExt;
        let owner = std::fs::metadata(format!("/proc/{pid}")).map(|process| process.uid());
        assert!(
            owner.is_err() || owner.is_ok_and(|uid| uid == NOBODY),
            "{command}"
        );
    }
    assert!(run(&["up"]).contains("nothing to change"));
    run(&["down"]);
    assert_eq!(platform.processes(), []);
    assert_eq!(platform.sockets(), Vec::<std::path::PathBuf>::new());
}
