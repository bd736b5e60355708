//! Alerts of this platform: a look at the rules every two seconds, the book of what fires, and its notices on their way.
//! What an alert is, and when who is told, is crate `alert`'s; here are the store, the clock, the secrets and the tasks.
//!
//! What is said is in the store before anybody hears it, together with the book that says so; a delivery is written down
//! before each attempt and after it.

pub(crate) mod api;
mod client;
pub(crate) mod measure;
mod send;
mod settings;
#[cfg(test)]
mod tests;

use crate::daemon::Daemon;
use crate::platform::{Platform, PlatformError, now_ms};
use crate::words::chain;
use astraler_alert::{
    Alert, Book, BookError, Channel, Delivery, Key, Notice, Observation, Policy, Raise, Rule, Severity,
    Silence, Standing, State, Tick, due, evaluate,
};
use astraler_model::Environment;
use astraler_store::{AlertChange, AlertDelivery, StoreError};
use measure::Measured;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use settings::Settings;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How often the rules are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Between two processes only the wall clock says how much time has passed: not more than this.
const LONGEST_ABSENCE_MS: u64 = 24 * 3_600_000;
/// A test is over by itself.
const TEST_LASTS_S: u64 = 60;
/// What a list shows of what is over.
const HISTORY: u32 = 50;

/// What fires, and notices on their way, in memory; read from the store when it is first asked for.
#[derive(Default)]
pub(crate) struct Alerts {
    live: Mutex<Option<Live>>,
    /// Something is to be sent.
    sends: Notify,
    released: send::Released,
}

struct Live {
    book: Book,
    outbox: Vec<Delivery>,
    looked: Instant,
}

/// Why something about alerts cannot be done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AlertsError {
    #[error(transparent)]
    Book(#[from] BookError),
    #[error("the control plane's database cannot be used")]
    Store(#[from] StoreError),
    #[error(transparent)]
    Platform(#[from] PlatformError),
    #[error("the record of {what} is not of this version")]
    Record {
        what: &'static str,
        #[source]
        source: serde_json::Error,
    },
}

/// Somebody looks after an alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcknowledgeRequest {
    /// For so long.
    pub seconds: u64,
}

/// Nobody is told for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SilenceRequest {
    /// Of this rule only.
    pub rule: Option<String>,
    /// Of this environment only.
    pub environment: Option<Environment>,
    /// For so long.
    pub seconds: u64,
    /// Why.
    pub reason: String,
}

/// An alert to try the channels with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestRequest {
    /// Whose channels.
    pub severity: Severity,
}

/// What is known of alerts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlertsReport {
    /// Open ones.
    pub alerts: Vec<Alert>,
    /// Silences that hold.
    pub silences: Vec<Silence>,
    /// What is over, the newest first.
    pub history: Vec<Value>,
    /// Notices that were not delivered yet, and those that never will be.
    pub undelivered: Vec<Delivery>,
    /// Channels that alerts go to.
    pub channels: Vec<ChannelReport>,
    /// What is an alert.
    pub rules: Vec<Rule>,
    /// Who is told when.
    pub policy: Policy,
}

/// Whether a channel can be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelReport {
    /// Which.
    pub channel: Channel,
    /// What is missing; nothing when it is ready.
    pub missing: Option<String>,
}

/// One of the rules, with the manifest's figures.
pub(crate) fn rule(platform: &Platform, name: &str) -> Result<Option<Rule>, AlertsError> {
    let mut rules = Settings::of(platform)?.rules.into_iter();
    Ok(rules.find(|rule| rule.name == name))
}

/// Starts the tasks.
pub(crate) fn keep(daemon: &Arc<Daemon>) {
    tokio::spawn(look_after(Arc::clone(daemon)));
    for channel in [Channel::PagerDuty, Channel::Slack, Channel::Email] {
        tokio::spawn(send::deliver(Arc::clone(daemon), channel));
    }
}

async fn look_after(daemon: Arc<Daemon>) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = daemon.look_at_rules().await {
            tracing::error!(error = chain(&error), "alerts cannot be looked at; trying again");
        }
    }
}

impl Daemon {
    /// One look at the rules.
    async fn look_at_rules(&self) -> Result<(), AlertsError> {
        let settings = Settings::of(&self.platform)?;
        let mut measured = Vec::new();
        for environment in settings::watched(&self.platform)? {
            let found = Measured::of(&self.platform, environment, &settings.rules).await;
            for rule in &settings.rules {
                measured.push(evaluate(rule, environment, &mut |question| {
                    found.as_ref()?.counts(question)
                }));
            }
        }
        self.alerts.change(&self.platform, |live| {
            let tick = live.tick();
            let outcome = live.book.step(tick, &measured, &settings.policy);
            if !outcome.changed {
                return Ok(None);
            }
            Ok(Some((outcome.notices, outcome.ended)))
        })
    }

