//! What the manifest says about alerts, as crate `alert` wants it.

use crate::platform::{Platform, PlatformError};
use astraler_alert::{
    Channel, Email, PagerDuty, Policy, Rule, Severity, Slack, SmtpTls, Thresholds, standard,
};
use astraler_manifest::{AlertChannel, Alerts, MailTls};
use astraler_model::Environment;
use std::collections::BTreeSet;

/// Rules, policy and channels.
pub(super) struct Settings {
    pub(super) rules: Vec<Rule>,
    pub(super) policy: Policy,
    pub(super) pagerduty: PagerDuty,
    pub(super) slack: Slack,
    pub(super) email: Email,
    secrets: [String; 3],
}

impl Settings {
    /// By the manifest of the environment that decides for what all share; the defaults where nothing is deployed.
    pub(super) fn of(platform: &Platform) -> Result<Self, PlatformError> {
        let live = platform.live()?;
        let config = match live.iter().next() {
            Some((environment, (_, application))) => {
                platform.governing(*environment, application, |_| true)?.alerts
            }
            None => Alerts::default(),
        };
        Ok(Self::from_manifest(&config, &platform.installation.application))
    }

    fn from_manifest(config: &Alerts, source: &str) -> Self {
        let source = source.to_owned();
        let own = Some(config.email.username.clone()).filter(|name| !name.is_empty());
        Self {
            rules: standard(&Thresholds {
                error_rate_percent: config.error_rate_percent,
                p95_ms: config.p95_ms,
                uptime_percent: config.uptime_percent,
                connections_percent: config.connections_percent,
                ..Thresholds::default()
            }),
            policy: policy(config),
            pagerduty: PagerDuty {
                url: config.pagerduty.url.clone(),
                source: source.clone(),
            },
            slack: Slack {
                source: source.clone(),
            },
            email: Email {
                host: config.email.host.clone(),
                port: config.email.port,
                tls: match config.email.tls {
                    MailTls::StartTls => SmtpTls::StartTls,
                    MailTls::Implicit => SmtpTls::Implicit,
                    MailTls::None => SmtpTls::None,
                },
                from: config.email.from.clone(),
                to: config.email.to.clone(),
                username: own,
                source,
            },
            secrets: [
                config.pagerduty.secret.clone(),
                config.slack.secret.clone(),
                config.email.secret.clone(),
            ],
        }
    }

    /// The name of a channel's secret, when it needs one.
    pub(super) fn secret(&self, channel: Channel) -> Option<&str> {
        let [pagerduty, slack, email] = &self.secrets;
        match channel {
            Channel::PagerDuty => Some(pagerduty),
            Channel::Slack => Some(slack),
            Channel::Email => self.email.username.as_ref().map(|_| email.as_str()),
            Channel::Dashboard => None,
        }
    }

    /// Every channel that an alert can go to.
    pub(super) fn channels(&self) -> impl Iterator<Item = Channel> + '_ {
        let routed = |channel: &Channel| {
            let mut routes = self.policy.routes.values();
            routes.any(|route| route.channels.contains(channel))
        };
        Channel::ALL.into_iter().filter(routed)
    }
}

/// The environments whose rules are looked at.
pub(super) fn watched(platform: &Platform) -> Result<Vec<Environment>, PlatformError> {
    let awake = platform.awake()?.into_keys();
    Ok(awake
        .filter(|environment| *environment == Environment::Production)
        .collect())
}

fn policy(config: &Alerts) -> Policy {
    let mut policy = Policy::default();
    for (severity, own) in [
        (Severity::Critical, &config.critical),
        (Severity::High, &config.high),
        (Severity::Medium, &config.medium),
        (Severity::Low, &config.low),
    ] {
        let Some(route) = policy.routes.get_mut(&severity) else {
            continue;
        };
        if let Some(channels) = &own.channels {
            route.channels = channels
                .iter()
                .map(|channel| named(*channel))
                .collect::<BTreeSet<_>>();
        }
        let seconds = |minutes: u32| u64::from(minutes) * 60;
        if let Some(minutes) = own.acknowledge_minutes {
            route.acknowledge_s = seconds(minutes);
        }
        if let Some(minutes) = own.repeat_minutes {
            route.repeat_s = seconds(minutes);
        }
    }
    policy
}

fn named(channel: AlertChannel) -> Channel {
    match channel {
        AlertChannel::PagerDuty => Channel::PagerDuty,
        AlertChannel::Slack => Channel::Slack,
        AlertChannel::Email => Channel::Email,
        AlertChannel::Dashboard => Channel::Dashboard,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_manifest_leaves_out_is_as_the_requirement_says() {
        let settings = Settings::from_manifest(&Alerts::default(), "board");
        assert_eq!(settings.policy, Policy::default());
        assert_eq!(settings.rules, standard(&Thresholds::default()));
        assert_eq!(settings.secret(Channel::Email), None, "nobody logs in");
        assert_eq!(settings.channels().count(), 4);
    }

    #[test]
    fn what_it_says_counts() {
        let mut config = Alerts::default();
        config.critical.channels = Some(vec![AlertChannel::Email]);
        config.critical.acknowledge_minutes = Some(1);
        config.high.channels = Some(vec![]);
        config.high.repeat_minutes = Some(7);
        config.email.username = "alerts".into();
        let settings = Settings::from_manifest(&config, "board");
        let critical = &settings.policy.routes[&Severity::Critical];
        assert_eq!((critical.channels.len(), critical.acknowledge_s), (1, 60));
        let high = &settings.policy.routes[&Severity::High];
        assert_eq!(
            (high.channels.len(), high.acknowledge_s, high.repeat_s),
            (0, 3_600, 420)
        );
        assert_eq!(
            settings.channels().collect::<Vec<_>>(),
            [Channel::Email, Channel::Dashboard]
        );
        assert_eq!(settings.secret(Channel::Email), Some("SMTP_PASSWORD"));
    }
}
