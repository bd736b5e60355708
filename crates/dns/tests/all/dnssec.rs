//! Signed zones: what a validator that trusts our key alone makes of every kind of answer.

use crate::support::{RECORDS, run, zone};
use astraler_dns::{SigningKey, generate};

#[test]
fn every_answer_validates() {
    let running = run(RECORDS, true);
    for (asked, expected) in [
        ("shop.test A", "; fully validated\nshop.test."),
        ("shop.test SOA", "; fully validated"),
        ("shop.test DNSKEY", "; fully validated"),
        ("shop.test MX", "; fully validated"),
        ("shop.test CAA", "; fully validated"),
        ("svc.shop.test TYPE65", "; fully validated"),
        ("www.shop.test A", "; fully validated"),
        ("chain.shop.test A", "; fully validated"),
        ("_sip._tcp.shop.test SRV", "; fully validated"),
        ("safe.shop.test DS", "; fully validated"),
        // Wildcards: the answer, and the proof that nothing closer is there.
        (
            "pr-7.preview.shop.test A",
            "; fully validated\npr-7.preview.shop.test.",
        ),
        (
            "a.b.preview.shop.test A",
            "; fully validated\na.b.preview.shop.test.",
        ),
        ("any.w.shop.test A", "; fully validated"),
        ("*.preview.shop.test A", "; fully validated"),
    ] {
        let said = running.delv(asked);
        assert!(said.contains(expected), "{asked}\n{said}");
    }
    running.server.stop();
}

#[test]
fn every_denial_validates() {
    let running = run(RECORDS, true);
    for (asked, kind) in [
        // No such name: at the ends of the chain, between, and far below what is there.
        ("nothing.shop.test A", "ncache nxdomain"),
        ("0.shop.test A", "ncache nxdomain"),
        ("zzzz.shop.test A", "ncache nxdomain"),
        ("a.b.c.nothing.shop.test A", "ncache nxdomain"),
        ("x.app.shop.test A", "ncache nxdomain"),
        ("x.y.app.shop.test A", "ncache nxdomain"),
        ("x.fixed.preview.shop.test A", "ncache nxdomain"),
        ("b.b.c.deep.shop.test A", "ncache nxdomain"),
        // The name is there, the type is not.
        ("shop.test SRV", "ncache nxrrset"),
        ("app.shop.test AAAA", "ncache nxrrset"),
        ("fixed.preview.shop.test TXT", "ncache nxrrset"),
        // Names that only have names below them.
        ("deep.shop.test A", "ncache nxrrset"),
        ("c.deep.shop.test A", "ncache nxrrset"),
        ("preview.shop.test A", "ncache nxrrset"),
        ("_tcp.shop.test A", "ncache nxrrset"),
        // A wildcard without that type, and one that only has names below it.
        ("pr-7.preview.shop.test MX", "ncache nxrrset"),
        ("a.b.preview.shop.test MX", "ncache nxrrset"),
        ("anything.odd.shop.test A", "ncache nxrrset"),
        // Where a delegation has no key.
        ("sub.shop.test DS", "ncache nxrrset"),
    ] {
        let said = running.delv(asked);
        let validated = said.contains("; negative response, fully validated") && said.contains(kind);
        assert!(validated, "{asked}\n{said}");
    }
    running.server.stop();
}

#[test]
fn a_validator_that_trusts_another_key_refuses_everything() {
    let running = run(RECORDS, true);
    let other = SigningKey::from_pkcs8(&generate().unwrap()).unwrap();
    for asked in ["shop.test A", "nothing.shop.test A", "pr-7.preview.shop.test A"] {
        let said = running.delv_trusting(&other, asked);
        assert!(!said.contains("fully validated"), "{asked}\n{said}");
    }
    running.server.stop();
}

#[test]
fn a_zone_is_signed_anew_in_time_with_a_serial_that_grew() {
    let key = SigningKey::from_pkcs8(&generate().unwrap()).unwrap();
    let day = 86_400;
    let at = 1_800_000_000 - 1_800_000_000 % (3 * day);
    let build = |serial, now| astraler_dns::Zone::build(&zone(RECORDS, serial), Some(&key), now).unwrap();
    assert_eq!(
        build(1, at + 5).serial(),
        build(1, at + 3 * day - 1).serial(),
        "the same within a period"
    );
    assert!(build(1, at + 3 * day).serial() > build(1, at).serial());
    assert_eq!(
        build(at + 100, at + 200).serial(),
        at + 100,
        "a change in the period has its own serial"
    );
}

#[test]
fn what_the_registrar_gets_is_the_digest_of_the_key_that_is_served() {
    let running = run(RECORDS, true);
    let said = running.short("shop.test CDS");
    let delegation = running.key.delegation(&"shop.test".parse().unwrap());
    // dig divides long hex.
    assert_eq!(said.join("").replace(' ', ""), delegation.replace(' ', ""));
    let keys = running.folder.path().join("keys");
    std::fs::write(&keys, running.dig("+noall +answer shop.test DNSKEY")).unwrap();
    let from = std::process::Command::new("dnssec-dsfromkey")
        .args(["-2", "-f"])
        .arg(&keys)
        .arg("shop.test")
        .output();
    // It is in another package than dig: where it is there it must agree.
    if let Ok(output) = from {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            text.replace(' ', "").contains(&delegation.replace(' ', "")),
            "{text}"
        );
    }
    running.server.stop();
}
