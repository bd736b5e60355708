//! What an idle connection costs: a binary of its own, because resident memory is the process's and
//! tests beside this one would be counted in.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "these are tests: helpers write files and unwrap as tests do"
)]

#[allow(dead_code, reason = "shared with the other tests, which use the rest of it")]
mod secured;
#[allow(
    dead_code,
    unused_imports,
    reason = "shared with the other tests, which use the rest of it"
)]
mod support;

use astraler_edge::Limits;
use bytes::Bytes;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use support::{Client, TestEdge, Worker, run};

/// One at a time: each measures the whole process.
static ALONE: Mutex<()> = Mutex::new(());

/// Resident memory of this process, which is the edge, its worker and the clients.
fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// That of it which was allocated. The rest is the program's own pages, which a system that reclaims may take at any time.
fn allocated_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: Vec<u64> = text.split(' ').filter_map(|word| word.parse().ok()).collect();
    (pages[1] - pages[2]) * 4096
}

async fn open_and_nap(edge: &TestEdge, worker: &Worker, count: usize) -> Vec<Client> {
    let mut open = Vec::with_capacity(count);
    for _ in 0..count {
        let mut client = edge.connect().await;
        assert_eq!(client.get("/name").await.status, 200);
        client.buffer = Vec::new();
        // What the worker remembers is not the edge's.
        drop(worker.take_seen());
        open.push(client);
    }
    // Naps begin after half a second.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    open
}

#[test]
fn an_idle_connection_costs_little_memory() {
    const WAVES: usize = 4;
    const CONNECTIONS: usize = 500;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    run(async {
        let (edge, worker) = TestEdge::with_worker(Limits {
            max_connections_per_client: 0,
            ..Limits::default()
        })
        .await;
        // The first wave grows what is shared, and what the allocator keeps for connections that work.
        let mut open = open_and_nap(&edge, &worker, CONNECTIONS).await;
        let before = allocated_bytes();
        for _ in 0..WAVES {
            open.extend(open_and_nap(&edge, &worker, CONNECTIONS).await);
        }
        let each = allocated_bytes().saturating_sub(before) / (WAVES * CONNECTIONS) as u64;
        println!("resident memory of one more idle connection, the client's side included: {each} bytes");
        assert_eq!(edge.status().await["connections"], (1 + WAVES) * CONNECTIONS);
        // About 5 KB where nothing else runs; the bound is the figure that the edge promises in plaintext.
        assert!(each <= 12_000, "{each} bytes");
        // They are all still good.
        for mut client in open.into_iter().step_by(100) {
            assert_eq!(client.get("/name").await.text(), "worker");
        }
        drop(edge.stop().await);
    });
}

#[test]
fn an_idle_connection_over_tls_costs_little_memory() {
    const WAVES: usize = 3;
    const CONNECTIONS: usize = 400;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    run(async {
        let secured = secured::Secured::served(Limits {
            max_connections_per_client: 0,
            ..Limits::default()
        })
        .await;
        let mut each = Vec::new();
        for alpn in ["http/1.1", "h2"] {
            let config = secured.client(rustls::ALL_VERSIONS, &[alpn]);
            let open = async || {
                let mut open = Vec::with_capacity(CONNECTIONS);
                for _ in 0..CONNECTIONS {
                    let stream = secured.connect(&config, "worker.test").await.unwrap();
                    open.push(asked_once(stream, alpn).await);
                    drop(secured._worker.take_seen());
                }
                tokio::time::sleep(Duration::from_millis(1_500)).await;
                open
            };
            let mut all = open().await;
            let before = allocated_bytes();
            for _ in 0..WAVES {
                all.extend(open().await);
            }
            each.push(allocated_bytes().saturating_sub(before) / (WAVES * CONNECTIONS) as u64);
            assert_eq!(secured.edge.status().await["connections"], all.len());
            drop(all);
            while secured.edge.status().await["connections"] != 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        println!("resident memory of one more idle connection over TLS: {each:?} bytes (HTTP/1.1, HTTP/2)");
        assert!(each[0] <= 25_000, "{each:?} bytes");
        assert!(each[1] <= 60_000, "{each:?} bytes");
        drop(secured.edge.stop().await);
    });
}

/// Asks for something, and keeps the socket only: the client's side of TLS is not the edge's.
async fn asked_once(
    mut stream: tokio_rustls::client::TlsStream<tokio::net::TcpStream>,
    alpn: &str,
) -> tokio::net::TcpStream {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let request: &[u8] = match alpn {
        "h2" => {
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00\
            \x00\x00\x16\x01\x05\x00\x00\x00\x01\x82\x87\x04\x05/name\x01\x0bworker.test"
        }
        _ => b"GET /name HTTP/1.1\r\nHost: worker.test\r\n\r\n",
    };
    stream.write_all(request).await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"worker") {
        assert!(stream.read_buf(&mut seen).await.unwrap() > 0);
    }
    stream.into_inner().0
}

