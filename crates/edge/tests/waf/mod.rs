//! The firewall over sockets: what is refused, what passes, what becomes of bodies, and new rules under load.

mod actions;
mod answers;
mod countries;
mod environments;
mod lists;
mod protocols;
mod room;
mod skip;

use crate::support::{Client, Reply, TestEdge, Worker, route, run};
use astraler_edge::Limits;
use astraler_model::{WafAction, WafConfig, WafException, WafMode, WafRule};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A set in small that scores as the Core Rule Set does.
const RULES: &str = r#"
SecAction "id:900,phase:1,pass,nolog,setvar:tx.blocking_inbound_anomaly_score=0"
SecRule REQUEST_HEADERS:User-Agent "@contains scanner" "id:913100,phase:1,deny,status:403,msg:'Scanner'"
SecRule ARGS|REQUEST_COOKIES "@contains evil" "id:1000,phase:2,pass,log,msg:'Evil',tag:'attack-evil',\
    setvar:tx.blocking_inbound_anomaly_score=+5"
SecRule TX:blocking_inbound_anomaly_score "@ge %{tx.inbound_anomaly_score_threshold}" \
    "id:949110,phase:2,deny,status:403,msg:'Score exceeded'"
"#;

fn write_rules(folder: &Path, text: &str) {
    let rules = folder.join("rules");
    std::fs::create_dir_all(&rules).unwrap();
    // Whole, as everything that others read.
    std::fs::write(folder.join("new.conf"), text).unwrap();
    std::fs::rename(folder.join("new.conf"), rules.join("main.conf")).unwrap();
}

async fn edge_with(config: impl FnOnce(&mut WafConfig)) -> (TestEdge, Worker) {
    let edge = TestEdge::start(Limits::default(), |folder| {
        write_rules(folder, RULES);
        let mut waf = WafConfig {
            rules: Some(folder.join("rules")),
            ..WafConfig::default()
        };
        config(&mut waf);
        let mut route = route("worker.test", vec![("/", folder.join("w.sock"))]);
        route.policy.waf = Some(waf);
        vec![route]
    })
    .await;
    let worker = Worker::start(&edge.folder.path().join("w.sock"));
    (edge, worker)
}

