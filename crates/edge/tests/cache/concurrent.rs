//! Who waits for whom.

use super::origin::{answer, cached, publish, start, word};
use crate::support::run;
use astraler_edge::Body;
use astraler_model::CacheBounds;
use bytes::Bytes;
use futures_util::StreamExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

#[test]
fn equal_requests_become_one() {
    run(async {
        let (edge, origin, _client) = start(async |_| {
            tokio::time::sleep(Duration::from_millis(200)).await;
            answer(200, &[("cache-control", "max-age=60")], "once")
        })
        .await;
        let clients = futures_util::future::join_all((0..40).map(|_| async {
            let mut client = edge.connect().await;
            let reply = client.get("/").await;
            (reply.text(), word(&reply).to_owned())
        }))
        .await;
        assert!(clients.iter().all(|(text, _)| text == "once"));
        assert_eq!(clients.iter().filter(|(_, word)| word == "MISS").count(), 1);
        assert_eq!(origin.count(), 1);
        let (_, standing) = edge.control("GET", "/cache", "").await;
        assert_eq!(standing["collapsed"], 39);
    });
}

#[test]
fn what_turns_out_to_be_for_one_only_goes_on_in_parallel() {
    run(async {
        let (edge, origin, _client) = start(async |_| {
            tokio::time::sleep(Duration::from_millis(150)).await;
            answer(200, &[("cache-control", "private")], "mine")
        })
        .await;
        let all = || async {
            let begun = Instant::now();
            let replies = futures_util::future::join_all(
                (0..20).map(|_| async { edge.connect().await.get("/").await.text() }),
            );
            assert!(replies.await.iter().all(|text| text == "mine"));
            begun.elapsed()
        };
        assert!(
            all().await < Duration::from_millis(1500),
            "the first one, then all others at once"
        );
        let second = all().await;
        assert!(
            second < Duration::from_millis(290),
            "remembered: nobody waits for anybody ({second:?})"
        );
        assert_eq!(origin.count(), 40);
    });
}

/// Else whoever asks for one thing every five seconds has all requests for it sent to the worker.
#[test]
fn what_one_client_wishes_makes_no_others_go_alone() {
    run(async {
        for lines in [
            "Cache-Control: no-store\r\n",
            "Authorization: x\r\n",
            "Range: bytes=99-\r\nIf-None-Match: \"1\"\r\n",
        ] {
            let (edge, origin, mut odd) = start(async |seen| {
                tokio::time::sleep(Duration::from_millis(150)).await;
                let status = if seen.headers.contains_key("if-none-match") {
                    304
                } else {
                    200
                };
                answer(
                    status,
                    &[("cache-control", "max-age=60"), ("etag", "\"1\"")],
                    if status == 200 { "once" } else { "" },
                )
            })
            .await;
            odd.get_with("worker.test", "/", lines).await;
            let clients = (0..20).map(|_| async { edge.connect().await.get("/").await.text() });
            let replies = futures_util::future::join_all(clients).await;
            assert!(replies.iter().all(|text| text == "once"));
            assert_eq!(origin.count(), 2, "{lines}");
        }
    });
}

#[test]
fn content_goes_to_all_while_it_comes() {
    run(async {
        let (edge, origin, mut slow) = start(async |_| {
            let pieces = futures_util::stream::iter(0..4).then(|number| async move {
                tokio::time::sleep(Duration::from_millis(100)).await;
                Ok(http_body::Frame::data(Bytes::from(vec![b'0' + number; 1 << 20])))
            });
            let body = Body::new(http_body_util::StreamBody::new(Box::pin(pieces)));
            Ok(http::Response::builder()
                .header("cache-control", "max-age=60")
                .body(body)
                .unwrap())
        })
        .await;
        // The one who asked first reads nothing, and then goes away.
        slow.send("GET / HTTP/1.1\r\nHost: worker.test\r\n\r\n").await;
        tokio::time::sleep(Duration::from_millis(150)).await;
        let mut other = edge.connect().await;
        let reply = tokio::spawn(async move { other.get("/").await });
        drop(slow);
        let reply = reply.await.unwrap();
        assert_eq!((reply.cut, reply.body.len()), (false, 4 << 20));
        assert!(
            reply
                .body
                .chunks(1 << 20)
                .enumerate()
                .all(|(number, piece)| piece.iter().all(|&b| b == b'0' + number as u8))
        );
        assert_eq!(word(&edge.connect().await.get("/").await), "HIT");
        assert_eq!(origin.count(), 1);
    });
}

