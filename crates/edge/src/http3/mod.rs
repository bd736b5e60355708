//! HTTP/3 (RFC 9114) over QUIC, on the UDP port of https. Checks, limits and answers are those of HTTP/2
//! ([`crate::multiplexed`]); what is bounded where: `docs/edge.md`.
//!
//! An endpoint belongs to the thread whose socket it is, with all of its connections: QUIC has no accept queue to share.
//!
//! # What a client must show before it costs anything
//!
//! While few handshakes are under way a client is believed its address; beyond that it must prove it (Retry, RFC 9000
//! section 8.1.2), and beyond a bound it is refused. A connection takes a seat of its client only after the handshake:
//! before, an address may be somebody else's. There is no early data (0-RTT): it can be replayed.

mod body;
mod exchange;

use crate::client::Agreed;
use crate::config::{Limits, ms};
use crate::run::Edge;
use crate::serve::{Client, Scheme};
use bytes::Bytes;
use exchange::exchange;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, EndpointConfig, Incoming, TokioRuntime, TransportConfig, VarInt};
use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Requests of a connection at once.
const MAX_STREAMS: u32 = 128;
/// Streams of the client besides requests: control and the two of QPACK (RFC 9114 section 6.2), and some that it makes
/// up to see whether we bear them (section 6.2.3).
const MAX_OTHER_STREAMS: u32 = 8;
const STREAM_WINDOW: u32 = 128 << 10;
const CONNECTION_WINDOW: u32 = 512 << 10;
/// What may be on its way to a client.
const SEND_WINDOW: u64 = 512 << 10;
/// Handshakes from which on a client must prove its address.
const RETRY_FROM: usize = 64;
/// Handshakes at once.
const MAX_HANDSHAKES: usize = 1024;
/// Bytes that clients may send before their handshake was looked at, each and all.
const BEFORE_HANDSHAKE: u64 = 16 << 10;
const ALL_BEFORE_HANDSHAKE: u64 = 8 << 20;
/// How long connections have to hear that we leave.
const FAREWELL: Duration = Duration::from_secs(1);
/// `H3_NO_ERROR` (RFC 9114 section 8.1).
const NO_ERROR: VarInt = VarInt::from_u32(0x100);

/// Serves a socket until the drain is over.
pub(crate) async fn serve(edge: Arc<Edge>, socket: UdpSocket) {
    let endpoint = match endpoint(&edge, socket) {
        Ok(endpoint) => endpoint,
        Err(error) => {
            tracing::error!(%error, "HTTP/3 cannot be served");
            return;
        }
    };
    let handshakes = Arc::new(());
    loop {
        let incoming = tokio::select! {
            () = edge.draining.cancelled() => break,
            incoming = endpoint.accept() => incoming,
        };
        match incoming {
            Some(incoming) => admit(&edge, incoming, &handshakes),
            None => return,
        }
    }
    endpoint.set_server_config(None);
    // Its connections are tasks of the thread, whose drain waits for them.
    let edge_of_task = edge.clone();
    edge.tasks.spawn(async move {
        let _ = tokio::time::timeout(ms(edge_of_task.limits.drain_ms), endpoint.wait_idle()).await;
        endpoint.close(NO_ERROR, b"");
        let _ = tokio::time::timeout(FAREWELL, endpoint.wait_idle()).await;
    });
}

fn endpoint(edge: &Edge, socket: UdpSocket) -> io::Result<Endpoint> {
    socket.set_nonblocking(true)?;
    let crypto = QuicServerConfig::try_from(edge.tls.quic()).map_err(io::Error::other)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config
        .transport_config(Arc::new(transport(&edge.limits)))
        .max_incoming(MAX_HANDSHAKES)
        .incoming_buffer_size(BEFORE_HANDSHAKE)
        .incoming_buffer_size_total(ALL_BEFORE_HANDSHAKE);
    Endpoint::new(
        EndpointConfig::default(),
        Some(config),
        socket,
        Arc::new(TokioRuntime),
    )
}

