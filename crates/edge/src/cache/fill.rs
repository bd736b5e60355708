//! Content on its way from a worker: read once, by a task of its own, and given to everybody who waits for it, however
//! fast each of them reads.

use crate::body::BoxError;
use crate::fault::{Fault, Kind};
use bytes::{Bytes, BytesMut};
use http::header::HeaderMap;
use http_body::{Frame, SizeHint};
use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// What is too large to be stored is held so far ahead of the slowest reader.
const WINDOW_BYTES: u64 = 1 << 20;
/// Where others have read all that is held, the slowest reader must take so much in so long, or is let go: whoever reads
/// by the drop must not set the pace for all who wait for the same. No more than a slow network has, because an honest
/// client loses its answer by it.
const LEAST_BYTES: u64 = 256 << 10;
const LEAST_EVERY: Duration = Duration::from_secs(5);

/// Content that grows.
#[derive(Debug, Default)]
pub(super) struct Filling {
    state: Mutex<State>,
    /// Readers moved on, or went away.
    moved: tokio::sync::Notify,
}

#[derive(Debug, Default)]
struct State {
    /// All of it, or, once it is only passed on, what the slowest reader has not had.
    chunks: VecDeque<Bytes>,
    /// Chunks before those.
    passed: usize,
    bytes: u64,
    passing_on: bool,
    end: Option<Result<Option<HeaderMap>, Fault>>,
    readers: BTreeMap<u64, At>,
    next_reader: u64,
    /// How long all have waited for the slowest since its pace was last looked at.
    held_up: Duration,
}

#[derive(Debug)]
struct At {
    chunk: usize,
    /// Bytes that it has had, and how many of them when that was last looked at.
    taken: u64,
    seen: u64,
    waker: Option<Waker>,
}

impl Filling {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From the beginning, `skip` bytes left out, and no more than `take`. `None` when the beginning is gone.
    pub(super) fn reader(self: &Arc<Self>, skip: u64, take: u64, length: Option<u64>) -> Option<Reader> {
        let mut state = self.state();
        if state.passed > 0 || state.passing_on && state.readers.is_empty() {
            return None;
        }
        let id = state.next_reader;
        state.next_reader += 1;
        state.readers.insert(
            id,
            At {
                chunk: 0,
                taken: 0,
                seen: 0,
                waker: None,
            },
        );
        Some(Reader {
            of: self.clone(),
            id,
            skip,
            left: length.map_or(take, |length| take.min(length.saturating_sub(skip))),
            exact: length.is_some(),
            ended: false,
        })
    }

    /// What was read of the worker's answer.
    pub(super) fn push(&self, chunk: Bytes) {
        let mut state = self.state();
        state.bytes += chunk.len() as u64;
        state.chunks.push_back(chunk);
        state.wake();
    }

    pub(super) fn end(&self, end: Result<Option<HeaderMap>, Fault>) {
        let mut state = self.state();
        state.end = Some(end);
        state.wake();
    }

    /// The end, if there was none.
    pub(super) fn end_if_open(&self, fault: Fault) {
        let open = self.state().end.is_none();
        if open {
            self.end(Err(fault));
        }
    }

    /// It will not be stored: what all have read is let go.
    pub(super) fn pass_on(&self) {
        let mut state = self.state();
        state.passing_on = true;
        state.let_go();
    }

    /// Waits until the readers are near enough; false when there are none.
    pub(super) async fn ready_for_more(&self) -> bool {
        loop {
            let moved = self.moved.notified();
            let left = {
                let state = self.state();
                if state.readers.is_empty() {
                    return false;
                }
                let held: u64 = state.chunks.iter().map(|chunk| chunk.len() as u64).sum();
                if held <= WINDOW_BYTES {
                    return true;
                }
                LEAST_EVERY.saturating_sub(state.held_up)
            };
            let begun = Instant::now();
            let _ = tokio::time::timeout(left, moved).await;
            self.state().was_held_up(begun.elapsed());
        }
    }

    /// All of it with what comes `last`, in one piece of memory of its own: chunks would keep the whole buffers that
    /// they were read into. Only where nothing was let go.
    pub(super) fn content(&self, last: &[u8]) -> Bytes {
        let state = self.state();
        let length = usize::try_from(state.bytes).unwrap_or(0) + last.len();
        let mut whole = BytesMut::with_capacity(length);
        for chunk in &state.chunks {
            whole.extend_from_slice(chunk);
        }
        whole.extend_from_slice(last);
        whole.freeze()
    }
}

impl State {
    fn wake(&mut self) {
        for at in self.readers.values_mut() {
            if let Some(waker) = at.waker.take() {
                waker.wake();
            }
        }
    }

    fn was_held_up(&mut self, time: Duration) {
        self.held_up += time;
        if self.held_up >= LEAST_EVERY {
            self.held_up = Duration::ZERO;
            self.let_the_slowest_go();
        }
    }

    /// Only where somebody waits for it.
    fn let_the_slowest_go(&mut self) {
        let end = self.passed + self.chunks.len();
        let waits = self.readers.values().any(|at| at.chunk == end);
        let slowest = self.readers.iter().min_by_key(|(_, at)| at.chunk);
        if let Some((&id, at)) = slowest
            && waits
            && at.taken - at.seen < LEAST_BYTES
            && let Some(mut gone) = self.readers.remove(&id)
        {
            if let Some(waker) = gone.waker.take() {
                waker.wake();
            }
            self.let_go();
        }
        for at in self.readers.values_mut() {
            at.seen = at.taken;
        }
    }

