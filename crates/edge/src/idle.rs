//! A connection with nothing to do: how long it may stay.
//!
//! A busy connection is idle for a moment after each answer. So the timer is left as it is when work comes, and looks
//! when it fires how long the present idleness has lasted.

use crate::deadline::Deadline;
use crate::memory::Memory;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// After so long a connection asks to be told when memory is short.
const LASTS: Duration = Duration::from_millis(500);

/// Looks after one connection.
pub(crate) struct Idle {
    memory: Arc<Memory>,
    patience: Duration,
    since: Instant,
    look_at: Option<Instant>,
    timer: Deadline,
    squeezed: Option<BoxFuture<'static, ()>>,
}

impl Idle {
    /// For so long, and less where memory is short.
    pub(crate) fn new(memory: &Arc<Memory>, patience: Duration) -> Self {
        Self {
            memory: memory.clone(),
            patience,
            since: Instant::now(),
            look_at: None,
            timer: Deadline::default(),
            squeezed: None,
        }
    }

    /// Something was done at `now`: idleness begins anew.
    pub(crate) fn over(&mut self, now: Instant) {
        self.since = now;
        if self.squeezed.take().is_some() {
            self.look_at = None;
        }
    }

    /// Ready when it has lasted too long.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut look_at = *self
            .look_at
            .get_or_insert_with(|| self.since + LASTS.min(self.patience));
        while self.timer.poll(cx, look_at).is_ready() {
            let now = Instant::now();
            if now >= self.since + self.patience {
                return Poll::Ready(());
            }
            if now >= self.since + LASTS {
                let squeezed = || Box::pin(self.memory.squeezed(self.since)) as BoxFuture<'static, ()>;
                self.squeezed.get_or_insert_with(squeezed);
                look_at = self.since + self.patience;
            } else {
                look_at = self.since + LASTS.min(self.patience);
            }
            self.look_at = Some(look_at);
        }
        match &mut self.squeezed {
            Some(squeezed) => squeezed.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}
