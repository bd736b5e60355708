//! The life of alerts: pending, firing, resolved; acknowledged, silenced, escalated; and when who is told. Pure: what
//! comes in is how rules stand and how much time has passed, what goes out is notices.
//!
//! All deadlines are in lived time: the sum of what the caller says has passed. The wall clock is only written down,
//! for people. So a clock that jumps neither loses an alert nor doubles one.

use crate::notice::{Notice, NoticeKind, Subject};
use crate::severity::{Channel, Policy, Route, Severity};
use astraler_model::Environment;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// More alerts at once are refused: what happens to one rule in one environment is one alert.
pub const MAX_ALERTS: usize = 1_000;
/// More silences at once are refused.
pub const MAX_SILENCES: usize = 100;
const MAX_SUMMARY: usize = 2_000;

/// What makes two breaches one alert.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    /// The rule.
    pub rule: String,
    /// The environment; none for what the whole platform has in common.
    pub environment: Option<Environment>,
}

/// How a rule stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// Of which alert.
    pub key: Key,
    /// How.
    pub standing: Standing,
    /// So long it must be breached before anybody hears of it.
    pub hold_s: u64,
}

/// How a rule stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Within its limits.
    Well,
    /// Not.
    Breached {
        /// How bad.
        severity: Severity,
        /// What a person reads.
        summary: String,
    },
    /// Nobody measured: nothing begins, nothing ends.
    Unknown,
}

/// An alert that no rule measures: a part of the platform raises it, and lowers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raise {
    /// Which.
    pub key: Key,
    /// How bad.
    pub severity: Severity,
    /// What a person reads.
    pub summary: String,
    /// It ends by itself.
    pub lasts_s: Option<u64>,
    /// Nobody waits for others to join.
    pub at_once: bool,
}

/// Time, as the caller says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tick {
    /// The wall clock, in milliseconds since the Unix epoch: shown, never counted with.
    pub wall_ms: u64,
    /// How much time has passed since the tick before, by a clock that does not jump.
    pub passed_ms: u64,
}

/// Where an alert is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Breached, not for long enough yet.
    Pending,
    /// People are told.
    Firing,
    /// Over; those who were told are told that too, and then it is forgotten.
    Resolved,
}

/// An alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// Its number: the same rule that breaks again later is another one.
    pub number: u64,
    /// What it is about.
    pub key: Key,
    /// The worst that it has been, with escalations.
    pub severity: Severity,
    /// What a person reads.
    pub summary: String,
    /// Where it is in its life.
    pub state: State,
    /// Since when, by the wall clock.
    pub began_wall_ms: u64,
    /// Until when, by the wall clock.
    pub ended_wall_ms: Option<u64>,
    /// Who looks after it.
    pub acknowledged: Option<Acknowledgement>,
    /// How often nobody had acknowledged it in time.
    pub escalations: u32,
    /// Who was told, when, and as how bad.
    pub told: BTreeMap<Channel, Told>,
    /// A rule measures it; otherwise it ends when it is lowered.
    measured: bool,
    /// How bad its rule says that it is, without escalations.
    observed: Severity,
    since_ms: u64,
    clear_since_ms: Option<u64>,
    ends_ms: Option<u64>,
    escalate_ms: u64,
    /// To be told again.
    again: bool,
}

/// Somebody looks after an alert, for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// Who.
    pub by: String,
    /// Until when, by the wall clock as it was then.
    pub until_wall_ms: u64,
    until_ms: u64,
}

/// When a channel last heard of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    at_ms: u64,
    severity: Severity,
}

/// Nobody is told of what it fits, for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// Its number.
    pub number: u64,
    /// Of this rule only.
    pub rule: Option<String>,
    /// Of this environment only.
    pub environment: Option<Environment>,
    /// Who asked for it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Until when, by the wall clock as it was then.
    pub until_wall_ms: u64,
    until_ms: u64,
}

/// What one look at the alerts led to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outcome {
    /// To be sent.
    pub notices: Vec<Notice>,
    /// Forgotten from now on: for a history.
    pub ended: Vec<Alert>,
    /// Whether the book must be written down.
    pub changed: bool,
}

