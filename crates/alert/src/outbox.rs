//! Deliveries as plain data: what was tried how often, and when it is tried next. The caller writes a delivery down
//! before each attempt ([`Delivery::begin`]) and after it ([`Delivery::end`]); one that a killed process had begun is
//! taken up with [`Delivery::recover`].
//!
//! A notice is delivered at least once. It is not sent twice within a minute: an attempt of which nobody knows how it
//! ended counts as heard for so long, and only what certainly was not accepted is tried sooner.

use crate::notice::Notice;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What may have been heard is not said again before this.
pub const UNSURE_MS: u64 = 60_000;
/// Tried for so long; a person finds the failed delivery in the list.
pub const GIVE_UP_MS: u64 = 24 * 3_600_000;
const FIRST_PAUSE_MS: u64 = 2_000;
const MAX_PAUSE_MS: u64 = 300_000;
const MAX_ASKED_PAUSE_MS: u64 = 900_000;
const MAX_ERROR: usize = 500;

/// One notice on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// What is said. Its number is the key by which a receiver knows it again.
    pub notice: Notice,
    /// How it stands.
    pub state: DeliveryState,
    /// Attempts that were begun.
    pub attempts: u32,
    /// Not before this lived time.
    pub next_ms: u64,
    /// Since when, in lived time.
    pub since_ms: u64,
    /// Why the last attempt failed.
    pub error: Option<String>,
}

/// How a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// To be tried at its time.
    Waiting,
    /// An attempt is under way.
    Sending,
    /// It was accepted.
    Delivered,
    /// It was refused for good, or for a day.
    Failed,
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SendError {
    /// What to do.
    pub retry: Retry,
    /// What a person reads.
    pub message: String,
}

/// What a failed attempt leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// It certainly was not accepted: again, after a pause that the receiver may have asked for.
    Again {
        /// Seconds that the receiver asked for.
        after_s: Option<u64>,
    },
    /// It may have been accepted.
    Unsure,
    /// The same words would be refused again.
    Never,
}

impl SendError {
    /// It certainly was not accepted.
    pub fn again(message: impl Into<String>) -> Self {
        Self::new(Retry::Again { after_s: None }, message)
    }

    pub(crate) fn new(retry: Retry, message: impl Into<String>) -> Self {
        Self {
            retry,
            message: message.into(),
        }
    }
}

impl Delivery {
    /// A notice that is to be sent.
    pub fn new(notice: Notice, now_ms: u64) -> Self {
        Self {
            notice,
            state: DeliveryState::Waiting,
            attempts: 0,
            next_ms: now_ms,
            since_ms: now_ms,
            error: None,
        }
    }

    /// Whether nothing more happens to it.
    pub fn is_done(&self) -> bool {
        matches!(self.state, DeliveryState::Delivered | DeliveryState::Failed)
    }

    /// An attempt begins. Written down before anything is sent.
    pub fn begin(&mut self, now_ms: u64) {
        self.state = DeliveryState::Sending;
        self.attempts = self.attempts.saturating_add(1);
        self.next_ms = now_ms.saturating_add(UNSURE_MS);
    }

    /// The attempt has ended.
    pub fn end(&mut self, now_ms: u64, result: &Result<(), SendError>) {
        let error = match result {
            Ok(()) => {
                self.state = DeliveryState::Delivered;
                self.error = None;
                return;
            }
            Err(error) => error,
        };
        let message = &error.message;
        self.error = Some(message[..message.floor_char_boundary(MAX_ERROR)].to_owned());
        let doublings = self.attempts.saturating_sub(1).min(16);
        let pause = (FIRST_PAUSE_MS << doublings).min(MAX_PAUSE_MS);
        let pause = match error.retry {
            Retry::Again { after_s } => {
                let asked = after_s.map_or(0, |seconds| seconds.saturating_mul(1_000));
                pause.max(asked.min(MAX_ASKED_PAUSE_MS))
            }
            Retry::Unsure => pause.max(UNSURE_MS),
            Retry::Never => u64::MAX,
        };
        let next_ms = now_ms.saturating_add(pause);
        if next_ms.saturating_sub(self.since_ms) > GIVE_UP_MS {
            self.state = DeliveryState::Failed;
        } else {
            self.state = DeliveryState::Waiting;
            self.next_ms = next_ms;
        }
    }

    /// The process was killed while it was sent: nobody knows how that ended.
    pub fn recover(&mut self, now_ms: u64) {
        if self.state == DeliveryState::Sending {
            let killed = SendError::new(Retry::Unsure, "the daemon ended while this was sent");
            self.end(now_ms, &Err(killed));
        }
    }
}

/// Which deliveries are to be tried now: of each channel the oldest that is open, so that nobody hears of an end before
/// the beginning. `all` is in the order of their numbers.
pub fn due(all: &[Delivery], now_ms: u64) -> Vec<&Delivery> {
    let mut seen = BTreeSet::new();
    all.iter()
        .filter(|delivery| !delivery.is_done() && seen.insert(delivery.notice.channel))
        .filter(|delivery| delivery.state == DeliveryState::Waiting && now_ms >= delivery.next_ms)
        .collect()
}
