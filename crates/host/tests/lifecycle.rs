//! Start, ready, stop, restart; what a unit is given; what is left afterwards.

use crate::support::{Platform, UNIT, exists, free_address, server, signal, unit, unit_name, until};
use astraler_host::process;
use astraler_host::supervisor::{Started, Supervisor, SupervisorError};
use astraler_model::UnitPhase;
use serde_json::json;
use std::io::Read;
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_unit_starts_serves_and_stops_without_a_trace() {
    let mut platform = Platform::start().await;
    let address = free_address();
    let socket = platform.path("run/u/local.sock");
    let mut spec = server("web", address, 100);
    let local = json!({ "name": "local", "address": { "unix": { "path": socket, "mode": 0o660 } } });
    spec.listeners.push(serde_json::from_value(local).unwrap());
    let asked = Instant::now();
    let started = platform.client.start(&spec).await.unwrap();
    assert!(
        asked.elapsed() >= Duration::from_millis(100),
        "ready only when it says so"
    );
    let status = started.status().clone();
    assert!(matches!(started, Started::Fresh(_)) && status.phase == UnitPhase::Running && status.starts == 1);
    assert_eq!(status.spec_digest, spec.digest());
    let pid = format!("{}\n", status.pid.unwrap());
    let mut answer = String::new();
    TcpStream::connect(address)
        .unwrap()
        .read_to_string(&mut answer)
        .unwrap();
    UnixStream::connect(&socket)
        .unwrap()
        .read_to_string(&mut answer)
        .unwrap();
    assert_eq!(answer, pid.repeat(2));
    assert_eq!(std::fs::metadata(&socket).unwrap().mode() & 0o777, 0o660);

    assert_eq!(
        platform.client.start(&spec).await.unwrap(),
        Started::Unchanged(status.clone())
    );
    spec.env.insert("A".into(), "1".into());
    let fresh = platform.client.start(&spec).await.unwrap();
    assert!(matches!(&fresh, Started::Fresh(new) if new.pid != status.pid && new.starts == 2));
    assert!(!process::is_alive(status.pid.unwrap()));
    let restarted = platform.client.restart(&spec.name).await.unwrap();
    assert!(restarted.pid != fresh.status().pid && restarted.phase == UnitPhase::Running);

    platform.client.stop(&spec.name).await.unwrap();
    let stopped = platform.status("web").await;
    assert_eq!((stopped.phase, stopped.pid), (UnitPhase::Stopped, None));
    assert!(!exists(&socket) && TcpStream::connect(address).is_err());
    assert!(!process::is_alive(restarted.pid.unwrap()));
    platform.client.remove(&spec.name).await.unwrap();
    platform.client.remove(&spec.name).await.unwrap();
    assert_eq!(platform.client.list().await.unwrap(), []);
    let unknown = SupervisorError::Unknown {
        unit: spec.name.clone(),
    };
    assert_eq!(platform.client.stop(&spec.name).await, Err(unknown));
    platform.shutdown().await;
    assert!(matches!(
        platform.client.list().await,
        Err(SupervisorError::Unreachable { .. })
    ));
}