/// What cannot be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BookError {
    /// No alert of that number is open.
    #[error("there is no open alert {0}: `astraler alerts list` shows them")]
    NoAlert(u64),
    /// No silence of that number holds.
    #[error("there is no silence {0}: `astraler alerts list` shows them")]
    NoSilence(u64),
    /// Too many.
    #[error("there are {0} already; end one first")]
    Full(usize),
}

/// All alerts and silences. It is plain data: what is written down and read again is the same book.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Book {
    /// Lived time.
    now_ms: u64,
    /// The wall clock at that time.
    wall_ms: u64,
    last_alert: u64,
    last_silence: u64,
    last_notice: u64,
    alerts: Vec<Alert>,
    silences: Vec<Silence>,
    groups: Vec<Group>,
}

/// Alerts of one environment and severity are told together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Group {
    environment: Option<Environment>,
    severity: Severity,
    /// Not before this time.
    flush_ms: u64,
}

impl Book {
    /// Lived time: deliveries count with it too.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// The wall clock when the book was last looked at.
    pub fn wall_ms(&self) -> u64 {
        self.wall_ms
    }

    /// What is open, and what is resolved and not told yet; the oldest first.
    pub fn alerts(&self) -> &[Alert] {
        &self.alerts
    }

    /// Silences that hold.
    pub fn silences(&self) -> &[Silence] {
        &self.silences
    }

    /// Whether nobody is told of it.
    pub fn is_silenced(&self, key: &Key) -> bool {
        self.silences.iter().any(|silence| silence.fits(key))
    }

    /// Time passes, and nothing else happens: what somebody asks for now is dated now.
    pub fn pass(&mut self, tick: Tick) {
        self.now_ms = self.now_ms.saturating_add(tick.passed_ms);
        self.wall_ms = tick.wall_ms;
    }

    /// Time passes, rules stand as they are measured: every rule's alert that is measured must be among them, because
    /// one that is not is of a rule or an environment that is gone, and well.
    pub fn step(&mut self, tick: Tick, measured: &[Observation], policy: &Policy) -> Outcome {
        let before = self.content();
        self.pass(tick);
        let now = self.now_ms;
        self.silences.retain(|silence| now < silence.until_ms);
        for observation in measured {
            self.observe(observation, policy);
        }
        self.end_what_is_well(measured, policy);
        self.escalate(policy);
        let notices = self.flush(policy);
        let (open, ended) = std::mem::take(&mut self.alerts)
            .into_iter()
            .partition(|alert| alert.state != State::Resolved || !alert.told.is_empty());
        self.alerts = open;
        Outcome {
            notices,
            ended,
            changed: before != self.content(),
        }
    }

    /// Raises an alert, or says anew what it is about. The next step tells of it.
    pub fn raise(&mut self, raise: Raise, policy: &Policy) -> Result<u64, BookError> {
        let Raise {
            key,
            severity,
            summary,
            lasts_s,
            at_once,
        } = raise;
        let observation = Observation {
            key: key.clone(),
            standing: Standing::Breached { severity, summary },
            hold_s: 0,
        };
        self.observe(&observation, policy);
        let (now, number) = (self.now_ms, self.last_alert);
        let alert = self.open_mut(&key).ok_or(BookError::Full(MAX_ALERTS))?;
        if alert.number == number {
            alert.measured = false;
        }
        alert.ends_ms = lasts_s.map(|lasts| now.saturating_add(lasts.saturating_mul(1_000)));
        let (number, severity) = (alert.number, alert.severity);
        if at_once {
            self.group(key.environment, severity, now).flush_ms = now;
        }
        Ok(number)
    }

    /// What was raised is over. Returns whether there was such an alert.
    pub fn lower(&mut self, key: &Key) -> bool {
        let now = self.now_ms;
        let alert = self.open_mut(key).filter(|alert| !alert.measured);
        alert.map(|alert| alert.ends_ms = Some(now)).is_some()
    }

