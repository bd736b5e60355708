//! Rules of the edge on a real platform: what the manifest says, and what an operator switches on and off.

#![expect(clippy::disallowed_methods, reason = "tests: no file is for keeps")]

use crate::support::{PROGRAM, eventually, kill};
use astraler_testkit::Platform;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

const WORKER: &str = r#"
export default {
  async fetch(request) {
    const seen = Object.fromEntries(request.headers);
    return Response.json({ client: seen["cf-connecting-ip"], padding: "x".repeat(400) });
  },
};
"#;

const MANIFEST: &str = r#"name = "some"
domain = "some.example"
[workers.some]
path = "some"
routes = ["/api/*"]
[assets]
directory = "web"
[environments.development]
hosts = ["intern.some.example"]
[edge]
trusted_proxies = ["127.0.0.0/8"]
client_ip_header = "forwarded"
proxy_protocol = ["127.0.0.77"]
admin_hosts = ["intern.*"]
allow_list = ["198.51.100.0/24"]
compression = ["gzip"]
compression_min_bytes = 100
[edge.waf]
mode = "detect"
modes = { development = "block", preview = "off", staging = "block", production = "detect" }
rules = "RULES"
countries = "RULES/countries.mmdb"
networks = "RULES/networks.mmdb"
managed_rules = true
paranoia_level = 4
paranoia_levels = { development = 2, production = 1 }
inbound_threshold = 5
inbound_thresholds = { development = 7 }
outbound_threshold = 8
outbound_thresholds = { staging = 9 }
body_limits_bytes = { development = 2048 }
[[edge.waf.custom_rules]]
name = "no-dotfiles"
expression = 'http.request.uri.path contains "/.git"'
action = "block"
[[edge.waf.custom_rules]]
name = "abroad"
expression = 'ip.src.country eq "FR" and http.request.uri.path eq "/api/home"'
action = "block"
[[edge.waf.custom_rules]]
name = "partners"
expression = 'http.request.uri.path contains "/partners" and not ip.src in $partners'
action = "block"
[edge.lists.partners]
kind = "ip"
items = ["192.0.2.7"]
file = "security/partners.txt"
[[edge.waf.exceptions]]
rules = [1000]
paths = ["/api/editor"]
[edge.headers]
X-Frame-Options = "DENY"
[edge.error_pages]
404 = "/lost.html"
[edge.under_attack]
requests_per_s = 2
rate_divisor = 2
header_timeout_ms = 400
idle_timeout_ms = 700
max_connections_per_client = 3
[[edge.access]]
name = "office"
paths = ["/api/office"]
allow = ["192.0.2.0/24"]
[[edge.header_rules]]
paths = ["/api"]
set = { X-Api = "1" }
[[edge.rate_rules]]
name = "login"
paths = ["/api/login"]
requests = 3
period_s = 600
[[edge.rate_rules]]
name = "elsewhere"
environments = ["production"]
requests = 1
"#;

/// A database in MaxMind's format: the lower half of all IPv4 addresses is in Switzerland, the upper in France.
const COUNTRIES: &[u8] = b"\0\0\x11\0\0\x27\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\
    \xe1\x47country\xe1\x48iso_code\x42CH\xe1\x47country\xe1\x48iso_code\x42FR\xab\xcd\xefMaxMind.com\
    \xe9\x5bbinary_format_major_version\xa1\x02\x5bbinary_format_minor_version\xa0\x4bbuild_epoch\x01\x02\x01\
    \x4ddatabase_type\x44Test\x4bdescription\xe0\x49languages\x00\x04\x4aip_version\xa1\x04\x4anode_count\xc1\x01\x4brecord_size\xa1\x18";

/// One request from a client that a proxy names; head and body.
fn ask(port: u16, host: &str, path: &str, client: &str, lines: &str) -> (u16, String, Vec<u8>) {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nForwarded: for={client}\r\nConnection: close\r\n{lines}\r\n"
    )
    .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head, answer[end + 4..].to_vec())
}

