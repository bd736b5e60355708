//! PagerDuty, Events API v2.

use super::http::HttpClient;
use super::{rfc3339, shortened};
use crate::notice::{Notice, NoticeKind};
use crate::outbox::SendError;
use crate::severity::Severity;
use astraler_secrets::Secret;
use serde_json::{Map, Value, json};

const MAX_SUMMARY: usize = 1_024;
const MAX_SOURCE: usize = 255;
const MAX_DEDUP_KEY: usize = 255;
/// Of custom details; the whole event may have 512 kB.
const MAX_DETAIL: usize = 2_000;

/// Where events go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PagerDuty {
    /// `https://events.pagerduty.com/v2/enqueue`, or that of another service region.
    pub url: String,
    /// The application: two platforms with one routing key do not resolve each other's incidents.
    pub source: String,
}

/// The event's body, without the routing key.
pub fn event(settings: &PagerDuty, notice: &Notice) -> Value {
    let mut event = Map::new();
    let action = match &notice.kind {
        NoticeKind::Trigger => "trigger",
        NoticeKind::Acknowledge { .. } => "acknowledge",
        NoticeKind::Resolve => "resolve",
    };
    event.insert("event_action".into(), json!(action));
    let Some(subject) = notice.subjects.first() else {
        return Value::Object(event);
    };
    let key = format!("{}/{}", settings.source, subject.number);
    event.insert("dedup_key".into(), json!(shortened(&key, MAX_DEDUP_KEY)));
    if notice.kind != NoticeKind::Trigger {
        return Value::Object(event);
    }
    let severity = match notice.severity {
        Severity::Critical => "critical",
        Severity::High => "error",
        Severity::Medium => "warning",
        Severity::Low => "info",
    };
    let summary = format!("{} {}", notice.title(), subject.summary);
    event.insert("client".into(), json!("Astraler"));
    event.insert(
        "payload".into(),
        json!({
            "summary": shortened(&summary, MAX_SUMMARY),
            "source": shortened(&format!("{} {}", settings.source, notice.place()), MAX_SOURCE),
            "severity": severity,
            "timestamp": rfc3339(subject.began_wall_ms),
            "component": notice.place(),
            "class": subject.key.rule,
            "custom_details": {
                "alert": subject.number,
                "summary": shortened(&subject.summary, MAX_DETAIL),
                "escalations": subject.escalations,
                "acknowledge": format!("astraler alerts ack {}", subject.number),
            },
        }),
    );
    Value::Object(event)
}

pub(super) async fn send(
    http: &HttpClient,
    settings: &PagerDuty,
    routing_key: &Secret,
    notice: &Notice,
) -> Result<(), SendError> {
    let mut event = event(settings, notice);
    event["routing_key"] = json!(routing_key.expose().trim());
    let answer = http
        .post_json(&settings.url, event.to_string().into_bytes())
        .await?;
    match answer.status {
        202 => Ok(()),
        _ => Err(answer.refused("PagerDuty")),
    }
}
