//! Start, status, drain.

use crate::support::{TestEdge, run};
use astraler_edge::{AccessLogConfig, Config, EdgeError, EdgeSnapshot, Limits};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

#[test]
fn status_tells_how_it_goes() {
    run(async {
        let (edge, _worker) = TestEdge::with_worker(Limits::default()).await;
        let mut client = edge.connect().await;
        client.get("/a").await;
        client.get("/b").await;
        // A record ends a moment after the answer's last byte.
        while edge.status().await["in_flight"] != 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let status = edge.status().await;
        assert_eq!(status["snapshot_version"], 1);
        assert_eq!(status["connections"], 1);
        assert_eq!(status["in_flight"], 0);
        assert_eq!(status["requests_total"], 2);
        assert_eq!(status["dropped_log_records"], 0);
        assert_eq!(status["pid"], std::process::id());
        assert!(status["uptime_ms"].is_u64());
        drop(edge.stop().await);
    });
}

#[test]
fn a_drain_lets_requests_end_and_takes_no_more() {
    run(async {
        let (mut edge, _worker) = TestEdge::with_worker(Limits::default()).await;
        let mut idle = edge.connect().await;
        assert_eq!(idle.get("/a").await.status, 200);
        let mut busy = edge.connect().await;
        busy.send("GET /slow HTTP/1.1\r\nHost: worker.test\r\n\r\n").await;
        while edge.status().await["in_flight"] != 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        edge.begin_stop();
        assert!(idle.is_closed().await);
        let reply = busy.reply().await.unwrap();
        assert_eq!(
            (reply.text().as_str(), reply.header("connection")),
            ("slow", Some("close"))
        );
        assert!(busy.is_closed().await);
        let address = edge.address;
        let lines = edge.stop().await;
        assert_eq!(lines.len(), 2);
        assert!(TcpStream::connect(address).await.is_err());
    });
}

#[test]
fn a_drain_has_an_end() {
    run(async {
        let (mut edge, _worker) = TestEdge::with_worker(Limits {
            drain_ms: 300,
            ..Limits::default()
        })
        .await;
        let mut busy = edge.connect().await;
        busy.send("GET /never HTTP/1.1\r\nHost: worker.test\r\n\r\n")
            .await;
        while edge.status().await["in_flight"] != 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let begun = Instant::now();
        edge.begin_stop();
        assert!(busy.is_closed().await);
        let lines = edge.stop().await;
        assert!(
            (250..3_000).contains(&begun.elapsed().as_millis()),
            "{:?}",
            begun.elapsed()
        );
        assert_eq!(lines[0]["status"], 499);
    });
}

#[test]
fn a_log_that_cannot_be_opened_is_said_at_the_start() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing/access.log");
        let (_sender, snapshot) = tokio::sync::watch::channel(Arc::new(EdgeSnapshot::default()));
        let access_log = AccessLogConfig {
            path: path.clone(),
            max_file_bytes: 1,
            keep_files: 1,
        };
        let config = Config {
            listeners: vec![],
            https: vec![],
            quic: vec![],
            snapshot,
            in_force: None,
            limits: Limits::default(),
            access_log,
            cache_folder: None,
            control: None,
            give_back: astraler_edge::trim,
        };
        let error = astraler_edge::run(config, std::future::pending())
            .await
            .unwrap_err();
        assert!(
            matches!(&error, EdgeError::AccessLog { path: named, .. } if *named == path),
            "{error}"
        );
    });
}

#[test]
fn limits_read_with_defaults_and_refuse_unknown_keys() {
    let limits: Limits = serde_json::from_str(r#"{"max_connections": 7}"#).unwrap();
    assert_eq!(
        limits,
        Limits {
            max_connections: 7,
            ..Limits::default()
        }
    );
    assert!(serde_json::from_str::<Limits>(r#"{"max_conections": 7}"#).is_err());
}
