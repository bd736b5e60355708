//! What a worker answers, looked at before anybody gets it; and what is not looked at again.

use super::{custom, publish, rules_of, until, write_rules};
use crate::cache::origin::{Answer, Origin, answer, word};
use crate::support::{Seen, TestEdge, assets, route, run};
use astraler_edge::{Body, BoxError, Limits};
use astraler_model::{CacheRules, HtmlHandling, NotFoundHandling, WafAction, WafConfig, WafMode};
use bytes::Bytes;
use futures_util::StreamExt;
use http::Response;
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A set in small that scores answers as the Core Rule Set does, and looks at what phases before have set.
const RULES: &str = r#"
SecResponseBodyMimeType text/html text/plain application/json
SecAction "id:900,phase:1,pass,nolog,setvar:tx.blocking_outbound_anomaly_score=0,setvar:tx.outbound_anomaly_score_pl1=0,\
    initcol:ip=%{REMOTE_ADDR}"
SecRule IP:answers "@ge 3" "id:901,phase:1,deny,status:429,msg:'Too many'"
SecRule ARGS:look "@streq away" "id:902,phase:2,pass,nolog,setvar:tx.look_away=1"
SecRule TX:look_away "@eq 1" "id:950,phase:3,pass,nolog,skipAfter:END"
SecRule TX:look_away "@eq 1" "id:949,phase:4,pass,nolog,skipAfter:END"
SecRule RESPONSE_STATUS "@eq 500" "id:951,phase:3,deny,msg:'Broken'"
SecRule RESPONSE_HEADERS:X-Debug "@rx ." "id:952,phase:3,pass,msg:'Debugging',setvar:tx.outbound_anomaly_score_pl1=+2"
SecRule RESPONSE_BODY "@contains stack trace" "id:953,phase:4,pass,msg:'Leak',setvar:tx.outbound_anomaly_score_pl1=+2"
SecRule RESPONSE_BODY "@contains hidden" "id:954,phase:4,deny,status:404,msg:'Hidden'"
SecRule RESPONSE_BODY "@contains secret of state" "id:955,phase:4,deny,status:451,msg:'Law'"
SecRule RESPONSE_BODY "@contains elsewhere" "id:956,phase:4,redirect:https://example.com/,msg:'Elsewhere'"
SecAction "id:958,phase:4,pass,nolog,setvar:tx.blocking_outbound_anomaly_score=+%{tx.outbound_anomaly_score_pl1}"
SecRule TX:blocking_outbound_anomaly_score "@ge %{tx.outbound_anomaly_score_threshold}" \
    "id:959,phase:4,deny,status:403,msg:'Outbound score exceeded'"
SecMarker END
SecRule RESPONSE_STATUS "@eq 418" "id:980,phase:5,pass,nolog,setvar:ip.answers=+1"
SecRule ARGS:count "@streq 1" "id:981,phase:5,pass,nolog,setvar:ip.answers=+1"
"#;

const HTML: (&str, &str) = ("content-type", "text/html; charset=utf-8");
const FRESH: (&str, &str) = ("cache-control", "max-age=60");

async fn edge_with<F>(
    config: impl FnOnce(&mut WafConfig),
    answer: impl Fn(Seen) -> F + Send + Sync + 'static,
) -> (TestEdge, Origin)
where
    F: Future<Output = Answer> + Send + 'static,
{
    let edge = TestEdge::start(Limits::default(), |folder| {
        write_rules(folder, RULES);
        let mut waf = WafConfig {
            rules: Some(folder.join("rules")),
            ..WafConfig::default()
        };
        config(&mut waf);
        let mut cached = route("worker.test", vec![("/", folder.join("w.sock"))]);
        cached.policy.waf = Some(waf);
        let mut plain = cached.clone();
        plain.hosts = vec!["plain.test".to_owned()];
        cached.cache = Some(CacheRules::default());
        let mut site = route("site.test", vec![]);
        site.policy = cached.policy.clone();
        std::fs::create_dir_all(folder.join("site")).unwrap();
        std::fs::write(folder.join("site/index.html"), "a stack trace in a file, hidden").unwrap();
        site.assets = assets(
            folder.join("site"),
            HtmlHandling::default(),
            NotFoundHandling::default(),
        );
        vec![cached, plain, site]
    })
    .await;
    let origin = Origin::start(&edge.folder.path().join("w.sock"), answer);
    (edge, origin)
}

