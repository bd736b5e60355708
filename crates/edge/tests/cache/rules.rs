//! What a site's rules change.

use super::origin::{Origin, answer, edge, word};
use crate::support::run;
use astraler_model::{CacheQuery, CacheRules};

#[test]
fn what_is_bypassed_is_neither_stored_nor_used() {
    run(async {
        let edge = edge(CacheRules {
            bypass: vec!["/admin*".into()],
            bypass_cookies: vec!["session".into()],
            bypass_headers: vec!["x-draft".into()],
            ..CacheRules::default()
        })
        .await;
        let origin = Origin::start(&edge.folder.path().join("w.sock"), async |_| {
            answer(200, &[("cache-control", "max-age=60"), ("cache-tag", "a,b")], "x")
        });
        let mut client = edge.connect().await;
        for (page, lines) in [
            ("/admin/x", ""),
            ("/", "Cookie: session=1\r\n"),
            ("/", "X-Draft: 1\r\n"),
        ] {
            let before = origin.count();
            for _ in 0..2 {
                let reply = client.get_with("worker.test", page, lines).await;
                assert_eq!(word(&reply), "BYPASS");
                assert!(reply.header("cache-status").unwrap().contains("fwd=bypass"));
                assert_eq!(reply.header("cache-tag"), None, "tags are for caches");
            }
            assert_eq!(origin.count() - before, 2, "{page} {lines}");
        }
        assert_eq!(word(&client.get("/").await), "MISS");
        let reply = client.get("/").await;
        assert_eq!((word(&reply), reply.header("cache-tag")), ("HIT", None));
    });
}

#[test]
fn keys_follow_the_rules() {
    run(async {
        let edge = edge(CacheRules {
            query: CacheQuery::Except(vec!["utm_source".into()]),
            sort_query: true,
            key_headers: vec!["x-country".into()],
            key_cookies: vec!["theme".into()],
            ..CacheRules::default()
        })
        .await;
        let origin = Origin::start(&edge.folder.path().join("w.sock"), async |_| {
            answer(200, &[("cache-control", "max-age=60")], "x")
        });
        let mut client = edge.connect().await;
        for (target, lines, expected) in [
            ("/?a=1&b=2", "", "MISS"),
            ("/?b=2&utm_source=x&a=1", "", "HIT"),
            ("/?a=1", "", "MISS"),
            ("/?a=1", "X-Country: de\r\n", "MISS"),
            ("/?a=1", "X-Country: de\r\nCookie: x=1; theme=dark\r\n", "MISS"),
            ("/?a=1", "X-Country: de\r\nCookie: theme=dark; y=1\r\n", "HIT"),
        ] {
            let reply = client.get_with("worker.test", target, lines).await;
            assert_eq!(word(&reply), expected, "{target} {lines}");
        }
        assert_eq!(origin.count(), 4);
    });
}

#[test]
fn errors_are_kept_for_as_long_as_the_site_says() {
    run(async {
        let edge = edge(CacheRules {
            negative_ttl_s: 30,
            ..CacheRules::default()
        })
        .await;
        let origin = Origin::start(&edge.folder.path().join("w.sock"), async |seen| {
            let status = seen.target[1..].parse().unwrap();
            answer(status, &[], "x")
        });
        let mut client = edge.connect().await;
        for (status, stored) in [(404, true), (410, true), (403, false), (500, false), (200, false)] {
            let before = origin.count();
            for _ in 0..2 {
                assert_eq!(client.get(&format!("/{status}")).await.status, status);
            }
            assert_eq!(origin.count() - before == 1, stored, "{status}");
        }
    });
}
