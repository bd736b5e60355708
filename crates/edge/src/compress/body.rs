//! An answer that is compressed while it streams.

use super::encoder::Encoder;
use crate::body::{Body, BoxError};
use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::OwnedSemaphorePermit;

/// Bytes that one step compresses: about a millisecond, so that no connection waits long for another's.
const STEP_BYTES: usize = 32 << 10;

/// Compresses what comes; where the source pauses, what came is made readable, so that nobody waits for a block to fill.
/// An error of the source ends the stream unfinished: the client sees that it is short.
pub(super) struct Compressed {
    source: Body,
    encoder: Option<Encoder>,
    /// Of the source, not compressed yet.
    rest: Bytes,
    /// Something is inside the encoder that a client could not read yet.
    unflushed: bool,
    source_ended: bool,
    trailers: Option<HeaderMap>,
    _place: OwnedSemaphorePermit,
}

impl Compressed {
    pub(super) fn new(source: Body, encoder: Encoder, place: OwnedSemaphorePermit) -> Self {
        Self {
            source,
            encoder: Some(encoder),
            rest: Bytes::new(),
            unflushed: false,
            source_ended: false,
            trailers: None,
            _place: place,
        }
    }

    fn step(&mut self, encoder: &mut Encoder) -> std::io::Result<()> {
        let piece = self.rest.split_to(self.rest.len().min(STEP_BYTES));
        self.unflushed = true;
        encoder.write(&piece)
    }
}

impl http_body::Body for Compressed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let mut done = 0;
        loop {
            let Some(mut encoder) = this.encoder.take() else {
                return Poll::Ready(this.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
            };
            if !this.rest.is_empty() {
                done += this.rest.len().min(STEP_BYTES);
                if let Err(error) = this.step(&mut encoder) {
                    return Poll::Ready(Some(Err(Box::new(error))));
                }
                let out = encoder.has_output().then(|| encoder.take());
                this.encoder = Some(encoder);
                match out {
                    Some(out) => return Poll::Ready(Some(Ok(Frame::data(out)))),
                    None if done < STEP_BYTES => continue,
                    None => {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                }
            }
            if this.source_ended {
                return match encoder.finish() {
                    Ok(out) if out.is_empty() => continue,
                    Ok(out) => Poll::Ready(Some(Ok(Frame::data(out)))),
                    Err(error) => Poll::Ready(Some(Err(Box::new(error)))),
                };
            }
            match Pin::new(&mut this.source).poll_frame(cx) {
                Poll::Pending if this.unflushed => {
                    this.unflushed = false;
                    let flushed = encoder.flush();
                    let out = encoder.take();
                    this.encoder = Some(encoder);
                    if let Err(error) = flushed {
                        return Poll::Ready(Some(Err(Box::new(error))));
                    }
                    if !out.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(out))));
                    }
                }
                Poll::Pending => {
                    this.encoder = Some(encoder);
                    return Poll::Pending;
                }
                Poll::Ready(None) => {
                    this.source_ended = true;
                    this.encoder = Some(encoder);
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(Some(Ok(frame))) => {
                    this.encoder = Some(encoder);
                    match frame.into_data() {
                        Ok(data) => this.rest = data,
                        Err(frame) => this.trailers = frame.into_trailers().ok(),
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.encoder.is_none() && self.trailers.is_none()
    }
}
