//! Rate rules over sockets: what is counted, what is said, what happens above.

use crate::support::{Client, Reply, TestEdge, Worker, route, run};
use astraler_edge::Limits;
use astraler_model::{Attack, EdgePolicy};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn policy(rules: Value) -> EdgePolicy {
    EdgePolicy {
        rate_rules: serde_json::from_value(rules).unwrap(),
        trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()],
        ..EdgePolicy::default()
    }
}

async fn edge(policy: EdgePolicy) -> (TestEdge, Worker) {
    let edge = TestEdge::start(Limits::default(), |folder| {
        let mut route = route("worker.test", vec![("/", folder.join("w.sock"))]);
        route.policy = policy;
        vec![route]
    })
    .await;
    let worker = Worker::start(&edge.folder.path().join("w.sock"));
    (edge, worker)
}

async fn from(client: &mut Client, address: &str, target: &str) -> Reply {
    let line = format!("X-Forwarded-For: {address}\r\n");
    client.get_with("worker.test", target, &line).await
}

#[test]
fn another_spelling_of_a_path_is_no_other_count() {
    run(async {
        let (edge, worker) = edge(policy(json!([
            {"name": "login", "paths": ["/login"], "characteristics": ["ip", "path"], "requests": 2, "period_s": 600},
        ])))
        .await;
        let mut client = edge.connect().await;
        for target in ["/login;1", "/login", "//login", "/login;2", "/x%2F..%2Flogin"] {
            from(&mut client, "192.0.2.1", target).await;
        }
        assert_eq!(worker.take_seen().len(), 2);
        assert_eq!(from(&mut client, "192.0.2.1", "/login/x").await.status, 200);
    });
}

#[test]
fn above_the_rate_it_is_429_with_all_that_a_client_needs() {
    run(async {
        let (edge, _worker) = edge(policy(json!([
            {"name": "login", "paths": ["/login"], "methods": ["GET"], "requests": 3, "period_s": 600},
            {"name": "all", "requests": 1000},
        ])))
        .await;
        let mut client = edge.connect().await;
        for left in ["2", "1", "0"] {
            let reply = from(&mut client, "192.0.2.1", "/login").await;
            assert_eq!(reply.status, 200);
            let limit = reply.header("ratelimit").unwrap();
            assert!(limit.starts_with(&format!("\"login\";r={left};t=")), "{limit}");
            assert!(limit.contains(", \"all\";r=99"), "{limit}");
            assert_eq!(
                reply.header("ratelimit-policy"),
                Some("\"login\";q=3;w=600, \"all\";q=1000;w=60")
            );
        }
        let reply = from(&mut client, "192.0.2.1", "/login/again").await;
        assert_eq!(reply.status, 429);
        let retry: u64 = reply.header("retry-after").unwrap().parse().unwrap();
        assert!((195..=200).contains(&retry), "{retry}");
        assert!(reply.header("ratelimit").unwrap().starts_with("\"login\";r=0;t="));
        // Another path, another client, another address of the same network.
        assert_eq!(from(&mut client, "192.0.2.1", "/").await.status, 200);
        assert_eq!(from(&mut client, "192.0.2.2", "/login").await.status, 200);
        for host in 1..=3 {
            let address = format!("2001:db8::{host}");
            assert_eq!(from(&mut client, &address, "/login").await.status, 200);
        }
        assert_eq!(from(&mut client, "2001:db8::9:1", "/login").await.status, 429);
        assert_eq!(from(&mut client, "2001:db8:0:1::1", "/login").await.status, 200);

        // A new snapshot forgives nobody.
        edge.snapshots.send_modify(|snapshot| {
            let mut next = (**snapshot).clone();
            next.version += 1;
            next.routes[0].deployment = "dep-2".to_owned();
            *snapshot = Arc::new(next);
        });
        while edge.status().await["snapshot_version"] != 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(from(&mut client, "192.0.2.1", "/login").await.status, 429);

        let records = edge.stop().await;
        let blocked = &records[3];
        assert_eq!(blocked["rules"], json!([{"rule": "login", "action": "block"}]));
        assert_eq!(
            (&blocked["error"], &blocked["blame"]),
            (&json!("too_many_requests"), &json!("client"))
        );
        assert_eq!(records[0]["rules"], json!(null));
    });
}

#[test]
fn connections_at_once_count_exactly() {
    run(async {
        let (edge, worker) = edge(policy(json!([{"name": "all", "requests": 40, "period_s": 3600}]))).await;
        let address = edge.address;
        let tasks: Vec<_> = (0..16)
            .map(|_| {
                tokio::spawn(async move {
                    let mut client = Client::connect(address).await;
                    let mut passed = 0;
                    for _ in 0..10 {
                        passed += usize::from(from(&mut client, "192.0.2.1", "/").await.status == 200);
                    }
                    passed
                })
            })
            .collect();
        let mut passed = 0;
        for task in tasks {
            passed += task.await.unwrap();
        }
        assert_eq!((passed, worker.take_seen().len()), (40, 40));
    });
}