    /// Raises an alert that no rule measures, or says anew what it is about; its number. It is on its way at once, and
    /// open until it is lowered. For every part of the platform.
    pub(crate) fn raise_alert(
        &self,
        rule: &str,
        environment: Option<Environment>,
        severity: Severity,
        summary: String,
    ) -> Result<u64, AlertsError> {
        self.raise(Raise {
            key: key(rule, environment),
            severity,
            summary,
            lasts_s: None,
            at_once: true,
        })
    }

    /// What was raised is over; nothing happens where nothing was. Whoever was told hears of it.
    pub(crate) fn lower_alert(
        &self,
        rule: &str,
        environment: Option<Environment>,
    ) -> Result<(), AlertsError> {
        self.alerts.change(&self.platform, |live| {
            // The next look tells of it.
            let lowered = live.book.lower(&key(rule, environment));
            Ok(lowered.then(|| (vec![], vec![])))
        })
    }

    /// Raises an alert to try the channels with; its number.
    fn test_alert(&self, actor: &str, severity: Severity) -> Result<u64, AlertsError> {
        self.platform
            .audit(actor, "alert test", severity.name(), &json!(null))?;
        self.raise(Raise {
            // One of its own each, so that a second test is not the first one.
            key: key(&format!("test-{}", now_ms() / 1_000), None),
            severity,
            summary: format!("a test that {actor} asked for; it is over in a minute"),
            lasts_s: Some(TEST_LASTS_S),
            at_once: true,
        })
    }

    fn raise(&self, raise: Raise) -> Result<u64, AlertsError> {
        let settings = Settings::of(&self.platform)?;
        let mut number = 0;
        self.alerts.change(&self.platform, |live| {
            let tick = live.tick();
            live.book.pass(tick);
            number = live.book.raise(raise, &settings.policy)?;
            // Who is told of it is known at once: what is measured stays as it is.
            let measured = unmeasured(&live.book);
            let tick = live.tick();
            let outcome = live.book.step(tick, &measured, &settings.policy);
            Ok(Some((outcome.notices, outcome.ended)))
        })?;
        Ok(number)
    }

    fn acknowledge_alert(&self, actor: &str, number: u64, seconds: u64) -> Result<(), AlertsError> {
        self.platform.audit(
            actor,
            "alert acknowledge",
            &number.to_string(),
            &json!({ "seconds": seconds }),
        )?;
        self.alerts.change(&self.platform, |live| {
            let tick = live.tick();
            live.book.pass(tick);
            let notices = live.book.acknowledge(number, actor, seconds)?;
            Ok(Some((notices, vec![])))
        })
    }

    fn silence_alerts(&self, actor: &str, request: &SilenceRequest) -> Result<u64, AlertsError> {
        self.platform
            .audit(actor, "alert silence", "-", &json!(request))?;
        let mut number = 0;
        self.alerts.change(&self.platform, |live| {
            let tick = live.tick();
            live.book.pass(tick);
            number = live.book.silence(
                request.rule.clone(),
                request.environment,
                actor,
                &request.reason,
                request.seconds,
            )?;
            Ok(Some((vec![], vec![])))
        })?;
        Ok(number)
    }

    fn end_silence(&self, actor: &str, number: u64) -> Result<(), AlertsError> {
        self.platform
            .audit(actor, "alert unsilence", &number.to_string(), &json!(null))?;
        self.alerts.change(&self.platform, |live| {
            live.book.unsilence(number)?;
            Ok(Some((vec![], vec![])))
        })
    }

    /// What fires, and what is over and was not told yet.
    pub(crate) fn open_alerts(&self) -> Result<Vec<Alert>, AlertsError> {
        self.alerts
            .with(&self.platform, |live| Ok(live.book.alerts().to_vec()))
    }

    pub(crate) fn alerts_report(&self) -> Result<AlertsReport, AlertsError> {
        let settings = Settings::of(&self.platform)?;
        let stored = self.platform.store.alert_deliveries(HISTORY)?;
        let mut undelivered = Vec::new();
        for body in stored {
            let delivery: Delivery = read("a notice", body)?;
            if delivery.state != astraler_alert::DeliveryState::Delivered {
                undelivered.push(delivery);
            }
        }
        let silences = |live: &mut Live| Ok(live.book.silences().to_vec());
        Ok(AlertsReport {
            alerts: self.open_alerts()?,
            silences: self.alerts.with(&self.platform, silences)?,
            history: self.platform.store.alert_history(HISTORY)?,
            undelivered,
            channels: settings
                .channels()
                .map(|channel| ChannelReport {
                    channel,
                    missing: send::missing(&self.platform, &settings, channel),
                })
                .collect(),
            rules: settings.rules,
            policy: settings.policy,
        })
    }
}

