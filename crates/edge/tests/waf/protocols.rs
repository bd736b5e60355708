//! The firewall however a request comes: HTTP/2 and HTTP/3, trailers, clients that wait to be asked for the body, and
//! those that never send it.

use super::{RULES, edge_with, publish, rules_of, until, write_rules};
use crate::secured::Secured;
use crate::support::{Reply, TestEdge, Worker, route, run};
use crate::{http2, http3};
use astraler_edge::Limits;
use astraler_model::WafConfig;
use bytes::Bytes;
use http::HeaderMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One request, and what becomes of it.
struct Case {
    method: &'static str,
    target: &'static str,
    pieces: Vec<Vec<u8>>,
    with_trailers: bool,
    status: u16,
}

fn case(method: &'static str, target: &'static str, pieces: &[&str], status: u16) -> Case {
    Case {
        method,
        target,
        pieces: pieces.iter().map(|piece| piece.as_bytes().to_vec()).collect(),
        with_trailers: false,
        status,
    }
}

fn cases() -> Vec<Case> {
    let filler = "x".repeat(60_000);
    let with_trailers = |case: Case| Case {
        with_trailers: true,
        ..case
    };
    vec![
        case("GET", "/?a=good", &[], 200),
        case("GET", "/?a=evil", &[], 403),
        case("POST", "/form", &["a=go", "od"], 200),
        case("POST", "/form", &["a=e", "vi", "l"], 403),
        // Looked at elsewhere.
        case("POST", "/form", &["b=", &filler, &filler, "&a=good"], 200),
        case("POST", "/form", &["b=", &filler, "&a=evil"], 403),
        // Beyond the limit.
        case(
            "POST",
            "/form",
            &["b=", &filler, &filler, &filler, "&a=evil"],
            200,
        ),
        with_trailers(case("POST", "/form", &["a=go", "od"], 200)),
        with_trailers(case("POST", "/form", &["b=", &filler, &filler, &filler], 200)),
        with_trailers(case("POST", "/form", &["a=evil"], 403)),
        case("GET", "/page", &[], 403),
        case("GET", "/hop", &[], 403),
        case("GET", "/trailers", &[], 200),
        case("GET", "/events", &[], 200),
    ]
}

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

fn trailers() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "42".parse().unwrap());
    trailers
}

