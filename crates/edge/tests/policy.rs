//! Rules of an environment over sockets: who the client is, who may come, what answers carry, maintenance.

use crate::support::{Client, Reply, TestEdge, Worker, assets, route, run};
use astraler_edge::Limits;
use astraler_model::{
    AccessRule, Attack, ClientIpHeader, EdgePolicy, HeaderRule, HtmlHandling, Maintenance, NotFoundHandling,
};
use serde_json::json;

/// As a manifest would write it.
fn read<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// One worker and a few files on `worker.test`, with these rules.
async fn edge(policy: EdgePolicy) -> (TestEdge, Worker) {
    let edge = TestEdge::start(Limits::default(), |folder| {
        let site = folder.join("site");
        std::fs::create_dir(&site).unwrap();
        std::fs::write(site.join("404.html"), "<h1>our own 404</h1>").unwrap();
        std::fs::write(site.join("error.html"), "<h1>our own error</h1>").unwrap();
        let mut route = route("worker.test", vec![("/w", folder.join("w.sock"))]);
        route.workers.push(astraler_model::WorkerRoute {
            prefix: "/gone".to_owned(),
            worker: "gone".to_owned(),
            origin: astraler_model::Origin::Unix(folder.join("gone.sock")),
        });
        route.assets = assets(site, HtmlHandling::None, NotFoundHandling::None);
        route.policy = policy;
        vec![route]
    })
    .await;
    let worker = Worker::start(&edge.folder.path().join("w.sock"));
    (edge, worker)
}

async fn get(client: &mut Client, target: &str, lines: &str) -> Reply {
    client.get_with("worker.test", target, lines).await
}

const FORGED: &str = "X-Forwarded-For: 1.1.1.1, 192.0.2.9\r\nForwarded: for=1.1.1.1, for=192.0.2.9\r\n\
    CF-Connecting-IP: 192.0.2.9\r\nX-Real-IP: 1.1.1.1\r\nTrue-Client-IP: 1.1.1.1\r\nX-Forwarded-Proto: https\r\n";

#[test]
fn a_client_cannot_say_who_it_is_and_a_trusted_proxy_can() {
    run(async {
        for (trusted, header, client) in [
            (false, ClientIpHeader::XForwardedFor, "127.0.0.1"),
            (false, ClientIpHeader::Forwarded, "127.0.0.1"),
            (false, ClientIpHeader::CfConnectingIp, "127.0.0.1"),
            (true, ClientIpHeader::XForwardedFor, "192.0.2.9"),
            (true, ClientIpHeader::Forwarded, "192.0.2.9"),
            (true, ClientIpHeader::CfConnectingIp, "192.0.2.9"),
        ] {
            let networks = if trusted {
                json!(["127.0.0.0/8"])
            } else {
                json!(["10.0.0.0/8"])
            };
            let (edge, worker) = edge(EdgePolicy {
                trusted_proxies: read(networks),
                client_ip_header: header,
                ..EdgePolicy::default()
            })
            .await;
            assert_eq!(get(&mut edge.connect().await, "/w", FORGED).await.status, 200);
            let seen = worker.take_seen().remove(0).headers;
            let proto = if trusted { "https" } else { "http" };
            assert_eq!(seen["x-forwarded-for"], client, "{header:?}");
            assert_eq!(seen["cf-connecting-ip"], client);
            assert_eq!(seen["x-forwarded-proto"], proto);
            assert_eq!(
                seen["forwarded"],
                format!("for={client};host=\"worker.test\";proto={proto}")
            );
            assert!(!seen.contains_key("x-real-ip") && !seen.contains_key("true-client-ip"));
            let record = edge.stop().await.remove(0);
            assert_eq!(record["client_ip"], client);
            let peer = if trusted { json!("127.0.0.1") } else { json!(null) };
            assert_eq!(record["peer_ip"], peer);
        }
    });
}

#[test]
fn an_allow_list_holds_for_its_paths_and_is_not_talked_over() {
    run(async {
        let rule = |name: &str, paths, allow| -> AccessRule {
            read(json!({"name": name, "paths": paths, "allow": allow}))
        };
        let (edge, worker) = edge(EdgePolicy {
            access: vec![
                rule(
                    "office",
                    json!(["/w/admin"]),
                    json!(["192.0.2.0/24", "2001:db8::/32"]),
                ),
                rule("this-machine", json!(["/w/local"]), json!(["127.0.0.1"])),
            ],
            ..EdgePolicy::default()
        })
        .await;
        let mut client = edge.connect().await;
        for (target, lines, status) in [
            ("/w/admin", "", 403),
            ("/w/admin/x", "", 403),
            // Other spellings of the same path.
            ("/w/%61dmin", "", 403),
            ("/w/x/../admin", "", 403),
            // What some workers take for it.
            ("/w//admin", "", 403),
            ("/w/x%2F..%2Fadmin", "", 403),
            ("/w/admin;a=b/x", "", 403),
            ("/w//administration", "", 200),
            ("/w/admin", "X-Forwarded-For: 192.0.2.1\r\n", 403),
            ("/w/administration", "", 200),
            ("/w/local", "", 200),
            ("/w", "", 200),
        ] {
            let reply = get(&mut client, target, lines).await;
            assert_eq!(reply.status, status, "{target} {lines}");
        }
        assert_eq!(worker.take_seen().len(), 4);
        let record = &edge.stop().await[0];
        assert_eq!(
            (&record["error"], &record["blame"]),
            (&json!("forbidden"), &json!("client"))
        );
        assert_eq!(record["rules"], json!([{"rule": "office", "action": "deny"}]));
    });
}

