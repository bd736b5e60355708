//! The beginning of a body, looked at before the body goes on as if nothing had been read.

use crate::body::{Body, BoxError};
use crate::fault::{self, Fault, Kind};
use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// As much as was wanted, or all there is.
#[derive(Debug, Clone, Default)]
pub(super) struct Beginning {
    pub(super) bytes: Bytes,
    /// There is more than was wanted.
    pub(super) cut: bool,
}

/// The beginning of a request's body: until `limit` bytes are there, or the end. At most one frame more than that is held;
/// deadlines are the reader's.
pub(super) async fn keep(body: Body, limit: usize) -> Result<(Beginning, Body), Fault> {
    let gone = Kind::ClientGone.because("the client went away in the middle of the request body");
    read(body, limit, None, gone).await
}

/// The beginning of an answer's body, or what is there of it after a while.
pub(super) async fn keep_answer(
    body: Body,
    limit: usize,
    patience: Duration,
) -> Result<(Beginning, Body), Fault> {
    let broken = Kind::UpstreamInvalid.because("the worker's answer ended early");
    read(body, limit, Some(Instant::now() + patience), broken).await
}

async fn read(
    mut body: Body,
    limit: usize,
    until: Option<Instant>,
    broken: Fault,
) -> Result<(Beginning, Body), Fault> {
    let mut kept = Kept::default();
    let mut end = None;
    let mut late = false;
    while kept.len() <= limit {
        let frame = match until {
            None => body.frame().await,
            Some(until) => match tokio::time::timeout_at(until, body.frame()).await {
                Ok(frame) => frame,
                Err(_) => {
                    late = true;
                    break;
                }
            },
        };
        match frame {
            None => {
                end = Some(None);
                break;
            }
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => kept.push(data),
                Err(last) => {
                    end = Some(Some(last));
                    break;
                }
            },
            Some(Err(error)) => return Err(fault::find(&*error).unwrap_or(broken)),
        }
    }
    let bytes = kept.finish();
    let beginning = Beginning {
        cut: late || bytes.len() > limit,
        bytes: bytes.slice(..bytes.len().min(limit)),
    };
    let body = match end {
        Some(None) => Body::full(bytes),
        Some(Some(trailers)) => Body::new(Replayed {
            bytes: Some(bytes).filter(|bytes| !bytes.is_empty()),
            trailers: Some(trailers),
            rest: Body::empty(),
        }),
        None => Body::new(Replayed {
            bytes: Some(bytes).filter(|bytes| !bytes.is_empty()),
            trailers: None,
            rest: body,
        }),
    };
    Ok((beginning, body))
}

/// Frames in one piece; one frame alone is not copied.
#[derive(Default)]
struct Kept {
    first: Bytes,
    all: BytesMut,
}

impl Kept {
    fn len(&self) -> usize {
        self.first.len().max(self.all.len())
    }

    fn push(&mut self, data: Bytes) {
        if self.first.is_empty() {
            self.first = data;
            return;
        }
        if self.all.is_empty() {
            self.all.extend_from_slice(&self.first);
        }
        self.all.extend_from_slice(&data);
    }

    fn finish(self) -> Bytes {
        if self.all.is_empty() {
            self.first
        } else {
            self.all.freeze()
        }
    }
}

/// What was kept, and what comes after it.
struct Replayed {
    bytes: Option<Bytes>,
    trailers: Option<Frame<Bytes>>,
    rest: Body,
}

impl http_body::Body for Replayed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(bytes) = self.bytes.take() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        if let Some(trailers) = self.trailers.take() {
            return Poll::Ready(Some(Ok(trailers)));
        }
        Pin::new(&mut self.rest).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none() && self.trailers.is_none() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let kept = self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64);
        let rest = self.rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(kept));
        // A length that is known would be said, and there are no trailers behind a length.
        if self.trailers.is_none()
            && let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(kept))
        {
            hint.set_upper(upper);
        }
        hint
    }
}
