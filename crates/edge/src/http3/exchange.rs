//! One stream: a request comes, `serve` answers it, the answer goes out as fast as QUIC lets it.

use super::body::{FromStream, Receiving, poll_data};
use crate::body::Body;
use crate::config::{Limits, ms};
use crate::hang_up;
use crate::multiplexed;
use crate::pace::Pace;
use crate::run::Edge;
use crate::serve::{Client, Interim, refuse, serve};
use bytes::Bytes;
use h3::error::Code;
use h3::server::{RequestResolver, RequestStream};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version, header};
use http_body_util::BodyExt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use tokio::time::Instant;

type Sending = RequestStream<h3_quinn::SendStream<Bytes>, Bytes>;

/// One piece of an answer; the client's pace is looked at after each.
const PIECE: usize = 16 << 10;

/// The client has left, or takes nothing.
struct Gone;

/// Answers one request to its end, or to the client's. Says whether the connection is to end with it.
pub(super) async fn exchange(
    edge: Arc<Edge>,
    client: Arc<Client>,
    resolver: RequestResolver<h3_quinn::Connection, Bytes>,
) -> bool {
    let patience = ms(edge.limits.header_timeout_ms);
    // What is malformed by RFC 9114 is answered by h3 itself.
    let Ok(Ok((request, stream))) = tokio::time::timeout(patience, resolver.resolve_request()).await else {
        return false;
    };
    let (mut sending, receiving) = stream.split();
    let (mut parts, ()) = request.into_parts();
    parts.version = Version::HTTP_3;
    let is_head = parts.method == Method::HEAD;
    let answer = match multiplexed::sound(&mut parts, &edge.limits) {
        Err(fault) => {
            let line = multiplexed::first_line(&parts);
            let request = Request::from_parts(parts, Body::empty());
            Ok(refuse(&edge, &client, &request, fault, &line))
        }
        Ok(()) => match body_of(receiving, &parts.method, &parts.headers, &edge.limits).await {
            Ok(body) => {
                let wants_go_ahead = parts.headers.contains_key(header::EXPECT);
                let request = Request::from_parts(parts, body);
                answer_of(&edge, client, request, wants_go_ahead, &mut sending).await
            }
            Err(Gone) => Err(Gone),
        },
    };
    let hangs_up = answer.as_ref().is_ok_and(hang_up::is_meant);
    let done = match answer {
        Ok(_) if hangs_up => Err(Gone),
        Ok(response) => send(response, is_head, &mut sending, &edge.limits).await,
        Err(Gone) => Err(Gone),
    };
    if done.is_err() {
        sending.stop_stream(Code::H3_REQUEST_CANCELLED);
    }
    hangs_up
}

/// Whether there is a body shows only in its first frame. For methods that seldom have one it is waited for: an upstream
/// that got an announcement of a body with each GET would be another upstream.
async fn body_of(
    mut stream: Receiving,
    method: &Method,
    headers: &HeaderMap,
    limits: &Arc<Limits>,
) -> Result<Body, Gone> {
    let length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok());
    let seldom = matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::DELETE
    );
    let first = if length.is_none() && seldom {
        let first = poll_fn(|cx| poll_data(&mut stream, cx));
        match tokio::time::timeout(ms(limits.header_timeout_ms), first).await {
            Ok(Ok(None)) => return Ok(Body::empty()),
            Ok(Ok(first)) => first,
            Ok(Err(_)) | Err(_) => return Err(Gone),
        }
    } else {
        None
    };
    Ok(Body::new(FromStream::new(stream, first, length, limits.clone())))
}

/// Drives `serve`, and passes on what it says before its answer.
async fn answer_of(
    edge: &Arc<Edge>,
    client: Arc<Client>,
    request: Request<Body>,
    wants_go_ahead: bool,
    sending: &mut Sending,
) -> Result<Response<Body>, Gone> {
    if wants_go_ahead {
        let go_ahead = interim_of(StatusCode::CONTINUE, HeaderMap::new());
        sending.send_response(go_ahead).await.map_err(|_| Gone)?;
    }
    let interim = Interim::new();
    let mut serving = Box::pin(serve(edge.clone(), client, request, interim.clone()));
    loop {
        // Interim answers that came with a poll are written before the next, and before the answer.
        let next = poll_fn(|cx| match (serving.as_mut().poll(cx), interim.take()) {
            (Poll::Pending, None) => Poll::Pending,
            (Poll::Pending, first) => Poll::Ready((None, first)),
            (Poll::Ready(response), first) => Poll::Ready((Some(response), first)),
        });
        let (response, mut next) = next.await;
        while let Some((status, fields)) = next {
            let answer = interim_of(status, fields);
            sending.send_response(answer).await.map_err(|_| Gone)?;
            next = interim.take();
        }
        if let Some(response) = response {
            return Ok(response);
        }
    }
}

fn interim_of(status: StatusCode, fields: HeaderMap) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = fields;
    response
}

async fn send(
    mut response: Response<Body>,
    is_head: bool,
    sending: &mut Sending,
    limits: &Limits,
) -> Result<(), Gone> {
    let ends = multiplexed::finish(&mut response, is_head);
    let (head, mut body) = response.into_parts();
    let head = sending.send_response(Response::from_parts(head, ()));
    in_time(head, &mut Pace::default(), limits).await?;
    let mut pace = Pace::default();
    while let (false, Some(frame)) = (ends, body.frame().await) {
        // The client must not take what it has for the whole.
        let frame = frame.map_err(|_| Gone)?;
        match frame.into_data() {
            Ok(mut data) => {
                while !data.is_empty() {
                    let piece = data.split_to(data.len().min(PIECE));
                    let bytes = piece.len() as u64;
                    in_time(sending.send_data(piece), &mut pace, limits).await?;
                    pace.moved(bytes, Instant::now());
                }
            }
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    in_time(sending.send_trailers(trailers), &mut pace, limits).await?;
                }
            }
        }
    }
    // The record ends with the body: it is whole now.
    drop(body);
    in_time(sending.finish(), &mut pace, limits).await
}

async fn in_time<T, E>(
    step: impl Future<Output = Result<T, E>>,
    pace: &mut Pace,
    limits: &Limits,
) -> Result<T, Gone> {
    let mut step = std::pin::pin!(step);
    // Nearly always there is room: no timer is needed.
    let now = poll_fn(|cx| Poll::Ready(Pin::as_mut(&mut step).poll(cx)));
    if let Poll::Ready(done) = now.await {
        return done.map_err(|_| Gone);
    }
    let until = pace.deadline(limits, Instant::now());
    match tokio::time::timeout_at(until, step).await {
        Ok(done) => done.map_err(|_| Gone),
        Err(_) => Err(Gone),
    }
}
