//! Parts (206): stored, put together, and never taken for more than they are.

use super::origin::{Answer, answer, start, word};
use crate::support::{Client, Reply, Seen, run};

const CONTENT: &[u8] = b"0123456789abcdefghij";

/// An origin that knows ranges of one form, `bytes=FIRST-LAST`, and answers with these fields besides.
fn ranged(seen: &Seen, fields: &[(&str, &str)]) -> Answer {
    let Some(range) = seen.headers.get("range") else {
        return answer(200, fields, CONTENT);
    };
    let range = range.to_str().unwrap().strip_prefix("bytes=").unwrap();
    let (first, last) = range.split_once('-').unwrap();
    let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
    let place = format!("bytes {first}-{last}/{}", CONTENT.len());
    let mut fields = fields.to_vec();
    fields.push(("content-range", &place));
    answer(206, &fields, &CONTENT[first..=last])
}

async fn get(client: &mut Client, fields: &str) -> Reply {
    client
        .send(format!("GET /film HTTP/1.1\r\nHost: worker.test\r\n{fields}\r\n"))
        .await;
    client.reply().await.unwrap()
}

/// Word, status, content.
fn told(reply: &Reply) -> (&str, u16, String) {
    (word(reply), reply.status, reply.text().to_string())
}

const KEPT: &[(&str, &str)] = &[("cache-control", "max-age=60"), ("etag", "\"1\"")];

