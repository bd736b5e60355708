//! What is said to a channel: plain data, which the channels' builders turn into their own forms.

use crate::book::{Alert, Key};
use crate::severity::{Channel, Severity};
use astraler_model::Environment;
use serde::{Deserialize, Serialize};

/// One message to one channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Its number: no two are the same, so that whoever hears one twice can tell.
    pub number: u64,
    /// Who hears it.
    pub channel: Channel,
    /// What it says.
    pub kind: NoticeKind,
    /// Of which environment; none for the whole platform.
    pub environment: Option<Environment>,
    /// How bad.
    pub severity: Severity,
    /// When it was said, by the wall clock.
    pub wall_ms: u64,
    /// The alerts of the group.
    pub subjects: Vec<Subject>,
}

/// What a notice says of its alerts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeKind {
    /// They fire.
    Trigger,
    /// Somebody looks after them.
    Acknowledge {
        /// Who.
        by: String,
    },
    /// They are over.
    Resolve,
}

/// An alert, as a notice tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The alert's number.
    pub number: u64,
    /// What it is about.
    pub key: Key,
    /// What a person reads.
    pub summary: String,
    /// Since when, by the wall clock.
    pub began_wall_ms: u64,
    /// Who looks after it.
    pub acknowledged_by: Option<String>,
    /// How often nobody had acknowledged it in time.
    pub escalations: u32,
}

impl Subject {
    pub(crate) fn of(alert: &Alert) -> Self {
        Self {
            number: alert.number,
            key: alert.key.clone(),
            summary: alert.summary.clone(),
            began_wall_ms: alert.began_wall_ms,
            acknowledged_by: alert.acknowledged.as_ref().map(|ack| ack.by.clone()),
            escalations: alert.escalations,
        }
    }
}

impl Notice {
    /// The environment's name, or the platform.
    pub fn place(&self) -> String {
        self.environment
            .map_or_else(|| "platform".to_owned(), |environment| environment.to_string())
    }

    /// One line for people: `[CRITICAL] production: errors`.
    pub fn title(&self) -> String {
        let word = match &self.kind {
            NoticeKind::Trigger => self.severity.name().to_uppercase(),
            NoticeKind::Acknowledge { .. } => "ACKNOWLEDGED".into(),
            NoticeKind::Resolve => "RESOLVED".into(),
        };
        let rules: Vec<&str> = self
            .subjects
            .iter()
            .map(|subject| subject.key.rule.as_str())
            .collect();
        format!("[{word}] {}: {}", self.place(), rules.join(", "))
    }
}
