//! Deadlines and caps.

use crate::support::{TestEdge, run};
use astraler_edge::Limits;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;

#[test]
fn a_dribbled_head_is_cut_at_its_deadline() {
    run(async {
        let (edge, _worker) = TestEdge::with_worker(Limits {
            header_timeout_ms: 500,
            ..Limits::default()
        })
        .await;
        let mut client = edge.connect().await;
        let begun = Instant::now();
        let (mut read, mut write) = {
            client.send("GET / HTTP/1.1\r\nHost: worker.test\r\nX: ").await;
            let stream = client.stream;
            stream.into_split()
        };
        let dribble = tokio::spawn(async move {
            while write.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let mut text = Vec::new();
        let _ = tokio::io::AsyncReadExt::read_to_end(&mut read, &mut text).await;
        assert!(
            text.starts_with(b"HTTP/1.1 408 "),
            "{}",
            String::from_utf8_lossy(&text)
        );
        assert!(
            (450..3_000).contains(&begun.elapsed().as_millis()),
            "{:?}",
            begun.elapsed()
        );
        dribble.abort();
        let lines = edge.stop().await;
        assert_eq!(
            (lines[0]["status"].as_u64(), lines[0]["error"].as_str()),
            (Some(408), Some("head_timeout"))
        );
        assert_eq!(
            (lines[0]["method"].as_str(), lines[0]["path"].as_str()),
            (Some("GET"), Some("/"))
        );
    });
}

#[test]
fn a_slow_body_is_cut_and_the_client_blamed() {
    run(async {
        let (edge, worker) = TestEdge::with_worker(Limits {
            body_idle_timeout_ms: 300,
            ..Limits::default()
        })
        .await;
        let mut client = edge.connect().await;
        let begun = Instant::now();
        client
            .send("POST /x HTTP/1.1\r\nHost: worker.test\r\nContent-Length: 10\r\n\r\nabc")
            .await;
        assert_eq!(client.reply().await.unwrap().status, 408);
        assert!(
            (250..2_500).contains(&begun.elapsed().as_millis()),
            "{:?}",
            begun.elapsed()
        );
        assert!(client.is_closed().await);
        assert!(worker.take_seen().is_empty());
        let lines = edge.stop().await;
        assert_eq!(
            (
                lines[0]["error"].as_str(),
                lines[0]["blame"].as_str(),
                lines[0]["bytes_in"].as_u64()
            ),
            (Some("body_timeout"), Some("client"), Some(3))
        );
    });
}

#[test]
fn an_idle_connection_is_closed_but_not_one_that_waits_for_its_answer() {
    run(async {
        let (edge, _worker) = TestEdge::with_worker(Limits {
            idle_timeout_ms: 200,
            ..Limits::default()
        })
        .await;
        let mut client = edge.connect().await;
        assert_eq!(client.get("/slow").await.text(), "slow");
        let begun = Instant::now();
        assert!(client.is_closed().await);
        assert!(
            (150..2_000).contains(&begun.elapsed().as_millis()),
            "{:?}",
            begun.elapsed()
        );
        drop(edge.stop().await);
    });
}

#[test]
fn a_body_without_a_length_is_cut_at_the_limit() {
    run(async {
        let (edge, worker) = TestEdge::with_worker(Limits {
            max_body_bytes: 1000,
            ..Limits::default()
        })
        .await;
        let mut client = edge.connect().await;
        client
            .send("POST /x HTTP/1.1\r\nHost: worker.test\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        let mut answered = false;
        for _ in 0..20 {
            if client
                .stream
                .write_all(format!("64\r\n{}\r\n", "x".repeat(100)).as_bytes())
                .await
                .is_err()
            {
                answered = true;
                break;
            }
            tokio::task::yield_now().await;
        }
        let _ = answered;
        assert_eq!(client.reply().await.unwrap().status, 413);
        assert!(worker.take_seen().is_empty());
        client = edge.connect().await;
        client
            .send(
                "POST /x HTTP/1.1\r\nHost: worker.test\r\nContent-Length: 1000\r\n\r\n".to_owned()
                    + &"y".repeat(1000),
            )
            .await;
        assert_eq!(client.reply().await.unwrap().body.len(), 1000);
        drop(edge.stop().await);
    });
}

#[test]
fn one_connection_too_many_is_told_so() {
    run(async {
        let (edge, _worker) = TestEdge::with_worker(Limits {
            max_connections: 3,
            ..Limits::default()
        })
        .await;
        let mut open = Vec::new();
        for _ in 0..3 {
            let mut client = edge.connect().await;
            assert_eq!(client.get("/a").await.status, 200);
            open.push(client);
        }
        let mut fourth = edge.connect().await;
        let reply = fourth.reply().await.unwrap();
        assert_eq!(
            (
                reply.status,
                reply.header("retry-after"),
                reply.header("connection")
            ),
            (503, Some("1"), Some("close"))
        );
        assert_eq!(reply.text(), "Too many connections\n");
        assert!(fourth.is_closed().await);
        assert_eq!(edge.status().await["turned_away_total"], 1);
        open.pop();
        while edge.status().await["connections"] != 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(edge.connect().await.get("/a").await.status, 200);
        assert_eq!(open[0].get("/a").await.status, 200);
        drop(edge.stop().await);
    });
}

#[test]
fn a_refused_upload_still_reads_its_answer() {
    run(async {
        let (edge, _worker) = TestEdge::with_worker(Limits::default()).await;
        for _ in 0..20 {
            let mut client = edge.connect().await;
            // More than the socket buffers hold unread would reset the connection and lose the answer.
            client
                .send(
                    "POST / HTTP/1.1\r\nHost: worker.test\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
                        .to_owned()
                        + &"x".repeat(100_000),
                )
                .await;
            assert_eq!(client.reply().await.unwrap().status, 400);
        }
        drop(edge.stop().await);
    });
}
