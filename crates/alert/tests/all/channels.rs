//! The channels' clients against real servers: what is accepted, and what each way to fail leads to.

use crate::payloads::{email, notice, pagerduty};
use crate::sink::{Does, Sink};
use astraler_alert::{Channel, Email, Patience, Retry, SendError, Sender, Slack, SmtpTls};
use astraler_secrets::Secret;
use serde_json::Value;
use std::time::{Duration, Instant};

fn sender() -> Sender {
    Sender::new(Patience {
        connect: Duration::from_millis(700),
        answer: Duration::from_millis(700),
    })
    .unwrap()
}

async fn to_pagerduty(sink: &Sink) -> Result<(), SendError> {
    let settings = pagerduty(format!("http://127.0.0.1:{}/v2/enqueue", sink.port));
    let key = Secret::new("R0UT1NGKEY");
    sender()
        .pagerduty(&settings, &key, &notice(1, Channel::PagerDuty))
        .await
}

async fn to_slack(sink: &Sink) -> Result<(), SendError> {
    let settings = Slack {
        source: "board".into(),
    };
    let url = Secret::new(format!("http://127.0.0.1:{}/services/T0/B0/S3CR3T", sink.port));
    sender().slack(&settings, &url, &notice(1, Channel::Slack)).await
}

async fn to_email(settings: &Email) -> Result<(), SendError> {
    let password = Secret::new("hunter2");
    sender()
        .email(settings, Some(&password), &notice(1, Channel::Email))
        .await
}

fn retry(result: Result<(), SendError>) -> Retry {
    let error = result.unwrap_err();
    for secret in ["R0UT1NGKEY", "S3CR3T", "hunter2"] {
        assert!(!error.message.contains(secret), "{error}");
    }
    error.retry
}

const ACCEPTED: &str = "HTTP/1.1 202 Accepted\r\ncontent-length: 22\r\n\r\n{\"status\":\"success\"}\n\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn pagerduty_accepts_an_event_with_its_key() {
    let sink = Sink::new(Does::Answers(ACCEPTED)).await;
    to_pagerduty(&sink).await.unwrap();
    let heard = sink.heard();
    let (head, body) = heard[0]
        .split_once("\n\n")
        .or(heard[0].split_once("\r\n\n"))
        .unwrap();
    assert!(head.starts_with("POST /v2/enqueue HTTP/1.1"), "{head}");
    assert!(head.contains("content-type: application/json"), "{head}");
    let event: Value = serde_json::from_str(body).unwrap();
    assert_eq!(event["routing_key"], "R0UT1NGKEY");
    assert_eq!(event["dedup_key"], "board/7");
}

#[tokio::test]
async fn slack_accepts_with_ok_and_nothing_else_counts() {
    let sink = Sink::new(Does::Answers(OK)).await;
    to_slack(&sink).await.unwrap();
    assert!(sink.heard()[0].starts_with("POST /services/T0/B0/S3CR3T HTTP/1.1"));
    let portal = Sink::new(Does::Answers("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")).await;
    assert_eq!(retry(to_slack(&portal).await), Retry::Unsure);
}

#[tokio::test]
async fn answers_say_whether_and_when_it_is_tried_again() {
    let again = |after_s| Retry::Again { after_s };
    for (answer, expected) in [
        (
            "HTTP/1.1 429 Too Many\r\nretry-after: 17\r\ncontent-length: 0\r\n\r\n",
            again(Some(17)),
        ),
        ("HTTP/1.1 503 Away\r\ncontent-length: 0\r\n\r\n", again(None)),
        ("HTTP/1.1 500 Broken\r\ncontent-length: 0\r\n\r\n", Retry::Unsure),
        (
            "HTTP/1.1 404 None\r\ncontent-length: 10\r\n\r\nno_service",
            again(None),
        ),
        (
            "HTTP/1.1 400 Bad\r\ncontent-length: 15\r\n\r\ninvalid_payload",
            Retry::Never,
        ),
    ] {
        let sink = Sink::new(Does::Answers(answer)).await;
        assert_eq!(retry(to_slack(&sink).await), expected, "{answer}");
        assert_eq!(retry(to_pagerduty(&sink).await), expected, "{answer}");
    }
}

#[tokio::test]
async fn who_hangs_or_breaks_off_may_have_heard_it_and_who_is_away_has_not() {
    for does in [Does::Hangs, Does::Breaks] {
        let sink = Sink::new(does).await;
        let began = Instant::now();
        assert_eq!(retry(to_slack(&sink).await), Retry::Unsure);
        assert!(began.elapsed() < Duration::from_secs(5));
    }
    let nobody = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = nobody.local_addr().unwrap().port();
    drop(nobody);
    let settings = pagerduty(format!("http://127.0.0.1:{port}/"));
    let sent = sender()
        .pagerduty(&settings, &Secret::new("k"), &notice(1, Channel::PagerDuty))
        .await;
    assert_eq!(retry(sent), Retry::Again { after_s: None });
}

#[tokio::test]
async fn secrets_go_encrypted_or_not_at_all() {
    let settings = pagerduty("http://events.example/v2/enqueue".into());
    let sent = sender()
        .pagerduty(&settings, &Secret::new("k"), &notice(1, Channel::PagerDuty))
        .await;
    assert!(sent.unwrap_err().message.contains("https://"));
    let plain = Email {
        host: "mail.example".into(),
        ..email(25)
    };
    assert!(
        to_email(&plain)
            .await
            .unwrap_err()
            .message
            .contains("unencrypted")
    );
    // A server that offers no STARTTLS, or that somebody between took it from: no password is said.
    let sink = Sink::new(Does::TakesMail).await;
    let encrypted = Email {
        tls: SmtpTls::StartTls,
        ..email(sink.port)
    };
    assert_eq!(retry(to_email(&encrypted).await), Retry::Again { after_s: None });
    assert_eq!(sink.heard(), Vec::<String>::new());
}

#[tokio::test]
async fn a_mail_server_takes_the_mail() {
    let sink = Sink::new(Does::TakesMail).await;
    to_email(&email(sink.port)).await.unwrap();
    let heard = sink.heard();
    assert_eq!(heard.len(), 1);
    for said in [
        "AUTH PLAIN",
        "MAIL FROM:<alerts@board.example>",
        "RCPT TO:<ada@board.example>",
        "RCPT TO:<grace@board.example>",
        "Subject: [CRITICAL] production: errors",
        "astraler alerts ack 7",
    ] {
        assert!(heard[0].contains(said), "{said}: {}", heard[0]);
    }
}

#[tokio::test]
async fn a_mail_server_that_hangs_ends_the_attempt_and_one_that_refuses_says_for_how_long() {
    for (does, expected) in [
        (Does::Hangs, Retry::Again { after_s: None }),
        (Does::HangsAtTheEnd, Retry::Unsure),
        (Does::Refuses("550 unknown\r\n"), Retry::Never),
        (Does::Refuses("451 later\r\n"), Retry::Again { after_s: None }),
    ] {
        let what = format!("{does:?}");
        let sink = Sink::new(does).await;
        let began = Instant::now();
        assert_eq!(retry(to_email(&email(sink.port)).await), expected, "{what}");
        assert!(began.elapsed() < Duration::from_secs(5), "{what}");
    }
}
