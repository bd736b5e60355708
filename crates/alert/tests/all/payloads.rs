//! What is sent, against the forms that the vendors publish.

use astraler_alert::{
    Channel, Email, Key, Notice, NoticeKind, PagerDuty, Severity, Slack, SmtpTls, Subject, email_message,
    pagerduty_event, slack_message,
};
use astraler_model::Environment;
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// 2026-11-27 12:00:00 UTC.
const NOON: u64 = crate::script::NOON;

pub(crate) fn notice(number: u64, channel: Channel) -> Notice {
    Notice {
        number,
        channel,
        kind: NoticeKind::Trigger,
        environment: Some(Environment::Production),
        severity: Severity::Critical,
        wall_ms: NOON,
        subjects: vec![subject(
            7,
            "errors",
            "12 % of requests fail over 5 min, 11 % over 1 h <&>",
        )],
    }
}

pub(crate) fn subject(number: u64, rule: &str, summary: &str) -> Subject {
    Subject {
        number,
        key: Key {
            rule: rule.into(),
            environment: Some(Environment::Production),
        },
        summary: summary.into(),
        began_wall_ms: NOON,
        acknowledged_by: None,
        escalations: 0,
    }
}

pub(crate) fn pagerduty(url: String) -> PagerDuty {
    PagerDuty {
        url,
        source: "board".into(),
    }
}

pub(crate) fn email(port: u16) -> Email {
    Email {
        host: "127.0.0.1".into(),
        port,
        tls: SmtpTls::None,
        from: "Astraler <alerts@board.example>".into(),
        to: vec!["ada@board.example".into(), "Grace <grace@board.example>".into()],
        username: Some("alerts".into()),
        source: "board".into(),
    }
}

fn each_kind() -> Vec<Notice> {
    let mut worst = notice(1, Channel::Slack);
    worst.subjects = (0..200)
        .map(|number| subject(number, &"rule<&>".repeat(100), &"ü<&>".repeat(5_000)))
        .collect();
    worst.subjects[0].escalations = 2;
    worst.subjects[1].acknowledged_by = Some("ada".into());
    let mut platform = notice(2, Channel::Slack);
    platform.environment = None;
    let acknowledged = NoticeKind::Acknowledge { by: "ada".into() };
    let mut all = vec![platform, worst];
    for kind in [NoticeKind::Trigger, NoticeKind::Resolve, acknowledged] {
        let kind = || kind.clone();
        all.push(Notice {
            kind: kind(),
            ..notice(3, Channel::Slack)
        });
    }
    all
}

