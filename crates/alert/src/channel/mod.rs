//! The channels: each has a pure builder of what is sent, and a client that sends it.

pub(crate) mod email;
mod http;
pub(crate) mod pagerduty;
pub(crate) mod slack;

use crate::notice::Notice;
use crate::outbox::SendError;
use astraler_secrets::Secret;
use email::Email;
use http::HttpClient;
use pagerduty::PagerDuty;
use slack::Slack;
use std::time::Duration;

/// The clients of all channels.
#[derive(Debug, Clone)]
pub struct Sender {
    http: HttpClient,
    patience: Patience,
}

/// How long an attempt waits: a server that hangs holds up its own channel, and not for long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Until there is a connection with which something can be said.
    pub connect: Duration,
    /// Until what was said is accepted.
    pub answer: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(20),
        }
    }
}

/// No client can be made.
#[derive(Debug, thiserror::Error)]
#[error("the TLS client cannot be set up")]
pub struct SenderError(#[source] rustls::Error);

impl Sender {
    /// With the roots of the web's certificate authorities.
    pub fn new(patience: Patience) -> Result<Self, SenderError> {
        Ok(Self {
            http: HttpClient::new(patience).map_err(SenderError)?,
            patience,
        })
    }

    /// Sends an event to PagerDuty. What it answers with 202 it has accepted; nobody has seen it yet.
    pub async fn pagerduty(
        &self,
        settings: &PagerDuty,
        routing_key: &Secret,
        notice: &Notice,
    ) -> Result<(), SendError> {
        pagerduty::send(&self.http, settings, routing_key, notice).await
    }

    /// Sends a message to Slack. The webhook's URL is the secret.
    pub async fn slack(
        &self,
        settings: &Slack,
        webhook_url: &Secret,
        notice: &Notice,
    ) -> Result<(), SendError> {
        slack::send(&self.http, settings, webhook_url, notice).await
    }

    /// Sends a mail.
    pub async fn email(
        &self,
        settings: &Email,
        password: Option<&Secret>,
        notice: &Notice,
    ) -> Result<(), SendError> {
        email::send(self.patience, settings, password, notice).await
    }
}

/// The beginning of a text, at most so many characters; what was cut is shown.
fn shortened(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        None => text.to_owned(),
        Some(_) => {
            let kept: String = text.chars().take(characters.saturating_sub(1)).collect();
            kept + "…"
        }
    }
}

/// A wall clock's time as RFC 3339.
fn rfc3339(wall_ms: u64) -> String {
    let time = i64::try_from(wall_ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    time.unwrap_or_default().to_string()
}
