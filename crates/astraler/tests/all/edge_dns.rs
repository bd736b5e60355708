//! DNS of an edge that stands alone, as `dig` and `delv` see it, and certificates that it proves by it.

#![expect(clippy::disallowed_methods, reason = "tests: no file is for keeps")]

use crate::dns::{KEY, dig, free_port, resolver, validated};
use crate::edge::{get_over_tls, origin};
use crate::edge_acme::Place;
use crate::support::{eventually, kill};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);
const ZONE: &str = "shop-of-tests.com";

fn serial(port: u16) -> u32 {
    let soa = dig(port, &format!("+tcp {ZONE} SOA")).join("");
    soa.split(' ')
        .nth(2)
        .and_then(|serial| serial.parse().ok())
        .unwrap_or(0)
}

#[test]
fn the_zone_of_its_domain_is_served_signed_and_kept() {
    let place = Place::new();
    let (port, resolving) = (free_port(21_053), free_port(27_053));
    let _resolver = resolver(resolving);
    let secondary = UdpSocket::bind("127.0.0.1:0").unwrap();
    secondary.set_read_timeout(Some(PATIENCE)).unwrap();
    let write = |more: &str| {
        let text = format!(
            r#"domain = "{ZONE}"
[edge]
listen_addresses = ["127.0.0.1"]
[edge.dns]
port = {port}
addresses = ["192.0.2.10", "2001:db8::10"]
records = ["@ MX 10 mail.example.net.", "status ALIAS lb.elsewhere.test.", {more}]
resolver = "127.0.0.1:{resolving}"
secondaries = [{{ key_name = "ns2.example.net", key_secret = "NS2", notify = ["{notify}"] }}]
[[sites]]
hosts = ["{ZONE}", "*.preview.{ZONE}", "www.elsewhere.test"]
origin = "http://{origin}"
"#,
            notify = secondary.local_addr().unwrap(),
            origin = origin("app"),
        );
        std::fs::write(place.path("edge.toml"), text).unwrap();
    };
    write("");
    let edge = place.start(&[("--listen", place.http)]);
    let www = format!("www.{ZONE} CNAME");
    for (asked, expected) in [
        (format!("{ZONE} A"), "192.0.2.10"),
        (format!("pr-7.preview.{ZONE} AAAA"), "2001:db8::10"),
        (format!("ns1.{ZONE} A"), "192.0.2.10"),
        (format!("{ZONE} NS"), "ns1.shop-of-tests.com."),
        (format!("{ZONE} MX"), "10 mail.example.net."),
        (format!("{ZONE} CAA"), "0 issue \"letsencrypt.org\""),
    ] {
        assert_eq!(dig(port, &asked), [expected], "{asked}");
    }
    assert!(dig(port, "www.elsewhere.test A").is_empty(), "another zone's");
    eventually("the alias is asked for", PATIENCE, || {
        dig(port, &format!("+tcp status.{ZONE} A")) == ["203.0.113.7"]
    });
    let anchor = place.path("anchor");
    validated(&anchor, port, ZONE, &format!("pr-7.preview.{ZONE} A"));
    validated(&anchor, port, ZONE, &format!("missing.{ZONE} A"));

    // The file again: records change, the serial grows, and the secondary hears of it.
    let first = serial(port);
    write("\"www CNAME @\"");
    edge.signal(nix::sys::signal::Signal::SIGHUP);
    eventually("the file is read", PATIENCE, || !dig(port, &www).is_empty());
    assert!(serial(port) > first);
    let mut packet = [0; 512];
    let (length, _) = secondary.recv_from(&mut packet).unwrap();
    assert_eq!(
        (packet[2] >> 3, packet[length - 3]),
        (4, 6),
        "NOTIFY of a SOA record"
    );

    // Its key lies in the state folder: nobody transfers without it.
    let transfer = format!("-y hmac-sha256:ns2.example.net:{KEY} {ZONE} AXFR");
    let is_transferred = || {
        dig(port, &transfer)
            .iter()
            .any(|line| line.contains("192.0.2.10"))
    };
    assert!(!is_transferred());
    eventually("what is missing is named", PATIENCE, || {
        place.log().contains("write its key in Base64 to")
    });
    std::fs::write(place.path("state/dns/NS2"), KEY).unwrap();
    edge.signal(nix::sys::signal::Signal::SIGHUP);
    eventually("it can be transferred", PATIENCE, is_transferred);
    assert!(
        dig(port, &format!("{ZONE} AXFR"))
            .iter()
            .all(|line| !line.contains("192.0.2.10"))
    );

    // Killed, then started anew, then succeeded by another one: the same key, a serial that does not go back.
    let key = dig(port, &format!("{ZONE} DNSKEY"));
    let before = serial(port);
    drop(edge);
    let mut edge = place.start(&[("--listen", place.http)]);
    assert_eq!(dig(port, &format!("{ZONE} DNSKEY")), key);
    assert_eq!(
        dig(port, &format!("+tcp status.{ZONE} A")),
        ["203.0.113.7"],
        "what was found is kept"
    );
    assert!(serial(port) >= before);
    let mode = place
        .path("state/dns/zone-shop-of-tests.com.key")
        .metadata()
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    edge.signal(nix::sys::signal::Signal::SIGUSR2);
    assert!(edge.child.wait().unwrap().success());
    assert_eq!(dig(port, &format!("{ZONE} DNSKEY")), key);
    kill(astraler_host::port::holder(place.http).unwrap().pid);

    // A key that was damaged is not replaced in silence: the registrar has the one before.
    std::fs::write(place.path("state/dns/zone-shop-of-tests.com.key"), "damaged").unwrap();
    let refused = std::process::Command::new(crate::support::PROGRAM)
        .args(["edge", "--listen", &place.http.to_string(), "--config"])
        .arg(place.path("edge.toml"))
        .arg("--state-folder")
        .arg(place.path("state"))
        .output()
        .unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && said.contains("DS record"), "{said}");
}

