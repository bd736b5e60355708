//! The server of HTTP/1.1 (and 1.0): one task for each connection, which reads heads, calls `serve` and writes answers.
//!
//! # One framing
//!
//! A head is parsed once, strictly ([`crate::wire`]); there is no second parser behind it that could disagree. The body
//! is counted by what that head says, and the next head begins where the count ends. A head that is refused is answered
//! by the same page as every fault, has its access record, and is the last of its connection: no byte of the client
//! that follows it is looked at.
//!
//! # One task
//!
//! The body of a request is read by whoever polls it, in the task of the connection: [`conn::Conn`] is shared between the
//! body and the loop below and locked for one poll at a time, never across a wait. The go-ahead (100) is written when the
//! body is first asked for. After a WebSocket handshake nothing is parsed until the answer is known.
//!
//! # Memory
//!
//! Bytes are read into a buffer of the thread, and what is kept of them is as large as they are. What a request needs is
//! allocated with it. A connection between two requests holds its socket, a timer and this loop.
//!
//! # Deadlines
//!
//! They run only while something is awaited from the client: the next request (idle), the rest of a head (from its first
//! byte, whatever dribbles in), the rest of a body (a pause, and an average rate), the reading of an answer (a pause). So
//! a client is not blamed for a slow worker.
//!
//! # Half-closed connections
//!
//! A client that ends its side after a request still gets the answer: waiting for [`HALF_CLOSED`] without progress is
//! all it costs when nobody is there any more.

mod answer;
mod conn;

use crate::body::Body;
use crate::config::ms;
use crate::fault::Fault;
use crate::hang_up;
use crate::idle::Idle;
use crate::out::Out;
use crate::run::Edge;
use crate::serve::{Client, Interim, OnUpgrade, refuse, serve};
use crate::wire::head::{Framing, RequestHead};
use answer::Answer;
use bytes::BytesMut;
use conn::{Conn, Next, RequestBody};
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;

/// How long a client that has ended its side may take nothing of its answer, or wait for it.
const HALF_CLOSED: Duration = Duration::from_secs(30);

/// A connection to a client, plain or encrypted.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Makes the end of the connection an error for the client: what it has of an answer is not all. Nothing to do where
    /// an end without a farewell is an error anyway (TLS).
    fn reset(&self) {}

    /// What was sent last has come back as an error. Asked only where the client has ended its side.
    fn is_broken(&self) -> bool {
        false
    }
}

impl Transport for tokio::net::TcpStream {
    fn reset(&self) {
        let _ = self.set_zero_linger();
    }

    fn is_broken(&self) -> bool {
        !matches!(self.take_error(), Ok(None))
    }
}

impl Transport for tokio_rustls::server::TlsStream<tokio::net::TcpStream> {
    fn is_broken(&self) -> bool {
        self.get_ref().0.is_broken()
    }
}

/// Serves a connection to its end. `already` was read of it before.
pub(crate) async fn connection<S: Transport>(
    edge: &Arc<Edge>,
    io: S,
    already: BytesMut,
    client: Arc<Client>,
) {
    let conn = Arc::new(Conn::new(io, already, edge.limits.clone()));
    let mut draining = pin!(edge.draining.cancelled());
    let mut aborting = pin!(edge.aborting.cancelled());
    // The wire knows how long it may be idle; this one knows when memory is short.
    let mut squeezed = Idle::new(&edge.memory, ms(edge.limits.idle_timeout_ms).saturating_mul(2));
    loop {
        squeezed.over(conn.last_activity());
        let next = poll_fn(|cx| {
            if let Poll::Ready(next) = conn.poll_head(cx) {
                return Poll::Ready(next);
            }
            let idle = !conn.has_begun();
            if idle && squeezed.poll(cx).is_ready() {
                return Poll::Ready(Next::Over);
            }
            if idle && draining.as_mut().poll(cx).is_ready() || aborting.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Next::Over);
            }
            Poll::Pending
        });
        let next = next.await;
        let again = match next {
            Next::Over => break,
            Next::Request(head) => {
                let mut exchange = Box::pin(exchange(edge, &client, &conn, *head));
                let ended = poll_fn(|cx| {
                    if let Poll::Ready(end) = exchange.as_mut().poll(cx) {
                        return Poll::Ready(end);
                    }
                    aborting.as_mut().poll(cx).map(|()| End::Gone)
                });
                ended.await
            }
            Next::Refused(fault, first_line) => {
                Box::pin(refused(edge, &client, &conn, fault, &first_line)).await
            }
        };
        match again {
            End::Next => {}
            End::Last => break,
            End::Gone => return,
        }
    }
    poll_fn(|cx| conn.poll_farewell(cx)).await;
}

/// What comes after an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Another request.
    Next,
    /// A farewell: the answer was the last, or there is none.
    Last,
    /// Nothing: the client has left, or the connection is another's.
    Gone,
}

/// What of a request decides how its answer is written.
#[derive(Debug, Clone, Copy)]
struct Asked {
    head: bool,
    http_10: bool,
    persistent: bool,
    takes_trailers: bool,
}

