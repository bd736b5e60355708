//! Who asked how often: the generic cell rate algorithm, one number a client, in a table of fixed size.
//!
//! A client's number is the time at which all that it has asked would be paid off (the theoretical arrival time, ATM Forum
//! TM 4.1; one request costs `period / requests`). It may lie in the future by as much as a burst costs. Who is ahead of
//! that comes too often. Counting is exact whatever the number of threads: each decision is one look and one write under
//! the lock of its set.
//!
//! # Forgetting
//!
//! Keys fall into sets of eight, by a hash with a secret key. A client that is not there takes a free place, else that of a
//! client whose number has passed (it would begin from zero anyway), else that of the client which owes least. So one
//! cannot reset one's own count cheaply: to have a client forgotten that owes k requests, seven others that owe more than
//! k each must stand in its set, and nobody knows which set that is; over the whole table, that takes more requests from
//! other identities, each counted, than it gives back. A flood of new identities, each with one request, displaces only
//! others like it. That a client is forgotten means that it may ask again; nobody is ever refused for another's sake.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};
use std::sync::{Mutex, PoisonError};

const WAYS: usize = 8;

/// Nanoseconds on a clock that only goes forward.
pub(crate) type Nanos = u64;

/// What a rule allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    /// What one request costs.
    pub(crate) interval: Nanos,
    /// Requests at once.
    pub(crate) burst: u32,
    /// How much longer one that came too often is blocked.
    pub(crate) mitigation: Nanos,
    /// How long one that came too often may wait for its turn instead.
    pub(crate) max_delay: Nanos,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It goes on, after so long.
    Pass {
        /// Nothing, but with `delay`.
        wait: Nanos,
    },
    /// It does not.
    Over {
        /// When the next one would.
        retry: Nanos,
    },
}

/// A verdict, and how the client stands after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) verdict: Verdict,
    /// Requests that it could send at once.
    pub(crate) remaining: u32,
    /// When it could send a whole burst again.
    pub(crate) reset: Nanos,
}

/// What tells a client from others: 128 bits of two hashes under secret keys, so that nobody finds another client's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Key(u64, u64);

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    key: Key,
    /// 0: nobody.
    arrival: Nanos,
    /// Blocked until then, whatever it asks.
    blocked: Nanos,
}

impl Slot {
    /// A client with nothing to lose from being forgotten has none.
    fn owes_until(&self) -> Nanos {
        self.arrival.max(self.blocked)
    }
}

type Set = Mutex<Option<Box<[Slot; WAYS]>>>;

/// The clients of one rule.
#[derive(Debug)]
pub(crate) struct Table {
    sets: Vec<Set>,
    hashers: [RandomState; 2],
}

impl Table {
    /// For about so many clients; memory is taken as they come.
    pub(crate) fn new(max_clients: u32) -> Self {
        let sets = (max_clients as usize).div_ceil(WAYS).max(1);
        Self {
            sets: std::iter::repeat_with(Set::default).take(sets).collect(),
            hashers: [RandomState::new(), RandomState::new()],
        }
    }

    /// Counts a request of a client.
    pub(crate) fn ask(&self, client: impl Hash + Copy, rate: &Rate, now: Nanos) -> Decision {
        let key = Key(self.hashers[0].hash_one(client), self.hashers[1].hash_one(client));
        #[expect(clippy::cast_possible_truncation, reason = "the remainder is below a usize")]
        let set = (key.0 % self.sets.len() as u64) as usize;
        let mut set = self.sets[set].lock().unwrap_or_else(PoisonError::into_inner);
        let slots = set.get_or_insert_default();
        decide(place_of(slots, key, now), rate, now)
    }
}

fn place_of(slots: &mut [Slot; WAYS], key: Key, now: Nanos) -> &mut Slot {
    let known = slots.iter().position(|slot| slot.key == key && slot.arrival > 0);
    let at = known.unwrap_or_else(|| {
        let least = (0..WAYS).min_by_key(|&at| {
            let owes = slots[at].owes_until();
            if owes <= now { 0 } else { owes }
        });
        let at = least.unwrap_or(0);
        slots[at] = Slot {
            key,
            ..Slot::default()
        };
        at
    });
    &mut slots[at]
}

