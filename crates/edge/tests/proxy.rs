//! Worker: routing, streaming, fields, retries, blame.

use crate::support::{Client, TestEdge, Worker, assets, route, run};
use astraler_edge::{EdgeSnapshot, Limits};
use astraler_model::{HtmlHandling, NotFoundHandling, Origin};
use std::sync::Arc;
use std::time::{Duration, Instant};

#[test]
fn the_longest_prefix_wins_then_files_then_404() {
    run(async {
        let edge = TestEdge::start(Limits::default(), |folder| {
            let site = folder.join("site");
            std::fs::create_dir(&site).unwrap();
            std::fs::write(site.join("index.html"), "home").unwrap();
            let mut first = route(
                "one.test",
                vec![
                    ("/api", folder.join("api.sock")),
                    ("/api/auth", folder.join("auth.sock")),
                ],
            );
            first.assets = assets(site, HtmlHandling::default(), NotFoundHandling::default());
            first.hosts.push("Also.Test".to_owned());
            vec![first, route("two.test", vec![("/", folder.join("two.sock"))])]
        })
        .await;
        let folder = edge.folder.path();
        let _api = Worker::named(&folder.join("api.sock"), "api");
        let _auth = Worker::named(&folder.join("auth.sock"), "auth");
        let _two = Worker::named(&folder.join("two.sock"), "two");
        let mut client = edge.connect().await;
        for (host, target, status, text) in [
            ("one.test", "/name", 404, None),
            ("one.test", "/", 200, Some("home")),
            ("also.test", "/", 200, Some("home")),
            ("two.test:8080", "/name", 200, Some("two")),
            ("TWO.test.", "/name", 200, Some("two")),
            ("one.test", "/apix", 404, None),
        ] {
            let reply = client.get_with(host, target, "").await;
            assert_eq!(reply.status, status, "{host}{target}");
            if let Some(text) = text {
                assert_eq!(reply.text(), text, "{host}{target}");
            }
        }
        for (target, route) in [
            ("/api", "worker:w-api"),
            ("/api/x", "worker:w-api"),
            ("/api/auth", "worker:w-api-auth"),
            ("/api/authx", "worker:w-api"),
        ] {
            client.get_with("one.test", &format!("{target}?find"), "").await;
            let _ = route;
        }
        // Another method on what is no worker's.
        client
            .send("POST / HTTP/1.1\r\nHost: one.test\r\nContent-Length: 0\r\n\r\n")
            .await;
        let reply = client.reply().await.unwrap();
        assert_eq!(reply.status, 405);
        assert_eq!(reply.header("allow"), Some("GET, HEAD"));
        let lines = edge.stop().await;
        let routes: Vec<_> = lines
            .iter()
            .filter(|line| line["query"] == "find")
            .map(|line| line["route"].as_str().unwrap())
            .collect();
        assert_eq!(
            routes,
            [
                "worker:w-api",
                "worker:w-api",
                "worker:w-api-auth",
                "worker:w-api"
            ]
        );
    });
}

