//! Routes of DNS, for who may read:
//!
//! - `GET /v1/dns` → [`DnsReport`](super::DnsReport)
//! - `GET /v1/dns/check` → [`DnsCheckReport`](super::DnsCheckReport)
//!
//! And for who may do anything:
//!
//! - `POST /v1/dns/challenges`, [`ChallengeRequest`]: returns when the proof is served

use super::{DnsError, report};
use crate::admin::ApiError;
use crate::daemon::Daemon;
use astraler_model::{Principal, Scope};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;

type Answer = Result<Response, ApiError>;

/// A TXT record holds so much in one piece.
const MAX_VALUE: usize = 255;

/// A proof for a certificate authority (RFC 8555 section 8.4).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ChallengeRequest {
    pub(crate) host: String,
    pub(crate) value: String,
    /// It is taken away.
    #[serde(default)]
    pub(crate) remove: bool,
}

pub(crate) fn router() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/v1/dns", get(show))
        .route("/v1/dns/check", get(check))
        .route("/v1/dns/challenges", post(challenge))
}

async fn show(State(daemon): State<Arc<Daemon>>, Extension(principal): Extension<Principal>) -> Answer {
    daemon.allow(&principal, &Scope::Read, "dns show")?;
    let report = report::show(&daemon.platform).await.map_err(refused)?;
    Ok(Json(report).into_response())
}

async fn check(State(daemon): State<Arc<Daemon>>, Extension(principal): Extension<Principal>) -> Answer {
    daemon.allow(&principal, &Scope::Read, "dns check")?;
    let report = report::check(&daemon.platform).await.map_err(refused)?;
    Ok(Json(report).into_response())
}

async fn challenge(
    State(daemon): State<Arc<Daemon>>,
    Extension(principal): Extension<Principal>,
    body: axum::body::Bytes,
) -> Answer {
    daemon.allow(&principal, &Scope::Admin, "dns challenge")?;
    let request: ChallengeRequest = serde_json::from_slice(&body).map_err(ApiError::bad_request)?;
    if request.value.is_empty() || request.value.len() > MAX_VALUE {
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "a proof has 1 to 255 bytes",
        ));
    }
    let done = match request.remove {
        false => super::present(&daemon.platform, &request.host, &request.value).await,
        true => super::withdraw(&daemon.platform, &request.host, &request.value).await,
    };
    done.map_err(refused)?;
    Ok(Json(json!({})).into_response())
}

fn refused(error: DnsError) -> ApiError {
    match error {
        DnsError::Off | DnsError::NotOurs(_) | DnsError::TooMany(_) => {
            ApiError::new(StatusCode::CONFLICT, error.to_string())
        }
        other => ApiError::internal(other),
    }
}
