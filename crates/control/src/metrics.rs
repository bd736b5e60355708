//! `GET /metrics` and `GET /v1/metrics`: the signal role's numbers, for those who may read, and how
//! backups stand, which the daemon knows.

use crate::admin::ApiError;
use crate::client;
use crate::daemon::Daemon;
use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);
/// Prometheus' text format.
const EXPOSITION_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(crate) fn router() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/metrics", get(exposition))
        .route("/v1/metrics", get(summary))
}

async fn exposition(State(daemon): State<Arc<Daemon>>) -> Result<Response, ApiError> {
    let mut text = asked(&daemon, "/metrics").await?.to_vec();
    let backups = crate::backups::exposition(&daemon).map_err(ApiError::internal)?;
    text.extend_from_slice(backups.as_bytes());
    Ok(([(header::CONTENT_TYPE, EXPOSITION_TYPE)], text).into_response())
}

async fn summary(State(daemon): State<Arc<Daemon>>, RawQuery(query): RawQuery) -> Result<Response, ApiError> {
    let path = format!("/summary?{}", query.unwrap_or_default());
    let body = asked(&daemon, &path).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

async fn asked(daemon: &Daemon, path: &str) -> Result<Bytes, ApiError> {
    let socket = daemon.platform.installation.layout.status_socket("signal");
    let answer = match tokio::time::timeout(PATIENCE, client::get(&socket, path)).await {
        Ok(answer) => answer.map_err(ApiError::unavailable)?,
        Err(_) => return Err(ApiError::unavailable("the signal role does not answer")),
    };
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
    if !status.is_success() {
        let words = String::from_utf8_lossy(&answer.body).into_owned();
        return Err(ApiError::unavailable(words));
    }
    Ok(answer.body)
}
