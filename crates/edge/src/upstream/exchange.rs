//! One request on one connection, and its answer.

use super::pool::{Connection, Lease};
use super::request::{Outgoing, Unsent};
use super::stream::Stream;
use crate::body::{Body, BoxError, without_forbidden_trailers};
use crate::client::{Interim, OnUpgrade, Rewound};
use crate::config::{Limits, ms};
use crate::fault::{Fault, Kind};
use crate::forward;
use crate::wire::chunk::{Chunked, Part};
use crate::wire::head::{self, AnswerFraming, AnswerHead};
use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, Response, StatusCode, Version};
use http_body::{Frame, SizeHint};
use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::Instant;

/// Blocks that answers are read into.
const BLOCK_BYTES: usize = 64 << 10;
/// What is read at once and is smaller is copied out of its block: whoever keeps it (a cache) keeps no more than it.
const COPIED_BYTES: usize = 16 << 10;
/// All heads of one answer, interim ones too.
const MAX_HEAD_BYTES: usize = 64 << 10;

thread_local! {
    static BLOCK: RefCell<BytesMut> = RefCell::default();
}

/// A connection with a request on it.
pub(super) struct Exchange {
    lease: Lease,
    outgoing: Outgoing,
    limits: Arc<Limits>,
    /// Read and not used.
    pending: BytesMut,
    scanned: usize,
    head_bytes: usize,
    /// When it was first seen that the request and its answer do not move; `None` where they have moved since.
    still_since: Option<Instant>,
    /// Nothing more can be sent; the answer may have come before that.
    broken: Option<io::Error>,
}

/// Why there is no answer.
pub(super) enum Unanswered {
    Closed(io::Error),
    Invalid(Fault),
    Timeout,
    RequestBody(BoxError),
}

impl Exchange {
    pub(super) fn new(lease: Lease, outgoing: Outgoing, limits: &Arc<Limits>) -> Self {
        Self {
            lease,
            outgoing,
            limits: limits.clone(),
            pending: BytesMut::new(),
            scanned: 0,
            head_bytes: 0,
            still_since: None,
            broken: None,
        }
    }

    /// The request, when it may be sent on another connection.
    pub(super) fn again(self) -> Option<Outgoing> {
        let silent = self.head_bytes == 0 && self.pending.is_empty();
        self.outgoing.again().filter(|_| silent)
    }

