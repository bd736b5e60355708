//! A notice on its way, and a daemon that is killed after each thing that it writes down or says; a channel that is away
//! for an hour; a clock that jumps. The store and the mail server are real, the time is made up.

use super::*;
use crate::words::{Application, Origin};
use astraler_alert::{Patience, Sender, Severity};
use astraler_host::sim::{SimClock, SimFaults, SimSupervisor};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

const MINUTE_MS: u64 = 60_000;

/// A mail server that counts what it takes.
async fn mail_server() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = BufReader::new(stream);
            let (mut answer, mut in_mail) = ("220 sink\r\n", false);
            loop {
                if !answer.is_empty() && stream.get_mut().write_all(answer.as_bytes()).await.is_err() {
                    break;
                }
                let mut line = String::new();
                if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                    break;
                }
                answer = match line.as_str() {
                    ".\r\n" if in_mail => {
                        count.fetch_add(1, Ordering::SeqCst);
                        in_mail = false;
                        "250 ok\r\n"
                    }
                    _ if in_mail => "",
                    line if line.starts_with("DATA") => {
                        in_mail = true;
                        "354 go on\r\n"
                    }
                    line if line.starts_with("EHLO") => "250 sink\r\n",
                    _ => "250 ok\r\n",
                };
            }
        }
    });
    (port, taken)
}

/// A daemon on what lies in the folder: after a kill, the next one.
fn daemon(folder: &Path) -> Daemon {
    let supervisor = SimSupervisor::new(7, SimFaults::NONE, SimClock::automatic(1_000));
    Daemon::new(Platform::simulated(folder, Arc::new(supervisor)))
}

/// Production, whose alerts of all severities go to the mail server.
fn deployed(daemon: &Daemon, port: u16) {
    let severity = json!({ "channels": ["email"] });
    let alerts = json!({
        "critical": severity, "high": severity, "medium": severity, "low": severity,
        "email": { "host": "127.0.0.1", "port": port, "tls": "none", "from": "a@sim.example", "to": ["b@sim.example"] },
    });
    let config = json!({ "name": "sim", "domain": "sim.example", "alerts": alerts });
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

fn raise(daemon: &Daemon, rule: &str) -> u64 {
    daemon
        .raise_alert(rule, None, Severity::Critical, "it is broken".to_owned())
        .unwrap()
}

fn passes(daemon: &Daemon, passed_ms: u64, wall_ms: u64) {
    let pass = |live: &mut Live| {
        live.book.pass(Tick { wall_ms, passed_ms });
        Ok(())
    };
    daemon.alerts.with(&daemon.platform, pass).unwrap();
}

async fn attempt(daemon: &Daemon) -> bool {
    let sender = Sender::new(Patience::default()).unwrap();
    send::attempt(daemon, &sender, Channel::Email).await.unwrap()
}

/// Where the daemon is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Killed {
    Before,
    Begun,
    Heard,
    Ended,
}

#[tokio::test]
async fn whoever_is_killed_at_any_step_of_a_delivery_doubles_nothing_within_a_minute_and_loses_nothing() {
    for step in [Killed::Before, Killed::Begun, Killed::Heard, Killed::Ended] {
        let folder = tempfile::tempdir().unwrap();
        let (port, taken) = mail_server().await;
        let heard = || taken.load(Ordering::SeqCst);
        let first = daemon(folder.path());
        deployed(&first, port);
        raise(&first, "backup");
        match step {
            Killed::Before => {}
            Killed::Ended => assert!(attempt(&first).await),
            Killed::Begun | Killed::Heard => {
                let begun = send::begin(&first, Channel::Email).unwrap().unwrap();
                if step == Killed::Heard {
                    let sender = Sender::new(Patience::default()).unwrap();
                    send::send(&first, &sender, &begun).await.unwrap();
                }
            }
        }
        drop(first);
        let next = daemon(folder.path());
        let before = heard();
        let unsure = matches!(step, Killed::Begun | Killed::Heard);
        assert_eq!(attempt(&next).await, step == Killed::Before, "{step:?}");
        passes(&next, MINUTE_MS - 2_000, now_ms());
        assert!(!attempt(&next).await, "{step:?}: within the minute");
        assert_eq!(heard(), before + usize::from(step == Killed::Before), "{step:?}");
        passes(&next, 2_000, now_ms());
        assert_eq!(attempt(&next).await, unsure, "{step:?}: after the minute");
        let twice = step == Killed::Heard;
        assert_eq!(heard(), 1 + usize::from(twice), "{step:?}");
        // It is delivered, and stays so.
        passes(&next, 10 * MINUTE_MS, now_ms());
        assert!(!attempt(&next).await, "{step:?}");
        assert_eq!(next.alerts_report().unwrap().undelivered, [], "{step:?}");
    }
}

#[tokio::test]
async fn a_channel_that_is_away_for_an_hour_hears_all_in_order_whatever_the_clock_says() {
    let folder = tempfile::tempdir().unwrap();
    let (port, taken) = mail_server().await;
    let nobody = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let away = nobody.local_addr().unwrap().port();
    drop(nobody);
    let daemon = daemon(folder.path());
    deployed(&daemon, away);
    let mut tries = 0;
    for minute in 0..60_u64 {
        if minute % 20 == 0 {
            raise(&daemon, &format!("backup {minute}"));
        }
        // A day ahead, an hour back.
        let jump = if minute.is_multiple_of(2) { 86_400_000 } else { 0 };
        passes(&daemon, MINUTE_MS, now_ms() + jump - 3_600_000);
        while attempt(&daemon).await {
            tries += 1;
        }
    }
    assert!((10..40).contains(&tries), "{tries} attempts");
    assert_eq!(daemon.alerts_report().unwrap().undelivered.len(), 3);
    deployed(&daemon, port);
    // At most five minutes later, one after the other.
    passes(&daemon, 5 * MINUTE_MS, now_ms());
    let mut sent = 0;
    while attempt(&daemon).await {
        sent += 1;
    }
    assert_eq!((sent, taken.load(Ordering::SeqCst)), (3, 3));
}

#[test]
fn what_is_raised_again_is_the_same_alert_and_what_is_lowered_ends() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = daemon(folder.path());
    deployed(&daemon, 25);
    let number = raise(&daemon, "backup");
    assert_eq!(raise(&daemon, "backup"), number);
    assert_ne!(raise(&daemon, "drill"), number);
    let notices = |daemon: &Daemon| daemon.platform.store.alert_deliveries_open().unwrap().len();
    assert_eq!(notices(&daemon), 2, "each is told once");
    daemon.lower_alert("backup", None).unwrap();
    daemon.lower_alert("nothing", None).unwrap();
    let policy = Settings::of(&daemon.platform).unwrap().policy;
    let look = |live: &mut Live| {
        let measured = unmeasured(&live.book);
        let tick = live.tick();
        let outcome = live.book.step(tick, &measured, &policy);
        Ok(Some((outcome.notices, outcome.ended)))
    };
    daemon.alerts.change(&daemon.platform, look).unwrap();
    assert_eq!(notices(&daemon), 3, "and its end");
    assert_ne!(raise(&daemon, "backup"), number, "later it is another one");
}