#[test]
fn a_worker_learns_who_asks_and_cannot_be_lied_to() {
    run(async {
        let (edge, worker) = TestEdge::with_worker(Limits::default()).await;
        let mut client = edge.connect().await;
        let lies = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nForwarded: for=6.6.6.6\r\n\
            CF-Connecting-IP: 6.6.6.6\r\nCF-Ray: x\r\nTrue-Client-IP: 6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nX-Request-Id: mine\r\n\
            traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\ntracestate: a=b\r\nX-Mine: 1\r\n\
            Connection: x-secret, keep-alive, host, content-length\r\nX-Secret: 1\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nTE: gzip\r\n\
            Proxy-Authorization: Basic x\r\nUpgrade: h2c\r\n";
        let reply = client.get_with("Worker.test:81", "/x", lies).await;
        let id = reply.header("x-request-id").unwrap().to_owned();
        client
            .get_with(
                "worker.test",
                "/x",
                "traceparent: nonsense\r\ntracestate: a=b\r\nTE: trailers\r\n",
            )
            .await;
        let seen = worker.take_seen();
        let header = |at: usize, name: &str| {
            let values: Vec<_> = seen[at]
                .headers
                .get_all(name)
                .iter()
                .map(|value| value.to_str().unwrap().to_owned())
                .collect();
            values.join(" + ")
        };
        for (name, value) in [
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "worker.test:81"),
            ("forwarded", "for=127.0.0.1;host=\"worker.test:81\";proto=http"),
            ("cf-connecting-ip", "127.0.0.1"),
            ("host", "worker.test:81"),
            ("x-request-id", &id),
            ("tracestate", "a=b"),
            ("x-mine", "1"),
            ("cf-ray", ""),
            ("true-client-ip", ""),
            ("x-real-ip", ""),
            ("x-secret", ""),
            ("keep-alive", ""),
            ("proxy-connection", ""),
            ("proxy-authorization", ""),
            ("te", ""),
            ("upgrade", ""),
        ] {
            assert_eq!(header(0, name), value, "{name}");
        }
        let parent = header(0, "traceparent");
        assert!(
            parent.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && parent.ends_with("-01"),
            "{parent}"
        );
        assert!(!parent.contains("00f067aa0ba902b7"));
        assert_eq!(header(1, "traceparent").len(), 55);
        assert_eq!(header(1, "tracestate"), "");
        assert_eq!((&*header(1, "te"), &*header(1, "connection")), ("trailers", "TE"));
        let lines = edge.stop().await;
        assert_eq!(lines[0]["request_id"], id.as_str());
    });
}

#[test]
fn a_client_sees_nothing_of_our_insides() {
    run(async {
        let (edge, _worker) = TestEdge::with_worker(Limits::default()).await;
        let mut client = edge.connect().await;
        let reply = client.get("/hop").await;
        for name in [
            "x-private",
            "keep-alive",
            "proxy-authenticate",
            "server",
            "connection",
        ] {
            assert_eq!(reply.header(name), None, "{name}");
        }
        assert_eq!(reply.header("x-public"), Some("1"));
        assert!(reply.header("date").is_some() && reply.header("x-request-id").is_some());
        assert_eq!(
            reply
                .headers
                .iter()
                .filter(|(name, _)| name == "set-cookie")
                .count(),
            2
        );
        drop(edge.stop().await);
    });
}

#[test]
fn head_204_and_lengths() {
    run(async {
        let (edge, worker) = TestEdge::with_worker(Limits::default()).await;
        let mut client = edge.connect().await;
        client
            .send("HEAD /length HTTP/1.1\r\nHost: worker.test\r\n\r\n")
            .await;
        let reply = client.reply_to("HEAD").await.unwrap();
        assert_eq!(
            (reply.status, reply.header("content-length")),
            (200, Some("1234"))
        );
        let reply = client.get("/nothing").await;
        assert_eq!(
            (
                reply.status,
                reply.header("content-length"),
                reply.header("transfer-encoding")
            ),
            (204, None, None)
        );
        let reply = client.get("/length").await;
        assert_eq!(reply.body.len(), 1234);
        client
            .send("HEAD /absent HTTP/1.1\r\nHost: nobody.test\r\n\r\n")
            .await;
        assert_eq!(client.reply_to("HEAD").await.unwrap().status, 421);
        assert_eq!(client.get("/a").await.status, 200);
        assert_eq!(worker.take_seen().len(), 4);
        drop(edge.stop().await);
    });
}

