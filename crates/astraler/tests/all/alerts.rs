//! Alerts on a real platform: who hears what, through sinks that go away, and a daemon that is killed.

use crate::support::{PROGRAM, eventually, kill};
use astraler_testkit::{Finished, Platform, small_application};
use serde_json::json;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// PagerDuty, Slack and a mail server in one: it hears what is said, or answers that it is away.
struct Sink {
    port: u16,
    away: Arc<AtomicBool>,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Sink {
    fn new(speak: fn(TcpStream, bool) -> Option<String>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (away, heard) = (Arc::new(AtomicBool::new(true)), Arc::new(Mutex::new(vec![])));
        let (gone, all) = (Arc::clone(&away), Arc::clone(&heard));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (gone, all) = (Arc::clone(&gone), Arc::clone(&all));
                std::thread::spawn(move || {
                    let said = speak(stream, gone.load(Ordering::SeqCst));
                    all.lock().unwrap().extend(said);
                });
            }
        });
        Self { port, away, heard }
    }

    fn heard(&self, words: &str) -> usize {
        let all = self.heard.lock().unwrap();
        all.iter().filter(|said| said.contains(words)).count()
    }
}

fn http(stream: TcpStream, away: bool) -> Option<String> {
    let mut stream = BufReader::new(stream);
    let (mut said, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        said.push_str(&line);
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    said.push_str(&String::from_utf8(body).unwrap());
    let (status, answer) = match (away, said.starts_with("POST /v2/enqueue ")) {
        (true, _) => ("503 Away", "away"),
        (false, true) => ("202 Accepted", "{}"),
        (false, false) => ("200 OK", "ok"),
    };
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{answer}",
        answer.len()
    );
    stream.get_mut().write_all(answer.as_bytes()).ok()?;
    (!away).then_some(said)
}

fn smtp(stream: TcpStream, away: bool) -> Option<String> {
    let mut stream = BufReader::new(stream);
    let (mut said, mut in_mail) = (String::new(), false);
    let mut answer = if away { "421 away\r\n" } else { "220 sink\r\n" };
    loop {
        stream.get_mut().write_all(answer.as_bytes()).ok()?;
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
            let ends = line == ".\r\n";
            said.push_str(&line);
            if !in_mail || ends {
                answer = match line.get(..4).unwrap_or_default() {
                    "EHLO" => "250-sink\r\n250 AUTH PLAIN\r\n",
                    "AUTH" => "235 welcome\r\n",
                    "DATA" => "354 go on\r\n",
                    "QUIT" => return Some(said),
                    _ => "250 ok\r\n",
                };
                in_mail = line.starts_with("DATA");
                break;
            }
        }
    }
}

fn piped(platform: &Platform, arguments: &[&str], text: &str) -> Finished {
    let mut child = platform.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    Finished {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
        took: Duration::ZERO,
    }
}