fn decide(slot: &mut Slot, rate: &Rate, now: Nanos) -> Decision {
    let tolerance = rate.interval.saturating_mul(u64::from(rate.burst));
    let arrival = slot.arrival.max(now);
    let next = arrival.saturating_add(rate.interval);
    // How far beyond its burst this request would bring the client.
    let excess = next.saturating_sub(now.saturating_add(tolerance));
    let blocked = slot.blocked.saturating_sub(now);
    if blocked == 0 && excess <= rate.max_delay {
        slot.arrival = next;
        let ahead = next - now;
        let remaining = tolerance.saturating_sub(ahead) / rate.interval.max(1);
        return Decision {
            verdict: Verdict::Pass { wait: excess },
            remaining: u32::try_from(remaining).unwrap_or(u32::MAX),
            reset: ahead,
        };
    }
    if blocked == 0 {
        slot.arrival = arrival;
        slot.blocked = if rate.mitigation > 0 {
            now.saturating_add(rate.mitigation)
        } else {
            0
        };
    }
    let retry = excess
        .saturating_sub(rate.max_delay)
        .max(slot.blocked.saturating_sub(now));
    Decision {
        verdict: Verdict::Over { retry },
        remaining: 0,
        reset: (arrival - now).max(retry),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    const S: Nanos = 1_000_000_000;

    fn rate(requests: u64, period: Nanos, burst: u32) -> Rate {
        Rate {
            interval: period / requests,
            burst,
            mitigation: 0,
            max_delay: 0,
        }
    }

    fn passes(table: &Table, client: u64, rate: &Rate, now: Nanos) -> bool {
        matches!(table.ask(client, rate, now).verdict, Verdict::Pass { .. })
    }

    #[test]
    fn a_burst_then_the_rate() {
        let table = Table::new(64);
        let rate = rate(10, 10 * S, 3);
        let standing = |now| {
            let decision = table.ask(1, &rate, now);
            (decision.verdict, decision.remaining, decision.reset)
        };
        let pass = Verdict::Pass { wait: 0 };
        assert_eq!(standing(S), (pass, 2, S));
        assert_eq!(standing(S), (pass, 1, 2 * S));
        assert_eq!(standing(S), (pass, 0, 3 * S));
        assert_eq!(standing(S), (Verdict::Over { retry: S }, 0, 3 * S));
        assert_eq!(
            standing(S + S / 2),
            (Verdict::Over { retry: S / 2 }, 0, 5 * S / 2)
        );
        // What was refused was not counted.
        assert_eq!(standing(2 * S), (pass, 0, 3 * S));
        assert_eq!(standing(60 * S), (pass, 2, S));
        // Another client has its own.
        assert!(passes(&table, 2, &rate, S));
    }

    /// The clock only goes forward, and threads read it in any order: a reading from before gives nothing away.
    #[test]
    fn a_time_from_before_gives_nothing_back() {
        let table = Table::new(64);
        let rate = rate(10, 10 * S, 3);
        for _ in 0..3 {
            assert!(passes(&table, 1, &rate, 20 * S));
        }
        for now in [19 * S, S, 0, 20 * S] {
            assert!(!passes(&table, 1, &rate, now), "{now}");
        }
        assert!(passes(&table, 1, &rate, 21 * S));
        // Far ahead, as after a sleep of the machine: a burst, and no more than that.
        let later = (0..10)
            .filter(|_| passes(&table, 1, &rate, 1_000_000 * S))
            .count();
        assert_eq!(later, 3);
    }

    #[test]
    fn mitigation_blocks_on() {
        let table = Table::new(64);
        let rate = Rate {
            mitigation: 60 * S,
            ..rate(1, S, 1)
        };
        assert!(passes(&table, 1, &rate, S));
        let over = table.ask(1_u64, &rate, S);
        assert_eq!(over.verdict, Verdict::Over { retry: 60 * S });
        assert!(!passes(&table, 1, &rate, 30 * S), "the rate alone would allow it");
        assert!(!passes(&table, 1, &rate, 60 * S));
        assert!(
            passes(&table, 1, &rate, 61 * S),
            "asking while blocked does not prolong it"
        );
    }

    #[test]
    fn a_delay_is_a_queue_of_bounded_length() {
        let table = Table::new(64);
        let rate = Rate {
            max_delay: 2 * S,
            ..rate(1, S, 1)
        };
        let verdicts: Vec<_> = (0..5).map(|_| table.ask(1, &rate, S).verdict).collect();
        let pass = |wait| Verdict::Pass { wait };
        let over = Verdict::Over { retry: S };
        assert_eq!(verdicts, [pass(0), pass(S), pass(2 * S), over, over]);
    }

    #[test]
    fn many_threads_count_exactly() {
        let table = Table::new(1024);
        let rate = rate(500, 3600 * S, 500);
        let passed = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        if passes(&table, 7, &rate, S) {
                            passed.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(passed.into_inner(), 500);
    }

    #[test]
    fn a_flood_of_identities_does_not_reset_who_asked_much() {
        let table = Table::new(1024);
        let rate = rate(100, 3600 * S, 100);
        for _ in 0..100 {
            assert!(passes(&table, 1, &rate, S));
        }
        for stranger in 2..200_000 {
            assert!(passes(&table, stranger, &rate, S), "strangers are served");
        }
        assert!(!passes(&table, 1, &rate, S), "and it is still known");
        let held: usize = table
            .sets
            .iter()
            .filter(|set| set.lock().unwrap().is_some())
            .count();
        assert!(held * WAYS <= 1024);
    }

    #[test]
    fn who_owes_nothing_gives_way_first() {
        let mut slots = [Slot::default(); WAYS];
        let rate = rate(10, 10 * S, 10);
        for client in 1..=8 {
            for _ in 0..client {
                decide(place_of(&mut slots, Key(client, 0), S), &rate, S);
            }
        }
        // At 4 s the first three are paid off; the lowest of them goes, then the next.
        decide(place_of(&mut slots, Key(9, 0), 4 * S), &rate, 4 * S);
        assert!(slots.iter().all(|slot| slot.key != Key(1, 0)));
        assert!(slots.iter().any(|slot| slot.key == Key(8, 0)));
    }

    proptest! {
        #[test]
        fn no_more_than_the_burst_and_the_rate_pass_in_any_time(
            steps in proptest::collection::vec(0_u64..3 * S, 1..200),
            requests in 1_u64..20, burst in 1_u32..10,
        ) {
            let table = Table::new(8);
            let rate = rate(requests, 10 * S, burst.min(u32::try_from(requests).unwrap()));
            let mut now = S;
            let mut passed = Vec::new();
            for step in steps {
                now += step;
                if passes(&table, 1, &rate, now) {
                    passed.push(now);
                }
            }
            for (index, from) in passed.iter().enumerate() {
                for (more, to) in passed[index..].iter().enumerate() {
                    let most = u64::from(rate.burst) + (to - from) / rate.interval;
                    prop_assert!((more as u64) < most, "{} in {}", more + 1, to - from);
                }
            }
        }
    }
}
