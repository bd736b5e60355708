//! `keep` is killed: its standby adopts what runs, and nobody notices.

use crate::support::{Platform, exists, free_address, server, signal, unit, until};
use astraler_host::process;
use astraler_host::supervisor::Supervisor;
use astraler_model::{ListenAddress, Listener, UnitPhase, UnitStatus};
use serde_json::json;
use std::io::Read;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Connects in a loop until it is told to end; returns how often it was answered. Panics at the first that is not.
pub(crate) fn clients(address: SocketAddr) -> (Arc<AtomicBool>, std::thread::JoinHandle<u64>) {
    let end = Arc::new(AtomicBool::new(false));
    let ended = end.clone();
    let thread = std::thread::spawn(move || {
        let mut answered = 0;
        while !ended.load(Ordering::SeqCst) {
            let mut stream = TcpStream::connect(address).expect("refused");
            stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("cut off");
            assert!(answer.ends_with('\n'), "no answer");
            answered += 1;
        }
        answered
    });
    (end, thread)
}

fn identity(units: &[UnitStatus]) -> Vec<(String, Option<u32>, u64, UnitPhase)> {
    units
        .iter()
        .map(|unit| (unit.name.to_string(), unit.pid, unit.starts, unit.phase))
        .collect()
}

#[tokio::test]
async fn a_killed_keep_is_followed_at_once_and_no_unit_notices() {
    let mut platform = Platform::start().await;
    let address = free_address();
    platform.client.start(&server("web", address, 0)).await.unwrap();
    platform
        .client
        .start(&unit("talk", &["lines", "3000", "500"], json!({})))
        .await
        .unwrap();
    platform
        .client
        .start(&unit("stopped", &["wait"], json!({})))
        .await
        .unwrap();
    platform
        .client
        .stop(&crate::support::unit_name("stopped"))
        .await
        .unwrap();
    let before = identity(&platform.client.list().await.unwrap());
    let (end, thread) = clients(address);
    let mut killed = Vec::new();
    for _ in 0..3 {
        until("there is a standby", async || platform.keeps().len() == 2).await;
        killed.push(platform.kill_keep().await);
        let after = platform.client.list().await.unwrap();
        assert_eq!(identity(&after), before);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    killed.dedup();
    assert_eq!(killed.len(), 3);
    platform.until_line("talk", "done").await;
    let expected: Vec<String> = (0..3000)
        .map(|number| format!("line {number}"))
        .chain(["done".to_owned()])
        .collect();
    assert_eq!(platform.lines("talk"), expected, "no line is lost or doubled");

    // The successor holds the listener, so that a restart of the unit refuses nobody either.
    let restarted = platform.client.restart(&crate::support::unit_name("web")).await;
    end.store(true, Ordering::SeqCst);
    restarted.unwrap();
    let answered = thread.join();
    // The connection that the old process had accepted may be cut by its end; this one ends in order.
    assert!(answered.unwrap() > 10);

    // An adopted process that ends is noticed, though it is not the successor's child.
    let pid = platform.status("talk").await.pid.unwrap();
    signal(pid, 9);
    until("started again", async || {
        platform.status("talk").await.pid.is_some_and(|new| new != pid)
    })
    .await;
    assert_eq!(
        platform.status("talk").await.last_exit.as_deref(),
        Some("adopted, exit status unknown")
    );
    let pids: Vec<u32> = platform
        .client
        .list()
        .await
        .unwrap()
        .iter()
        .filter_map(|unit| unit.pid)
        .collect();
    platform.client.shutdown().await.unwrap();
    until("every keep is gone", async || platform.keeps().is_empty()).await;
    assert!(pids.into_iter().all(|pid| !process::is_alive(pid)));
    assert!(TcpStream::connect(address).is_err());
}

#[tokio::test]
async fn udp_sockets_are_held_over_restarts_and_a_killed_keep() {
    let mut platform = Platform::start().await;
    let address = free_address();
    let mut spec = server("echo", address, 0);
    for share in [0, 1] {
        spec.listeners.push(Listener {
            name: format!("udp-{share}"),
            address: ListenAddress::Udp { address, share },
            backlog: 1,
        });
    }
    platform.client.start(&spec).await.unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket.connect(address).unwrap();
    let ask = |word: &[u8]| {
        // A packet that comes while nobody serves waits in the socket that keep holds.
        socket.send(word).unwrap();
        let mut answer = [0; 16];
        let length = socket.recv(&mut answer).unwrap();
        assert_eq!(&answer[..length], word);
    };
    ask(b"first");
    until("there is a standby", async || platform.keeps().len() == 2).await;
    platform.kill_keep().await;
    ask(b"second");
    platform
        .client
        .restart(&crate::support::unit_name("echo"))
        .await
        .unwrap();
    ask(b"third");
    let pid = platform.status("echo").await.pid.unwrap();
    signal(pid, 9);
    ask(b"fourth");

    // The address is nobody else's, and the error says whose it is.
    let mut other = unit("other", &["wait"], json!({}));
    other.listeners = spec.listeners[1..2].to_vec();
    let refused = platform.client.start(&other).await.unwrap_err().to_string();
    assert!(refused.contains("listens there"), "{refused}");
    platform.shutdown().await;
}

#[tokio::test]
async fn a_dead_standby_is_replaced_and_both_dead_are_followed_by_a_new_keep() {
    let mut platform = Platform::start().await;
    let address = free_address();
    platform.client.start(&server("web", address, 0)).await.unwrap();
    let before = identity(&platform.client.list().await.unwrap());
    until("there is a standby", async || platform.keeps().len() == 2).await;
    let active = platform.keep_pid().unwrap();
    let standby = platform.keeps().into_iter().find(|pid| *pid != active).unwrap();
    platform.kill(standby);
    until("there is another", async || {
        let keeps = platform.keeps();
        keeps.len() == 2 && !keeps.contains(&standby)
    })
    .await;
    assert_eq!(platform.keep_pid(), Some(active));
    let standby = platform.keeps().into_iter().find(|pid| *pid != active).unwrap();
    signal(standby, 19);
    platform.kill(active);
    platform.kill(standby);
    until("both are dead", async || platform.keeps().is_empty()).await;
    let (end, thread) = clients(address);
    platform.keep().await;
    assert_eq!(identity(&platform.client.list().await.unwrap()), before);
    end.store(true, Ordering::SeqCst);
    assert!(thread.join().unwrap() > 0);
    platform.shutdown().await;
}

#[tokio::test]
async fn killed_at_any_point_of_a_start_leaves_no_stray() {
    let mut platform = Platform::start().await;
    for (number, point) in ["spawned", "recorded", "half-ordered", "ordered"]
        .into_iter()
        .enumerate()
    {
        until("there is a standby", async || platform.keeps().len() == 2).await;
        let active = platform.keep_pid().unwrap();
        astraler_host::file::replace(platform.path("gate"), point.as_bytes(), 0o600).unwrap();
        let name = format!("u{number}");
        let mark = platform.path(&name).display().to_string();
        let mut spec = unit(&name, &["lines", "1", "0"], json!({}));
        spec.argv.push(mark.clone());
        spec.argv = vec![spec.argv[0].clone(), "lines".into(), "1".into(), "0".into()];
        spec.cwd = Some(platform.path("run"));
        // The client asks the successor again, so that the start comes about all the same.
        let status = platform.client.start(&spec).await.unwrap().status().clone();
        assert!(!exists(platform.path("gate")), "{point} was passed");
        assert_ne!(platform.keep_pid(), Some(active), "{point}: keep died there");
        platform.kill(active);
        assert_eq!(status.phase, UnitPhase::Running);
        // Nothing else runs: the process of the first attempt ended without having executed anything, or was adopted.
        let pids: Vec<u32> = platform
            .client
            .list()
            .await
            .unwrap()
            .iter()
            .filter_map(|unit| unit.pid)
            .collect();
        let folder = platform.path("run");
        let strays = async || {
            let here =
                |pid: &u32| std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == folder);
            process::pids().filter(here).all(|pid| pids.contains(&pid))
        };
        until("no stray runs", strays).await;
        let launchers = platform.units_with("launch");
        let ours = |pid: u32| process::describe(pid).is_some_and(|found| found.parent == active);
        assert!(!launchers.into_iter().any(ours), "{point}");
    }
    platform.client.shutdown().await.unwrap();
    until("every keep is gone", async || platform.keeps().is_empty()).await;
}

