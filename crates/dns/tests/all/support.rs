//! A server on free loopback ports, and the clients.

use astraler_dns::{Config, Server, SigningKey, start};
use astraler_model::{DnsName, DnsRecord, DnsSnapshot, DnsZone, ResponseRate, TransferKey};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use tokio::sync::watch;

/// A key of a secondary, in Base64.
pub(crate) const KEY: &str = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3I=";

/// Everything that a zone may have.
pub(crate) const RECORDS: &[&str] = &[
    "@ NS ns1",
    "ns1 A 127.0.0.1",
    "@ A 192.0.2.1",
    "@ AAAA 2001:db8::1",
    "@ MX 10 mail",
    "@ TXT \"v=spf1 -all\"",
    "@ CAA 0 issue \"ca.example\"",
    "mail A 192.0.2.25",
    "app A 192.0.2.2",
    "www CNAME app",
    "out CNAME host.elsewhere.test.",
    "chain CNAME www",
    "lost CNAME nothing",
    "loop1 CNAME loop2",
    "loop2 CNAME loop1",
    "*.preview A 192.0.2.3",
    "*.preview TXT \"a preview\"",
    "fixed.preview A 192.0.2.4",
    "*.w CNAME app",
    "a.b.c.deep TXT \"deep\"",
    "x.*.odd A 192.0.2.5",
    "_sip._tcp SRV 1 2 5060 app",
    "sub NS ns.sub.shop.test.",
    "ns.sub A 192.0.2.53",
    "safe NS ns.elsewhere.test.",
    "safe DS 12345 13 2 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
    "svc TYPE65 \\# 3 000100",
];

pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) publish: watch::Sender<Arc<DnsSnapshot>>,
    pub(crate) key: SigningKey,
    pub(crate) server: Server,
    pub(crate) folder: tempfile::TempDir,
}

pub(crate) fn zone(records: &[&str], serial: u32) -> DnsZone {
    let origin: DnsName = "shop.test".parse().unwrap();
    let records = records.iter().map(|line| {
        // A relative name in the data is one of this zone.
        DnsRecord::parse(line, &origin, 300).unwrap_or_else(|error| panic!("{line}: {error}"))
    });
    DnsZone {
        records: records.collect(),
        serial,
        primary: "ns1.shop.test".parse().unwrap(),
        contact: "hostmaster.shop.test".parse().unwrap(),
        negative_ttl_s: 60,
        signing_key: None,
        notify: vec![],
        origin,
    }
}

/// Without a rate limit, signed when `signed`, with one key for transfers.
pub(crate) fn run(records: &[&str], signed: bool) -> Running {
    let unlimited = ResponseRate {
        per_s: 0,
        exempt: vec![],
    };
    run_at(records, signed, unlimited)
}

/// At another address than loopback's.
pub(crate) fn run_on(address: &str, records: &[&str]) -> Running {
    start_on(address, records, false, ResponseRate::default())
}

pub(crate) fn run_at(records: &[&str], signed: bool, rate: ResponseRate) -> Running {
    start_on("127.0.0.1", records, signed, rate)
}

fn start_on(on: &str, records: &[&str], signed: bool, rate: ResponseRate) -> Running {
    let folder = tempfile::tempdir().unwrap();
    let key = astraler_dns::generate().unwrap();
    let (key_file, secret) = (folder.path().join("zone.key"), folder.path().join("secondary"));
    std::fs::write(&key_file, &key).unwrap();
    std::fs::write(&secret, KEY).unwrap();
    let mut zone = zone(records, 1);
    zone.signing_key = signed.then_some(key_file);
    let snapshot = DnsSnapshot {
        version: 1,
        zones: vec![zone],
        transfer_keys: vec![TransferKey {
            name: "ns2.example.net".parse().unwrap(),
            file: secret,
        }],
        rate,
    };
    let (publish, snapshot) = watch::channel(Arc::new(snapshot));
    let (tcp, udp) = sockets(on);
    let address = tcp.local_addr().unwrap();
    let server = start(Config {
        udp: vec![udp],
        tcp: vec![tcp],
        snapshot,
    })
    .unwrap();
    Running {
        address,
        publish,
        key: SigningKey::from_pkcs8(&key).unwrap(),
        server,
        folder,
    }
}

