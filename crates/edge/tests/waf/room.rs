//! Long bodies: they delay nobody else, and what is kept of them has a bound.

use super::{rules_of, write_rules};
use crate::support::{Client, TestEdge, Worker, route, run};
use astraler_edge::Limits;
use astraler_model::{WafConfig, WafMode};
use std::time::{Duration, Instant};

async fn edge_with(limits: Limits, mode: WafMode, rules: &str) -> (TestEdge, Worker) {
    let edge = TestEdge::start(limits, |folder| {
        write_rules(folder, rules);
        let mut route = route("worker.test", vec![("/", folder.join("w.sock"))]);
        route.policy.waf = Some(WafConfig {
            rules: Some(folder.join("rules")),
            mode,
            ..WafConfig::default()
        });
        vec![route]
    })
    .await;
    let worker = Worker::start(&edge.folder.path().join("w.sock"));
    (edge, worker)
}

fn head(length: usize) -> String {
    format!(
        "POST / HTTP/1.1\r\nHost: worker.test\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {length}\r\n\r\n"
    )
}

/// Rules that look at all of a value, one after the other, and find nothing.
fn heavy(rules: usize) -> String {
    (1..=rules)
        .map(|id| format!("SecRule ARGS \"@rx [Word! ]+[0-9]+o\" \"id:{id},phase:2,pass\"\n"))
        .collect()
}

#[test]
fn a_long_body_delays_no_other_connection_of_its_thread() {
    run(async {
        let limits = Limits {
            threads: 1,
            ..Limits::default()
        };
        let (edge, _worker) = edge_with(limits, WafMode::Block, &heavy(150)).await;
        let mut other = edge.connect().await;
        assert_eq!(other.get("/").await.status, 200);
        let address = edge.address;
        let long = tokio::spawn(async move {
            let body = format!("a={}7", "Word!%20".repeat(14_000));
            let mut client = Client::connect(address).await;
            let begun = Instant::now();
            client.send(format!("{}{body}", head(body.len()))).await;
            assert_eq!(client.reply().await.unwrap().status, 200);
            begun.elapsed()
        });
        let mut slowest = Duration::ZERO;
        while !long.is_finished() {
            let begun = Instant::now();
            assert_eq!(other.get("/").await.status, 200);
            slowest = slowest.max(begun.elapsed());
        }
        let took = long.await.unwrap();
        assert!(took > Duration::from_millis(100), "nothing was shown: {took:?}");
        assert!(slowest < took / 2, "{slowest:?} while a body took {took:?}");
    });
}

#[test]
fn bodies_that_are_kept_have_a_bound_together() {
    for (mode, second) in [(WafMode::Block, 503), (WafMode::Detect, 200)] {
        run(async move {
            let limits = Limits {
                max_inspected_bytes: 100_000,
                ..Limits::default()
            };
            let rules = "SecRule ARGS \"@contains evil\" \"id:1000,phase:2,deny,msg:'Evil'\"";
            let (edge, worker) = edge_with(limits, mode, rules).await;
            let body = format!("a={}&b=evil", "x".repeat(70_000));
            // Most of the first is kept, and its end is waited for.
            let mut first = edge.connect().await;
            first
                .send(format!("{}{}", head(body.len()), &body[..60_000]))
                .await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            let mut client = edge.connect().await;
            client
                .send(format!("{}{}", head(body.len()), &body[..60_000]))
                .await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            client.send(&body[60_000..]).await;
            assert_eq!(client.reply().await.unwrap().status, second);
            first.send(&body[60_000..]).await;
            let refused = if mode == WafMode::Block { 403 } else { 200 };
            assert_eq!(first.reply().await.unwrap().status, refused);
            // All room is there again.
            let mut third = edge.connect().await;
            third.send(format!("{}{body}", head(body.len()))).await;
            assert_eq!(third.reply().await.unwrap().status, refused);
            let seen = worker.take_seen();
            assert!(
                seen.iter().all(|one| one.body == body.as_bytes()),
                "byte for byte"
            );
            let records = edge.stop().await;
            let cut: Vec<_> = records
                .iter()
                .filter(|one| rules_of(one) == ["inspection"])
                .collect();
            assert_eq!(cut.len(), usize::from(mode == WafMode::Detect), "{records:?}");
        });
    }
}

#[test]
fn answers_are_not_refused_for_lack_of_room() {
    run(async {
        let limits = Limits {
            max_inspected_bytes: 5,
            ..Limits::default()
        };
        let rules = "SecRule RESPONSE_BODY \"@contains second\" \"id:1000,phase:4,deny,msg:'Late'\"";
        let (edge, _worker) = edge_with(limits, WafMode::Block, rules).await;
        let reply = edge.connect().await.get("/slow-page").await;
        assert_eq!(reply.text(), "data: first\n\ndata: second\n\n");
        assert_eq!(rules_of(&edge.stop().await[0]), ["inspection"]);
        let (edge, _worker) = edge_with(Limits::default(), WafMode::Block, rules).await;
        assert_eq!(edge.connect().await.get("/slow-page").await.status, 403);
    });
}
