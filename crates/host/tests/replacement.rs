//! A unit is replaced while clients connect: each of them is answered.

use crate::support::{Platform, free_address, server, unit, until};
use crate::takeover::clients;
use astraler_host::process;
use astraler_host::supervisor::{Started, Supervisor, SupervisorError};
use astraler_model::{ListenAddress, Listener, UnitPhase, UnitSpec};
use serde_json::json;
use std::collections::BTreeSet;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
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

/// [`server`] with so many queues for its connections.
fn with_queues(address: SocketAddr, queues: u16) -> UnitSpec {
    let mut spec = server("web", address, 20);
    spec.listeners.extend((1..queues).map(|share| Listener {
        name: format!("http-{share}"),
        address: ListenAddress::TcpShare { address, share },
        backlog: 1024,
    }));
    spec
}

/// The queues that connections are taken from, by what the unit says of each.
fn queues(address: SocketAddr) -> BTreeSet<String> {
    let taken_from = |_| {
        let mut answer = String::new();
        TcpStream::connect(address)
            .unwrap()
            .read_to_string(&mut answer)
            .unwrap();
        let (_, queue) = answer.trim().split_once(' ').unwrap_or(("", "0"));
        queue.to_owned()
    };
    (0..100).map(taken_from).collect()
}

#[tokio::test]
async fn an_address_has_several_queues_and_no_connection_is_lost_with_them() {
    let mut platform = Platform::start().await;
    let address = free_address();
    // Who joins first is refused: nobody's address is divided in silence.
    let stranger = TcpListener::bind(address).unwrap();
    let refused = platform.client.start(&with_queues(address, 3)).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("listens there"), "{refused}");
    drop(stranger);

    // From one queue to three while clients connect, as the version that brings them does it.
    platform.client.start(&with_queues(address, 1)).await.unwrap();
    assert_eq!(queues(address), ["0"].map(String::from).into());
    let (end, thread) = clients(address);
    let mut spec = with_queues(address, 3);
    platform.client.replace(&spec).await.unwrap();
    let all = ["0", "1", "2"].map(String::from).into();
    assert_eq!(queues(address), all);
    for round in 0..3 {
        spec.env.insert("ROUND".into(), round.to_string());
        platform.client.replace(&spec).await.unwrap();
    }
    end.store(true, Ordering::SeqCst);
    assert!(thread.join().unwrap() > 20);
    assert_eq!(queues(address), all);

    // A successor of keep has all of them: the unit's own end leaves connections waiting in each.
    until("there is a standby", async || platform.keeps().len() == 2).await;
    platform.kill_keep().await;
    let (end, thread) = clients(address);
    platform.client.restart(&spec.name).await.unwrap();
    end.store(true, Ordering::SeqCst);
    assert!(thread.join().unwrap() > 0);
    assert_eq!(queues(address), all);

    // Back to one: the others close.
    let spec = with_queues(address, 1);
    platform.client.replace(&spec).await.unwrap();
    assert_eq!(queues(address), ["0"].map(String::from).into());
    let other = server("other", address, 0);
    let refused = platform.client.start(&other).await.unwrap_err().to_string();
    assert!(refused.contains("listens there"), "{refused}");
    platform.shutdown().await;
}
