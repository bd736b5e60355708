//! Many and slow clients: a binary of its own, because it fills the file limit of its process.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "these are tests: helpers write files and unwrap as tests do"
)]

#[allow(
    dead_code,
    unused_imports,
    reason = "shared with the other tests, which use the rest of it"
)]
mod support;

use astraler_edge::Limits;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::{TestEdge, run};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

const ALLOWED: usize = 10_000;
const PROCESSES: usize = 5;
const WAVES: usize = 4;
const WAVE: usize = 2_500;
const TARGET: &str = "ASTRALER_TEST_WAVES";
const REPORT: &str = "waves: ";

/// 50,000 attempts in waves, from five processes and addresses; each keeps what it gets.
#[test]
fn waves_of_connections_leave_the_edge_serving() {
    if let Ok(target) = std::env::var(TARGET) {
        let (source, target) = target.split_once('>').unwrap();
        return attack(source, target.parse().unwrap());
    }
    run(async {
        let (edge, _worker) = TestEdge::with_worker(Limits {
            max_connections: ALLOWED,
            max_connections_per_client: 0,
            ..Limits::default()
        })
        .await;
        let mut before = edge.connect().await;
        assert_eq!(before.get("/name").await.status, 200);
        let begun = Instant::now();
        let mut attackers: Vec<_> = (0..PROCESSES)
            .map(|n| {
                Command::new(std::env::current_exe().unwrap())
                    .args([
                        "--exact",
                        "waves_of_connections_leave_the_edge_serving",
                        "--nocapture",
                    ])
                    .env(TARGET, format!("127.0.0.{}>{}", 2 + n, edge.address))
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::null())
                    .spawn()
                    .unwrap()
            })
            .collect();
        let mut most = 0;
        let mut ended = tokio::task::spawn_blocking(move || {
            // Each holds what it has until all have had their waves.
            let reports = attackers.iter_mut().map(|child| {
                let lines = BufReader::new(child.stdout.take().unwrap()).lines();
                let mut reports =
                    lines.filter_map(|line| Some(line.unwrap().split_once(REPORT)?.1.to_owned()));
                reports.next().expect("an attacker ended early")
            });
            let reports: Vec<_> = reports.collect();
            for mut child in attackers {
                drop(child.stdin.take());
                child.wait().unwrap();
            }
            reports
        });
        let reports = loop {
            tokio::select! {
                reports = &mut ended => break reports.unwrap(),
                () = tokio::time::sleep(Duration::from_millis(100)) => {}
            }
            // Who was there is served all the while.
            assert_eq!(before.get("/name").await.status, 200);
            most = most.max(edge.status().await["connections"].as_u64().unwrap());
        };
        let (mut served, mut refused) = (0, 0);
        for report in &reports {
            let (of_it, rest) = report.split_once(' ').unwrap();
            served += of_it.parse::<usize>().unwrap();
            refused += rest.parse::<usize>().unwrap();
        }
        println!(
            "{served} served, {refused} turned away, {most} at once, {:?}",
            begun.elapsed()
        );
        assert_eq!(served + refused, PROCESSES * WAVES * WAVE);
        assert!(most as usize <= ALLOWED, "{most}");
        assert!(
            (ALLOWED * 9 / 10..=ALLOWED).contains(&served),
            "{served} {refused}"
        );
        let begun = Instant::now();
        while edge.status().await["connections"] != 1 {
            assert!(begun.elapsed() < Duration::from_secs(10));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(edge.connect().await.get("/name").await.status, 200);
        drop(edge.stop().await);
    });
}

/// The other processes' part: prints how many connections were served, and how many were not.
fn attack(source: &str, target: SocketAddr) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(async {
        let (mut held, mut refused) = (Vec::new(), 0);
        for _ in 0..WAVES {
            let wave = (0..WAVE).map(|_| attempt(source, target));
            for attempt in futures_util::future::join_all(wave).await {
                match attempt {
                    Some(stream) => held.push(stream),
                    None => refused += 1,
                }
            }
        }
        let report = format!("{REPORT}{} {refused}\n", held.len());
        std::io::stdout().write_all(report.as_bytes()).unwrap();
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
    });
}

async fn attempt(source: &str, target: SocketAddr) -> Option<TcpStream> {
    let served = async {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::new(source.parse().unwrap(), 0))?;
        let mut stream = socket.connect(target).await?;
        // About the server: no worker is asked.
        stream
            .write_all(b"OPTIONS * HTTP/1.1\r\nHost: worker.test\r\n\r\n")
            .await?;
        let mut start = [0; 12];
        stream.read_exact(&mut start).await?;
        Ok::<_, std::io::Error>((start == *b"HTTP/1.1 204").then_some(stream))
    };
    let served = tokio::time::timeout(Duration::from_secs(30), served).await;
    served.ok()?.ok()?
}

/// Every mode of slowhttptest at once: each says at its end whether the service was available to others.
#[test]
fn slow_clients_take_nothing_from_others() {
    run(async {
        let (edge, _worker) = TestEdge::with_worker(Limits {
            header_timeout_ms: 2_000,
            body_idle_timeout_ms: 2_000,
            ..Limits::default()
        })
        .await;
        let url = format!("http://{}/endless", edge.address);
        let modes = ["-H", "-B", "-R", "-X"].map(|mode| {
            let url = url.clone();
            let started = Command::new("slowhttptest")
                .args([
                    mode, "-c", "400", "-r", "200", "-i", "1", "-l", "8", "-p", "2", "-u",
                ])
                .arg(url)
                .stdout(Stdio::piped())
                .spawn()
                .expect("slowhttptest is not installed: scripts/setup.sh --test");
            (
                mode,
                tokio::task::spawn_blocking(move || started.wait_with_output().unwrap()),
            )
        });
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(7) {
            let asked = Instant::now();
            assert_eq!(edge.connect().await.get("/name").await.status, 200);
            assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        for (mode, ended) in modes {
            let output = String::from_utf8_lossy(&ended.await.unwrap().stdout).into_owned();
            let verdict = output.rsplit("service available:").next().unwrap();
            assert!(verdict.contains("YES"), "{mode}: {output}");
        }
        drop(edge.stop().await);
    });
}