async fn pages(seen: Seen) -> Answer {
    let path = seen.target.split('?').next().unwrap_or_default();
    match path {
        "/leak" => answer(
            200,
            &[HTML, FRESH, ("x-debug", "token-4711")],
            "<pre>stack trace of Secret.java</pre>",
        ),
        "/half" => answer(200, &[HTML, FRESH], "<pre>stack trace</pre>"),
        "/broken" => answer(500, &[HTML], "oh"),
        "/hidden" => answer(200, &[HTML], "hidden"),
        "/state" => answer(200, &[HTML], "a secret of state"),
        "/moved" => answer(200, &[HTML], "elsewhere"),
        "/image" => answer(
            200,
            &[("content-type", "image/png"), ("x-debug", "1")],
            "stack trace",
        ),
        "/packed" => answer(
            200,
            &[HTML, ("content-encoding", "gzip"), ("x-debug", "1")],
            "stack trace",
        ),
        "/asked" => answer(200, &[HTML], format!("{:?}", seen.headers.get("accept-encoding"))),
        "/teapot" => answer(418, &[], ""),
        _ => answer(200, &[HTML, FRESH], "<p>hello</p>"),
    }
}

#[test]
fn a_worker_is_not_asked_to_compress_what_rules_look_at() {
    run(async {
        for (mode, heard) in [(WafMode::Detect, "None"), (WafMode::Off, "Some(\"gzip\")")] {
            let (edge, _origin) = edge_with(|waf| waf.mode = mode, pages).await;
            let mut client = edge.connect().await;
            let reply = client
                .get_with("worker.test", "/asked", "Accept-Encoding: gzip\r\n")
                .await;
            assert_eq!(reply.body, heard.as_bytes(), "{mode:?}");
        }
    });
}

#[test]
fn what_a_worker_gives_away_is_refused_and_never_stored() {
    run(async {
        let (edge, origin) = edge_with(|_| {}, pages).await;
        let mut client = edge.connect().await;
        for (target, status) in [
            ("/", 200),
            ("/leak", 403),
            ("/leak", 403),
            ("/half", 200),
            ("/leak?look=away", 200),
            ("/broken", 403),
            ("/hidden", 404),
            ("/image", 200),
            ("/packed", 200),
            ("/state", 451),
            ("/moved", 302),
            ("/moved", 302),
        ] {
            let reply = client
                .get_with("worker.test", target, "Accept: application/json\r\n")
                .await;
            assert_eq!(reply.status, status, "{target}");
            assert!(
                !reply.text().contains("Secret") || status == 200,
                "{target}: {}",
                reply.text()
            );
            if status != 200 {
                assert_eq!(reply.header("cache-control"), Some("no-store"));
                assert_eq!(reply.header("x-debug"), None);
            }
            if status == 302 {
                assert_eq!(reply.header("location"), Some("https://example.com/"));
            }
        }
        // Without a cache, and by other methods.
        for (host, method) in [
            ("plain.test", "GET"),
            ("plain.test", "POST"),
            ("worker.test", "POST"),
        ] {
            client
                .send(format!(
                    "{method} /leak HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n"
                ))
                .await;
            assert_eq!(client.reply().await.unwrap().status, 403, "{method} {host}");
        }
        assert_eq!(origin.count(), 15, "each time it was asked again");
        let records = edge.stop().await;
        let said = &records[1]["rules"];
        assert_eq!(
            said,
            &json!([
                { "rule": "952", "action": "match", "variable": "RESPONSE_HEADERS:x-debug", "score": 2 },
                { "rule": "959", "action": "block", "score": 4 },
                { "rule": "953", "action": "match", "variable": "RESPONSE_BODY", "score": 2 },
            ])
        );
        assert_eq!(records[1]["error"], "blocked");
        let text = serde_json::Value::from(records.clone()).to_string();
        assert!(!text.contains("4711") && !text.contains("Secret"), "{text}");
        assert_eq!(rules_of(&records[3]), ["953"]);
        assert_eq!(rules_of(&records[4]), [""; 0]);
        assert_eq!(rules_of(&records[5]), ["951"]);
        assert_eq!(records[5]["status"], 403);
    });
}