    /// Somebody looks after an alert: it neither repeats nor escalates for a while. Those who were told hear of it.
    pub fn acknowledge(&mut self, number: u64, by: &str, lasts_s: u64) -> Result<Vec<Notice>, BookError> {
        let until_ms = self.now_ms.saturating_add(lasts_s.saturating_mul(1_000));
        let until_wall_ms = self.wall_ms.saturating_add(lasts_s.saturating_mul(1_000));
        let alert = self
            .alerts
            .iter_mut()
            .find(|alert| alert.number == number && alert.state != State::Resolved)
            .ok_or(BookError::NoAlert(number))?;
        alert.acknowledged = Some(Acknowledgement {
            by: by.to_owned(),
            until_wall_ms,
            until_ms,
        });
        alert.again = false;
        let alert = alert.clone();
        let told = alert
            .told
            .keys()
            .filter(|channel| matches!(channel, Channel::PagerDuty | Channel::Slack));
        let subjects = vec![Subject::of(&alert)];
        Ok(told
            .map(|channel| {
                self.last_notice += 1;
                Notice {
                    number: self.last_notice,
                    channel: *channel,
                    kind: NoticeKind::Acknowledge { by: by.to_owned() },
                    environment: alert.key.environment,
                    severity: alert.severity,
                    wall_ms: self.wall_ms,
                    subjects: subjects.clone(),
                }
            })
            .collect())
    }

    /// Nobody is told of what this fits, for a while.
    pub fn silence(
        &mut self,
        rule: Option<String>,
        environment: Option<Environment>,
        by: &str,
        reason: &str,
        lasts_s: u64,
    ) -> Result<u64, BookError> {
        if self.silences.len() >= MAX_SILENCES {
            return Err(BookError::Full(MAX_SILENCES));
        }
        self.last_silence += 1;
        self.silences.push(Silence {
            number: self.last_silence,
            rule,
            environment,
            by: by.to_owned(),
            reason: reason.to_owned(),
            until_wall_ms: self.wall_ms.saturating_add(lasts_s.saturating_mul(1_000)),
            until_ms: self.now_ms.saturating_add(lasts_s.saturating_mul(1_000)),
        });
        Ok(self.last_silence)
    }

    /// Ends a silence.
    pub fn unsilence(&mut self, number: u64) -> Result<(), BookError> {
        let before = self.silences.len();
        self.silences.retain(|silence| silence.number != number);
        if self.silences.len() == before {
            return Err(BookError::NoSilence(number));
        }
        Ok(())
    }

    /// All but the clocks.
    fn content(&self) -> (u64, Vec<Alert>, Vec<Silence>, Vec<Group>) {
        (
            self.last_notice,
            self.alerts.clone(),
            self.silences.clone(),
            self.groups.clone(),
        )
    }

    fn open_mut(&mut self, key: &Key) -> Option<&mut Alert> {
        let mut alerts = self.alerts.iter_mut();
        alerts.find(|alert| alert.key == *key && alert.state != State::Resolved)
    }

