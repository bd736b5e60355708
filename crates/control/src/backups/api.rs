//! `GET /v1/backups` → [`BackupReport`](super::BackupReport), `GET /v1/backups/list`: `read`. `POST /v1/backups/run`, `POST
//! /v1/backups/verify` → progress, one JSON object a line: `admin`.

use super::{Progress, report};
use crate::admin::{ApiError, lines};
use crate::daemon::Daemon;
use crate::platform::Platform;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use std::sync::Arc;
use tokio::sync::mpsc;

type Answer = Result<Response, ApiError>;

/// Progress that may wait for its reader.
const EVENTS: usize = 64;

/// Routes that look.
pub(crate) fn reading() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/v1/backups", get(status))
        .route("/v1/backups/list", get(list))
}

/// Routes that make.
pub(crate) fn changing() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/v1/backups/run", post(run))
        .route("/v1/backups/verify", post(verify))
}

async fn status(State(daemon): State<Arc<Daemon>>) -> Answer {
    let storage = crate::replicas::reported(&daemon.platform)
        .await
        .map_err(ApiError::internal)?;
    let report =
        report::report(&daemon.platform, daemon.config_git.report(), storage).map_err(ApiError::internal)?;
    Ok(Json(report).into_response())
}

#[derive(Deserialize)]
struct ListQuery {
    #[serde(default = "default_limit")]
    limit: u32,
}

fn default_limit() -> u32 {
    50
}

async fn list(State(daemon): State<Arc<Daemon>>, Query(query): Query<ListQuery>) -> Answer {
    let all = daemon
        .platform
        .backup_records(query.limit)
        .map_err(ApiError::internal)?;
    Ok(Json(all).into_response())
}

async fn run(State(daemon): State<Arc<Daemon>>) -> Answer {
    let (events, received) = mpsc::channel(EVENTS);
    tokio::spawn(async move {
        let end = match Box::pin(super::run(&daemon.platform, true, &events)).await {
            Ok(_) => Progress::Done {
                message: "all backups are made".into(),
            },
            Err(fault) => Progress::Failed(daemon.platform.masked(fault)),
        };
        events.send(end).await.ok();
    });
    Ok(lines(received))
}

#[derive(Deserialize)]
struct VerifyQuery {
    /// Every object of a replica, not a sample.
    #[serde(default)]
    full: bool,
}

async fn verify(State(daemon): State<Arc<Daemon>>, Query(query): Query<VerifyQuery>) -> Answer {
    let (events, received) = mpsc::channel(EVENTS);
    tokio::spawn(async move {
        let end = match Box::pin(super::verify::newest(&daemon.platform, query.full, &events)).await {
            Ok(count) => Progress::Done {
                message: format!("{count} backups are good"),
            },
            Err(fault) => Progress::Failed(daemon.platform.masked(fault)),
        };
        events.send(end).await.ok();
    });
    Ok(lines(received))
}

impl Platform {
    fn backup_records(
        &self,
        limit: u32,
    ) -> Result<Vec<astraler_store::BackupRecord>, astraler_store::StoreError> {
        self.store.backups(None, limit)
    }
}
