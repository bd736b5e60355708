//! The client side: HTTP/1.1 over Unix sockets and TCP, with a pool.
//!
//! A connection is owned by the request that uses it, and by the body of its answer: no task of its own, no channel. Who
//! polls the answer drives the request's body too, so both stream at once.
//!
//! # When a request is sent again
//!
//! - The connection could not be made, or a pooled one turned out to be dead before a byte was sent: nothing has
//!   happened, any request is sent again.
//! - The upstream closed before the first byte of its answer: only a request that is idempotent (RFC 9110
//!   section 9.2.2) and has no body. Where the connection was new, that happens twice at most: whoever dies of a request
//!   is not to be killed by it again and again.
//!
//! Both within [`crate::Limits::upstream_retry_ms`]: a killed worker's successor inherits its listening socket, so a
//! connection made in between waits in the socket's queue.
//!
//! # What is believed of an answer
//!
//! Its head is read as strictly as a request's ([`crate::wire::head::parse_answer`]). A body that ends before its length,
//! or without its last chunk, is an error; bytes behind an answer's end cost the connection. Interim answers but
//! 100 go to the client, and there may be only a few.

mod exchange;
mod pool;
mod request;
mod stream;

use crate::body::{Body, BoxError};
use crate::client::Interim;
use crate::config::{Limits, ms};
use crate::fault::{Fault, Kind};
use astraler_model::Origin;
use exchange::{Exchange, Unanswered};
use http::{Request, Response};
use pool::{Lease, Pool};
use request::Outgoing;
use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Tries of one request, at most.
const MAX_ATTEMPTS: u32 = 12;
/// Of these, after a new connection on which the request had been sent.
const MAX_RESENT: u32 = 2;
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
        /// What the system said.
        source: io::Error,
    },
    /// What it sent is not HTTP/1.1.
    #[error("{origin} sent an invalid answer")]
    Invalid {
        /// Where.
        origin: Origin,
        /// What is wrong with it.
        source: Fault,
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
        source: BoxError,
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
            Self::RequestBody { source, .. } => crate::fault::find(&**source)
                .unwrap_or(Kind::ClientGone.because("the request body ended early")),
        }
    }
}

/// What it took to reach an upstream, for the record.
#[derive(Debug, Default)]
pub(crate) struct Effort {
    /// Connecting, where no unused connection was there.
    pub(crate) connect_us: AtomicU64,
    /// How often the request was sent again.
    pub(crate) retries: AtomicU32,
}

/// A pool of connections to upstreams; clones share it.
#[derive(Debug, Clone)]
pub struct Upstream {
    pool: Arc<Pool>,
    limits: Arc<Limits>,
}

impl Upstream {
    /// An empty pool. Of the limits, those that begin with `upstream_` count.
    pub fn new(limits: &Limits) -> Self {
        Self {
            pool: Arc::new(Pool::new(limits)),
            limits: Arc::new(limits.clone()),
        }
    }

    /// Sends a request to an origin. The request has an origin-form target and a Host field; hop-by-hop fields are the
    /// caller's business, framing is ours. The answer's body streams; dropping it before its end closes the connection.
    ///
    /// After status 101 the answer's extensions hold the tunnel.
    ///
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// See [`UpstreamError`]; every one comes after the tries described above.
    pub async fn send(
        &self,
        origin: &Origin,
        request: Request<Body>,
    ) -> Result<Response<Body>, UpstreamError> {
        self.send_with(origin, (request, &[]), &Interim::none(), &Effort::default())
            .await
    }

    /// The same, with more lines of fields for the head, and with places for interim answers and for what it took.
    pub(crate) async fn send_with(
        &self,
        origin: &Origin,
        (request, lines): (Request<Body>, &[u8]),
        interim: &Interim,
        effort: &Effort,
    ) -> Result<Response<Body>, UpstreamError> {
        let mut outgoing = Outgoing::new(request, lines);
        let begun = Instant::now();
        let window = ms(self.limits.upstream_retry_ms);
        let mut pause = FIRST_PAUSE;
        let mut resent = 0;
        for attempt in 1.. {
            let failure = match self.attempt(origin, outgoing, interim, effort).await {
                Ok(response) => return Ok(response),
                Err(failure) => failure,
            };
            let was_sent = !failure.pooled && matches!(failure.error, UpstreamError::Closed { .. });
            resent += u32::from(was_sent);
            let may_retry =
                attempt < MAX_ATTEMPTS && resent <= MAX_RESENT && begun.elapsed() + pause < window;
            match failure.again {
                Some(again) if may_retry => outgoing = *again,
                _ => return Err(failure.error),
            }
            effort.retries.store(attempt, Ordering::Relaxed);
            // A dead pooled connection says nothing about the upstream: go on at once.
            if !failure.pooled {
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

    async fn attempt(
        &self,
        origin: &Origin,
        outgoing: Outgoing,
        interim: &Interim,
        effort: &Effort,
    ) -> Result<Response<Body>, Failure> {
        let (lease, pooled) = match self.pool.checkout(origin) {
            Some(lease) => (lease, true),
            None => match self.connect(origin, effort).await {
                Ok(lease) => (lease, false),
                Err(source) => {
                    return Err(Failure {
                        again: Some(Box::new(outgoing)),
                        error: UpstreamError::Connect {
                            origin: origin.clone(),
                            source,
                        },
                        pooled: false,
                    });
                }
            },
        };
        let mut exchange = Exchange::new(lease, outgoing, &self.limits);
        match std::future::poll_fn(|cx| exchange.poll_head(cx, interim)).await {
            Ok(head) => Ok(exchange.into_response(head)),
            Err(unanswered) => {
                let origin = origin.clone();
                let (again, error) = match unanswered {
                    Unanswered::Closed(source) => {
                        (exchange.again(), UpstreamError::Closed { origin, source })
                    }
                    Unanswered::Invalid(source) => (None, UpstreamError::Invalid { origin, source }),
                    Unanswered::Timeout => {
                        let after_ms = self.limits.upstream_timeout_ms;
                        (None, UpstreamError::Timeout { origin, after_ms })
                    }
                    Unanswered::RequestBody(source) => (None, UpstreamError::RequestBody { origin, source }),
                };
                let again = again.map(Box::new);
                Err(Failure { again, error, pooled })
            }
        }
    }

    async fn connect(&self, origin: &Origin, effort: &Effort) -> io::Result<Lease> {
        let limit = ms(self.limits.upstream_connect_timeout_ms);
        let begun = Instant::now();
        let stream = stream::connect(origin, limit).await;
        let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        effort.connect_us.fetch_add(took.max(1), Ordering::Relaxed);
        let stream = stream?;
        Ok(self.pool.lease(origin, stream))
    }
}

struct Failure {
    /// The request, when it may be sent again.
    again: Option<Box<Outgoing>>,
    error: UpstreamError,
    pooled: bool,
}
