//! Routes of plans; all need the scope `admin`:
//!
//! - `POST /v1/plan` ([`PlanRequest`]) → [`Plan`]: what the manifest would change. Writes nothing.
//! - `GET /v1/drift` → the same, of what was changed by hand.
//! - `POST /v1/apply` ([`ApplyRequest`]) → [`ApplyEvent`], one JSON object a line
//! - `POST /v1/destroy` ([`DestroyRequest`]) → the plan when none was agreed to, [`ApplyEvent`] lines else

use super::{ApplyEvent, ApplyRequest, DestroyRequest, PlanRequest, Question, answer, apply};
use crate::admin::{ApiError, lines};
use crate::daemon::Daemon;
use crate::words::Fault;
use astraler_model::Principal;
use astraler_plan::Plan;
use axum::extract::State;
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
}

async fn read_plan(
    State(daemon): State<Arc<Daemon>>,
    Json(request): Json<PlanRequest>,
) -> Result<Response, ApiError> {
    shown(&daemon, &Question::Manifest(&request)).await
}

async fn read_drift(State(daemon): State<Arc<Daemon>>) -> Result<Response, ApiError> {
    shown(&daemon, &Question::Recorded).await
}

async fn shown(daemon: &Daemon, question: &Question<'_>) -> Result<Response, ApiError> {
    // In the middle of a change everything is half-way: the look waits for its end.
    let _change = daemon.changes.write().await;
    let answer = Box::pin(answer(&daemon.platform, question))
        .await
        .map_err(|fault| ApiError::fault(&fault))?;
    Ok(Json(answer.plan).into_response())
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
) -> Result<Response, ApiError> {
    let Some(plan) = plan else {
        return shown(&daemon, &Question::Without(&environments)).await;
    };
    Ok(carried_out(
        daemon,
        "destroy",
        principal.name,
        plan,
        move |daemon| async move { Box::pin(answer(&daemon.platform, &Question::Without(&environments))).await },
    ))
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
