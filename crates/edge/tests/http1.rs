//! The server of HTTP/1.1 at its borders: ends of connections, leftovers, interim answers, versions.

use crate::support::{TestEdge, run};
use astraler_edge::Limits;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[test]
fn a_client_that_has_ended_its_side_still_gets_every_answer() {
    run(async {
        let (edge, worker) = TestEdge::with_worker(Limits::default()).await;
        let mut client = edge.connect().await;
        client
            .send("GET /slow HTTP/1.1\r\nHost: worker.test\r\n\r\nPOST /x HTTP/1.1\r\nHost: worker.test\r\nContent-Length: 2\r\n\r\nhi")
            .await;
        client.stream.shutdown().await.unwrap();
        assert_eq!(client.reply().await.unwrap().text(), "slow");
        assert_eq!(client.reply().await.unwrap().text(), "hi");
        assert!(client.is_closed().await);
        assert_eq!(worker.take_seen().len(), 2);
        let lines = edge.stop().await;
        assert!(lines.iter().all(|line| line["status"] == 200), "{lines:?}");
    });
}

#[test]
fn requests_sent_ahead_are_answered_in_order_however_slow_the_first_is() {
    run(async {
        let (edge, _worker) = TestEdge::with_worker(Limits::default()).await;
        let mut client = edge.connect().await;
        let mut script = "GET /slow HTTP/1.1\r\nHost: worker.test\r\n\r\n".to_owned();
        for n in 0..200 {
            let body = format!("number {n:>50}");
            script += &format!(
                "POST /n HTTP/1.1\r\nHost: worker.test\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
        }
        // More than the edge takes ahead of an answer.
        assert!(script.len() > 16 << 10);
        client.send(script).await;
        assert_eq!(client.reply().await.unwrap().text(), "slow");
        for n in 0..200 {
            assert_eq!(client.reply().await.unwrap().text(), format!("number {n:>50}"));
        }
        drop(edge.stop().await);
    });
}

#[test]
fn the_unread_rest_of_a_small_body_does_not_cost_the_connection() {
    run(async {
        let (edge, _worker) = TestEdge::with_worker(Limits::default()).await;
        let mut client = edge.connect().await;
        for framing in [
            "Content-Length: 5\r\n\r\nhello",
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ] {
            client
                .send(format!("POST /x HTTP/1.1\r\nHost: nobody.test\r\n{framing}"))
                .await;
            let reply = client.reply().await.unwrap();
            assert_eq!((reply.status, reply.header("connection")), (421, None));
        }
        assert_eq!(client.get("/name").await.text(), "worker");
        // A large one does, and the client is told so at once.
        client
            .send("POST /x HTTP/1.1\r\nHost: nobody.test\r\nContent-Length: 1000000\r\n\r\n")
            .await;
        let reply = client.reply().await.unwrap();
        assert_eq!((reply.status, reply.header("connection")), (421, Some("close")));
        assert!(client.is_closed().await);
        drop(edge.stop().await);
    });
}

#[test]
fn a_client_that_got_no_go_ahead_is_not_waited_for() {
    run(async {
        let (edge, _worker) = TestEdge::with_worker(Limits::default()).await;
        let mut client = edge.connect().await;
        client
            .send(
                "POST /x HTTP/1.1\r\nHost: nobody.test\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
            )
            .await;
        let reply = client.reply().await.unwrap();
        assert_eq!((reply.status, reply.header("connection")), (421, Some("close")));
        assert!(client.is_closed().await);
        // HTTP/1.0 knows no interim answer.
        let mut client = edge.connect().await;
        client
            .send("POST /x HTTP/1.0\r\nHost: worker.test\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi")
            .await;
        assert_eq!(client.reply().await.unwrap().text(), "hi");
        drop(edge.stop().await);
    });
}

#[test]
fn an_old_client_gets_what_it_understands() {
    run(async {
        let (edge, _worker) = TestEdge::with_worker(Limits::default()).await;
        let mut client = edge.connect().await;
        client
            .send("GET /length HTTP/1.0\r\nHost: worker.test\r\nConnection: keep-alive\r\n\r\n")
            .await;
        let reply = client.reply().await.unwrap();
        assert_eq!(
            (reply.body.len(), reply.header("connection")),
            (1234, Some("keep-alive"))
        );
        // A length that nobody knows: the end of the connection is the end of the body, and no chunk is seen.
        client
            .send("GET /trailers HTTP/1.0\r\nHost: worker.test\r\nConnection: keep-alive\r\n\r\n")
            .await;
        let reply = client.reply().await.unwrap();
        assert_eq!(
            (reply.text().as_str(), reply.header("connection")),
            ("body", Some("close"))
        );
        // So a body that ends early must break the connection.
        let mut client = edge.connect().await;
        client
            .send("GET /cut-chunks HTTP/1.0\r\nHost: worker.test\r\n\r\n")
            .await;
        let mut text = Vec::new();
        let error = client.stream.read_to_end(&mut text).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        drop(edge.stop().await);
    });
}

#[test]
fn trailers_come_only_to_those_who_take_them() {
    run(async {
        let (edge, _worker) = TestEdge::with_worker(Limits::default()).await;
        let mut client = edge.connect().await;
        let reply = client.get("/trailers").await;
        assert_eq!((reply.text().as_str(), reply.trailers.len()), ("body", 0));
        let reply = client
            .get_with("worker.test", "/trailers", "TE: gzip, trailers;q=0.5\r\n")
            .await;
        assert_eq!(reply.trailers, [("x-sum".to_owned(), "42".to_owned())]);
        drop(edge.stop().await);
    });
}

#[test]
fn a_body_that_is_cut_off_is_the_clients_fault() {
    run(async {
        let (edge, worker) = TestEdge::with_worker(Limits::default()).await;
        for framing in [
            "Content-Length: 10\r\n\r\nabc",
            "Transfer-Encoding: chunked\r\n\r\na\r\nabc",
        ] {
            let mut client = edge.connect().await;
            client
                .send(format!("POST /x HTTP/1.1\r\nHost: worker.test\r\n{framing}"))
                .await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            client.stream.shutdown().await.unwrap();
            drop(client.reply().await);
        }
        assert!(worker.take_seen().is_empty(), "a cut body must not look whole");
        let lines = edge.stop().await;
        assert_eq!(lines.len(), 2);
        for line in lines {
            assert_eq!(
                (line["error"].as_str(), line["blame"].as_str()),
                (Some("client_gone"), Some("client")),
                "{line}"
            );
        }
    });
}

#[test]
fn empty_lines_are_counted_however_they_come() {
    run(async {
        let (edge, _worker) = TestEdge::with_worker(Limits::default()).await;
        let mut client = edge.connect().await;
        for _ in 0..2 {
            // A few before each request are nobody's business.
            for _ in 0..4 {
                client.send("\r\n").await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            assert_eq!(client.get("/name").await.status, 200);
        }
        for _ in 0..5 {
            client.send("\r\n").await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(client.reply().await.unwrap().status, 400);
        drop(edge.stop().await);
    });
}
