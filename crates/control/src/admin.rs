//! The API: HTTP, on the admin socket for the owner and on a loopback port for bearers of tokens. Every route asks
//! for a scope first. Version 1, with the scope that each needs:
//!
//! - `GET /v1/status`: `read`
//! - `POST /v1/up`, `POST /v1/deploy`, `POST /v1/promote`, `POST /v1/rollback`, `DELETE /v1/environments/{environment}`
//!   → progress, one JSON object a line ([`crate::Event`]): `deploy:ENVIRONMENT`, but `admin` for `up` and the removal
//! - `POST /v1/down`: `admin`
//! - `GET /v1/deployments?environment=E&limit=N`: `read`
//! - `POST /v1/releases`, `GET /v1/releases/key/{key}`: `release`; see [`crate::upload`]
//! - `GET /v1/environments/{environment}/credentials/{name}`: `admin`
//! - `GET /v1/audit?limit=N`, `GET /v1/audit/verify`: `admin`
//! - `GET`, `POST /v1/tokens`, `DELETE /v1/tokens/{name}`, `POST /v1/session`: `admin`
//! - `/git/APP.git/…`: fetching needs `read`, pushing `push:BRANCH`; `POST /v1/git/decide`, of its hook: `admin`
//!   `POST /v1/git/taken`, of the other one: `admin`
//! - `/v1/runs…`: `read`, but `push:BRANCH` to cancel; see [`crate::runs`]
//! - `GET /v1/releases…`: `read`; see [`crate::releases`]
//! - `GET /v1/environments/{environment}/facts`: `read`; see [`crate::parity`]
//! - `GET /metrics`, `GET /v1/metrics`: `read`; see [`crate::metrics`]
//! - `/v1/alerts…`: `read` to look, `admin` for all else; see [`crate::alerts::api`]
//! - `/v1/tls…`: `read` to look, `admin` to renew; see [`crate::certificates::api`]
//! - `/v1/waf…`: `read` to look, `admin` to have rules read again; see [`crate::waf`]
//! - `/v1/backups…`: `read`, but `admin` to make some; see [`crate::backups::api`]
//! - `/v1/recover/…`, `/v1/drill`: `admin`; see [`crate::recover::api`]
//! - plans, drift, destruction: `admin`; see [`crate::plan::api`]
//! - the user's secrets: `admin`; see [`crate::secrets::routes`]

use crate::daemon::Daemon;
use crate::platform::report_of;
use crate::words::{DeployRequest, PromoteRequest, RollbackRequest, UpRequest};
use crate::{git, status, tokens};
use astraler_model::{DeployTarget, Environment, Forbidden, Principal, Scope};
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, delete, get, post};
use axum::{Extension, Json, Router};
use futures_util::stream;
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Why a request was not done, as its sender hears it.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    message: String,
}

const MAX_REQUEST_BYTES: usize = 4 << 20;

/// The routes.
pub(crate) fn router(daemon: Arc<Daemon>) -> Router {
    Router::new()
        .route("/v1/status", get(read_status))
        .route("/v1/up", post(bring_up))
        .route("/v1/down", post(note_down))
        .route(
            "/v1/environments/{environment}/credentials/{name}",
            get(read_credential),
        )
        .route("/v1/audit", get(read_audit))
        .route("/v1/audit/verify", get(verify_audit))
        .merge(crate::releases::router().route_layer(from_fn_with_state(Arc::clone(&daemon), readers)))
        .route("/v1/tokens", get(tokens::list).post(tokens::create))
        .route("/v1/tokens/{name}", delete(tokens::revoke))
        .route("/v1/session", post(tokens::session))
        .route("/v1/deploy", post(deploy))
        .route("/v1/promote", post(promote))
        .route("/v1/rollback", post(rollback))
        .route("/v1/deployments", get(read_deployments))
        .route("/v1/environments/{environment}", delete(remove_environment))
        .route("/v1/git/decide", post(git::decide))
        .route("/v1/git/taken", post(git::taken))
        .merge(crate::runs::router())
        .merge(crate::alerts::api::router())
        .merge(crate::cache::router())
        .merge(crate::waf::router())
        .merge(crate::dns::api::router())
        .merge(crate::switches::router())
        .merge(crate::certificates::api::router())
        .route("/git/{*path}", any(git::exchange))
        .merge(crate::metrics::router().route_layer(from_fn_with_state(Arc::clone(&daemon), readers)))
        .merge(crate::parity::router().route_layer(from_fn_with_state(Arc::clone(&daemon), readers)))
        .merge(crate::backups::api::reading().route_layer(from_fn_with_state(Arc::clone(&daemon), readers)))
        .merge(crate::backups::api::changing().route_layer(from_fn_with_state(Arc::clone(&daemon), owners)))
        .merge(crate::recover::api::router().route_layer(from_fn_with_state(Arc::clone(&daemon), owners)))
        .merge(crate::plan::api::router().route_layer(from_fn_with_state(Arc::clone(&daemon), owners)))
        .merge(crate::secrets::routes::router().route_layer(from_fn_with_state(Arc::clone(&daemon), owners)))
        .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
        .merge(crate::upload::router().route_layer(from_fn_with_state(Arc::clone(&daemon), uploaders)))
        .with_state(daemon)
}

