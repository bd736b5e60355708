//! The client side: HTTP/1.1 over Unix sockets and TCP, with a pool.
//!
//! # When a request is sent again
//!
//! - The connection could not be made, or a pooled one turned out to be dead before a byte was sent: nothing has
//!   happened, any request is sent again.
//! - The upstream closed before the first byte of its answer: only a request that is idempotent (RFC 9110
//!   section 9.2.2) and has no body.
//!
//! Both within [`crate::Limits::upstream_retry_ms`]: a killed worker's successor inherits its listening socket, so a
//! connection made in between waits in the socket's queue.

mod pool;

use crate::body::{Body, BoxError, empty};
use crate::config::{Limits, ms};
use crate::fault::{Fault, Kind};
use astraler_model::Origin;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use pool::{Lease, Pool};
use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, Sleep};

/// Tries of one request, at most.
const MAX_ATTEMPTS: u32 = 12;
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// Why an upstream gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// Nothing accepts connections there.
    #[error("cannot connect to {origin}")]
    Connect {
        /// Where.
        origin: Origin,
        /// What the system said.
        source: io::Error,
    },
    /// It closed the connection before it answered.
    #[error("{origin} closed the connection before it answered")]
    Closed {
        /// Where.
        origin: Origin,
        /// What hyper said.
        source: hyper::Error,
    },
    /// What it sent is not HTTP/1.1.
    #[error("{origin} sent an invalid answer")]
    Invalid {
        /// Where.
        origin: Origin,
        /// What hyper said.
        source: hyper::Error,
    },
    /// It did not answer in time.
    #[error("{origin} did not answer within {after_ms} ms")]
    Timeout {
        /// Where.
        origin: Origin,
        /// How long it had.
        after_ms: u64,
    },
    /// The request's own body failed: see the source.
    #[error("the request body failed on its way to {origin}")]
    RequestBody {
        /// Where.
        origin: Origin,
        /// Why.
        source: hyper::Error,
    },
}

impl UpstreamError {
    /// The same in the edge's words, with blame and whether to retry.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Connect { .. } => {
                Kind::UpstreamUnavailable.because("the worker does not accept connections")
            }
            Self::Closed { .. } => {
                Kind::UpstreamClosed.because("the worker closed the connection before it answered")
            }
            Self::Invalid { .. } => Kind::UpstreamInvalid.because("the worker sent an invalid answer"),
            Self::Timeout { .. } => Kind::UpstreamTimeout.because("the worker did not answer in time"),
            Self::RequestBody { source, .. } => {
                crate::fault::find(source).unwrap_or(Kind::ClientGone.because("the request body ended early"))
            }
        }
    }
}

/// A pool of connections to upstreams; clones share it.
#[derive(Debug, Clone)]
pub struct Upstream {
    pool: Arc<Pool>,
    limits: Limits,
}

impl Upstream {
    /// An empty pool. Of the limits, those that begin with `upstream_` count.
    pub fn new(limits: &Limits) -> Self {
        Self {
            pool: Arc::new(Pool::new(limits)),
            limits: limits.clone(),
        }
    }