#[tokio::test]
async fn killed_at_any_moment_of_starts_and_stops_it_loses_track_of_nothing() {
    let mut platform = Platform::start().await;
    for round in 0..16u64 {
        until("there is a standby", async || platform.keeps().len() == 2).await;
        let address = free_address();
        let spec = server("web", address, 0);
        let client = platform.client.clone();
        let started = tokio::spawn({
            let spec = spec.clone();
            async move { client.start(&spec).await }
        });
        tokio::time::sleep(Duration::from_millis(round * 2)).await;
        platform.kill_keep().await;
        let asked = Instant::now();
        let status = started.await.unwrap().unwrap().status().clone();
        assert!(
            asked.elapsed() < Duration::from_secs(5),
            "round {round}: readiness was lost"
        );
        let mut answer = String::new();
        TcpStream::connect(address)
            .unwrap()
            .read_to_string(&mut answer)
            .unwrap();
        assert_eq!(answer.trim().parse::<u32>().ok(), status.pid, "round {round}");
        platform.client.stop(&spec.name).await.unwrap();
        assert!(
            TcpStream::connect(address).is_err(),
            "round {round}: somebody still listens"
        );
    }
    platform.client.shutdown().await.unwrap();
    until("every keep is gone", async || platform.keeps().is_empty()).await;
}