    fn let_go(&mut self) {
        let Some(slowest) = self.readers.values().map(|at| at.chunk).min() else {
            return;
        };
        while self.passed < slowest && self.chunks.pop_front().is_some() {
            self.passed += 1;
        }
    }
}

/// One client's way through content that grows.
#[derive(Debug)]
pub(super) struct Reader {
    of: Arc<Filling>,
    id: u64,
    skip: u64,
    left: u64,
    exact: bool,
    ended: bool,
}

impl http_body::Body for Reader {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        let of = this.of.clone();
        let mut state = of.state();
        loop {
            let (passed, passing_on) = (state.passed, state.passing_on);
            let Some(at) = state.readers.get(&this.id).map(|at| at.chunk) else {
                this.ended = true;
                return Poll::Ready(Some(Err(Box::new(TOO_SLOW))));
            };
            if let Some(chunk) = state.chunks.get(at - passed).cloned() {
                if let Some(at) = state.readers.get_mut(&this.id) {
                    at.chunk += 1;
                    at.taken += chunk.len() as u64;
                }
                if passing_on {
                    state.let_go();
                    of.moved.notify_one();
                }
                let skipped = this.skip.min(chunk.len() as u64);
                this.skip -= skipped;
                let wanted = this.left.min(chunk.len() as u64 - skipped);
                this.left -= wanted;
                if wanted == 0 && this.left > 0 {
                    continue;
                }
                if wanted == 0 {
                    // The part is over; whatever follows is not for this client.
                    this.ended = true;
                    return Poll::Ready(None);
                }
                let (from, to) = (skipped as usize, (skipped + wanted) as usize);
                return Poll::Ready(Some(Ok(Frame::data(chunk.slice(from..to)))));
            }
            return match &state.end {
                None => {
                    if let Some(at) = state.readers.get_mut(&this.id) {
                        at.waker = Some(cx.waker().clone());
                    }
                    Poll::Pending
                }
                Some(Ok(trailers)) => {
                    this.ended = true;
                    Poll::Ready(trailers.clone().map(|trailers| Ok(Frame::trailers(trailers))))
                }
                Some(Err(fault)) => {
                    this.ended = true;
                    Poll::Ready(Some(Err(Box::new(*fault))))
                }
            };
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.exact && self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        if self.exact {
            SizeHint::with_exact(self.left)
        } else {
            SizeHint::new()
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.of.state();
        state.readers.remove(&self.id);
        if state.passing_on {
            state.let_go();
        }
        drop(state);
        self.of.moved.notify_one();
    }
}

/// What the slowest reader gets when others cannot wait for it.
const TOO_SLOW: Fault = Kind::ClientGone.because("the client reads too slowly for those who read the same");

/// What a reader gets when the task that read for it ended without an end.
pub(super) const BROKEN_OFF: Fault = Kind::UpstreamInvalid.because("the worker's answer ended early");

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    const CHUNK: usize = 64 << 10;

    /// One who takes nothing holds up neither those who read nor what is read for them, and does not get a short whole.
    #[tokio::test]
    async fn who_reads_nothing_is_let_go() {
        let filling = Arc::<Filling>::default();
        let mut still = filling.reader(0, u64::MAX, None).unwrap();
        let mut quick = filling.reader(0, u64::MAX, None).unwrap();
        filling.pass_on();
        let reading = tokio::spawn(async move {
            let mut bytes = 0;
            while let Some(frame) = quick.frame().await {
                bytes += frame.unwrap().into_data().unwrap().len();
            }
            bytes
        });
        let begun = std::time::Instant::now();
        for _ in 0..64 {
            filling.push(Bytes::from(vec![0; CHUNK]));
            assert!(filling.ready_for_more().await);
        }
        filling.end(Ok(None));
        assert_eq!(reading.await.unwrap(), 64 * CHUNK);
        assert!(
            begun.elapsed() < LEAST_EVERY * 2,
            "held up once, not for each window"
        );
        let fault = still.frame().await.unwrap().unwrap_err();
        assert_eq!(crate::fault::find(&*fault), Some(TOO_SLOW));
        assert!(still.frame().await.is_none());
    }

    /// A drop now and then does not help.
    #[tokio::test]
    async fn who_reads_by_the_drop_is_let_go_too() {
        let filling = Arc::<Filling>::default();
        let mut drop_by_drop = filling.reader(0, u64::MAX, None).unwrap();
        let mut quick = filling.reader(0, u64::MAX, None).unwrap();
        filling.pass_on();
        let dropping = tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(2)).await;
                match drop_by_drop.frame().await {
                    Some(Ok(_)) => {}
                    other => return other.map(|frame| frame.is_err()),
                }
            }
        });
        tokio::spawn(async move { while quick.frame().await.is_some() {} });
        for _ in 0..64 {
            filling.push(Bytes::from(vec![0; CHUNK]));
            assert!(filling.ready_for_more().await);
        }
        assert_eq!(dropping.await.unwrap(), Some(true));
        filling.end(Ok(None));
    }

    /// Alone it may be as slow as its own connection allows.
    #[tokio::test]
    async fn the_only_reader_is_waited_for() {
        let filling = Arc::<Filling>::default();
        let mut only = filling.reader(0, u64::MAX, None).unwrap();
        filling.pass_on();
        for _ in 0..17 {
            filling.push(Bytes::from(vec![0; CHUNK]));
        }
        let waiting =
            tokio::time::timeout(LEAST_EVERY + Duration::from_millis(500), filling.ready_for_more());
        assert!(waiting.await.is_err());
        assert!(only.frame().await.unwrap().is_ok());
    }
}