    /// Sends a request to an origin. The request has an origin-form target and a Host field; hop-by-hop
    /// fields are the caller's business. The answer's body streams; dropping it before its end closes the connection.
    ///
    /// After status 101 the tunnel is `hyper::upgrade::on(response)`.
    ///
    /// Must be called within a tokio runtime, which drives the connections.
    ///
    /// # Errors
    /// See [`UpstreamError`]; every one comes after the tries described above.
    pub async fn send(
        &self,
        origin: &Origin,
        request: Request<Body>,
    ) -> Result<Response<Body>, UpstreamError> {
        let replayable = is_idempotent(request.method()) && request.body().is_end_stream();
        let template = replayable.then(|| head_of(&request));
        let begun = Instant::now();
        let window = ms(self.limits.upstream_retry_ms);
        let mut pause = FIRST_PAUSE;
        let mut next = request;
        for attempt in 1.. {
            let may_retry = attempt < MAX_ATTEMPTS && begun.elapsed() + pause < window;
            let (unsent, error, immediately) = match self.attempt(origin, next).await {
                Ok(response) => return Ok(response),
                Err(failure) => (failure.unsent, failure.error, failure.pooled),
            };
            let again = unsent.map(|request| *request).or_else(|| {
                let died = matches!(error, UpstreamError::Closed { .. });
                template.as_ref().filter(|_| died).map(clone_head)
            });
            match again {
                Some(request) if may_retry => next = request,
                _ => return Err(error),
            }
            // A dead pooled connection says nothing about the upstream: go on at once.
            if !immediately {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
        unreachable!("the loop ends by returning")
    }

    /// Closes unused connections to every other origin, and those in use when they are done.
    pub fn retain_only(&self, origins: &HashSet<Origin>) {
        self.pool.retain_only(origins);
    }

    /// Closes connections that were unused for too long. Call it now and then.
    pub fn prune(&self) {
        self.pool.prune();
    }

    /// Unused connections, for status pages and tests.
    pub fn idle_connections(&self) -> usize {
        self.pool.idle()
    }

    async fn attempt(&self, origin: &Origin, request: Request<Body>) -> Result<Response<Body>, Failure> {
        let (mut lease, pooled) = match self.pool.checkout(origin).await {
            Some(lease) => (lease, true),
            None => match self.connect(origin).await {
                Ok(lease) => (lease, false),
                Err(source) => {
                    let error = UpstreamError::Connect {
                        origin: origin.clone(),
                        source,
                    };
                    return Err(Failure {
                        unsent: Some(Box::new(request)),
                        error,
                        pooled: false,
                    });
                }
            },
        };
        let progress = Arc::new(AtomicU64::new(0));
        let watched = progress.clone();
        let request = request.map(|inner| {
            Body::new(Watched {
                inner,
                progress: watched,
            })
        });
        let answer = self
            .in_time(&progress, lease.sender.try_send_request(request))
            .await;
        let response = match answer {
            Some(Ok(response)) => response,
            Some(Err(mut failure)) => {
                let unsent = failure.take_message().map(Box::new);
                return Err(Failure {
                    unsent,
                    error: classify(origin, failure.into_error()),
                    pooled,
                });
            }
            None => {
                let error = UpstreamError::Timeout {
                    origin: origin.clone(),
                    after_ms: self.limits.upstream_timeout_ms,
                };
                return Err(Failure {
                    unsent: None,
                    error,
                    pooled: false,
                });
            }
        };
        let upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let limit = ms(self.limits.upstream_body_idle_timeout_ms);
        Ok(response.map(|inner| {
            let mut body = FromUpstream {
                inner,
                lease: (!upgraded).then_some(lease),
                limit,
                timer: None,
            };
            if body.inner.is_end_stream() {
                body.finish();
            }
            Body::new(body)
        }))
    }

    async fn connect(&self, origin: &Origin) -> io::Result<Lease> {
        let limit = ms(self.limits.upstream_connect_timeout_ms);
        let sender = match origin {
            Origin::Unix(path) => handshake(connect_unix(path, limit).await?).await?,
            Origin::Tcp { host, port } => handshake(connect_tcp(host, *port, limit).await?).await?,
        };
        Ok(self.pool.lease(origin, sender))
    }

    /// `None` when the head of the answer does not come in time after the last progress of the request's body.
    async fn in_time<T>(&self, progress: &AtomicU64, answer: impl Future<Output = T>) -> Option<T> {
        let mut answer = std::pin::pin!(answer);
        loop {
            let before = progress.load(Ordering::Relaxed);
            match tokio::time::timeout(ms(self.limits.upstream_timeout_ms), answer.as_mut()).await {
                Ok(answer) => return Some(answer),
                Err(_) if progress.load(Ordering::Relaxed) != before => {}
                Err(_) => return None,
            }
        }
    }
}

struct Failure {
    /// The request, when not a byte of it was sent.
    unsent: Option<Box<Request<Body>>>,
    error: UpstreamError,
    pooled: bool,
}

async fn connect_unix(path: &Path, limit: Duration) -> io::Result<UnixStream> {
    let begun = Instant::now();
    loop {
        match UnixStream::connect(path).await {
            // A full queue answers EAGAIN instead of waiting (connect(2), Unix domain sockets).
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && begun.elapsed() < limit => {
                tokio::time::sleep(FIRST_PAUSE).await;
            }
            other => return other,
        }
    }
}

async fn connect_tcp(host: &str, port: u16, limit: Duration) -> io::Result<TcpStream> {
    let stream = tokio::time::timeout(limit, TcpStream::connect((host, port))).await??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn handshake<S>(stream: S) -> io::Result<SendRequest<Body>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(64 << 10)
        .max_headers(256)
        .handshake(hyper_util::rt::TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    // Ends when the sender is dropped and nothing is in flight, or the socket closes: errors arrive at the request.
    tokio::spawn(async move { drop(connection.with_upgrades().await) });
    Ok(sender)
}

fn classify(origin: &Origin, source: hyper::Error) -> UpstreamError {
    let origin = origin.clone();
    if source.is_user() {
        UpstreamError::RequestBody { origin, source }
    } else if source.is_parse() || source.is_parse_too_large() {
        UpstreamError::Invalid { origin, source }
    } else {
        UpstreamError::Closed { origin, source }
    }
}

fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE
    )
}

fn head_of(request: &Request<Body>) -> Request<()> {
    let mut head = Request::new(());
    *head.method_mut() = request.method().clone();
    *head.uri_mut() = request.uri().clone();
    *head.version_mut() = request.version();
    *head.headers_mut() = request.headers().clone();
    head
}

fn clone_head(head: &Request<()>) -> Request<Body> {
    head.clone().map(|()| empty())
}

/// Notes that the request's body moves, so that a long upload is no timeout of the upstream.
struct Watched {
    inner: Body,
    progress: Arc<AtomicU64>,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        self.progress.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// An answer's body; its connection goes back to the pool at the end, and is closed when it is dropped earlier.
struct FromUpstream {
    inner: Incoming,
    lease: Option<Lease>,
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl FromUpstream {
    fn finish(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.give_back();
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
        let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) else {
            let limit = this.limit;
            let timer = this
                .timer
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
            ready!(timer.as_mut().poll(cx));
            let fault = Kind::UpstreamTimeout.because("the worker stopped in the middle of its answer");
            return Poll::Ready(Some(Err(Box::new(fault))));
        };
        this.timer = None;
        Poll::Ready(match frame {
            None => {
                this.finish();
                None
            }
            Some(Ok(frame)) => {
                let frame = crate::body::without_forbidden_trailers(frame);
                if this.inner.is_end_stream() {
                    this.finish();
                }
                Some(Ok(frame))
            }
            Some(Err(_)) => {
                this.lease = None;
                let fault = Kind::UpstreamInvalid.because("the worker's answer ended early");
                Some(Err(Box::new(fault)))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