#[tokio::test]
async fn shutdown_ends_the_last_started_first_and_leaves_nothing() {
    let mut platform = Platform::start().await;
    let socket = platform.path("run/b.sock");
    let listener = json!([{ "name": "s", "address": { "unix": { "path": socket, "mode": 0o600 } } }]);
    let source = platform.path("secret");
    astraler_host::file::replace(&source, b"x", 0o600).unwrap();
    let credentials = json!([{ "name": "c", "source": source }]);
    platform
        .client
        .start(&unit("a", &["wait"], json!({ "credentials": credentials })))
        .await
        .unwrap();
    platform
        .client
        .start(&unit("b", &["wait"], json!({ "listeners": listener })))
        .await
        .unwrap();
    let pids: Vec<u32> = platform
        .client
        .list()
        .await
        .unwrap()
        .into_iter()
        .filter_map(|unit| unit.pid)
        .collect();
    assert_eq!(pids.len(), 2);
    until("there is a standby", async || platform.keeps().len() == 2).await;
    // SIGTERM is a request to shut down; the others of a terminal are not.
    let keep = platform.keep_pid().unwrap();
    signal(keep, 1);
    signal(keep, 2);
    assert_eq!(platform.client.list().await.unwrap().len(), 2);
    signal(keep, 15);
    until("every keep is gone", async || platform.keeps().is_empty()).await;
    assert!(pids.iter().all(|pid| !process::is_alive(*pid)));
    let left: Vec<_> = std::fs::read_dir(platform.path("run")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    platform.keep().await;
    assert_eq!(
        platform.client.list().await.unwrap(),
        [],
        "what was shut down is not started again"
    );
    platform.shutdown().await;
}

#[tokio::test]
async fn what_fails_to_start_says_why() {
    let mut platform = Platform::start().await;
    let ready = json!({ "ready": { "line": { "timeout_ms": 10_000 } } });
    let error = platform
        .client
        .start(&unit("bad", &["say", "3", "one", "two"], ready))
        .await
        .unwrap_err();
    let SupervisorError::Failed { exit, last_lines, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(
        (exit.as_str(), last_lines.as_slice()),
        ("exit status 3", ["one".to_owned(), "two".into()].as_slice())
    );
    // What it wrote is shown below the message, not in it.
    assert_eq!(error.to_string(), "bad failed to start: exit status 3");
    assert_eq!(platform.status("bad").await.phase, UnitPhase::Failed);

    let slow = json!({ "ready": { "line": { "timeout_ms": 300 } } });
    let error = platform.client.start(&unit("slow", &["family"], json!({}))).await;
    assert!(error.is_ok());
    let mut spec = unit("slow", &["lines", "3", "0"], slow);
    spec.env.insert("X".into(), "y".into());
    let error = platform.client.start(&spec).await.unwrap_err();
    let SupervisorError::NotReady {
        waited_ms,
        last_lines,
        ..
    } = &error
    else {
        panic!("{error}")
    };
    assert_eq!(
        (*waited_ms, last_lines.last().map(String::as_str)),
        (300, Some("done"))
    );
    assert_eq!(platform.status("slow").await.pid, None);

    let mut missing = unit("missing", &[], json!({}));
    missing.argv = vec!["/nonexistent/program".into()];
    let error = platform.client.start(&missing).await.unwrap_err().to_string();
    assert!(
        error.contains("/nonexistent/program") && error.contains("No such file"),
        "{error}"
    );
    let invalid = unit("invalid", &["{FD:nothing}"], json!({}));
    assert!(matches!(
        platform.client.start(&invalid).await,
        Err(SupervisorError::Invalid { .. })
    ));
    platform.shutdown().await;
}

#[tokio::test]
async fn a_job_runs_once_and_its_status_counts() {
    let mut platform = Platform::start().await;
    let job = json!({ "ready": { "exited": { "timeout_ms": 10_000 } }, "restart": "never" });
    let started = platform
        .client
        .start(&unit("job", &["say", "0", "made"], job.clone()))
        .await
        .unwrap();
    let status = started.status();
    assert_eq!(
        (status.phase, status.last_exit.as_deref()),
        (UnitPhase::Stopped, Some("exit status 0"))
    );
    assert_eq!(platform.lines("job"), ["made"]);
    let error = platform
        .client
        .start(&unit("job", &["say", "4"], job))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, SupervisorError::Failed { exit, .. } if exit == "exit status 4"),
        "{error}"
    );
    platform.shutdown().await;
}

