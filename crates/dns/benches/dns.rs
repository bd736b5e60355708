//! `cargo xtask bench dns`: queries per second, and what one costs. dnsperf (Debian package) asks a signed zone over
//! loopback, on the same cores as the server; its network is exempt from response rate limiting, which has tests of
//! its own. Arguments: seconds of each run (10).

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench that cannot go on ends, and prints its figures"
)]

use astraler_dns::{Config, generate, start};
use astraler_model::{DnsName, DnsRecord, DnsSnapshot, DnsZone, ResponseRate};
use rustix::net::{AddressFamily, SocketType, bind, socket, sockopt};
use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::process::Command;
use std::sync::Arc;

const RECORDS: &[&str] = &[
    "@ NS ns1",
    "@ NS ns2",
    "ns1 A 192.0.2.1",
    "ns2 A 192.0.2.2",
    "@ A 192.0.2.10",
    "@ AAAA 2001:db8::10",
    "@ MX 10 mail",
    "mail A 192.0.2.25",
    "@ TXT \"v=spf1 mx -all\"",
    "@ CAA 0 issue \"letsencrypt.org\"",
    "app A 192.0.2.10",
    "app AAAA 2001:db8::10",
    "staging A 192.0.2.10",
    "staging AAAA 2001:db8::10",
    "*.preview A 192.0.2.10",
    "*.preview AAAA 2001:db8::10",
    "www CNAME app",
    "_sip._tcp SRV 1 2 5060 app",
];

/// What resolvers ask of a product's zone: mostly its hosts, some of it about names that are not there.
fn queries() -> String {
    let mut text = String::new();
    for round in 0..500 {
        for query in [
            "app A",
            "app AAAA",
            "app A",
            "app AAAA",
            "www A",
            "@ A",
            "@ AAAA",
            "app HTTPS",
            "staging A",
        ] {
            add(&mut text, query);
        }
        for query in ["@ MX", "@ TXT", "@ NS", "@ SOA", "_sip._tcp SRV"] {
            if round % 3 == 0 {
                add(&mut text, query);
            }
        }
        add(&mut text, &format!("pr-{}.preview A", round * 7));
        add(&mut text, &format!("missing-{round} A"));
    }
    text
}

fn add(text: &mut String, query: &str) {
    let (name, kind) = query.split_once(' ').unwrap();
    let full = match name {
        "@" => "shop.test".to_owned(),
        _ => format!("{name}.shop.test"),
    };
    writeln!(text, "{full} {kind}").unwrap();
}

/// As `keep` binds them: one for each thread, on one port.
fn sockets(count: usize) -> (SocketAddr, Vec<UdpSocket>) {
    let open = |address: SocketAddr| {
        let fd = socket(AddressFamily::INET, SocketType::DGRAM, None).unwrap();
        sockopt::set_socket_reuseport(&fd, true).unwrap();
        sockopt::set_socket_recv_buffer_size(&fd, 4 << 20).unwrap();
        bind(&fd, &address).unwrap();
        UdpSocket::from(fd)
    };
    let first = open((Ipv4Addr::LOCALHOST, 0).into());
    let address = first.local_addr().unwrap();
    let mut all = vec![first];
    all.extend((1..count).map(|_| open(address)));
    (address, all)
}

/// Microseconds that this process has computed, from proc(5).
fn computed() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks * 10_000.0
}

fn main() {
    let seconds = std::env::args()
        .find_map(|word| word.parse::<u32>().ok())
        .unwrap_or(10);
    let folder = tempfile::tempdir().unwrap();
    let (key, file) = (folder.path().join("key"), folder.path().join("queries"));
    std::fs::write(&key, generate().unwrap()).unwrap();
    std::fs::write(&file, queries()).unwrap();
    let origin: DnsName = "shop.test".parse().unwrap();
    let records = RECORDS
        .iter()
        .map(|line| DnsRecord::parse(line, &origin, 300).unwrap());
    let snapshot = DnsSnapshot {
        version: 1,
        zones: vec![DnsZone {
            records: records.collect(),
            serial: 1,
            primary: "ns1.shop.test".parse().unwrap(),
            contact: "hostmaster.shop.test".parse().unwrap(),
            negative_ttl_s: 300,
            signing_key: Some(key),
            notify: vec![],
            origin,
        }],
        transfer_keys: vec![],
        rate: ResponseRate {
            per_s: 20,
            exempt: vec!["127.0.0.0/8".parse().unwrap()],
        },
    };
    let (_publish, snapshot) = tokio::sync::watch::channel(Arc::new(snapshot));
    let threads = std::thread::available_parallelism()
        .map_or(2, std::num::NonZero::get)
        .min(4);
    let (address, udp) = sockets(threads);
    let tcp = vec![TcpListener::bind(address).unwrap()];
    let server = start(Config { udp, tcp, snapshot }).unwrap();
    println!("{threads} threads for UDP; the load generator shares their cores");
    for (what, dnssec) in [("plain", false), ("signed (EDNS, DO)", true)] {
        let before = computed();
        let mut command = Command::new("dnsperf");
        let port = address.port().to_string();
        command.args(["-s", "127.0.0.1", "-p", &port, "-d"]).arg(&file);
        command.args(["-l", &seconds.to_string(), "-c", "8", "-T", "2", "-q", "200"]);
        if dnssec {
            command.arg("-D");
        }
        let output = command
            .output()
            .expect("dnsperf (Debian package of that name) is needed");
        let text = String::from_utf8_lossy(&output.stdout);
        let figure = |label: &str| {
            let line = text.lines().find(|line| line.trim_start().starts_with(label));
            line.and_then(|line| line.split(':').nth(1))
                .unwrap_or("?")
                .trim()
                .to_owned()
        };
        let completed: f64 = figure("Queries completed")
            .split_whitespace()
            .next()
            .unwrap_or("0")
            .parse()
            .unwrap_or(0.0);
        println!(
            "{what}: {} queries/s (goal: 60,000 or more), lost {} (goal: 0), average latency {}",
            figure("Queries per second"),
            figure("Queries lost"),
            figure("Average Latency (s)"),
        );
        println!(
            "{what}: {:.2} us of CPU a query; {}",
            (computed() - before) / completed,
            figure("Response codes")
        );
    }
    server.stop();
}
