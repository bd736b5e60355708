//! What a job's socket serves: its releases and the deployments to its run's environment, and nothing else. Where they
//! come from is for the daemon to say.

use super::RunScope;
use super::workflow::is_named;
use crate::admin::{ApiError, lines};
use crate::daemon::Daemon;
use crate::identity;
use crate::platform::now_ms;
use crate::upload::{self, Received};
use crate::words::{Action, DeployRequest, Origin, PromoteRequest};
use astraler_model::{Environment, Principal, Scope};
use astraler_release::{Key, KeyInput};
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use std::sync::Arc;

const MAX_REQUEST_BYTES: usize = 64 << 10;

/// A job and its run.
pub(super) struct Bearer {
    pub(super) daemon: Arc<Daemon>,
    pub(super) run: RunScope,
    /// Where the run's jobs deploy to.
    pub(super) environment: Environment,
    /// The public part of its token: no other opens this socket.
    pub(super) token: String,
}

type Answer = Result<Response, ApiError>;

pub(super) fn router(bearer: Arc<Bearer>) -> Router {
    Router::new()
        .route("/v1/deploy", post(deploy))
        .route("/v1/promote", post(promote))
        .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
        .route("/v1/releases", post(receive))
        .route("/v1/releases/key/{key}", get(find))
        .fallback(nothing)
        .layer(from_fn_with_state(Arc::clone(&bearer), authenticate))
        .with_state(bearer)
}

async fn authenticate(State(bearer): State<Arc<Bearer>>, mut request: Request, next: Next) -> Response {
    let token = identity::presented(request.headers());
    let found = match &token {
        Some(token) => bearer
            .daemon
            .platform
            .authenticate_job(token.expose(), &bearer.token),
        None => Ok(None),
    };
    match found {
        Ok(Some(principal)) => {
            request.extensions_mut().insert(principal);
            next.run(request).await
        }
        Ok(None) => {
            ApiError::unauthorized("a job's socket takes its own token alone: ASTRALER_TOKEN_FILE names it")
                .into_response()
        }
        Err(error) => ApiError::internal(error).into_response(),
    }
}

async fn nothing(request: Request) -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        format!(
            "{} {} is not for a job of the pipeline: it may look for its release, upload it, and deploy it to its own \
             environment",
            request.method(),
            request.uri().path()
        ),
    )
}

impl Bearer {
    /// A job's key lives among those of its run's tree: no tree can put a release in the place of another's.
    fn key(&self, given: &str) -> Result<Key, ApiError> {
        let given: Key = given.parse().map_err(ApiError::bad_request)?;
        Ok(Key::of(&KeyInput {
            tree: self.run.tree.clone(),
            tools: [("job".to_owned(), given.to_string())].into(),
            ..KeyInput::default()
        }))
    }

    /// The release was built from the run's tree: on its word alone gates are counted for it.
    fn note_source(&self, release: &str) -> Result<(), ApiError> {
        let run = &self.run;
        let store = &self.daemon.platform.store;
        store
            .release_source_add(release, &run.tree, run.number, now_ms())
            .map_err(ApiError::internal)
    }

    /// The run's environment, if that is what the job asks for.
    fn allowed(&self, principal: &Principal, asked: &str, what: &str) -> Result<Environment, ApiError> {
        let own = self.environment;
        // By whatever name: what it may do is for its token to say.
        let wanted = if is_named(own, asked) {
            own
        } else {
            asked.parse().map_err(|_| self.elsewhere(asked))?
        };
        let action = format!("{what} {wanted}");
        let allowed = self.daemon.allow(principal, &Scope::deploy(wanted), &action);
        allowed.map_err(|_| self.elsewhere(asked))?;
        Ok(wanted)
    }

    fn elsewhere(&self, asked: &str) -> ApiError {
        let message = format!("this job deploys to {}, not to {asked}", self.environment);
        ApiError::new(StatusCode::FORBIDDEN, message)
    }
}

async fn deploy(
    State(bearer): State<Arc<Bearer>>,
    Extension(principal): Extension<Principal>,
    Json(request): Json<DeployRequest>,
) -> Answer {
    let environment = bearer.allowed(&principal, &request.environment, "deploy")?;
    let origin = Origin {
        action: Action::Deploy,
        commit: Some(bearer.run.commit.clone()),
        branch: bearer.run.branch.clone(),
        run: Some(bearer.run.number),
        reason: request.origin.reason,
        // For the gates to refuse, in words.
        override_reason: request.origin.override_reason,
        ..Origin::default()
    };
    let daemon = Arc::clone(&bearer.daemon);
    Ok(lines(daemon.deploy(
        principal,
        environment,
        request.release,
        origin,
    )))
}

async fn promote(
    State(bearer): State<Arc<Bearer>>,
    Extension(principal): Extension<Principal>,
    Json(request): Json<PromoteRequest>,
) -> Answer {
    let to = bearer.allowed(&principal, &request.to.to_string(), "promote to")?;
    // Commit and branch are those of the release that is promoted.
    let origin = Origin {
        run: Some(bearer.run.number),
        reason: request.origin.reason,
        // For the gates to refuse, in words.
        override_reason: request.origin.override_reason,
        ..Origin::default()
    };
    let from = request.from;
    let daemon = Arc::clone(&bearer.daemon);
    Ok(lines(
        daemon.promote(principal, PromoteRequest { from, to, origin }),
    ))
}

async fn receive(
    State(bearer): State<Arc<Bearer>>,
    Query(query): Query<upload::KeyQuery>,
    body: Body,
) -> Answer {
    let key = query.key.as_deref().map(|key| bearer.key(key)).transpose()?;
    let digest = upload::take(&bearer.daemon, key, body).await?;
    bearer.note_source(&digest)?;
    Ok(Json(Received { digest }).into_response())
}

async fn find(State(bearer): State<Arc<Bearer>>, Path(key): Path<String>) -> Answer {
    let digest = upload::look(&bearer.daemon, bearer.key(&key)?).await?;
    bearer.note_source(&digest)?;
    Ok(Json(Received { digest }).into_response())
}