#[tokio::test]
async fn a_unit_that_ends_is_started_again_until_the_limit() {
    let mut platform = Platform::start().await;
    let policy =
        json!({ "always": { "backoff_ms": 40, "max_backoff_ms": 100, "limit": 4, "window_ms": 60_000 } });
    let asked = Instant::now();
    platform
        .client
        .start(&unit("flap", &["say", "7", "x"], json!({ "restart": policy })))
        .await
        .unwrap();
    let status = platform.until_phase("flap", UnitPhase::Failed).await;
    // Delays of 40, 80 and 100 ms between four ends.
    assert!(asked.elapsed() >= Duration::from_millis(220));
    assert_eq!(
        (status.starts, status.last_exit.as_deref()),
        (4, Some("exit status 7"))
    );
    assert_eq!(platform.lines("flap").len(), 4);
    // By command it gets all its chances again.
    platform
        .client
        .start(&unit("flap", &["wait"], json!({ "restart": policy })))
        .await
        .unwrap();
    let pid = platform.status("flap").await.pid.unwrap();
    signal(pid, 6);
    until("started again", async || {
        platform.status("flap").await.pid.is_some_and(|new| new != pid)
    })
    .await;
    assert_eq!(
        platform.status("flap").await.last_exit.as_deref(),
        Some("signal 6 (SIGABRT)")
    );
    platform.shutdown().await;
}

#[tokio::test]
async fn a_stop_ends_children_and_daemonised_grandchildren() {
    let mut platform = Platform::start().await;
    let stop =
        json!({ "ready": { "line": { "timeout_ms": 10_000 } }, "stop": { "signal": 15, "grace_ms": 200 } });
    for name in ["stubborn", "family"] {
        platform
            .client
            .start(&unit(name, &[name], stop.clone()))
            .await
            .unwrap();
        let line = platform.until_line(name, "grandchild").await;
        let grandchild: u32 = line.split(' ').next_back().unwrap().parse().unwrap();
        assert!(process::is_alive(grandchild));
        let asked = Instant::now();
        platform.client.stop(&unit_name(name)).await.unwrap();
        assert!(!process::is_alive(grandchild), "{name}");
        let patient = asked.elapsed() >= Duration::from_millis(200);
        assert_eq!(
            patient,
            name == "stubborn",
            "only the stubborn one uses up its grace period"
        );
    }
    assert!(
        platform
            .status("stubborn")
            .await
            .last_exit
            .unwrap()
            .contains("SIGKILL")
    );
    // The same when the main process dies by itself: its successor must not find the children of the one before.
    platform
        .client
        .start(&unit("family", &["family"], stop))
        .await
        .unwrap();
    until("both grandchildren are known", async || {
        platform.lines("family").len() == 2
    })
    .await;
    let before = platform.units_with("wait");
    let lines = 2;
    signal(platform.status("family").await.pid.unwrap(), 9);
    until("started again", async || platform.lines("family").len() > lines).await;
    platform.until_phase("family", UnitPhase::Running).await;
    let last = platform.lines("family").pop().unwrap();
    let new: u32 = last.split(' ').next_back().unwrap().parse().unwrap();
    assert!(process::is_alive(new) && !before.contains(&new));
    platform.shutdown().await;
    assert!(!process::is_alive(new));
}

#[tokio::test]
async fn an_unprivileged_keep_without_control_groups_leaves_nothing_either() {
    // Without root we are unprivileged already.
    let user = rustix::process::geteuid().is_root().then_some(64_005);
    let mut platform = Platform::start_as(user).await;
    let address = free_address();
    let mut web = server("web", address, 0);
    web.argv[0].clone_from(&platform.program);
    let pid = platform.client.start(&web).await.unwrap().status().pid.unwrap();
    if let Some(user) = user {
        assert_eq!(process::describe(pid).unwrap().uid, user);
    }
    let ready = json!({ "ready": { "line": { "timeout_ms": 10_000 } } });
    let mut family = unit("family", &["family"], ready);
    family.argv[0].clone_from(&platform.program);
    platform.client.start(&family).await.unwrap();
    let line = platform.until_line("family", "grandchild").await;
    let grandchild: u32 = line.split(' ').next_back().unwrap().parse().unwrap();
    until("there is a standby", async || platform.keeps().len() == 2).await;
    platform.kill_keep().await;
    let restarted = platform.client.restart(&web.name).await.unwrap();
    assert!(restarted.pid != Some(pid) && restarted.phase == UnitPhase::Running);
    TcpStream::connect(address).unwrap();
    platform.client.stop(&family.name).await.unwrap();
    assert!(!process::is_alive(grandchild));
    platform.client.shutdown().await.unwrap();
    until("every keep is gone", async || platform.keeps().is_empty()).await;
}

