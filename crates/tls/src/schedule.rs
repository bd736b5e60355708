//! When a certificate is due, when it is tried again, and when people must know. Pure: figures in, figures out.

use serde::{Deserialize, Serialize};

const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 86_400_000;
/// After a failure: the first pause, which doubles, and the longest. A CA counts failures by the hour (Let's Encrypt: five
/// for each name); two a day are few enough for weeks.
const FIRST_PAUSE_MS: u64 = 5 * MINUTE_MS;
const LONGEST_PAUSE_MS: u64 = 12 * 60 * MINUTE_MS;
/// A CA may ask for so much, and no more.
const LONGEST_WAIT_MS: u64 = 7 * DAY_MS;
/// Renewals of one day are spread over this share of the lifetime.
const JITTER: u64 = 20;
/// What a CA calls in has lived for this share of its lifetime: a day of ninety.
const SHORTEST: u64 = 90;
/// So little time is left that a person must look now.
const CRITICAL_MS: u64 = 3 * DAY_MS;

/// When a certificate began and ends, and how often the next one could not be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// From when on it holds.
    pub not_before_ms: u64,
    /// Until when.
    pub not_after_ms: u64,
    /// When its CA wants it to be renewed (RFC 9773), if it says so.
    #[serde(default)]
    pub suggested_ms: Option<u64>,
    /// Attempts at the next one that failed, in a row.
    pub failures: u32,
}

/// What people should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Nothing.
    Fine,
    /// It should have been renewed: less than a third of its time is left.
    Late,
    /// Three days are left, or a tenth of a short life.
    Ending,
    /// Clients refuse it.
    Ended,
}

/// When it is renewed: after two thirds of its life, earlier by a twentieth at most, so that what was issued together is
/// not asked for together; or when its CA says, but not before a ninetieth of its life: a CA that always says "now" would
/// be asked without end. `dice` is any number that stays the same for one certificate.
pub fn due_ms(timing: &Timing, dice: u64) -> u64 {
    let life = timing.not_after_ms.saturating_sub(timing.not_before_ms);
    let latest = timing.not_before_ms + life / 3 * 2;
    let own = latest - dice % (life / JITTER).max(1);
    // A CA may call it in early (a mass revocation), and may not put it off beyond what leaves time for failures.
    let earliest = timing.not_before_ms + life / SHORTEST;
    timing
        .suggested_ms
        .map_or(own, |suggested| suggested.clamp(earliest, latest))
}

/// When the next attempt is made after the last one failed. Never sooner than the CA allows.
pub fn next_try_ms(failures: u32, tried_ms: u64, retry_after_ms: Option<u64>, dice: u64) -> u64 {
    let doubled = FIRST_PAUSE_MS << failures.saturating_sub(1).min(16);
    let pause = doubled.min(LONGEST_PAUSE_MS);
    let own = tried_ms + pause + dice % (pause / 4).max(1);
    own.max(retry_after_ms.unwrap_or(0).min(tried_ms + LONGEST_WAIT_MS))
}

/// Whether a next try that was noted is still to be waited for. One that is further away than any pause was noted by a
/// clock that was ahead: it would put the certificate off for as long as that clock was wrong.
pub fn waits(next_try_ms: Option<u64>, now_ms: u64) -> bool {
    next_try_ms.is_some_and(|next| next > now_ms && next - now_ms <= LONGEST_WAIT_MS)
}

