//! A unit is replaced while clients connect: each of them is answered.

use crate::support::{Platform, free_address, server, unit};
use crate::takeover::clients;
use astraler_host::process;
use astraler_host::supervisor::{Started, Supervisor, SupervisorError};
use astraler_model::UnitPhase;
use serde_json::json;
use std::io::Read;
use std::net::TcpStream;
use std::sync::atomic::Ordering;

#[tokio::test]
async fn every_connection_is_answered_through_replacements_and_failed_ones() {
    let mut platform = Platform::start().await;
    let address = free_address();
    let mut spec = server("web", address, 20);
    let Started::Fresh(mut before) = platform.client.replace(&spec).await.unwrap() else {
        panic!("not fresh")
    };
    let (end, thread) = clients(address);
    for round in 0..5 {
        spec.env.insert("ROUND".into(), round.to_string());
        let Started::Fresh(after) = platform.client.replace(&spec).await.unwrap() else {
            panic!("not fresh")
        };
        assert_ne!(after.pid, before.pid);
        assert_eq!(
            (after.phase, after.spec_digest.clone()),
            (UnitPhase::Running, spec.digest())
        );
        assert!(
            !process::is_alive(before.pid.unwrap()),
            "the old one has ended when the answer comes"
        );
        before = after;
    }
    let broken = unit(
        "web",
        &["say", "5", "broken"],
        json!({
            "listeners": [{ "name": "http", "address": { "tcp": address } }],
            "ready": { "line": { "timeout_ms": 5_000 } },
        }),
    );
    let error = platform.client.replace(&broken).await.unwrap_err();
    assert!(
        matches!(&error, SupervisorError::Failed { exit, .. } if exit == "exit status 5"),
        "{error}"
    );
    let status = platform.status("web").await;
    assert_eq!(
        (status.pid, status.phase, status.spec_digest),
        (before.pid, UnitPhase::Running, spec.digest())
    );
    end.store(true, Ordering::SeqCst);
    assert!(thread.join().unwrap() > 50);

    // Another address: the new one is bound, the old one is closed.
    let other = free_address();
    let moved = server("web", other, 0);
    let after = platform.client.replace(&moved).await.unwrap().status().clone();
    let mut answer = String::new();
    TcpStream::connect(other)
        .unwrap()
        .read_to_string(&mut answer)
        .unwrap();
    assert_eq!(answer.trim().parse().ok(), after.pid);
    assert!(TcpStream::connect(address).is_err());
    platform.shutdown().await;
}

#[tokio::test]
async fn connections_wait_while_a_unit_restarts() {
    let mut platform = Platform::start().await;
    let address = free_address();
    let spec = server("web", address, 150);
    platform.client.start(&spec).await.unwrap();
    let (end, thread) = clients(address);
    for _ in 0..2 {
        platform.client.restart(&spec.name).await.unwrap();
    }
    end.store(true, Ordering::SeqCst);
    assert!(thread.join().unwrap() > 2);
    platform.shutdown().await;
}