#[test]
fn header_rules_set_add_and_remove_on_every_answer() {
    run(async {
        let rules: Vec<HeaderRule> = read(json!([
            {"set": {"X-Frame-Options": "DENY", "Server": "shop"}},
            {"paths": ["/w/page"], "remove": ["Accept-Ranges"], "add": {"Link": "</a.css>; rel=preload"}},
        ]));
        let (edge, _worker) = edge(EdgePolicy {
            header_rules: rules,
            ..EdgePolicy::default()
        })
        .await;
        let mut client = edge.connect().await;
        for target in ["/w/x", "/404.html", "/nowhere", "/gone"] {
            let reply = get(&mut client, target, "").await;
            assert_eq!(reply.header("x-frame-options"), Some("DENY"), "{target}");
            assert_eq!(reply.header("server"), Some("shop"), "{target}");
            assert_eq!(reply.header("link"), None);
        }
        let reply = get(&mut client, "/w/page", "").await;
        assert_eq!(reply.header("link"), Some("</a.css>; rel=preload"));
        assert_eq!(reply.header("accept-ranges"), None);
    });
}

#[test]
fn own_pages_stand_in_for_faults_of_the_edge_alone() {
    run(async {
        let (edge, _worker) = edge(EdgePolicy {
            error_pages: read(json!({"404": "/404.html", "5xx": "/error.html", "403": "/missing.html"})),
            access: vec![read(json!({"name": "none", "paths": ["/w/closed"], "allow": []}))],
            ..EdgePolicy::default()
        })
        .await;
        let mut client = edge.connect().await;
        let reply = get(&mut client, "/nowhere", "Accept: text/html\r\n").await;
        assert_eq!(
            (reply.status, reply.text().as_str()),
            (404, "<h1>our own 404</h1>")
        );
        assert_eq!(reply.header("content-type"), Some("text/html; charset=utf-8"));
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        assert!(reply.header("x-request-id").is_some());
        let reply = get(&mut client, "/nowhere", "Accept: application/json\r\n").await;
        assert_eq!(reply.status, 404);
        assert!(reply.text().contains("\"not_found\""), "{}", reply.text());
        let reply = get(&mut client, "/gone", "").await;
        assert_eq!(
            (reply.status, reply.text().as_str()),
            (503, "<h1>our own error</h1>")
        );
        assert_eq!(reply.header("retry-after"), Some("1"));
        // A page that is not there: ours.
        let reply = get(&mut client, "/w/closed", "").await;
        assert_eq!(reply.status, 403);
        assert!(reply.text().contains("may not come here"), "{}", reply.text());
        // The worker's own answers are the worker's.
        client
            .send("HEAD /nowhere HTTP/1.1\r\nHost: worker.test\r\nConnection: close\r\n\r\n")
            .await;
        let mut head = Vec::new();
        while !client.is_closed().await {
            head.append(&mut client.buffer);
        }
        let head = String::from_utf8(head).unwrap();
        assert!(
            head.starts_with("HTTP/1.1 404") && head.ends_with("\r\n\r\n"),
            "{head}"
        );
    });
}

#[test]
fn maintenance_closes_to_all_but_a_few_and_ends_with_the_next_snapshot() {
    run(async {
        let closed = |allow: serde_json::Value| EdgePolicy {
            maintenance: Some(Maintenance {
                message: Some("Back at <noon>".to_owned()),
                allow: read(allow),
                retry_after_s: 120,
                since_ms: 1,
            }),
            ..EdgePolicy::default()
        };
        let (edge, worker) = edge(closed(json!(["192.0.2.0/24"]))).await;
        let mut client = edge.connect().await;
        let reply = get(&mut client, "/w", "Accept: text/html\r\n").await;
        assert_eq!((reply.status, reply.header("retry-after")), (503, Some("120")));
        assert!(
            reply.text().contains("<p>Back at &lt;noon&gt;.</p>"),
            "{}",
            reply.text()
        );
        let reply = get(&mut client, "/404.html", "Accept: application/json\r\n").await;
        assert_eq!(reply.status, 503);
        let body: serde_json::Value = serde_json::from_str(&reply.text()).unwrap();
        assert_eq!(
            (&body["error"]["code"], &body["error"]["message"]),
            (&json!("maintenance"), &json!("Back at <noon>"))
        );
        assert!(worker.take_seen().is_empty());

        for policy in [closed(json!(["127.0.0.0/8"])), EdgePolicy::default()] {
            edge.snapshots.send_modify(|snapshot| {
                let mut next = (**snapshot).clone();
                next.version += 1;
                next.routes[0].policy = policy;
                *snapshot = std::sync::Arc::new(next);
            });
            let version = edge.snapshots.borrow().version;
            while edge.status().await["snapshot_version"] != version {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            assert_eq!(get(&mut client, "/w", "").await.status, 200);
        }
    });
}

#[test]
fn an_attack_that_is_over_tightens_nothing() {
    run(async {
        let (edge, _worker) = edge(EdgePolicy {
            attack: Some(Attack {
                until_ms: Some(1),
                since_ms: 1,
            }),
            under_attack: read(json!({"requests_per_s": 1})),
            ..EdgePolicy::default()
        })
        .await;
        let mut client = edge.connect().await;
        for _ in 0..5 {
            assert_eq!(get(&mut client, "/w", "").await.status, 200);
        }
    });
}
