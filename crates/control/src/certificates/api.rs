//! Routes of certificates:
//!
//! - `GET /v1/tls` → [`TlsReport`](super::TlsReport): `read`
//! - `POST /v1/tls/renew?name=NAME` → the same, after what was asked for is renewed or has begun to be: `admin`

use super::{CertificatesError, report};
use crate::admin::ApiError;
use crate::daemon::Daemon;
use astraler_model::{Principal, Scope};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

type Answer = Result<Response, ApiError>;

pub(crate) fn router() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/v1/tls", get(list))
        .route("/v1/tls/renew", post(renew))
}

async fn list(State(daemon): State<Arc<Daemon>>, Extension(principal): Extension<Principal>) -> Answer {
    daemon.allow(&principal, &Scope::Read, "tls list")?;
    Ok(Json(report::report(&daemon.platform)?).into_response())
}

#[derive(Debug, Deserialize)]
struct Which {
    name: Option<String>,
}

async fn renew(
    State(daemon): State<Arc<Daemon>>,
    Extension(principal): Extension<Principal>,
    Query(which): Query<Which>,
) -> Answer {
    daemon.allow(&principal, &Scope::Admin, "tls renew")?;
    let name = which.name.map(|name| name.to_ascii_lowercase());
    let subject = name.as_deref().unwrap_or("all");
    let audited = daemon
        .platform
        .audit(&principal.name, "tls renew", subject, &json!(null));
    audited.map_err(CertificatesError::Store)?;
    let renewed = super::renew(&daemon, name.as_deref()).await?;
    if renewed.is_empty() {
        let message = format!("no certificate is for {subject}; `astraler tls list` shows which there are");
        return Err(ApiError::new(StatusCode::NOT_FOUND, message));
    }
    Ok(Json(report::report(&daemon.platform)?).into_response())
}

impl From<CertificatesError> for ApiError {
    fn from(error: CertificatesError) -> Self {
        Self::internal(error)
    }
}
