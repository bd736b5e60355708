//! Environments that differ in paranoia level, thresholds and limits, and go by the same rules.

use super::{rules_of, write_rules};
use crate::support::{TestEdge, Worker, route, run};
use astraler_edge::Limits;
use astraler_model::{Environment, WafConfig};

/// As the Core Rule Set: the level says which rules run, the thresholds from which score on they refuse.
const RULES: &str = r#"
SecAction "id:900,phase:1,pass,nolog,setvar:tx.in=0,setvar:tx.out=0"
SecRule ARGS "@contains evil" "id:1000,phase:2,pass,log,msg:'Evil',setvar:tx.in=+5"
SecRule TX:blocking_paranoia_level "@lt 2" "id:1001,phase:2,pass,nolog,skipAfter:END-LEVEL-2"
SecRule ARGS "@contains odd" "id:1002,phase:2,pass,log,msg:'Odd',setvar:tx.in=+5"
SecMarker END-LEVEL-2
SecRule TX:in "@ge %{tx.inbound_anomaly_score_threshold}" "id:949110,phase:2,deny,status:403"
SecRule ARGS:leak "@streq 1" "id:1003,phase:3,pass,log,msg:'Leak',setvar:tx.out=+4"
SecRule TX:out "@ge %{tx.outbound_anomaly_score_threshold}" "id:959100,phase:3,deny,status:403"
"#;

#[test]
fn the_same_request_passes_in_one_environment_and_is_refused_in_the_other() {
    run(async {
        let edge = TestEdge::start(Limits::default(), |folder| {
            write_rules(folder, RULES);
            let strict = WafConfig {
                rules: Some(folder.join("rules")),
                paranoia_level: 2,
                body_limit_bytes: 4096,
                ..WafConfig::default()
            };
            let lax = WafConfig {
                paranoia_level: 1,
                inbound_threshold: 6,
                outbound_threshold: 5,
                body_limit_bytes: 16,
                ..strict.clone()
            };
            let socket = folder.join("w.sock");
            [
                ("strict.test", Environment::Staging, strict),
                ("lax.test", Environment::Development, lax),
            ]
            .map(|(host, environment, waf)| {
                let mut route = route(host, vec![("/", socket.clone())]);
                route.environment = environment;
                route.policy.waf = Some(waf);
                route
            })
            .into()
        })
        .await;
        let _worker = Worker::start(&edge.folder.path().join("w.sock"));
        let mut client = edge.connect().await;
        for (target, strict, lax) in [
            ("/?a=good", 200, 200),
            ("/?a=odd", 403, 200),
            ("/?a=evil", 403, 200),
            ("/?a=evil&b=evil", 403, 403),
            ("/?leak=1", 403, 200),
        ] {
            assert_eq!(
                client.get_with("strict.test", target, "").await.status,
                strict,
                "{target}"
            );
            assert_eq!(
                client.get_with("lax.test", target, "").await.status,
                lax,
                "{target}"
            );
        }
        let body = "b=a-long-value&a=evil&c=evil";
        for (host, status) in [("strict.test", 403), ("lax.test", 200)] {
            client
                .send(format!(
                    "POST / HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/x-www-form-urlencoded\r\n\
                     Content-Length: {}\r\n\r\n{body}",
                    body.len()
                ))
                .await;
            assert_eq!(client.reply().await.unwrap().status, status, "{host}");
        }
        let records = edge.stop().await;
        let refused = records.iter().find(|record| record["status"] == 403).unwrap();
        assert_eq!(rules_of(refused), ["949110", "1002"]);
    });
}