fn transport(limits: &Limits) -> TransportConfig {
    let mut transport = TransportConfig::default();
    // Ours ends a connection without requests; this one, a little later, a client that is gone.
    let silence = ms(limits.idle_timeout_ms.saturating_add(5_000));
    transport
        .max_concurrent_bidi_streams(MAX_STREAMS.into())
        .max_concurrent_uni_streams(MAX_OTHER_STREAMS.into())
        .stream_receive_window(STREAM_WINDOW.into())
        .receive_window(CONNECTION_WINDOW.into())
        .send_window(SEND_WINDOW)
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(silence.try_into().ok());
    transport
}

/// `handshakes` is held by each handshake that is under way.
fn admit(edge: &Arc<Edge>, incoming: Incoming, handshakes: &Arc<()>) {
    if edge
        .routes
        .load()
        .expects_introduction(incoming.remote_address().ip())
    {
        // Over QUIC a balancer cannot say who the client is.
        incoming.refuse();
        return;
    }
    let under_way = Arc::strong_count(handshakes) - 1;
    if edge.memory.is_tight() || under_way >= MAX_HANDSHAKES {
        edge.turned_away();
        incoming.ignore();
        return;
    }
    if under_way >= RETRY_FROM && !incoming.remote_address_validated() {
        // Costs us a packet, and no memory.
        let _ = incoming.retry();
        return;
    }
    let Some(open) = edge.open() else {
        incoming.refuse();
        return;
    };
    let (edge, under_way) = (edge.for_a_connection(), handshakes.clone());
    let tasks = edge.tasks.clone();
    tasks.spawn(async move {
        let _open = open;
        let patience = ms(edge.limits.header_timeout_ms);
        let Ok(connecting) = incoming.accept() else {
            return;
        };
        let connection = match tokio::time::timeout(patience, connecting).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return tracing::debug!(%error, "no QUIC handshake"),
            Err(_) => return,
        };
        drop(under_way);
        let address = connection.remote_address();
        let Some(_seat) = edge.seat(address.ip()) else {
            edge.turned_away();
            // H3_EXCESSIVE_LOAD.
            connection.close(VarInt::from_u32(0x107), b"too many connections");
            return;
        };
        let client = Arc::new(Client {
            address,
            scheme: Scheme::Https,
            tls: Some(Agreed {
                version: "1.3",
                cipher: None,
            }),
        });
        Box::pin(serve_connection(&edge, connection, client)).await;
    });
}

async fn serve_connection(edge: &Arc<Edge>, quic: quinn::Connection, client: Arc<Client>) {
    let mut builder = h3::server::builder();
    builder.max_field_section_size(edge.limits.max_header_bytes as u64);
    let patience = ms(edge.limits.header_timeout_ms);
    let started = builder.build::<_, Bytes>(h3_quinn::Connection::new(quic.clone()));
    let Ok(Ok(mut connection)) = tokio::time::timeout(patience, started).await else {
        return;
    };
    let mut streams = FuturesUnordered::new();
    let mut idle_since = Instant::now();
    let mut drained = false;
    let ended = loop {
        let idle_until = idle_since + ms(edge.limits.idle_timeout_ms);
        let idle = streams.is_empty();
        if drained && idle {
            break Ok(());
        }
        tokio::select! {
            biased;
            () = edge.aborting.cancelled() => break Ok(()),
            Some(hangs_up) = streams.next(), if !idle => {
                idle_since = Instant::now();
                if hangs_up && !drained {
                    drained = true;
                    if let Err(error) = connection.shutdown(0).await {
                        break Err(error);
                    }
                }
            }
            accepted = connection.accept() => match accepted {
                Ok(Some(resolver)) => streams.push(exchange(edge.clone(), client.clone(), resolver)),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            },
            () = edge.draining.cancelled(), if !drained => {
                drained = true;
                // Those on their way are served still; what comes later is the client's to ask elsewhere.
                if let Err(error) = connection.shutdown(0).await {
                    break Err(error);
                }
            }
            () = tokio::time::sleep_until(idle_until), if idle => break Ok(()),
            () = edge.memory.squeezed(idle_since), if idle => break Ok(()),
        }
    };
    drop(streams);
    match ended {
        Ok(()) => {
            let _ = connection.shutdown(0).await;
            // The GOAWAY is on its way before the close is.
            tokio::task::yield_now().await;
            quic.close(NO_ERROR, b"");
        }
        Err(error) if error.is_h3_no_error() => {}
        Err(error) => tracing::debug!(client = %client.address.ip(), %error, "connection ended early"),
    }
}