/// What a change says, and which alerts it ends; nothing when it changes nothing.
type Said = Option<(Vec<Notice>, Vec<Alert>)>;

impl Alerts {
    /// Changes the book, and keeps what that leads to before anybody hears of it.
    fn change(
        &self,
        platform: &Platform,
        change: impl FnOnce(&mut Live) -> Result<Said, AlertsError>,
    ) -> Result<(), AlertsError> {
        let said = self.with(platform, |live| {
            let Some((notices, ended)) = change(live)? else {
                return Ok(false);
            };
            let now = live.book.now_ms();
            let new: Vec<Delivery> = notices
                .into_iter()
                .map(|notice| Delivery::new(notice, now))
                .collect();
            let rows = new.iter().map(row).collect::<Result<Vec<_>, _>>()?;
            let ended = ended
                .iter()
                .map(|alert| Ok((alert.number, written("an alert", alert)?)))
                .collect::<Result<Vec<_>, AlertsError>>()?;
            let book = written("the book of alerts", &live.book)?;
            let change = AlertChange {
                book: &book,
                deliveries: &rows,
                ended: &ended,
            };
            platform.store.alerts_change(&change, now_ms())?;
            live.outbox.extend(new);
            Ok(true)
        })?;
        if said {
            self.sends.notify_waiters();
        }
        Ok(())
    }

    /// Works with what is in memory. After an error it is read anew: what is not written down did not happen.
    fn with<T>(
        &self,
        platform: &Platform,
        work: impl FnOnce(&mut Live) -> Result<T, AlertsError>,
    ) -> Result<T, AlertsError> {
        let mut slot = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let mut live = match slot.take() {
            Some(live) => live,
            None => Live::load(platform)?,
        };
        let done = work(&mut live);
        if matches!(done, Ok(_) | Err(AlertsError::Book(_))) {
            *slot = Some(live);
        }
        done
    }
}

impl Live {
    fn load(platform: &Platform) -> Result<Self, AlertsError> {
        let mut book: Book = match platform.store.alert_book()? {
            Some(body) => read("the book of alerts", body)?,
            None => Book::default(),
        };
        let wall_ms = now_ms();
        let absent = match book.wall_ms() {
            0 => 0,
            then => wall_ms.saturating_sub(then).min(LONGEST_ABSENCE_MS),
        };
        book.pass(Tick {
            wall_ms,
            passed_ms: absent,
        });
        let mut outbox = Vec::new();
        for body in platform.store.alert_deliveries_open()? {
            let mut delivery: Delivery = read("a notice", body)?;
            delivery.recover(book.now_ms());
            outbox.push(delivery);
        }
        Ok(Self {
            book,
            outbox,
            looked: Instant::now(),
        })
    }

    /// How much time has passed since the tick before.
    fn tick(&mut self) -> Tick {
        let passed = self.looked.elapsed();
        let passed_ms = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
        // Less than a millisecond is not lost.
        self.looked += Duration::from_millis(passed_ms);
        Tick {
            wall_ms: now_ms(),
            passed_ms,
        }
    }

    /// Lived time now.
    fn now_ms(&self) -> u64 {
        let passed = u64::try_from(self.looked.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.book.now_ms().saturating_add(passed)
    }

    /// The next notice of a channel that is to be sent now.
    fn next(&mut self, channel: Channel) -> Option<&mut Delivery> {
        let now = self.now_ms();
        let number = due(&self.outbox, now)
            .into_iter()
            .find(|delivery| delivery.notice.channel == channel)?
            .notice
            .number;
        self.outbox
            .iter_mut()
            .find(|delivery| delivery.notice.number == number)
    }
}

fn key(rule: &str, environment: Option<Environment>) -> Key {
    Key {
        rule: rule.to_owned(),
        environment,
    }
}

/// Every open alert as not measured, so that a step leaves them as they are.
fn unmeasured(book: &Book) -> Vec<Observation> {
    book.alerts()
        .iter()
        .filter(|alert| alert.state != State::Resolved)
        .map(|alert| Observation {
            key: alert.key.clone(),
            standing: Standing::Unknown,
            hold_s: 0,
        })
        .collect()
}

fn row(delivery: &Delivery) -> Result<AlertDelivery, AlertsError> {
    Ok(AlertDelivery {
        number: delivery.notice.number,
        done: delivery.is_done(),
        body: written("a notice", delivery)?,
    })
}

fn written(what: &'static str, value: &impl Serialize) -> Result<Value, AlertsError> {
    serde_json::to_value(value).map_err(|source| AlertsError::Record { what, source })
}

fn read<T: serde::de::DeserializeOwned>(what: &'static str, body: Value) -> Result<T, AlertsError> {
    serde_json::from_value(body).map_err(|source| AlertsError::Record { what, source })
}
