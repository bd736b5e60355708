//! Custom rules that name lists.

use super::edge_with;
use crate::support::run;
use astraler_model::{ListKind, WafAction, WafList, WafRule};

#[test]
fn custom_rules_look_into_lists() {
    run(async {
        let list = |kind, items: &[&str]| WafList {
            kind,
            items: items.iter().map(ToString::to_string).collect(),
        };
        let (edge, _worker) = edge_with(|waf| {
            waf.rules = None;
            waf.lists = [
                ("here", list(ListKind::Ip, &["127.0.0.0/8", "::1"])),
                ("elsewhere", list(ListKind::Ip, &["192.0.2.1..192.0.2.9"])),
                ("tools", list(ListKind::Text, &["nikto", "sqlmap"])),
                ("hosts", list(ListKind::Hostname, &["WORKER.test."])),
                ("lengths", list(ListKind::Number, &["3", "10..12"])),
            ]
            .map(|(name, list)| (name.to_owned(), list))
            .into();
            waf.custom_rules = [
                ("elsewhere", "ip.src in $elsewhere"),
                ("tool", "ip.src in $here and lower(http.user_agent) in $tools"),
                (
                    "length",
                    "http.host in $hosts and len(http.request.uri.query) in $lengths",
                ),
            ]
            .map(|(name, expression)| WafRule {
                name: name.to_owned().try_into().unwrap(),
                expression: expression.to_owned(),
                action: WafAction::Block,
                rules: vec![],
                tags: vec![],
                skip: vec![],
            })
            .into();
        })
        .await;
        let get = async |path: &str, agent: &str| {
            let mut client = edge.connect().await;
            let head = format!("GET {path} HTTP/1.1\r\nHost: worker.test\r\nUser-Agent: {agent}\r\n\r\n");
            client.send(head).await;
            client.reply().await.unwrap().status
        };
        assert_eq!(get("/", "sqlMap").await, 403);
        assert_eq!(get("/", "browser").await, 200);
        assert_eq!(get("/?abc", "browser").await, 403);
        assert_eq!(get("/?abcd", "browser").await, 200);
        assert_eq!(get("/?0123456789a", "browser").await, 403);
    });
}