    /// Sends, and waits for the final head.
    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        interim: &Interim,
    ) -> Poll<Result<AnswerHead, Unanswered>> {
        if let Err(error) = self.drive(cx) {
            return Poll::Ready(Err(Unanswered::RequestBody(error)));
        }
        loop {
            while let Some(head) = self.take_head().map_err(Unanswered::Invalid)? {
                if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
                    return Poll::Ready(Ok(head));
                }
                // 100 was said by us, when the body was first asked for.
                if head.status != StatusCode::CONTINUE {
                    let mut fields = head.headers;
                    forward::to_client(&mut fields);
                    interim.put(head.status, fields);
                }
            }
            // What comes byte by byte has the time of one head, too.
            let begins = self.pending.is_empty();
            match self.fill(cx) {
                Poll::Ready(Ok(1..)) if begins => self.still_since = None,
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(_)) => {
                    let source = self
                        .broken
                        .take()
                        .unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into());
                    return Poll::Ready(Err(Unanswered::Closed(source)));
                }
                Poll::Ready(Err(source)) => return Poll::Ready(Err(Unanswered::Closed(source))),
                Poll::Pending => {
                    ready!(self.poll_stuck(cx, self.limits.upstream_timeout_ms));
                    return Poll::Ready(Err(Unanswered::Timeout));
                }
            }
        }
    }

    /// The answer, its body streaming from this connection.
    pub(super) fn into_response(mut self, head: AnswerHead) -> Response<Body> {
        if let Some(time) = kept_for(&head.headers) {
            self.lease.is_kept_for(time);
        }
        let mut response = Response::new(Body::empty());
        *response.status_mut() = head.status;
        *response.version_mut() = Version::HTTP_11;
        *response.headers_mut() = head.headers;
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            let tunnel = Rewound::new(self.pending.freeze(), self.lease.connection.stream);
            let upgrade = OnUpgrade::new(async move { Ok(Box::new(tunnel) as Box<dyn crate::client::Io>) });
            response.extensions_mut().insert(upgrade);
            return response;
        }
        let no_body =
            self.outgoing.of_head || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let reading = match head.framing {
            _ if no_body => Reading::Length(0),
            AnswerFraming::Length(length) => Reading::Length(length),
            AnswerFraming::Chunked => Reading::Chunked(Chunked::default()),
            AnswerFraming::UntilClose => Reading::UntilClose,
        };
        // Often all of it is here already: then the connection is free.
        if let Reading::Length(length) = reading
            && length == self.pending.len() as u64
            && self.outgoing.is_sent()
        {
            *response.body_mut() = Body::full(std::mem::take(&mut self.pending).freeze());
            if head.persistent {
                self.lease.give_back();
            }
            return response;
        }
        *response.body_mut() = Body::new(FromUpstream {
            exchange: Some(self),
            reading,
            persistent: head.persistent,
        });
        response
    }

    /// Sends on what can be sent.
    fn drive(&mut self, cx: &mut Context<'_>) -> Result<(), BoxError> {
        if self.broken.is_some() || self.outgoing.is_sent() {
            return Ok(());
        }
        let mut moved = false;
        let sent = self
            .outgoing
            .poll_send(&mut self.lease.connection.stream, &mut moved, cx);
        if moved {
            self.still_since = None;
        }
        match sent {
            Poll::Ready(Err(Unsent::Body(error))) => return Err(error),
            Poll::Ready(Err(Unsent::Stream(error))) => self.broken = Some(error),
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        Ok(())
    }

    /// Ready when nothing has moved for so long.
    fn poll_stuck(&mut self, cx: &mut Context<'_>, patience_ms: u64) -> Poll<()> {
        let since = *self.still_since.get_or_insert_with(Instant::now);
        self.lease.connection.deadline.poll(cx, since + ms(patience_ms))
    }

    fn take_head(&mut self) -> Result<Option<AnswerHead>, Fault> {
        let invalid = |_| Kind::UpstreamInvalid.because("the worker sent an invalid answer");
        let found = head::find_end(&self.pending, self.scanned).map_err(invalid)?;
        self.scanned = self.pending.len();
        let length = found.unwrap_or(self.pending.len());
        if self.head_bytes + length > MAX_HEAD_BYTES {
            return Err(Kind::UpstreamInvalid.because("the head of the worker's answer is too large"));
        }
        if found.is_none() {
            return Ok(None);
        }
        let head = head::parse_answer(&Bytes::copy_from_slice(&self.pending[..length]), &self.limits)?;
        self.pending.advance(length);
        self.scanned = 0;
        self.head_bytes += length;
        Ok(Some(head))
    }

    /// Reads more into `pending`.
    fn fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Connection { stream, .. } = &mut self.lease.connection;
        let pending = &mut self.pending;
        BLOCK.with_borrow_mut(|block| {
            if block.capacity() < COPIED_BYTES {
                block.reserve(BLOCK_BYTES);
            }
            let count = ready!(tokio_util::io::poll_read_buf(
                Pin::<&mut Stream>::new(stream),
                cx,
                block
            ))?;
            if count < COPIED_BYTES || !pending.is_empty() {
                pending.extend_from_slice(block);
                block.clear();
            } else {
                *pending = block.split();
            }
            Poll::Ready(Ok(count))
        })
    }
}

/// `Keep-Alive: timeout=5`, in seconds: Node.js and others say so what they do.
fn kept_for(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("keep-alive")?.to_str().ok()?;
    let timeout = value.split(',').find_map(|parameter| {
        let (name, seconds) = parameter.trim().split_once('=')?;
        name.eq_ignore_ascii_case("timeout").then_some(seconds)
    })?;
    timeout
        .parse::<u32>()
        .ok()
        .map(|seconds| Duration::from_secs(seconds.into()))
}

