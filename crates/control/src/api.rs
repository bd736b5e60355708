//! Who may connect, and how connections are served: the admin socket for the owner, a loopback TCP port for bearers
//! of tokens. Both have the same routes; TLS and the allow-list come with the edge, until then no other machine
//! reaches the port.

use crate::admin::{self, ApiError};
use crate::daemon::Daemon;
use crate::identity;
use crate::installation::Installation;
use astraler_model::Principal;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::ServiceExt;

/// Connections to one listener at once; more wait in its queue.
const MAX_CONNECTIONS: usize = 64;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// After an error of accept(2), for example no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the owner.
pub(crate) async fn serve_admin(daemon: Arc<Daemon>, listener: UnixListener) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let Some(stream) = accepted(listener.accept().await).await else {
            continue;
        };
        let Some(principal) = allowed(&daemon.platform.installation, &stream) else {
            tracing::warn!("a process of another user tried the admin socket");
            continue;
        };
        let router = admin::router(Arc::clone(&daemon)).layer(Extension(principal));
        tokio::spawn(serve(stream, router, place));
    }
}

/// Serves bearers of tokens.
pub(crate) async fn serve_api(daemon: Arc<Daemon>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let router =
        admin::router(Arc::clone(&daemon)).layer(middleware::from_fn_with_state(daemon, authenticate));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let Some(stream) = accepted(listener.accept().await).await else {
            continue;
        };
        stream.set_nodelay(true).ok();
        tokio::spawn(serve(stream, router.clone(), place));
    }
}

pub(crate) async fn accepted<S, A>(result: std::io::Result<(S, A)>) -> Option<S> {
    match result {
        Ok((stream, _)) => Some(stream),
        Err(error) => {
            tracing::warn!(%error, "accepting a connection");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// One connection, to its end.
pub(crate) async fn serve<S>(stream: S, router: Router, place: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = TowerToHyperService::new(
        router
            .map_request(|request: hyper::Request<hyper::body::Incoming>| request.map(axum::body::Body::new)),
    );
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended early");
    }
    drop(place);
}

/// Every request carries its token: there is no session, and no cookie that another page could use.
async fn authenticate(State(daemon): State<Arc<Daemon>>, mut request: Request, next: Next) -> Response {
    let principal = match identity::presented(request.headers()) {
        Some(token) => daemon.platform.authenticate(token.expose()),
        None => return ApiError::unauthorized("a token is needed").into_response(),
    };
    match principal {
        Ok(Some(principal)) => {
            request.extensions_mut().insert(principal);
            next.run(request).await
        }
        Ok(None) => {
            tracing::warn!("a token was presented that is unknown, revoked or expired");
            ApiError::unauthorized("this token is unknown, revoked or expired").into_response()
        }
        Err(error) => ApiError::internal(error).into_response(),
    }
}

/// Root, the owner and the daemon's own user may use the admin socket.
fn allowed(installation: &Installation, stream: &UnixStream) -> Option<Principal> {
    let uid = stream.peer_cred().ok()?.uid();
    let own = installation
        .identities
        .daemon
        .as_ref()
        .map(|identity| identity.uid);
    let allowed = uid == 0 || uid == installation.owner_uid || Some(uid) == own;
    allowed.then(|| identity::owner(uid))
}
