//! What a rule does with a request that it stops or lets through, as ModSecurity's reference describes it.

use super::{custom, edge_with, rules_of, until, write_rules};
use crate::secured::Secured;
use crate::support::run;
use crate::{http2, http3};
use astraler_edge::Limits;
use astraler_model::{WafAction, WafConfig, WafMode};
use std::sync::Arc;

const RULES: &str = r#"
SecRule ARGS:go "@streq 1" "id:1,phase:1,redirect:https://login.example/?from=%{ARGS.from}"
SecRule ARGS:go "@streq 2" "id:2,phase:2,status:307,redirect:/elsewhere"
SecRule ARGS:go "@streq 3" "id:3,phase:1,status:404,redirect:/elsewhere"
SecRule ARGS:go "@streq 4" "id:4,phase:1,redirect:%{ARGS.nothing}"
SecRule ARGS:drop "@streq 1" "id:5,phase:1,drop,msg:'Dropped'"
SecRule ARGS:status "@streq 503" "id:6,phase:1,deny,status:503"
SecRule ARGS:status "@streq 444" "id:7,phase:1,deny,status:444"
SecRule ARGS:status "@streq 200" "id:8,phase:1,deny,status:200"
SecRule ARGS:allow "@streq phase" "id:10,phase:1,nolog,allow:phase"
SecRule ARGS:allow "@streq request" "id:11,phase:1,nolog,allow:request"
SecRule ARGS:allow "@streq all" "id:12,phase:1,nolog,allow"
SecRule ARGS:x "@streq evil" "id:20,phase:1,deny,status:401"
SecRule ARGS:x "@streq evil" "id:21,phase:2,deny,status:402"
SecRule ARGS:x "@streq evil" "id:22,phase:3,deny,status:410"
"#;

#[test]
fn a_redirect_sends_the_client_where_it_says_and_nowhere_else() {
    run(async {
        let (edge, worker) =
            edge_with(|waf| write_rules(waf.rules.as_ref().unwrap().parent().unwrap(), RULES)).await;
        let mut client = edge.connect().await;
        for (target, status, location) in [
            (
                "/?go=1&from=/cart",
                302,
                Some("https://login.example/?from=/cart"),
            ),
            (
                "/?go=1&from=a%0d%0aSet-Cookie:%20b%3d%3c%c3%a9%00",
                302,
                Some("https://login.example/?from=aSet-Cookie:%20b=%3C%C3%A9"),
            ),
            ("/?go=2", 307, Some("/elsewhere")),
            ("/?go=3", 302, Some("/elsewhere")),
            ("/?go=4", 403, None),
        ] {
            let reply = client.get(target).await;
            assert_eq!(
                (reply.status, reply.header("location")),
                (status, location),
                "{target}"
            );
            assert_eq!(reply.header("cache-control"), Some("no-store"));
            assert_eq!(reply.header("set-cookie"), None);
        }
        assert!(worker.take_seen().is_empty());
        let records = edge.stop().await;
        assert_eq!(records[0]["rules"][0]["action"], "redirect");
        assert_eq!(
            (&records[0]["status"], &records[0]["error"]),
            (&302.into(), &"blocked".into())
        );
        assert_eq!(rules_of(&records[2]), ["2"]);
    });
}

#[test]
fn a_status_is_that_of_the_rule_and_allow_ends_what_it_names() {
    run(async {
        let (edge, _worker) =
            edge_with(|waf| write_rules(waf.rules.as_ref().unwrap().parent().unwrap(), RULES)).await;
        let mut client = edge.connect().await;
        for (target, status) in [
            ("/?status=503", 503),
            ("/?status=444", 444),
            // No refusal looks like a success.
            ("/?status=200", 403),
            ("/?x=evil", 401),
            ("/?x=evil&allow=phase", 402),
            ("/?x=evil&allow=request", 410),
            ("/?x=evil&allow=all", 200),
        ] {
            assert_eq!(client.get(target).await.status, status, "{target}");
        }
        drop(edge.stop().await);
        let (edge, _worker) = edge_with(|waf| {
            waf.mode = WafMode::Detect;
            write_rules(waf.rules.as_ref().unwrap().parent().unwrap(), RULES);
        })
        .await;
        let mut client = edge.connect().await;
        for target in ["/?go=1", "/?drop=1", "/?x=evil"] {
            assert_eq!(client.get(target).await.status, 200, "{target}");
        }
    });
}

