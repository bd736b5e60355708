//! Notices on their way: one task for each channel, so that one that hangs holds up nobody else.

use super::settings::Settings;
use super::{AlertsError, row};
use crate::daemon::Daemon;
use crate::platform::{Platform, now_ms};
use crate::secrets::{SecretError, SecretPlace};
use crate::words::chain;
use astraler_alert::{Channel, Delivery, DeliveryState, Patience, SendError, Sender};
use astraler_secrets::Secret;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The service that channels' secrets are granted to.
const SERVICE: &str = "alerts";
/// Between two messages: Slack takes one a second.
const PACE: Duration = Duration::from_millis(1_100);
/// How often it looks whether a pause is over.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Secrets that this process has, by name, with their version: that they leave the store is audited once.
#[derive(Default)]
pub(super) struct Released(Mutex<BTreeMap<String, (u64, Secret)>>);

/// Sends what goes to one channel, in order, until the process ends.
pub(super) async fn deliver(daemon: Arc<Daemon>, channel: Channel) {
    let sender = match Sender::new(Patience::default()) {
        Ok(sender) => sender,
        Err(error) => {
            tracing::error!(error = chain(&error), %channel, "nothing can be sent");
            return;
        }
    };
    loop {
        match attempt(&daemon, &sender, channel).await {
            Ok(true) => tokio::time::sleep(PACE).await,
            Ok(false) => {
                let sends = daemon.alerts.sends.notified();
                // A notice that came in between is seen a second later.
                let _ = tokio::time::timeout(LOOK_EVERY, sends).await;
            }
            Err(error) => {
                tracing::error!(error = chain(&error), %channel, "notices wait; trying again");
                tokio::time::sleep(super::LOOK_EVERY).await;
            }
        }
    }
}

/// One attempt. Returns whether there was anything to send.
pub(super) async fn attempt(daemon: &Daemon, sender: &Sender, channel: Channel) -> Result<bool, AlertsError> {
    let platform = &daemon.platform;
    let Some(begun) = begin(daemon, channel)? else {
        return Ok(false);
    };
    let result = send(daemon, sender, &begun).await;
    let number = begun.notice.number;
    daemon.alerts.with(platform, |live| {
        let now = live.now_ms();
        let Some(delivery) = live.outbox.iter_mut().find(|one| one.notice.number == number) else {
            return Ok(());
        };
        delivery.end(now, &result);
        let delivery = delivery.clone();
        platform.store.alert_delivery_put(&row(&delivery)?, now_ms())?;
        live.outbox.retain(|one| !one.is_done());
        told(&delivery);
        Ok(())
    })?;
    Ok(true)
}

/// Intent before, on disk: who is killed from here on may have been heard.
pub(super) fn begin(daemon: &Daemon, channel: Channel) -> Result<Option<Delivery>, AlertsError> {
    let platform = &daemon.platform;
    daemon.alerts.with(platform, |live| {
        let now = live.now_ms();
        let Some(delivery) = live.next(channel) else {
            return Ok(None);
        };
        delivery.begin(now);
        let delivery = delivery.clone();
        platform.store.alert_delivery_put(&row(&delivery)?, now_ms())?;
        Ok(Some(delivery))
    })
}

fn told(delivery: &Delivery) {
    let (channel, notice) = (delivery.notice.channel, delivery.notice.title());
    let error = delivery.error.as_deref().unwrap_or_default();
    match delivery.state {
        DeliveryState::Delivered => tracing::info!(%channel, notice, "delivered"),
        DeliveryState::Failed => tracing::error!(%channel, notice, error, "not delivered, and given up"),
        // A person sees it in the list; a retry is no news.
        _ => tracing::info!(%channel, notice, error, attempts = delivery.attempts, "not delivered yet"),
    }
}

pub(super) async fn send(daemon: &Daemon, sender: &Sender, delivery: &Delivery) -> Result<(), SendError> {
    let platform = &daemon.platform;
    let settings = Settings::of(platform).map_err(|error| SendError::again(chain(&error)))?;
    let channel = delivery.notice.channel;
    let secret = match settings.secret(channel) {
        Some(name) => Some(
            daemon
                .alerts
                .released
                .secret(platform, name)
                .map_err(|error| SendError::again(chain(&error)))?,
        ),
        None => None,
    };
    let notice = &delivery.notice;
    match (channel, &secret) {
        (Channel::PagerDuty, Some(key)) => sender.pagerduty(&settings.pagerduty, key, notice).await,
        (Channel::Slack, Some(url)) => sender.slack(&settings.slack, url, notice).await,
        (Channel::Email, password) if !settings.email.host.is_empty() => {
            sender.email(&settings.email, password.as_ref(), notice).await
        }
        (Channel::Email, _) => Err(SendError::again(NO_MAIL_SERVER)),
        (Channel::PagerDuty | Channel::Slack | Channel::Dashboard, _) => Ok(()),
    }
}

const NO_MAIL_SERVER: &str = "no mail server: set `alerts.email.host` in the manifest";

/// What a channel lacks.
pub(super) fn missing(platform: &Platform, settings: &Settings, channel: Channel) -> Option<String> {
    if channel == Channel::Email && settings.email.host.is_empty() {
        return Some(NO_MAIL_SERVER.to_owned());
    }
    let name = settings.secret(channel)?;
    match platform.granted_secret(SecretPlace::Platform, name, SERVICE) {
        Ok(_) => None,
        Err(error) => Some(chain(&error)),
    }
}

impl Released {
    /// The newest version of a secret of the platform that alerts are granted. Audited before it leaves the store.
    fn secret(&self, platform: &Platform, name: &str) -> Result<Secret, SecretError> {
        let version = platform.granted_secret(SecretPlace::Platform, name, SERVICE)?;
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, secret)) = all.get(name)
            && *known == version
        {
            return Ok(secret.clone());
        }
        let secret = platform.release_secret(SecretPlace::Platform, name, version, SERVICE)?;
        all.insert(name.to_owned(), (version, secret.clone()));
        Ok(secret)
    }
}
