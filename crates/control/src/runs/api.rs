//! Routes of runs. `GET /v1/runs?limit=N&branch=B`, `GET /v1/runs/{number}`: `read`. `GET
//! /v1/runs/{number}/events?follow=true`: what it said, one [`RunLine`] a line, and what it says until it ends: `read`.
//! `POST /v1/runs/{number}/cancel`: `push:BRANCH` of its branch.

use super::begin;
use super::cause::Cause;
use super::follow::LOOK;
use super::tail::Tail;
use crate::admin::{ApiError, lines};
use crate::daemon::Daemon;
use crate::platform::{Platform, PlatformError, application_of};
use crate::status;
use crate::words::{RunLine, RunSummary};
use astraler_model::{Principal, Scope};
use astraler_store::{Run, RunState, StoreError};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;
use tokio::sync::mpsc;

type Answer = Result<Response, ApiError>;

/// Lines that wait for a slow reader.
const QUEUE: usize = 64;

/// The routes.
pub(crate) fn router() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/v1/runs", get(list))
        .route("/v1/runs/{number}", get(show))
        .route("/v1/runs/{number}/events", get(events))
        .route("/v1/runs/{number}/cancel", post(cancel))
}

#[derive(Deserialize)]
struct ListQuery {
    #[serde(default = "usual_limit")]
    limit: u32,
    branch: Option<String>,
}

fn usual_limit() -> u32 {
    20
}

async fn list(
    State(daemon): State<Arc<Daemon>>,
    Extension(principal): Extension<Principal>,
    Query(query): Query<ListQuery>,
) -> Answer {
    daemon.allow(&principal, &Scope::Read, "runs")?;
    let line = query.branch.map(|branch| format!("branch {branch}"));
    let platform = &daemon.platform;
    let runs = platform.store.runs(line.as_deref(), query.limit);
    let mut all = Vec::new();
    for run in runs.map_err(ApiError::internal)? {
        let mut summary = summary(platform, &run).map_err(ApiError::internal)?;
        summary.report = None;
        all.push(summary);
    }
    Ok(Json(all).into_response())
}

async fn show(
    State(daemon): State<Arc<Daemon>>,
    Extension(principal): Extension<Principal>,
    Path(number): Path<u64>,
) -> Answer {
    daemon.allow(&principal, &Scope::Read, &format!("run {number}"))?;
    let run = known(&daemon.platform, number)?;
    let summary = summary(&daemon.platform, &run).map_err(ApiError::internal)?;
    Ok(Json(summary).into_response())
}

#[derive(Deserialize)]
struct EventsQuery {
    #[serde(default)]
    follow: bool,
}

async fn events(
    State(daemon): State<Arc<Daemon>>,
    Extension(principal): Extension<Principal>,
    Path(number): Path<u64>,
    Query(query): Query<EventsQuery>,
) -> Answer {
    daemon.allow(&principal, &Scope::Read, &format!("run {number} events"))?;
    known(&daemon.platform, number)?;
    Ok(lines(stream(daemon, vec![number], query.follow)))
}

async fn cancel(
    State(daemon): State<Arc<Daemon>>,
    Extension(principal): Extension<Principal>,
    Path(number): Path<u64>,
) -> Answer {
    let action = format!("cancel run {number}");
    // Who may see nothing is not told which runs there are.
    let run = known(&daemon.platform, number);
    let branch = match &run {
        Ok(run) => Cause::of(run).map_err(ApiError::internal)?.branch,
        Err(_) => "**".into(),
    };
    daemon.allow(&principal, &Scope::push(&branch), &action)?;
    run?;
    let platform = &daemon.platform;
    platform
        .audit(
            &principal.name,
            "run cancelled",
            &number.to_string(),
            &json!(null),
        )
        .map_err(ApiError::internal)?;
    if !platform.store.run_cancel(number).map_err(ApiError::internal)? {
        return Err(ApiError::new(
            StatusCode::CONFLICT,
            format!("run {number} has ended"),
        ));
    }
    daemon.runs.wake();
    Ok(Json(json!({})).into_response())
}

fn known(platform: &Platform, number: u64) -> Result<Run, ApiError> {
    match platform.store.run(number) {
        Ok(run) if run.state != RunState::Received => Ok(run),
        Ok(_) | Err(StoreError::NotFound { .. }) => Err(ApiError::new(
            StatusCode::NOT_FOUND,
            format!("there is no run {number}"),
        )),
        Err(error) => Err(ApiError::internal(error)),
    }
}

/// What runs say, one after the other: each begins with how it stands, and ends with how it ended.
pub(crate) fn stream(daemon: Arc<Daemon>, numbers: Vec<u64>, follow: bool) -> mpsc::Receiver<RunLine> {
    let (lines, received) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        for number in numbers {
            if tell(&daemon, number, follow, &lines).await.is_none() {
                return;
            }
        }
    });
    received
}

/// One run, to its end or to where it is; nothing when nobody listens any more, or it cannot be read.
async fn tell(daemon: &Daemon, number: u64, follow: bool, lines: &mpsc::Sender<RunLine>) -> Option<()> {
    let platform = &daemon.platform;
    let mut tail = Tail::new(&begin::events(&platform.installation.layout.run(number)));
    let mut told = None;
    loop {
        // How it stands is read before what it said: of one that has ended nothing is missed.
        let run = platform.store.run(number).ok()?;
        loop {
            let events = tail.next().ok()?;
            if events.is_empty() {
                break;
            }
            for event in events {
                lines.send(RunLine::Event(event)).await.ok()?;
            }
        }
        let ended = run.state == RunState::Ended;
        if told != Some(run.state) || (ended || !follow) {
            told = Some(run.state);
            let summary = summary(platform, &run).ok()?;
            lines.send(RunLine::Run(Box::new(summary))).await.ok()?;
        }
        if ended || !follow {
            return Some(());
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = lines.closed() => return None,
        }
    }
}

/// A run as others see it.
pub(crate) fn summary(platform: &Platform, run: &Run) -> Result<RunSummary, PlatformError> {
    let cause = Cause::of(run)?;
    let mut urls = Vec::new();
    if let Some(environment) = run.environment
        && let Some(live) = platform.live_deployment(environment)?
    {
        let application = application_of(&live)?;
        let report = status::environment_report(platform, environment, &application);
        urls = report.map(|report| report.urls).unwrap_or_default();
    }
    Ok(RunSummary {
        number: run.id,
        state: run.state.name().to_owned(),
        conclusion: run.conclusion.map(|conclusion| conclusion.name().to_owned()),
        event: run.event.clone(),
        branch: cause.branch,
        commit: cause.sha,
        pull_request: cause.pull_request.map(|pull_request| pull_request.number),
        environment: run.environment,
        actor: cause.actor,
        cancelling: run.cancelling,
        error: run.error.clone(),
        created_ms: run.created_ms,
        started_ms: run.started_ms,
        ended_ms: run.ended_ms,
        urls,
        report: run
            .report
            .clone()
            .and_then(|report| serde_json::from_value(report).ok()),
    })
}