/// One port for both.
fn sockets(on: &str) -> (TcpListener, UdpSocket) {
    for _ in 0..100 {
        let tcp = TcpListener::bind((on, 0)).unwrap();
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()) {
            return (tcp, udp);
        }
    }
    panic!("no port is free for both TCP and UDP");
}

impl Running {
    /// Changes what is served.
    pub(crate) fn change(&self, change: impl FnOnce(&mut DnsSnapshot)) {
        let mut snapshot = DnsSnapshot::clone(&self.publish.borrow());
        snapshot.version += 1;
        snapshot.zones[0].serial += 1;
        change(&mut snapshot);
        self.publish.send(Arc::new(snapshot)).unwrap();
    }

    /// What `dig` says.
    pub(crate) fn dig(&self, arguments: &str) -> String {
        let port = self.address.port().to_string();
        let mut command = Command::new("dig");
        command.args([
            "@127.0.0.1",
            "-p",
            &port,
            "+tries=1",
            "+time=3",
            "+nocmd",
            "+nostats",
        ]);
        output(
            command.args(arguments.split_whitespace()),
            "dig (Debian: bind9-dnsutils)",
        )
    }

    /// Only the answers, one on a line, sorted.
    pub(crate) fn short(&self, arguments: &str) -> Vec<String> {
        let text = self.dig(&format!("+short {arguments}"));
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    /// What `delv` says, which validates with our key as the only one that it trusts.
    pub(crate) fn delv(&self, arguments: &str) -> String {
        self.delv_trusting(&self.key, arguments)
    }

    pub(crate) fn delv_trusting(&self, key: &SigningKey, arguments: &str) -> String {
        let anchor = key.anchor();
        let (fields, data) = anchor.rsplit_once(' ').unwrap();
        let file = self.folder.path().join(format!("anchor-{}", key.tag()));
        std::fs::write(
            &file,
            format!("trust-anchors {{ shop.test. static-key {fields} \"{data}\"; }};\n"),
        )
        .unwrap();
        let port = self.address.port().to_string();
        let mut command = Command::new("delv");
        command
            .args(["@127.0.0.1", "-p", &port, "-a"])
            .arg(&file)
            .arg("+root=shop.test");
        output(
            command.args(arguments.split_whitespace()),
            "delv (Debian: bind9-dnsutils)",
        )
    }

    /// Sends bytes over UDP; the answer, if one comes within half a second.
    pub(crate) fn raw(&self, packet: &[u8]) -> Option<Vec<u8>> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket
            .set_read_timeout(Some(std::time::Duration::from_millis(500)))
            .unwrap();
        socket.send_to(packet, self.address).unwrap();
        let mut answer = vec![0; 65_536];
        let length = socket.recv(&mut answer).ok()?;
        answer.truncate(length);
        Some(answer)
    }
}

fn output(command: &mut Command, what: &str) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{what} is needed for this test: {error}"));
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// A query of one question, without EDNS.
pub(crate) fn query(name: &str, kind: u16) -> Vec<u8> {
    let name: DnsName = name.parse().unwrap();
    let mut packet = vec![0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
    packet.extend(name.wire());
    packet.extend(kind.to_be_bytes());
    packet.extend([0, 1]);
    packet
}

/// An OPT record.
pub(crate) fn opt(payload: u16, version: u8, options: &[u8]) -> Vec<u8> {
    let mut record = vec![0, 0, 41];
    record.extend(payload.to_be_bytes());
    record.extend([0, version, 0, 0]);
    record.extend((options.len() as u16).to_be_bytes());
    record.extend(options);
    record
}

pub(crate) fn with_opt(mut packet: Vec<u8>, opt: &[u8]) -> Vec<u8> {
    packet[11] += 1;
    packet.extend(opt);
    packet
}
