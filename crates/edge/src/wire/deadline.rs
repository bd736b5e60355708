//! A timer that moves: it exists only once something has been waited for.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

#[derive(Debug, Default)]
pub(crate) struct Deadline {
    timer: Option<Pin<Box<Sleep>>>,
    running: bool,
}

impl Deadline {
    /// Ready at `at`, which may be another instant at each call.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        if timer.deadline() != at {
            timer.as_mut().reset(at);
        }
        timer.as_mut().poll(cx)
    }

    /// Ready when `limit` has passed since the first call after [`Deadline::clear`].
    pub(crate) fn poll_from_now(&mut self, cx: &mut Context<'_>, limit: Duration) -> Poll<()> {
        let at = match &self.timer {
            Some(timer) if self.running => timer.deadline(),
            _ => Instant::now() + limit,
        };
        self.running = true;
        self.poll(cx, at)
    }

    pub(crate) fn clear(&mut self) {
        self.running = false;
    }
}
