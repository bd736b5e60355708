//! HTTP front ends of the role: the bindings socket, where the token in `x-astraler-token` says what may be
//! used, and the REST API.

use astraler_model::{BindingKind, DataSnapshot, TokenHash};
use astraler_storage::Store;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming as Body;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

/// Connections at once on each front end; more wait in the listener's queue.
const MAX_CONNECTIONS: usize = 2_048;

/// A listener of either kind.
pub(super) enum Incoming {
    /// Unix socket.
    Unix(UnixListener),
    /// TCP.
    Tcp(TcpListener),
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Incoming {
    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            Self::Unix(listener) => Ok(Box::new(listener.accept().await?.0)),
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
        }
    }
}

/// Upstash REST.
pub(super) async fn serve_rest(
    incoming: Incoming,
    service: Arc<astraler_redis::rest::Service>,
    stop: CancellationToken,
) {
    serve(incoming, stop, move |request| {
        let service = Arc::clone(&service);
        async move {
            service
                .handle(request)
                .await
                .map(|body| body.map_err(io::Error::other).boxed())
        }
    })
    .await;
}

/// Native bindings.
pub(super) async fn serve_bindings(
    listener: UnixListener,
    store: Store,
    snapshot: watch::Receiver<Arc<DataSnapshot>>,
    stop: CancellationToken,
) {
    serve(Incoming::Unix(listener), stop, move |request: Request<Body>| {
        let store = store.clone();
        let current = snapshot.borrow().clone();
        async move {
            let token = request
                .headers()
                .get("x-astraler-token")
                .and_then(|value| value.to_str().ok());
            // The look-up is by the token's hash: its time tells nothing about the token.
            let grant = token.and_then(|token| current.grants.get(&TokenHash::of(token)));
            match grant.map(|grant| &grant.kind) {
                Some(BindingKind::R2 { bucket }) => {
                    astraler_storage::r2::handle(&store, bucket, request).await
                }
                None => denied(),
            }
        }
    })
    .await;
}

fn denied() -> Response<BoxBody<Bytes, io::Error>> {
    let body = Full::new(Bytes::from_static(b"no grant for this token\n"));
    let mut response = Response::new(body.map_err(|never| match never {}).boxed());
    *response.status_mut() = StatusCode::FORBIDDEN;
    response
}

async fn serve<F, R>(incoming: Incoming, stop: CancellationToken, answer: F)
where
    F: Fn(Request<Body>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Response<BoxBody<Bytes, io::Error>>> + Send,
{
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let drain = hyper_util::server::graceful::GracefulShutdown::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            break;
        };
        let stream = tokio::select! {
            accepted = incoming.accept() => match accepted {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = stop.cancelled() => break,
        };
        let answer = answer.clone();
        let service = service_fn(move |request| {
            let answered = answer(request);
            async move { Ok::<_, Infallible>(answered.await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_secs(60))
            .serve_connection(TokioIo::new(stream), service);
        let watched = drain.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = watched.await {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(place);
        });
    }
    drain.shutdown().await;
}