#[tokio::test]
async fn a_start_gives_way_to_a_stop() {
    let mut platform = Platform::start().await;
    let slow = unit(
        "slow",
        &["wait"],
        json!({ "ready": { "line": { "timeout_ms": 60_000 } } }),
    );
    let client = platform.client.clone();
    let spec = slow.clone();
    let start = tokio::spawn(async move { client.start(&spec).await });
    platform_has(&platform, "slow").await;
    platform.until_phase("slow", UnitPhase::Starting).await;
    platform.client.stop(&slow.name).await.unwrap();
    assert!(matches!(
        start.await.unwrap(),
        Err(SupervisorError::Cancelled { .. })
    ));
    assert_eq!(platform.status("slow").await.phase, UnitPhase::Stopped);
    platform.shutdown().await;
}

async fn platform_has(platform: &Platform, name: &str) {
    let has = async || {
        platform
            .client
            .list()
            .await
            .unwrap()
            .iter()
            .any(|unit| unit.name.as_str() == name)
    };
    until(name, has).await;
}

#[tokio::test]
async fn a_unit_gets_what_its_description_says_and_nothing_else() {
    let mut platform = Platform::start().await;
    let (input, secret, folder) = (
        platform.path("input"),
        platform.path("secret"),
        platform.path("data/deep"),
    );
    astraler_host::file::replace(&input, b"from stdin", 0o600).unwrap();
    astraler_host::file::replace(&secret, b"hush", 0o600).unwrap();
    let root = rustix::process::geteuid().is_root();
    // Nobody's numbers need no entry in the user database.
    let identity = root.then(|| json!({ "uid": 64_001, "gid": 64_002, "groups": [64_003] }));
    let address = free_address();
    let spec = unit(
        "report",
        &["report"],
        json!({
            "env": { "GREETING": "hello", "SECRET": "{CREDENTIALS_DIRECTORY}/key" },
            "cwd": folder, "stdin": input, "identity": identity,
            "directories": [{ "path": folder, "mode": 0o750 }],
            "credentials": [{ "name": "key", "source": secret }],
            "listeners": [{ "name": "http", "address": { "tcp": address } }],
            "limits": { "open_files": 50_000_000, "oom_score_adj": 100, "pids": 20, "memory_bytes": 256 << 20 },
            "ready": { "line": { "timeout_ms": 10_000 } },
        }),
    );
    let pid = platform.client.start(&spec).await.unwrap().status().pid.unwrap();
    platform.until_line("report", "credential").await;
    let lines = platform.lines("report");
    let credentials = platform.path("run/credentials/report");
    let expect = |line: String| assert!(lines.contains(&line), "no {line} in {lines:#?}");
    expect("env GREETING=hello".into());
    expect(format!("env SECRET={}/key", credentials.display()));
    expect(format!("env LISTEN_PID={pid}"));
    expect("env LISTEN_FDS=1".into());
    expect("env LISTEN_FDNAMES=http".into());
    expect("env READY_FD=4".into());
    expect(format!("argv {UNIT} report"));
    expect(format!("cwd {}", folder.display()));
    expect("stdin from stdin".into());
    expect(format!("credential {}/key 400 hush", credentials.display()));
    expect("NoNewPrivs: 1".into());
    expect("Umask: 0027".into());
    let names: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.strip_prefix("env ")?.split('=').next())
        .collect();
    assert_eq!(names.len(), 8, "{names:?}");
    // 0 to 2, the listener, readiness, and the folder that is being read: nothing of keep's own.
    let fds = lines.iter().filter(|line| line.starts_with("fd ")).count();
    assert_eq!(fds, 6, "{lines:#?}");
    let (uid, gid, groups) = if root {
        (64_001, 64_002, "64003".to_owned())
    } else {
        let groups = rustix::process::getgroups().unwrap();
        let groups = groups
            .iter()
            .map(|gid| gid.as_raw().to_string())
            .collect::<Vec<_>>()
            .join(" ");
        (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
            groups,
        )
    };
    expect(format!("Uid: {uid} {uid} {uid} {uid}"));
    expect(format!("Gid: {gid} {gid} {gid} {gid}"));
    expect(format!("Groups: {groups}").trim_end().to_owned());
    for (path, mode) in [(&folder, 0o750), (&credentials, 0o500)] {
        let found = std::fs::metadata(path).unwrap();
        assert_eq!((found.uid(), found.gid(), found.mode() & 0o777), (uid, gid, mode));
    }
    platform.client.remove(&spec.name).await.unwrap();
    assert!(!exists(&credentials));

    let other = unit(
        "other",
        &["wait"],
        json!({ "identity": { "uid": 12_345, "gid": 12_345 } }),
    );
    let result = platform.client.start(&other).await;
    // Without root there is no other identity, and the unit must not run as ours instead.
    assert_eq!(result.is_ok(), root, "{result:?}");
    platform.shutdown().await;
}

