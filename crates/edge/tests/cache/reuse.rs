//! What is stored, used, validated and forgotten.

use super::origin::{answer, start, word};
use crate::support::{Reply, run};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

fn status_of(reply: &Reply) -> &str {
    reply.header("cache-status").unwrap_or_default()
}

#[test]
fn what_is_fresh_is_answered_without_asking() {
    run(async {
        let (edge, origin, mut client) = start(async |_| {
            answer(
                200,
                &[
                    ("cache-control", "max-age=60"),
                    ("etag", "\"1\""),
                    ("content-type", "text/plain"),
                ],
                "hello world",
            )
        })
        .await;
        let first = client.get("/a").await;
        assert_eq!(
            (first.status, &*first.text(), word(&first)),
            (200, "hello world", "MISS")
        );
        assert!(
            status_of(&first).starts_with("Astraler; fwd=uri-miss; stored"),
            "{first:?}"
        );
        assert_eq!(first.header("age"), None);

        let second = client.get("/a").await;
        assert_eq!(
            (second.status, &*second.text(), word(&second)),
            (200, "hello world", "HIT")
        );
        assert!(
            status_of(&second).starts_with("Astraler; hit; ttl="),
            "{second:?}"
        );
        assert_eq!(second.header("age"), Some("0"));
        assert_eq!(second.header("content-length"), Some("11"));
        assert_eq!(second.header("content-type"), Some("text/plain"));

        let part = client.get_with("worker.test", "/a", "Range: bytes=6-\r\n").await;
        assert_eq!((part.status, &*part.text()), (206, "world"));
        assert_eq!(part.header("content-range"), Some("bytes 6-10/11"));
        let none = client.get_with("worker.test", "/a", "Range: bytes=11-\r\n").await;
        assert_eq!(
            (none.status, none.header("content-range")),
            (416, Some("bytes */11"))
        );

        let same = client
            .get_with("worker.test", "/a", "If-None-Match: W/\"1\"\r\n")
            .await;
        // Weak because the client named it so: it may have what was compressed on the way.
        assert_eq!((same.status, same.header("etag")), (304, Some("W/\"1\"")));

        client.send("HEAD /a HTTP/1.1\r\nHost: worker.test\r\n\r\n").await;
        let head = client.reply_to("HEAD").await.unwrap();
        assert_eq!(
            (head.status, head.header("content-length"), word(&head)),
            (200, Some("11"), "HIT")
        );
        assert_eq!(
            client.get("/a").await.text(),
            "hello world",
            "the connection is as it should be"
        );
        assert_eq!(origin.count(), 1);

        let (_, standing) = edge.control("GET", "/cache", "").await;
        assert_eq!(
            (standing["entries"].as_u64(), standing["misses"].as_u64()),
            (Some(1), Some(1))
        );
        assert_eq!(standing["hits"], 6);
        let log = edge.stop().await;
        let words: Vec<_> = log
            .iter()
            .map(|line| line["cache"].as_str().unwrap_or("-"))
            .collect();
        assert_eq!(words, ["miss", "hit", "hit", "hit", "hit", "hit", "hit"]);
    });
}