async fn post(edge: &TestEdge, lines: &str, pieces: &[&[u8]]) -> Reply {
    let mut client = edge.connect().await;
    client
        .send(format!(
            "POST /form HTTP/1.1\r\nHost: worker.test\r\nContent-Type: application/x-www-form-urlencoded\r\n{lines}\r\n"
        ))
        .await;
    for piece in pieces {
        client.send(piece).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    client.reply().await.expect("no answer")
}

async fn form(edge: &TestEdge, body: &str) -> Reply {
    post(
        edge,
        &format!("Content-Length: {}\r\n", body.len()),
        &[body.as_bytes()],
    )
    .await
}

fn rules_of(record: &Value) -> Vec<&str> {
    let rules = record["rules"].as_array().map_or(&[][..], Vec::as_slice);
    rules.iter().filter_map(|rule| rule["rule"].as_str()).collect()
}

#[test]
fn an_attack_is_refused_and_the_record_says_by_what_and_never_what_it_held() {
    run(async {
        let (edge, worker) = edge_with(|_| {}).await;
        let mut client = edge.connect().await;
        let page = client
            .get_with("worker.test", "/?password=evil7", "Accept: application/json\r\n")
            .await;
        assert_eq!(page.status, 403);
        assert!(page.text().contains("\"blocked\""), "{}", page.text());
        assert_eq!(
            client
                .get_with("worker.test", "/", "User-Agent: scanner\r\n")
                .await
                .status,
            403
        );
        assert!(worker.take_seen().is_empty(), "nothing of it reaches the worker");
        assert_eq!(client.get("/?a=good").await.status, 200);
        let records = edge.stop().await;
        let said = &records[0]["rules"];
        assert_eq!(
            said,
            &json!([
                { "rule": "949110", "action": "block", "score": 5 },
                { "rule": "1000", "action": "match", "variable": "ARGS:password", "score": said[1]["score"] },
            ])
        );
        assert!(!said.to_string().contains("evil7"));
        assert_eq!(rules_of(&records[1]), ["913100"]);
        assert_eq!(rules_of(&records[2]), [""; 0]);
    });
}

#[test]
fn detection_refuses_nothing_and_records_the_same() {
    run(async {
        let (edge, worker) = edge_with(|waf| waf.mode = WafMode::Detect).await;
        let mut client = edge.connect().await;
        assert_eq!(client.get("/?a=evil").await.status, 200);
        assert_eq!(worker.take_seen().len(), 1);
        assert_eq!(rules_of(&edge.stop().await[0]), ["1000", "949110"]);
        let (edge, _worker) = edge_with(|waf| waf.mode = WafMode::Off).await;
        assert_eq!(edge.connect().await.get("/?a=evil").await.status, 200);
        assert_eq!(rules_of(&edge.stop().await[0]), [""; 0]);
    });
}

#[test]
fn a_body_is_looked_at_however_it_comes() {
    run(async {
        let (edge, worker) = edge_with(|_| {}).await;
        assert_eq!(form(&edge, "a=evil").await.status, 403);
        let pieces: [&[u8]; 3] = [b"a=e", b"v", b"il"];
        assert_eq!(post(&edge, "Content-Length: 6\r\n", &pieces).await.status, 403);
        let chunks: [&[u8]; 3] = [b"3\r\na=e\r\n", b"3\r\nvil\r\n", b"0\r\n\r\n"];
        assert_eq!(
            post(&edge, "Transfer-Encoding: chunked\r\n", &chunks)
                .await
                .status,
            403
        );
        assert!(worker.take_seen().is_empty());
        let honest: [&[u8]; 3] = [b"3\r\na=g\r\n", b"3\r\nood\r\n", b"0\r\nX-Sum: 42\r\n\r\n"];
        let reply = post(&edge, "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n", &honest).await;
        assert_eq!((reply.status, reply.text()), (200, "a=good".to_owned()));
        let seen = worker.take_seen().remove(0);
        assert_eq!(seen.trailers.unwrap()["x-sum"], "42", "trailers pass");
        // A client that waits for our word before it sends.
        let mut client = edge.connect().await;
        client
            .send("POST / HTTP/1.1\r\nHost: worker.test\r\nExpect: 100-continue\r\nContent-Length: 6\r\n\r\n")
            .await;
        assert_eq!(client.reply().await.unwrap().status, 100);
        client.send("a=good").await;
        assert_eq!(client.reply().await.unwrap().text(), "a=good");
    });
}

#[test]
fn a_body_beyond_the_limit_passes_whole_and_its_beginning_is_looked_at() {
    run(async {
        let (edge, worker) = edge_with(|waf| waf.body_limit_bytes = 1000).await;
        let filler = "x".repeat(300_000);
        assert_eq!(form(&edge, &format!("a=evil&b={filler}")).await.status, 403);
        assert!(worker.take_seen().is_empty());
        let late = format!("b={filler}&a=evil");
        assert_eq!(form(&edge, &late).await.status, 200);
        assert!(
            worker.take_seen().remove(0).body == late.as_bytes(),
            "byte for byte"
        );
        for length in [999, 1000, 1001] {
            let body = format!("b={}", "x".repeat(length - 2));
            let reply = form(&edge, &body).await;
            assert_eq!((reply.status, reply.text().len()), (200, length));
        }
    });
}

#[test]
fn a_client_that_leaves_in_the_middle_of_a_body_reaches_no_worker() {
    run(async {
        let (edge, worker) = edge_with(|_| {}).await;
        let mut client = edge.connect().await;
        client
            .send("POST / HTTP/1.1\r\nHost: worker.test\r\nContent-Length: 10\r\n\r\na=g")
            .await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(client);
        let records = edge.stop().await;
        assert_eq!(records[0]["status"], 499);
        assert!(worker.take_seen().is_empty());
    });
}

fn custom(name: &str, expression: &str, action: WafAction) -> WafRule {
    WafRule {
        name: name.to_owned().try_into().unwrap(),
        expression: expression.to_owned(),
        action,
        rules: vec![],
        skip: vec![],
        tags: vec![],
    }
}

#[test]
fn custom_rules_come_first_and_exceptions_leave_managed_rules_out() {
    run(async {
        let (edge, _worker) = edge_with(|waf| {
            waf.custom_rules = vec![
                custom("seen", "http.request.uri.path eq \"/seen\"", WafAction::Log),
                custom(
                    "no-admin",
                    "starts_with(http.request.uri.path, \"/admin\")",
                    WafAction::Block,
                ),
                custom(
                    "partner",
                    "http.request.uri.path eq \"/partner\"",
                    WafAction::Skip,
                ),
                WafRule {
                    tags: vec!["attack-evil".to_owned()],
                    ..custom(
                        "novel",
                        "http.request.uri.path eq \"/novel\"",
                        WafAction::Exception,
                    )
                },
                custom(
                    "behind",
                    "http.request.uri.path eq \"/partner\"",
                    WafAction::Block,
                ),
                custom(
                    "long",
                    "http.request.body.raw contains \"forbidden\"",
                    WafAction::Block,
                ),
            ];
            waf.exceptions = vec![WafException {
                rules: vec![1000],
                tags: vec![],
                hosts: vec![],
                paths: vec!["/editor".to_owned()],
            }];
        })
        .await;
        let mut client = edge.connect().await;
        for (target, status) in [
            ("/seen?a=good", 200),
            ("/admin/users", 403),
            ("/partner?a=evil", 200),
            ("/novel?a=evil", 200),
            ("/editor/1?a=evil", 200),
            ("/editors?a=evil", 403),
        ] {
            assert_eq!(client.get(target).await.status, status, "{target}");
        }
        assert_eq!(form(&edge, "a=forbidden").await.status, 403);
        assert_eq!(form(&edge, "a=allowed").await.status, 200);
        let mut records = edge.stop().await;
        // Each connection has its thread, and each thread writes several records at once.
        records.sort_by_key(|record| {
            (
                record["path"] == "/form",
                record["ts"].as_str().map(str::to_owned),
            )
        });
        let said: Vec<_> = records.iter().map(rules_of).collect();
        let expected: [&[&str]; 8] = [
            &["seen"],
            &["no-admin"],
            &["partner"],
            &["novel"],
            &[],
            &["949110", "1000"],
            &["long"],
            &[],
        ];
        assert_eq!(said, expected);
    });
}

async fn until(edge: &TestEdge, target: &str, status: u16) {
    for _ in 0..200 {
        if edge.connect().await.get(target).await.status == status {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{target} is not answered with {status}");
}

fn publish(edge: &TestEdge) {
    edge.snapshots.send_modify(|snapshot| {
        let mut next = (**snapshot).clone();
        next.version += 1;
        *snapshot = Arc::new(next);
    });
}

#[test]
fn new_rules_are_swapped_in_under_load_and_broken_ones_replace_nothing() {
    run(async {
        let (edge, _worker) = edge_with(|_| {}).await;
        let stop = Arc::new(AtomicBool::new(false));
        let address = edge.address;
        let load: Vec<_> = (0..4)
            .map(|_| {
                let stop = stop.clone();
                tokio::spawn(async move {
                    let mut client = Client::connect(address).await;
                    let mut answered = 0_u32;
                    while !stop.load(Ordering::Relaxed) {
                        assert_eq!(client.get("/?a=good").await.status, 200);
                        assert_eq!(client.get("/?a=evil").await.status, 403);
                        answered += 2;
                    }
                    answered
                })
            })
            .collect();
        let folder = edge.folder.path().to_owned();
        for round in 0..3 {
            let word = format!("bad{round}");
            let more =
                format!("{RULES}\nSecRule ARGS \"@contains {word}\" \"id:2000,phase:2,deny,status:403\"");
            write_rules(&folder, &more);
            publish(&edge);
            until(&edge, &format!("/?a={word}"), 403).await;
        }
        write_rules(&folder, "SecRlue ARGS \"@contains good\" \"id:1\"");
        publish(&edge);
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(
            edge.connect().await.get("/?a=bad2").await.status,
            403,
            "the last good rules stay"
        );
        stop.store(true, Ordering::Relaxed);
        for task in load {
            assert!(task.await.unwrap() > 0);
        }
        write_rules(&folder, RULES);
        publish(&edge);
        until(&edge, "/?a=bad2", 200).await;
    });
}

/// The Core Rule Set as the distribution installs it.
#[test]
fn the_installed_rules_tell_attacks_from_requests() {
    let installed = Path::new(astraler_waf::ruleset::INSTALLED);
    if !installed.exists() {
        eprintln!("SKIPPED: the package modsecurity-crs is not installed");
        return;
    }
    run(async {
        let (edge, _worker) = edge_with(|waf| waf.rules = Some(installed.to_owned())).await;
        let mut client = edge.connect().await;
        let lines = "User-Agent: Mozilla/5.0\r\nAccept: text/html\r\n";
        for (target, status) in [
            ("/products?category=running-shoes&q=trail%20shoes", 200),
            ("/?q=%3Cscript%3Ealert(document.cookie)%3C/script%3E", 403),
            ("/?id=1%27%20union%20select%20password%20from%20users--%20", 403),
            ("/?file=../../../../etc/passwd", 403),
        ] {
            assert_eq!(
                client.get_with("worker.test", target, lines).await.status,
                status,
                "{target}"
            );
        }
        let records = edge.stop().await;
        assert_eq!(rules_of(&records[1])[0], "949110");
        assert!(rules_of(&records[1]).contains(&"941100"), "{}", records[1]);
    });
}

#[test]
fn rules_are_looked_at_before_anybody_goes_by_them() {
    run(async {
        let (edge, _worker) = edge_with(|_| {}).await;
        let folder = edge.folder.path().join("others");
        let ask = async |folder: &Path| {
            let config = WafConfig {
                rules: Some(folder.to_owned()),
                ..WafConfig::default()
            };
            let body = serde_json::to_string(&config).unwrap();
            let length = body.len();
            let head = format!(
                "POST /waf/check HTTP/1.1\r\nHost: s\r\nConnection: close\r\nContent-Length: {length}"
            );
            edge.ask(&format!("{head}\r\n\r\n{body}")).await
        };
        let absent = ask(&folder).await;
        assert_eq!(
            absent["problems"][0]["message"], "there is no such folder",
            "{absent}"
        );
        write_rules(
            &folder,
            "SecRule ARGS \"@contains x\" \"id:1\"\nSecRule NOPE \"@contains x\" \"id:2\"\n",
        );
        let wrong = ask(&folder).await;
        assert_eq!(
            (&wrong["problems"][0]["line"], &wrong["rules"]),
            (&json!(2), &json!(0)),
            "{wrong}"
        );
        let many: String = (1..=60)
            .map(|id| format!("SecRule NOPE \"@contains x\" \"id:{id}\"\n"))
            .collect();
        write_rules(&folder, &many);
        let many = ask(&folder).await;
        assert_eq!(
            (many["problems"].as_array().unwrap().len(), &many["left_out"]),
            (50, &json!(10))
        );
        write_rules(&folder, RULES);
        let good = ask(&folder).await;
        assert!(
            good["problems"] == json!([]) && good["rules"].as_u64() > Some(4),
            "{good}"
        );
        assert_eq!(
            form(&edge, "a=evil").await.status,
            403,
            "nobody goes by others yet"
        );
        let config = WafConfig {
            countries: Some(folder.join("countries.mmdb")),
            ..WafConfig::default()
        };
        let body = serde_json::to_string(&config).unwrap();
        let head = format!(
            "POST /waf/check HTTP/1.1\r\nHost: s\r\nConnection: close\r\nContent-Length: {}",
            body.len()
        );
        let nowhere = edge.ask(&format!("{head}\r\n\r\n{body}")).await;
        let message = nowhere["problems"][0]["message"].as_str().unwrap();
        assert!(
            message.starts_with("the file cannot be read: No such file"),
            "{nowhere}"
        );
        let config = WafConfig {
            networks: Some(folder.join("rules/main.conf")),
            ..WafConfig::default()
        };
        let body = serde_json::to_string(&config).unwrap();
        let head = format!(
            "POST /waf/check HTTP/1.1\r\nHost: s\r\nConnection: close\r\nContent-Length: {}",
            body.len()
        );
        let no_database = edge.ask(&format!("{head}\r\n\r\n{body}")).await;
        let message = no_database["problems"][0]["message"].as_str().unwrap();
        assert!(message.contains("GeoLite2 ASN"), "{no_database}");
        let refused = edge
            .ask("POST /waf/check HTTP/1.1\r\nHost: s\r\nConnection: close\r\nContent-Length: 2\r\n\r\n[]")
            .await;
        assert!(refused["error"].is_string(), "{refused}");
    });
}
