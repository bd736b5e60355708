//! Where a client is, as a database says: for custom rules and for managed ones.

use super::{custom, publish, rules_of, until, write_rules};
use crate::support::{TestEdge, Worker, route, run};
use astraler_edge::Limits;
use astraler_model::{ListKind, WafAction, WafConfig, WafList};
use std::path::Path;

/// A database in MaxMind's format: one record for the lower half of all IPv4 addresses, another for the upper, of the same
/// length.
fn halves(records: &[Vec<u8>; 2]) -> Vec<u8> {
    let mut file = vec![0, 0, 17, 0, 0, 17 + u8::try_from(records[0].len()).unwrap()];
    file.extend([0; 16]);
    file.extend(records.concat());
    file.extend(
        b"\xab\xcd\xefMaxMind.com\xe9\x5bbinary_format_major_version\xa1\x02\x5bbinary_format_minor_version\xa0\
          \x4bbuild_epoch\x01\x02\x01\x4ddatabase_type\x44Test\x4bdescription\xe0\x49languages\x00\x04\x4aip_version\xa1\x04\
          \x4anode_count\xc1\x01\x4brecord_size\xa1\x18",
    );
    file
}

/// One of countries.
fn database(lower: &str, upper: &str) -> Vec<u8> {
    halves(&[lower, upper].map(|code| [b"\xe1\x47country\xe1\x48iso_code\x42", code.as_bytes()].concat()))
}

/// One of continents.
fn continents(lower: &str, upper: &str) -> Vec<u8> {
    halves(&[lower, upper].map(|code| [b"\xe1\x49continent\xe1\x44code\x42", code.as_bytes()].concat()))
}

/// One of networks; each name has seven letters.
fn networks(lower: &str, upper: &str) -> Vec<u8> {
    halves(&[lower, upper].map(|name| [b"\xe1\x43asn\x47", name.as_bytes()].concat()))
}

fn write(folder: &Path, content: &[u8]) {
    write_as(folder, "countries.mmdb", content);
}

fn write_as(folder: &Path, name: &str, content: &[u8]) {
    std::fs::write(folder.join("new.mmdb"), content).unwrap();
    std::fs::rename(folder.join("new.mmdb"), folder.join(name)).unwrap();
}

/// An edge that believes who its clients are, in front of a worker.
async fn edge_with(config: impl FnOnce(&Path) -> WafConfig) -> (TestEdge, Worker) {
    let edge = TestEdge::start(Limits::default(), |folder| {
        let mut route = route("worker.test", vec![("/", folder.join("w.sock"))]);
        route.policy.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
        route.policy.waf = Some(config(folder));
        vec![route]
    })
    .await;
    let worker = Worker::start(&edge.folder.path().join("w.sock"));
    (edge, worker)
}

/// Each target, with header lines, and the status that it is answered.
async fn answers(edge: &TestEdge, wanted: &[(&str, &str, u16)]) {
    let mut client = edge.connect().await;
    for (target, lines, status) in wanted {
        let reply = client.get_with("worker.test", target, lines).await;
        assert_eq!(reply.status, *status, "{target} {lines}");
    }
}

#[test]
fn clients_have_the_networks_of_their_database() {
    run(async {
        let (edge, _worker) = edge_with(|folder| {
            write_as(folder, "networks.mmdb", &networks("AS64500", "AS64501"));
            let hosting = WafList {
                kind: ListKind::Asn,
                items: vec!["AS64501".to_owned()],
            };
            WafConfig {
                networks: Some(folder.join("networks.mmdb")),
                custom_rules: vec![
                    custom("hosting", "ip.src.asnum in $hosting", WafAction::Block),
                    custom(
                        "own",
                        "ip.src.asnum eq 64500 and http.request.uri.path eq \"/own\"",
                        WafAction::Block,
                    ),
                ],
                lists: [("hosting".to_owned(), hosting)].into(),
                ..WafConfig::default()
            }
        })
        .await;
        let wanted = [
            ("/", "", 200),
            ("/own", "", 403),
            ("/", "X-Forwarded-For: 198.51.100.7\r\n", 403),
            ("/own", "X-Forwarded-For: 2001:db8::1\r\n", 200),
        ];
        answers(&edge, &wanted).await;
        write_as(
            edge.folder.path(),
            "networks.mmdb",
            &networks("AS64502", "AS64501"),
        );
        publish(&edge);
        until(&edge, "/own", 200).await;
    });
}

