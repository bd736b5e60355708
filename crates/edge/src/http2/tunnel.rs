//! WebSocket over HTTP/2 (RFC 8441): an extended CONNECT becomes the handshake that the worker knows, and the stream
//! carries the tunnel.

use super::exchange::{Out, answer_of};
use crate::body::Body;
use crate::client::Io;
use crate::fault::Kind;
use crate::hang_up;
use crate::multiplexed;
use crate::run::Edge;
use crate::serve::{Client, Interim, OnUpgrade, serve};
use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use h2::server::SendResponse;
use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Version};
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Between the stream and whoever carries the tunnel.
const PIPE_BYTES: usize = 16 << 10;

/// Whether this is a CONNECT for a WebSocket; makes it the GET that it stands for.
pub(super) fn wanted(parts: &mut Parts) -> bool {
    let websocket = parts
        .extensions
        .get::<h2::ext::Protocol>()
        .is_some_and(|protocol| protocol.as_str().eq_ignore_ascii_case("websocket"));
    if parts.method != Method::CONNECT || !websocket {
        return false;
    }
    parts.method = Method::GET;
    true
}

/// Asks the worker; after its 101 the client gets 200 and the stream is the tunnel.
pub(super) async fn exchange(
    edge: Arc<Edge>,
    client: Arc<Client>,
    mut parts: Parts,
    stream: RecvStream,
    mut respond: SendResponse<Bytes>,
) -> bool {
    let headers = &mut parts.headers;
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.remove(header::CONTENT_LENGTH);
    // The client's side needs no key (section 5), the worker's does.
    let key = base64_of(&rand::random::<[u8; 16]>());
    if let Ok(key) = HeaderValue::from_str(&key) {
        headers.insert(header::SEC_WEBSOCKET_KEY, key);
    }
    parts.version = Version::HTTP_2;
    let (near, far) = tokio::io::duplex(PIPE_BYTES);
    parts
        .extensions
        .insert(OnUpgrade::new(async move { Ok(Box::new(far) as Box<dyn Io>) }));
    let interim = Interim::new();
    let limits = edge.limits.clone();
    let request = Request::from_parts(parts, Body::empty());
    let serving = Box::pin(serve(edge, client, request, interim.clone()));
    let Ok(mut response) = answer_of(serving, &interim, None, &mut respond).await else {
        return false;
    };
    if hang_up::is_meant(&response) {
        respond.send_reset(h2::Reason::CANCEL);
        return true;
    }
    let accepted = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if accepted {
        *response.status_mut() = StatusCode::OK;
        response.headers_mut().remove(header::SEC_WEBSOCKET_ACCEPT);
    }
    let ends = multiplexed::finish(&mut response, false) && !accepted;
    response.headers_mut().remove(header::CONTENT_LENGTH);
    let (head, body) = response.into_parts();
    let Ok(to_client) = respond.send_response(Response::from_parts(head, ()), ends) else {
        return false;
    };
    if accepted {
        let (near_read, near_write) = tokio::io::split(near);
        let _ = tokio::try_join!(
            up(stream, near_write),
            down(near_read, Out::new(to_client, &limits))
        );
    } else if !ends {
        let _ = super::exchange::send(body, to_client, &limits).await;
    }
    false
}

async fn up(mut stream: RecvStream, mut to: impl tokio::io::AsyncWrite + Unpin) -> io::Result<()> {
    while let Some(data) = stream.data().await {
        let data = data.map_err(io::Error::other)?;
        to.write_all(&data).await?;
        let _ = stream.flow_control().release_capacity(data.len());
    }
    to.shutdown().await
}

async fn down(mut from: impl tokio::io::AsyncRead + Unpin, mut out: Out<'_>) -> io::Result<()> {
    let mut buffer = BytesMut::with_capacity(PIPE_BYTES);
    loop {
        let count = tokio::select! {
            count = from.read_buf(&mut buffer) => count?,
            _ = std::future::poll_fn(|cx| out.poll_reset(cx)) => return Err(gone()),
        };
        let piece = buffer.split().freeze();
        out.data(piece, count == 0).await.map_err(|_| gone())?;
        if count == 0 {
            return Ok(());
        }
        buffer.reserve(PIPE_BYTES);
    }
}

fn gone() -> io::Error {
    io::Error::other(Kind::ClientGone.because("the client went away in the middle of a tunnel"))
}

/// RFC 4648 section 4.
fn base64_of(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk
            .iter()
            .fold(0_u32, |word, &byte| word << 8 | u32::from(byte))
            << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let digit = ALPHABET[(word >> (18 - 6 * at) & 63) as usize];
            out.push(if at <= chunk.len() { digit as char } else { '=' });
        }
    }
    out
}