/// One request and its answer.
async fn exchange<S: Transport>(
    edge: &Arc<Edge>,
    client: &Arc<Client>,
    conn: &Arc<Conn<S>>,
    head: RequestHead,
) -> End {
    let asked = Asked {
        head: head.method == Method::HEAD,
        http_10: head.version == Version::HTTP_10,
        persistent: head.persistent,
        takes_trailers: head.takes_trailers,
    };
    let interim = if asked.http_10 {
        Interim::none()
    } else {
        Interim::new()
    };
    let (request, upgrade) = request_of(conn, head);
    let mut out = Out::default();
    let response = {
        let mut serving = pin!(serve(edge.clone(), client.clone(), request, interim.clone()));
        poll_fn(|cx| {
            let served = serving.as_mut().poll(cx);
            while let Some((status, fields)) = interim.take() {
                answer::interim(&mut out, status, &fields);
            }
            match served {
                Poll::Ready(response) => Poll::Ready(Some(response)),
                Poll::Pending if !out.is_empty() && conn.poll_flush(cx, &mut out).is_ready_error() => {
                    Poll::Ready(None)
                }
                Poll::Pending => conn.poll_watch(cx).map(|()| None),
            }
        })
        .await
    };
    let Some(response) = response else {
        return End::Gone;
    };
    if hang_up::is_meant(&response) {
        return End::Last;
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return switch(conn, response, out, upgrade).await;
    }
    respond(edge, conn, asked, response, out).await
}

/// The request as `serve` wants it; and where its connection goes when it becomes a tunnel.
fn request_of<S: Transport>(
    conn: &Arc<Conn<S>>,
    head: RequestHead,
) -> (Request<Body>, Option<oneshot::Sender<Box<dyn crate::client::Io>>>) {
    let body = match head.framing {
        Framing::Empty | Framing::Upgrade => Body::empty(),
        Framing::Length(_) | Framing::Chunked => Body::new(RequestBody::of(conn)),
    };
    let mut request = Request::new(body);
    *request.method_mut() = head.method;
    *request.uri_mut() = head.uri;
    *request.version_mut() = head.version;
    *request.headers_mut() = head.headers;
    let upgrade = (head.framing == Framing::Upgrade).then(|| {
        let (sender, receiver) = oneshot::channel();
        let gone = |_| {
            io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the client left before the tunnel",
            )
        };
        let upgrade = OnUpgrade::new(async move { receiver.await.map_err(gone) });
        request.extensions_mut().insert(upgrade);
        sender
    });
    (request, upgrade)
}

async fn refused<S: Transport>(
    edge: &Arc<Edge>,
    client: &Arc<Client>,
    conn: &Arc<Conn<S>>,
    fault: Fault,
    first_line: &str,
) -> End {
    let asked = Asked {
        head: first_line.starts_with("HEAD "),
        http_10: false,
        persistent: false,
        takes_trailers: false,
    };
    let response = refuse(edge, client, &Request::new(Body::empty()), fault, first_line);
    respond(edge, conn, asked, response, Out::default()).await
}

/// Writes an answer to its end. The access record ends when this drops the body.
async fn respond<S: Transport>(
    edge: &Arc<Edge>,
    conn: &Arc<Conn<S>>,
    asked: Asked,
    response: Response<Body>,
    mut out: Out,
) -> End {
    let (parts, mut body) = response.into_parts();
    let may_persist = conn.begin_answer() && asked.persistent && !edge.draining.is_cancelled();
    let mut answer = Answer::begin(&mut out, asked, may_persist, &parts, &body);
    let written = poll_fn(|cx| poll_write(conn, &mut answer, &mut out, &mut body, cx)).await;
    if let Err(error) = written {
        if error.of_the_client {
            body.client_left();
        } else {
            // What it got must not look whole.
            conn.reset();
        }
        return End::Gone;
    }
    if conn.has_left() {
        body.client_left();
        return End::Gone;
    }
    drop(body);
    if !answer.persistent {
        return End::Last;
    }
    match poll_fn(|cx| conn.poll_discard(cx)).await {
        true => End::Next,
        false => End::Last,
    }
}

/// Why an answer was not written to its end.
struct Unwritten {
    of_the_client: bool,
}

/// Takes frames from the body while there is room, and writes them all at once.
fn poll_write<S: Transport>(
    conn: &Conn<S>,
    answer: &mut Answer,
    out: &mut Out,
    body: &mut Body,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Unwritten>> {
    loop {
        let mut failed = false;
        while !answer.done && out.has_room() {
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Pending => break,
                Poll::Ready(frame) => {
                    if answer.frame(out, frame).is_err() {
                        failed = true;
                        break;
                    }
                }
            }
        }
        let waited = !out.is_empty();
        match conn.poll_flush(cx, out) {
            // Frames that came meanwhile join what waits, so that the next write takes more.
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(_)) => return Poll::Ready(Err(Unwritten { of_the_client: true })),
            Poll::Ready(Ok(())) if failed => return Poll::Ready(Err(Unwritten { of_the_client: false })),
            Poll::Ready(Ok(())) if answer.done => return Poll::Ready(Ok(())),
            Poll::Ready(Ok(())) if !waited => {
                // The body has nothing just now.
                return conn
                    .poll_watch(cx)
                    .map(|()| Err(Unwritten { of_the_client: true }));
            }
            Poll::Ready(Ok(())) => {}
        }
    }
}

/// Answers 101 and gives the connection away.
async fn switch<S: Transport>(
    conn: &Arc<Conn<S>>,
    response: Response<Body>,
    mut out: Out,
    upgrade: Option<oneshot::Sender<Box<dyn crate::client::Io>>>,
) -> End {
    answer::switching(&mut out, &response);
    let written = poll_fn(|cx| conn.poll_flush(cx, &mut out)).await;
    if written.is_ok()
        && let (Some(upgrade), Some(tunnel)) = (upgrade, conn.take())
    {
        let _ = upgrade.send(Box::new(tunnel));
    }
    End::Gone
}

trait IsReadyError {
    fn is_ready_error(&self) -> bool;
}

impl<T, E> IsReadyError for Poll<Result<T, E>> {
    fn is_ready_error(&self) -> bool {
        matches!(self, Self::Ready(Err(_)))
    }
}