#[test]
fn what_must_not_be_stored_is_not() {
    run(async {
        let (_edge, origin, mut client) = start(async |seen| {
            let fields = seen
                .headers
                .get("x-fields")
                .map_or("", |fields| fields.to_str().unwrap())
                .to_owned();
            let fields: Vec<_> = fields
                .split('|')
                .filter_map(|field| field.split_once(": "))
                .collect();
            answer(200, &fields, "x")
        })
        .await;
        for (number, (fields, more, stored)) in [
            ("cache-control: max-age=60", "", true),
            ("cache-control: no-store, max-age=60", "", false),
            ("cache-control: private, max-age=60", "", false),
            ("x-nothing: 1", "", false),
            ("cache-control: max-age=60", "Cache-Control: no-store\r\n", false),
            ("cache-control: max-age=60", "Authorization: Basic x\r\n", false),
            (
                "cache-control: public, max-age=60",
                "Authorization: Basic x\r\n",
                true,
            ),
            ("cache-control: max-age=60|vary: *", "", false),
            ("cache-control: max-age=60|set-cookie: a=1", "", false),
            ("cache-control: public, max-age=60|set-cookie: a=1", "", true),
            ("cache-control: max-age=60|cdn-cache-control: no-store", "", false),
            ("cache-control: no-store|cdn-cache-control: max-age=60", "", true),
            (
                "cdn-cache-control: no-store|cloudflare-cdn-cache-control: max-age=60",
                "",
                true,
            ),
            ("expires: Fri, 31 Dec 2100 23:59:59 GMT", "", true),
            ("last-modified: Tue, 15 Nov 1994 12:45:26 GMT", "", true),
        ]
        .into_iter()
        .enumerate()
        {
            let before = origin.count();
            let lines = format!("X-Fields: {fields}\r\n{more}");
            for _ in 0..2 {
                let reply = client
                    .get_with("worker.test", &format!("/{number}"), &lines)
                    .await;
                assert_eq!(reply.text(), "x");
                assert_eq!(
                    reply.header("cloudflare-cdn-cache-control"),
                    None,
                    "it is for us alone"
                );
            }
            assert_eq!(origin.count() - before == 1, stored, "{fields} {more}");
        }
    });
}

#[test]
fn what_is_stale_is_validated_and_freshened() {
    run(async {
        let (_edge, origin, mut client) = start(async |seen| {
            let modified = "Tue, 15 Nov 1994 12:45:26 GMT";
            if seen
                .headers
                .get("if-none-match")
                .is_some_and(|tag| tag == "\"1\"")
            {
                assert_eq!(seen.headers["if-modified-since"], modified);
                return answer(
                    304,
                    &[
                        ("etag", "\"1\""),
                        ("cache-control", "max-age=60"),
                        ("x-new", "yes"),
                    ],
                    "",
                );
            }
            let fields = [
                ("cache-control", "max-age=0"),
                ("etag", "\"1\""),
                ("last-modified", modified),
                ("x-new", "no"),
            ];
            answer(200, &fields, "kept")
        })
        .await;
        assert_eq!(word(&client.get("/").await), "MISS");
        let again = client.get("/").await;
        assert_eq!(
            (again.status, &*again.text(), word(&again)),
            (200, "kept", "REVALIDATED")
        );
        assert_eq!(again.header("x-new"), Some("yes"));
        assert!(
            status_of(&again).contains("fwd=stale; fwd-status=304; stored"),
            "{again:?}"
        );
        let third = client.get("/").await;
        assert_eq!((word(&third), third.header("x-new")), ("HIT", Some("yes")));
        assert_eq!(origin.count(), 2);

        // The client's own wish for validation.
        let forced = client
            .get_with("worker.test", "/", "Cache-Control: no-cache\r\n")
            .await;
        assert_eq!((word(&forced), origin.count()), ("REVALIDATED", 3));
        // And its own condition, answered from what was validated.
        let lines = "Cache-Control: no-cache\r\nIf-None-Match: \"1\"\r\n";
        assert_eq!(client.get_with("worker.test", "/", lines).await.status, 304);
        assert_eq!(origin.count(), 4);
    });
}

#[test]
fn variants_are_kept_apart() {
    run(async {
        let (_edge, origin, mut client) = start(async |seen| {
            let language = seen
                .headers
                .get("accept-language")
                .map_or("-", |value| value.to_str().unwrap())
                .to_owned();
            answer(
                200,
                &[("cache-control", "max-age=60"), ("vary", "Accept-Language")],
                language,
            )
        })
        .await;
        for _ in 0..2 {
            for language in ["de", "en"] {
                let lines = format!("Accept-Language: {language}\r\n");
                assert_eq!(client.get_with("worker.test", "/", &lines).await.text(), language);
            }
            assert_eq!(client.get("/").await.text(), "-");
        }
        assert_eq!(origin.count(), 3);
    });
}