#[test]
fn an_alert_reaches_its_channels_once_also_when_they_were_away_and_the_daemon_was_killed() {
    let (web, mail) = (Sink::new(http), Sink::new(smtp));
    let platform = Platform::new(PROGRAM, |folder| {
        small_application(folder)?;
        let manifest = folder.join("astraler.toml");
        let mut text = std::fs::read_to_string(&manifest)?;
        text.push_str(&format!(
            r#"
[alerts.critical]
channels = ["pagerduty", "slack", "email"]
acknowledge_minutes = 5
repeat_minutes = 6
[alerts.high]
channels = ["pagerduty"]
acknowledge_minutes = 7
repeat_minutes = 8
[alerts.medium]
channels = ["slack"]
acknowledge_minutes = 9
repeat_minutes = 10
[alerts.low]
channels = ["email"]
acknowledge_minutes = 11
repeat_minutes = 12
[alerts.pagerduty]
secret = "PD_KEY"
url = "http://127.0.0.1:{web}/v2/enqueue"
[alerts.slack]
secret = "HOOK"
[alerts.email]
host = "127.0.0.1"
port = {mail}
tls = "none"
from = "alerts@small.example"
to = ["ada@small.example"]
username = "alerts"
secret = "MAIL"
"#,
            web = web.port,
            mail = mail.port
        ));
        std::fs::File::create(&manifest)?.write_all(text.as_bytes())
    })
    .unwrap();
    platform.up(&[]).unwrap().ok();
    let run = |words: &str| {
        let words: Vec<&str> = words.split(' ').collect();
        platform.run(&words).unwrap()
    };
    let list = || run("alerts list --json").ok().json();

    // The manifest counts, and what is missing is said.
    let policy = list()["policy"]["routes"].clone();
    for (severity, channels, acknowledge, repeat) in [
        ("critical", json!(["pagerduty", "slack", "email"]), 300, 360),
        ("high", json!(["pagerduty"]), 420, 480),
        ("medium", json!(["slack"]), 540, 600),
        ("low", json!(["email"]), 660, 720),
    ] {
        let route = &policy[severity];
        assert_eq!(route["channels"], channels);
        assert_eq!(route["acknowledge_s"], acknowledge);
        assert_eq!(route["repeat_s"], repeat);
    }
    let said = run("alerts list").ok().out;
    assert!(said.contains("nothing fires"), "{said}");
    assert!(
        said.contains("astraler secrets set PD_KEY --env platform"),
        "{said}"
    );

    let url = format!("http://127.0.0.1:{}/services/CANARY-HOOK", web.port);
    for (name, value) in [
        ("PD_KEY", "CANARY-KEY"),
        ("HOOK", url.as_str()),
        ("MAIL", "CANARY-MAIL"),
    ] {
        piped(&platform, &["secrets", "set", name, "--env", "platform"], value).ok();
        run(&format!("secrets grant {name} --env platform --to alerts")).ok();
    }
    assert_eq!(
        list()["channels"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|one| !one["missing"].is_null())
            .count(),
        0
    );

    // All are away: notices wait, and say so; a daemon that is killed meanwhile forgets none.
    run("alerts test --severity critical").ok();
    let waiting = |least: u64| {
        let list = list();
        let undelivered = list["undelivered"].as_array().unwrap();
        undelivered.len() == 3
            && undelivered
                .iter()
                .all(|one| one["attempts"].as_u64() >= Some(least) && one["error"].is_string())
    };
    eventually("three notices wait", Duration::from_secs(20), || waiting(2));
    kill(platform.pid("daemon").unwrap().unwrap());
    eventually("they wait still", Duration::from_secs(20), || {
        let answer = platform.run(&["alerts", "list", "--json"]).unwrap();
        answer.code == 0 && answer.json()["undelivered"].as_array().unwrap().len() == 3
    });
    web.away.store(false, Ordering::SeqCst);
    mail.away.store(false, Ordering::SeqCst);
    // One that was under way when the daemon was killed waits a minute.
    eventually("all have heard", Duration::from_secs(90), || {
        web.heard("POST /v2/enqueue ") > 0 && web.heard("POST /services/") > 0 && mail.heard("DATA") > 0
    });
    assert_eq!(web.heard("\"event_action\":\"trigger\""), 1);
    assert_eq!(
        web.heard("[CRITICAL] platform: test-"),
        2,
        "PagerDuty and Slack, once each"
    );
    assert_eq!(mail.heard("Subject: [CRITICAL] platform: test-"), 1);
    assert_eq!(web.heard("\"routing_key\":\"CANARY-KEY\""), 1);

    // An acknowledgement and the end are heard too.
    run("alerts silence --rule slow --for 5m --reason maintenance").ok();
    let number = run("alerts test --severity high --json").ok().json()["number"].clone();
    eventually("it is heard", Duration::from_secs(20), || {
        web.heard("\"event_action\":\"trigger\"") == 2
    });
    run(&format!("alerts ack {number} --for 2h")).ok();
    eventually("it is acknowledged", Duration::from_secs(20), || {
        web.heard("\"event_action\":\"acknowledge\"") == 1
    });
    let shown = list();
    let looked_after = shown["alerts"]
        .as_array()
        .unwrap()
        .iter()
        .any(|alert| alert["number"] == number && alert["acknowledged"]["by"].is_string());
    assert!(looked_after, "{shown:#}");
    assert_eq!(shown["silences"][0]["rule"], "slow");
    run("alerts silence --end 1").ok();
    assert_eq!(list()["silences"], json!([]));
    run("alerts silence --end 1").failed_with(1);
    run("alerts ack 999").failed_with(1);

    let audit = run("audit list -n 50 --json").ok();
    for action in [
        "alert test",
        "alert acknowledge",
        "alert silence",
        "alert unsilence",
        "secret release",
    ] {
        assert!(
            audit.out.contains(&format!("\"{action}\"")),
            "{action}: {}",
            audit.out
        );
    }
    let logs = run("logs daemon -n 500").ok().out;
    for text in [&audit.out, &shown.to_string(), &logs] {
        assert!(!text.contains("CANARY-"), "a secret is shown: {text}");
    }
    platform.run(&["down"]).unwrap().ok();
    assert_eq!(platform.processes(), []);
}
