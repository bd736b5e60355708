//! Upstreams that say exactly what a test wants, byte for byte: interim answers, lies about lengths, garbage.

use crate::support::{Client, TestEdge, route, run};
use astraler_edge::Limits;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// What an upstream does with a connection once a head has come.
#[derive(Clone, Copy)]
pub(crate) enum Then {
    Close,
    /// Reads and says nothing.
    Stay,
}

/// An edge in front of an upstream that answers every head with `script`; how many heads came.
async fn edge_with(script: &'static [u8], then: Then) -> (TestEdge, Arc<AtomicUsize>) {
    let limits = Limits {
        upstream_retry_ms: 100,
        upstream_body_idle_timeout_ms: 1_000,
        ..Limits::default()
    };
    let edge = TestEdge::start(limits, |folder| {
        vec![route("worker.test", vec![("/", folder.join("w.sock"))])]
    })
    .await;
    let heads = listen(&edge.folder.path().join("w.sock"), script, then);
    (edge, heads)
}

/// An upstream in place of whatever listened there.
pub(crate) fn listen(socket: &Path, script: &'static [u8], then: Then) -> Arc<AtomicUsize> {
    let _ = std::fs::remove_file(socket);
    let listener = UnixListener::bind(socket).unwrap();
    let heads = Arc::new(AtomicUsize::new(0));
    let counted = heads.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(play(stream, script, then, counted.clone()));
        }
    });
    heads
}

async fn play(mut stream: UnixStream, script: &'static [u8], then: Then, heads: Arc<AtomicUsize>) {
    let mut seen = Vec::new();
    loop {
        while !seen.windows(4).any(|four| four == b"\r\n\r\n") {
            if stream.read_buf(&mut seen).await.unwrap_or(0) == 0 {
                return;
            }
        }
        seen.clear();
        heads.fetch_add(1, Ordering::SeqCst);
        if stream.write_all(script).await.is_err() || matches!(then, Then::Close) {
            return;
        }
    }
}

async fn get(edge: &TestEdge) -> crate::support::Reply {
    edge.connect().await.get("/x").await
}

#[test]
fn interim_answers_pass_before_the_answer() {
    run(async {
        let script = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nConnection: x\r\nX: hop\r\n\r\n\
            HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 199 \r\nX-Of: nobody\r\n\r\n\
            HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        let (edge, _) = edge_with(script, Then::Stay).await;
        let mut client = edge.connect().await;
        for _ in 0..2 {
            let first = client.get("/x").await;
            assert_eq!(
                (first.status, first.header("link"), first.header("x")),
                (103, Some("</a.css>; rel=preload"), None)
            );
            assert_eq!(client.reply().await.unwrap().status, 102);
            let third = client.reply().await.unwrap();
            assert_eq!((third.status, third.header("x-of")), (199, Some("nobody")));
            let last = client.reply().await.unwrap();
            assert_eq!((last.status, last.text().as_str()), (200, "ok"));
        }
        // HTTP/1.0 knows none.
        client.send("GET /x HTTP/1.0\r\nHost: worker.test\r\n\r\n").await;
        assert_eq!(client.reply().await.unwrap().status, 200);
        let lines = edge.stop().await;
        assert_eq!(lines.len(), 3, "an interim answer is no request");
    });
}