#[test]
fn parts_answer_what_they_have_and_become_the_whole() {
    run(async {
        let (edge, origin, mut client) = start(async |seen| ranged(&seen, KEPT)).await;
        let part = |word: &'static str, text: &str| (word, 206, text.to_owned());
        let first = get(&mut client, "Range: bytes=0-4\r\n").await;
        assert_eq!(told(&first), part("MISS", "01234"));
        assert!(first.header("cache-status").unwrap().contains("stored"));

        // What is there, and a part of it; nothing else.
        let again = get(&mut client, "Range: bytes=0-4\r\n").await;
        assert_eq!(told(&again), part("HIT", "01234"));
        assert_eq!(again.header("content-range"), Some("bytes 0-4/20"));
        assert!(again.header("age").is_some());
        assert_eq!(
            told(&get(&mut client, "Range: bytes=1-2\r\n").await),
            part("HIT", "12")
        );
        assert_eq!(origin.count(), 1);
        assert_eq!(
            told(&get(&mut client, "Range: bytes=3-9\r\n").await),
            part("MISS", "3456789")
        );
        assert_eq!(origin.count(), 2);
        // Now over the seam of the two.
        assert_eq!(
            told(&get(&mut client, "Range: bytes=2-8\r\n").await),
            part("HIT", "2345678")
        );
        // Conditions, and what lies outside, are known by heart.
        let known = get(&mut client, "If-None-Match: \"1\"\r\n").await;
        assert_eq!((word(&known), known.status), ("HIT", 304));
        let outside = get(&mut client, "Range: bytes=20-\r\n").await;
        assert_eq!((word(&outside), outside.status), ("HIT", 416));
        let still = get(&mut client, "Range: bytes=0-1\r\nIf-Range: \"1\"\r\n").await;
        assert_eq!(told(&still), part("HIT", "01"));
        assert_eq!(origin.count(), 2);

        // A hole is not jumped over.
        assert_eq!(
            told(&get(&mut client, "Range: bytes=15-19\r\n").await),
            part("MISS", "fghij")
        );
        assert_eq!(
            told(&get(&mut client, "Range: bytes=8-16\r\n").await),
            part("MISS", "89abcdefg")
        );
        assert_eq!(origin.count(), 4);
        // Nothing is missing any more: the whole is there.
        let whole = get(&mut client, "").await;
        assert_eq!(told(&whole), ("HIT", 200, "0123456789abcdefghij".into()));
        assert_eq!(whole.header("content-length"), Some("20"));
        assert_eq!(origin.count(), 4);
        // A purge means parts as it means all else.
        let (status, _) = edge
            .control("POST", "/cache/purge", r#"{"what":["everything"]}"#)
            .await;
        assert_eq!(status, 200);
        assert_eq!(
            told(&get(&mut client, "Range: bytes=0-4\r\n").await),
            part("MISS", "01234")
        );
        drop(edge.stop().await);
    });
}

#[test]
fn a_part_is_never_taken_for_the_whole() {
    run(async {
        let (edge, origin, mut client) = start(async |seen| ranged(&seen, KEPT)).await;
        assert_eq!(get(&mut client, "Range: bytes=0-4\r\n").await.status, 206);
        // Whoever wants all of it, several ranges, or another representation, has it from the origin.
        let several = get(&mut client, "Range: bytes=0-1\r\nIf-Range: \"2\"\r\n").await;
        assert_eq!(several.status, 206, "the origin's own word");
        assert_eq!(origin.count(), 2);
        client
            .send("HEAD /film HTTP/1.1\r\nHost: worker.test\r\n\r\n")
            .await;
        assert_eq!(client.reply_to("HEAD").await.unwrap().status, 200);
        assert_eq!(origin.count(), 3);
        drop(edge.stop().await);
    });
}

#[test]
fn the_rest_is_fetched_if_it_is_of_the_same_representation() {
    run(async {
        let version = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(1));
        let now = version.clone();
        let (edge, origin, mut client) = start(move |mut seen| {
            let tag = format!("\"{}\"", now.load(std::sync::atomic::Ordering::SeqCst));
            async move {
                if let Some(range) = seen.headers.get("range").cloned() {
                    if seen.headers.get("if-range").is_some_and(|wanted| *wanted != tag) {
                        seen.headers.remove("range");
                    } else if range == "bytes=5-" {
                        seen.headers.insert("range", "bytes=5-19".parse().unwrap());
                    }
                }
                ranged(&seen, &[("cache-control", "max-age=60"), ("etag", &tag)])
            }
        })
        .await;
        let all = ("MISS", 200, "0123456789abcdefghij".to_owned());
        get(&mut client, "Range: bytes=0-4\r\n").await;
        let whole = get(&mut client, "").await;
        assert_eq!(told(&whole), all);
        assert_eq!(whole.header("content-length"), Some("20"));
        assert_eq!(whole.header("content-range"), None);
        let sent = origin.last().headers;
        assert_eq!(
            (&sent["range"], &sent["if-range"]),
            (&"bytes=5-".parse().unwrap(), &"\"1\"".parse().unwrap())
        );
        assert_eq!(
            told(&get(&mut client, "Range: bytes=9-10\r\n").await),
            ("HIT", 206, "9a".into())
        );
        assert_eq!(origin.count(), 2);

        // Changed meanwhile: all of the new one.
        edge.control("POST", "/cache/purge", r#"{"what":["everything"]}"#)
            .await;
        get(&mut client, "Range: bytes=0-4\r\n").await;
        version.store(2, std::sync::atomic::Ordering::SeqCst);
        let whole = get(&mut client, "").await;
        assert_eq!((told(&whole), whole.header("etag")), (all, Some("\"2\"")));
        drop(edge.stop().await);
    });
}

#[test]
fn what_is_not_certain_to_belong_together_is_not_put_together() {
    run(async {
        for (fields, why) in [
            (&[("cache-control", "max-age=60")][..], "no tag"),
            (
                &[("cache-control", "max-age=60"), ("etag", "W/\"1\"")],
                "a weak tag",
            ),
            (
                &[("cache-control", "no-store"), ("etag", "\"1\"")],
                "not for caches",
            ),
        ] {
            let (edge, origin, mut client) = start(async move |seen| ranged(&seen, fields)).await;
            for count in 1..=2 {
                let answer = get(&mut client, "Range: bytes=0-4\r\n").await;
                assert_eq!((word(&answer), answer.status), ("BYPASS", 206), "{why}");
                assert_eq!(origin.count(), count, "{why}");
            }
            drop(edge.stop().await);
        }
        // Another version: its parts begin anew.
        let version = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(1));
        let now = version.clone();
        let (edge, origin, mut client) = start(move |seen| {
            let tag = format!("\"{}\"", now.load(std::sync::atomic::Ordering::SeqCst));
            async move { ranged(&seen, &[("cache-control", "max-age=60"), ("etag", &tag)]) }
        })
        .await;
        get(&mut client, "Range: bytes=0-9\r\n").await;
        version.store(2, std::sync::atomic::Ordering::SeqCst);
        assert_eq!(word(&get(&mut client, "Range: bytes=10-19\r\n").await), "MISS");
        assert_eq!(word(&get(&mut client, "Range: bytes=10-19\r\n").await), "HIT");
        assert_eq!(word(&get(&mut client, "Range: bytes=0-9\r\n").await), "MISS");
        assert_eq!(origin.count(), 3);
        let whole = get(&mut client, "").await;
        assert_eq!((word(&whole), whole.header("etag")), ("HIT", Some("\"2\"")));
        drop(edge.stop().await);
    });
}

#[test]
fn a_part_that_breaks_off_is_not_stored() {
    run(async {
        let (edge, origin, mut client) = start(|_| async {
            let data = http_body::Frame::data(bytes::Bytes::from_static(b"01"));
            let first = futures_util::stream::iter([Ok(data)]);
            let cut = futures_util::stream::once(async {
                tokio::time::sleep(std::time::Duration::from_millis(30)).await;
                Err("cut".into())
            });
            let frames = futures_util::StreamExt::chain(first, cut);
            let body = astraler_edge::Body::new(http_body_util::StreamBody::new(frames));
            let response = http::Response::builder()
                .status(206)
                .header("cache-control", "max-age=60")
                .header("etag", "\"1\"")
                .header("content-range", "bytes 0-4/20")
                .header("content-length", "5");
            Ok(response.body(body).unwrap())
        })
        .await;
        for count in 1..=2 {
            let short = get(&mut client, "Range: bytes=0-4\r\n").await;
            assert!(short.cut && short.status == 206);
            client = edge.connect().await;
            assert_eq!(origin.count(), count);
        }
        drop(edge.stop().await);
    });
}
