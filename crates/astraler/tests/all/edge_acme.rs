//! An edge that stands alone gets its certificates from a CA, by ACME. The CA is a strict one on loopback.

#![expect(clippy::disallowed_methods, reason = "tests: no file is for keeps")]

use crate::edge::{Running, get, get_over_tls, origin, path};
use crate::support::eventually;
use astraler_testkit::acme::{AcmeServer, Behaviour, Seen};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);
const NAME: &str = "www.shop-of-tests.com";

/// A folder with a file for the edge, a CA, and addresses that are free.
pub(crate) struct Place {
    folder: tempfile::TempDir,
    pub(crate) server: AcmeServer,
    pub(crate) http: SocketAddr,
    pub(crate) https: SocketAddr,
}

impl Place {
    pub(crate) fn new() -> Self {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (http, https) = (free(), free());
        let place = Self {
            folder: tempfile::tempdir().unwrap(),
            server: AcmeServer::start(Behaviour::default()).unwrap(),
            http: http.local_addr().unwrap(),
            https: https.local_addr().unwrap(),
        };
        std::fs::write(place.path("roots.pem"), place.server.roots()).unwrap();
        place
            .server
            .behave(|server| (server.http, server.tls) = (place.http, place.https));
        place.configure("", "");
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn configure(&self, tls: &str, more: &str) {
        let text = format!(
            "{more}\n[edge.tls]\nacme = true\nacme_directory_url = \"{}\"\nacme_roots = \"{}\"\n{tls}\n\
             [[sites]]\nhosts = [\"{NAME}\", \"app.test\"]\norigin = \"http://{}\"\n",
            self.server.directory_url(),
            self.path("roots.pem").display(),
            origin("app"),
        );
        std::fs::write(self.path("edge.toml"), text).unwrap();
    }

    pub(crate) fn start(&self, listen: &[(&str, SocketAddr)]) -> Running {
        self.start_with(listen, &[])
    }

    fn start_with(&self, listen: &[(&str, SocketAddr)], more: &[&str]) -> Running {
        let (file, state) = (self.path("edge.toml"), self.path("state"));
        let addresses: Vec<String> = listen.iter().map(|(_, address)| address.to_string()).collect();
        let mut words = vec!["--config", path(&file), "--state-folder", path(&state)];
        for ((kind, _), address) in listen.iter().zip(&addresses) {
            words.extend([*kind, address]);
        }
        words.extend(more);
        let log = File::options().create(true).append(true).open(self.path("log"));
        Running::logging(&words, log.unwrap())
    }

    pub(crate) fn both(&self) -> Running {
        self.start(&[("--listen", self.http), ("--listen-tls", self.https)])
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap()
    }

    /// A client that trusts the CA's root alone.
    fn ask(&self) -> std::io::Result<String> {
        let root = CertificateDer::from_pem_slice(self.server.authority().as_bytes()).unwrap();
        get_over_tls(self.https, NAME, &root)
    }

    fn is_served(&self) -> bool {
        self.ask().is_ok_and(|answer| answer.ends_with("app"))
    }
}

fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    u64::try_from(now.unwrap().as_millis()).unwrap()
}

#[test]
fn it_has_a_certificate_from_its_ca_and_one_that_is_killed_goes_on() {
    let place = Place::new();
    // The CA takes its time to issue: long enough to be killed in between.
    place
        .server
        .behave(|server| server.issue_takes = Duration::from_secs(2));
    let edge = place.both();
    let local = CertificateDer::from_pem_file(place.path("state/local-ca.pem")).unwrap();
    assert!(
        get_over_tls(place.https, "app.test", &local)
            .unwrap()
            .ends_with("app")
    );
    eventually("the CA is convinced", PATIENCE, || {
        place.server.seen().validated == 1
    });
    // Until there is one, the name is served as before.
    assert!(get(place.http, NAME).unwrap().ends_with("app"));
    drop(edge);

    let edge = place.both();
    eventually("the name has its certificate", PATIENCE, || place.is_served());
    let answer = place.ask().unwrap().to_ascii_lowercase();
    assert!(
        answer.contains("strict-transport-security: max-age=31536000"),
        "{answer}"
    );
    let moved = get(place.http, NAME).unwrap();
    let target = format!("location: https://{NAME}:{}/\r\n", place.https.port());
    assert!(
        moved.starts_with("HTTP/1.1 308") && moved.contains(&target),
        "{moved}"
    );
    assert!(
        get(place.http, "app.test").unwrap().ends_with("app"),
        "a private name is not"
    );
    let seen = place.server.seen();
    assert_eq!(
        (seen.accounts, seen.orders, seen.certificates, seen.validated),
        (1, 1, 1, 1),
        "{seen:?}"
    );
    assert_eq!(seen.problems, Default::default());

    // Everything that it keeps is its owner's alone.
    let mode = |path: PathBuf| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(place.path("state/acme")), 0o700);
    let mut kinds: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(place.path("state/acme")).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if name != "lock" {
            assert_eq!(mode(entry.path()), 0o600, "{name}");
        }
        kinds.extend(name.rsplit_once('.').map(|(_, kind)| kind.to_owned()));
    }
    kinds.sort();
    assert_eq!(
        kinds,
        ["json", "key", "key", "pem"],
        "record, account, order, certificate"
    );

    // A successor has it too, and asks for none.
    edge.signal(nix::sys::signal::Signal::SIGUSR2);
    let mut edge = edge;
    assert!(edge.child.wait().unwrap().success());
    assert!(place.is_served());
    assert_eq!(place.server.seen().orders, 1);
    let holder = astraler_host::port::holder(place.https).unwrap();
    crate::support::kill(holder.pid);
}