/// How it stands with one that is to be renewed.
pub fn standing(timing: &Timing, now_ms: u64) -> Standing {
    let life = timing.not_after_ms.saturating_sub(timing.not_before_ms);
    let left = timing.not_after_ms.saturating_sub(now_ms);
    match left {
        0 => Standing::Ended,
        left if left < CRITICAL_MS.min(life / 10) => Standing::Ending,
        // One that nobody has tried yet is only due.
        left if left < life / 3 && timing.failures > 0 => Standing::Late,
        _ => Standing::Fine,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quarter() -> Timing {
        Timing {
            not_before_ms: 1_000 * DAY_MS,
            not_after_ms: 1_090 * DAY_MS,
            suggested_ms: None,
            failures: 0,
        }
    }

    #[test]
    fn renewal_is_at_two_thirds_of_a_life_spread_out_and_as_the_ca_says() {
        let mut timing = quarter();
        let days = |ms: u64| (ms - timing.not_before_ms) as f64 / DAY_MS as f64;
        for dice in [0, 1, 77 * DAY_MS + 12_345, u64::MAX] {
            let due = days(due_ms(&timing, dice));
            assert!((55.5..=60.0).contains(&due), "{dice}: {due}");
        }
        assert_ne!(due_ms(&timing, 1), due_ms(&timing, DAY_MS));
        timing.suggested_ms = Some(timing.not_before_ms + 5 * DAY_MS);
        assert_eq!(due_ms(&timing, 9), timing.not_before_ms + 5 * DAY_MS);
        timing.suggested_ms = Some(0);
        assert_eq!(
            due_ms(&timing, 9),
            timing.not_before_ms + DAY_MS,
            "a CA that always says so is not asked without end"
        );
        timing.suggested_ms = Some(timing.not_after_ms);
        assert_eq!(
            due_ms(&timing, 9),
            timing.not_before_ms + 60 * DAY_MS,
            "in time for failures"
        );
    }

    #[test]
    fn failures_are_followed_by_longer_and_longer_pauses() {
        let pauses: Vec<u64> = (1..12)
            .map(|failures| next_try_ms(failures, 0, None, 0) / MINUTE_MS)
            .collect();
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 640, 720, 720, 720]);
        assert_eq!(next_try_ms(1, 0, Some(3 * DAY_MS), 0), 3 * DAY_MS);
        assert_eq!(
            next_try_ms(1, 0, Some(u64::MAX), 0),
            7 * DAY_MS,
            "nobody is put off for ever"
        );
        assert!(next_try_ms(u32::MAX, 0, None, u64::MAX) <= LONGEST_PAUSE_MS / 4 * 5);
    }

    #[test]
    fn a_clock_that_jumps_neither_floods_nor_puts_off() {
        let now = 1_000 * DAY_MS;
        for (next, waited_for) in [
            (None, false),
            (Some(now - 1), false),
            (Some(now), false),
            (Some(next_try_ms(1, now, None, 0)), true),
            (Some(next_try_ms(99, now, None, u64::MAX)), true),
            (Some(next_try_ms(1, now, Some(u64::MAX), 0)), true),
            // Noted while the clock was a year ahead.
            (Some(next_try_ms(1, now + 365 * DAY_MS, None, 0)), false),
        ] {
            assert_eq!(waits(next, now), waited_for, "{next:?}");
        }
        // Set back by an hour: what was just tried is not tried at once again.
        assert!(waits(Some(next_try_ms(1, now, None, 0)), now - DAY_MS / 24));
    }

    #[test]
    fn weeks_of_failures_are_few_attempts_and_louder_and_louder() {
        let mut timing = quarter();
        let mut now = due_ms(&timing, 42);
        let (mut attempts, mut seen) = (0, vec![]);
        while now < timing.not_after_ms + DAY_MS {
            attempts += 1;
            timing.failures += 1;
            if seen.last() != Some(&standing(&timing, now)) {
                seen.push(standing(&timing, now));
            }
            now = next_try_ms(timing.failures, now, None, attempts * 7_919);
        }
        assert_eq!(
            seen,
            [Standing::Fine, Standing::Late, Standing::Ending, Standing::Ended]
        );
        assert!((40..90).contains(&attempts), "{attempts} in 35 days");
    }

    #[test]
    fn a_certificate_of_six_days_has_alarms_that_fit_it() {
        let timing = Timing {
            not_before_ms: 0,
            not_after_ms: 6 * DAY_MS,
            suggested_ms: None,
            failures: 3,
        };
        assert_eq!(standing(&timing, 3 * DAY_MS), Standing::Fine);
        assert_eq!(standing(&timing, 4 * DAY_MS + 1), Standing::Late);
        assert_eq!(standing(&timing, 5 * DAY_MS + DAY_MS / 2), Standing::Ending);
        assert_eq!(standing(&timing, 6 * DAY_MS), Standing::Ended);
    }
}
