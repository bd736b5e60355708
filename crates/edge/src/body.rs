//! Bodies: one type for all, and what is watched while they stream.

use crate::fault::{Fault, Kind};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

/// Why a body ended early.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A streaming body with trailers, of a request or an answer.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

pub(crate) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// What the record wants to know of a request's body, and why it failed, if it did.
#[derive(Debug, Default)]
pub(crate) struct Upload {
    pub(crate) bytes: AtomicU64,
    pub(crate) fault: OnceLock<Fault>,
}

/// A client's body on its way to a worker: counted, bounded, without trailers that could change the message.
pub(crate) struct FromClient {
    inner: hyper::body::Incoming,
    upload: Arc<Upload>,
    max: u64,
}

impl FromClient {
    pub(crate) fn new(inner: hyper::body::Incoming, upload: Arc<Upload>, max: u64) -> Self {
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
                let fault = crate::fault::find(&error).unwrap_or(gone);
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
                "forwarded",
                "x-forwarded-for",
                "x-forwarded-host",
                "x-forwarded-proto",
                "x-request-id",
                "cf-connecting-ip",
                "traceparent",
                "tracestate",
            ] {
                trailers.remove(name);
            }
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}
