//! The four rules, at their limits.

use astraler_alert::{Counts, Metric, Question, Severity, Standing, Thresholds, evaluate, standard};
use astraler_model::Environment::Production;

fn judged(rule: &str, measure: impl Fn(Question) -> Option<Counts>) -> Standing {
    let rules = standard(&Thresholds::default());
    let rule = rules.iter().find(|known| known.name == rule).unwrap();
    evaluate(rule, Production, &mut |question| measure(question)).standing
}

fn severity(standing: &Standing) -> Option<Severity> {
    match standing {
        Standing::Breached { severity, .. } => Some(*severity),
        _ => None,
    }
}

/// The same share in each window, of a constant load.
fn steady(bad: u64, total: u64) -> impl Fn(Question) -> Option<Counts> {
    move |_| Some(Counts { bad, total })
}

#[test]
fn errors_alert_above_one_percent_from_ten_on() {
    let of = |bad, total| severity(&judged("errors", steady(bad, total)));
    assert_eq!(of(10, 1_000), None, "exactly 1 %");
    assert_eq!(of(11, 1_000), Some(Severity::High));
    assert_eq!(of(9, 100), None, "too few");
    assert_eq!(of(100, 1_000), Some(Severity::High), "exactly 10 %");
    assert_eq!(of(101, 1_000), Some(Severity::Critical));
    assert_eq!(of(0, 0), None, "nobody asked for anything");
}

#[test]
fn both_windows_must_breach() {
    let (well, ill) = (
        Counts { bad: 0, total: 1_000 },
        Counts {
            bad: 500,
            total: 1_000,
        },
    );
    let over = Some("production: 50 % of requests fail over 5 min, 50 % over 1 h (alerts at > 10 %)");
    for (short, long, expected) in [(ill, well, None), (well, ill, None), (ill, ill, over)] {
        let standing = judged("errors", |question| {
            Some(if question.window_s == 300 { short } else { long })
        });
        match standing {
            Standing::Breached { summary, .. } => assert_eq!(Some(summary.as_str()), expected),
            other => assert_eq!((other, None), (Standing::Well, expected)),
        }
    }
}

#[test]
fn slow_requests_are_the_p95_said_otherwise() {
    let of = |bad, total| {
        severity(&judged("slow", |question| {
            assert_eq!(question.metric, Metric::SlowerThan { ms: 500 });
            Some(Counts { bad, total })
        }))
    };
    assert_eq!(of(5, 100), None);
    assert_eq!(of(6, 100), Some(Severity::High));
    assert_eq!(of(6, 99), None, "too few requests");
    assert_eq!(of(31, 100), Some(Severity::Critical));
}

#[test]
fn downtime_alerts_by_how_fast_it_uses_up_what_is_allowed() {
    let down = |seconds: u64| {
        severity(&judged("uptime", |question| {
            Some(Counts {
                bad: seconds.min(question.window_s),
                total: question.window_s,
            })
        }))
    };
    assert_eq!(down(0), None);
    assert_eq!(down(259), None);
    assert_eq!(down(260), Some(Severity::Critical), "7.2 % of an hour");
    // It is well again for ten minutes: three percent of six hours are still gone.
    // A young environment: the first probe fails, or two.
    let young = |seconds| {
        severity(&judged("uptime", |_| {
            Some(Counts {
                bad: seconds,
                total: seconds,
            })
        }))
    };
    assert_eq!((young(15), young(20)), (None, Some(Severity::Critical)));
    let standing = judged("uptime", |question| {
        let bad = if question.window_s <= 300 { 0 } else { 700 };
        Some(Counts {
            bad,
            total: question.window_s,
        })
    });
    assert_eq!(severity(&standing), Some(Severity::High));
    let drift = judged("uptime", |question| {
        Some(Counts {
            bad: question.window_s / 200,
            total: question.window_s,
        })
    });
    assert_eq!(severity(&drift), Some(Severity::Low), "0.5 % for three days");
}

#[test]
fn connections_alert_when_they_stay_near_the_limit() {
    let of = |watched: u64, over_80: u64, over_90: u64| {
        severity(&judged("connections", |question| {
            let Metric::ConnectionsOver { percent } = question.metric else {
                panic!("{question:?}");
            };
            let over = if percent == 80 { over_80 } else { over_90 };
            assert!(percent == 80 || percent == 90);
            let total = watched.min(question.window_s);
            Some(Counts {
                bad: over.min(total),
                total,
            })
        }))
    };
    assert_eq!(of(600, 600, 0), Some(Severity::Medium));
    assert_eq!(of(600, 590, 0), None);
    assert_eq!(of(600, 600, 300), Some(Severity::High));
    assert_eq!(of(100, 100, 100), None, "watched for too short a time");
}

#[test]
fn a_window_longer_than_the_history_uses_what_there_is() {
    // A deployment of a minute ago: both windows hold the same requests.
    let standing = judged("errors", steady(40, 300));
    assert_eq!(severity(&standing), Some(Severity::Critical));
}

#[test]
fn what_is_not_measured_is_unknown() {
    assert_eq!(judged("errors", |_| None), Standing::Unknown);
    let half = judged("uptime", |question| {
        (question.window_s <= 3_600).then_some(Counts {
            bad: question.window_s,
            total: question.window_s,
        })
    });
    assert_eq!(severity(&half), Some(Severity::Critical), "the worst is known");
}

#[test]
fn figures_of_ones_own() {
    let figures = Thresholds {
        error_rate_percent: 5.0,
        p95_ms: 200,
        uptime_percent: 99.9,
        connections_percent: 50.0,
        min_errors: 1,
        min_requests: 1,
    };
    let rules = standard(&figures);
    let limits: Vec<f64> = rules
        .iter()
        .flat_map(|rule| {
            rule.levels
                .iter()
                .map(|level| (level.percent * 100.0).round() / 100.0)
        })
        .collect();
    assert_eq!(limits, [5.0, 50.0, 5.0, 30.0, 0.1, 0.6, 1.44, 100.0, 100.0]);
    let metrics: Vec<Metric> = rules[3].levels.iter().map(|level| level.metric).collect();
    assert_eq!(
        metrics,
        [50, 75].map(|percent| Metric::ConnectionsOver { percent })
    );
}