#[test]
fn load_beyond_the_budget_is_shed_and_it_serves_again_afterwards() {
    const SPARE: u64 = 120 << 20;
    static PIECE: [u8; 120 << 10] = [b'x'; 120 << 10];
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    run(async {
        let budget = resident_bytes() + SPARE;
        let edge = TestEdge::start(
            Limits {
                max_memory_bytes: budget,
                max_connections_per_client: 0,
                ..Limits::default()
            },
            |folder| {
                let mut stuck = support::route("stuck.test", vec![("/", folder.join("stuck.sock"))]);
                stuck.deployment = "dep-2".to_owned();
                vec![
                    support::route("worker.test", vec![("/", folder.join("w.sock"))]),
                    stuck,
                ]
            },
        )
        .await;
        let _worker = Worker::start(&edge.folder.path().join("w.sock"));
        // It takes connections, and nothing that is sent on them.
        let _stuck = std::os::unix::net::UnixListener::bind(edge.folder.path().join("stuck.sock")).unwrap();
        let mut idle = Vec::new();
        for _ in 0..50 {
            let mut client = edge.connect().await;
            assert_eq!(client.get("/name").await.status, 200);
            idle.push(client);
        }
        let mut uploads = Vec::new();
        let mut most = 0;
        // Some 850 do, if the system takes none of the program's own pages meanwhile.
        for _ in 0..2_000 {
            let stream = tokio::net::TcpStream::connect(edge.address).await.unwrap();
            let Ok((mut send, connection)) = h2::client::handshake(stream).await else {
                break;
            };
            uploads.push(tokio::spawn(async move {
                let driver = tokio::spawn(connection);
                let mut held = Vec::new();
                for _ in 0..4 {
                    let Ok(ready) = send.ready().await else { break };
                    send = ready;
                    let request = http::Request::post("http://stuck.test/").body(()).unwrap();
                    let Ok((answer, mut body)) = send.send_request(request, false) else {
                        break;
                    };
                    let _ = body.send_data(Bytes::from_static(&PIECE), false);
                    held.push((answer, body));
                }
                let _ = driver.await;
            }));
            tokio::time::sleep(Duration::from_millis(3)).await;
            most = most.max(resident_bytes());
            if edge.status().await["shedding"] == true {
                break;
            }
        }
        assert_eq!(
            edge.status().await["shedding"],
            true,
            "{} uploads, {most} bytes",
            uploads.len()
        );
        // A new client is turned away, one that was there is told to come later or was asked to leave.
        let mut client = edge.connect().await;
        assert_eq!(client.reply().await.unwrap().status, 503);
        for client in &mut idle {
            if let Ok(true) = tokio::time::timeout(Duration::from_secs(8), client.is_closed()).await {
                continue;
            }
            panic!("an idle connection stays");
        }
        most = most.max(resident_bytes());
        assert!(most < budget, "{most} of {budget} bytes");
        println!("budget {budget}, at most {most} bytes, {} uploads", uploads.len());
        for upload in uploads {
            upload.abort();
        }
        let begun = std::time::Instant::now();
        while edge.status().await["shedding"] == true {
            assert!(
                begun.elapsed() < Duration::from_secs(15),
                "{:?}",
                edge.status().await
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(edge.connect().await.get("/name").await.status, 200);
        drop(edge.stop().await);
    });
}