#[test]
fn clients_have_the_countries_of_the_database_and_a_broken_one_replaces_nothing() {
    run(async {
        let edge = TestEdge::start(Limits::default(), |folder| {
            let rules = "SecRule REMOTE_ADDR \"@geoLookup\" \"id:910100,phase:1,deny,msg:'Country',chain\"\n\
                         SecRule GEO:COUNTRY_CODE \"@streq FR\"";
            write_rules(folder, rules);
            write(folder, &database("CH", "FR"));
            let mut route = route("worker.test", vec![("/", folder.join("w.sock"))]);
            route.policy.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
            route.policy.waf = Some(WafConfig {
                rules: Some(folder.join("rules")),
                countries: Some(folder.join("countries.mmdb")),
                custom_rules: vec![custom(
                    "at-home",
                    "ip.src.country eq \"CH\" and http.request.uri.path eq \"/abroad\"",
                    WafAction::Block,
                )],
                ..WafConfig::default()
            });
            vec![route]
        })
        .await;
        let _worker = Worker::start(&edge.folder.path().join("w.sock"));
        let mut client = edge.connect().await;
        let from_france = "X-Forwarded-For: 198.51.100.7\r\n";
        for (target, lines, status) in [
            ("/abroad", "", 403),
            ("/", "", 200),
            ("/", from_france, 403),
            ("/", "X-Forwarded-For: 2001:db8::1\r\n", 200),
        ] {
            let reply = client.get_with("worker.test", target, lines).await;
            assert_eq!(reply.status, status, "{target} {lines}");
        }
        write(edge.folder.path(), &database("LI", "FR"));
        publish(&edge);
        until(&edge, "/abroad", 200).await;
        write(edge.folder.path(), b"GIF89a");
        let rules = "SecRule GEO:COUNTRY_CODE \"@streq FR\" \"id:910100,phase:1,deny\"\n\
                     SecRule ARGS:now \"@streq 1\" \"id:2,phase:1,deny\"";
        write_rules(edge.folder.path(), rules);
        publish(&edge);
        until(&edge, "/?now=1", 403).await;
        let reply = client.get_with("worker.test", "/", from_france).await;
        assert_eq!(reply.status, 403, "what was known before holds");
        drop(client);
        let records = edge.stop().await;
        let refused = |rule: &str| records.iter().any(|record| rules_of(record) == [rule]);
        assert!(refused("at-home") && refused("910100"), "{records:?}");
    });
}

#[test]
fn managed_rules_ask_where_a_client_is_in_any_phase() {
    run(async {
        let (edge, _worker) = edge_with(|folder| {
            let rules = "SecRule GEO:COUNTRY_CONTINENT \"@streq EU\" \"id:1,phase:1,deny,chain\"\n\
                         SecRule REQUEST_URI \"@streq /request\"\n\
                         SecRule GEO:COUNTRY_CONTINENT \"@streq EU\" \"id:2,phase:3,deny,status:451,chain\"\n\
                         SecRule REQUEST_URI \"@streq /answer\"";
            write_rules(folder, rules);
            write(folder, &continents("EU", "AF"));
            WafConfig {
                rules: Some(folder.join("rules")),
                countries: Some(folder.join("countries.mmdb")),
                ..WafConfig::default()
            }
        })
        .await;
        let wanted = [
            ("/request", "", 403),
            ("/answer", "", 451),
            ("/", "", 200),
            ("/request", "X-Forwarded-For: 198.51.100.7\r\n", 200),
            ("/answer", "X-Forwarded-For: 198.51.100.7\r\n", 200),
        ];
        answers(&edge, &wanted).await;
    });
}
