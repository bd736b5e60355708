//! The other end of a connection, in whatever protocol, and what it can take besides an answer.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, StatusCode};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Interim answers of one request that may wait to be written; more are dropped, as a client may do too.
const MAX_INTERIM: usize = 8;

/// Who is there, for all requests of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    pub(crate) scheme: Scheme,
    /// What was agreed on, where the connection is encrypted.
    pub(crate) tls: Option<Agreed>,
}

/// Version and cipher of TLS. The cipher is not told of QUIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Agreed {
    pub(crate) version: &'static str,
    pub(crate) cipher: Option<&'static str>,
}

/// What the client's URL begins with: whether the connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// Where interim answers (1xx but 100 and 101; RFC 9110 section 15.2) go before the answer. A small queue: whoever polls `serve` takes from it after
/// each poll. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Interim(Option<Arc<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    count: AtomicUsize,
    answers: Mutex<VecDeque<(StatusCode, HeaderMap)>>,
}

impl Interim {
    /// The client takes none: HTTP/1.0.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    pub(crate) fn new() -> Self {
        Self(Some(Arc::default()))
    }

    /// One to pass on, with these fields; dropped where it cannot be sent.
    pub(crate) fn put(&self, status: StatusCode, fields: HeaderMap) {
        if let Some(queue) = &self.0 {
            let mut answers = queue.answers.lock().unwrap_or_else(PoisonError::into_inner);
            if answers.len() < MAX_INTERIM {
                answers.push_back((status, fields));
                queue.count.store(answers.len(), Ordering::Release);
            }
        }
    }

    /// The next one to write. Costs one load when there is none.
    pub(crate) fn take(&self) -> Option<(StatusCode, HeaderMap)> {
        let queue = self.0.as_ref()?;
        if queue.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut answers = queue.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let next = answers.pop_front();
        queue.count.store(answers.len(), Ordering::Release);
        next
    }
}

/// Bytes both ways.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

type Pending = BoxFuture<'static, io::Result<Box<dyn Io>>>;

/// Yields the raw connection once the answer 101 is out, with what was already read of it first.
#[derive(Clone)]
pub(crate) struct OnUpgrade(Arc<Mutex<Option<Pending>>>);

impl OnUpgrade {
    pub(crate) fn new(future: impl Future<Output = io::Result<Box<dyn Io>>> + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Some(Box::pin(future)))))
    }

    /// Waits for the connection. Can be had once.
    pub(crate) async fn get(self) -> io::Result<Box<dyn Io>> {
        let future = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        match future {
            Some(future) => future.await,
            None => Err(io::Error::other("the connection was handed out before")),
        }
    }
}

impl fmt::Debug for OnUpgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnUpgrade")
    }
}

/// A connection of which some bytes were read already.
pub(crate) struct Rewound<S> {
    read: Bytes,
    io: S,
}

impl<S> Rewound<S> {
    pub(crate) fn new(read: Bytes, io: S) -> Self {
        Self { read, io }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buffer);
        }
        let count = self.read.len().min(buffer.remaining());
        buffer.put_slice(&self.read.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
