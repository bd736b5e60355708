//! The edge's side door: `POST /v1/wake/{environment}` on a socket that only the edge may use. It answers when the
//! environment is awake and the edge has its routes.

use crate::daemon::Daemon;
use astraler_model::Environment;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tower::ServiceExt;

/// The edge asks once for each environment.
const MAX_CONNECTIONS: usize = 64;

/// Answers until the daemon ends.
pub(crate) async fn serve(daemon: Arc<Daemon>, listener: UnixListener) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let router = Router::new()
        .route("/v1/wake/{environment}", post(wake))
        .with_state(daemon);
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "accepting on the wake socket");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(router.clone().map_request(
            |request: hyper::Request<hyper::body::Incoming>| request.map(axum::body::Body::new),
        ));
        tokio::spawn(async move {
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(10))
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "a connection of the edge ended early");
            }
            drop(place);
        });
    }
}

async fn wake(State(daemon): State<Arc<Daemon>>, Path(environment): Path<String>) -> StatusCode {
    let Ok(environment) = environment.parse::<Environment>() else {
        return StatusCode::BAD_REQUEST;
    };
    match daemon.wake(environment).await {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(fault) => {
            tracing::warn!(%environment, part = fault.part, message = fault.message, "cannot be woken");
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}
