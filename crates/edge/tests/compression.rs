//! Compression over sockets, of a worker's answers and of files.

use crate::support::{Client, Reply, TestEdge, Worker, assets, route, run};
use astraler_edge::Limits;
use astraler_model::{HtmlHandling, NotFoundHandling};
use std::io::Read;
use std::time::{Duration, Instant};

async fn edge() -> (TestEdge, Worker) {
    let edge = TestEdge::start(Limits::default(), |folder| {
        let site = folder.join("site");
        std::fs::create_dir(&site).unwrap();
        std::fs::write(site.join("app.js"), "let words = 1;\n".repeat(500)).unwrap();
        std::fs::write(site.join("large.css"), "a { color: red }\n".repeat(20_000)).unwrap();
        std::fs::write(site.join("huge.txt"), "words and words\n".repeat(400_000)).unwrap();
        std::fs::write(site.join("small.txt"), "small").unwrap();
        std::fs::write(site.join("image.png"), vec![7; 5_000]).unwrap();
        let mut route = route("worker.test", vec![("/page", folder.join("w.sock"))]);
        for prefix in ["/slow-page", "/events"] {
            let mut worker = route.workers[0].clone();
            worker.prefix = prefix.to_owned();
            route.workers.push(worker);
        }
        route.assets = assets(site, HtmlHandling::None, NotFoundHandling::None);
        vec![route]
    })
    .await;
    let worker = Worker::start(&edge.folder.path().join("w.sock"));
    (edge, worker)
}

fn decoded(reply: &Reply) -> String {
    let mut text = String::new();
    let body = reply.body.as_slice();
    match reply.header("content-encoding") {
        Some("br") => brotli::Decompressor::new(body, 4096).read_to_string(&mut text),
        Some("zstd") => zstd::stream::read::Decoder::new(body)
            .unwrap()
            .read_to_string(&mut text),
        Some("gzip") => flate2::read::GzDecoder::new(body).read_to_string(&mut text),
        other => panic!("{other:?}"),
    }
    .unwrap();
    text
}

async fn get(client: &mut Client, target: &str, lines: &str) -> Reply {
    client.get_with("worker.test", target, lines).await
}

#[test]
fn each_coding_comes_back_as_it_was() {
    run(async {
        let (edge, _worker) = edge().await;
        let mut client = edge.connect().await;
        for target in ["/page", "/app.js", "/large.css", "/huge.txt"] {
            let plain = get(&mut client, target, "").await;
            assert_eq!(plain.header("content-encoding"), None);
            assert_eq!(plain.header("vary"), Some("Accept-Encoding"), "{target}");
            let tag = plain.header("etag").unwrap();
            for coding in ["br", "zstd", "gzip"] {
                let asked = format!("Accept-Encoding: {coding}\r\n");
                let reply = get(&mut client, target, &asked).await;
                assert_eq!(reply.status, 200);
                assert_eq!(reply.header("content-encoding"), Some(coding), "{target}");
                assert_eq!(reply.header("vary"), Some("Accept-Encoding"));
                assert_eq!(reply.header("etag"), Some(format!("W/{tag}").as_str()));
                assert!(reply.body.len() < plain.body.len() / 4);
                assert_eq!(decoded(&reply), plain.text(), "{target} {coding}");
            }
            // The weak tag is known again, by files and by workers that compare letters.
            let asked = format!("Accept-Encoding: br\r\nIf-None-Match: W/{tag}\r\n");
            let reply = get(&mut client, target, &asked).await;
            assert_eq!((reply.status, reply.body.len()), (304, 0), "{target}");
            assert_eq!(reply.header("vary"), Some("Accept-Encoding"));
            assert_eq!(reply.header("etag"), Some(format!("W/{tag}").as_str()));
        }
        let record = &edge.stop().await[1];
        assert_eq!(record["content_encoding"], "br");
        assert_eq!(record["content_type"], "text/html; charset=utf-8");
    });
}

#[test]
fn what_is_small_compressed_already_or_a_part_is_left_alone() {
    run(async {
        let (edge, _worker) = edge().await;
        let mut client = edge.connect().await;
        for (target, lines, status, vary) in [
            ("/small.txt", "", 200, None),
            ("/image.png", "", 200, None),
            ("/app.js", "Range: bytes=0-9\r\n", 206, Some("Accept-Encoding")),
            (
                "/page",
                "Sec-Fetch-Site: cross-site\r\nCookie: a=b\r\n",
                200,
                Some("Accept-Encoding"),
            ),
            (
                "/page",
                "Cache-Control: no-transform\r\n",
                200,
                Some("Accept-Encoding"),
            ),
        ] {
            let lines = format!("Accept-Encoding: br, gzip\r\n{lines}");
            let reply = get(&mut client, target, &lines).await;
            assert_eq!(reply.status, status, "{target}");
            assert_eq!(reply.header("content-encoding"), None, "{target}");
            assert_eq!(reply.header("vary"), vary, "{target}");
            assert!(reply.header("content-length").is_some());
        }
        // A condition of another method is the worker's: what it has done has an answer.
        let mut client = edge.connect().await;
        client
            .send(
                "POST /page HTTP/1.1\r\nHost: worker.test\r\nAccept-Encoding: gzip\r\nIf-None-Match: W/\"v1\"\r\n\
                 Content-Length: 1\r\n\r\nx",
            )
            .await;
        assert_eq!(client.reply().await.unwrap().status, 200);
        // HEAD says what GET would.
        for target in ["/app.js", "/page"] {
            let asked = "Host: worker.test\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n";
            let mut head = edge.connect().await;
            head.send(format!("HEAD {target} HTTP/1.1\r\n{asked}")).await;
            let mut text = Vec::new();
            while !head.is_closed().await {
                text.append(&mut head.buffer);
            }
            let text = String::from_utf8(text).unwrap().to_ascii_lowercase();
            assert!(
                text.contains("content-encoding: gzip") && text.ends_with("\r\n\r\n"),
                "{text}"
            );
            assert!(text.contains("etag: w/\""), "{text}");
        }
    });
}

#[test]
fn a_stream_is_not_held_up_and_an_event_stream_not_touched() {
    run(async {
        let (edge, _worker) = edge().await;
        for (target, coding) in [("/slow-page", Some("zstd")), ("/events", None)] {
            let mut client = edge.connect().await;
            let begun = Instant::now();
            client
                .send(format!(
                    "GET {target} HTTP/1.1\r\nHost: worker.test\r\nAccept-Encoding: zstd\r\n\r\n"
                ))
                .await;
            // Head and first piece are here before the second is sent.
            let mut seen = Vec::new();
            loop {
                assert!(!client.is_closed().await);
                seen.append(&mut client.buffer);
                let text = String::from_utf8_lossy(&seen);
                if text
                    .split_once("\r\n\r\n")
                    .is_some_and(|(_, body)| body.len() > 10)
                {
                    break;
                }
            }
            assert!(
                begun.elapsed() < Duration::from_millis(450),
                "{target} {:?}",
                begun.elapsed()
            );
            client.buffer = seen;
            let reply = client.reply().await.unwrap();
            assert_eq!(reply.header("content-encoding"), coding, "{target}");
            let text = if coding.is_some() {
                decoded(&reply)
            } else {
                reply.text()
            };
            assert_eq!(text, "data: first\n\ndata: second\n\n");
        }
    });
}
