//! A timer that moves without being moved: most deadlines are pushed on long before they are reached, so the timer stays
//! where it is, and looks again when it fires.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::time::{Instant, Sleep};

/// The timer of one task; it exists only once something has been waited for.
#[derive(Debug, Default)]
pub(crate) struct Deadline {
    timer: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    /// Ready at `at`, which may be another instant at each call.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        if at < timer.deadline() {
            timer.as_mut().reset(at);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if Instant::now() >= at {
                return Poll::Ready(());
            }
            timer.as_mut().reset(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn it_fires_at_the_last_instant_that_was_asked_for() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            let begun = Instant::now();
            let mut deadline = Deadline::default();
            let mut polls = 0;
            std::future::poll_fn(|cx| {
                polls += 1;
                // Later at first, then sooner, then later again.
                let after = [50, 10, 40][polls.min(3) - 1];
                let fired = deadline.poll(cx, begun + Duration::from_millis(after));
                if polls < 3 {
                    assert!(fired.is_pending());
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                fired
            })
            .await;
            let took = begun.elapsed().as_millis();
            assert!((40..500).contains(&took), "{took} ms");
        });
    }
}
