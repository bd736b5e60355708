//! A request's body, frame by frame: the window opens as the frames are taken, so a slow worker slows the client.

use crate::body::BoxError;
use crate::config::Limits;
use crate::deadline::Deadline;
use crate::fault::{Fault, Kind};
use crate::pace::Pace;
use bytes::Bytes;
use futures_util::task::AtomicWaker;
use h2::RecvStream;
use http_body::{Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use tokio::time::Instant;

/// A body whose sender waits for 100 (RFC 9110 section 10.1.1): set at the first look for it, by whichever task looks.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    wanted: AtomicBool,
    waker: AtomicWaker,
}

impl Wanted {
    fn set(&self) {
        self.wanted.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Once `true`.
    pub(super) fn take(&self, cx: &mut Context<'_>) -> bool {
        self.waker.register(cx.waker());
        self.wanted.swap(false, Ordering::AcqRel)
    }
}

/// What the client sends.
pub(super) struct FromStream {
    stream: RecvStream,
    length: Option<u64>,
    data_ended: bool,
    limits: Arc<Limits>,
    pace: Pace,
    deadline: Deadline,
    wanted: Option<Arc<Wanted>>,
}

impl FromStream {
    pub(super) fn new(
        stream: RecvStream,
        length: Option<u64>,
        limits: Arc<Limits>,
        wanted: Option<Arc<Wanted>>,
    ) -> Self {
        Self {
            stream,
            length,
            data_ended: false,
            limits,
            pace: Pace::default(),
            deadline: Deadline::default(),
            wanted,
        }
    }

    fn poll_any(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if !self.data_ended {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    self.pace.moved(data.len() as u64, Instant::now());
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => self.data_ended = true,
            }
        }
        let trailers = ready!(self.stream.poll_trailers(cx));
        Poll::Ready(trailers.transpose().map(|trailers| trailers.map(Frame::trailers)))
    }
}

impl http_body::Body for FromStream {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Some(wanted) = this.wanted.take() {
            wanted.set();
        }
        match this.poll_any(cx) {
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(frame))),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(Box::new(fault_of(&error))))),
            Poll::Pending => {
                let until = this.pace.deadline(&this.limits, Instant::now());
                ready!(this.deadline.poll(cx, until));
                let fault = Kind::BodyTimeout.because("the request body did not arrive in time");
                Poll::Ready(Some(Err(Box::new(fault))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

fn fault_of(error: &h2::Error) -> Fault {
    if error.is_library() {
        Kind::Malformed.because("the request body breaks the protocol")
    } else {
        Kind::ClientGone.because("the client went away in the middle of the request body")
    }
}
