//! HTTP/2 (RFC 9113), on the `h2` crate itself: hyper shows neither interim answers nor windows. Why, and what is
//! bounded where: `docs/edge.md`.
//!
//! One task for each connection drives its streams, too: a small answer is read, made and written in one go, with
//! nobody woken.
//!
//! # What ends a connection
//!
//! A flood ([`frames`]), a head that does not arrive in time, a client that reads nothing (`guard`): at once. Idleness
//! and the drain: gracefully, with a GOAWAY that names no last stream and, a round trip later, one that does (section
//! 6.8), so that no request on its way is lost.

mod body;
mod exchange;
pub mod frames;
mod guard;
mod tunnel;

use crate::body::BoxError;
use crate::config::{Limits, ms};
use crate::deadline::Deadline;
use crate::idle::Idle;
use crate::run::Edge;
use crate::serve::Client;
use bytes::{Bytes, BytesMut};
use exchange::exchange;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use guard::{Guard, Shared};
use h2::Reason;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

/// What a client with prior knowledge sends first (section 3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Requests of a connection at once; browsers ask for about a hundred.
const MAX_STREAMS: u32 = 128;
/// What a client may send of one body before the worker has taken any of it.
const STREAM_WINDOW: u32 = 128 << 10;
/// And of all bodies of a connection.
const CONNECTION_WINDOW: u32 = 512 << 10;
/// What h2 holds of one answer that the socket does not take.
const SEND_BUFFER: usize = 128 << 10;
/// Streams that we or the client have reset and whose late frames are still expected.
const MAX_RESET_STREAMS: usize = 64;
/// How long a client has to answer the first GOAWAY's ping once nothing is left to do.
const FAREWELL: Duration = Duration::from_secs(2);

/// Serves a connection to its end. `already` was read of it before it was known to be HTTP/2.
pub(crate) async fn connection<S>(edge: &Arc<Edge>, io: S, already: BytesMut, client: Arc<Client>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let flooded = Arc::new(AtomicBool::new(false));
    let io = Shared::new(Guard::new(io, already, edge.limits.clone(), flooded.clone()));
    let Ok(Ok(mut connection)) = tokio::time::timeout(
        ms(edge.limits.header_timeout_ms),
        builder(&edge.limits).handshake::<_, Bytes>(io.clone()),
    )
    .await
    else {
        return;
    };

    io.gather();
    let mut streams = FuturesUnordered::new();
    let mut draining = pin!(edge.draining.cancelled());
    let mut idle = Idle::new(&edge.memory, ms(edge.limits.idle_timeout_ms));
    let mut ending: Option<Instant> = None;
    let mut farewell = Deadline::default();
    let mut window = STREAM_WINDOW;
    let mut hangs_up = false;
    let ended = poll_fn(|cx| {
        loop {
            let mut moved = false;
            loop {
                match connection.poll_accept(cx) {
                    Poll::Ready(Some(Ok((request, respond)))) => {
                        // A connection that uploads gets room for it; not where memory is short.
                        if window < CONNECTION_WINDOW
                            && !request.body().is_end_stream()
                            && !edge.memory.is_tight()
                        {
                            window = CONNECTION_WINDOW;
                            connection.set_target_window_size(window);
                        }
                        streams.push(exchange(edge.clone(), client.clone(), request, respond));
                        moved = true;
                    }
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(BoxError::from(error))),
                    Poll::Ready(None) => return Poll::Ready(Ok(())),
                    Poll::Pending => break,
                }
            }
            if flooded.load(Ordering::Relaxed) {
                return Poll::Ready(Ok(()));
            }
            while let Poll::Ready(Some(is_last)) = streams.poll_next_unpin(cx) {
                moved = true;
                hangs_up |= is_last;
            }
            if !moved {
                break;
            }
            idle.over(Instant::now());
            // Once more, to write what the streams have left.
        }
        if let Poll::Ready(Err(error)) = io.poll_flush_gathered(cx) {
            return Poll::Ready(Err(error.into()));
        }
        let busy = !streams.is_empty();
        let over = match ending {
            Some(_) if busy => {
                // The client's time to say farewell begins when its last stream has ended.
                ending = Some(Instant::now());
                return Poll::Pending;
            }
            Some(since) => return farewell.poll(cx, since + FAREWELL).map(|()| Ok(())),
            None => hangs_up || draining.as_mut().poll(cx).is_ready() || (!busy && idle.poll(cx).is_ready()),
        };
        if over {
            connection.graceful_shutdown();
            ending = Some(Instant::now());
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    });
    let ended = tokio::select! {
        ended = ended => ended,
        () = edge.aborting.cancelled() => return,
    };
    // Dropped first: their records are written, and what they still hold of the connection is let go.
    drop(streams);
    match ended {
        Err(error) => {
            let words = error.to_string();
            drop(error);
            tracing::debug!(client = %client.address.ip(), error = words, "connection ended early");
            // A GOAWAY may say why.
            let _ = tokio::time::timeout(FAREWELL, poll_fn(|cx| io.poll_flush_gathered(cx))).await;
        }
        Ok(()) => {
            let flooded = flooded.load(Ordering::Relaxed);
            if flooded {
                tracing::debug!(client = %client.address.ip(), "flood of frames");
            }
            connection.abrupt_shutdown(if flooded {
                Reason::ENHANCE_YOUR_CALM
            } else {
                Reason::NO_ERROR
            });
            let _ = tokio::time::timeout(
                FAREWELL,
                poll_fn(|cx| {
                    let closed = connection.poll_closed(cx);
                    let flushed = io.poll_flush_gathered(cx);
                    match closed {
                        Poll::Ready(closed) => flushed.map(|_| closed),
                        Poll::Pending => Poll::Pending,
                    }
                }),
            )
            .await;
        }
    }
}

fn builder(limits: &Limits) -> h2::server::Builder {
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(STREAM_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX))
        .max_concurrent_reset_streams(MAX_RESET_STREAMS)
        .max_send_buffer_size(SEND_BUFFER)
        .enable_connect_protocol();
    builder
}
