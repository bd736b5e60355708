//! Routes of plans; all need the scope `admin`:
//!
//! - `POST /v1/plan` ([`PlanRequest`]) → [`Plan`](astraler_plan::Plan): what the manifest would change. Writes nothing.
//! - `GET /v1/drift` → the same, of what was changed by hand.
//! - `POST /v1/apply` ([`ApplyRequest`]) → [`ApplyEvent`], one JSON object a line
//! - `POST /v1/destroy` ([`DestroyRequest`]) → the plan when none was agreed to, [`ApplyEvent`] lines else
//! - `GET /v1/environments/{environment}/facts` → [`crate::EnvironmentFacts`], for `env diff`

use super::{ApplyEvent, ApplyRequest, DestroyRequest, PlanRequest, Question, answer, apply};
use crate::admin::lines;
use crate::daemon::Daemon;
use crate::words::Fault;
use astraler_model::{Environment, Principal};
use astraler_plan::Plan;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Lines of progress that wait for a slow reader.
const PROGRESS_QUEUE: usize = 256;

/// The routes.
pub(crate) fn router() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/v1/plan", post(read_plan))
        .route("/v1/drift", get(read_drift))
        .route("/v1/apply", post(apply_plan))
        .route("/v1/destroy", post(destroy))
        .route("/v1/environments/{environment}/facts", get(read_facts))
}

async fn read_plan(State(daemon): State<Arc<Daemon>>, Json(request): Json<PlanRequest>) -> Response {
    shown(&daemon, &Question::Manifest(&request)).await
}

async fn read_drift(State(daemon): State<Arc<Daemon>>) -> Response {
    shown(&daemon, &Question::Recorded).await
}

async fn shown(daemon: &Daemon, question: &Question<'_>) -> Response {
    // In the middle of a change everything is half-way: the look waits for its end.
    let _change = daemon.changes.write().await;
    match Box::pin(answer(&daemon.platform, question)).await {
        Ok(answer) => Json(answer.plan).into_response(),
        Err(fault) => failed(&fault),
    }
}

async fn apply_plan(
    State(daemon): State<Arc<Daemon>>,
    Extension(principal): Extension<Principal>,
    Json(ApplyRequest { request, plan }): Json<ApplyRequest>,
) -> Response {
    carried_out(daemon, "apply", principal.name, plan, move |daemon| async move {
        Box::pin(answer(&daemon.platform, &Question::Manifest(&request))).await
    })
}

async fn destroy(
    State(daemon): State<Arc<Daemon>>,
    Extension(principal): Extension<Principal>,
    Json(DestroyRequest { environments, plan }): Json<DestroyRequest>,
) -> Response {
    let Some(plan) = plan else {
        return shown(&daemon, &Question::Without(&environments)).await;
    };
    carried_out(
        daemon,
        "destroy",
        principal.name,
        plan,
        move |daemon| async move { Box::pin(answer(&daemon.platform, &Question::Without(&environments))).await },
    )
}

/// Looks again under the lock of changes, compares with what was agreed to, and does it. It goes on when nobody reads.
fn carried_out<F>(
    daemon: Arc<Daemon>,
    kind: &'static str,
    actor: String,
    agreed: Plan,
    look: impl FnOnce(Arc<Daemon>) -> F + Send + 'static,
) -> Response
where
    F: Future<Output = Result<super::Answer, Fault>> + Send,
{
    let (events, received) = mpsc::channel(PROGRESS_QUEUE);
    tokio::spawn(async move {
        let _change = daemon.changes.write().await;
        let last = match look(Arc::clone(&daemon)).await {
            Err(fault) => ApplyEvent::Failed(fault),
            Ok(answer) => match apply::refusal(&agreed, &answer.plan) {
                Some(refusal) => ApplyEvent::Refused(refusal),
                None if answer.plan.is_empty() => ApplyEvent::Applied { steps: 0 },
                None => {
                    let done = apply::apply(&daemon.platform, kind, &answer, &actor, &events);
                    match Box::pin(done).await {
                        Ok(steps) => ApplyEvent::Applied { steps },
                        Err(fault) => ApplyEvent::Failed(fault),
                    }
                }
            },
        };
        events.send(last).await.ok();
    });
    lines(received)
}

async fn read_facts(State(daemon): State<Arc<Daemon>>, Path(environment): Path<String>) -> Response {
    let environment: Environment = match environment.parse() {
        Ok(environment) => environment,
        Err(error) => {
            let error: astraler_model::ParseEnvironmentError = error;
            return refused(StatusCode::BAD_REQUEST, &error.to_string());
        }
    };
    let _change = daemon.changes.write().await;
    match Box::pin(crate::parity::facts(&daemon.platform, environment)).await {
        Ok(Some(facts)) => Json(facts).into_response(),
        Ok(None) => refused(
            StatusCode::NOT_FOUND,
            &format!("environment {environment} is not up"),
        ),
        Err(fault) => failed(&fault),
    }
}

fn failed(fault: &Fault) -> Response {
    let message = format!("{}: {}", fault.part, fault.message);
    refused(StatusCode::INTERNAL_SERVER_ERROR, &message)
}

fn refused(status: StatusCode, message: &str) -> Response {
    (status, Json(serde_json::json!({ "message": message }))).into_response()
}
