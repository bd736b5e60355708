//! The access log: one JSON line for each request, bounded, rotated.

use crate::support::{TestEdge, Worker, route, run};
use astraler_edge::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[test]
fn a_line_says_all_there_is_to_say() {
    run(async {
        let (edge, worker) = TestEdge::with_worker(Limits::default()).await;
        let mut client = edge.connect().await;
        client
            .send("POST /echo/a%20b?id=7&access_token=s3cret HTTP/1.1\r\nHost: worker.test\r\nUser-Agent: \"quoted\"\tand tab\r\nReferer: http://x/?password=p\r\nContent-Length: 5\r\n\r\nhello")
            .await;
        let reply = client.reply().await.unwrap();
        drop(client);
        let lines = edge.stop().await;
        let line = lines[0].as_object().unwrap();
        let keys: Vec<_> = line.keys().map(String::as_str).collect();
        assert_eq!(
            keys,
            [
                "ts",
                "request_id",
                "environment",
                "deployment",
                "host",
                "method",
                "path",
                "query",
                "status",
                "bytes_in",
                "bytes_out",
                "duration_us",
                "upstream_us",
                "client_ip",
                "user_agent",
                "referer",
                "route",
                "protocol",
                "upgraded",
                "cache",
                "error",
                "error_reason",
                "blame",
                "trace_id",
                "wait_us",
                "first_byte_us",
                "connect_us",
            ]
        );
        for (key, value) in [
            ("request_id", reply.header("x-request-id").unwrap().into()),
            ("environment", "development".into()),
            ("deployment", "dep-1".into()),
            ("host", "worker.test".into()),
            ("method", "POST".into()),
            ("path", "/echo/a%20b".into()),
            ("query", "id=7&access_token=***".into()),
            ("status", 200.into()),
            ("bytes_in", 5.into()),
            ("bytes_out", 5.into()),
            ("client_ip", "127.0.0.1".into()),
            ("user_agent", "\"quoted\"\tand tab".into()),
            ("referer", "http://x/?password=***".into()),
            ("route", "worker:w".into()),
            ("protocol", "HTTP/1.1".into()),
            ("error", serde_json::Value::Null),
        ] {
            assert_eq!(line[key], value, "{key}");
        }
        let ts = line["ts"].as_str().unwrap();
        assert!(
            ts.len() == 24 && ts.ends_with('Z') && ts.as_bytes()[19] == b'.',
            "{ts}"
        );
        let time = |key: &str| line[key].as_u64().unwrap();
        assert!(time("upstream_us") <= time("duration_us"));
        assert!(time("wait_us") <= time("first_byte_us") && time("first_byte_us") <= time("duration_us"));
        let trace = worker.take_seen().remove(0).headers["traceparent"].clone();
        assert_eq!(line["trace_id"], trace.to_str().unwrap()[3..35]);
    });
}

#[test]
fn refused_heads_are_recorded_as_they_came() {
    run(async {
        let (edge, _worker) = TestEdge::with_worker(Limits::default()).await;
        let mut client = edge.connect().await;
        let long = "x".repeat(5000);
        client
            .send(format!("DELETE /a/{long}?token=abc HTTP/1.1\r\nHost : x\r\n\r\n"))
            .await;
        assert_eq!(client.reply().await.unwrap().status, 400);
        let lines = edge.stop().await;
        assert_eq!(lines[0]["method"], "DELETE");
        assert!(
            lines[0]["path"].as_str().unwrap().starts_with("/a/xxx")
                && lines[0]["path"].as_str().unwrap().len() <= 1024
        );
        assert_eq!(lines[0]["error"], "malformed_request");
        assert_eq!(lines[0]["error_reason"], "invalid header field name");
        assert_eq!(lines[0]["blame"], "client");
    });
}

#[test]
fn a_client_that_leaves_is_recorded_with_499() {
    run(async {
        let (edge, _worker) = TestEdge::with_worker(Limits::default()).await;
        let mut client = edge.connect().await;
        client
            .send("GET /slow HTTP/1.1\r\nHost: worker.test\r\n\r\n")
            .await;
        while edge.status().await["in_flight"] != 1 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        drop(client);
        while edge.status().await["in_flight"] != 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let lines = edge.stop().await;
        assert_eq!(
            (lines[0]["status"].as_u64(), lines[0]["error"].as_str()),
            (Some(499), Some("client_gone"))
        );
    });
}