#[test]
fn a_drop_ends_the_connection_without_an_answer_over_each_protocol() {
    run(async {
        let secured = Secured::served(Limits::default()).await;
        let edge = &secured.edge;
        write_rules(edge.folder.path(), RULES);
        edge.snapshots.send_modify(|snapshot| {
            let mut next = (**snapshot).clone();
            next.routes[0].policy.waf = Some(WafConfig {
                rules: Some(edge.folder.path().join("rules")),
                custom_rules: vec![custom(
                    "tls",
                    "cf.tls_version eq \"TLSv1.3\" and not cf.edge.client_tcp and starts_with(http.request.uri.path, \"/tls\")",
                    WafAction::Block,
                )],
                ..WafConfig::default()
            });
            next.version += 1;
            *snapshot = Arc::new(next);
        });
        until(edge, "/?x=evil", 401).await;
        secured._worker.take_seen();

        let mut first = edge.connect().await;
        first
            .send("POST /?drop=1 HTTP/1.1\r\nHost: worker.test\r\nContent-Length: 5\r\n\r\nhello")
            .await;
        assert!(!first.fill().await, "not a byte, and the end");

        let second = http2::Session::open(edge.address).await;
        let mut send = second.send.clone().ready().await.unwrap();
        // Another stream of the connection, which is not done yet.
        let (other, mut upload) = send
            .send_request(http2::request("POST", "/", &[]), false)
            .unwrap();
        upload.send_data("a=".into(), false).unwrap();
        let mut send = send.ready().await.unwrap();
        let (response, _) = send
            .send_request(http2::request("GET", "/?drop=1", &[]), true)
            .unwrap();
        let error = response.await.unwrap_err();
        assert_eq!(error.reason(), Some(h2::Reason::CANCEL));
        upload.send_data("good".into(), true).unwrap();
        let other = http2::whole(other.await.unwrap()).await.unwrap();
        assert_eq!((other.head.status.as_u16(), &*other.body), (200, &b"a=good"[..]));
        // The connection is over: what is asked there then is never answered.
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        let again = match send.ready().await {
            Ok(mut send) => match send.send_request(http2::request("GET", "/", &[]), true) {
                Ok((response, _)) => response.await.is_ok(),
                Err(_) => false,
            },
            Err(_) => false,
        };
        assert!(!again, "the connection goes on");

        let mut third = http3::Session::open(&secured).await;
        let mut stream = third.begin("GET", "/tls", &[]).await;
        stream.finish().await.unwrap();
        assert_eq!(http3::whole(&mut stream).await.unwrap().head.status, 403);
        let mut stream = third.begin("GET", "/?drop=1", &[]).await;
        let _ = stream.finish().await;
        assert!(http3::whole(&mut stream).await.is_err());

        let seen = secured._worker.take_seen();
        assert_eq!(
            seen.len(),
            1,
            "the other stream's, and nothing of what was dropped"
        );
        drop((first, second, third));
        let records = secured.edge.stop().await;
        let dropped: Vec<_> = records.iter().filter(|record| record["status"] == 444).collect();
        assert_eq!(dropped.len(), 3, "{records:?}");
        for record in dropped {
            assert_eq!(
                (rules_of(record), &record["error"]),
                (vec!["5"], &"dropped".into())
            );
            assert_eq!(record["rules"][0]["action"], "drop");
        }
    });
}
