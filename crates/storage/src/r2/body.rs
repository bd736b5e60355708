//! The body of a write: first the operation, then the object's bytes.

use super::answer::Failure;
use crate::Incoming;
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use http_body_util::BodyDataStream;
use hyper::body::Incoming as HyperBody;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

/// The most bytes of a refused body that are read only to be thrown away.
const MAX_DISCARD: u64 = 1 << 30;
/// How long that may take.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(30);

/// A body being read. What reads it can go away; the rest stays readable.
pub(super) struct Upload {
    shared: Shared,
}

#[derive(Clone)]
struct Shared(Arc<Mutex<Source>>);

struct Source {
    /// Bytes that came with the operation.
    ahead: Bytes,
    body: BodyDataStream<HyperBody>,
}

impl Upload {
    pub(super) fn new(body: HyperBody) -> Self {
        let source = Source {
            ahead: Bytes::new(),
            body: BodyDataStream::new(body),
        };
        Self {
            shared: Shared(Arc::new(Mutex::new(source))),
        }
    }

    /// The next `size` bytes.
    pub(super) async fn take(&mut self, size: usize) -> Result<Bytes, Failure> {
        let mut taken = BytesMut::new();
        while taken.len() < size {
            match self.shared.next().await {
                Some(Ok(piece)) => taken.extend_from_slice(&piece),
                Some(Err(_)) | None => return Err(Failure::invalid("the body ends within its operation")),
            }
        }
        let taken = taken.freeze();
        self.shared.lock().ahead = taken.slice(size..);
        Ok(taken.slice(..size))
    }

    /// Everything after what was taken.
    pub(super) fn rest(&self) -> Incoming {
        Box::pin(self.shared.clone())
    }

    /// Reads the rest and forgets it.
    pub(super) async fn discard(&mut self) {
        let mut left = MAX_DISCARD;
        let all = async {
            while let Some(Ok(piece)) = self.shared.next().await {
                left = left.saturating_sub(piece.len() as u64);
                if left == 0 {
                    return;
                }
            }
        };
        // Whoever sends too much or too slowly sees a broken connection.
        let _ = tokio::time::timeout(DISCARD_TIMEOUT, all).await;
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Source> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stream for Shared {
    type Item = io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut source = self.lock();
        if !source.ahead.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut source.ahead))));
        }
        source.body.poll_next_unpin(context).map_err(io::Error::other)
    }
}
