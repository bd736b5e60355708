//! Simulated time.

use crate::clock::Clock;
use crate::supervisor::BoxFuture;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

/// A clock that stands still until it is moved, or that jumps to the next sleeper by itself.
#[derive(Clone)]
pub struct SimClock {
    state: Arc<Mutex<ClockState>>,
}

struct ClockState {
    now_ms: u64,
    automatic: bool,
    /// When each sleeper wakes, and its number.
    sleepers: BinaryHeap<Reverse<(u64, u64)>>,
    wakers: Vec<(u64, Waker)>,
    next: u64,
}

impl SimClock {
    /// Stands at this time until [`SimClock::advance`].
    pub fn new(now_ms: u64) -> Self {
        Self::with(now_ms, false)
    }

    /// Every sleep ends at once, and moves the time on by what was slept.
    pub fn automatic(now_ms: u64) -> Self {
        Self::with(now_ms, true)
    }

    /// Moves the time on and wakes those whose time has come.
    pub fn advance(&self, duration: Duration) {
        let mut state = self.lock();
        state.now_ms = state.now_ms.saturating_add(millis(duration));
        let now_ms = state.now_ms;
        while state
            .sleepers
            .peek()
            .is_some_and(|Reverse((at, _))| *at <= now_ms)
        {
            state.sleepers.pop();
        }
        for (_, waker) in state.wakers.drain(..) {
            waker.wake();
        }
    }

    /// When the next sleeper wakes, in milliseconds since the epoch.
    pub fn next_wake_ms(&self) -> Option<u64> {
        self.lock().sleepers.peek().map(|Reverse((at, _))| *at)
    }

    fn with(now_ms: u64, automatic: bool) -> Self {
        let state = ClockState {
            now_ms,
            automatic,
            sleepers: BinaryHeap::new(),
            wakers: Vec::new(),
            next: 0,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, ClockState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for SimClock {
    fn now_ms(&self) -> u64 {
        self.lock().now_ms
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'_, ()> {
        let mut entry: Option<(u64, u64)> = None;
        Box::pin(poll_fn(move |context| {
            let mut state = self.lock();
            let (at, number) = *entry.get_or_insert_with(|| {
                let at = state.now_ms.saturating_add(millis(duration));
                state.next += 1;
                let number = state.next;
                if state.automatic {
                    state.now_ms = at;
                } else {
                    state.sleepers.push(Reverse((at, number)));
                }
                (at, number)
            });
            if state.now_ms >= at {
                return Poll::Ready(());
            }
            state.wakers.retain(|(other, _)| *other != number);
            state.wakers.push((number, context.waker().clone()));
            Poll::Pending
        }))
    }
}

impl fmt::Debug for SimClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimClock")
            .field("now_ms", &self.now_ms())
            .finish_non_exhaustive()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