#[test]
fn an_unsafe_request_makes_void_what_it_names() {
    run(async {
        let (_edge, origin, mut client) = start(async |seen| {
            if seen.method == "GET" {
                return answer(200, &[("cache-control", "max-age=60")], "page");
            }
            let status = if seen.target.contains("fails") { 500 } else { 201 };
            answer(
                status,
                &[
                    ("location", "/made"),
                    ("content-location", "http://worker.test/also?x=1"),
                ],
                "",
            )
        })
        .await;
        let pages = ["/form", "/made", "/also?x=1", "/other"];
        for page in pages {
            client.get(page).await;
            assert_eq!(word(&client.get(page).await), "HIT");
        }
        client
            .send("POST /form?fails HTTP/1.1\r\nHost: worker.test\r\nContent-Length: 1\r\n\r\nx")
            .await;
        assert_eq!(client.reply().await.unwrap().status, 500);
        assert_eq!(
            word(&client.get("/made").await),
            "HIT",
            "a failure changes nothing"
        );

        client
            .send("CHANGE /form HTTP/1.1\r\nHost: worker.test\r\nContent-Length: 1\r\n\r\nx")
            .await;
        let reply = client.reply().await.unwrap();
        assert_eq!((reply.status, word(&reply)), (201, "DYNAMIC"));
        assert!(status_of(&reply).contains("fwd=method"));
        for (page, expected) in pages.into_iter().zip(["MISS", "MISS", "MISS", "HIT"]) {
            assert_eq!(word(&client.get(page).await), expected, "{page}");
        }
        assert_eq!(origin.count(), 4 + 2 + 3);
    });
}

#[test]
fn a_broken_origin_is_covered_up_only_where_that_is_allowed() {
    run(async {
        static CALLS: AtomicUsize = AtomicUsize::new(0);
        let (_edge, origin, mut client) = start(async |seen| {
            let first = CALLS.fetch_add(1, Ordering::Relaxed) < 3;
            match (&*seen.target, first) {
                (_, true) if seen.target == "/strict" => answer(
                    200,
                    &[("cache-control", "max-age=0, must-revalidate"), ("etag", "\"1\"")],
                    "old",
                ),
                (_, true) if seen.target == "/plain" => {
                    answer(200, &[("cache-control", "max-age=0"), ("etag", "\"1\"")], "old")
                }
                (_, true) => answer(
                    200,
                    &[
                        ("cache-control", "max-age=0, stale-if-error=60"),
                        ("etag", "\"1\""),
                    ],
                    "old",
                ),
                _ if seen.headers.contains_key("x-die") => Err("no answer".into()),
                _ => answer(503, &[], "broken"),
            }
        })
        .await;
        for page in ["/strict", "/plain", "/granted"] {
            assert_eq!(client.get(page).await.text(), "old");
        }
        let granted = client.get("/granted").await;
        assert_eq!((&*granted.text(), word(&granted)), ("old", "STALE"));
        assert!(
            status_of(&granted).contains("fwd=stale; fwd-status=503; ttl="),
            "{granted:?}"
        );
        for page in ["/plain", "/strict"] {
            assert_eq!(client.get(page).await.text(), "broken", "an answer is an answer");
        }
        // No answer at all.
        assert_eq!(
            client
                .get_with("worker.test", "/plain", "X-Die: 1\r\n")
                .await
                .text(),
            "old"
        );
        assert_eq!(
            client
                .get_with("worker.test", "/strict", "X-Die: 1\r\n")
                .await
                .status,
            502
        );
        assert!(origin.count() >= 8);
    });
}