#[tokio::test]
async fn memory_is_limited_where_the_machine_can() {
    let mut platform = Platform::start().await;
    let limits = json!({ "limits": { "memory_bytes": 32 << 20 }, "restart": "never" });
    platform
        .client
        .start(&unit("hungry", &["eat", "256"], limits))
        .await
        .unwrap();
    if astraler_host::isolation::probe().memory_limits {
        let status = platform.until_phase("hungry", UnitPhase::Failed).await;
        assert!(status.last_exit.unwrap().contains("SIGKILL"));
    } else {
        platform.until_line("hungry", "ate").await;
    }
    platform.shutdown().await;
}

#[tokio::test]
async fn a_taken_port_names_its_holder() {
    let mut platform = Platform::start().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let spec = server("web", address, 0);
    let error = platform.client.start(&spec).await.unwrap_err();
    let SupervisorError::PortTaken {
        holder: Some(holder), ..
    } = &error
    else {
        panic!("{error:?}")
    };
    assert_eq!(holder.pid, std::process::id());
    assert!(error.to_string().contains(&address.to_string()));
    drop(listener);
    platform.client.start(&spec).await.unwrap();

    let path = platform.path("taken.sock");
    let _held = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let listeners = json!([{ "name": "s", "address": { "unix": { "path": path, "mode": 0o600 } } }]);
    let error = platform
        .client
        .start(&unit("local", &["wait"], json!({ "listeners": listeners })))
        .await;
    let Err(SupervisorError::PortTaken {
        holder: Some(holder), ..
    }) = error
    else {
        panic!("{error:?}")
    };
    assert_eq!(holder.pid, std::process::id());
    platform.shutdown().await;
}

#[tokio::test]
async fn a_second_keep_is_told_who_is_the_first() {
    let mut platform = Platform::start().await;
    let output = std::process::Command::new(UNIT)
        .args([
            "keep".as_ref(),
            platform.path("state").as_os_str(),
            platform.path("run").as_os_str(),
        ])
        .output()
        .unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains(&platform.keep_pid().unwrap().to_string()), "{text}");
    platform.shutdown().await;
}
