//! Routes of alerts:
//!
//! - `GET /v1/alerts` → [`AlertsReport`](super::AlertsReport): `read`
//! - `POST /v1/alerts/{number}/acknowledge`, [`AcknowledgeRequest`]: `admin`
//! - `POST /v1/alerts/silences`, [`SilenceRequest`] → its number; `DELETE /v1/alerts/silences/{number}`: `admin`
//! - `POST /v1/alerts/test`, [`TestRequest`] → the number of the alert: `admin`

use super::{AcknowledgeRequest, AlertsError, SilenceRequest, TestRequest};
use crate::admin::ApiError;
use crate::daemon::Daemon;
use astraler_model::{Principal, Scope};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Extension, Json, Router};
use serde_json::json;
use std::sync::Arc;

type Answer = Result<Response, ApiError>;

/// A silence or an acknowledgement that lasts longer is a rule that is off.
const MAX_SECONDS: u64 = 30 * 86_400;
const MAX_REASON: usize = 500;

pub(crate) fn router() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/v1/alerts", get(list))
        .route("/v1/alerts/{number}/acknowledge", post(acknowledge))
        .route("/v1/alerts/silences", post(silence))
        .route("/v1/alerts/silences/{number}", delete(unsilence))
        .route("/v1/alerts/test", post(test))
}

async fn list(State(daemon): State<Arc<Daemon>>, Extension(principal): Extension<Principal>) -> Answer {
    daemon.allow(&principal, &Scope::Read, "alerts list")?;
    Ok(Json(daemon.alerts_report()?).into_response())
}

async fn acknowledge(
    State(daemon): State<Arc<Daemon>>,
    Extension(principal): Extension<Principal>,
    Path(number): Path<String>,
    body: axum::body::Bytes,
) -> Answer {
    daemon.allow(&principal, &Scope::Admin, &format!("alerts ack {number}"))?;
    let number: u64 = number.parse().map_err(ApiError::bad_request)?;
    let request: AcknowledgeRequest = serde_json::from_slice(&body).map_err(ApiError::bad_request)?;
    lasting(request.seconds)?;
    daemon.acknowledge_alert(&principal.name, number, request.seconds)?;
    Ok(Json(json!({})).into_response())
}

async fn silence(
    State(daemon): State<Arc<Daemon>>,
    Extension(principal): Extension<Principal>,
    body: axum::body::Bytes,
) -> Answer {
    daemon.allow(&principal, &Scope::Admin, "alerts silence")?;
    let request: SilenceRequest = serde_json::from_slice(&body).map_err(ApiError::bad_request)?;
    lasting(request.seconds)?;
    let long = |text: &str| text.len() > MAX_REASON;
    if long(&request.reason) || request.rule.as_deref().is_some_and(long) {
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "a rule and a reason have at most 500 bytes",
        ));
    }
    let number = daemon.silence_alerts(&principal.name, &request)?;
    Ok(Json(number).into_response())
}

async fn unsilence(
    State(daemon): State<Arc<Daemon>>,
    Extension(principal): Extension<Principal>,
    Path(number): Path<String>,
) -> Answer {
    daemon.allow(
        &principal,
        &Scope::Admin,
        &format!("alerts silence --end {number}"),
    )?;
    let number: u64 = number.parse().map_err(ApiError::bad_request)?;
    daemon.end_silence(&principal.name, number)?;
    Ok(Json(json!({})).into_response())
}

async fn test(
    State(daemon): State<Arc<Daemon>>,
    Extension(principal): Extension<Principal>,
    body: axum::body::Bytes,
) -> Answer {
    daemon.allow(&principal, &Scope::Admin, "alerts test")?;
    let request: TestRequest = serde_json::from_slice(&body).map_err(ApiError::bad_request)?;
    let number = daemon.test_alert(&principal.name, request.severity)?;
    Ok(Json(number).into_response())
}

fn lasting(seconds: u64) -> Result<(), ApiError> {
    if (1..=MAX_SECONDS).contains(&seconds) {
        return Ok(());
    }
    let message = "it lasts between a second and 30 days";
    Err(ApiError::new(StatusCode::BAD_REQUEST, message))
}

impl From<AlertsError> for ApiError {
    fn from(error: AlertsError) -> Self {
        match error {
            AlertsError::Book(error) => Self::not_found(error),
            error => Self::internal(error),
        }
    }
}