#[test]
fn only_if_cached_asks_nobody() {
    run(async {
        let (_edge, origin, mut client) =
            start(async |_| answer(200, &[("cache-control", "max-age=60")], "x")).await;
        let lines = "Cache-Control: only-if-cached\r\n";
        assert_eq!(client.get_with("worker.test", "/", lines).await.status, 504);
        assert_eq!(origin.count(), 0);
        client.get("/").await;
        assert_eq!(client.get_with("worker.test", "/", lines).await.status, 200);
    });
}

#[test]
fn a_head_without_a_stored_response_is_passed_on_and_one_that_contradicts_is_believed() {
    run(async {
        let (_edge, origin, mut client) = start(async |seen| match &*seen.method {
            "HEAD" => answer(
                200,
                &[("cache-control", "max-age=60"), ("content-length", "7")],
                "",
            ),
            _ => answer(200, &[("cache-control", "max-age=60"), ("etag", "\"1\"")], "four"),
        })
        .await;
        let head = async |client: &mut crate::support::Client, lines: &str| {
            client
                .send(format!("HEAD / HTTP/1.1\r\nHost: worker.test\r\n{lines}\r\n"))
                .await;
            client.reply_to("HEAD").await.unwrap()
        };
        assert_eq!(head(&mut client, "").await.header("content-length"), Some("7"));
        assert_eq!(client.get("/").await.text(), "four");
        assert_eq!(
            head(&mut client, "").await.header("content-length"),
            Some("4"),
            "from what is stored"
        );
        assert_eq!(origin.count(), 2);
        head(&mut client, "Cache-Control: no-cache\r\n").await;
        assert_eq!(origin.last().method, "HEAD");
        client.get("/").await;
        assert_eq!(origin.count(), 4, "it has another length now: asked again");
    });
}

#[test]
fn content_that_breaks_off_is_an_error_and_is_not_stored() {
    run(async {
        let (_edge, origin, mut client) = start(async |seen| {
            let first = futures_util::stream::iter([Ok(http_body::Frame::data(bytes::Bytes::from_static(
                b"only this",
            )))]);
            let cut = futures_util::stream::once(async {
                tokio::time::sleep(Duration::from_millis(30)).await;
                Err("cut".into())
            });
            let body = http_body_util::StreamBody::new(futures_util::StreamExt::chain(first, cut));
            let mut response = http::Response::builder().header("cache-control", "max-age=60");
            if seen.target == "/length" {
                response = response.header("content-length", "100");
            }
            Ok(response.body(astraler_edge::Body::new(body)).unwrap())
        })
        .await;
        for (number, page) in ["/length", "/chunks"].into_iter().enumerate() {
            for times in 1..=2 {
                assert!(client.get(page).await.cut, "{page}");
                assert_eq!(origin.count(), 2 * number + times);
                client = _edge.connect().await;
            }
        }
    });
}

#[test]
fn another_deployment_confirms_before_it_is_used() {
    run(async {
        let (edge, origin, mut client) = start(async |seen| {
            if seen.target == "/same" && seen.headers.contains_key("if-none-match") {
                return answer(304, &[("etag", "\"1\""), ("cache-control", "max-age=60")], "");
            }
            answer(200, &[("cache-control", "max-age=60"), ("etag", "\"1\"")], "page")
        })
        .await;
        for page in ["/same", "/changed"] {
            client.get(page).await;
            assert_eq!(word(&client.get(page).await), "HIT");
        }
        let routes = vec![super::origin::cached(
            edge.folder.path(),
            Default::default(),
            "dep-2",
        )];
        super::origin::publish(&edge, routes, Default::default()).await;
        assert_eq!(word(&client.get("/same").await), "REVALIDATED");
        assert_eq!(word(&client.get("/changed").await), "EXPIRED");
        for page in ["/same", "/changed"] {
            assert_eq!(word(&client.get(page).await), "HIT");
        }
        assert_eq!(origin.count(), 4);
    });
}