/// Where in the body of an answer the next byte stands.
enum Reading {
    Length(u64),
    Chunked(Chunked),
    UntilClose,
}

/// An answer's body; its connection goes back to the pool at the end, and is closed when it is dropped earlier.
struct FromUpstream {
    /// `None` once the body has ended.
    exchange: Option<Exchange>,
    reading: Reading,
    persistent: bool,
}

impl FromUpstream {
    /// The last byte of the answer has been taken.
    fn finish(&mut self) {
        if let Some(exchange) = self.exchange.take()
            && self.persistent
            && exchange.pending.is_empty()
            && exchange.outgoing.is_sent()
        {
            exchange.lease.give_back();
        }
    }

    fn fail(&mut self, fault: Fault) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.exchange = None;
        // Whoever asks again must not take it for whole.
        self.reading = Reading::Length(1);
        Poll::Ready(Some(Err(Box::new(fault))))
    }

    /// What is in `pending` already. `None` when more must be read.
    fn take_pending(&mut self) -> Result<Option<Option<Frame<Bytes>>>, Fault> {
        let Some(exchange) = &mut self.exchange else {
            return Ok(Some(None));
        };
        let pending = &mut exchange.pending;
        match &mut self.reading {
            Reading::Length(0) => {
                self.finish();
                Ok(Some(None))
            }
            _ if pending.is_empty() => Ok(None),
            Reading::Length(left) => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(pending.len());
                *left -= here as u64;
                let data = pending.split_to(here).freeze();
                if *left == 0 {
                    self.finish();
                }
                Ok(Some(Some(Frame::data(data))))
            }
            Reading::Chunked(chunked) => {
                let invalid = |_| Kind::UpstreamInvalid.because("the worker sent an invalid chunk");
                match chunked.next(pending).map_err(invalid)? {
                    Part::Data { skip, length } => {
                        pending.advance(skip);
                        Ok(Some(Some(Frame::data(pending.split_to(length).freeze()))))
                    }
                    Part::More => {
                        pending.clear();
                        Ok(None)
                    }
                    Part::End(used) => {
                        pending.advance(used);
                        let trailers = chunked.take_trailers().map_err(invalid)?;
                        self.reading = Reading::Length(0);
                        self.finish();
                        Ok(Some(trailers.map(|trailers| {
                            without_forbidden_trailers(Frame::trailers(trailers))
                        })))
                    }
                }
            }
            Reading::UntilClose => Ok(Some(Some(Frame::data(std::mem::take(pending).freeze())))),
        }
    }
}

impl http_body::Body for FromUpstream {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Some(exchange) = &mut this.exchange
            && let Err(error) = exchange.drive(cx)
        {
            this.exchange = None;
            this.reading = Reading::Length(1);
            return Poll::Ready(Some(Err(error)));
        }
        loop {
            match this.take_pending() {
                Ok(Some(frame)) => return Poll::Ready(frame.map(Ok)),
                Ok(None) => {}
                Err(fault) => return this.fail(fault),
            }
            let Some(exchange) = &mut this.exchange else {
                return Poll::Ready(None);
            };
            match exchange.fill(cx) {
                Poll::Ready(Ok(1..)) => exchange.still_since = None,
                Poll::Ready(Ok(_)) if matches!(this.reading, Reading::UntilClose) => {
                    this.exchange = None;
                    this.reading = Reading::Length(0);
                    return Poll::Ready(None);
                }
                Poll::Ready(_) => {
                    return this.fail(Kind::UpstreamInvalid.because("the worker's answer ended early"));
                }
                Poll::Pending => {
                    ready!(exchange.poll_stuck(cx, exchange.limits.upstream_body_idle_timeout_ms));
                    let fault =
                        Kind::UpstreamTimeout.because("the worker stopped in the middle of its answer");
                    return this.fail(fault);
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.reading, Reading::Length(0))
    }

    fn size_hint(&self) -> SizeHint {
        match self.reading {
            Reading::Length(left) => SizeHint::with_exact(left),
            _ => SizeHint::default(),
        }
    }
}
