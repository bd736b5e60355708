//! A script of what happens to a book, and the transcript of what it says.

use astraler_alert::{Book, Key, Observation, Policy, Raise, Severity, Standing, Tick};
use astraler_model::Environment;
use std::collections::BTreeMap;
use std::fmt::Write;

pub(crate) struct World {
    pub(crate) book: Book,
    pub(crate) policy: Policy,
    pub(crate) wall_ms: u64,
    standing: BTreeMap<(String, Option<Environment>), Standing>,
    out: String,
}

/// 2026-11-27 12:00:00 UTC.
pub(crate) const NOON: u64 = 1_795_780_800_000;

impl World {
    pub(crate) fn new() -> Self {
        // A look every ten seconds sees a wait only that is longer than that.
        let mut policy = Policy::default();
        for route in policy.routes.values_mut().filter(|route| route.wait_s > 0) {
            route.wait_s = 30;
        }
        Self {
            book: Book::default(),
            policy,
            wall_ms: NOON,
            standing: BTreeMap::new(),
            out: String::new(),
        }
    }

    /// One line of a script; a look every ten seconds, as the daemon does.
    fn line(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let key = |place: &str, rule: &str| (rule.to_owned(), place.parse().ok());
        match words[..] {
            ["breach", place, rule, severity] => {
                let standing = Standing::Breached {
                    severity: severity.parse().unwrap(),
                    summary: format!("{rule} is {severity}"),
                };
                self.standing.insert(key(place, rule), standing);
            }
            ["well", place, rule] => {
                self.standing.insert(key(place, rule), Standing::Well);
            }
            ["unmeasured", place, rule] => {
                self.standing.insert(key(place, rule), Standing::Unknown);
            }
            ["gone", place, rule] => {
                self.standing.remove(&key(place, rule));
            }
            ["raise", place, rule, severity] => {
                let raise = Raise {
                    key: Key {
                        rule: rule.to_owned(),
                        environment: place.parse().ok(),
                    },
                    severity: severity.parse().unwrap(),
                    summary: format!("{rule} was raised"),
                    lasts_s: None,
                    at_once: true,
                };
                self.book.raise(raise, &self.policy).unwrap();
            }
            ["lower", place, rule] => {
                let environment = place.parse().ok();
                let key = Key {
                    rule: rule.to_owned(),
                    environment,
                };
                assert!(self.book.lower(&key));
            }
            ["ack", number, seconds] => {
                let (number, seconds) = (number.parse().unwrap(), seconds.parse().unwrap());
                let notices = self.book.acknowledge(number, "ada", seconds).unwrap();
                self.told(&notices);
            }
            ["silence", rule, seconds] => {
                let seconds = seconds.parse().unwrap();
                self.book
                    .silence(Some(rule.to_owned()), None, "ada", "maintenance", seconds)
                    .unwrap();
            }
            ["clock", jump] => {
                let jump: i64 = jump.parse().unwrap();
                self.wall_ms = self.wall_ms.saturating_add_signed(jump * 1_000);
            }
            ["restart"] => {
                let written = serde_json::to_string(&self.book).unwrap();
                self.book = serde_json::from_str(&written).unwrap();
            }
            ["look"] => self.look(0),
            ["for", seconds] => {
                let seconds: u64 = seconds.parse().unwrap();
                for _ in 0..seconds / 10 {
                    self.look(10_000);
                }
            }
            _ => panic!("no such line: {line}"),
        }
    }

    fn look(&mut self, passed_ms: u64) {
        self.wall_ms += passed_ms;
        let tick = Tick {
            wall_ms: self.wall_ms,
            passed_ms,
        };
        let measured: Vec<Observation> = self
            .standing
            .iter()
            .map(|((rule, environment), standing)| Observation {
                key: Key {
                    rule: rule.clone(),
                    environment: *environment,
                },
                standing: standing.clone(),
                hold_s: 0,
            })
            .collect();
        let outcome = self.book.step(tick, &measured, &self.policy);
        self.told(&outcome.notices);
        for alert in outcome.ended {
            let (now, number) = (self.now(), alert.number);
            writeln!(self.out, "{now} alert {number} {} is forgotten", alert.key.rule).unwrap();
        }
    }

    fn now(&self) -> String {
        let seconds = self.book.now_ms() / 1_000;
        format!(
            "{:>2}:{:02}:{:02}",
            seconds / 3_600,
            seconds / 60 % 60,
            seconds % 60
        )
    }

    fn told(&mut self, notices: &[astraler_alert::Notice]) {
        for notice in notices {
            let subjects: Vec<String> = notice
                .subjects
                .iter()
                .map(|subject| subject.number.to_string())
                .collect();
            let (now, subjects) = (self.now(), subjects.join(","));
            writeln!(
                self.out,
                "{now} {} {} ({subjects})",
                notice.channel,
                notice.title()
            )
            .unwrap();
        }
    }
}

/// Runs a script, and says what was said.
pub(crate) fn run(script: &str) -> String {
    let mut world = World::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        world.line(line);
    }
    world.out
}

pub(crate) fn breached(rule: &str, environment: Environment, severity: Severity) -> Observation {
    Observation {
        key: Key {
            rule: rule.to_owned(),
            environment: Some(environment),
        },
        standing: Standing::Breached {
            severity,
            summary: format!("{rule} is {severity}"),
        },
        hold_s: 0,
    }
}