#[test]
fn detection_lets_answers_pass_and_records_the_same() {
    run(async {
        let (edge, _origin) = edge_with(
            |waf| {
                waf.mode = WafMode::Detect;
                waf.outbound_threshold = 2;
            },
            pages,
        )
        .await;
        let mut client = edge.connect().await;
        for (target, text) in [
            ("/leak", "<pre>stack trace of Secret.java</pre>"),
            ("/half", "<pre>stack trace</pre>"),
            ("/half", "<pre>stack trace</pre>"),
            ("/broken", "oh"),
        ] {
            assert_eq!(client.get(target).await.text(), text);
        }
        let records = edge.stop().await;
        let said: Vec<_> = records.iter().map(rules_of).collect();
        let expected: [&[&str]; 4] = [&["952", "953", "959"], &["953", "959"], &[], &["951"]];
        assert_eq!(said, expected, "the third is the cache's");
    });
}

#[test]
fn what_was_looked_at_once_is_not_looked_at_again() {
    run(async {
        let strict = Arc::new(AtomicBool::new(false));
        let asked = strict.clone();
        let (edge, origin) = edge_with(
            |_| {},
            move |seen: Seen| {
                let changed = asked.load(Ordering::Relaxed);
                async move {
                    let etag = ("etag", "\"1\"");
                    let is_asked_whether = seen.headers.contains_key("if-none-match");
                    match seen.target.as_str() {
                        "/validated" if is_asked_whether => answer(304, &[etag, ("x-debug", "late")], ""),
                        "/validated" => answer(200, &[HTML, etag, ("cache-control", "no-cache")], "late"),
                        "/renewed" => answer(
                            200,
                            &[HTML, ("cache-control", "max-age=0, stale-while-revalidate=600")],
                            if changed { "late, changed" } else { "late" },
                        ),
                        "/new" => answer(200, &[HTML, ("cache-control", "no-store")], "late"),
                        _ => answer(200, &[HTML, FRESH], "late"),
                    }
                }
            },
        )
        .await;
        let mut client = edge.connect().await;
        for target in ["/stored", "/validated", "/renewed"] {
            assert_eq!(client.get(target).await.status, 200);
        }
        let stricter = format!(
            "{RULES}\nSecRule RESPONSE_BODY|RESPONSE_HEADERS:X-Debug \"@contains late\" \"id:960,phase:4,deny,msg:'Late'\""
        );
        write_rules(edge.folder.path(), &stricter);
        publish(&edge);
        until(&edge, "/new", 403).await;
        strict.store(true, Ordering::Relaxed);
        let hit = client.get("/stored").await;
        assert_eq!((hit.status, word(&hit)), (200, "HIT"));
        let validated = client.get("/validated").await;
        assert_eq!((validated.status, word(&validated)), (200, "REVALIDATED"));
        let unchanged = client
            .get_with("plain.test", "/validated", "If-None-Match: \"1\"\r\n")
            .await;
        assert_eq!(unchanged.status, 304);
        // What is fetched behind a client's back is looked at: the old one stays.
        for _ in 0..2 {
            let before = origin.count();
            let stale = client.get("/renewed").await;
            assert_eq!((stale.status, stale.text().as_str()), (200, "late"));
            while origin.count() == before {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let file = client.get_with("site.test", "/", "").await;
        assert_eq!((file.status, file.body.len()), (200, 31));
    });
}

#[test]
fn what_a_refused_answer_has_changed_is_forgotten_by_the_cache() {
    run(async {
        let (edge, _origin) = edge_with(
            |_| {},
            async |seen: Seen| match seen.method.as_str() {
                "GET" => answer(200, &[HTML, FRESH], "page"),
                _ => answer(200, &[HTML, ("x-debug", "1")], "a stack trace"),
            },
        )
        .await;
        let mut client = edge.connect().await;
        assert_eq!(word(&client.get("/page").await), "MISS");
        assert_eq!(word(&client.get("/page").await), "HIT");
        client
            .send("POST /page HTTP/1.1\r\nHost: worker.test\r\nContent-Length: 0\r\n\r\n")
            .await;
        assert_eq!(client.reply().await.unwrap().status, 403);
        assert_eq!(word(&client.get("/page").await), "MISS");
    });
}

#[test]
fn phase_5_ends_every_request_and_what_it_keeps_is_there_for_the_next() {
    run(async {
        let (edge, _origin) = edge_with(|_| {}, pages).await;
        let mut client = edge.connect().await;
        // An answer of a worker, one of the cache, and a file: each counts once.
        assert_eq!(client.get("/teapot").await.status, 418);
        assert_eq!(client.get("/?count=1").await.status, 200);
        assert_eq!(client.get_with("site.test", "/?count=1", "").await.status, 200);
        assert_eq!(client.get("/").await.status, 429);
        drop(client);
        let records = edge.stop().await;
        assert_eq!(rules_of(&records[3]), ["901"]);
    });
}

#[test]
fn clients_that_leave_are_counted_too() {
    run(async {
        let (edge, _origin) =
            edge_with(|_| {}, async |_| in_pieces("text/html", Duration::from_secs(5))).await;
        let head = "Host: plain.test\r\nContent-Type: text/plain\r\n";
        for request in [
            // In the middle of their body, before the answer, and in the middle of the answer.
            format!("POST /?count=1 HTTP/1.1\r\n{head}Content-Length: 10\r\n\r\na="),
            format!("GET /?count=1 HTTP/1.1\r\n{head}\r\n"),
        ] {
            let mut client = edge.connect().await;
            client.send(request).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let mut client = edge.connect().await;
        client.send(format!("GET /?count=1 HTTP/1.1\r\n{head}\r\n")).await;
        while !String::from_utf8_lossy(&client.buffer).contains("first,") {
            assert!(client.fill().await);
        }
        assert_eq!(
            edge.connect().await.get_with("plain.test", "/", "").await.status,
            429
        );
    });
}

#[test]
fn custom_rules_look_at_answers() {
    run(async {
        let (edge, _origin) = edge_with(
            |waf| {
                waf.custom_rules = vec![
                    custom("teapots", "http.response.code eq 418", WafAction::Block),
                    custom(
                        "debugging",
                        "any(http.response.headers[\"x-debug\"][*] contains \"token\")",
                        WafAction::Log,
                    ),
                    custom(
                        "trusted",
                        "http.response.code eq 500 and http.request.uri.path eq \"/broken\"",
                        WafAction::Skip,
                    ),
                ];
            },
            pages,
        )
        .await;
        let mut client = edge.connect().await;
        for (target, status) in [("/teapot", 403), ("/leak", 403), ("/broken", 500), ("/", 200)] {
            assert_eq!(client.get(target).await.status, status, "{target}");
        }
        let records = edge.stop().await;
        let said: Vec<_> = records.iter().map(rules_of).collect();
        let expected: [&[&str]; 4] = [
            &["teapots"],
            &["debugging", "952", "959", "953"],
            &["trusted"],
            &[],
        ];
        assert_eq!(said, expected);
    });
}

/// A piece, and after a while another.
fn in_pieces(kind: &str, pause: Duration) -> Answer {
    let piece = |text: &'static str| Ok(http_body::Frame::data(Bytes::from_static(text.as_bytes())));
    let stream =
        futures_util::stream::iter([piece("first,")]).chain(futures_util::stream::once(async move {
            tokio::time::sleep(pause).await;
            piece("second")
        }));
    let body = Body::new(http_body_util::StreamBody::new(stream));
    Ok(Response::builder()
        .header("content-type", kind)
        .body(body)
        .unwrap())
}

#[test]
fn streams_flow_and_what_breaks_off_is_a_bad_gateway() {
    run(async {
        let (edge, _origin) = edge_with(
            |_| {},
            async |seen: Seen| match seen.target.as_str() {
                "/events" => in_pieces("text/event-stream", Duration::from_secs(5)),
                "/page" => in_pieces("text/html", Duration::from_secs(5)),
                "/quick" => in_pieces("text/html", Duration::from_millis(100)),
                _ => {
                    let stream = futures_util::stream::iter([
                        Ok(http_body::Frame::data(Bytes::from_static(b"only this"))),
                        Err(BoxError::from("cut")),
                    ]);
                    let body = Body::new(http_body_util::StreamBody::new(stream));
                    Ok(Response::builder()
                        .header("content-type", "text/html")
                        .body(body)
                        .unwrap())
                }
            },
        )
        .await;
        for (target, at_most) in [("/events", 500), ("/page", 3000)] {
            let mut client = edge.connect().await;
            let begun = Instant::now();
            client
                .send(format!("GET {target} HTTP/1.1\r\nHost: plain.test\r\n\r\n"))
                .await;
            while !String::from_utf8_lossy(&client.buffer).contains("first,") {
                assert!(client.fill().await);
            }
            let took = begun.elapsed();
            assert!(took < Duration::from_millis(at_most), "{target}: {took:?}");
            assert_eq!(took > Duration::from_millis(900), target == "/page", "{took:?}");
        }
        let mut client = edge.connect().await;
        let quick = client.get_with("plain.test", "/quick", "").await;
        assert_eq!(quick.text(), "first,second");
        let cut = client.get_with("plain.test", "/cut", "").await;
        assert_eq!(cut.status, 502);
    });
}

/// The Core Rule Set: as the distribution installs it, and its newest release.
#[test]
fn the_core_rule_set_finds_leaks() {
    let release = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/suites/crs");
    let installed = Path::new(astraler_waf::ruleset::INSTALLED);
    for rules in [installed, &release] {
        if !rules.exists() {
            eprintln!("SKIPPED: {} is not there", rules.display());
            continue;
        }
        run(async {
            let (edge, _origin) = edge_with(
                |waf| waf.rules = Some(rules.to_owned()),
                async |seen: Seen| {
                    let body = match seen.target.as_str() {
                        "/sql" => "<b>Warning</b>: You have an error in your SQL syntax; check the manual that corresponds to your MySQL server version near 'x' at line 1",
                        "/php" => "<?php\n$handle = fopen($_GET['f'], 'r'); echo $handle; ?>",
                        "/listing" => "<html><head><title>Index of /backup</title></head><body><h1>Index of /backup</h1></body></html>",
                        _ => "<html><head><title>Shoes</title></head><body><p>An index of shoes, and no warning.</p></body></html>",
                    };
                    answer(200, &[HTML], body)
                },
            )
            .await;
            let mut client = edge.connect().await;
            let lines = "User-Agent: Mozilla/5.0\r\nAccept: text/html\r\n";
            for (target, status) in [("/", 200), ("/sql", 403), ("/php", 403), ("/listing", 403)] {
                let reply = client.get_with("plain.test", target, lines).await;
                assert_eq!(reply.status, status, "{}: {target}", rules.display());
            }
            let records = edge.stop().await;
            assert_eq!(rules_of(&records[0]), [""; 0]);
            for (record, found) in records[1..].iter().zip(["951230", "953120", "950130"]) {
                assert_eq!(rules_of(record)[0], "959100", "{record}");
                assert!(rules_of(record).contains(&found), "{record}");
            }
        });
    }
}

#[test]
fn rules_know_how_long_a_worker_has_taken() {
    run(async {
        let (edge, _origin) = edge_with(
            |waf| {
                let rules = "SecRule DURATION \"@ge 100000\" \"id:1,phase:3,deny,status:503,msg:'Slow'\"\n\
                             SecRule DURATION \"@ge 10000000\" \"id:2,phase:1,deny\"";
                write_rules(waf.rules.as_ref().unwrap().parent().unwrap(), rules);
            },
            |seen| async move {
                if seen.target == "/slow" {
                    tokio::time::sleep(Duration::from_millis(120)).await;
                }
                answer(200, &[HTML], "hello")
            },
        )
        .await;
        assert_eq!(edge.connect().await.get("/slow").await.status, 503);
        assert_eq!(rules_of(&edge.stop().await[0]), ["1"]);
    });
}
