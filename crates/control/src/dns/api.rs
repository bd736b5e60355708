//! Routes of DNS, for who may read:
//!
//! - `GET /v1/dns` → [`DnsReport`](super::DnsReport)
//! - `GET /v1/dns/check` → [`DnsCheckReport`](super::DnsCheckReport)

use super::{DnsError, report};
use crate::admin::ApiError;
use crate::daemon::Daemon;
use astraler_model::{Principal, Scope};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use std::sync::Arc;

type Answer = Result<Response, ApiError>;

pub(crate) fn router() -> Router<Arc<Daemon>> {
    Router::new().route("/v1/dns", get(show)).route("/v1/dns/check", get(check))
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

fn refused(error: DnsError) -> ApiError {
    match error {
        DnsError::Off => ApiError::new(StatusCode::CONFLICT, &error.to_string()),
        other => ApiError::internal(other),
    }
}
