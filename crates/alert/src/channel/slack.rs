//! Slack, incoming webhooks with Block Kit.

use super::http::HttpClient;
use super::shortened;
use crate::notice::{Notice, NoticeKind, Subject};
use crate::outbox::{Retry, SendError};
use astraler_secrets::Secret;
use serde_json::{Value, json};

/// Of a header block.
const MAX_HEADER: usize = 150;
/// Of a section's text.
const MAX_SECTION: usize = 3_000;
/// A message has at most 50 blocks; three are the header, what is left out, and the context.
const MAX_SUBJECTS: usize = 47;

/// What a message says about where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slack {
    /// The application.
    pub source: String,
}

/// The message's body.
pub fn message(settings: &Slack, notice: &Notice) -> Value {
    let title = notice.title();
    let mut blocks = vec![json!({
        "type": "header",
        "text": { "type": "plain_text", "text": shortened(&title, MAX_HEADER), "emoji": false },
    })];
    blocks.extend(notice.subjects.iter().take(MAX_SUBJECTS).map(|subject| {
        let text = shortened(&words(notice, subject), MAX_SECTION);
        json!({ "type": "section", "text": { "type": "mrkdwn", "text": text } })
    }));
    if let Some(more) = notice.subjects.len().checked_sub(MAX_SUBJECTS).filter(|n| *n > 0) {
        let text = format!("and {more} more: `astraler alerts list`");
        blocks.push(json!({ "type": "section", "text": { "type": "mrkdwn", "text": text } }));
    }
    let context = shortened(
        &format!("{} · {}", escaped(&settings.source), notice.place()),
        MAX_SECTION,
    );
    blocks.push(json!({
        "type": "context",
        "elements": [{ "type": "mrkdwn", "text": context }],
    }));
    // What a notification shows, and a client that knows no blocks.
    json!({ "text": escaped(&shortened(&title, MAX_SECTION)), "blocks": blocks })
}

fn words(notice: &Notice, subject: &Subject) -> String {
    let name = escaped(&subject.key.rule);
    let seconds = subject.began_wall_ms / 1_000;
    let since = format!("<!date^{seconds}^{{date_short_pretty}} {{time_secs}}|{seconds}>");
    let summary = escaped(&subject.summary);
    match &notice.kind {
        NoticeKind::Trigger => {
            let state = match (&subject.acknowledged_by, subject.escalations) {
                (Some(by), _) => format!("acknowledged by {}", escaped(by)),
                (None, 0) => format!("acknowledge it: `astraler alerts ack {}`", subject.number),
                (None, times) => format!(
                    "escalated {times}x, nobody acknowledged it: `astraler alerts ack {}`",
                    subject.number
                ),
            };
            format!(
                "*{name}* (alert {}, since {since})\n{summary}\n{state}",
                subject.number
            )
        }
        NoticeKind::Acknowledge { by } => {
            format!(
                "*{name}* (alert {}) is looked after by {}",
                subject.number,
                escaped(by)
            )
        }
        NoticeKind::Resolve => format!(
            "*{name}* (alert {}, since {since}) is over\nlast: {summary}",
            subject.number
        ),
    }
}

/// The three characters that Slack reads as its own.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

pub(super) async fn send(
    http: &HttpClient,
    settings: &Slack,
    webhook_url: &Secret,
    notice: &Notice,
) -> Result<(), SendError> {
    let body = message(settings, notice).to_string().into_bytes();
    let answer = http.post_json(webhook_url.expose(), body).await?;
    match (answer.status, answer.body.trim()) {
        (200, "ok") => Ok(()),
        (200, _) => Err(SendError::new(
            Retry::Unsure,
            "whoever answers is not Slack: its answer is not `ok`",
        )),
        _ => Err(answer.refused("Slack")),
    }
}