async fn over_http2(session: &mut http2::Session, case: &Case) -> (u16, Vec<u8>) {
    let mut send = session.send.clone().ready().await.unwrap();
    let request = http2::request(case.method, case.target, &[FORM, ("te", "trailers")]);
    let (response, mut stream) = send.send_request(request, case.pieces.is_empty()).unwrap();
    for (number, piece) in case.pieces.iter().enumerate() {
        let last = number + 1 == case.pieces.len() && !case.with_trailers;
        // A refused request is reset once it is answered.
        let _ = stream.send_data(Bytes::copy_from_slice(piece), last);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    if case.with_trailers {
        let _ = stream.send_trailers(trailers());
    }
    let whole = http2::whole(response.await.unwrap()).await.unwrap();
    (whole.head.status.as_u16(), whole.body.to_vec())
}

async fn over_http3(session: &mut http3::Session, case: &Case) -> (u16, Vec<u8>) {
    let mut stream = session
        .begin(case.method, case.target, &[FORM, ("te", "trailers")])
        .await;
    for piece in &case.pieces {
        let _ = stream.send_data(Bytes::copy_from_slice(piece)).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    if case.with_trailers {
        let _ = stream.send_trailers(trailers()).await;
    }
    let _ = stream.finish().await;
    let whole = http3::whole(&mut stream).await.unwrap();
    (whole.head.status.as_u16(), whole.body)
}

fn check(protocol: &str, case: &Case, (status, body): (u16, Vec<u8>), worker: &Worker) {
    let sent = case.pieces.concat();
    let what = format!("{protocol} {} {}, {} bytes", case.method, case.target, sent.len());
    assert_eq!(status, case.status, "{what}");
    let seen = worker.take_seen();
    if status == 200 && case.method == "POST" {
        assert!(body == sent && seen[0].body == sent, "{what}: byte for byte");
        let sum = seen[0]
            .trailers
            .as_ref()
            .map(|trailers| trailers["x-sum"].clone());
        assert_eq!(sum.is_some(), case.with_trailers, "{what}");
    }
    if status == 403 && !matches!(case.target, "/page" | "/hop") {
        assert!(seen.is_empty(), "{what}");
    }
}

#[test]
fn http_2_and_3_are_looked_at_alike() {
    run(async {
        let secured = Secured::served(Limits::default()).await;
        let edge = &secured.edge;
        let rules = format!(
            "{RULES}
SecRule RESPONSE_BODY \"@contains Some words\" \"id:3001,phase:4,deny,msg:'Words'\"
SecRule RESPONSE_HEADERS:X-Public \"@rx .\" \"id:3002,phase:3,deny,msg:'Public'\""
        );
        write_rules(edge.folder.path(), &rules);
        edge.snapshots.send_modify(|snapshot| {
            let mut next = (**snapshot).clone();
            next.routes[0].policy.waf = Some(WafConfig {
                rules: Some(edge.folder.path().join("rules")),
                ..WafConfig::default()
            });
            next.version += 1;
            *snapshot = Arc::new(next);
        });
        until(edge, "/?a=evil", 403).await;
        secured._worker.take_seen();
        let mut second = http2::Session::open(edge.address).await;
        let mut third = http3::Session::open(&secured).await;
        for case in cases() {
            let came = over_http2(&mut second, &case).await;
            check("HTTP/2", &case, came, &secured._worker);
            let came = over_http3(&mut third, &case).await;
            check("HTTP/3", &case, came, &secured._worker);
        }
        drop((second, third));
        let records = secured.edge.stop().await;
        let of = |protocol: &str| -> Vec<Vec<String>> {
            let own = records.iter().filter(|record| record["protocol"] == protocol);
            own.map(|record| rules_of(record).into_iter().map(str::to_owned).collect())
                .collect()
        };
        assert_eq!(of("HTTP/2"), of("HTTP/3"));
        assert_eq!(of("HTTP/2").len(), cases().len());
    });
}

async fn expecting(edge: &TestEdge, agent: &str) -> (crate::support::Client, Reply) {
    let mut client = edge.connect().await;
    client
        .send(format!(
            "POST / HTTP/1.1\r\nHost: worker.test\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             User-Agent: {agent}\r\nExpect: 100-continue\r\nContent-Length: 6\r\n\r\n"
        ))
        .await;
    let first = client.reply().await.unwrap();
    (client, first)
}

#[test]
fn who_waits_to_be_asked_for_a_body_is_asked_only_where_the_head_passes() {
    run(async {
        let (edge, worker) = edge_with(|_| {}).await;
        let (_client, refused) = expecting(&edge, "scanner").await;
        assert_eq!(refused.status, 403, "not asked for more");
        let (mut client, asked) = expecting(&edge, "browser").await;
        assert_eq!(asked.status, 100);
        client.send("b=evil").await;
        assert_eq!(client.reply().await.unwrap().status, 403);
        assert!(worker.take_seen().is_empty());
        let (mut client, asked) = expecting(&edge, "browser").await;
        assert_eq!(asked.status, 100);
        client.send("b=good").await;
        let reply = client.reply().await.unwrap();
        assert_eq!(
            (reply.status, reply.text()),
            (200, "b=good".to_owned()),
            "asked once"
        );
        let seen = worker.take_seen().remove(0);
        assert!(!seen.headers.contains_key("expect"));
    });
}

#[test]
fn a_body_that_does_not_come_is_given_up_at_its_deadline() {
    run(async {
        let limits = Limits {
            body_idle_timeout_ms: 300,
            max_inspected_bytes: 10_000,
            ..Limits::default()
        };
        let edge = TestEdge::start(limits, |folder| {
            write_rules(folder, RULES);
            let mut route = route("worker.test", vec![("/", folder.join("w.sock"))]);
            route.policy.waf = Some(WafConfig {
                rules: Some(folder.join("rules")),
                ..WafConfig::default()
            });
            vec![route]
        })
        .await;
        let worker = Worker::start(&edge.folder.path().join("w.sock"));
        let head = "POST / HTTP/1.1\r\nHost: worker.test\r\nContent-Length: 9000\r\n\r\n";
        for _ in 0..2 {
            // The second finds the room of the first.
            let begun = Instant::now();
            let mut client = edge.connect().await;
            client.send(format!("{head}{}", "x".repeat(8000))).await;
            assert_eq!(client.reply().await.unwrap().status, 408);
            assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        }
        // A dribble does not help.
        let begun = Instant::now();
        let mut client = edge.connect().await;
        client.send(head).await;
        for _ in 0..50 {
            client.send("x").await;
            if tokio::time::timeout(Duration::from_millis(100), client.fill())
                .await
                .is_ok()
            {
                break;
            }
        }
        assert_eq!(client.reply().await.unwrap().status, 408);
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
        assert!(worker.take_seen().is_empty());
        let records = edge.stop().await;
        assert!(records.iter().all(|record| record["error"] == "body_timeout"));
    });
}

/// Requests that are on their way while rules are replaced end with the rules that they began with.
#[test]
fn a_request_keeps_its_rules_to_the_end_of_its_answer() {
    run(async {
        let (edge, _worker) = edge_with(|_| {}).await;
        let with = |answer: &str| {
            format!("{RULES}\nSecRule RESPONSE_STATUS \"@eq 200\" \"id:3000,phase:3,{answer},msg:'Seen'\"")
        };
        write_rules(edge.folder.path(), &with("pass"));
        publish(&edge);
        until(&edge, "/?a=evil", 403).await;
        let slow = |target: &'static str, tail: &'static str| {
            let address = edge.address;
            tokio::spawn(async move {
                let mut client = crate::support::Client::connect(address).await;
                client
                    .send(format!(
                        "POST {target} HTTP/1.1\r\nHost: worker.test\r\n\
                         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 6\r\n\r\na="
                    ))
                    .await;
                tokio::time::sleep(Duration::from_millis(600)).await;
                client.send(tail).await;
                client.reply().await.unwrap().status
            })
        };
        let (honest, attack) = (slow("/slow", "good"), slow("/", "evil"));
        tokio::time::sleep(Duration::from_millis(100)).await;
        write_rules(edge.folder.path(), &with("deny"));
        publish(&edge);
        until(&edge, "/", 403).await;
        assert_eq!(honest.await.unwrap(), 200);
        assert_eq!(attack.await.unwrap(), 403);
    });
}