#[test]
fn what_is_too_large_is_passed_on_in_a_window() {
    run(async {
        let (edge, origin, mut client) = start(async |seen| {
            let pieces = futures_util::stream::iter(0..64_u8)
                .map(|number| Ok(http_body::Frame::data(Bytes::from(vec![number; 64 << 10]))));
            let mut response = http::Response::builder().header("cache-control", "max-age=60");
            if seen.target == "/length" {
                response = response.header("content-length", (4 << 20).to_string());
            }
            Ok(response
                .body(Body::new(http_body_util::StreamBody::new(pieces)))
                .unwrap())
        })
        .await;
        let routes = vec![cached(edge.folder.path(), Default::default(), "dep-1")];
        let bounds = CacheBounds {
            max_object_bytes: 100_000,
            ..CacheBounds::default()
        };
        publish(&edge, routes, bounds).await;
        for page in ["/length", "/chunks"] {
            for _ in 0..2 {
                let reply = client.get(page).await;
                assert_eq!((reply.cut, reply.body.len()), (false, 4 << 20), "{page}");
                assert_eq!(reply.body[(4 << 20) - 1], 63);
            }
        }
        assert_eq!(origin.count(), 4);
        let (_, standing) = edge.control("GET", "/cache", "").await;
        assert_eq!(standing["entries"], 0);
    });
}

#[test]
fn stale_while_revalidate_makes_nobody_wait() {
    run(async {
        static CALLS: AtomicUsize = AtomicUsize::new(0);
        let (_edge, origin, mut client) = start(async |_| {
            let number = CALLS.fetch_add(1, Ordering::Relaxed);
            if number > 0 {
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            answer(
                200,
                &[("cache-control", "max-age=1, stale-while-revalidate=60")],
                number.to_string(),
            )
        })
        .await;
        client.get("/").await;
        tokio::time::sleep(Duration::from_millis(1100)).await;
        for _ in 0..5 {
            let begun = Instant::now();
            let reply = client.get("/").await;
            assert_eq!((&*reply.text(), word(&reply)), ("0", "UPDATING"));
            assert!(begun.elapsed() < Duration::from_millis(200));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        let reply = client.get("/").await;
        assert_eq!((&*reply.text(), word(&reply)), ("1", "HIT"));
        assert_eq!(origin.count(), 2);
    });
}

#[test]
fn memory_is_bounded() {
    run(async {
        let (edge, _origin, mut client) =
            start(async |_| answer(200, &[("cache-control", "max-age=60")], vec![b'x'; 10_000])).await;
        let routes = || vec![cached(edge.folder.path(), Default::default(), "dep-1")];
        let bounds = |memory_bytes| CacheBounds {
            memory_bytes,
            ..CacheBounds::default()
        };
        publish(&edge, routes(), bounds(1 << 20)).await;
        for number in 0..500 {
            client.get(&format!("/{number}")).await;
        }
        let (_, standing) = edge.control("GET", "/cache", "").await;
        let bytes = standing["bytes"].as_u64().unwrap();
        assert!((500_000..=1 << 20).contains(&bytes), "{standing}");
        assert!(standing["evicted"].as_u64().unwrap() > 300, "{standing}");
        publish(&edge, routes(), bounds(50_000)).await;
        let (_, standing) = edge.control("GET", "/cache", "").await;
        assert!(standing["bytes"].as_u64().unwrap() <= 50_000, "{standing}");
        publish(&edge, routes(), bounds(0)).await;
        assert_eq!(
            word(&client.get("/499").await),
            "none",
            "there is no cache any more"
        );
    });
}