/// One request from a balancer that says this first: all of the answer.
fn introduced(port: u16, first: &str) -> String {
    use rustix::net::{AddressFamily, SocketType};
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    let of = |address: [u8; 4], port: u16| SocketAddr::from((address, port));
    rustix::net::bind(&socket, &of([127, 0, 0, 77], 0)).unwrap();
    rustix::net::connect(&socket, &of([127, 0, 0, 1], port)).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(
        stream,
        "{first}GET /api/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

/// Rules in a folder that the edge's user can read: a request is refused at a score of 7, at paranoia level 2.
fn managed_rules() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let rules = r#"
SecAction "id:900,phase:1,pass,nolog,setvar:tx.score=0"
SecRule TX:blocking_paranoia_level "@lt 2" "id:901,phase:2,pass,nolog,skipAfter:END"
SecRule ARGS "@contains evil" "id:1000,phase:2,pass,log,msg:'Evil',setvar:tx.score=+7"
SecRule ARGS "@contains bad" "id:1001,phase:2,pass,log,msg:'Bad',setvar:tx.score=+3"
SecRule TX:score "@ge %{tx.inbound_anomaly_score_threshold}" "id:949110,phase:2,deny,status:403,msg:'Score'"
SecMarker END
"#;
    std::fs::write(folder.path().join("rules.conf"), rules).unwrap();
    std::fs::write(folder.path().join("countries.mmdb"), COUNTRIES).unwrap();
    // Of the same format; it says nothing of networks.
    std::fs::write(folder.path().join("networks.mmdb"), COUNTRIES).unwrap();
    folder
}

#[test]
fn rules_and_switches_hold_on_a_platform() {
    let rules = managed_rules();
    let manifest = MANIFEST.replace("RULES", &rules.path().display().to_string());
    let platform = Platform::new(PROGRAM, |folder| {
        std::fs::create_dir_all(folder.join("some"))?;
        std::fs::create_dir_all(folder.join("web"))?;
        std::fs::create_dir_all(folder.join("migrations"))?;
        std::fs::create_dir_all(folder.join("security"))?;
        std::fs::write(folder.join("security/partners.txt"), "198.51.100.0/24 # theirs\n")?;
        std::fs::write(folder.join("migrations/0001_empty.sql"), "SELECT 1;\n")?;
        std::fs::write(folder.join("astraler.toml"), &manifest)?;
        std::fs::write(folder.join("web/lost.html"), "our own page")?;
        std::fs::write(folder.join("some/index.js"), WORKER)?;
        std::fs::write(
            folder.join("some/wrangler.json"),
            r#"{ "name": "some", "main": "index.js", "compatibility_date": "2026-10-01" }"#,
        )
    })
    .unwrap();
    platform.up(&[]).unwrap().ok();
    let port = platform.port;
    let get = |path: &str, client: &str| ask(port, "localhost", path, client, "");

    // Who the client is, and what its answers carry.
    let (status, head, body) = get("/api/x", "203.0.113.9");
    assert_eq!(status, 200, "{head}");
    let seen: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(seen["client"], "203.0.113.9");
    assert!(
        head.contains("\r\nx-frame-options: deny") && head.contains("\r\nx-api: 1"),
        "{head}"
    );
    let (_, head, _) = ask(
        port,
        "localhost",
        "/api/x",
        "203.0.113.9",
        "Accept-Encoding: br, gzip\r\n",
    );
    assert!(head.contains("\r\ncontent-encoding: gzip"), "{head}");
    let (status, head, body) = get("/nowhere", "203.0.113.9");
    assert_eq!((status, body.as_slice()), (404, &b"our own page"[..]));
    assert!(!head.contains("x-api"), "{head}");

    // A balancer with the PROXY protocol, and one that forgets it.
    let introduced = introduced(port, "PROXY TCP4 203.0.113.50 192.0.2.1 5555 80\r\n");
    assert!(introduced.contains("\"client\":\"203.0.113.50\""), "{introduced}");
    assert_eq!(self::introduced(port, ""), "");

    // Allow-lists.
    assert_eq!(get("/api/office", "203.0.113.9").0, 403);
    assert_eq!(get("/api/office", "192.0.2.9").0, 200);
    let intern = |client| ask(port, "intern.some.example", "/api/x", client, "").0;
    assert_eq!((intern("203.0.113.9"), intern("198.51.100.9")), (403, 200));

    // The firewall.
    for (path, status) in [
        ("/api/x?a=evil", 403),
        ("/api/x?a=bad", 200),
        ("/api/x?a=bad&b=bad", 200),
        ("/api/editor?a=evil", 200),
        ("/api/x/.git/config", 403),
        ("/api/home", 403),
    ] {
        assert_eq!(get(path, "203.0.113.9").0, status, "{path}");
    }
    assert_eq!(get("/api/home", "100.64.0.9").0, 200, "at home");

    let partners = ["192.0.2.7", "198.51.100.9", "203.0.113.9"].map(|client| get("/api/partners", client).0);
    assert_eq!(partners, [200, 200, 403], "a list of the manifest and of a file");

    let mut said = String::new();
    for _ in 0..40 {
        let log = platform.run(&["logs", "--where", "status=403 and rule~1000"]);
        said = log.unwrap().ok().out;
        if said.contains("[949110 block") {
            break;
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    assert!(
        said.contains("[949110 block") && said.contains(", 1000 match ARGS:a "),
        "{said}"
    );

    // Rates: 3 in this environment, and the rule of another one does not count.
    let statuses: Vec<u16> = (0..4).map(|_| get("/api/login", "203.0.113.10").0).collect();
    assert_eq!(statuses, [200, 200, 200, 429]);

    // Maintenance, which outlives the daemon and keep's restart of the edge.
    let run = |words: &[&str]| platform.run(words).unwrap().ok();
    run(&[
        "maintenance",
        "on",
        "--env",
        "development",
        "--message",
        "Back soon",
        "--allow",
        "192.0.2.0/24",
    ]);
    let (status, head, body) = get("/api/x", "203.0.113.9");
    assert!(status == 503 && head.contains("\r\nretry-after: 300"), "{head}");
    assert!(String::from_utf8(body).unwrap().contains("Back soon."));
    assert_eq!(get("/api/x", "192.0.2.9").0, 200);
    let status = run(&["status", "--json"]).json();
    assert_eq!(status["environments"][0]["maintenance"]["message"], "Back soon");
    assert!(
        run(&["status"])
            .out
            .contains("development is in maintenance for all but one network")
    );
    for unit in ["daemon", "edge"] {
        kill(platform.pid(unit).unwrap().unwrap());
    }
    eventually("the edge is back, and closed", Duration::from_secs(30), || {
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() && get("/api/x", "203.0.113.9").0 == 503
    });
    eventually("the daemon is back", Duration::from_secs(30), || {
        platform
            .run(&["maintenance", "off", "--env", "development"])
            .unwrap()
            .code
            == 0
    });
    assert_eq!(get("/api/x", "203.0.113.9").0, 200);

    // Under attack.
    run(&["attack-mode", "on", "--env", "development", "--for", "1h"]);
    let statuses: Vec<u16> = (0..4).map(|_| get("/api/y", "203.0.113.11").0).collect();
    assert_eq!(statuses[..2], [200, 200]);
    assert!(statuses.contains(&429), "{statuses:?}: two in a second");
    let status = run(&["status", "--json"]).json();
    assert!(
        status["environments"][0]["attack"]["until_ms"].is_u64(),
        "{status}"
    );
    let folders = std::fs::read_dir(platform.runtime()).unwrap();
    let published = folders
        .map(|folder| folder.unwrap().path().join("snapshots/edge.json"))
        .chain([platform.runtime().join("snapshots/edge.json")])
        .find_map(|file| std::fs::read(file).ok())
        .unwrap();
    let published: Value = serde_json::from_slice(&published).unwrap();
    let waf = &published["routes"][0]["policy"]["waf"];
    let numbers = [
        "paranoia_level",
        "inbound_threshold",
        "outbound_threshold",
        "body_limit_bytes",
    ];
    assert_eq!(numbers.map(|key| waf[key].as_u64()), [2, 7, 8, 2048].map(Some));
    assert!(waf["networks"].as_str().unwrap().ends_with("/networks.mmdb"));
    assert!(waf["countries"].as_str().unwrap().ends_with("/countries.mmdb"));
    assert_eq!(
        published["routes"][0]["policy"]["under_attack"],
        json!({ "requests_per_s": 2, "rate_divisor": 2, "header_timeout_ms": 400, "idle_timeout_ms": 700,
                "max_connections_per_client": 3 })
    );
    run(&["attack-mode", "off", "--env", "development"]);
    let statuses: Vec<u16> = (0..6).map(|_| get("/api/y", "203.0.113.12").0).collect();
    assert_eq!(statuses, [200; 6]);

    // All of it is audited; nothing of it can be asked of an environment that is not there.
    let audit = run(&["audit", "list", "--json"]).out;
    for action in ["maintenance on", "maintenance off", "attack on", "attack off"] {
        assert!(audit.contains(&format!("\"{action}\"")), "{action}");
    }
    let refused = platform.run(&["maintenance", "on", "--env", "staging"]).unwrap();
    assert_ne!(refused.code, 0);
}
