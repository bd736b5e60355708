//! Plain answers.

use crate::support::{RECORDS, run};

#[test]
fn every_kind_of_record_is_answered() {
    let running = run(RECORDS, false);
    for (asked, expected) in [
        ("shop.test A", &["192.0.2.1"][..]),
        ("SHOP.Test AAAA", &["2001:db8::1"]),
        ("shop.test MX", &["10 mail.shop.test."]),
        ("shop.test TXT", &["\"v=spf1 -all\""]),
        ("shop.test NS", &["ns1.shop.test."]),
        ("shop.test CAA", &["0 issue \"ca.example\""]),
        (
            "shop.test SOA",
            &["ns1.shop.test. hostmaster.shop.test. 1 3600 600 1209600 60"],
        ),
        ("www.shop.test A", &["192.0.2.2", "app.shop.test."]),
        (
            "chain.shop.test A",
            &["192.0.2.2", "app.shop.test.", "www.shop.test."],
        ),
        ("www.shop.test CNAME", &["app.shop.test."]),
        ("out.shop.test A", &["host.elsewhere.test."]),
        ("loop1.shop.test A", &["loop1.shop.test.", "loop2.shop.test."]),
        ("_sip._tcp.shop.test SRV", &["1 2 5060 app.shop.test."]),
        ("svc.shop.test TYPE65", &["1 ."]),
        ("a.b.c.deep.shop.test TXT", &["\"deep\""]),
        ("pr-7.preview.shop.test A", &["192.0.2.3"]),
        ("a.pr-7.preview.shop.test TXT", &["\"a preview\""]),
        ("any.w.shop.test A", &["192.0.2.2", "app.shop.test."]),
        ("fixed.preview.shop.test A", &["192.0.2.4"]),
        // RFC 4592: the name is there, so the wildcard does not stand for its other types, nor for what is below it.
        ("fixed.preview.shop.test TXT", &[]),
        ("x.fixed.preview.shop.test A", &[]),
        ("*.preview.shop.test A", &["192.0.2.3"]),
        (
            "safe.shop.test DS",
            &["12345 13 2 00112233445566778899AABBCCDDEEFF00112233445566778899AABB CCDDEEFF"],
        ),
    ] {
        for over in ["", "+tcp +noedns "] {
            assert_eq!(
                running.short(&format!("{over}{asked}")),
                expected,
                "{over}{asked}"
            );
        }
    }
    running.server.stop();
}

#[test]
fn what_is_not_there_is_said_with_the_soa_and_its_ttl() {
    let running = run(RECORDS, false);
    for (asked, status) in [
        ("nothing.shop.test A", "NXDOMAIN"),
        ("a.b.c.nothing.shop.test A", "NXDOMAIN"),
        ("lost.shop.test A", "NXDOMAIN"),
        ("shop.test SRV", "NOERROR"),
        ("deep.shop.test A", "NOERROR"),
        ("c.deep.shop.test TXT", "NOERROR"),
        ("pr-7.preview.shop.test MX", "NOERROR"),
        ("preview.shop.test A", "NOERROR"),
        ("anything.odd.shop.test A", "NOERROR"),
        ("shop.test DS", "NOERROR"),
    ] {
        let said = running.dig(asked);
        assert!(said.contains(&format!("status: {status}")), "{asked}\n{said}");
        assert!(said.contains("flags: qr aa rd;"), "{asked}\n{said}");
        assert!(said.contains("shop.test.\t\t60\tIN\tSOA\t"), "{asked}\n{said}");
    }
    running.server.stop();
}

#[test]
fn other_zones_classes_and_operations_are_refused() {
    let running = run(RECORDS, false);
    for asked in [
        "example.com A",
        "test A",
        ". NS",
        "notshop.test A",
        "shop.test.example A",
        "shop.test AXFR",
        "-c CH version.bind TXT",
        "-c CH shop.test TXT",
        "-c ANY shop.test A",
    ] {
        let said = running.dig(asked);
        let refused = said.contains("status: REFUSED") || said.contains("Transfer failed");
        assert!(refused, "{asked}\n{said}");
        assert!(!said.contains("192.0.2."), "{asked}\n{said}");
    }
    for opcode in ["NOTIFY", "UPDATE", "STATUS", "IQUERY"] {
        let said = running.dig(&format!("+opcode={opcode} shop.test SOA"));
        assert!(said.contains("status: NOTIMP"), "{opcode}\n{said}");
    }
    running.server.stop();
}

#[test]
fn a_delegation_is_referred_with_its_glue() {
    let running = run(RECORDS, false);
    for asked in ["sub.shop.test A", "www.sub.shop.test AAAA", "sub.shop.test NS"] {
        let said = running.dig(&format!("+norec {asked}"));
        assert!(said.contains("flags: qr;"), "not authoritative: {asked}\n{said}");
        assert!(
            said.contains("ANSWER: 0, AUTHORITY: 1, ADDITIONAL: 2"),
            "{asked}\n{said}"
        );
        assert!(
            said.contains("ns.sub.shop.test.\t300\tIN\tA\t192.0.2.53"),
            "{asked}\n{said}"
        );
    }
    // What the parent says about the delegation is ours.
    let said = running.dig("+norec sub.shop.test DS");
    assert!(said.contains("flags: qr aa;") && said.contains("SOA"), "{said}");
    running.server.stop();
}

#[test]
fn any_is_answered_with_one_set() {
    let running = run(RECORDS, false);
    let said = running.dig("+notcp shop.test ANY");
    assert!(
        said.contains("ANSWER: 1,") && said.contains("192.0.2.1"),
        "{said}"
    );
    assert!(running.dig("+notcp www.shop.test ANY").contains("ANSWER: 1,"));
    assert!(
        running
            .dig("+notcp pr-1.preview.shop.test ANY")
            .contains("ANSWER: 1,")
    );
    assert!(running.dig("+notcp deep.shop.test ANY").contains("ANSWER: 0,"));
    running.server.stop();
}

#[test]
fn what_does_not_fit_is_asked_for_over_tcp() {
    let mut records = vec!["@ NS ns1", "ns1 A 127.0.0.1"];
    let large: Vec<String> = (0..60)
        .map(|index| format!("large TXT \"{index:03}{}\"", "x".repeat(60)))
        .collect();
    let medium: Vec<String> = (0..12)
        .map(|index| format!("medium TXT \"{index:03}{}\"", "x".repeat(60)))
        .collect();
    records.extend(large.iter().chain(&medium).map(String::as_str));
    let running = run(&records, false);

    let said = running.dig("+ignore +bufsize=4096 large.shop.test TXT");
    assert!(
        said.contains("flags: qr aa tc rd;") && said.contains("ANSWER: 0"),
        "{said}"
    );
    assert!(said.contains("udp: 1232"), "{said}");
    assert_eq!(
        running.short("large.shop.test TXT").len(),
        60,
        "dig asks again over TCP by itself"
    );

    let said = running.dig("+ignore +noedns medium.shop.test TXT");
    assert!(said.contains("tc rd;"), "512 bytes without EDNS: {said}");
    let said = running.dig("+ignore +bufsize=1232 medium.shop.test TXT");
    assert!(said.contains("ANSWER: 12,"), "1232 bytes with it: {said}");
    assert_eq!(running.short("+noedns medium.shop.test TXT").len(), 12);
    running.server.stop();
}