#[test]
fn killed_at_each_step_of_an_order_it_loses_nothing() {
    let place = Place::new();
    let issue_takes = Duration::from_secs(1);
    place.server.behave(|server| server.issue_takes = issue_takes);
    let until = |what: &str, is_so: &dyn Fn(&Seen) -> bool| {
        let edge = place.both();
        eventually(what, PATIENCE, || is_so(&place.server.seen()));
        drop(edge);
    };
    until("it has begun", &|_| true);
    until("there is an account", &|seen| seen.accounts > 0);
    until("there is an order", &|seen| seen.orders > 0);
    until("the CA is convinced", &|seen| seen.validated > 0);
    until("the CA has issued", &|seen| seen.certificates > 0);
    let _edge = place.both();
    eventually("the name has its certificate", PATIENCE, || place.is_served());
    let seen = place.server.seen();
    assert_eq!(
        (seen.accounts, seen.certificates),
        (1, 1),
        "{seen:?}\n{}",
        place.log()
    );
    // One that dies between the CA's word and the disk leaves an order that nobody knows of; one that dies while the CA
    // looks, an order that has failed.
    assert!(seen.orders <= 3, "{seen:?}\n{}", place.log());
}

#[test]
fn of_two_with_one_state_folder_one_asks_and_both_have_it() {
    let place = Place::new();
    place
        .server
        .behave(|server| server.issue_takes = Duration::from_secs(2));
    let _first = place.both();
    eventually("the CA is convinced", PATIENCE, || {
        place.server.seen().validated == 1
    });
    let second = place.start(&[("--listen-tls", ([127, 0, 0, 1], 0).into())]);
    let root = CertificateDer::from_pem_slice(place.server.authority().as_bytes()).unwrap();
    eventually("the second one has it", PATIENCE, || {
        get_over_tls(second.address, NAME, &root).is_ok_and(|answer| answer.ends_with("app"))
    });
    assert!(place.is_served());
    let seen = place.server.seen();
    assert_eq!(
        (seen.accounts, seen.orders, seen.certificates),
        (1, 1, 1),
        "{seen:?}"
    );
}

#[test]
fn what_the_ca_says_no_to_is_told_with_the_next_step_and_served_through() {
    let place = Place::new();
    let said = |edge: &Running, what: &str| {
        eventually(what, PATIENCE, || {
            place
                .log()
                .lines()
                .any(|line| line.contains("no certificate yet") && line.contains(what))
        });
        assert!(get(edge.address, NAME).unwrap().ends_with("app"));
        std::fs::remove_dir_all(place.path("state/acme")).ok();
        std::fs::remove_file(place.path("log")).unwrap();
    };
    place.server.behave(|server| server.down = true);
    said(&place.both(), "acme_directory_url");
    // Nobody is there where the name leads.
    let nowhere = Behaviour::default().http;
    place
        .server
        .behave(|server| (server.down, server.http) = (false, nowhere));
    said(
        &place.both(),
        "let www.shop-of-tests.com and its port 80 lead to this machine",
    );
    place
        .server
        .behave(|server| (server.rate_limited_s, server.http) = (Some(7_200), place.http));
    let edge = place.both();
    said(&edge, "it is asked again when the CA allows it");
    drop(edge);
    place.server.behave(|server| server.rate_limited_s = None);

    // Where nothing can be read or kept nobody is asked.
    let requests = place.server.seen().requests;
    std::fs::remove_dir_all(place.path("state/acme")).ok();
    std::fs::create_dir_all(place.path("state/acme/lock")).unwrap();
    said(&place.both(), "--state-folder");
    std::fs::write(place.path("state/acme"), "no folder").unwrap();
    let edge = place.both();
    eventually("it says so", PATIENCE, || place.log().contains("--state-folder"));
    assert!(get(edge.address, NAME).unwrap().ends_with("app"));
    assert_eq!(place.server.seen().requests, requests);
}

#[test]
fn over_tls_alone_it_is_proven_over_tls_and_renewed_while_it_serves() {
    let place = Place::new();
    place.server.behave(|server| {
        server.http = Behaviour::default().http;
        // Two thirds of it have passed when it is issued, and there are ten seconds to renew it.
        server.lifetime = Duration::from_secs(30);
        server.now_ms = Some(now_ms() - 20_000);
        // It has an opinion on renewal (RFC 9773), beyond the end.
        server.renewal_ms = Some(4_000_000_000_000);
    });
    // The site comes from the command line.
    let file = std::fs::read_to_string(place.path("edge.toml")).unwrap();
    let (tls, _) = file.split_once("[[sites]]").unwrap();
    std::fs::write(place.path("edge.toml"), tls.replace("acme = true", "")).unwrap();
    let origin = format!("http://{}", origin("app"));
    let listen = [("--listen-tls", place.https)];
    let nameless = place.start_with(&listen, &["--acme", "--origin", &origin]);
    eventually("what is missing is named", PATIENCE, || {
        place.log().contains("--host NAME")
    });
    drop(nameless);
    let words = [
        "--acme",
        "--host",
        NAME,
        "--email",
        "ops@a.test",
        "--origin",
        &origin,
    ];
    let _edge = place.start_with(&listen, &words);
    eventually("the name has its certificate", PATIENCE, || place.is_served());
    let end = Instant::now() + Duration::from_secs(11);
    place.server.behave(|server| {
        (server.lifetime, server.now_ms) = (Behaviour::default().lifetime, None);
    });
    eventually("it is renewed, and the first one has ended", PATIENCE, || {
        assert!(place.is_served(), "{}", place.log());
        Instant::now() > end
    });
    let seen = place.server.seen();
    assert_eq!(seen.problems, Default::default(), "{seen:?}");
    assert!(seen.certificates > 1 && seen.replaced > 0, "{seen:?}");
}
