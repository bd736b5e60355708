//! The other end of a connection, in whatever protocol, and what it can take besides an answer.

#![allow(
    dead_code,
    reason = "our own server of HTTP/1.1 and the TLS listener, which use the rest, come next"
)]

use futures_util::future::BoxFuture;
use http::HeaderMap;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncRead, AsyncWrite};

/// Interim answers of one request that may wait to be written; more are dropped, as a client may do too.
const MAX_INTERIM: usize = 8;

/// Who is there, for all requests of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    pub(crate) scheme: Scheme,
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

/// Where interim answers (103, RFC 8297) go before the answer. A small queue: whoever polls `serve` takes from it after
/// each poll. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Interim(Option<Arc<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    count: AtomicUsize,
    hints: Mutex<VecDeque<HeaderMap>>,
}

impl Interim {
    /// The client takes none: HTTP/1.0.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    pub(crate) fn new() -> Self {
        Self(Some(Arc::default()))
    }

    /// 103 Early Hints with these fields; dropped where it cannot be sent.
    pub(crate) fn early_hints(&self, fields: HeaderMap) {
        if let Some(queue) = &self.0 {
            let mut hints = queue.hints.lock().unwrap_or_else(PoisonError::into_inner);
            if hints.len() < MAX_INTERIM {
                hints.push_back(fields);
                queue.count.store(hints.len(), Ordering::Release);
            }
        }
    }

    /// The fields of the next 103 to write. Costs one load when there is none.
    pub(crate) fn take(&self) -> Option<HeaderMap> {
        let queue = self.0.as_ref()?;
        if queue.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut hints = queue.hints.lock().unwrap_or_else(PoisonError::into_inner);
        let fields = hints.pop_front();
        queue.count.store(hints.len(), Ordering::Release);
        fields
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

    /// Of a request or an answer that hyper has read.
    pub(crate) fn of_hyper(upgrade: hyper::upgrade::OnUpgrade) -> Self {
        Self::new(async move {
            let upgraded = upgrade.await.map_err(io::Error::other)?;
            Ok(Box::new(hyper_util::rt::TokioIo::new(upgraded)) as Box<dyn Io>)
        })
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