#[test]
fn pagerduty_hears_an_event_of_its_version_2() {
    let settings = pagerduty(String::new());
    insta::assert_snapshot!(serde_json::to_string_pretty(&pagerduty_event(&settings, &notice(1, Channel::PagerDuty))).unwrap(), @r#"
    {
      "event_action": "trigger",
      "dedup_key": "board/7",
      "client": "Astraler",
      "payload": {
        "summary": "[CRITICAL] production: errors 12 % of requests fail over 5 min, 11 % over 1 h <&>",
        "source": "board production",
        "severity": "critical",
        "timestamp": "2026-11-27T12:00:00Z",
        "component": "production",
        "class": "errors",
        "custom_details": {
          "alert": 7,
          "summary": "12 % of requests fail over 5 min, 11 % over 1 h <&>",
          "escalations": 0,
          "acknowledge": "astraler alerts ack 7"
        }
      }
    }
    "#);
    for notice in each_kind() {
        let event = pagerduty_event(&settings, &notice);
        let text = |value: &Value| value.as_str().unwrap().chars().count();
        assert!(text(&event["dedup_key"]) <= 255);
        assert!(event.to_string().len() < 512 << 10);
        if event["event_action"] == "trigger" {
            assert!(text(&event["payload"]["summary"]) <= 1_024);
            let severity = event["payload"]["severity"].as_str().unwrap();
            assert!(["critical", "error", "warning", "info"].contains(&severity));
            assert!(text(&event["payload"]["source"]) > 0);
        } else {
            assert!(event.get("payload").is_none());
        }
    }
}

#[test]
fn slack_hears_blocks_within_its_limits() {
    let settings = Slack {
        source: "board".into(),
    };
    insta::assert_snapshot!(serde_json::to_string_pretty(&slack_message(&settings, &notice(1, Channel::Slack))).unwrap(), @r#"
    {
      "text": "[CRITICAL] production: errors",
      "blocks": [
        {
          "type": "header",
          "text": {
            "type": "plain_text",
            "text": "[CRITICAL] production: errors",
            "emoji": false
          }
        },
        {
          "type": "section",
          "text": {
            "type": "mrkdwn",
            "text": "*errors* (alert 7, since <!date^1795780800^{date_short_pretty} {time_secs}|1795780800>)\n12 % of requests fail over 5 min, 11 % over 1 h &lt;&amp;&gt;\nacknowledge it: `astraler alerts ack 7`"
          }
        },
        {
          "type": "context",
          "elements": [
            {
              "type": "mrkdwn",
              "text": "board · production"
            }
          ]
        }
      ]
    }
    "#);
    for notice in each_kind() {
        let message = slack_message(&settings, &notice);
        let blocks = message["blocks"].as_array().unwrap();
        assert!(blocks.len() <= 50);
        for block in blocks {
            let limit = if block["type"] == "header" { 150 } else { 3_000 };
            let text = block["text"]["text"].as_str().unwrap_or_default();
            assert!(text.chars().count() <= limit);
        }
    }
}

/// The types of Slack's own package, with the compiler of TypeScript. Both come from npm by a lock file.
#[test]
fn slack_messages_are_of_the_types_that_slack_publishes() {
    let folder = tempfile::tempdir().unwrap();
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slack-types");
    for name in ["package.json", "package-lock.json", "tsconfig.json"] {
        std::fs::copy(here.join(name), folder.path().join(name)).unwrap();
    }
    let settings = Slack {
        source: "board".into(),
    };
    let check = |constants: &str| {
        let text = format!(
            "import type {{ KnownBlock }} from '@slack/types';\ntype Message = {{ text: string; blocks: KnownBlock[] }};\n{constants}"
        );
        std::fs::write(folder.path().join("check.ts"), text).unwrap();
        run(folder.path(), "npx", &["--no-install", "tsc", "--noEmit"])
    };
    let installed = run(
        folder.path(),
        "npm",
        &["ci", "--no-audit", "--no-fund", "--ignore-scripts"],
    );
    assert!(installed.0, "npm ci: {}", installed.1);
    let constants: String = each_kind()
        .iter()
        .enumerate()
        .map(|(index, notice)| {
            let message = slack_message(&settings, notice);
            format!("export const message{index}: Message = {message};\n")
        })
        .collect();
    let (fits, words) = check(&constants);
    assert!(fits, "{words}");
    // The check can fail.
    let (fits, words) = check(&constants.replace("\"mrkdwn\"", "\"markdown\""));
    assert!(!fits && words.contains("markdown"), "{words}");
}

fn run(folder: &Path, program: &str, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap_or_else(|error| panic!("{program} is needed: {error}"));
    let words = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&words).into_owned(),
    )
}

#[test]
fn mail_is_plain_text_with_an_identity_of_its_own() {
    let mail = email_message(&email(25), &notice(1, Channel::Email))
        .unwrap()
        .formatted();
    let mail: String = String::from_utf8(mail)
        .unwrap()
        .lines()
        .filter(|line| !line.starts_with("Date:"))
        .collect::<Vec<_>>()
        .join("\n");
    insta::assert_snapshot!(mail, @r#"
    From: Astraler <alerts@board.example>
    Subject: [CRITICAL] production: errors
    Message-ID: <alert-1-1795780800000@board.example>
    Content-Type: text/plain; charset=utf-8
    To: ada@board.example, Grace <grace@board.example>
    Content-Transfer-Encoding: 7bit

    errors (alert 7, since 2026-11-27T12:00:00Z)
    12 % of requests fail over 5 min, 11 % over 1 h <&>
    acknowledge it: astraler alerts ack 7

    -- 
    board, production
    "#);
    for notice in each_kind() {
        let mail = email_message(&email(25), &notice).unwrap();
        assert!(mail.formatted().len() < 10 << 20);
    }
    let nobody = Email {
        to: vec!["nobody".into()],
        ..email(25)
    };
    let error = email_message(&nobody, &notice(1, Channel::Email)).unwrap_err();
    assert_eq!(
        error.message,
        "`nobody` is no mail address: correct it in the manifest"
    );
    // Nothing in an alert can add a field to the mail.
    let mut bad = notice(1, Channel::Email);
    bad.subjects[0].key.rule = "x\r\nBcc: eve@evil.example".into();
    let mail = email_message(&email(25), &bad).unwrap().formatted();
    let mail = String::from_utf8(mail).unwrap();
    let head = mail.split("\r\n\r\n").next().unwrap();
    assert!(!head.contains("\nBcc"), "{head}");
}