    fn observe(&mut self, observation: &Observation, policy: &Policy) {
        let (now, wall) = (self.now_ms, self.wall_ms);
        let Standing::Breached { severity, summary } = &observation.standing else {
            return;
        };
        let summary = summary[..summary.floor_char_boundary(MAX_SUMMARY)].to_owned();
        if self.open_mut(&observation.key).is_none() {
            if self.alerts.len() >= MAX_ALERTS {
                return;
            }
            self.last_alert += 1;
            self.alerts.push(Alert {
                number: self.last_alert,
                key: observation.key.clone(),
                severity: *severity,
                summary: summary.clone(),
                state: State::Pending,
                began_wall_ms: wall,
                ended_wall_ms: None,
                acknowledged: None,
                escalations: 0,
                told: BTreeMap::new(),
                measured: true,
                observed: *severity,
                since_ms: now,
                clear_since_ms: None,
                ends_ms: None,
                escalate_ms: u64::MAX,
                again: false,
            });
        }
        let hold_ms = observation.hold_s.saturating_mul(1_000);
        let Some(alert) = self.open_mut(&observation.key) else {
            return;
        };
        alert.clear_since_ms = None;
        alert.summary = summary;
        let worse = *severity > alert.observed;
        alert.observed = alert.observed.max(*severity);
        let begins = alert.state == State::Pending && now - alert.since_ms >= hold_ms;
        if worse && *severity > alert.severity {
            alert.severity = *severity;
            // Who looked after something mild has not said that they look after this.
            alert.acknowledged = None;
        }
        if begins {
            alert.state = State::Firing;
        }
        if alert.state == State::Firing && (begins || worse) {
            alert.escalate_ms = deadline(now, policy, alert.severity);
            let (environment, severity) = (alert.key.environment, alert.severity);
            let wait_ms = policy
                .routes
                .get(&severity)
                .map_or(0, |route| route.wait_s.saturating_mul(1_000));
            self.group(environment, severity, now.saturating_add(wait_ms));
        }
    }

    fn end_what_is_well(&mut self, measured: &[Observation], policy: &Policy) {
        let (now, wall) = (self.now_ms, self.wall_ms);
        let ill: BTreeSet<&Key> = measured
            .iter()
            .filter(|observation| observation.standing != Standing::Well)
            .map(|observation| &observation.key)
            .collect();
        for alert in &mut self.alerts {
            let over = match alert.state {
                State::Resolved => continue,
                _ if !alert.measured => alert.ends_ms.is_some_and(|end| now >= end),
                _ if ill.contains(&alert.key) => false,
                State::Pending => true,
                State::Firing => {
                    let since = *alert.clear_since_ms.get_or_insert(now);
                    now - since >= policy.clear_s.saturating_mul(1_000)
                }
            };
            if over {
                alert.state = State::Resolved;
                alert.ended_wall_ms = Some(wall);
            }
        }
    }

    /// Nobody acknowledged in time: one severity up; from the last one there is no way up, and it is told again.
    fn escalate(&mut self, policy: &Policy) {
        let now = self.now_ms;
        let mut moved = Vec::new();
        for alert in &mut self.alerts {
            if alert.state != State::Firing {
                continue;
            }
            if let Some(acknowledged) = &alert.acknowledged {
                if now < acknowledged.until_ms {
                    continue;
                }
                alert.acknowledged = None;
                alert.again = true;
                alert.escalate_ms = deadline(now, policy, alert.severity);
                moved.push((alert.key.environment, alert.severity));
            }
            if self.silences.iter().any(|silence| silence.fits(&alert.key)) {
                alert.escalate_ms = deadline(now, policy, alert.severity);
                continue;
            }
            if now < alert.escalate_ms {
                continue;
            }
            alert.escalations = alert.escalations.saturating_add(1);
            alert.severity = alert.severity.worse().unwrap_or(alert.severity);
            alert.again = true;
            alert.escalate_ms = deadline(now, policy, alert.severity);
            moved.push((alert.key.environment, alert.severity));
        }
        for (environment, severity) in moved {
            self.group(environment, severity, now).flush_ms = now;
        }
    }

    /// The group, made when there is none.
    fn group(&mut self, environment: Option<Environment>, severity: Severity, flush_ms: u64) -> &mut Group {
        let fits = |group: &Group| group.environment == environment && group.severity == severity;
        let index = self.groups.iter().position(fits).unwrap_or_else(|| {
            self.groups.push(Group {
                environment,
                severity,
                flush_ms,
            });
            self.groups.len() - 1
        });
        &mut self.groups[index]
    }

    fn flush(&mut self, policy: &Policy) -> Vec<Notice> {
        let now = self.now_ms;
        let mut notices = Vec::new();
        let mut groups = std::mem::take(&mut self.groups);
        for group in &mut groups {
            let route = policy.routes.get(&group.severity);
            if now >= group.flush_ms && self.tell(group, route, &mut notices) {
                let interval_ms = route.map_or(0, |route| route.interval_s.saturating_mul(1_000));
                group.flush_ms = now.saturating_add(interval_ms);
            }
        }
        groups.retain(|group| self.alerts.iter().any(|alert| group.holds(alert)));
        self.groups = groups;
        notices
    }

