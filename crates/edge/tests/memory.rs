//! What an idle connection costs: a binary of its own, because resident memory is the process's and
//! tests beside this one would be counted in.

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
use std::time::Duration;
use support::{Client, TestEdge, Worker, run};

/// Resident memory of this process, which is the edge, its worker and the clients.
fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
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
    run(async {
        let (edge, worker) = TestEdge::with_worker(Limits::default()).await;
        // The first wave grows what is shared, and what the allocator keeps for connections that work.
        let mut open = open_and_nap(&edge, &worker, CONNECTIONS).await;
        let before = resident_bytes();
        for _ in 0..WAVES {
            open.extend(open_and_nap(&edge, &worker, CONNECTIONS).await);
        }
        let each = (resident_bytes() - before) / (WAVES * CONNECTIONS) as u64;
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
