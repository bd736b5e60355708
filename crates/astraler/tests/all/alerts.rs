//! Alerts on a real platform: who hears what, through sinks that go away, and a daemon that is killed.

use crate::sink::{Sink, http, smtp};
use crate::support::{PROGRAM, eventually, kill};
use astraler_testkit::{Platform, small_application};
use serde_json::json;
use std::io::Write;
use std::sync::atomic::Ordering;
use std::time::Duration;

fn signal(which: &str, pid: u32) {
    let sent = std::process::Command::new("kill")
        .args([which, &pid.to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
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
    platform.up(&["--env", "production"]).unwrap().ok();
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
        crate::sink::give(&platform, name, value);
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
    // Meanwhile nobody reaches production.
    let edge = platform.pid("edge").unwrap().unwrap();
    signal("-STOP", edge);
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
    let is_down = || {
        let report = list();
        let mut open = report["alerts"].as_array().unwrap().iter();
        open.any(|alert| alert["key"]["rule"] == "uptime" && alert["severity"] == "critical")
    };
    eventually(
        "it is seen that production is down",
        Duration::from_secs(60),
        is_down,
    );
    signal("-CONT", edge);
    assert_eq!(
        web.heard("[CRITICAL] platform: test-"),
        2,
        "PagerDuty and Slack, once each"
    );
    assert_eq!(mail.heard("Subject: [CRITICAL] platform: test-"), 1);
    assert!(web.heard("\"routing_key\":\"CANARY-KEY\"") >= 1);

    // An acknowledgement and the end are heard too.
    run("alerts silence --rule slow --for 5m --reason maintenance").ok();
    let number = run("alerts test --severity high --json").ok().json()["number"].clone();
    eventually("it is heard", Duration::from_secs(20), || {
        web.heard("[HIGH] platform: test-") == 1
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
