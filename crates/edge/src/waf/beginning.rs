//! The beginning of a body, looked at before the body goes on as if nothing had been read.

use super::room::Share;
use crate::body::{Body, BoxError};
use crate::fault::{self, Fault, Kind};
use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// As much as was wanted, or all there is.
#[derive(Debug, Clone, Default)]
pub(super) struct Beginning {
    pub(super) bytes: Bytes,
    /// There is more than was wanted.
    pub(super) cut: bool,
    /// There is more than there was room for.
    pub(super) crowded: bool,
    _share: Option<Arc<Share>>,
}

/// How the beginning of a body is kept. At most one frame more than `limit` bytes is held.
#[derive(Debug)]
pub(super) struct Keep {
    pub(super) limit: usize,
    pub(super) share: Share,
    /// Where there is no room: refuse the body, or let what comes pass unseen.
    pub(super) refuses: bool,
}

impl Keep {
    /// The beginning of a request's body: as much as is wanted, or all of it. Deadlines are the reader's.
    pub(super) async fn request(self, body: Body) -> Result<(Beginning, Body), Fault> {
        let gone = Kind::ClientGone.because("the client went away in the middle of the request body");
        self.read(body, None, gone).await
    }

    /// The beginning of an answer's body, or what is there of it after a while.
    pub(super) async fn answer(self, body: Body, patience: Duration) -> Result<(Beginning, Body), Fault> {
        let broken = Kind::UpstreamInvalid.because("the worker's answer ended early");
        self.read(body, Some(Instant::now() + patience), broken).await
    }

    async fn read(
        mut self,
        mut body: Body,
        until: Option<Instant>,
        broken: Fault,
    ) -> Result<(Beginning, Body), Fault> {
        let mut kept = Kept::default();
        let (mut trailers, mut ended) = (None, false);
        let (mut late, mut crowded) = (false, false);
        while kept.len() <= self.limit && !crowded {
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
            let Some(frame) = frame else {
                ended = true;
                break;
            };
            let frame = frame.map_err(|error| fault::find(&*error).unwrap_or(broken))?;
            match frame.into_data() {
                Ok(data) => {
                    let room = self.share.grow(data.len());
                    kept.push(data);
                    if let Err(fault) = room {
                        crowded = true;
                        if self.refuses {
                            return Err(fault);
                        }
                    }
                }
                Err(last) => {
                    (trailers, ended) = (Some(last), true);
                    break;
                }
            }
        }
        let bytes = kept.finish();
        let share = Arc::new(self.share);
        let beginning = Beginning {
            cut: late || crowded || bytes.len() > self.limit,
            crowded,
            bytes: bytes.slice(..bytes.len().min(self.limit)),
            _share: Some(share.clone()),
        };
        let bytes = Some(bytes).filter(|bytes| !bytes.is_empty());
        let body = Body::new(Replayed {
            bytes: bytes.map(|bytes| (bytes, share)),
            trailers,
            rest: if ended { Body::empty() } else { body },
        });
        Ok((beginning, body))
    }
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

/// What was kept, and what comes after it. Its room is given back when it has been taken on.
struct Replayed {
    bytes: Option<(Bytes, Arc<Share>)>,
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
        if let Some((bytes, _)) = self.bytes.take() {
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
        let kept = self.bytes.as_ref().map_or(0, |(bytes, _)| bytes.len() as u64);
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
