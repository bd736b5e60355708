//! What custom rules pass over.

use super::{RULES, custom, rules_of, write_rules};
use crate::support::{TestEdge, Worker, route, run};
use astraler_edge::Limits;
use astraler_model::{WafAction, WafConfig, WafRule, WafSkip};

#[test]
fn a_skip_passes_over_what_it_names_rate_rules_among_it() {
    run(async {
        let edge = TestEdge::start(Limits::default(), |folder| {
            write_rules(folder, RULES);
            let skip = |name: &str, expression: &str, skip: &[WafSkip]| WafRule {
                skip: skip.to_vec(),
                ..custom(name, expression, WafAction::Skip)
            };
            let rules = vec![
                skip(
                    "rates",
                    r#"http.request.uri.path eq "/rates""#,
                    &[WafSkip::RateRules],
                ),
                skip(
                    "managed",
                    r#"http.request.uri.path eq "/managed""#,
                    &[WafSkip::ManagedRules],
                ),
                skip("usual", r#"http.request.uri.path eq "/usual""#, &[]),
                custom(
                    "debug",
                    r#"http.request.uri.query contains "debug""#,
                    WafAction::Block,
                ),
            ];
            let mut route = route("worker.test", vec![("/", folder.join("w.sock"))]);
            route.policy.waf = Some(WafConfig {
                rules: Some(folder.join("rules")),
                custom_rules: rules,
                ..WafConfig::default()
            });
            let once = r#"[{"name": "once", "requests": 1, "period_s": 600}]"#;
            route.policy.rate_rules = serde_json::from_str(once).unwrap();
            vec![route]
        })
        .await;
        let _worker = Worker::start(&edge.folder.path().join("w.sock"));
        let get = async |path: &str| {
            let mut client = edge.connect().await;
            client
                .send(format!("GET {path} HTTP/1.1\r\nHost: worker.test\r\n\r\n"))
                .await;
            client.reply().await.unwrap().status
        };
        // Refused by a custom rule before it is counted, and never counted where it passes over rates.
        for (path, status) in [
            ("/other?debug", 403),
            ("/rates", 200),
            ("/rates", 200),
            ("/rates?a=evil", 403),
            ("/rates?debug", 403),
            ("/managed?a=evil", 200),
            ("/managed?a=evil", 429),
            ("/usual?debug&a=evil", 429),
            ("/rates", 200),
        ] {
            assert_eq!(get(path).await, status, "{path}");
        }
        let log = edge.stop().await;
        let said = |path: &str, status: u16| {
            let about = |record: &&serde_json::Value| record["path"] == path && record["status"] == status;
            rules_of(log.iter().find(about).unwrap())
        };
        assert_eq!(said("/other", 403), ["debug"]);
        assert_eq!(said("/rates", 200), ["rates"]);
        assert_eq!(said("/managed", 200), ["managed"]);
        assert_eq!(said("/usual", 429), ["usual", "once"]);
    });
}
