//! A request's body, frame by frame: QUIC's window opens as the frames are taken.

use crate::body::BoxError;
use crate::config::Limits;
use crate::deadline::Deadline;
use crate::fault::Kind;
use crate::pace::Pace;
use bytes::{Buf, Bytes};
use h3::error::StreamError;
use h3::server::RequestStream;
use http_body::{Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::time::Instant;

pub(super) type Receiving = RequestStream<h3_quinn::RecvStream, Bytes>;

/// What the client sends. Data must be as long as Content-Length says (RFC 9114 section 4.1.2), which h3 leaves to us.
pub(super) struct FromStream {
    stream: Receiving,
    /// Read to see whether there is a body at all.
    first: Option<Bytes>,
    length: Option<u64>,
    received: u64,
    state: State,
    limits: Arc<Limits>,
    pace: Pace,
    deadline: Deadline,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Data,
    Trailers,
    Ended,
}

impl FromStream {
    pub(super) fn new(
        stream: Receiving,
        first: Option<Bytes>,
        length: Option<u64>,
        limits: Arc<Limits>,
    ) -> Self {
        Self {
            stream,
            first,
            length,
            received: 0,
            state: State::Data,
            limits,
            pace: Pace::default(),
            deadline: Deadline::default(),
        }
    }

    fn poll_any(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.state == State::Data {
            let data = match self.first.take() {
                Some(first) => Some(first),
                None => ready!(poll_data(&mut self.stream, cx)).map_err(|error| fault_of(&error))?,
            };
            if let Some(data) = data {
                self.received += data.len() as u64;
                self.pace.moved(data.len() as u64, Instant::now());
                if self.length.is_some_and(|length| self.received > length) {
                    return Poll::Ready(Some(Err(wrong_length())));
                }
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            if self.length.is_some_and(|length| self.received != length) {
                self.state = State::Ended;
                return Poll::Ready(Some(Err(wrong_length())));
            }
            self.state = State::Trailers;
        }
        if self.state == State::Trailers {
            let trailers = ready!(self.stream.poll_recv_trailers(cx)).map_err(|error| fault_of(&error))?;
            self.state = State::Ended;
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        Poll::Ready(None)
    }
}

/// The next piece; `None` after the last.
pub(super) fn poll_data(
    stream: &mut Receiving,
    cx: &mut Context<'_>,
) -> Poll<Result<Option<Bytes>, StreamError>> {
    stream
        .poll_recv_data(cx)
        .map_ok(|data| data.map(|mut data| data.copy_to_bytes(data.remaining())))
}

impl http_body::Body for FromStream {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = this.poll_any(cx) {
            return Poll::Ready(frame);
        }
        let until = this.pace.deadline(&this.limits, Instant::now());
        ready!(this.deadline.poll(cx, until));
        let fault = Kind::BodyTimeout.because("the request body did not arrive in time");
        Poll::Ready(Some(Err(Box::new(fault))))
    }

    fn is_end_stream(&self) -> bool {
        self.state == State::Ended
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.length.map(|length| length.saturating_sub(self.received));
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

fn wrong_length() -> BoxError {
    Box::new(Kind::Malformed.because("the request body is not as long as it says"))
}

fn fault_of(error: &StreamError) -> BoxError {
    tracing::debug!(%error, "a request body ended early");
    Box::new(Kind::ClientGone.because("the client went away in the middle of the request body"))
}
