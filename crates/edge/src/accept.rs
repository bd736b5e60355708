//! Accept: from a listening socket to connections, no more than allowed.

use crate::body::{Body, BoxError};
use crate::config::{Limits, ms};
use crate::greet::greet;
use crate::run::Edge;
use crate::serve::{Client, Interim, OnUpgrade, Scheme, refuse, serve};
use crate::wire::{Link, Wire};
use bytes::BytesMut;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Refusals that may be told to the client at once; more are just closed.
const MAX_TURNED_AWAY: usize = 256;
const TURN_AWAY: Duration = Duration::from_millis(500);
/// How long connections may take to notice that the drain is over.
const ABORT: Duration = Duration::from_secs(1);
/// How long to wait when the system has no descriptors left.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// Accepts until the shutdown begins.
pub(crate) async fn accept(edge: Arc<Edge>, listener: TcpListener, scheme: Scheme) {
    loop {
        let accepted = tokio::select! {
            () = edge.draining.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => admit(&edge, stream, address, scheme),
            Err(error) if is_of_the_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections; trying again");
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
            }
        }
    }
}

fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

fn admit(edge: &Arc<Edge>, stream: TcpStream, address: SocketAddr, scheme: Scheme) {
    if edge.connections.fetch_add(1, Ordering::AcqRel) >= edge.limits.max_connections as u64 {
        edge.connections.fetch_sub(1, Ordering::AcqRel);
        edge.counters.turned_away_total.fetch_add(1, Ordering::Relaxed);
        // Over TLS a handshake would be needed to say so.
        if scheme == Scheme::Http
            && let Ok(permit) = edge.turning_away.clone().try_acquire_owned()
        {
            edge.tasks.spawn(async move {
                let _ = tokio::time::timeout(TURN_AWAY, turn_away(stream)).await;
                drop(permit);
            });
        }
        return;
    }
    let edge = edge.clone();
    let tasks = edge.tasks.clone();
    tasks.spawn(async move {
        let _open = Open(&edge);
        greet(&edge, stream, address, scheme).await;
    });
}

pub(crate) fn turning_away() -> Arc<tokio::sync::Semaphore> {
    Arc::new(tokio::sync::Semaphore::new(MAX_TURNED_AWAY))
}

/// 503, then a moment for the client to read it.
async fn turn_away(mut stream: TcpStream) -> io::Result<()> {
    const ANSWER: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\n\
        cache-control: no-store\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 21\r\n\r\nToo many connections\n";
    stream.write_all(ANSWER).await?;
    stream.shutdown().await?;
    let mut sink = [0; 1024];
    loop {
        stream.readable().await?;
        match stream.try_read(&mut sink) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Serves one connection of HTTP/1.1 to its end. `already` was read of it before.
pub(crate) async fn http1<S>(edge: &Arc<Edge>, stream: S, already: BytesMut, client: Arc<Client>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let address = client.address;
    let link = Arc::new(Link::default());
    let requests = AtomicU64::new(0);
    let told = link.clone();
    let service = service_fn(|request| {
        let number = requests.fetch_add(1, Ordering::Relaxed);
        let (edge, client, link) = (edge.clone(), client.clone(), told.clone());
        async move { Ok::<_, Infallible>(Box::pin(answer(edge, client, link, number, request)).await) }
    });
    let mut wire = Wire::new(stream, link, edge.limits.clone()).with(already);
    loop {
        // Without hyper, whose buffers are most of what a connection costs.
        let awake = tokio::select! {
            biased;
            awake = wire.wake() => awake,
            () = edge.draining.cancelled() => false,
        };
        if !awake {
            let _ = wire.shutdown().await;
            return;
        }
        let last = edge.draining.is_cancelled();
        let mut connection = builder(&edge.limits)
            .keep_alive(!last)
            .serve_connection(TokioIo::new(wire), &service)
            .with_upgrades();
        let ended = tokio::select! {
            ended = &mut connection => ended,
            () = edge.draining.cancelled(), if !last => {
                std::pin::Pin::new(&mut connection).graceful_shutdown();
                tokio::select! {
                    ended = &mut connection => ended,
                    () = edge.aborting.cancelled() => return,
                }
            }
            () = edge.aborting.cancelled(), if last => return,
        };
        if let Err(error) = ended {
            let error = &error as &dyn std::error::Error;
            tracing::debug!(client = %address.ip(), error, "connection ended early");
            return;
        }
        match connection.into_parts() {
            Some(parts) if parts.io.inner().is_asleep() => wire = parts.io.into_inner(),
            _ => return,
        }
    }
}

/// One request that hyper has read.
async fn answer(
    edge: Arc<Edge>,
    client: Arc<Client>,
    link: Arc<Link>,
    number: u64,
    mut request: Request<Incoming>,
) -> Response<Body> {
    request.extensions_mut().insert(link.clone());
    if let Some(refusal) = link.refusal(number) {
        let request = request.map(|_| Body::empty());
        return refuse(&edge, &client, &request, refusal.fault, &refusal.first_line);
    }
    if let Some(upgrade) = request.extensions_mut().remove::<hyper::upgrade::OnUpgrade>() {
        request.extensions_mut().insert(OnUpgrade::of_hyper(upgrade));
    }
    let request = request.map(|incoming| Body::new(incoming.map_err(|error| Box::new(error) as BoxError)));
    let response = serve(edge, client, request, Interim::none()).await;
    link.decide(response.status() == StatusCode::SWITCHING_PROTOCOLS);
    response
}

fn builder(limits: &Limits) -> hyper::server::conn::http1::Builder {
    let mut builder = hyper::server::conn::http1::Builder::new();
    // hyper's own deadline would also run while a connection is idle: ours tell the two apart (see `wire`).
    builder
        .header_read_timeout(None)
        .timer(hyper_util::rt::TokioTimer::new())
        .max_buf_size((limits.max_header_bytes + 1024).max(64 << 10))
        .max_headers(limits.max_headers.max(1))
        .max_header_size(limits.max_header_bytes + 1024);
    builder
}

struct Open<'a>(&'a Edge);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::AcqRel);
    }
}

/// When the drain is over and nothing is left.
pub(crate) async fn drained(edge: &Edge) {
    edge.tasks.close();
    if tokio::time::timeout(ms(edge.limits.drain_ms), edge.tasks.wait())
        .await
        .is_err()
    {
        let connections = edge.connections.load(Ordering::Relaxed);
        tracing::info!(connections, "drain is over; closing what is left");
        edge.aborting.cancel();
        // They end at their next step; their records are still wanted.
        let _ = tokio::time::timeout(ABORT, edge.tasks.wait()).await;
    }
}