#[test]
fn files_rotate_and_no_more_are_kept_than_asked_for() {
    run(async {
        let edge = TestEdge::start_with_log(Limits::default(), 1 << 20, |folder| {
            vec![route("worker.test", vec![("/", folder.join("w.sock"))])]
        })
        .await;
        let _worker = Worker::start(&edge.folder.path().join("w.sock"));
        let mut client = edge.connect().await;
        let path = edge.folder.path().join("access.log");
        let filler = "f".repeat(900);
        // 1 MiB a file, two kept: about 2 KB a line.
        for n in 0..2200 {
            let reply = client
                .get_with("worker.test", &format!("/{filler}?n={n}&x={filler}"), "")
                .await;
            assert_eq!(reply.status, 200);
        }
        assert_eq!(edge.status().await["dropped_log_records"], 0);
        let numbered = |n: u32| path.with_file_name(format!("access.log.{n}"));
        drop(client);
        let folder = edge.folder.path().to_owned();
        let mut edge = edge;
        edge.begin_stop();
        (&mut edge.task).await.unwrap().unwrap();
        let mut last = 0;
        let mut count = 0;
        for file in [numbered(2), numbered(1), path.clone()] {
            let text = std::fs::read_to_string(&file).unwrap();
            assert!(text.len() <= 1 << 20);
            for line in text.lines() {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                let n: u64 = line["query"].as_str().unwrap().split('&').next().unwrap()[2..]
                    .parse()
                    .unwrap();
                assert!(count == 0 || n == last + 1, "{last} then {n}");
                last = n;
                count += 1;
            }
        }
        assert_eq!(last, 2199);
        assert!(
            !numbered(3).exists(),
            "{:?}",
            std::fs::read_dir(folder).unwrap().collect::<Vec<_>>()
        );
    });
}

#[test]
fn a_disk_that_hangs_costs_records_and_nothing_else() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        // A pipe that nobody reads is a disk that hangs.
        let pipe = folder.path().join("access.log");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RWXU,
            0,
        )
        .unwrap();
        let reader = std::fs::File::options()
            .read(true)
            .write(true)
            .open(&pipe)
            .unwrap();
        let mut edge = TestEdge::start_in(folder, Limits::default(), 64 << 20, |_| vec![]).await;
        let mut client = edge.connect().await;
        let request = format!("GET /{} HTTP/1.1\r\nHost: worker.test\r\n\r\n", "x".repeat(900)).repeat(50);
        for _ in 0..200 {
            client.send(&request).await;
            for _ in 0..50 {
                assert_eq!(client.reply().await.unwrap().status, 421);
            }
        }
        let status = edge.status().await;
        assert_eq!(status["requests_total"], 10_000);
        assert!(status["dropped_log_records"].as_u64().unwrap() > 100, "{status}");
        drop(client);
        edge.begin_stop();
        let ended = tokio::time::timeout(std::time::Duration::from_secs(10), &mut edge.task).await;
        ended.expect("the end waits for the disk").unwrap().unwrap();
        drop(reader);
    });
}

#[test]
fn the_record_tells_what_it_took_to_reach_the_worker() {
    run(async {
        let edge = TestEdge::start(Limits::default(), |folder| {
            vec![route("worker.test", vec![("/", folder.join("w.sock"))])]
        })
        .await;
        let listener = tokio::net::UnixListener::bind(edge.folder.path().join("w.sock")).unwrap();
        tokio::spawn(async move {
            // The first one ends before it has answered.
            drop(listener.accept().await.unwrap());
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = [0; 4096];
            while stream.read(&mut asked).await.is_ok_and(|read| read > 0) {
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                stream.write_all(answer).await.unwrap();
            }
        });
        let mut client = edge.connect().await;
        assert_eq!(client.get("/again").await.status, 200);
        assert_eq!(client.get("/at-hand").await.status, 200);
        let lines = edge.stop().await;
        assert_eq!(lines[0]["retries"], 1);
        assert!(lines[0]["connect_us"].as_u64() >= Some(1));
        assert!(lines[1].get("retries").is_none() && lines[1].get("connect_us").is_none());
    });
}
