//! The admin API: HTTP on a Unix socket whose peers are checked. Version 1:
//!
//! - `GET /v1/status`
//! - `POST /v1/up` → progress, one JSON object a line
//! - `POST /v1/down`
//! - `GET /v1/environments/{environment}/credentials/{name}`
//! - `GET /v1/audit?limit=N`, `GET /v1/audit/verify`
//! - `GET /v1/releases…`: see [`crate::releases`]

use crate::daemon::Daemon;
use crate::words::{Event, UpRequest};
use crate::{status, up};
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use futures_util::stream;
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Who is on the other end of the socket: `uid 0`.
#[derive(Debug, Clone)]
pub(crate) struct Actor(pub(crate) String);

/// Lines of progress that wait for a slow reader.
const PROGRESS_QUEUE: usize = 256;

const MAX_REQUEST_BYTES: usize = 4 << 20;

/// The routes.
pub(crate) fn router(daemon: Arc<Daemon>) -> Router {
    Router::new()
        .route("/v1/status", get(read_status))
        .route("/v1/up", post(bring_up))
        .route("/v1/down", post(note_down))
        .route(
            "/v1/environments/{environment}/credentials/{name}",
            get(read_credential),
        )
        .route("/v1/audit", get(read_audit))
        .route("/v1/audit/verify", get(verify_audit))
        .merge(crate::releases::router())
        .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
        .with_state(daemon)
}

async fn read_status(State(daemon): State<Arc<Daemon>>) -> Response {
    match status::report(&daemon.platform).await {
        Ok(report) => Json(report).into_response(),
        Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, &error),
    }
}

async fn bring_up(
    State(daemon): State<Arc<Daemon>>,
    Extension(Actor(actor)): Extension<Actor>,
    Json(request): Json<UpRequest>,
) -> Response {
    let (events, received) = mpsc::channel(PROGRESS_QUEUE);
    tokio::spawn(async move {
        // One change at a time: a second `up` waits for the first.
        let _change = daemon.changes.lock().await;
        let UpRequest {
            environment,
            application,
        } = request;
        let healed = daemon.take_healed(environment);
        let platform = &daemon.platform;
        let result = Box::pin(up::up(platform, environment, &application, &actor, &events)).await;
        let last = match result {
            Ok(changed) => match status::environment_report(platform, environment, &application) {
                Ok(report) => Event::Done {
                    changed: changed || healed,
                    environment: report,
                },
                Err(error) => Event::Failed(crate::Fault::of("status", &error)),
            },
            Err(fault) => Event::Failed(fault),
        };
        events.send(last).await.ok();
    });
    let lines = stream::unfold(received, |mut received| async move {
        let event = received.recv().await?;
        let mut line = serde_json::to_vec(&event).unwrap_or_default();
        line.push(b'\n');
        Some((Ok::<_, std::convert::Infallible>(Bytes::from(line)), received))
    });
    Response::new(Body::from_stream(lines))
}

async fn note_down(State(daemon): State<Arc<Daemon>>, Extension(Actor(actor)): Extension<Actor>) -> Response {
    let application = daemon.platform.installation.application.clone();
    match daemon.platform.audit(&actor, "down", &application, &json!(null)) {
        Ok(()) => Json(json!({})).into_response(),
        Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, &error),
    }
}

async fn read_credential(
    State(daemon): State<Arc<Daemon>>,
    Extension(Actor(actor)): Extension<Actor>,
    Path((environment, name)): Path<(String, String)>,
) -> Response {
    let environment = match environment.parse() {
        Ok(environment) => environment,
        Err(error) => {
            let error: astraler_model::ParseEnvironmentError = error;
            return failure(StatusCode::BAD_REQUEST, &error);
        }
    };
    // No audit, no secret.
    if let Err(error) = daemon.platform.audit(
        &actor,
        "credential read",
        &format!("{environment}/{name}"),
        &json!(null),
    ) {
        return failure(StatusCode::INTERNAL_SERVER_ERROR, &error);
    }
    match daemon.platform.credentials.named(environment, &name) {
        Ok(secret) => Json(secret.expose()).into_response(),
        Err(error) => failure(StatusCode::NOT_FOUND, &error),
    }
}

#[derive(Deserialize)]
struct AuditQuery {
    #[serde(default = "default_limit")]
    limit: u32,
}

fn default_limit() -> u32 {
    100
}

async fn read_audit(State(daemon): State<Arc<Daemon>>, Query(query): Query<AuditQuery>) -> Response {
    match daemon.platform.audit_list(query.limit.min(10_000)) {
        Ok(entries) => Json(entries).into_response(),
        Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, &error),
    }
}

async fn verify_audit(State(daemon): State<Arc<Daemon>>) -> Response {
    match daemon.platform.audit_verify() {
        Ok(report) => Json(report).into_response(),
        Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, &error),
    }
}

fn failure(status: StatusCode, error: &dyn std::error::Error) -> Response {
    (status, Json(json!({ "message": crate::words::chain(error) }))).into_response()
}
