//! Bodies: one type for all, and what is watched while they stream.

use crate::fault::{Fault, Kind};
use crate::record::Recorded;
use bytes::Bytes;
use http::HeaderName;
use http_body::{Frame, SizeHint};
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

/// Why a body ended early.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A body with trailers, of a request or an answer: nothing, bytes that are all there, or a stream.
#[derive(Default)]
pub struct Body(Inner);

#[derive(Default)]
enum Inner {
    #[default]
    Empty,
    Full(Bytes),
    /// An answer's, with the access record that ends with it.
    Recorded(Box<Recorded>),
    Stream(Pin<Box<dyn http_body::Body<Data = Bytes, Error = BoxError> + Send>>),
}

impl Body {
    /// No bytes.
    pub fn empty() -> Self {
        Self(Inner::Empty)
    }

    /// Bytes that are all there.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        match bytes.into() {
            bytes if bytes.is_empty() => Self::empty(),
            bytes => Self(Inner::Full(bytes)),
        }
    }

    pub(crate) fn recorded(body: Recorded) -> Self {
        Self(Inner::Recorded(Box::new(body)))
    }

    /// Says to the access record that the client is not there any more, although all bytes may have been written.
    pub(crate) fn client_left(&mut self) {
        if let Inner::Recorded(body) = &mut self.0 {
            body.client_left();
        }
    }

    /// Frames as they come.
    pub fn new(body: impl http_body::Body<Data = Bytes, Error = BoxError> + Send + 'static) -> Self {
        Self(Inner::Stream(Box::pin(body)))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.0 {
            Inner::Empty => Poll::Ready(None),
            Inner::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.0 = Inner::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Inner::Recorded(body) => Pin::new(body).poll_frame(cx),
            Inner::Stream(stream) => stream.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Empty => true,
            Inner::Full(_) => false,
            Inner::Recorded(body) => body.is_end_stream(),
            Inner::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Empty => SizeHint::with_exact(0),
            Inner::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Inner::Recorded(body) => body.size_hint(),
            Inner::Stream(stream) => stream.size_hint(),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Inner::Empty => "Body(empty)",
            Inner::Full(_) => "Body(full)",
            Inner::Recorded(_) | Inner::Stream(_) => "Body(stream)",
        })
    }
}

pub(crate) fn empty() -> Body {
    Body::empty()
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Body::full(bytes)
}

/// What the record wants to know of a request's body, and why it failed, if it did.
#[derive(Debug, Default)]
pub(crate) struct Upload {
    pub(crate) bytes: AtomicU64,
    pub(crate) fault: OnceLock<Fault>,
}

/// A client's body on its way to a worker: counted, bounded, without trailers that could change the message.
pub(crate) struct FromClient {
    inner: Body,
    upload: Arc<Upload>,
    max: u64,
}

impl FromClient {
    pub(crate) fn new(inner: Body, upload: Arc<Upload>, max: u64) -> Self {
        Self { inner, upload, max }
    }

    fn fail(&self, fault: Fault) -> BoxError {
        let _ = self.upload.fault.set(fault);
        Box::new(fault)
    }
}

impl http_body::Body for FromClient {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
            None => return Poll::Ready(None),
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                let gone = Kind::ClientGone.because("the client went away in the middle of the request body");
                let fault = crate::fault::find(&*error).unwrap_or(gone);
                return Poll::Ready(Some(Err(self.fail(fault))));
            }
        };
        if let Some(data) = frame.data_ref() {
            let bytes = data.len() as u64;
            let total = self.upload.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
            if total > self.max {
                return Poll::Ready(Some(Err(
                    self.fail(Kind::BodyTooLarge.because("request body too large"))
                )));
            }
        }
        Poll::Ready(Some(Ok(without_forbidden_trailers(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Fields that frame, route or authenticate a message are ignored in trailers (RFC 9110 section 6.5.1).
pub(crate) fn without_forbidden_trailers(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            for name in [
                "content-length",
                "transfer-encoding",
                "host",
                "connection",
                "te",
                "trailer",
                "upgrade",
                "keep-alive",
                "proxy-connection",
                "expect",
                "authorization",
                "proxy-authorization",
                "cookie",
                "set-cookie",
                "cache-control",
                "content-type",
                "content-encoding",
                "content-range",
                "traceparent",
                "tracestate",
            ] {
                trailers.remove(name);
            }
            let is_claim = |name: &&HeaderName| crate::forward::is_claim(name.as_str());
            let claims: Vec<_> = trailers.keys().filter(is_claim).cloned().collect();
            for name in claims {
                trailers.remove(name);
            }
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}
