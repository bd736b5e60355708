//! How bad an alert is, whom it goes to, and how soon.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Somebody should look within a week.
    Low,
    /// Within a day.
    Medium,
    /// Within an hour.
    High,
    /// Within a quarter of an hour.
    Critical,
}

/// What carries a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// PagerDuty, Events API v2.
    PagerDuty,
    /// An incoming webhook of Slack.
    Slack,
    /// SMTP.
    Email,
    /// Nothing is sent: the alert stands in the list.
    Dashboard,
}

/// What happens to alerts of one severity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Where notices go.
    pub channels: BTreeSet<Channel>,
    /// Unacknowledged for so long, an alert becomes one severity worse.
    pub acknowledge_s: u64,
    /// The first notice of a group waits so long for others to join.
    pub wait_s: u64,
    /// Between two notices of a group that say something new.
    pub interval_s: u64,
    /// A notice is said again after so long while nobody acknowledged.
    pub repeat_s: u64,
}

/// What happens to alerts of every severity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// By severity; one that is missing goes nowhere and never escalates.
    pub routes: BTreeMap<Severity, Route>,
    /// What is well again for so long is resolved: an alert at the edge of its limit does not flap.
    pub clear_s: u64,
}

/// The text is no severity, or no channel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is unknown: expected one of {1}")]
pub struct Unknown(String, String);

impl Severity {
    /// All, the mildest first.
    pub const ALL: [Self; 4] = [Self::Low, Self::Medium, Self::High, Self::Critical];

    /// One worse.
    pub fn worse(self) -> Option<Self> {
        Self::ALL.into_iter().find(|other| *other > self)
    }

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

impl Channel {
    /// All.
    pub const ALL: [Self; 4] = [Self::PagerDuty, Self::Slack, Self::Email, Self::Dashboard];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::PagerDuty => "pagerduty",
            Self::Slack => "slack",
            Self::Email => "email",
            Self::Dashboard => "dashboard",
        }
    }
}

impl Default for Policy {
    /// The requirement's table, with Alertmanager's times; but the first notice waits 5 s for others and not 30, so that
    /// it is heard within 15 s of the breach.
    fn default() -> Self {
        const HOUR: u64 = 3_600;
        let route = |channels: &[Channel], acknowledge_s, critical| Route {
            channels: channels.iter().copied().collect(),
            acknowledge_s,
            wait_s: if critical { 0 } else { 5 },
            interval_s: if critical { 0 } else { 300 },
            repeat_s: 4 * HOUR,
        };
        Self {
            routes: BTreeMap::from([
                (Severity::Low, route(&[Channel::Dashboard], 7 * 24 * HOUR, false)),
                (Severity::Medium, route(&[Channel::Email], 24 * HOUR, false)),
                (Severity::High, route(&[Channel::Slack], HOUR, false)),
                (
                    Severity::Critical,
                    route(&[Channel::PagerDuty, Channel::Slack], HOUR / 4, true),
                ),
            ]),
            clear_s: 60,
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Severity {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<Self, Unknown> {
        let mut all = Self::ALL.into_iter();
        all.find(|severity| severity.name() == text)
            .ok_or_else(|| Unknown(text.to_owned(), Self::ALL.map(Self::name).join(", ")))
    }
}

impl FromStr for Channel {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<Self, Unknown> {
        let mut all = Self::ALL.into_iter();
        all.find(|channel| channel.name() == text)
            .ok_or_else(|| Unknown(text.to_owned(), Self::ALL.map(Self::name).join(", ")))
    }
}
