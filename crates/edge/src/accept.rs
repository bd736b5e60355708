//! Accept: from a listening socket to connections, no more than allowed.

use crate::clients::Seat;
use crate::config::ms;
use crate::greet::greet;
use crate::run::Edge;
use crate::serve::Scheme;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
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
    let is_introduced = edge.routes.load().expects_introduction(address.ip());
    let edge = edge.for_a_connection();
    let open = (!edge.memory.is_tight()).then(|| edge.open()).flatten();
    // Behind a proxy the client is known later.
    let seat = match (&open, is_introduced) {
        (None, _) | (_, true) => None,
        (Some(_), false) => edge.seat(address.ip()),
    };
    let (Some(open), true) = (open, seat.is_some() || is_introduced) else {
        turn_away(&edge, stream, scheme);
        return;
    };
    let tasks = edge.tasks.clone();
    tasks.spawn(async move {
        let _held = (open, seat);
        greet(&edge, stream, address, scheme, is_introduced).await;
    });
}

/// A client too many. In plaintext it is told so; over TLS that would take a handshake.
pub(crate) fn turn_away(edge: &Edge, stream: TcpStream, scheme: Scheme) {
    edge.turned_away();
    if scheme == Scheme::Http
        && let Ok(permit) = edge.turning_away.clone().try_acquire_owned()
    {
        edge.tasks.spawn(async move {
            let _ = tokio::time::timeout(TURN_AWAY, say_so(stream)).await;
            drop(permit);
        });
    }
}

pub(crate) fn turning_away() -> Arc<tokio::sync::Semaphore> {
    Arc::new(tokio::sync::Semaphore::new(MAX_TURNED_AWAY))
}

/// 503, then a moment for the client to read it.
async fn say_so(mut stream: TcpStream) -> io::Result<()> {
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

/// Counts as a connection until it is dropped.
pub(crate) struct Open(Arc<AtomicU64>);

impl Edge {
    /// A seat for the connection of a client, or `None` when it has as many as allowed.
    pub(crate) fn seat(&self, client: IpAddr) -> Option<Seat> {
        self.clients.enter(client, self.limits.max_connections_per_client)
    }

    /// One more connection of the process, unless there are as many as allowed.
    pub(crate) fn open(&self) -> Option<Open> {
        let open = Open(self.connections.clone());
        (self.connections.fetch_add(1, Ordering::AcqRel) < self.limits.max_connections as u64).then_some(open)
    }

    pub(crate) fn turned_away(&self) {
        self.counters.turned_away_total.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
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