    /// Tells what is new of a group. Returns whether anything was.
    fn tell(&mut self, group: &Group, route: Option<&Route>, notices: &mut Vec<Notice>) -> bool {
        let (now, before) = (self.now_ms, notices.len());
        let empty = BTreeSet::new();
        let routed = route.map_or(&empty, |route| &route.channels);
        let repeat_ms = route.map_or(u64::MAX, |route| route.repeat_s.saturating_mul(1_000));
        for channel in Channel::ALL {
            if channel == Channel::Dashboard {
                continue;
            }
            let over: Vec<usize> = self.which(|alert| {
                group.holds(alert) && alert.state == State::Resolved && alert.told.contains_key(&channel)
            });
            self.say(group, channel, &NoticeKind::Resolve, &over, notices);
            for index in over {
                self.alerts[index].told.remove(&channel);
            }
            if !routed.contains(&channel) {
                continue;
            }
            let mut open = self.which(|alert| {
                group.holds(alert) && alert.state == State::Firing && !self.is_silenced(&alert.key)
            });
            let fresh = |index: &usize| {
                let alert = &self.alerts[*index];
                alert.again
                    || alert.told.get(&channel).is_none_or(|told| {
                        let due = alert.acknowledged.is_none() && now - told.at_ms >= repeat_ms;
                        told.severity < alert.severity || due
                    })
            };
            if !open.iter().any(fresh) {
                continue;
            }
            if channel == Channel::PagerDuty {
                // An incident of its own each: who was told of one is not told again because of another.
                open.retain(fresh);
            }
            self.say(group, channel, &NoticeKind::Trigger, &open, notices);
            for index in open {
                let severity = self.alerts[index].severity;
                let told = Told { at_ms: now, severity };
                self.alerts[index].told.insert(channel, told);
            }
        }
        for index in self.which(|alert| group.holds(alert) && alert.state == State::Firing) {
            if !self.is_silenced(&self.alerts[index].key) {
                self.alerts[index].again = false;
            }
        }
        notices.len() > before
    }

    fn which(&self, fits: impl Fn(&Alert) -> bool) -> Vec<usize> {
        (0..self.alerts.len())
            .filter(|index| fits(&self.alerts[*index]))
            .collect()
    }

    /// One notice of several alerts; to PagerDuty, one of each.
    fn say(
        &mut self,
        group: &Group,
        channel: Channel,
        kind: &NoticeKind,
        which: &[usize],
        notices: &mut Vec<Notice>,
    ) {
        let size = if channel == Channel::PagerDuty {
            1
        } else {
            MAX_ALERTS
        };
        for some in which.chunks(size) {
            self.last_notice += 1;
            notices.push(Notice {
                number: self.last_notice,
                channel,
                kind: kind.clone(),
                environment: group.environment,
                severity: group.severity,
                wall_ms: self.wall_ms,
                subjects: some
                    .iter()
                    .map(|index| Subject::of(&self.alerts[*index]))
                    .collect(),
            });
        }
    }
}

impl Group {
    fn holds(&self, alert: &Alert) -> bool {
        let told = alert.state == State::Firing || (alert.state == State::Resolved && !alert.told.is_empty());
        told && alert.key.environment == self.environment && alert.severity == self.severity
    }
}

impl Silence {
    fn fits(&self, key: &Key) -> bool {
        self.rule.as_ref().is_none_or(|rule| *rule == key.rule)
            && self
                .environment
                .is_none_or(|environment| key.environment == Some(environment))
    }
}

fn deadline(now_ms: u64, policy: &Policy, severity: Severity) -> u64 {
    let route = policy.routes.get(&severity);
    route.map_or(u64::MAX, |route| {
        now_ms.saturating_add(route.acknowledge_s.saturating_mul(1_000))
    })
}