/// For routes that only look, whatever they look at.
async fn readers(State(daemon): State<Arc<Daemon>>, request: Request, next: Next) -> Answer {
    let path = request.uri().path();
    let principal = request.extensions().get::<Principal>();
    let principal = principal.ok_or_else(|| ApiError::unauthorized("a token is needed"))?;
    daemon.allow(principal, &Scope::Read, &format!("{} {path}", request.method()))?;
    Ok(next.run(request).await)
}

/// For routes that are the owner's, and those of tokens with all rights.
async fn owners(State(daemon): State<Arc<Daemon>>, request: Request, next: Next) -> Answer {
    let path = request.uri().path();
    let principal = request.extensions().get::<Principal>();
    let principal = principal.ok_or_else(|| ApiError::unauthorized("a token is needed"))?;
    daemon.allow(principal, &Scope::Admin, &format!("{} {path}", request.method()))?;
    Ok(next.run(request).await)
}

type Answer = Result<Response, ApiError>;

async fn read_status(
    State(daemon): State<Arc<Daemon>>,
    Extension(principal): Extension<Principal>,
) -> Answer {
    daemon.allow(&principal, &Scope::Read, "status")?;
    let report = status::report(&daemon.platform)
        .await
        .map_err(ApiError::internal)?;
    Ok(Json(report).into_response())
}

async fn bring_up(
    State(daemon): State<Arc<Daemon>>,
    Extension(principal): Extension<Principal>,
    body: Bytes,
) -> Answer {
    // Before the body is read: who may not ask is told nothing about it.
    daemon.allow(&principal, &Scope::Admin, "up")?;
    let request: UpRequest = serde_json::from_slice(&body).map_err(ApiError::bad_request)?;
    let UpRequest {
        environment,
        release,
        origin,
    } = request;
    Ok(lines(daemon.up(principal.name, environment, release, origin)))
}

async fn deploy(
    State(daemon): State<Arc<Daemon>>,
    Extension(principal): Extension<Principal>,
    Json(request): Json<DeployRequest>,
) -> Answer {
    let environment: Environment = request.environment.parse().map_err(ApiError::bad_request)?;
    let wanted = Scope::Deploy(DeployTarget::One(environment));
    daemon.allow(&principal, &wanted, &format!("deploy {environment}"))?;
    Ok(lines(daemon.deploy(
        principal,
        environment,
        request.release,
        request.origin,
    )))
}

async fn promote(
    State(daemon): State<Arc<Daemon>>,
    Extension(principal): Extension<Principal>,
    Json(request): Json<PromoteRequest>,
) -> Answer {
    let wanted = Scope::Deploy(DeployTarget::One(request.to));
    let action = format!("promote {} {}", request.from, request.to);
    daemon.allow(&principal, &wanted, &action)?;
    Ok(lines(daemon.promote(principal, request)))
}

async fn rollback(
    State(daemon): State<Arc<Daemon>>,
    Extension(principal): Extension<Principal>,
    Json(request): Json<RollbackRequest>,
) -> Answer {
    let wanted = Scope::Deploy(DeployTarget::One(request.environment));
    daemon.allow(&principal, &wanted, &format!("rollback {}", request.environment))?;
    Ok(lines(daemon.rollback(principal.name, request)))
}

async fn remove_environment(
    State(daemon): State<Arc<Daemon>>,
    Extension(principal): Extension<Principal>,
    Path(environment): Path<String>,
) -> Answer {
    daemon.allow(&principal, &Scope::Admin, &format!("env remove {environment}"))?;
    let environment: Environment = environment.parse().map_err(ApiError::bad_request)?;
    Ok(lines(daemon.remove(
        principal.name,
        environment,
        "asked for".into(),
    )))
}

#[derive(Deserialize)]
struct DeploymentsQuery {
    #[serde(default)]
    environment: Option<Environment>,
    #[serde(default = "default_limit")]
    limit: u32,
}

async fn read_deployments(
    State(daemon): State<Arc<Daemon>>,
    Extension(principal): Extension<Principal>,
    Query(query): Query<DeploymentsQuery>,
) -> Answer {
    daemon.allow(&principal, &Scope::Read, "deployments")?;
    let all = daemon
        .platform
        .deployments(query.environment, query.limit)
        .map_err(ApiError::internal)?;
    let bad = daemon
        .platform
        .store
        .deployments_bad()
        .map_err(ApiError::internal)?;
    let report = |deployment| {
        let mut report = report_of(deployment);
        let found = bad.iter().find(|bad| bad.deployment == deployment.id);
        report.bad = found.map(|bad| bad.why.clone());
        report
    };
    Ok(Json(all.iter().map(report).collect::<Vec<_>>()).into_response())
}

