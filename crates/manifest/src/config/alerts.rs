//! `[alerts]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Rules, severities and channels. Secrets are named here and stand in `astraler secrets --env platform`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Alerts {
    /// Share of requests that may fail. More over 5 minutes and an hour is High, ten times as many Critical.
    #[schemars(range(min = 0.001, max = 100.0))]
    pub error_rate_percent: f64,
    /// 95th percentile of the latency. More over 5 minutes and an hour is High.
    #[schemars(range(min = 1, max = 600_000))]
    pub p95_ms: u64,
    /// Share of time for which it is up. How fast the rest is used up says how bad it is.
    #[schemars(range(min = 0.0, max = 99.999))]
    pub uptime_percent: f64,
    /// Database connections in use, of the pool. More for 10 minutes is Medium, half-way to all for 5 minutes High.
    #[schemars(range(min = 1.0, max = 99.0))]
    pub connections_percent: f64,
    /// By default `pagerduty` and `slack`, acknowledged within 15 minutes, told at once.
    pub critical: AlertSeverity,
    /// By default `slack`, within an hour.
    pub high: AlertSeverity,
    /// By default `email`, within a day.
    pub medium: AlertSeverity,
    /// By default `dashboard`, within a week.
    pub low: AlertSeverity,
    /// PagerDuty.
    pub pagerduty: PagerDutySettings,
    /// Slack.
    pub slack: SlackSettings,
    /// Mail.
    pub email: EmailSettings,
}

/// Whom an alert goes to, and how soon somebody must act. What is left out is as it is by default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AlertSeverity {
    /// Where notices go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<Vec<AlertChannel>>,
    /// Minutes after which an alert that nobody acknowledged becomes one severity worse.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 525_600))]
    pub acknowledge_minutes: Option<u32>,
    /// Minutes after which an alert that nobody acknowledged is told again; 240 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 525_600))]
    pub repeat_minutes: Option<u32>,
}

/// What carries a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AlertChannel {
    /// PagerDuty, Events API v2.
    PagerDuty,
    /// An incoming webhook of Slack.
    Slack,
    /// Mail.
    Email,
    /// `astraler alerts list`.
    Dashboard,
}

/// PagerDuty.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PagerDutySettings {
    /// Name of the secret with the routing key of an Events API v2 integration.
    pub secret: String,
    /// Where events go; `https://events.eu.pagerduty.com/v2/enqueue` in the EU's service region.
    pub url: String,
}

/// Slack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SlackSettings {
    /// Name of the secret with the URL of an incoming webhook.
    pub secret: String,
}

/// Mail over SMTP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EmailSettings {
    /// Name of the mail server; without one no mail is sent.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How it is encrypted.
    pub tls: MailTls,
    /// Sender.
    pub from: String,
    /// Who reads it.
    pub to: Vec<String>,
    /// Name to log in with; without one nobody logs in.
    pub username: String,
    /// Name of the secret with the password.
    pub secret: String,
}

/// How SMTP is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MailTls {
    /// By STARTTLS, which must succeed (port 587).
    StartTls,
    /// From the first byte (port 465).
    Implicit,
    /// Not at all: to a relay on this machine only.
    None,
}

impl Default for Alerts {
    fn default() -> Self {
        Self {
            error_rate_percent: 1.0,
            p95_ms: 500,
            uptime_percent: 99.5,
            connections_percent: 80.0,
            critical: AlertSeverity::default(),
            high: AlertSeverity::default(),
            medium: AlertSeverity::default(),
            low: AlertSeverity::default(),
            pagerduty: PagerDutySettings::default(),
            slack: SlackSettings::default(),
            email: EmailSettings::default(),
        }
    }
}

impl Default for PagerDutySettings {
    fn default() -> Self {
        Self {
            secret: "PAGERDUTY_ROUTING_KEY".into(),
            url: "https://events.pagerduty.com/v2/enqueue".into(),
        }
    }
}

impl Default for SlackSettings {
    fn default() -> Self {
        Self {
            secret: "SLACK_WEBHOOK_URL".into(),
        }
    }
}

impl Default for EmailSettings {
    fn default() -> Self {
        Self {
            host: String::new(),
            port: 587,
            tls: MailTls::StartTls,
            from: String::new(),
            to: vec![],
            username: String::new(),
            secret: "SMTP_PASSWORD".into(),
        }
    }
}