#[test]
fn characteristics_tell_clients_apart() {
    run(async {
        let (edge, _worker) = edge(policy(json!([
            {"name": "key", "paths": ["/k"], "requests": 1, "period_s": 3600, "characteristics": ["header:x-key"]},
            {"name": "session", "paths": ["/c"], "requests": 1, "period_s": 3600, "characteristics": ["cookie:sid", "path"]},
        ])))
        .await;
        let mut client = edge.connect().await;
        for (target, line, status) in [
            ("/k", "X-Key: 1\r\n", 200),
            ("/k", "X-Key: 1\r\n", 429),
            ("/k", "X-Key: 2\r\n", 200),
            ("/k", "", 200),
            ("/k", "", 429),
            ("/c", "Cookie: a=1; sid=7\r\n", 200),
            ("/c", "Cookie: sid=7; a=2\r\n", 429),
            ("/c/x", "Cookie: sid=7\r\n", 200),
            ("/c", "Cookie: sid=8\r\n", 200),
        ] {
            let reply = client.get_with("worker.test", target, line).await;
            assert_eq!(reply.status, status, "{target} {line}");
        }
    });
}

#[test]
fn delay_spreads_requests_log_only_tells() {
    run(async {
        let (edge, _worker) = edge(policy(json!([
            {"name": "slow", "paths": ["/slow-down"], "requests": 5, "period_s": 1, "burst": 1, "action": "delay",
             "max_delay_ms": 500},
            {"name": "watched", "paths": ["/watched"], "requests": 1, "action": "log"},
        ])))
        .await;
        let begun = Instant::now();
        let tasks: Vec<_> = (0..5)
            .map(|_| {
                let address = edge.address;
                tokio::spawn(async move {
                    let mut client = Client::connect(address).await;
                    from(&mut client, "192.0.2.1", "/slow-down").await.status
                })
            })
            .collect();
        let mut statuses = Vec::new();
        for task in tasks {
            statuses.push(task.await.unwrap());
        }
        statuses.sort_unstable();
        // At once, after 200 ms, after 400 ms; the rest would wait longer than half a second.
        assert_eq!(statuses, [200, 200, 200, 429, 429]);
        assert!(
            begun.elapsed() >= Duration::from_millis(390),
            "{:?}",
            begun.elapsed()
        );

        let mut client = edge.connect().await;
        for _ in 0..3 {
            let reply = from(&mut client, "192.0.2.1", "/watched").await;
            assert_eq!((reply.status, reply.header("ratelimit")), (200, None));
        }
        let records = edge.stop().await;
        let count = |action: &str| {
            let decided = records
                .iter()
                .filter(|record| record["rules"][0]["action"] == action);
            decided.count()
        };
        assert_eq!((count("delay"), count("block"), count("log")), (2, 2, 2));
    });
}

#[test]
fn under_attack_everything_is_tighter_until_it_ends_by_itself() {
    run(async {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        let until = u64::try_from(now.as_millis()).unwrap() + 2_500;
        let mut policy = policy(json!([{"name": "api", "paths": ["/api"], "requests": 8, "period_s": 3600}]));
        policy.under_attack.requests_per_s = 5;
        policy.under_attack.rate_divisor = 4;
        policy.under_attack.header_timeout_ms = 300;
        policy.under_attack.max_connections_per_client = 5;
        policy.attack = Some(Attack {
            until_ms: Some(until),
            since_ms: 0,
        });
        let (edge, _worker) = edge(policy).await;
        let mut client = edge.connect().await;
        let mut count = async |address: &str, target: &str, times: usize| {
            let mut passed = 0;
            for _ in 0..times {
                passed += usize::from(from(&mut client, address, target).await.status == 200);
            }
            passed
        };
        // Of connections at once there are fewer, too.
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(edge.connect().await);
        }
        let mut fifth = edge.connect().await;
        assert_eq!(fifth.get("/").await.status, 503);
        drop((held, fifth));
        while edge.status().await["connections"] != 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // A head that does not come is not waited for as long as usual.
        let mut slow = edge.connect().await;
        slow.send("GET / HTTP/1.1\r\n").await;
        let begun = Instant::now();
        assert_eq!(slow.reply().await.unwrap().status, 408);
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        assert_eq!(count("192.0.2.1", "/api", 10).await, 2, "a quarter of eight");
        let passed = count("192.0.2.2", "/", 20).await;
        assert!(
            (5..=8).contains(&passed),
            "{passed}: five at once, and five in a second"
        );
        tokio::time::sleep(Duration::from_millis(2_600)).await;
        assert_eq!(count("192.0.2.3", "/", 20).await, 20);
        assert_eq!(count("192.0.2.4", "/api", 10).await, 8);
    });
}
