//! Routes of the user's secrets; all need the scope `admin`, and none answers with a value. `PLACE` is a kind of
//! environment, or `platform`:
//!
//! - `GET /v1/secrets/PLACE` → [`SecretReport`](super::SecretReport)s
//! - `PUT /v1/secrets/PLACE/NAME`, the body is the value → [`SecretSet`](super::SecretSet)
//! - `POST /v1/secrets/PLACE/NAME` → the same for a secret that is there; with `?generate=true` the value is made here
//! - `GET /v1/secrets/PLACE/NAME` → its versions; `DELETE` removes it
//! - `PUT`, `DELETE /v1/secrets/PLACE/NAME/grants/SERVICE` → [`SecretGrantReport`](super::SecretGrantReport)
//! - `POST /v1/mask` (lines) → the lines without any secret's value
//! - `POST /v1/keys/rotate` ([`KeyRotation`]) → [`ApplyEvent`], one JSON object a line
//! - `POST /v1/environments/ENVIRONMENT/secrets/apply` → progress, as of a deployment

use super::{KeyRotation, SecretError, SecretPlace, value};
use crate::ApplyEvent;
use crate::admin::{ApiError, lines};
use crate::daemon::Daemon;
use astraler_model::{Environment, Principal};
use astraler_secrets::generate_password;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Lines of progress that wait for a slow reader.
const PROGRESS_QUEUE: usize = 256;

type Answer = Result<Response, ApiError>;

pub(crate) fn router() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/v1/secrets/{place}", get(list))
        .route(
            "/v1/secrets/{place}/{name}",
            put(set).post(rotate).get(history).delete(remove),
        )
        .route(
            "/v1/secrets/{place}/{name}/grants/{service}",
            put(grant).delete(revoke),
        )
        .route("/v1/environments/{environment}/secrets/apply", post(apply))
        .route("/v1/keys/rotate", post(rotate_keys))
        .route("/v1/mask", post(mask))
}

async fn list(State(daemon): State<Arc<Daemon>>, Path(place): Path<String>) -> Answer {
    let place = parsed(&place)?;
    Ok(Json(daemon.platform.secret_list(place)?).into_response())
}

async fn set(
    State(daemon): State<Arc<Daemon>>,
    Extension(principal): Extension<Principal>,
    Path((place, name)): Path<(String, String)>,
    body: Bytes,
) -> Answer {
    let (place, value) = (parsed(&place)?, value(&body)?);
    let report = daemon
        .platform
        .secret_set(&principal.name, place, &name, &value, false)?;
    Ok(Json(report).into_response())
}

#[derive(Deserialize)]
struct RotateQuery {
    /// A value is made here.
    #[serde(default)]
    generate: bool,
}

async fn rotate(
    State(daemon): State<Arc<Daemon>>,
    Extension(principal): Extension<Principal>,
    Path((place, name)): Path<(String, String)>,
    Query(query): Query<RotateQuery>,
    body: Bytes,
) -> Answer {
    let place = parsed(&place)?;
    let value = match query.generate {
        true => generate_password(),
        false => value(&body)?,
    };
    let report = daemon
        .platform
        .secret_set(&principal.name, place, &name, &value, true)?;
    Ok(Json(report).into_response())
}

async fn history(State(daemon): State<Arc<Daemon>>, Path((place, name)): Path<(String, String)>) -> Answer {
    let versions = daemon.platform.secret_history(parsed(&place)?, &name)?;
    Ok(Json(versions).into_response())
}

async fn remove(
    State(daemon): State<Arc<Daemon>>,
    Extension(principal): Extension<Principal>,
    Path((place, name)): Path<(String, String)>,
) -> Answer {
    let pending = daemon
        .platform
        .secret_remove(&principal.name, parsed(&place)?, &name)?;
    Ok(Json(json!({ "pending": pending })).into_response())
}

async fn grant(
    State(daemon): State<Arc<Daemon>>,
    Extension(principal): Extension<Principal>,
    Path((place, name, service)): Path<(String, String, String)>,
) -> Answer {
    let report = daemon
        .platform
        .secret_grant(&principal.name, parsed(&place)?, &name, &service)?;
    Ok(Json(report).into_response())
}

async fn revoke(
    State(daemon): State<Arc<Daemon>>,
    Extension(principal): Extension<Principal>,
    Path((place, name, service)): Path<(String, String, String)>,
) -> Answer {
    let report = daemon
        .platform
        .secret_revoke(&principal.name, parsed(&place)?, &name, &service)?;
    Ok(Json(report).into_response())
}

async fn apply(
    State(daemon): State<Arc<Daemon>>,
    Extension(principal): Extension<Principal>,
    Path(environment): Path<String>,
) -> Answer {
    let environment: Environment = environment.parse().map_err(ApiError::bad_request)?;
    Ok(lines(daemon.apply_secrets(principal.name, environment)))
}

async fn rotate_keys(
    State(daemon): State<Arc<Daemon>>,
    Extension(principal): Extension<Principal>,
    Json(rotation): Json<KeyRotation>,
) -> Response {
    let (events, received) = mpsc::channel(PROGRESS_QUEUE);
    // It goes on when nobody reads: at most as many lines as there are scopes, twice.
    tokio::task::spawn_blocking(move || {
        let told = |event| drop(events.blocking_send(event));
        let last = match daemon.platform.rotate_keys(&principal.name, &rotation, told) {
            Ok(steps) => ApplyEvent::Applied { steps },
            Err(fault) => ApplyEvent::Failed(fault),
        };
        events.blocking_send(last).ok();
    });
    lines(received)
}

async fn mask(State(daemon): State<Arc<Daemon>>, Json(lines): Json<Vec<String>>) -> Answer {
    let masked = tokio::task::spawn_blocking(move || daemon.platform.mask_lines(&lines)).await;
    Ok(Json(masked.map_err(ApiError::internal)??).into_response())
}

fn parsed(place: &str) -> Result<SecretPlace, ApiError> {
    place.parse().map_err(ApiError::bad_request)
}

impl From<SecretError> for ApiError {
    fn from(error: SecretError) -> Self {
        let status = match &error {
            SecretError::Unknown { .. } | SecretError::NotGranted { .. } => StatusCode::NOT_FOUND,
            SecretError::Name { .. } | SecretError::Service { .. } | SecretError::Value(_) => {
                StatusCode::BAD_REQUEST
            }
            SecretError::Refused(_) | SecretError::Same(_) | SecretError::Missing { .. } => {
                StatusCode::CONFLICT
            }
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, crate::words::chain(&error))
    }
}
