//! https on a running platform, as real clients meet it: curl, openssl, Node.

use crate::support::{eventually, is_root, kill, small};
use astraler_testkit::acme::{AcmeServer, Behaviour};
use astraler_testkit::{Finished, Platform};
use serde_json::Value;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

fn run(platform: &Platform, words: &str) -> Finished {
    platform.run(&words.split(' ').collect::<Vec<_>>()).unwrap()
}

fn port(platform: &Platform) -> String {
    let table = std::fs::read(platform.state().join("ports.json")).unwrap();
    let table: Value = serde_json::from_slice(&table).unwrap();
    table["https"].to_string()
}

/// The local CA's certificate, as a user gets it.
fn authority(platform: &Platform) -> PathBuf {
    let said = run(platform, "tls trust --json").ok().json();
    PathBuf::from(said["certificate"].as_str().unwrap())
}

/// curl with the local CA; standard output, and whether it succeeded.
fn curl(platform: &Platform, ca: &Path, host: &str, path: &str, more: &[&str]) -> (String, bool) {
    let port = port(platform);
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "10", "--cacert"])
        .arg(ca)
        .args(["--resolve", &format!("{host}:{port}:127.0.0.1")])
        .args(more)
        .arg(format!("https://{host}:{port}{path}"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (
        text + &String::from_utf8_lossy(&output.stderr),
        output.status.success(),
    )
}

/// What `openssl s_client` says.
fn openssl(platform: &Platform, words: &[&str]) -> String {
    let address = format!("127.0.0.1:{}", port(platform));
    let mut child = Command::new("openssl")
        .args(["s_client", "-connect", &address])
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    // Tickets of TLS 1.3 follow the handshake: an answer has to be waited for.
    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let _ = input.write_all(request);
    let output = child.wait_with_output().unwrap();
    drop(input);
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn list(platform: &Platform) -> Vec<Value> {
    let report = run(platform, "tls list --json").ok().json();
    report["certificates"].as_array().unwrap().clone()
}

/// Of one environment, from the local CA.
fn until(platform: &Platform, environment: &str) -> (Value, Value) {
    let all = list(platform);
    let one = all
        .iter()
        .find(|one| one["environment"] == environment && one["source"] == "local");
    let one = one.unwrap();
    (one["not_after_ms"].clone(), one["error"].clone())
}

#[test]
fn https_is_there_by_itself_and_as_the_manifest_says() {
    let platform = small();
    let said = platform.up(&["--env", "production"]).unwrap().ok();
    let address = format!("https://app.localhost:{}", port(&platform));
    assert!(
        said.out.contains(&address) || said.err.contains(&address),
        "{}{}",
        said.out,
        said.err
    );
    platform.up(&[]).unwrap().ok();
    let ca = authority(&platform);

    // The names of each environment, in curl and in Node; nobody else's root does it.
    for host in ["localhost", "127.0.0.1", "app.localhost", "app.small.example"] {
        let (answer, ok) = curl(&platform, &ca, host, "/api/health", &["--include"]);
        assert!(ok && answer.contains(" 200 "), "{host}: {answer}");
        assert!(
            !answer.to_ascii_lowercase().contains("strict-transport-security"),
            "{answer}"
        );
    }
    let (refused, ok) = curl(
        &platform,
        Path::new("/etc/ssl/certs/ca-certificates.crt"),
        "localhost",
        "/",
        &[],
    );
    assert!(!ok && refused.contains("certificate"), "{refused}");
    let script = format!(
        "fetch('https://127.0.0.1:{}/api/health').then(async r => console.log(r.status, await r.text()))",
        port(&platform)
    );
    let node = Command::new("node")
        .arg("-e")
        .arg(script)
        .env("NODE_EXTRA_CA_CERTS", &ca)
        .output()
        .unwrap();
    let node = String::from_utf8_lossy(&node.stdout).into_owned() + &String::from_utf8_lossy(&node.stderr);
    assert!(node.starts_with("200 "), "{node}");

    // Keys are files of the edge's group and nobody else's; the authority's is in none.
    for entry in std::fs::read_dir(platform.state().join("tls")).unwrap().flatten() {
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, if is_root() { 0o640 } else { 0o600 }, "{:?}", entry.path());
    }
    assert!(!std::fs::read_to_string(&ca).unwrap().contains("PRIVATE"));

    // Versions, names, resumption.
    let old = openssl(&platform, &["-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0"]);
    assert!(
        old.contains("no peer certificate available") && !old.contains("BEGIN CERTIFICATE"),
        "{old}"
    );
    let named = openssl(
        &platform,
        &["-servername", "app.localhost", "-CAfile", ca.to_str().unwrap()],
    );
    assert!(
        named.contains("Verification: OK") && named.contains("TLSv1.3"),
        "{named}"
    );
    for version in ["-tls1_2", "-tls1_3"] {
        let session = platform.application().join("session");
        let session = session.to_str().unwrap();
        let first = openssl(
            &platform,
            &[version, "-servername", "localhost", "-sess_out", session],
        );
        assert!(first.contains("New, TLSv1"), "{first}");
        let second = openssl(
            &platform,
            &[version, "-servername", "localhost", "-sess_in", session],
        );
        assert!(second.contains("Reused, TLSv1"), "{version}: {second}");
    }

    // At each address a queue for each thread.
    let units = std::fs::read(platform.state().join("keep/units.json")).unwrap();
    let units: Value = serde_json::from_slice(&units).unwrap();
    let listeners = units["units"]["edge"]["spec"]["listeners"].as_array().unwrap();
    let of_https = |listener: &&Value| listener["name"].as_str().unwrap().starts_with("https-0");
    let processors = std::thread::available_parallelism().unwrap().get();
    assert_eq!(
        listeners.iter().filter(of_https).count(),
        processors.min(16),
        "{listeners:?}"
    );

    // Renewed on demand: the next client sees the new one, without a restart of the edge.
    let edge = platform.pid("edge").unwrap();
    let shown = |host: &str| {
        let said = openssl(&platform, &["-servername", host, "-showcerts"]);
        let leaf = said.split("BEGIN CERTIFICATE").nth(1).unwrap();
        leaf.split("END CERTIFICATE").next().unwrap().to_owned()
    };
    let (before, stays) = (shown("app.localhost"), shown("localhost"));
    assert_eq!(shown("app.localhost"), before);
    run(&platform, "tls renew production --json").ok();
    eventually("the new certificate is shown", PATIENCE, || {
        shown("app.localhost") != before
    });
    assert_eq!(platform.pid("edge").unwrap(), edge);
    assert_eq!(shown("localhost"), stays, "development's stays");
    assert!(run(&platform, "tls renew nowhere.example").code != 0);

    // The data plane needs no daemon for it, and the next daemon has the same authority.
    let (end, error) = until(&platform, "production");
    assert!(end.is_u64() && error.is_null(), "{end} {error}");
    kill(platform.pid("daemon").unwrap().unwrap());
    assert!(curl(&platform, &ca, "app.localhost", "/api/health", &[]).1);
    eventually("the daemon is back", PATIENCE, || {
        run(&platform, "status").code == 0
    });
    assert_eq!(until(&platform, "production").0, end);
    assert_eq!(
        std::fs::read(authority(&platform)).unwrap(),
        std::fs::read(&ca).unwrap()
    );

    as_the_manifest_says(&platform, &ca);
}

/// Another port, another oldest version, and https only.
fn as_the_manifest_says(platform: &Platform, ca: &Path) {
    let (answer, _) = plain(platform, "app.small.example", "/api/health?a=b");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let old = openssl(platform, &["-tls1_2"]);
    assert!(old.contains("TLSv1.2"), "{old}");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let named = free.local_addr().unwrap().port();
    drop(free);
    let manifest = platform.application().join("astraler.toml");
    let mut manifest = std::fs::File::options().append(true).open(manifest).unwrap();
    let keys = format!(
        "\n[edge]\nhttps_port = {named}\n[edge.tls]\nmin_version = \"1.3\"\nhttps_only = \"all\"\nhsts_max_age_days = 30\n"
    );
    manifest.write_all(keys.as_bytes()).unwrap();
    platform.up(&["--env", "production"]).unwrap().ok();

    assert_eq!(port(platform), named.to_string());
    let (moved, _) = plain(platform, "app.small.example", "/api/health?a=b");
    assert!(moved.starts_with("HTTP/1.1 308 "), "{moved}");
    let target = format!("location: https://app.small.example:{named}/api/health?a=b\r\n");
    assert!(moved.contains(&target), "{moved}");
    let (kept, _) = plain(platform, "localhost", "/api/health");
    assert!(kept.starts_with("HTTP/1.1 200 "), "{kept}");
    let (answer, ok) = curl(platform, ca, "app.small.example", "/api/health", &["--include"]);
    let answer = answer.to_ascii_lowercase();
    assert!(
        ok && answer.contains("strict-transport-security: max-age=2592000"),
        "{answer}"
    );
    let (answer, ok) = curl(platform, ca, "app.localhost", "/api/health", &["--include"]);
    assert!(
        ok && !answer.to_ascii_lowercase().contains("strict-transport-security"),
        "{answer}"
    );
    let old = openssl(platform, &["-tls1_2"]);
    assert!(old.contains("alert protocol version"), "{old}");
}

/// curl over plain HTTP.
fn plain(platform: &Platform, host: &str, path: &str) -> (String, bool) {
    let output = Command::new("curl")
        .args(["--silent", "--include", "--http1.1", "--max-time", "10"])
        .args(["--header", &format!("Host: {host}")])
        .arg(format!("http://127.0.0.1:{}{path}", platform.port))
        .output()
        .unwrap();
    (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        output.status.success(),
    )
}

#[test]
fn a_public_name_gets_a_certificate_from_its_ca_and_a_killed_daemon_goes_on() {
    let platform = small();
    let server = AcmeServer::start(Behaviour::default()).unwrap();
    let roots = platform.application().join("roots.pem");
    std::fs::File::create(&roots)
        .unwrap()
        .write_all(server.roots().as_bytes())
        .unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let https = free.local_addr().unwrap();
    drop(free);
    let manifest = platform.application().join("astraler.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let keys = format!(
        "\n[edge]\nhttps_port = {}\n[edge.tls]\nacme = true\nacme_directory_url = \"{}\"\nacme_roots = \"{}\"\n\
         acme_challenge = \"tls-alpn-01\"\nemail = \"ops@small-shop.com\"\n",
        https.port(),
        server.directory_url(),
        roots.display()
    );
    let text = text.replace("small.example", "small-shop.com") + &keys;
    std::fs::File::create(&manifest)
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    // The CA takes its time to issue: long enough to be killed in between.
    server.behave(|server| {
        server.tls = https;
        server.issue_takes = Duration::from_secs(2);
    });
    platform.up(&["--env", "production"]).unwrap().ok();
    eventually("the CA is convinced", PATIENCE, || {
        server.seen().certificates == 1
    });
    kill(platform.pid("daemon").unwrap().unwrap());

    let ca = platform.application().join("authority.pem");
    std::fs::File::create(&ca)
        .unwrap()
        .write_all(server.authority().as_bytes())
        .unwrap();
    let shows = || {
        curl(
            &platform,
            &ca,
            "app.small-shop.com",
            "/api/health",
            &["--include"],
        )
    };
    eventually("the name has its certificate", PATIENCE, || shows().1);
    let (answer, _) = shows();
    assert!(
        answer
            .to_ascii_lowercase()
            .contains("strict-transport-security: max-age=31536000"),
        "{answer}"
    );
    let seen = server.seen();
    assert_eq!(
        (seen.accounts, seen.orders, seen.certificates, seen.validated),
        (1, 1, 1, 1),
        "{seen:?}"
    );
    let all = list(&platform);
    let one = all.iter().find(|one| one["source"] == "acme").unwrap();
    assert_eq!(one["issuer"], "Strict Test CA");
    let (moved, _) = plain(&platform, "app.small-shop.com", "/");
    assert!(moved.starts_with("HTTP/1.1 308 "), "{moved}");

    proven_by_dns(&platform, &server);
}

/// The next one by DNS-01: the CA asks our own name server, and nothing else of us.
fn proven_by_dns(platform: &Platform, server: &AcmeServer) {
    let free = |port: &u16| {
        std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok()
            && std::net::UdpSocket::bind(("127.0.0.1", *port)).is_ok()
    };
    let port = (23_053..25_053).find(free).unwrap();
    let manifest = platform.application().join("astraler.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let text = text.replace("tls-alpn-01", "dns-01") + &format!("[edge.dns]\nport = {port}\n");
    std::fs::File::create(&manifest)
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    platform.up(&["--env", "production"]).unwrap().ok();
    let nowhere = Behaviour::default().tls;
    server.behave(|server| {
        server.tls = nowhere;
        server.dns = Some(std::net::SocketAddr::from(([127, 0, 0, 1], port)));
        server.issue_takes = Duration::ZERO;
    });
    run(platform, "tls renew app.small-shop.com").ok();
    eventually("the CA is convinced by DNS", PATIENCE, || {
        server.seen().certificates == 2
    });
    assert_eq!(server.seen().validated, 2);
    let proof = || {
        let port = port.to_string();
        let output = Command::new("dig")
            .args([
                "@127.0.0.1",
                "-p",
                &port,
                "+short",
                "TXT",
                "_acme-challenge.app.small-shop.com",
            ])
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    eventually("the proof is taken away", PATIENCE, || proof().is_empty());
    eventually("the next one is in force", PATIENCE, || {
        let all = list(platform);
        let one = all.iter().find(|one| one["source"] == "acme").unwrap();
        one["error"].is_null() && one["failures"] == 0
    });
}
