//! How long the other side may let us wait. Pauses are short, and all of them together are paid for by bytes: a dribble
//! that keeps every pause short does not stretch the whole.

use crate::config::{Limits, ms};
use std::time::Duration;
use tokio::time::Instant;

/// The time that we have waited for one body, or one answer to be read, and what moved meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    since: Option<Instant>,
    total: Duration,
    bytes: u64,
}

impl Pace {
    /// It moved: the wait, if there was one, is over.
    pub(crate) fn moved(&mut self, bytes: u64, now: Instant) {
        self.bytes = self.bytes.saturating_add(bytes);
        if let Some(since) = self.since.take() {
            self.total += now.saturating_duration_since(since);
        }
    }

    /// We wait, from the first call after [`Pace::moved`] on: until when.
    pub(crate) fn deadline(&mut self, limits: &Limits, now: Instant) -> Instant {
        let since = *self.since.get_or_insert(now);
        let pause = ms(limits.body_idle_timeout_ms);
        let earned =
            Duration::from_millis(self.bytes.saturating_mul(1000) / limits.body_min_bytes_per_s.max(1));
        since + (pause + earned).saturating_sub(self.total).min(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dribble_pays_with_its_bytes() {
        let limits = Limits {
            body_idle_timeout_ms: 1000,
            body_min_bytes_per_s: 10,
            ..Limits::default()
        };
        let begun = Instant::now();
        let mut pace = Pace::default();
        // One byte each half a second: a tenth of a second is earned by each.
        let mut now = begun;
        while pace.deadline(&limits, now) > now + Duration::from_millis(500) {
            now += Duration::from_millis(500);
            pace.moved(1, now);
            assert!(now < begun + Duration::from_secs(2));
        }
        assert!(now > begun);
        // Enough bytes pay for any number of pauses.
        let mut pace = Pace::default();
        for _ in 0..100 {
            assert_eq!(pace.deadline(&limits, now), now + Duration::from_secs(1));
            now += Duration::from_millis(900);
            pace.moved(9, now);
        }
    }
}
