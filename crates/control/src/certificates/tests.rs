//! Certificates of a CA over weeks that pass in no time, and a daemon that dies on the way. The CA is a strict server on
//! loopback, the store and the files are real, the edge is what reads its snapshot.

use super::*;
use crate::words::{Application, Origin};
use astraler_alert::Severity;
use astraler_host::sim::{SimClock, SimFaults, SimSupervisor};
use astraler_model::EdgeSnapshot;
use astraler_testkit::acme::{AcmeServer, Behaviour};
use serde_json::json;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const NAME: &str = "app.shop-of-tests.com";
const DAY_MS: u64 = 86_400_000;

fn daemon(folder: &Path) -> Daemon {
    let supervisor = SimSupervisor::new(7, SimFaults::NONE, SimClock::automatic(1_000));
    Daemon::new(Platform::simulated(folder, Arc::new(supervisor)))
}

/// Production of a public domain, whose CA is the server.
fn deployed(daemon: &Daemon, folder: &Path, server: &AcmeServer) {
    let roots = folder.join("roots.pem");
    astraler_host::file::replace(&roots, server.roots().as_bytes(), 0o644).unwrap();
    let tls = json!({ "acme": true, "acme_directory_url": server.directory_url(), "acme_roots": roots });
    let config = json!({ "name": "sim", "domain": "shop-of-tests.com", "edge": { "tls": tls } });
    let application = Application {
        config: serde_json::from_value(config).unwrap(),
        release: "sha256:a".into(),
        workers: vec![],
        assets: None,
        migrations: None,
        mask: None,
    };
    let platform = &daemon.platform;
    platform.want(Environment::Production).unwrap();
    let new = platform.new_deployment(Environment::Production, &application, "test", &Origin::default());
    let new = new.unwrap();
    platform.start_deployment(&new).unwrap();
    platform.switch_live(&new).unwrap();
}

/// What the edge does with its snapshot: says that it has it, and answers a CA.
async fn edge(platform: &Platform) -> SocketAddr {
    let layout = &platform.installation.layout;
    let socket = layout.status_socket("edge");
    std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
    std::fs::remove_file(&socket).ok();
    let status = tokio::net::UnixListener::bind(socket).unwrap();
    let http = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = http.local_addr().unwrap();
    let path = layout.snapshot("edge");
    let of = path.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = status.accept().await {
            let version = published(&of).version;
            answer(stream, move |_| {
                (200, json!({ "snapshot_version": version }).to_string())
            })
            .await;
        }
    });
    tokio::spawn(async move {
        while let Ok((stream, _)) = http.accept().await {
            let tokens = published(&path).tls.http_challenges;
            let found = move |target: &str| {
                let token = target.rsplit('/').next().unwrap_or_default();
                tokens
                    .get(token)
                    .map_or((404, String::new()), |found| (200, found.clone()))
            };
            answer(stream, found).await;
        }
    });
    address
}

fn published(path: &Path) -> EdgeSnapshot {
    publish::read(path).unwrap_or_default()
}

