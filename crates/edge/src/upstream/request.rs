//! A request on its way out: its head as bytes, its body as it comes.

use crate::body::{Body, BoxError};
use crate::fault::Kind;
use crate::out::{Out, announced, content_length, fields, size_of_fields, text_of};
use bytes::Bytes;
use http::{Method, Request};
use http_body::Body as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::AsyncWrite;

/// What is to be sent, and how much of it has been.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// Kept, because it may be sent again.
    head: Bytes,
    out: Out,
    body: Body,
    framing: Framing,
    /// Idempotent, and without a body (RFC 9110 section 9.2.2).
    replayable: bool,
    /// A byte of it has left.
    begun: bool,
    pub(super) of_head: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
    /// All of the body is in the queue.
    Done,
}

/// Why sending stopped.
#[derive(Debug)]
pub(super) enum Unsent {
    /// The upstream takes no more. It may have answered already.
    Stream(io::Error),
    Body(BoxError),
}

impl Outgoing {
    /// `lines` are fields of the head that go before those of the request.
    pub(super) fn new(request: Request<Body>, lines: &[u8]) -> Self {
        let (parts, body) = request.into_parts();
        let length = announced(&parts.headers).or_else(|| body.size_hint().exact());
        let framing = match length {
            Some(0) => Framing::Done,
            Some(length) => Framing::Length(length),
            None => Framing::Chunked,
        };
        // Methods that mean something by a body say when it is empty (RFC 9110 section 8.6).
        let says_zero = framing == Framing::Done
            && (announced(&parts.headers).is_some()
                || matches!(parts.method, Method::POST | Method::PUT | Method::PATCH));
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
        let expected = 128 + target.len() + lines.len() + size_of_fields(&parts.headers);
        let head = text_of(expected, |block| {
            block.extend_from_slice(parts.method.as_str().as_bytes());
            block.extend_from_slice(b" ");
            block.extend_from_slice(target.as_bytes());
            block.extend_from_slice(b" HTTP/1.1\r\n");
            block.extend_from_slice(lines);
            fields(block, &parts.headers);
            // The words of Connection that a caller may mean: everything else of it is ours. Who sends TE says so (RFC
            // 9110 section 10.1.4).
            let has = |name| parts.headers.contains_key(name);
            match (has(http::header::UPGRADE), has(http::header::TE)) {
                (true, true) => block.extend_from_slice(b"connection: Upgrade, TE\r\n"),
                (true, false) => block.extend_from_slice(b"connection: Upgrade\r\n"),
                (false, true) => block.extend_from_slice(b"connection: TE\r\n"),
                (false, false) => {}
            }
            match framing {
                Framing::Length(length) => content_length(block, length),
                Framing::Chunked => block.extend_from_slice(b"transfer-encoding: chunked\r\n"),
                Framing::Done if says_zero => content_length(block, 0),
                Framing::Done => {}
            }
            block.extend_from_slice(b"\r\n");
        });
        let mut out = Out::default();
        out.push(head.clone());
        let idempotent = matches!(
            parts.method,
            Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE
        );
        Self {
            head,
            out,
            body,
            framing,
            replayable: idempotent && framing == Framing::Done,
            begun: false,
            of_head: parts.method == Method::HEAD,
        }
    }

    /// All of it has left.
    pub(super) fn is_sent(&self) -> bool {
        self.framing == Framing::Done && self.out.is_empty()
    }

    /// For another connection: as it was when nothing has left, from its beginning when that has no effect of its own.
    pub(super) fn again(mut self) -> Option<Self> {
        if self.begun {
            if !self.replayable {
                return None;
            }
            self.out = Out::default();
            self.out.push(self.head.clone());
            self.begun = false;
        }
        Some(self)
    }

    /// Sends what there is. Ready when all is sent. `moved` is set when something has.
    pub(super) fn poll_send<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        moved: &mut bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Unsent>> {
        loop {
            while self.framing != Framing::Done && self.out.has_room() {
                match Pin::new(&mut self.body).poll_frame(cx) {
                    Poll::Pending => break,
                    Poll::Ready(Some(Ok(frame))) => {
                        *moved = true;
                        match frame.into_data() {
                            Ok(data) => self.data(data).map_err(Unsent::Body)?,
                            Err(frame) => self.end(frame.into_trailers().ok().as_ref())?,
                        }
                    }
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(Unsent::Body(error))),
                    Poll::Ready(None) => self.end(None)?,
                }
            }
            if self.out.is_empty() {
                return match self.framing {
                    Framing::Done => Poll::Ready(Ok(())),
                    _ => Poll::Pending,
                };
            }
            let written = self.out.poll_write_all(Pin::new(&mut *stream), cx);
            if self.out.take_progress() || matches!(written, Poll::Ready(Ok(_))) {
                self.begun = true;
                *moved = true;
            }
            match written {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Unsent::Stream(error))),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn data(&mut self, data: Bytes) -> Result<(), BoxError> {
        match &mut self.framing {
            Framing::Length(left) => {
                // What is behind the length would be taken for another request.
                *left = left.checked_sub(data.len() as u64).ok_or_else(|| {
                    Box::new(Kind::Malformed.because("the request body is longer than it said"))
                })?;
                if *left == 0 {
                    self.framing = Framing::Done;
                }
                self.out.push(data);
            }
            Framing::Chunked => self.out.chunk(data),
            Framing::Done => {}
        }
        Ok(())
    }

    fn end(&mut self, trailers: Option<&http::HeaderMap>) -> Result<(), Unsent> {
        match self.framing {
            Framing::Length(_) => {
                let short = Kind::ClientGone.because("the request body ended early");
                return Err(Unsent::Body(Box::new(short)));
            }
            Framing::Chunked => self.out.last_chunk(trailers),
            Framing::Done => {}
        }
        self.framing = Framing::Done;
        Ok(())
    }
}
