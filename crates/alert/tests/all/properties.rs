//! What holds whatever happens.

use crate::script::{NOON, World, breached};
use astraler_alert::{Channel, NoticeKind, Observation, Severity, State, Tick};
use astraler_model::Environment;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Debug, Clone)]
enum Event {
    Breach(usize, Severity),
    Well(usize),
    Acknowledge(usize, u64),
    Silence(usize, u64),
    Jump(i64),
    Restart,
    Pass(u64),
}

const RULES: [(&str, Environment); 4] = [
    ("errors", Environment::Production),
    ("slow", Environment::Production),
    ("uptime", Environment::Staging),
    ("errors", Environment::Staging),
];

fn event() -> impl Strategy<Value = Event> {
    let severity = prop::sample::select(Severity::ALL.to_vec());
    prop_oneof![
        3 => (0..4_usize, severity).prop_map(|(rule, severity)| Event::Breach(rule, severity)),
        2 => (0..4_usize).prop_map(Event::Well),
        1 => (0..4_usize, 1..20_000_u64).prop_map(|(alert, lasts)| Event::Acknowledge(alert, lasts)),
        1 => (0..4_usize, 1..20_000_u64).prop_map(|(rule, lasts)| Event::Silence(rule, lasts)),
        1 => (-100_000_000_000..100_000_000_000_i64).prop_map(Event::Jump),
        1 => Just(Event::Restart),
        6 => prop_oneof![Just(10_u64), 10..2_000_u64, 10..100_000_u64].prop_map(Event::Pass),
    ]
}

/// What was said: when, to whom, what, of which alert.
type Said = Vec<(u64, Channel, &'static str, u64, Severity)>;

fn play(events: &[Event], jumps: bool, end: bool) -> (World, Said) {
    let mut world = World::new();
    let mut ill: BTreeMap<usize, Severity> = BTreeMap::new();
    let mut said = Said::new();
    let mut note = |now: u64, notices: Vec<astraler_alert::Notice>| {
        for notice in notices {
            let kind = match notice.kind {
                NoticeKind::Trigger => "trigger",
                NoticeKind::Acknowledge { .. } => "acknowledge",
                NoticeKind::Resolve => "resolve",
            };
            for subject in &notice.subjects {
                said.push((now, notice.channel, kind, subject.number, notice.severity));
            }
        }
    };
    let mut look = |world: &mut World, ill: &BTreeMap<usize, Severity>, passed_ms: u64| {
        let measured: Vec<Observation> = ill
            .iter()
            .map(|(rule, severity)| breached(RULES[*rule].0, RULES[*rule].1, *severity))
            .collect();
        let tick = Tick {
            wall_ms: world.wall_ms,
            passed_ms,
        };
        let before = serde_json::to_value(&world.book).unwrap();
        let outcome = world.book.step(tick, &measured, &world.policy);
        let mut after = serde_json::to_value(&world.book).unwrap();
        for clock in ["now_ms", "wall_ms"] {
            after[clock] = before[clock].clone();
        }
        assert!(outcome.changed || before == after, "changed in silence");
        assert!(outcome.changed || outcome.notices.is_empty());
        note(world.book.now_ms(), outcome.notices);
    };
    for event in events {
        match event {
            Event::Breach(rule, severity) => {
                ill.insert(*rule, *severity);
            }
            Event::Well(rule) => {
                ill.remove(rule);
            }
            Event::Acknowledge(alert, lasts) => {
                let number = world.book.alerts().get(*alert).map(|alert| alert.number);
                if let Some(number) = number {
                    let _ = world.book.acknowledge(number, "ada", *lasts);
                }
            }
            Event::Silence(rule, lasts) => {
                let (rule, environment) = RULES[*rule];
                let _ = world
                    .book
                    .silence(Some(rule.to_owned()), Some(environment), "ada", "", *lasts);
            }
            Event::Jump(by) if jumps => world.wall_ms = NOON.saturating_add_signed(*by),
            Event::Jump(_) => {}
            Event::Restart => {
                let written = serde_json::to_string(&world.book).unwrap();
                world.book = serde_json::from_str(&written).unwrap();
            }
            Event::Pass(seconds) => look(&mut world, &ill, seconds * 1_000),
        }
    }
    if end {
        // Everything is well, and silences end: whoever heard of a beginning hears of the end.
        for _ in 0..100 {
            look(&mut world, &BTreeMap::new(), 10_000);
        }
    }
    (world, said)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_wall_clock_decides_nothing(events in prop::collection::vec(event(), 1..60)) {
        let (_, jumping) = play(&events, true, true);
        let (_, still) = play(&events, false, true);
        prop_assert_eq!(jumping, still);
    }

    #[test]
    fn every_beginning_that_was_told_has_its_end_told_once(events in prop::collection::vec(event(), 1..60)) {
        let (world, said) = play(&events, true, true);
        prop_assert!(world.book.alerts().is_empty());
        let mut told: BTreeMap<(u64, Channel), i32> = BTreeMap::new();
        for (_, channel, kind, number, _) in said {
            let open = told.entry((number, channel)).or_default();
            match kind {
                "trigger" => *open = 1,
                "resolve" => {
                    prop_assert_eq!(*open, 1, "an end without a beginning");
                    *open = 0;
                }
                _ => prop_assert_eq!(*open, 1, "acknowledged to somebody who never heard of it"),
            }
        }
        prop_assert!(told.values().all(|open| *open == 0), "{:?}", told);
    }

    #[test]
    fn nobody_hears_the_same_twice_within_a_minute(events in prop::collection::vec(event(), 1..60)) {
        let (_, said) = play(&events, true, false);
        let mut last: BTreeMap<(Channel, u64, Severity), u64> = BTreeMap::new();
        for (now, channel, kind, number, severity) in said {
            // Slack hears again of all of a group when one is new in it; an incident of PagerDuty is its own.
            if kind != "trigger" || channel != Channel::PagerDuty {
                continue;
            }
            if let Some(before) = last.insert((channel, number, severity), now) {
                prop_assert!(now - before >= 60_000, "{} after {}", now, before);
            }
        }
    }

    #[test]
    fn who_should_have_heard_has_heard(events in prop::collection::vec(event(), 1..60)) {
        let (mut world, _) = play(&events, true, false);
        // Nothing changes for the longest wait and interval.
        let observed: Vec<Observation> = world
            .book
            .alerts()
            .iter()
            .filter(|alert| alert.state == State::Firing)
            .map(|alert| breached(&alert.key.rule, alert.key.environment.unwrap(), alert.severity))
            .collect();
        for _ in 0..40 {
            let tick = Tick { wall_ms: 0, passed_ms: 10_000 };
            world.book.step(tick, &observed, &world.policy);
        }
        for alert in world.book.alerts() {
            if alert.state != State::Firing || world.book.is_silenced(&alert.key) {
                continue;
            }
            for channel in &world.policy.routes[&alert.severity].channels {
                let heard = alert.told.contains_key(channel) || *channel == Channel::Dashboard;
                prop_assert!(heard, "{} never heard of {:?}", channel, alert);
            }
        }
    }
}