async fn answer<S>(mut stream: S, say: impl FnOnce(&str) -> (u16, String))
where
    S: AsyncReadExt + AsyncWriteExt + Unpin,
{
    let mut head = [0; 4096];
    let length = stream.read(&mut head).await.unwrap_or(0);
    let head = String::from_utf8_lossy(&head[..length]).into_owned();
    let (status, body) = say(head.split(' ').nth(1).unwrap_or_default());
    let text = format!(
        "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let _ = stream.write_all(text.as_bytes()).await;
}

/// One look, with that time for all that comes of it.
async fn look_at(daemon: &Daemon, told: &mut tell::Told, now: u64) -> Result<(), CertificatesError> {
    *daemon.platform.certificates.clock.lock().unwrap() = Some(now);
    look(daemon, told, now).await
}

fn alert(daemon: &Daemon) -> Option<Severity> {
    let open = daemon.alerts_report().unwrap().alerts.into_iter();
    open.filter(|alert| alert.key.rule == "certificates" && alert.state != astraler_alert::State::Resolved)
        .map(|alert| alert.severity)
        .next()
}

fn in_force(daemon: &Daemon) -> Option<astraler_tls::Facts> {
    let mut all = record::all(&daemon.platform).unwrap();
    all.remove(NAME)?.current.map(|current| current.facts)
}

/// The file that the edge shows for the name.
fn shown(daemon: &Daemon) -> PathBuf {
    let snapshot = published(&daemon.platform.installation.layout.snapshot("edge"));
    let mut all = snapshot.tls.certificates.into_iter();
    all.find(|one| one.names == [NAME]).unwrap().file
}

#[tokio::test]
async fn weeks_of_failing_renewals_are_heard_of_and_served_through_and_end_well() {
    let folder = tempfile::tempdir().unwrap();
    let server = AcmeServer::start(Behaviour::default()).unwrap();
    let daemon = daemon(folder.path());
    let http = edge(&daemon.platform).await;
    let begun = now_ms();
    server.behave(|server| (server.http, server.now_ms) = (http, Some(begun)));
    deployed(&daemon, folder.path(), &server);
    let mut told = tell::Told::default();
    look_at(&daemon, &mut told, begun).await.unwrap();
    let first = in_force(&daemon).unwrap();
    let file = shown(&daemon);
    assert_eq!(
        (first.names.as_slice(), alert(&daemon)),
        (&[NAME.to_owned()][..], None)
    );
    assert_eq!(server.seen().problems, Default::default());

    // The CA is away from the fortieth day on. Every six hours somebody looks.
    server.behave(|server| server.down = true);
    let mut heard = vec![];
    let asked = server.seen().requests;
    for quarter in 160..(91 * 4) {
        look_at(&daemon, &mut told, begun + quarter * DAY_MS / 4)
            .await
            .unwrap();
        if heard.last() != Some(&alert(&daemon)) {
            heard.push(alert(&daemon));
        }
        assert_eq!(
            shown(&daemon),
            file,
            "the old one is served, on day {}",
            quarter / 4
        );
        assert!(file.exists());
    }
    assert_eq!(heard, [None, Some(Severity::High), Some(Severity::Critical)]);
    let asked = server.seen().requests - asked;
    assert!((40..250).contains(&asked), "{asked} requests in seven weeks");

    let now = begun + 92 * DAY_MS;
    server.behave(|server| (server.down, server.now_ms) = (false, Some(now)));
    look_at(&daemon, &mut told, now).await.unwrap();
    assert!(in_force(&daemon).unwrap().not_after_ms > now + 89 * DAY_MS);
    assert_ne!(shown(&daemon), file);
    look_at(&daemon, &mut told, now + 1_000).await.unwrap();
    // The book tells of it with its next step.
    daemon
        .raise_alert("a step", None, Severity::Low, "time passes".to_owned())
        .unwrap();
    assert_eq!(alert(&daemon), None);
    assert!(!file.exists(), "old files go");
    let seen = server.seen();
    assert_eq!((seen.accounts, seen.certificates, seen.orders_open), (1, 2, 0));
}

/// The clock is years ahead, then right again: what was noted meanwhile keeps nothing from going on.
#[tokio::test]
async fn a_clock_that_goes_there_and_back_puts_no_certificate_off() {
    let folder = tempfile::tempdir().unwrap();
    let server = AcmeServer::start(Behaviour::default()).unwrap();
    let daemon = daemon(folder.path());
    let http = edge(&daemon.platform).await;
    let begun = now_ms();
    server.behave(|server| (server.http, server.now_ms) = (http, Some(begun)));
    deployed(&daemon, folder.path(), &server);
    let mut told = tell::Told::default();
    look_at(&daemon, &mut told, begun).await.unwrap();
    let first = in_force(&daemon).unwrap();

    server.behave(|server| server.down = true);
    let ahead = begun + 1_000 * DAY_MS;
    look_at(&daemon, &mut told, ahead).await.unwrap();
    let right = begun + 62 * DAY_MS;
    server.behave(|server| (server.down, server.now_ms) = (false, Some(right)));
    look_at(&daemon, &mut told, right).await.unwrap();
    assert!(
        in_force(&daemon).unwrap().not_after_ms > first.not_after_ms,
        "renewed in its turn"
    );
    // Back to before all that: nothing is asked for over and over.
    let seen = server.seen().certificates;
    for minute in 0..20 {
        look_at(&daemon, &mut told, begun - DAY_MS + minute * 60_000)
            .await
            .unwrap();
    }
    assert_eq!(server.seen().certificates, seen);
}

/// What the local CA issued while the clock was a year ahead is of no use to anybody once it is right again.
#[tokio::test]
async fn a_local_certificate_from_the_future_is_issued_anew_when_the_clock_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let server = AcmeServer::start(Behaviour::default()).unwrap();
    let daemon = daemon(folder.path());
    deployed(&daemon, folder.path(), &server);
    let platform = &daemon.platform;
    let right = now_ms();
    let ahead = right + 365 * DAY_MS;
    let current = || {
        let mut all = record::all(platform).unwrap();
        all.remove("production").unwrap().current.unwrap()
    };
    local::issue(platform, ahead).unwrap();
    let (root, of_the_future) = (local::root(platform).unwrap(), current());
    assert!(of_the_future.facts.not_before_ms > right);

    assert!(local::is_due(platform, right).unwrap());
    local::issue(platform, right).unwrap();
    assert!(current().facts.not_before_ms < right && current().file != of_the_future.file);
    assert_eq!(
        local::root(platform).unwrap(),
        root,
        "nobody trusts another root for it"
    );
    let root = astraler_tls::inspect(&root.unwrap()).unwrap();
    assert!(root.not_before_ms < right, "{root:?}");
    // By less than what is dated back: as clocks are corrected every day.
    assert!(!local::is_due(platform, right).unwrap());
    assert!(!local::is_due(platform, right - 1_800_000).unwrap());
    assert!(local::is_due(platform, right - 2 * 3_600_000).unwrap());
}

