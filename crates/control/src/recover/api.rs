//! `POST /v1/recover/database`, `POST /v1/recover/service`, `POST /v1/recover/storage`, `POST /v1/drill` → progress, one
//! JSON object a line: `admin`.

use super::{RecoverServiceRequest, Restore};
use crate::admin::{ApiError, lines};
use crate::backups::Progress;
use crate::daemon::Daemon;
use crate::replicas::RecoverStorageRequest;
use astraler_model::{Environment, Principal};
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use axum::{Extension, Json, Router};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Progress that may wait for its reader.
const EVENTS: usize = 64;

/// What is to be brought back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoverDatabaseRequest {
    /// Whose database.
    pub environment: Environment,
    /// Everything that was committed before, and nothing after; in milliseconds since the Unix epoch.
    pub to_ms: u64,
    /// Only say what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// What is to be restored on trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillRequest {
    /// The cluster of this environment only.
    pub environment: Option<Environment>,
}

/// The routes.
pub(crate) fn router() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/v1/recover/database", post(database))
        .route("/v1/recover/service", post(service))
        .route("/v1/recover/storage", post(storage))
        .route("/v1/drill", post(drill))
}

async fn database(
    State(daemon): State<Arc<Daemon>>,
    Extension(principal): Extension<Principal>,
    Json(request): Json<RecoverDatabaseRequest>,
) -> Result<Response, ApiError> {
    let (events, received) = mpsc::channel(EVENTS);
    // The work goes on when its reader has gone.
    tokio::spawn(async move {
        let _change = daemon.changes.read().await;
        let _turn = daemon.turns.take(request.environment).await;
        let restore = Restore {
            platform: &daemon.platform,
            environment: request.environment,
            to_ms: request.to_ms,
            actor: &principal.name,
            events: &events,
        };
        let end = match Box::pin(super::database(&restore, request.dry_run)).await {
            Ok(message) => Progress::Done { message },
            Err(fault) => Progress::Failed(daemon.platform.masked(fault)),
        };
        events.send(end).await.ok();
    });
    Ok(lines(received))
}

async fn service(
    State(daemon): State<Arc<Daemon>>,
    Extension(principal): Extension<Principal>,
    Json(request): Json<RecoverServiceRequest>,
) -> Result<Response, ApiError> {
    let (events, received) = mpsc::channel(EVENTS);
    tokio::spawn(async move {
        let recovered = super::service::recover(&daemon, &request, &principal.name, &events);
        let end = match Box::pin(recovered).await {
            Ok(message) => Progress::Done { message },
            Err(fault) => Progress::Failed(daemon.platform.masked(fault)),
        };
        events.send(end).await.ok();
    });
    Ok(lines(received))
}

async fn storage(
    State(daemon): State<Arc<Daemon>>,
    Extension(principal): Extension<Principal>,
    Json(request): Json<RecoverStorageRequest>,
) -> Result<Response, ApiError> {
    let (events, received) = mpsc::channel(EVENTS);
    tokio::spawn(async move {
        let _change = daemon.changes.read().await;
        let _turn = daemon.turns.take(request.environment).await;
        let done = crate::replicas::restore(&daemon.platform, &request, &principal.name, &events);
        let end = match Box::pin(done).await {
            Ok(message) => Progress::Done { message },
            Err(fault) => Progress::Failed(daemon.platform.masked(fault)),
        };
        events.send(end).await.ok();
    });
    Ok(lines(received))
}

async fn drill(
    State(daemon): State<Arc<Daemon>>,
    Extension(principal): Extension<Principal>,
    Json(request): Json<DrillRequest>,
) -> Response {
    let (events, received) = mpsc::channel(EVENTS);
    tokio::spawn(async move {
        let end = match Box::pin(super::drill::all(&daemon, &request, &principal.name, &events)).await {
            Ok(message) => Progress::Done { message },
            Err(fault) => Progress::Failed(daemon.platform.masked(fault)),
        };
        events.send(end).await.ok();
    });
    lines(received)
}