#[test]
fn a_wildcard_has_a_certificate_that_is_proven_by_dns() {
    let place = Place::new();
    let port = free_port(23_053);
    place.server.behave(|server| {
        let nowhere = astraler_testkit::acme::Behaviour::default();
        (server.http, server.tls) = (nowhere.http, nowhere.tls);
        server.dns = Some(([127, 0, 0, 1], port).into());
    });
    let text = format!(
        "domain = \"{ZONE}\"\n[edge]\nlisten_addresses = [\"127.0.0.1\"]\n[edge.dns]\nport = {port}\n\
         [edge.tls]\nacme = true\nacme_challenge = \"dns-01\"\nacme_directory_url = \"{}\"\nacme_roots = \"{}\"\n\
         [[sites]]\nhosts = [\"*.{ZONE}\", \"elsewhere-of-tests.com\"]\norigin = \"http://{}\"\n",
        place.server.directory_url(),
        place.path("roots.pem").display(),
        origin("app"),
    );
    std::fs::write(place.path("edge.toml"), text).unwrap();
    let _edge = place.both();
    let root = CertificateDer::from_pem_slice(place.server.authority().as_bytes()).unwrap();
    eventually("the wildcard has its certificate", PATIENCE, || {
        get_over_tls(place.https, "any.shop-of-tests.com", &root).is_ok_and(|answer| answer.ends_with("app"))
    });
    // One label, as in the certificate.
    for host in ["a.b.shop-of-tests.com", ZONE] {
        let answer = crate::edge::get(place.http, host).unwrap();
        assert!(answer.starts_with("HTTP/1.1 421"), "{host}: {answer}");
    }
    let seen = place.server.seen();
    assert_eq!(
        (seen.orders, seen.validated, seen.certificates),
        (1, 1, 1),
        "{seen:?}"
    );
    assert_eq!(seen.problems, Default::default());
    eventually("the proof is taken away", PATIENCE, || {
        dig(port, &format!("_acme-challenge.{ZONE} TXT")).is_empty()
    });
    let log = place.log();
    assert!(log.contains("it is not in the zone that is served here"), "{log}");
}
