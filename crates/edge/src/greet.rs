//! Greet: from an accepted socket to the protocol that is spoken on it.

use crate::accept::turn_away;
use crate::config::ms;
use crate::h1;
use crate::http2;
use crate::proxy_protocol;
use crate::run::Edge;
use crate::serve::{Client, Scheme};
use crate::tls;
use bytes::BytesMut;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How long a connection that was accepted before a drain may take to say something.
const FIRST_WORDS: Duration = Duration::from_millis(500);

/// Handshakes of TLS at once: each holds memory for somebody who has shown nothing yet. One more waits for its turn.
pub(crate) const MAX_HANDSHAKES: usize = 2_048;
/// While there are so many a handshake has less time: those that stall make room for those that do not.
const HURRY_FROM: usize = 512;
/// More than a client needs whose handshake is one of so many: then it is we who are slow.
const HURRIED: Duration = Duration::from_secs(5);
/// How often a handshake that has had so long looks whether there are many.
const LOOK: Duration = Duration::from_millis(500);
/// How long a turn may take to come.
const QUEUED: Duration = Duration::from_secs(30);

/// Serves one connection to its end. Of one that is introduced a balancer says first who the client is.
pub(crate) async fn greet(
    edge: &Arc<Edge>,
    mut stream: TcpStream,
    peer: SocketAddr,
    scheme: Scheme,
    is_introduced: bool,
) {
    // Without it small answers wait for the client's acknowledgement.
    let _ = stream.set_nodelay(true);
    let (address, _seat) = if is_introduced {
        let Some(address) = introduced(edge, &mut stream, peer).await else {
            return;
        };
        let Some(seat) = edge.seat(address.ip()) else {
            return turn_away(edge, stream, scheme);
        };
        (address, Some(seat))
    } else {
        (peer, None)
    };
    let client = Client {
        address,
        scheme,
        tls: None,
    };
    match scheme {
        Scheme::Http => plain(edge, stream, Arc::new(client)).await,
        Scheme::Https => secure(edge, stream, client).await,
    }
}

/// Who the client is, as a balancer says, in the time of a head.
async fn introduced(edge: &Edge, stream: &mut TcpStream, peer: SocketAddr) -> Option<SocketAddr> {
    let header = tokio::time::timeout(ms(edge.limits.header_timeout_ms), proxy_protocol::read(stream));
    let header = tokio::select! {
        header = header => header.ok()?,
        () = edge.draining.cancelled() => return None,
    };
    match header {
        Ok(client) => Some(client.unwrap_or(peer)),
        Err(error) => {
            tracing::debug!(%peer, %error, "no header of the PROXY protocol");
            None
        }
    }
}

async fn plain(edge: &Arc<Edge>, mut stream: TcpStream, client: Arc<Client>) {
    let mut already = BytesMut::new();
    let has_preface = tokio::select! {
        biased;
        has_preface = sniff(edge, &mut stream, &mut already) => has_preface,
        () = is_late(edge) => return,
    };
    match has_preface {
        Some(true) => Box::pin(http2::connection(edge, stream, already, client)).await,
        Some(false) => Box::pin(h1::connection(edge, stream, already, client)).await,
        None => {}
    }
}

/// The drain has begun, and whoever connected just before has had a moment to say what for: it was let in.
async fn is_late(edge: &Edge) {
    edge.draining.cancelled().await;
    tokio::time::sleep(FIRST_WORDS.min(ms(edge.limits.drain_ms) / 2)).await;
}

/// The handshake, within the time of a head; then what ALPN has chosen (RFC 7301).
async fn secure(edge: &Arc<Edge>, stream: TcpStream, mut client: Client) {
    let Some(stream) = handshake(edge, stream, &client).await else {
        return;
    };
    client.tls = tls::agreed(stream.get_ref().1);
    let client = Arc::new(client);
    match stream.get_ref().1.alpn_protocol() {
        protocol if tls::is_challenge(protocol) => {}
        Some(b"h2") => Box::pin(http2::connection(edge, stream, BytesMut::new(), client)).await,
        _ => Box::pin(h1::connection(edge, stream, BytesMut::new(), client)).await,
    }
}

async fn handshake(edge: &Edge, stream: TcpStream, client: &Client) -> Option<TlsStream<TcpStream>> {
    // Whoever waits for a place holds a socket and no more.
    let place = tokio::select! {
        place = tokio::time::timeout(QUEUED, edge.handshakes.acquire()) => place,
        () = edge.draining.cancelled() => return None,
    };
    let Ok(Ok(_place)) = place else {
        edge.turned_away();
        return None;
    };
    let handshake = Box::pin(TlsAcceptor::from(edge.tls.tcp()).accept(stream));
    tokio::select! {
        done = handshake => match done {
            Ok(stream) => return Some(stream),
            Err(error) => tracing::debug!(client = %client.address.ip(), %error, "no handshake"),
        },
        () = is_stalled(edge) => tracing::debug!(client = %client.address.ip(), "the handshake took too long"),
        () = edge.draining.cancelled() => {}
    }
    None
}

/// A handshake that begins now has had the time of a head, or less of it while there are many.
async fn is_stalled(edge: &Edge) {
    let begun = Instant::now();
    let until = begun + ms(edge.limits.header_timeout_ms);
    let mut look = begun + HURRIED;
    while look < until {
        tokio::time::sleep_until(look).await;
        if edge.handshakes.available_permits() < MAX_HANDSHAKES - HURRY_FROM {
            return;
        }
        look += LOOK;
    }
    tokio::time::sleep_until(until).await;
}

/// Whether the client begins with HTTP/2's preface (RFC 9113 section 3.3), which is no request of HTTP/1.1 that anybody
/// serves. `None` when it leaves, or takes too long. What was read is in `already`.
async fn sniff(edge: &Edge, stream: &mut TcpStream, already: &mut BytesMut) -> Option<bool> {
    let mut until = Instant::now() + ms(edge.limits.idle_timeout_ms);
    let mut begun = false;
    loop {
        tokio::time::timeout_at(until, stream.readable())
            .await
            .ok()?
            .ok()?;
        match stream.try_read_buf(already) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(_) => return None,
        }
        let preface = http2::PREFACE;
        let known = already.len().min(preface.len());
        if already[..known] != preface[..known] {
            return Some(false);
        }
        if known == preface.len() {
            return Some(true);
        }
        if !std::mem::replace(&mut begun, true) {
            until = Instant::now() + ms(edge.limits.header_timeout_ms);
        }
    }
}
