//! One stream: a request comes, `serve` answers it, the answer goes out as fast as the client's window opens.

use super::body::{FromStream, Wanted};
use super::tunnel;
use crate::body::Body;
use crate::config::Limits;
use crate::deadline::Deadline;
use crate::hang_up;
use crate::multiplexed;
use crate::pace::Pace;
use crate::run::Edge;
use crate::serve::{Client, Interim, refuse, serve};
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body::Body as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::time::Instant;

/// The client took the request back, or the connection is gone.
pub(super) struct Gone;

/// Answers one request to its end, or to the client's. Says whether the connection is to end with it.
pub(super) async fn exchange(
    edge: Arc<Edge>,
    client: Arc<Client>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> bool {
    let (mut parts, stream) = request.into_parts();
    let is_head = parts.method == Method::HEAD;
    let tunnel = tunnel::wanted(&mut parts);
    let answer = match multiplexed::sound(&mut parts, &edge.limits) {
        Err(fault) => {
            let line = multiplexed::first_line(&parts);
            let request = Request::from_parts(parts, Body::empty());
            Ok(refuse(&edge, &client, &request, fault, &line))
        }
        Ok(()) => {
            if tunnel {
                return tunnel::exchange(edge, client, parts, stream, respond).await;
            }
            let wanted = expects_continue(&parts.headers).then(Arc::<Wanted>::default);
            let body = body_of(stream, &parts.headers, &edge.limits, wanted.clone());
            let interim = Interim::new();
            let request = Request::from_parts(parts, body);
            let serving = Box::pin(serve(edge.clone(), client, request, interim.clone()));
            answer_of(serving, &interim, wanted.as_deref(), &mut respond).await
        }
    };
    let Ok(mut response) = answer else {
        return false;
    };
    if hang_up::is_meant(&response) {
        respond.send_reset(Reason::CANCEL);
        return true;
    }
    if response.status().is_informational() {
        respond.send_reset(Reason::INTERNAL_ERROR);
        return false;
    }
    let ends = multiplexed::finish(&mut response, is_head);
    let (head, body) = response.into_parts();
    // Errors from here on say that the client has gone; the record, which ends with the body, says so too.
    let Ok(stream) = respond.send_response(Response::from_parts(head, ()), ends) else {
        return false;
    };
    if !ends {
        let _ = send(body, stream, &edge.limits).await;
    }
    false
}

fn expects_continue(headers: &HeaderMap) -> bool {
    headers.contains_key(header::EXPECT)
}

fn body_of(
    stream: RecvStream,
    headers: &HeaderMap,
    limits: &Arc<Limits>,
    wanted: Option<Arc<Wanted>>,
) -> Body {
    if stream.is_end_stream() {
        return Body::empty();
    }
    let length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok());
    Body::new(FromStream::new(stream, length, limits.clone(), wanted))
}

/// Drives `serve`, and passes on what it says before its answer.
pub(super) async fn answer_of(
    mut serving: Pin<Box<impl Future<Output = Response<Body>>>>,
    interim: &Interim,
    wanted: Option<&Wanted>,
    respond: &mut SendResponse<Bytes>,
) -> Result<Response<Body>, ()> {
    std::future::poll_fn(|cx| {
        let served = serving.as_mut().poll(cx);
        if served.is_pending() && wanted.is_some_and(|wanted| wanted.take(cx)) {
            let _ = respond.send_informational(interim_of(StatusCode::CONTINUE, HeaderMap::new()));
        }
        while let Some((status, fields)) = interim.take() {
            let _ = respond.send_informational(interim_of(status, fields));
        }
        if let Poll::Ready(response) = served {
            return Poll::Ready(Ok(response));
        }
        respond.poll_reset(cx).map(|_| Err(()))
    })
    .await
}

fn interim_of(status: StatusCode, fields: HeaderMap) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = fields;
    response
}

pub(super) async fn send(mut body: Body, stream: SendStream<Bytes>, limits: &Limits) -> Result<(), Gone> {
    let mut out = Out::new(stream, limits);
    loop {
        let frame = std::future::poll_fn(|cx| match Pin::new(&mut body).poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(Ok(frame)),
            // A client that takes its request back frees the worker at once.
            Poll::Pending => out.poll_reset(cx).map(Err),
        });
        match frame.await? {
            None => return out.data(Bytes::new(), true).await,
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    let last = body.is_end_stream();
                    out.data(data, last).await?;
                    if last {
                        return Ok(());
                    }
                }
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        return out.stream.send_trailers(trailers).map_err(|_| Gone);
                    }
                }
            },
            // The client must not take what it has for the whole.
            Some(Err(_)) => {
                out.stream.send_reset(Reason::INTERNAL_ERROR);
                return Ok(());
            }
        }
    }
}

/// An answer's way out, as fast as the client opens its windows.
pub(super) struct Out<'a> {
    stream: SendStream<Bytes>,
    limits: &'a Limits,
    pace: Pace,
    deadline: Deadline,
}

impl<'a> Out<'a> {
    pub(super) fn new(stream: SendStream<Bytes>, limits: &'a Limits) -> Self {
        Self {
            stream,
            limits,
            pace: Pace::default(),
            deadline: Deadline::default(),
        }
    }

    pub(super) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Gone> {
        self.stream.poll_reset(cx).map(|_| Gone)
    }

    /// Sends as much as the windows of stream and connection allow, and waits for more.
    pub(super) async fn data(&mut self, mut data: Bytes, last: bool) -> Result<(), Gone> {
        if data.is_empty() && !last {
            return Ok(());
        }
        loop {
            self.stream.reserve_capacity(data.len());
            let mut capacity = self.stream.capacity();
            if capacity == 0 && !data.is_empty() {
                capacity = std::future::poll_fn(|cx| self.poll_capacity(cx)).await?;
            }
            let piece = data.split_to(capacity.min(data.len()));
            self.pace.moved(piece.len() as u64, Instant::now());
            let whole = data.is_empty();
            self.stream.send_data(piece, last && whole).map_err(|_| Gone)?;
            if whole {
                return Ok(());
            }
        }
    }

    fn poll_capacity(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Gone>> {
        loop {
            match self.stream.poll_capacity(cx) {
                Poll::Ready(Some(Ok(0))) => {}
                Poll::Ready(Some(Ok(capacity))) => return Poll::Ready(Ok(capacity)),
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(Err(Gone)),
                Poll::Pending => break,
            }
        }
        let until = self.pace.deadline(self.limits, Instant::now());
        if self.deadline.poll(cx, until).is_ready() {
            // It holds its window shut, or opens it by a dribble.
            self.stream.send_reset(Reason::CANCEL);
            return Poll::Ready(Err(Gone));
        }
        Poll::Pending
    }
}
