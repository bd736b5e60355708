//! Room for what is looked at: how many bytes of bodies are kept at once, and where rules run that take their time.
//!
//! A thread of the edge serves thousands of connections; rules that run on it for milliseconds delay them all. So long
//! bodies are looked at elsewhere, by as many threads at once as there are processors. Whoever finds no turn waits for
//! one; how many can wait is bounded by the bytes that are kept.

use crate::config::Limits;
use crate::fault::{Fault, Kind};
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A request's body of no more bytes is looked at where it is read: 1.6 ms for JSON (Core Rule Set 4, paranoia level 1).
pub(super) const REQUEST_AT_ONCE: usize = 16 << 10;
/// So much of an answer takes 1.2 ms.
pub(super) const ANSWER_AT_ONCE: usize = 64 << 10;
/// How long a body waits for its turn.
const PATIENCE: Duration = Duration::from_secs(5);

const NO_ROOM: Fault = Kind::Overloaded.because("too many bodies are being inspected at once");

/// Shared by all threads.
#[derive(Debug)]
pub(crate) struct Room {
    kept: AtomicU64,
    most: u64,
    turns: Arc<Semaphore>,
    patience: Duration,
}

impl Room {
    pub(crate) fn new(limits: &Limits) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self::with(limits.max_inspected_bytes, processors, PATIENCE)
    }

    fn with(most: u64, turns: usize, patience: Duration) -> Self {
        Self {
            kept: AtomicU64::new(0),
            most,
            turns: Arc::new(Semaphore::new(turns)),
            patience,
        }
    }

    /// Room for a body, of which nothing is there yet.
    pub(super) fn share(self: &Arc<Self>) -> Share {
        Share {
            room: self.clone(),
            bytes: 0,
        }
    }

    /// A turn to run rules on so many bytes, in this thread where they are no more than `at_once`.
    pub(super) async fn turn(&self, bytes: usize, at_once: usize) -> Result<Turn, Fault> {
        if bytes <= at_once {
            return Ok(Turn(None));
        }
        let turn = tokio::time::timeout(self.patience, self.turns.clone().acquire_owned()).await;
        match turn {
            Ok(Ok(turn)) => Ok(Turn(Some(turn))),
            Ok(Err(_)) | Err(_) => Err(NO_ROOM),
        }
    }
}

/// Bytes of one body that are kept; given back when they are not any more.
#[derive(Debug)]
pub(super) struct Share {
    room: Arc<Room>,
    bytes: u64,
}

impl Share {
    /// More of the body has come, if there is room.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), Fault> {
        let bytes = bytes as u64;
        let all = self.room.kept.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.bytes += bytes;
        match all <= self.room.most {
            true => Ok(()),
            false => Err(NO_ROOM),
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.room.kept.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// May run rules.
#[derive(Debug)]
pub(super) struct Turn(Option<OwnedSemaphorePermit>);

impl Turn {
    /// Runs them to their end, even where nobody waits for it any more.
    pub(super) async fn run<T: Send + 'static>(
        self,
        rules: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let Some(turn) = self.0 else {
            return Ok(rules());
        };
        let run = move || {
            let _turn = turn;
            rules()
        };
        tokio::task::spawn_blocking(run).await.map_err(|error| {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "an inspection did not end"
            );
            Kind::Overloaded.because("the inspection of a body did not end")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_has_a_bound_and_comes_back() {
        let room = Arc::new(Room::with(100, 1, PATIENCE));
        let (mut one, mut other) = (room.share(), room.share());
        assert!(one.grow(60).is_ok() && other.grow(40).is_ok());
        assert_eq!(other.grow(1), Err(NO_ROOM));
        drop(other);
        assert!(one.grow(40).is_ok());
        drop(one);
        assert_eq!(room.kept.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn short_bodies_wait_for_no_turn_and_long_ones_not_for_ever() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let room = Room::with(100, 1, Duration::from_millis(20));
            let here = std::thread::current().id();
            let held = room.turn(2, 1).await.unwrap();
            let short = room.turn(1, 1).await.unwrap();
            assert_eq!(short.run(|| std::thread::current().id()).await, Ok(here));
            assert!(room.turn(2, 1).await.is_err(), "the only one is taken");
            assert_ne!(held.run(|| std::thread::current().id()).await, Ok(here));
            assert!(room.turn(2, 1).await.is_ok());
        });
    }
}