#[test]
fn bodies_stream_both_ways_at_once() {
    run(async {
        let (edge, _worker) = TestEdge::with_worker(Limits::default()).await;
        let mut client = edge.connect().await;
        client
            .send("POST /stream-back HTTP/1.1\r\nHost: worker.test\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        client.send("5\r\nfirst\r\n").await;
        // The first piece is back before the second is sent.
        let mut got = Vec::new();
        while !String::from_utf8_lossy(&got).contains("first") {
            assert!(client.take(1, &mut got).await);
        }
        client.send("6\r\nsecond\r\n0\r\n\r\n").await;
        while !String::from_utf8_lossy(&got).contains("second\r\n0\r\n\r\n") {
            assert!(
                client.take(1, &mut got).await,
                "{}",
                String::from_utf8_lossy(&got)
            );
        }
        drop(edge.stop().await);
    });
}

#[test]
fn a_client_that_does_not_read_holds_the_worker_back() {
    run(async {
        let (edge, _worker) = TestEdge::with_worker(Limits {
            body_idle_timeout_ms: 1_000,
            ..Limits::default()
        })
        .await;
        let mut client = edge.connect().await;
        client
            .send("GET /endless HTTP/1.1\r\nHost: worker.test\r\n\r\n")
            .await;
        while edge.status().await["in_flight"] != 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // Nobody reads: the edge gives up after its patience, having taken no more than the buffers between hold.
        let begun = Instant::now();
        while edge.status().await["in_flight"] != 0 {
            assert!(begun.elapsed() < Duration::from_secs(10));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(
            begun.elapsed() > Duration::from_millis(900),
            "{:?}",
            begun.elapsed()
        );
        let lines = edge.stop().await;
        assert!(lines[0]["bytes_out"].as_u64().unwrap() < 32 << 20, "{}", lines[0]);
        assert_eq!(lines[0]["blame"], "client");
    });
}

#[test]
fn trailers_pass_both_ways_without_those_that_frame() {
    run(async {
        let (edge, worker) = TestEdge::with_worker(Limits::default()).await;
        let mut client = edge.connect().await;
        let reply = client
            .get_with("worker.test", "/trailers", "TE: trailers\r\nConnection: TE\r\n")
            .await;
        assert_eq!(reply.text(), "body");
        assert_eq!(reply.trailers, [("x-sum".to_owned(), "42".to_owned())]);
        client
            .send("POST /x HTTP/1.1\r\nHost: worker.test\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, Host\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 7\r\nHost: evil\r\n\r\n")
            .await;
        assert_eq!(client.reply().await.unwrap().text(), "abc");
        let seen = worker.take_seen();
        let trailers = seen[1].trailers.as_ref().unwrap();
        assert_eq!(trailers.get("x-sum").unwrap(), "7");
        assert!(trailers.get("host").is_none());
        drop(edge.stop().await);
    });
}

#[test]
fn the_go_ahead_comes_only_when_a_worker_wants_the_body() {
    run(async {
        let (edge, _worker) = TestEdge::with_worker(Limits {
            upstream_retry_ms: 100,
            ..Limits::default()
        })
        .await;
        let mut client = edge.connect().await;
        client
            .send(
                "POST /x HTTP/1.1\r\nHost: worker.test\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
            )
            .await;
        assert_eq!(client.reply().await.unwrap().status, 100);
        client.send("hi").await;
        assert_eq!(client.reply().await.unwrap().text(), "hi");
        // Refused without the body being asked for.
        client
            .send(
                "POST /x HTTP/1.1\r\nHost: nobody.test\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
            )
            .await;
        assert_eq!(client.reply().await.unwrap().status, 421);
        drop(edge.stop().await);
    });
}

#[test]
fn an_answer_that_ends_early_is_cut_for_the_client_too() {
    run(async {
        let (edge, _worker) = TestEdge::with_worker(Limits::default()).await;
        for target in ["/cut", "/cut-chunks"] {
            let reply = edge.connect().await.get(target).await;
            assert!(reply.cut, "{target}: {reply:?}");
            assert_eq!(reply.text(), "only this");
        }
        let lines = edge.stop().await;
        for line in lines {
            assert_eq!(
                (line["error"].as_str(), line["blame"].as_str()),
                (Some("upstream_invalid"), Some("upstream")),
                "{line}"
            );
        }
    });
}

#[test]
fn an_answer_before_the_whole_request_reaches_the_client() {
    run(async {
        let (edge, _worker) = TestEdge::with_worker(Limits::default()).await;
        let mut client = edge.connect().await;
        client
            .send("POST /early HTTP/1.1\r\nHost: worker.test\r\nContent-Length: 1000000\r\n\r\nsome")
            .await;
        assert_eq!(client.reply().await.unwrap().status, 403);
        drop(edge.stop().await);
    });
}

#[test]
fn faults_name_their_cause() {
    run(async {
        let limits = Limits {
            upstream_retry_ms: 200,
            upstream_timeout_ms: 300,
            ..Limits::default()
        };
        let edge = TestEdge::start(limits, |folder| {
            vec![route(
                "worker.test",
                vec![("/", folder.join("w.sock")), ("/gone", folder.join("gone.sock"))],
            )]
        })
        .await;
        let worker = Worker::start(&edge.folder.path().join("w.sock"));
        let mut client = edge.connect().await;
        for (target, status, code, retryable) in [
            ("/gone", 503, "upstream_unavailable", true),
            ("/never", 504, "upstream_timeout", true),
            ("/die", 502, "upstream_closed", true),
        ] {
            let reply = client
                .get_with("worker.test", target, "Accept: application/json\r\n")
                .await;
            assert_eq!(reply.status, status, "{target}");
            let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
            assert_eq!(body["error"]["code"], code, "{target}");
            assert_eq!(body["error"]["retryable"], retryable, "{target}");
            assert_eq!(body["error"]["request_id"].as_str(), reply.header("x-request-id"));
            assert_eq!(reply.header("retry-after").is_some(), status != 504, "{target}");
        }
        // A GET is tried again, a POST is not.
        let tries = |worker: &Worker| {
            worker
                .take_seen()
                .iter()
                .filter(|seen| seen.target == "/die")
                .count()
        };
        // But not for as long as there is time: it may be what the worker dies of.
        assert_eq!(tries(&worker), 3);
        client
            .send("POST /die HTTP/1.1\r\nHost: worker.test\r\nContent-Length: 1\r\n\r\nx")
            .await;
        assert_eq!(client.reply().await.unwrap().status, 502);
        assert_eq!(tries(&worker), 1);
        let page = client
            .get_with("worker.test", "/gone", "Accept: text/html\r\n")
            .await;
        assert!(
            page.text().contains(page.header("x-request-id").unwrap()) && page.text().contains("<h1>503"),
            "{}",
            page.text()
        );
        let lines = edge.stop().await;
        assert!(lines.iter().all(|line| line["blame"] == "upstream"), "{lines:?}");
    });
}

#[test]
fn an_unknown_host_is_told_what_there_is_only_where_development_is() {
    run(async {
        let (edge, _worker) = TestEdge::with_worker(Limits::default()).await;
        let mut client = edge.connect().await;
        let reply = client.get_with("wrong.test", "/", "Accept: text/html\r\n").await;
        assert_eq!(reply.status, 421);
        assert!(reply.text().contains("worker.test"));
        let mut production = EdgeSnapshot {
            version: 2,
            routes: vec![route("worker.test", vec![])],
            ..EdgeSnapshot::default()
        };
        production.routes[0].environment = astraler_model::Environment::Production;
        edge.snapshots.send(Arc::new(production)).unwrap();
        while edge.status().await["snapshot_version"] != 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let reply = client.get_with("wrong.test", "/", "Accept: text/html\r\n").await;
        assert_eq!(reply.status, 421);
        assert!(!reply.text().contains("worker.test"), "{}", reply.text());
        drop(edge.stop().await);
    });
}

#[test]
fn fifty_switches_and_not_one_failed_request() {
    run(async {
        let (edge, _first) = TestEdge::with_worker(Limits::default()).await;
        let folder = edge.folder.path().to_owned();
        let _workers: Vec<_> = (0..2)
            .map(|n| {
                Worker::named(
                    &folder.join(format!("s{n}.sock")),
                    if n == 0 { "zero" } else { "one" },
                )
            })
            .collect();
        let running = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let address = edge.address;
        let loads: Vec<_> = (0..4)
            .map(|n| {
                let running = running.clone();
                tokio::spawn(async move {
                    let mut client = Client::connect(address).await;
                    let mut count = 0_u32;
                    while running.load(std::sync::atomic::Ordering::Relaxed) {
                        let target = if n == 0 && count.is_multiple_of(50) {
                            "/slow"
                        } else {
                            "/name"
                        };
                        let reply = client.get(target).await;
                        assert_eq!(reply.status, 200);
                        assert!(!reply.cut);
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        for version in 2..52_u64 {
            let socket = folder.join(format!("s{}.sock", version % 2));
            let routes = vec![route("worker.test", vec![("/", socket)])];
            edge.snapshots
                .send(Arc::new(EdgeSnapshot {
                    version,
                    routes,
                    ..EdgeSnapshot::default()
                }))
                .unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        while edge.status().await["snapshot_version"] != 51 {
            assert!(
                tokio::time::Instant::now() < deadline,
                "the last switch is not seen"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // The last switch is in force: even version, first socket… version 51 → s1.
        let mut client = edge.connect().await;
        assert_eq!(client.get("/name").await.text(), "one");
        running.store(false, std::sync::atomic::Ordering::Relaxed);
        let mut total = 0;
        for load in loads {
            total += load.await.unwrap();
        }
        assert!(total > 200, "only {total} requests");
        let lines = edge.stop().await;
        assert!(lines.iter().all(|line| line["status"] == 200));
        assert_eq!(lines.len() as u32, total + 1);
    });
}

#[test]
fn connections_to_a_retired_socket_are_closed() {
    run(async {
        let (edge, _worker) = TestEdge::with_worker(Limits::default()).await;
        let mut client = edge.connect().await;
        client.get("/a").await;
        assert_eq!(edge.status().await["upstream_idle_connections"], 1);
        edge.snapshots
            .send(Arc::new(EdgeSnapshot {
                version: 2,
                ..EdgeSnapshot::default()
            }))
            .unwrap();
        while edge.status().await["snapshot_version"] != 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(edge.status().await["upstream_idle_connections"], 0);
        assert_eq!(client.get("/a").await.status, 421);
        drop(edge.stop().await);
    });
}

#[test]
fn a_killed_worker_is_replaced_without_a_failed_get() {
    run(async {
        let (edge, worker) = TestEdge::with_worker(Limits::default()).await;
        let address = edge.address;
        let mut worker = worker;
        for _ in 0..5 {
            let load = tokio::spawn(async move {
                let mut client = Client::connect(address).await;
                for n in 0..60 {
                    let target = if n % 20 == 3 { "/slow" } else { "/name" };
                    let reply = client.get(target).await;
                    assert_eq!(reply.status, 200, "{}", reply.text());
                }
            });
            tokio::time::sleep(Duration::from_millis(30)).await;
            let listener = worker.kill();
            tokio::time::sleep(Duration::from_millis(150)).await;
            worker = worker.successor(listener);
            load.await.unwrap();
        }
        drop(edge.stop().await);
    });
}

#[test]
fn an_origin_may_be_a_port_and_answer_for_every_host() {
    run(async {
        let (behind, worker) = TestEdge::with_worker(Limits::default()).await;
        let origin: Origin = format!("http://{}", behind.address).parse().unwrap();
        let front = TestEdge::start(
            Limits {
                upstream_retry_ms: 200,
                ..Limits::default()
            },
            |folder| {
                let mut any = route("*", vec![("/", folder.join("-"))]);
                any.workers[0].origin = origin;
                vec![any, route("other.test", vec![("/", folder.join("nobody.sock"))])]
            },
        )
        .await;
        let mut client = front.connect().await;
        for _ in 0..2 {
            let reply = client.get_with("worker.test", "/name", "").await;
            assert_eq!((reply.status, &*reply.text()), (200, "worker"));
        }
        assert_eq!(front.status().await["upstream_idle_connections"], 1);
        assert_eq!(worker.take_seen().len(), 2);
        assert_eq!(client.get_with("other.test", "/", "").await.status, 503);
        behind.stop().await;
        let reply = client.get_with("worker.test", "/name", "").await;
        assert_eq!(reply.status, 503, "nobody listens there");
    });
}
