//! Upgrade: after 101 bytes pass both ways untouched.

use crate::support::{Client, TestEdge, run};
use astraler_edge::Limits;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

fn handshake(target: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: worker.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// A masked text frame "Hello" (RFC 6455 section 5.7).
const FRAME: &[u8] = &[0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];

async fn open(edge: &TestEdge, target: &str) -> Client {
    let mut client = edge.connect().await;
    client.send(handshake(target)).await;
    let reply = client.reply().await.unwrap();
    assert_eq!(reply.status, 101);
    assert_eq!(reply.header("upgrade"), Some("websocket"));
    assert_eq!(
        reply.header("sec-websocket-accept"),
        Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    );
    assert!(reply.header("x-request-id").is_some());
    client
}

#[test]
fn frames_pass_both_ways_and_the_record_counts_them() {
    run(async {
        let (edge, _worker) = TestEdge::with_worker(Limits::default()).await;
        let mut client = open(&edge, "/ws").await;
        for _ in 0..3 {
            client.send(FRAME).await;
            let mut got = Vec::new();
            assert!(client.take(FRAME.len(), &mut got).await);
            assert_eq!(got, FRAME);
        }
        assert_eq!(edge.status().await["in_flight"], 1);
        // Bytes that look like a malformed request are the tunnel's.
        client.send("GET  / HTTP/9\n\n").await;
        let mut got = Vec::new();
        assert!(client.take(15, &mut got).await);
        drop(client);
        while edge.status().await["in_flight"] != 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let lines = edge.stop().await;
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0]["status"], 101);
        assert_eq!(lines[0]["upgraded"], true);
        assert_eq!(
            (lines[0]["bytes_in"].as_u64(), lines[0]["bytes_out"].as_u64()),
            (Some(48), Some(48))
        );
    });
}

#[test]
fn frames_sent_with_the_handshake_are_not_lost() {
    run(async {
        let (edge, _worker) = TestEdge::with_worker(Limits::default()).await;
        let mut client = edge.connect().await;
        let mut bytes = handshake("/ws").into_bytes();
        bytes.extend_from_slice(FRAME);
        client.send(bytes).await;
        assert_eq!(client.reply().await.unwrap().status, 101);
        let mut got = Vec::new();
        assert!(client.take(FRAME.len(), &mut got).await);
        assert_eq!(got, FRAME);
        drop(client);
        drop(edge.stop().await);
    });
}

#[test]
fn one_side_may_end_before_the_other() {
    run(async {
        let (edge, _worker) = TestEdge::with_worker(Limits::default()).await;
        let mut client = open(&edge, "/ws-farewell").await;
        client.send(FRAME).await;
        client.stream.shutdown().await.unwrap();
        let mut got = Vec::new();
        assert!(client.take(FRAME.len() + 8, &mut got).await);
        assert_eq!(&got[FRAME.len()..], b"farewell");
        assert!(client.is_closed().await);
        drop(edge.stop().await);
    });
}

#[test]
fn after_a_refusal_the_connection_speaks_http_again() {
    run(async {
        let (edge, worker) = TestEdge::with_worker(Limits::default()).await;
        let mut client = edge.connect().await;
        client.send(handshake("/ws-refused")).await;
        assert_eq!(client.reply().await.unwrap().status, 426);
        assert_eq!(client.get("/name").await.text(), "worker");
        // And pipelined behind a handshake for nobody.
        let nobody = handshake("/x").replace("worker.test", "nobody.test");
        client
            .send(format!("{nobody}GET /name HTTP/1.1\r\nHost: worker.test\r\n\r\n"))
            .await;
        assert_eq!(client.reply().await.unwrap().status, 421);
        assert_eq!(client.reply().await.unwrap().text(), "worker");
        assert_eq!(worker.take_seen().len(), 2);
        drop(edge.stop().await);
    });
}

#[test]
fn a_silent_tunnel_ends() {
    run(async {
        let (edge, _worker) = TestEdge::with_worker(Limits {
            tunnel_idle_timeout_ms: 200,
            ..Limits::default()
        })
        .await;
        let mut client = open(&edge, "/ws").await;
        assert!(client.is_closed().await);
        drop(edge.stop().await);
    });
}
