//! The pool by itself, as the egress role uses it.

use crate::scripted::{Then, listen};
use crate::support::{Worker, run};
use astraler_edge::upstream::{Upstream, UpstreamError};
use astraler_edge::{Body, Kind, Limits};
use astraler_model::Origin;
use http::Request;
use http_body_util::BodyExt;
use std::collections::HashSet;
use std::time::{Duration, Instant};

fn get(target: &str) -> Request<Body> {
    Request::get(target)
        .header("host", "x")
        .body(Body::empty())
        .unwrap()
}

#[test]
fn a_connection_is_used_again_when_its_answer_was_read_to_the_end() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("w.sock");
        let origin = Origin::Unix(socket.clone());
        let _worker = Worker::start(&socket);
        let upstream = Upstream::new(&Limits::default());
        for _ in 0..3 {
            let answer = upstream.send(&origin, get("/length")).await.unwrap();
            // A small answer may have been read to its end with its head.
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes().len(), 1234);
            assert_eq!(upstream.idle_connections(), 1);
        }
        // Dropped half-way: not used again.
        let answer = upstream.send(&origin, get("/endless")).await.unwrap();
        drop(answer);
        assert_eq!(upstream.idle_connections(), 0);
        upstream.send(&origin, get("/nothing")).await.unwrap();
        assert_eq!(upstream.idle_connections(), 1);
        upstream.retain_only(&HashSet::new());
        assert_eq!(upstream.idle_connections(), 0);
    });
}

#[test]
fn unused_connections_age() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("w.sock");
        let origin = Origin::Unix(socket.clone());
        let _worker = Worker::start(&socket);
        let upstream = Upstream::new(&Limits {
            upstream_idle_ms: 50,
            ..Limits::default()
        });
        upstream.send(&origin, get("/nothing")).await.unwrap();
        assert_eq!(upstream.idle_connections(), 1);
        tokio::time::sleep(Duration::from_millis(80)).await;
        upstream.prune();
        assert_eq!(upstream.idle_connections(), 0);
    });
}

/// What it says of how long it keeps a connection is heeded, with a margin: a request must not cross with the end.
#[test]
fn a_connection_is_not_used_when_its_upstream_is_about_to_close_it() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("w.sock");
        let origin = Origin::Unix(socket.clone());
        for (script, unused) in [
            (
                &b"HTTP/1.1 200 OK\r\nKeep-Alive: max=9, timeout=1\r\nContent-Length: 0\r\n\r\n"[..],
                0,
            ),
            (
                b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=60\r\nContent-Length: 0\r\n\r\n",
                1,
            ),
            (
                b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=x\r\nContent-Length: 0\r\n\r\n",
                1,
            ),
        ] {
            listen(&socket, script, Then::Stay);
            let upstream = Upstream::new(&Limits::default());
            upstream.send(&origin, get("/")).await.unwrap();
            assert_eq!(upstream.idle_connections(), 1);
            tokio::time::sleep(Duration::from_millis(700)).await;
            upstream.prune();
            assert_eq!(upstream.idle_connections(), unused);
        }
    });
}

#[test]
fn a_missing_socket_is_an_error_within_the_window() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let upstream = Upstream::new(&Limits {
            upstream_retry_ms: 300,
            ..Limits::default()
        });
        let begun = Instant::now();
        let error = upstream
            .send(&Origin::Unix(folder.path().join("none.sock")), get("/"))
            .await
            .unwrap_err();
        assert!(matches!(error, UpstreamError::Connect { .. }), "{error}");
        assert_eq!(error.fault().kind, Kind::UpstreamUnavailable);
        assert!(begun.elapsed() < Duration::from_millis(900));
    });
}

#[test]
fn what_is_not_http_is_an_invalid_answer() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("w.sock");
        let origin = Origin::Unix(socket.clone());
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let server = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"SSH-2.0-nonsense\r\n\r\n").await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let upstream = Upstream::new(&Limits::default());
        let error = upstream.send(&origin, get("/")).await.unwrap_err();
        assert_eq!(error.fault().kind, Kind::UpstreamInvalid, "{error:?}");
        server.abort();
    });
}