#[test]
fn early_hints_do_not_wait_for_the_answer() {
    run(async {
        let (edge, _) = edge_with(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", Then::Stay).await;
        let hints = tokio::time::timeout(Duration::from_secs(5), get(&edge)).await;
        assert_eq!(hints.expect("they came").status, 103);
        drop(edge.stop().await);
    });
}

#[test]
fn interim_answers_pass_over_http2_and_do_not_wait_either() {
    run(async {
        let script = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n";
        let (edge, _) = edge_with(script, Then::Stay).await;
        let stream = tokio::net::TcpStream::connect(edge.address).await.unwrap();
        let (mut send, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = http::Request::get("http://worker.test/x").body(()).unwrap();
        let (mut response, _) = send.send_request(request, true).unwrap();
        let hints = futures_util::future::poll_fn(|cx| response.poll_informational(cx));
        let hints = tokio::time::timeout(Duration::from_secs(5), hints).await;
        let hints = hints.expect("they came").unwrap().unwrap();
        assert_eq!(
            (hints.status().as_u16(), &hints.headers()["link"]),
            (103, &"</a>".parse().unwrap())
        );
        let next = futures_util::future::poll_fn(|cx| response.poll_informational(cx));
        let next = tokio::time::timeout(Duration::from_secs(5), next).await;
        assert_eq!(next.expect("it came").unwrap().unwrap().status(), 102);
        connection.abort();
        drop(edge.stop().await);

        // Nor are they lost where the answer comes with them.
        let script =
            b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        let (edge, _) = edge_with(script, Then::Stay).await;
        let stream = tokio::net::TcpStream::connect(edge.address).await.unwrap();
        let (mut send, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = http::Request::get("http://worker.test/x").body(()).unwrap();
        let (mut response, _) = send.send_request(request, true).unwrap();
        let hints = futures_util::future::poll_fn(|cx| response.poll_informational(cx)).await;
        assert_eq!(hints.expect("they came").unwrap().status(), 103);
        assert_eq!(response.await.unwrap().status(), 200);
        connection.abort();
        drop(edge.stop().await);
    });
}

#[test]
fn an_answer_that_is_not_sound_is_a_bad_gateway() {
    run(async {
        for script in [
            &b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc"[..],
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\nContent-Length: 2\n\nab",
            b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nSet\0Cookie: 1\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 1000 OK\r\n\r\n",
            b"HTTP/3 200 OK\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
            b"\r\n\r\n",
        ] {
            let (edge, heads) = edge_with(script, Then::Stay).await;
            let reply = get(&edge).await;
            let shown = String::from_utf8_lossy(script).into_owned();
            assert_eq!(reply.status, 502, "{shown:?}");
            assert_eq!(heads.load(Ordering::SeqCst), 1, "sent again: {shown:?}");
            let lines = edge.stop().await;
            assert_eq!(
                (lines[0]["error"].as_str(), lines[0]["blame"].as_str()),
                (Some("upstream_invalid"), Some("upstream")),
                "{shown:?}"
            );
        }
    });
}

#[test]
fn a_switch_to_another_protocol_is_no_tunnel() {
    run(async {
        for (script, status) in [
            (
                &b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\nraw"[..],
                502,
            ),
            (
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\r\nraw",
                502,
            ),
            (
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: upgrade\r\n\r\nraw",
                101,
            ),
        ] {
            let (edge, _) = edge_with(script, Then::Close).await;
            let mut client = edge.connect().await;
            client
                .send("GET /x HTTP/1.1\r\nHost: worker.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
                .await;
            while client.buffer.len() < 12 && client.fill().await {}
            let begun = String::from_utf8_lossy(&client.buffer).into_owned();
            assert!(begun.starts_with(&format!("HTTP/1.1 {status}")), "{begun}");
        }
    });
}

#[test]
fn an_endless_head_ends() {
    run(async {
        // Interim answers without an end, and a head that goes on and on.
        let interim: &[u8] = b"HTTP/1.1 102 Processing\r\n\r\n".repeat(10_000).leak();
        let long: &[u8] = [b"HTTP/1.1 200 OK\r\nX: ".to_vec(), vec![b'x'; 1 << 20]]
            .concat()
            .leak();
        for script in [interim, long] {
            let (edge, _) = edge_with(script, Then::Stay).await;
            let mut client = edge.connect().await;
            let mut answer = client.get("/x").await;
            let mut passed = 0;
            while answer.status == 102 {
                passed += 1;
                answer = client.reply().await.unwrap();
            }
            assert_eq!(answer.status, 502);
            assert!(passed <= 3_000, "{passed} of 10,000 interim answers passed");
            drop(edge.stop().await);
        }
    });
}

#[test]
fn a_head_that_comes_byte_by_byte_has_the_time_of_one() {
    run(async {
        let limits = Limits {
            upstream_timeout_ms: 400,
            ..Limits::default()
        };
        let edge = TestEdge::start(limits, |folder| {
            vec![route("worker.test", vec![("/", folder.join("w.sock"))])]
        })
        .await;
        let listener = UnixListener::bind(edge.folder.path().join("w.sock")).unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            for byte in b"HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 0\r\n\r\n" {
                if stream.write_all(&[*byte]).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        assert_eq!(get(&edge).await.status, 504);
        drop(edge.stop().await);
    });
}

#[test]
fn a_body_that_is_short_is_never_completed() {
    run(async {
        for (script, then, status) in [
            (
                &b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"[..],
                Then::Close,
                200,
            ),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
                Then::Stay,
                200,
            ),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
                Then::Close,
                200,
            ),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
                Then::Close,
                200,
            ),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcX\r\n0\r\n\r\n",
                Then::Stay,
                200,
            ),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
                Then::Stay,
                200,
            ),
        ] {
            let (edge, _) = edge_with(script, then).await;
            let reply = get(&edge).await;
            let shown = String::from_utf8_lossy(script).into_owned();
            assert_eq!(reply.status, status, "{shown:?}");
            assert!(reply.cut, "{shown:?}: {reply:?}");
            let lines = edge.stop().await;
            assert_eq!(lines[0]["blame"], "upstream", "{shown:?}");
        }
    });
}

#[test]
fn bytes_behind_an_answer_are_not_the_next_ones() {
    run(async {
        let script =
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
        let (edge, _) = edge_with(script, Then::Stay).await;
        let mut client = edge.connect().await;
        for _ in 0..3 {
            assert_eq!(client.get("/x").await.text(), "ok");
        }
        assert_eq!(edge.status().await["upstream_idle_connections"], 0);
        drop(edge.stop().await);
    });
}

#[test]
fn until_the_end_of_the_connection_is_a_length_too() {
    run(async {
        let (edge, _) = edge_with(b"HTTP/1.0 200 OK\r\nX: 1\r\n\r\nold and short", Then::Close).await;
        let reply = get(&edge).await;
        assert_eq!((reply.text().as_str(), reply.cut), ("old and short", false));
        drop(edge.stop().await);
    });
}

#[test]
fn an_answer_before_the_end_of_an_upload_arrives_although_the_upstream_stops_reading() {
    run(async {
        let script = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig";
        let (edge, heads) = edge_with(script, Then::Close).await;
        let mut client: Client = edge.connect().await;
        client
            .send("POST /x HTTP/1.1\r\nHost: worker.test\r\nContent-Length: 8000000\r\n\r\n")
            .await;
        let piece = vec![b'x'; 64 << 10];
        for _ in 0..20 {
            if client.stream.write_all(&piece).await.is_err() {
                break;
            }
        }
        let reply = client.reply().await.unwrap();
        assert_eq!((reply.status, reply.text().as_str()), (413, "big"));
        assert_eq!(heads.load(Ordering::SeqCst), 1);
        drop(edge.stop().await);
    });
}