#[tokio::test]
async fn a_daemon_that_dies_at_any_moment_of_an_order_leaves_none_behind() {
    let folder = tempfile::tempdir().unwrap();
    let server = AcmeServer::start(Behaviour::default()).unwrap();
    let first = daemon(folder.path());
    let http = edge(&first.platform).await;
    server.behave(|server| server.http = http);
    deployed(&first, folder.path(), &server);
    drop(first);
    // Each life is a little longer than the one before; the last one is long enough.
    let (mut lives, mut without_order) = (0_u32, 0);
    loop {
        lives += 1;
        let daemon = daemon(folder.path());
        let mut told = tell::Told::default();
        let records = record::all(&daemon.platform).unwrap();
        without_order += u32::from(records.values().all(|record| record.order.is_none()));
        let life = Duration::from_millis(u64::from(lives) * 15);
        let done = tokio::time::timeout(life, look_at(&daemon, &mut told, now_ms())).await;
        if done.is_ok() && in_force(&daemon).is_some() {
            break;
        }
        assert!(lives < 400, "{:?}", record::all(&daemon.platform).unwrap());
    }
    let seen = server.seen();
    assert!(lives > 3, "it was cut short");
    assert_eq!((seen.accounts, seen.certificates), (1, 1), "{seen:?}");
    // A life that finds an order written down begins no other. One that ends between the CA's word and the store leaves an
    // order that nobody knows of, which the CA forgets.
    assert!(seen.orders <= without_order as usize, "{seen:?}, {without_order}");
    assert_eq!(seen.orders_open, seen.orders - 1, "{seen:?}");
}

#[tokio::test]
async fn a_daemon_that_dies_while_the_ca_looks_costs_no_pause() {
    let folder = tempfile::tempdir().unwrap();
    let server = AcmeServer::start(Behaviour::default()).unwrap();
    // Nobody answers there, but for the time of a validation.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    server.behave(|server| server.http = silent.local_addr().unwrap());
    let first = daemon(folder.path());
    edge(&first.platform).await;
    deployed(&first, folder.path(), &server);
    let mut told = tell::Told::default();
    tokio::select! {
        _ = look_at(&first, &mut told, now_ms()) => panic!("the CA looks for seconds"),
        looking = silent.accept() => drop(looking.unwrap()),
    }
    drop((first, silent));
    let second = daemon(folder.path());
    let http = edge(&second.platform).await;
    while server.seen().orders_open > 0 {
        tokio::task::yield_now().await;
    }
    server.behave(|server| server.http = http);
    look_at(&second, &mut told, now_ms()).await.unwrap();
    assert_eq!(in_force(&second).unwrap().names, [NAME]);
    assert_eq!((server.seen().orders, server.seen().certificates), (2, 1));
}

#[tokio::test]
async fn a_rate_limit_is_kept_to_and_a_proof_that_fails_begins_another_order() {
    let folder = tempfile::tempdir().unwrap();
    let server = AcmeServer::start(Behaviour::default()).unwrap();
    let daemon = daemon(folder.path());
    deployed(&daemon, folder.path(), &server);
    let http = edge(&daemon.platform).await;
    server.behave(|server| server.rate_limited_s = Some(2 * 86_400));
    let (mut told, now) = (tell::Told::default(), now_ms());
    look_at(&daemon, &mut told, now).await.unwrap();
    let asked = server.seen().requests;
    for hour in 1..47 {
        look_at(&daemon, &mut told, now + hour * 3_600_000).await.unwrap();
    }
    assert_eq!(
        server.seen().requests,
        asked,
        "nobody asks before the CA wants it"
    );
    // It looks where nobody answers.
    server.behave(|server| server.rate_limited_s = None);
    look_at(&daemon, &mut told, now + 49 * 3_600_000).await.unwrap();
    let record = record::all(&daemon.platform).unwrap().remove(NAME).unwrap();
    assert!(record.order.is_none() && record.failures == 2, "{record:?}");
    let error = record.error.unwrap();
    assert!(
        error.contains("the order has failed") && error.contains("port 80"),
        "{error}"
    );
    server.behave(|server| server.http = http);
    look_at(&daemon, &mut told, now + 60 * 3_600_000).await.unwrap();
    assert_eq!(in_force(&daemon).unwrap().names, [NAME]);
    assert_eq!((server.seen().orders, server.seen().orders_open), (2, 0));
}
