//! Transfers, with the key, with another, and with none.

use crate::support::{KEY, RECORDS, run};

const OTHER: &str = "YW5vdGhlci1hbm90aGVyLWFub3RoZXItYW5vdGhlci0=";

#[test]
fn who_has_the_key_gets_the_whole_zone_and_nobody_else() {
    let running = run(RECORDS, true);
    for algorithm in ["hmac-sha256", "hmac-sha512"] {
        for kind in ["AXFR", "IXFR=1"] {
            let said = running.dig(&format!(
                "-y {algorithm}:ns2.example.net:{KEY} +onesoa shop.test {kind}"
            ));
            for line in [
                "192.0.2.1",
                "*.preview.shop.test.",
                "ns.sub.shop.test.",
                "DNSKEY",
                "NSEC",
                "CNAME\thost.elsewhere.test.",
            ] {
                assert!(said.contains(line), "{algorithm} {kind}: {line}\n{said}");
            }
            assert!(
                said.contains("TSIG") && !said.contains("BADSIG") && !said.contains("verify"),
                "{said}"
            );
        }
    }
    for (with, wrong) in [
        (String::new(), "Transfer failed"),
        (format!("-y hmac-sha256:ns2.example.net:{OTHER}"), "BADSIG"),
        (format!("-y hmac-sha256:ns3.example.net:{KEY}"), "BADKEY"),
        (format!("-y hmac-sha1:ns2.example.net:{KEY}"), "BADKEY"),
    ] {
        let said = running.dig(&format!("{with} shop.test AXFR"));
        assert!(said.contains(wrong), "{with}\n{said}");
        assert!(!said.contains("192.0.2."), "{with}\n{said}");
    }
    // Only the apex of a zone can be transferred.
    let said = running.dig(&format!(
        "-y hmac-sha256:ns2.example.net:{KEY} app.shop.test AXFR"
    ));
    assert!(!said.contains("192.0.2."), "{said}");
    running.server.stop();
}

#[test]
fn a_signed_question_gets_a_signed_answer() {
    let running = run(RECORDS, false);
    for over in ["+notcp", "+tcp"] {
        let said = running.dig(&format!(
            "{over} -y hmac-sha256:ns2.example.net:{KEY} shop.test SOA"
        ));
        assert!(
            said.contains("status: NOERROR") && said.contains("TSIG\thmac-sha256."),
            "{said}"
        );
        assert!(!said.contains("Couldn't verify"), "{said}");
    }
    let said = running.dig(&format!(
        "+notcp -y hmac-sha256:ns2.example.net:{OTHER} shop.test SOA"
    ));
    assert!(
        said.contains("status: NOTAUTH") && said.contains("BADSIG"),
        "{said}"
    );
    // Over UDP a secondary learns the serial, and comes back over TCP.
    let said = running.dig(&format!(
        "+notcp -y hmac-sha256:ns2.example.net:{KEY} shop.test IXFR=1"
    ));
    assert!(said.contains("SOA") && !said.contains("192.0.2."), "{said}");
    running.server.stop();
}

#[test]
fn a_zone_of_many_messages_arrives_whole() {
    let mut lines = vec!["@ NS ns1".to_owned(), "ns1 A 127.0.0.1".to_owned()];
    lines.extend((0..3_000).map(|index| format!("host-{index} A 10.0.{}.{}", index / 250, index % 250)));
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let running = run(&lines, false);
    let said = running.dig(&format!("-y hmac-sha256:ns2.example.net:{KEY} shop.test AXFR"));
    let hosts = said.lines().filter(|line| line.starts_with("host-")).count();
    assert_eq!(hosts, 3_000, "{}", &said[said.len().saturating_sub(500)..]);
    assert_eq!(said.lines().filter(|line| line.contains("\tSOA\t")).count(), 2);
    running.server.stop();
}

#[test]
fn a_secondary_is_told_about_a_change() {
    let secondary = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    secondary
        .set_read_timeout(Some(std::time::Duration::from_secs(5)))
        .unwrap();
    let address = secondary.local_addr().unwrap();
    let running = run(RECORDS, false);
    running.change(|snapshot| snapshot.zones[0].notify = vec![address]);
    let mut packet = [0; 512];
    let (length, from) = secondary.recv_from(&mut packet).unwrap();
    assert_eq!(packet[2] >> 3, 4, "NOTIFY");
    assert_eq!(packet[length - 4..length], [0, 6, 0, 1], "of a SOA record");
    packet[2] |= 0x80;
    secondary.send_to(&packet[..length], from).unwrap();
    running.server.stop();
}

#[tokio::test]
async fn our_own_client_reads_what_we_answer() {
    use astraler_dns::client;
    let running = run(RECORDS, true);
    let patience = std::time::Duration::from_secs(5);
    let name = |text: &str| text.parse::<astraler_model::DnsName>().unwrap();
    assert!(
        client::serial(running.address, &name("shop.test"), patience)
            .await
            .unwrap()
            > 1
    );
    let (addresses, ttl) = client::addresses(running.address, &name("chain.shop.test"), patience)
        .await
        .unwrap();
    assert_eq!(addresses, ["192.0.2.2".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(ttl, 300);
    let reply = client::ask(running.address, &name("shop.test"), 48, patience)
        .await
        .unwrap();
    assert_eq!(reply.answers.len(), 1);
    let missing = client::ask(running.address, &name("no.shop.test"), 1, patience)
        .await
        .unwrap();
    assert_eq!((missing.rcode, missing.answers.len()), (3, 0));
    let refused = client::ask(running.address, &name("other.test"), 1, patience)
        .await
        .unwrap_err();
    assert!(
        matches!(refused, client::AskError::Refused { rcode: 5, .. }),
        "{refused}"
    );
    running.server.stop();
}
