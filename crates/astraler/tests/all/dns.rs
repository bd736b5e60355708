//! DNS on a real platform, as `dig` and `delv` (Debian: bind9-dnsutils) see it.

use crate::sink::give_to;
use crate::support::{PROGRAM, eventually, kill};
use astraler_testkit::{Platform, small_application};
use serde_json::Value;
use std::io::Write;
use std::net::{TcpListener, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

pub(crate) const KEY: &str = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3I=";

/// A port that is free for UDP and TCP, below those that the kernel gives to clients.
pub(crate) fn free_port(from: u16) -> u16 {
    let free = |port: &u16| {
        TcpListener::bind(("127.0.0.1", *port)).is_ok() && UdpSocket::bind(("127.0.0.1", *port)).is_ok()
    };
    (from..from + 2_000).find(free).unwrap()
}

pub(crate) fn dig(port: u16, words: &str) -> Vec<String> {
    let port = port.to_string();
    let output = Command::new("dig")
        .args(["@127.0.0.1", "-p", &port, "+short", "+tries=1", "+time=2"])
        .args(words.split(' '))
        .output()
        .unwrap_or_else(|error| panic!("dig (Debian: bind9-dnsutils) is needed for this test: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut lines: Vec<String> = text
        .lines()
        .filter(|line| !line.starts_with(';'))
        .map(str::to_owned)
        .collect();
    lines.sort();
    lines
}

/// A resolver that knows one name: for the alias that leads out of the zone.
pub(crate) fn resolver(port: u16) -> UdpSocket {
    let socket = UdpSocket::bind(("127.0.0.1", port)).unwrap();
    let serving = socket.try_clone().unwrap();
    std::thread::spawn(move || {
        let mut packet = [0; 512];
        while let Ok((length, from)) = serving.recv_from(&mut packet) {
            let mut answer = packet[..length].to_vec();
            answer[2] = 0x81;
            // One A record; for AAAA none.
            if packet[length - 4..length] == [0, 1, 0, 1] {
                answer[7] = 1;
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 203, 0, 113, 7]);
            }
            let _ = serving.send_to(&answer, from);
        }
    });
    socket
}

#[test]
fn the_zone_is_as_the_manifest_says() {
    let (port, resolving) = (free_port(13_053), free_port(16_053));
    let _resolver = resolver(resolving);
    let secondary = UdpSocket::bind("127.0.0.1:0").unwrap();
    secondary.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let platform = Platform::new(PROGRAM, |folder| {
        small_application(folder)?;
        let manifest = folder.join("astraler.toml");
        let mut text = std::fs::read_to_string(&manifest)?;
        text.push_str(&format!(
            r#"
[edge.dns]
port = {port}
addresses = ["192.0.2.10", "2001:db8::10"]
name_servers = ["ns7.small.example"]
contact = "jo.doe@small.example"
ttl_s = 77
negative_ttl_s = 33
records = ["www CNAME app", "@ MX 10 mail.example.net.", "@ 600 ALIAS lb.elsewhere.test.", "t TXT \"one; two\""]
caa_issuers = ["ca.example"]
resolver = "127.0.0.1:{resolving}"
response_rate_per_s = 5
rate_exempt = ["192.0.2.0/24"]
secondaries = [{{ key_name = "ns2.example.net", key_secret = "DNS_KEY", notify = ["{notify}"] }}]
"#,
            notify = secondary.local_addr()?
        ));
        std::fs::File::create(&manifest)?.write_all(text.as_bytes())
    })
    .unwrap();
    platform.up(&["--env", "development"]).unwrap().ok();
    let run = |words: &str| platform.run(&words.split(' ').collect::<Vec<_>>()).unwrap();
    eventually("the zone is served", Duration::from_secs(10), || {
        dig(port, "+tcp small.example A") == ["203.0.113.7"]
    });

    for (asked, expected) in [
        ("app.small.example A", "192.0.2.10"),
        ("staging.small.example AAAA", "2001:db8::10"),
        ("pr-7.preview.small.example A", "192.0.2.10"),
        ("ns7.small.example A", "192.0.2.10"),
        ("small.example NS", "ns7.small.example."),
        ("small.example MX", "10 mail.example.net."),
        ("small.example CAA", "0 issue \"ca.example\""),
        ("t.small.example TXT", "\"one; two\""),
        ("www.small.example CNAME", "app.small.example."),
    ] {
        assert_eq!(dig(port, asked), [expected], "{asked}");
    }
    let soa = dig(port, "small.example SOA").join("");
    assert!(
        soa.starts_with("ns7.small.example. jo\\.doe.small.example. "),
        "{soa}"
    );
    assert!(soa.ends_with(" 33"), "{soa}");
    let ttl = Command::new("dig")
        .args([
            "@127.0.0.1",
            "-p",
            &port.to_string(),
            "+noall",
            "+answer",
            "www.small.example",
            "CNAME",
        ])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&ttl.stdout).contains("\t77\tIN\t"));

    // What the command line says, and what it finds.
    let shown = run("dns show --json").ok().json();
    assert_eq!(shown["zone"], "small.example.");
    assert_eq!(shown["port"], port);
    let registrar: Vec<String> = serde_json::from_value(shown["registrar"].clone()).unwrap();
    assert_eq!(registrar[0], "small.example. IN NS ns7.small.example.");
    assert_eq!(registrar[1], "ns7.small.example. IN A 192.0.2.10  (glue)");
    let ds = shown["ds"].as_str().unwrap();
    assert!(run("dns show").ok().out.contains(ds));
    let cds = dig(port, "small.example CDS").join("").replace(' ', "");
    assert_eq!(
        format!("small.example.INDS{cds}"),
        ds.replace(' ', ""),
        "of the key that is served"
    );
    let checked = run("dns check --json").ok().json();
    assert_eq!(checked["wrong"], serde_json::json!([]));
    assert!(checked["asked"].as_u64().unwrap() > 15, "{checked}");
    assert!(
        checked["hints"]
            .as_array()
            .unwrap()
            .iter()
            .any(|hint| hint.as_str().unwrap().contains("port 53"))
    );
    let anchor = platform.application().join("anchor");
    validated(&anchor, port, "small.example", "app.small.example A");
    validated(&anchor, port, "small.example", "missing.small.example A");

    // A proof for a certificate authority is there when the command returns.
    let began = Instant::now();
    run("dns challenge app.small.example proof-1").ok();
    assert_eq!(
        dig(port, "_acme-challenge.app.small.example TXT"),
        ["\"proof-1\""]
    );
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_ne!(
        run("dns challenge app.elsewhere.example proof").code,
        0,
        "not our zone"
    );

    // A secondary: nothing without the key, the zone with it, and it is told about changes.
    let mut packet = [0; 512];
    let (length, _) = secondary.recv_from(&mut packet).unwrap();
    assert_eq!(
        (packet[2] >> 3, packet[length - 3]),
        (4, 6),
        "NOTIFY of a SOA record"
    );
    let transfer = format!("-y hmac-sha256:ns2.example.net:{KEY} small.example AXFR");
    assert!(
        !dig(port, &transfer)
            .iter()
            .any(|line| line.contains("192.0.2.10"))
    );
    give_to(&platform, "DNS_KEY", KEY, "dns");
    eventually("it can be transferred", Duration::from_secs(5), || {
        dig(port, &transfer)
            .iter()
            .any(|line| line.contains("192.0.2.10"))
    });
    assert!(
        !dig(port, "small.example AXFR")
            .iter()
            .any(|line| line.contains("192.0.2.10"))
    );
    run("dns challenge app.small.example proof-1 --remove").ok();
    eventually("the proof is gone", Duration::from_secs(3), || {
        dig(port, "+tcp _acme-challenge.app.small.example TXT").is_empty()
    });

    // Six at once from one network: five answers, for the sixth nothing or "ask over TCP".
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
    let mut query = vec![0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    query.extend(b"\x07staging\x05small\x07example\x00\x00\x01\x00\x01");
    for _ in 0..9 {
        socket.send_to(&query, ("127.0.0.1", port)).unwrap();
    }
    let mut whole = 0;
    while socket.recv(&mut packet).is_ok() {
        whole += u32::from(packet[2] & 2 == 0);
    }
    assert!((5..=6).contains(&whole), "{whole}");

    // Nobody needs the daemon for it; and a killed edge is back with the same zone.
    let serial = run("dns show --json").ok().json()["served_serial"].clone();
    kill(platform.pid("daemon").unwrap().unwrap());
    assert_eq!(dig(port, "+tcp app.small.example A"), ["192.0.2.10"]);
    kill(platform.pid("edge").unwrap().unwrap());
    eventually("DNS is back", Duration::from_secs(10), || {
        dig(port, "+tcp app.small.example A") == ["192.0.2.10"]
    });
    eventually("the daemon is back", Duration::from_secs(20), || {
        let shown = platform.run(&["dns", "show", "--json"]).unwrap();
        shown.code == 0 && shown.json()["served_serial"] == serial
    });
    assert_eq!(
        dig(port, "+tcp small.example A"),
        ["203.0.113.7"],
        "what was found outside is kept"
    );

    // Unsigned, when the manifest says so.
    let manifest = platform.application().join("astraler.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let text = text.replace("[edge.dns]\n", "[edge.dns]\ndnssec = false\n");
    std::fs::File::create(&manifest)
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    platform.up(&["--env", "development"]).unwrap().ok();
    eventually("it is not signed", Duration::from_secs(10), || {
        dig(port, "+tcp small.example DNSKEY").is_empty() && !dig(port, "+tcp app.small.example A").is_empty()
    });
    assert_eq!(run("dns show --json").ok().json()["ds"], Value::Null);
}

/// `delv` with the zone's key as the only one that it trusts, which it reads from the file `anchor`.
pub(crate) fn validated(anchor: &std::path::Path, port: u16, zone: &str, asked: &str) {
    let key = dig(port, &format!("{zone} DNSKEY")).join("");
    let mut fields = key.splitn(4, ' ');
    let mut next = || fields.next().unwrap().replace(' ', "");
    let (flags, protocol, algorithm, data) = (next(), next(), next(), next());
    let text =
        format!("trust-anchors {{ {zone}. static-key {flags} {protocol} {algorithm} \"{data}\"; }};\n");
    std::fs::File::create(anchor)
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = Command::new("delv")
        .args(["@127.0.0.1", "-p", &port.to_string(), "-a"])
        .arg(anchor)
        .arg(format!("+root={zone}"))
        .args(asked.split(' '))
        .output()
        .unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(said.contains("fully validated"), "{asked}\n{said}");
    std::fs::remove_file(anchor).unwrap();
}