/// For routes through which releases come in.
async fn uploaders(State(daemon): State<Arc<Daemon>>, request: Request, next: Next) -> Answer {
    let principal = request.extensions().get::<Principal>();
    let principal = principal.ok_or_else(|| ApiError::unauthorized("a token is needed"))?;
    let action = format!("{} {}", request.method(), request.uri().path());
    daemon.allow(principal, &Scope::Release, &action)?;
    Ok(next.run(request).await)
}

/// Progress as it happens, one JSON object a line.
pub(crate) fn lines<T: serde::Serialize + Send + 'static>(received: mpsc::Receiver<T>) -> Response {
    let lines = stream::unfold(received, |mut received| async move {
        let event = received.recv().await?;
        let mut line = serde_json::to_vec(&event).unwrap_or_default();
        line.push(b'\n');
        Some((Ok::<_, std::convert::Infallible>(Bytes::from(line)), received))
    });
    Response::new(Body::from_stream(lines))
}

async fn note_down(State(daemon): State<Arc<Daemon>>, Extension(principal): Extension<Principal>) -> Answer {
    daemon.allow(&principal, &Scope::Admin, "down")?;
    let application = &daemon.platform.installation.application;
    daemon
        .platform
        .audit(&principal.name, "down", application, &json!(null))
        .map_err(ApiError::internal)?;
    Ok(Json(json!({})).into_response())
}

async fn read_credential(
    State(daemon): State<Arc<Daemon>>,
    Extension(principal): Extension<Principal>,
    Path((environment, name)): Path<(String, String)>,
) -> Answer {
    let subject = format!("{environment}/{name}");
    daemon.allow(&principal, &Scope::Admin, &format!("credential read {subject}"))?;
    let environment: Environment = environment.parse().map_err(ApiError::bad_request)?;
    // No audit, no secret.
    daemon
        .platform
        .audit(&principal.name, "credential read", &subject, &json!(null))
        .map_err(ApiError::internal)?;
    let secret = daemon
        .platform
        .credentials
        .named(environment, &name)
        .map_err(ApiError::not_found)?;
    Ok(Json(secret.expose()).into_response())
}

#[derive(Deserialize)]
struct AuditQuery {
    #[serde(default = "default_limit")]
    limit: u32,
}

fn default_limit() -> u32 {
    100
}

async fn read_audit(
    State(daemon): State<Arc<Daemon>>,
    Extension(principal): Extension<Principal>,
    Query(query): Query<AuditQuery>,
) -> Answer {
    daemon.allow(&principal, &Scope::Admin, "audit list")?;
    let entries = daemon
        .platform
        .audit_list(query.limit.min(10_000))
        .map_err(ApiError::internal)?;
    Ok(Json(entries).into_response())
}

async fn verify_audit(
    State(daemon): State<Arc<Daemon>>,
    Extension(principal): Extension<Principal>,
) -> Answer {
    daemon.allow(&principal, &Scope::Admin, "audit verify")?;
    let report = daemon.platform.audit_verify().map_err(ApiError::internal)?;
    Ok(Json(report).into_response())
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    /// It is ours to mend.
    pub(crate) fn internal(error: impl std::error::Error) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, crate::words::chain(&error))
    }

    /// A step, or a look, failed as its fault says.
    pub(crate) fn fault(fault: &crate::words::Fault) -> Self {
        let mut message = format!("{}: {}", fault.part, fault.message);
        if let Some(hint) = &fault.hint {
            message.push_str("; ");
            message.push_str(hint);
        }
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    pub(crate) fn bad_request(error: impl std::error::Error) -> Self {
        Self::new(StatusCode::BAD_REQUEST, crate::words::chain(&error))
    }

    pub(crate) fn not_found(error: impl std::error::Error) -> Self {
        Self::new(StatusCode::NOT_FOUND, crate::words::chain(&error))
    }

    pub(crate) fn conflict(error: impl std::error::Error) -> Self {
        Self::new(StatusCode::CONFLICT, crate::words::chain(&error))
    }

    pub(crate) fn forbidden(error: &Forbidden) -> Self {
        Self::new(StatusCode::FORBIDDEN, error.to_string())
    }

    /// Another process of ours must answer first.
    pub(crate) fn unavailable(reason: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, reason.to_string())
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn unauthorized(message: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({ "message": self.message }))).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            // Basic, because that is what git answers with a credential.
            let challenge = HeaderValue::from_static("Basic realm=\"astraler\", charset=\"UTF-8\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}
