//! Rules: what share of what, over which two windows, is how bad. Pure.

use crate::book::{Key, Observation, Standing};
use crate::severity::Severity;
use astraler_model::Environment;
use serde::{Deserialize, Serialize};

/// What is counted. Every metric is a share, so that counts of any length of time can be added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Requests that were answered with 5xx, of all.
    Errors,
    /// Requests that took longer, of all. "p95 > 500 ms" is "> 5 % slower than 500 ms".
    SlowerThan {
        /// Milliseconds.
        ms: u64,
    },
    /// Seconds in which the environment was down, of those in which somebody looked.
    Down,
    /// Seconds in which more of the database connections were in use than this share of the limit, of those in
    /// which somebody looked.
    ConnectionsOver {
        /// Percent of the limit.
        percent: u32,
    },
}

/// One question to whoever measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Question {
    /// Of which environment.
    pub environment: Environment,
    /// What.
    pub metric: Metric,
    /// Over the last so many seconds, or as long as there is history.
    pub window_s: u64,
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// So many were bad.
    pub bad: u64,
    /// Of so many.
    pub total: u64,
}

/// From which share on it is how bad.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Level {
    /// How bad.
    pub severity: Severity,
    /// What is counted.
    pub metric: Metric,
    /// The window that says that it matters.
    pub long_s: u64,
    /// The window that says that it still goes on; the same as the long one where one is enough.
    pub short_s: u64,
    /// The share.
    pub percent: f64,
    /// Whether exactly this share breaches it.
    pub inclusive: bool,
    /// At least so many are bad in the long window.
    pub min_bad: u64,
    /// Of at least so many.
    pub min_total: u64,
}

/// A rule: one alert for each environment, as bad as the worst level that is breached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// The alert's name.
    pub name: String,
    /// The levels, in any order.
    pub levels: Vec<Level>,
    /// So long it must be breached before anybody hears of it.
    pub hold_s: u64,
}

/// The figures that a team sets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    /// Share of failed requests.
    pub error_rate_percent: f64,
    /// 95th percentile of the latency.
    pub p95_ms: u64,
    /// Share of time.
    pub uptime_percent: f64,
    /// Database connections in use, of the limit.
    pub connections_percent: f64,
    /// Fewer errors alert nobody.
    pub min_errors: u64,
    /// Fewer requests say nothing about how slow they are.
    pub min_requests: u64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            error_rate_percent: 1.0,
            p95_ms: 500,
            uptime_percent: 99.5,
            connections_percent: 80.0,
            min_errors: 10,
            min_requests: 100,
        }
    }
}

/// A probe that failed says little; three in a row take so long.
const MIN_DOWN_S: u64 = 20;
const MINUTE: u64 = 60;
const HOUR: u64 = 3_600;
const DAY: u64 = 86_400;

/// The four rules that every production environment has.
pub fn standard(figures: &Thresholds) -> Vec<Rule> {
    let rule = |name: &str, levels: Vec<Level>| Rule {
        name: name.into(),
        levels,
        hold_s: 0,
    };
    let level = |severity, metric, long_s, short_s, percent| Level {
        severity,
        metric,
        long_s,
        short_s,
        percent,
        inclusive: false,
        min_bad: 1,
        min_total: 1,
    };
    let errors = |severity, times: f64| Level {
        min_bad: figures.min_errors,
        ..level(
            severity,
            Metric::Errors,
            HOUR,
            5 * MINUTE,
            (figures.error_rate_percent * times).min(99.0),
        )
    };
    let slow = |severity, long_s, percent| Level {
        min_total: figures.min_requests,
        ..level(
            severity,
            Metric::SlowerThan { ms: figures.p95_ms },
            long_s,
            5 * MINUTE,
            percent,
        )
    };
    // How much of the allowed down time may go in a window: burn rates of the SRE workbook.
    let budget = 100.0 - figures.uptime_percent;
    let down = |severity, long_s, short_s, times: f64| Level {
        inclusive: true,
        min_bad: MIN_DOWN_S,
        ..level(
            severity,
            Metric::Down,
            long_s,
            short_s,
            (budget * times).min(100.0),
        )
    };
    // In use for the whole window; a sample in ten may be missing.
    let connections = |severity, window_s, percent: f64| Level {
        inclusive: true,
        min_total: window_s * 9 / 10,
        ..level(
            severity,
            Metric::ConnectionsOver {
                percent: percent.clamp(1.0, 100.0) as u32,
            },
            window_s,
            window_s,
            100.0,
        )
    };
    let full = f64::midpoint(figures.connections_percent, 100.0);
    vec![
        rule(
            "errors",
            vec![errors(Severity::High, 1.0), errors(Severity::Critical, 10.0)],
        ),
        rule(
            "slow",
            vec![
                slow(Severity::High, HOUR, 5.0),
                slow(Severity::Critical, 30 * MINUTE, 30.0),
            ],
        ),
        rule(
            "uptime",
            vec![
                down(Severity::Low, 3 * DAY, 6 * HOUR, 1.0),
                down(Severity::High, 6 * HOUR, 30 * MINUTE, 6.0),
                down(Severity::Critical, HOUR, 5 * MINUTE, 14.4),
            ],
        ),
        rule(
            "connections",
            vec![
                connections(Severity::Medium, 10 * MINUTE, figures.connections_percent),
                connections(Severity::High, 5 * MINUTE, full),
            ],
        ),
    ]
}

