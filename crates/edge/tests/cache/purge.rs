//! What is purged is gone, and what is on its way does not come back.

use super::origin::{answer, start, word};
use crate::support::run;
use std::time::Duration;

#[test]
fn a_purge_takes_what_it_names() {
    run(async {
        let (edge, _origin, mut client) = start(async |seen| {
            let tag = if seen.target.starts_with("/b") {
                "Blog, all"
            } else {
                "shop,all"
            };
            answer(200, &[("cache-control", "max-age=60"), ("cache-tag", tag)], "x")
        })
        .await;
        let pages = ["/a", "/a?x=1", "/blog/1", "/blog/2"];
        for (purge, gone) in [
            (r#"{"url":"http://worker.test/a"}"#, vec![0]),
            (r#"{"url":"worker.test/a?x=1"}"#, vec![1]),
            (r#"{"url":"https://worker.test/a"}"#, vec![]),
            (r#"{"prefix":"worker.test/blog/"}"#, vec![2, 3]),
            (r#"{"tag":"BLOG"}"#, vec![2, 3]),
            (r#"{"host":"worker.test"}"#, vec![0, 1, 2, 3]),
            (r#"{"host":"other.test"}"#, vec![]),
            (r#""everything""#, vec![0, 1, 2, 3]),
        ] {
            for page in pages {
                client.get(page).await;
            }
            let (status, purged) = edge
                .control("POST", "/cache/purge", &format!(r#"{{"what":[{purge}]}}"#))
                .await;
            assert_eq!(
                (status, purged["removed"].as_u64()),
                (200, Some(gone.len() as u64)),
                "{purge}"
            );
            for (number, page) in pages.into_iter().enumerate() {
                let expected = if gone.contains(&number) { "MISS" } else { "HIT" };
                assert_eq!(word(&client.get(page).await), expected, "{purge} {page}");
            }
        }
        // Of another environment.
        let other = r#"{"environment":"production","what":["everything"]}"#;
        assert_eq!(edge.control("POST", "/cache/purge", other).await.1["removed"], 0);
        for bad in [
            "",
            "{}",
            r#"{"what":[{"url":"/no/host"}]}"#,
            r#"{"what":["all"]}"#,
        ] {
            assert_eq!(edge.control("POST", "/cache/purge", bad).await.0, 400, "{bad}");
        }
        assert_eq!(edge.control("GET", "/cache/purge", "").await.0, 405);
    });
}

#[test]
fn what_is_on_its_way_when_the_purge_comes_is_not_stored() {
    run(async {
        let (edge, origin, mut client) = start(async |_| {
            tokio::time::sleep(Duration::from_millis(200)).await;
            answer(200, &[("cache-control", "max-age=60")], "old")
        })
        .await;
        for purge in [
            r#"{"what":["everything"]}"#,
            r#"{"what":[{"url":"worker.test/"}]}"#,
        ] {
            let before = origin.count();
            client.send("GET / HTTP/1.1\r\nHost: worker.test\r\n\r\n").await;
            tokio::time::sleep(Duration::from_millis(60)).await;
            edge.control("POST", "/cache/purge", purge).await;
            assert_eq!(client.reply().await.unwrap().text(), "old");
            assert_eq!(word(&client.get("/").await), "MISS");
            assert_eq!(origin.count() - before, 2);
            edge.control("POST", "/cache/purge", r#"{"what":["everything"]}"#)
                .await;
        }
    });
}