/// How a rule stands in an environment. `measure` answers what it knows: what nobody measures neither begins nor ends
/// an alert.
pub fn evaluate(
    rule: &Rule,
    environment: Environment,
    measure: &mut dyn FnMut(Question) -> Option<Counts>,
) -> Observation {
    let mut unknown = false;
    let mut worst: Option<(Severity, String)> = None;
    for level in &rule.levels {
        let mut over = |window_s| {
            measure(Question {
                environment,
                metric: level.metric,
                window_s,
            })
        };
        let Some((long, short)) = over(level.long_s).zip(over(level.short_s)) else {
            unknown = true;
            continue;
        };
        let enough = long.bad >= level.min_bad && long.total >= level.min_total;
        let breached = enough && level.is_over(long) && level.is_over(short);
        if breached
            && worst
                .as_ref()
                .is_none_or(|(severity, _)| level.severity > *severity)
        {
            worst = Some((level.severity, level.words(long, short)));
        }
    }
    let standing = match worst {
        Some((severity, summary)) => Standing::Breached {
            severity,
            summary: format!("{environment}: {summary}"),
        },
        None if unknown => Standing::Unknown,
        None => Standing::Well,
    };
    Observation {
        key: Key {
            rule: rule.name.clone(),
            environment: Some(environment),
        },
        standing,
        hold_s: rule.hold_s,
    }
}

impl Level {
    fn is_over(&self, counts: Counts) -> bool {
        if counts.total == 0 {
            return false;
        }
        // Multiplied, not divided: 1 of 100 is exactly 1 %.
        let bad = counts.bad as f64 * 100.0;
        let limit = self.percent * counts.total as f64;
        bad > limit || (self.inclusive && bad >= limit * (1.0 - 1e-9))
    }

    fn words(&self, long: Counts, short: Counts) -> String {
        let share = |counts: Counts| percent(counts.bad as f64 * 100.0 / counts.total.max(1) as f64);
        let what = match self.metric {
            Metric::Errors => "of requests fail".to_owned(),
            Metric::SlowerThan { ms } => format!("of requests take longer than {ms} ms"),
            Metric::Down => "of the time it is down".to_owned(),
            Metric::ConnectionsOver { percent } => {
                return format!(
                    "more than {percent} % of the database connections are in use, for {}",
                    length(self.long_s)
                );
            }
        };
        let sign = if self.inclusive { ">=" } else { ">" };
        format!(
            "{} {what} over {}, {} over {} (alerts at {sign} {})",
            share(short),
            length(self.short_s),
            share(long),
            length(self.long_s),
            percent(self.percent)
        )
    }
}

fn percent(value: f64) -> String {
    let text = format!("{value:.2}");
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

fn length(seconds: u64) -> String {
    match seconds {
        s if s >= DAY && s.is_multiple_of(DAY) => format!("{} d", s / DAY),
        s if s >= HOUR && s.is_multiple_of(HOUR) => format!("{} h", s / HOUR),
        s if s >= MINUTE && s.is_multiple_of(MINUTE) => format!("{} min", s / MINUTE),
        s => format!("{s} s"),
    }
}
