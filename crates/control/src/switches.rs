//! What an operator switches on for an environment while it serves, and off again:
//!
//! - `PUT /v1/environments/{environment}/maintenance`, [`MaintenanceRequest`]: all but a few get 503
//! - `PUT /v1/environments/{environment}/attack`, [`AttackRequest`]: limits are tightened
//! - `DELETE` of either ends it
//!
//! Only `admin` may. The switch is in the store before the edge hears of it; the answer comes when the edge goes by it.

use crate::admin::ApiError;
use crate::client::{AdminClient, ClientError};
use crate::daemon::Daemon;
use crate::platform::{Platform, PlatformError, now_ms};
use crate::publish;
use astraler_model::{Attack, EdgePolicy, Environment, Maintenance, Network, Principal, Scope};
use astraler_store::SwitchKind;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::put;
use axum::{Extension, Json, Router};
use bytes::Bytes;
use hyper::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;

type Answer = Result<Response, ApiError>;

const MAX_MESSAGE: usize = 1_000;
const MAX_NETWORKS: usize = 100;
/// An environment that is tightened for longer needs other rules.
const MAX_ATTACK_S: u64 = 30 * 86_400;
const MAX_RETRY_AFTER_S: u32 = 7 * 86_400;

/// Closes an environment.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MaintenanceRequest {
    /// What its page says.
    pub message: Option<String>,
    /// Networks that are served all the same.
    pub allow: Vec<Network>,
    /// What `Retry-After` says.
    pub retry_after_s: u32,
}

/// Tightens an environment's limits.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AttackRequest {
    /// It ends by itself after so long; never when absent.
    pub seconds: Option<u64>,
}

pub(crate) fn router() -> Router<Arc<Daemon>> {
    Router::new()
        .route(
            "/v1/environments/{environment}/maintenance",
            put(close).delete(open),
        )
        .route(
            "/v1/environments/{environment}/attack",
            put(tighten).delete(relax),
        )
}

async fn close(
    state: State<Arc<Daemon>>,
    principal: Extension<Principal>,
    path: Path<String>,
    body: Bytes,
) -> Answer {
    let (daemon, environment) = allowed(&state, &principal, &path, "maintenance on")?;
    let request: MaintenanceRequest = serde_json::from_slice(&body).map_err(ApiError::bad_request)?;
    let long = request
        .message
        .as_ref()
        .is_some_and(|text| text.len() > MAX_MESSAGE);
    if long || request.allow.len() > MAX_NETWORKS || request.retry_after_s > MAX_RETRY_AFTER_S {
        let message =
            "a message has at most 1,000 bytes, at most 100 networks pass, and Retry-After is a week at most";
        return Err(ApiError::new(StatusCode::BAD_REQUEST, message));
    }
    let detail = json!(Maintenance {
        message: request.message,
        allow: request.allow,
        retry_after_s: request.retry_after_s,
        since_ms: now_ms(),
    });
    on(daemon, &principal, environment, SwitchKind::Maintenance, &detail).await
}

async fn open(state: State<Arc<Daemon>>, principal: Extension<Principal>, path: Path<String>) -> Answer {
    let (daemon, environment) = allowed(&state, &principal, &path, "maintenance off")?;
    off(daemon, &principal, environment, SwitchKind::Maintenance).await
}

async fn tighten(
    state: State<Arc<Daemon>>,
    principal: Extension<Principal>,
    path: Path<String>,
    body: Bytes,
) -> Answer {
    let (daemon, environment) = allowed(&state, &principal, &path, "attack-mode on")?;
    let request: AttackRequest = serde_json::from_slice(&body).map_err(ApiError::bad_request)?;
    if request
        .seconds
        .is_some_and(|seconds| !(1..=MAX_ATTACK_S).contains(&seconds))
    {
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "it lasts between a second and 30 days",
        ));
    }
    let now = now_ms();
    let detail = json!(Attack {
        until_ms: request.seconds.map(|seconds| now + seconds * 1_000),
        since_ms: now,
    });
    on(daemon, &principal, environment, SwitchKind::Attack, &detail).await
}

async fn relax(state: State<Arc<Daemon>>, principal: Extension<Principal>, path: Path<String>) -> Answer {
    let (daemon, environment) = allowed(&state, &principal, &path, "attack-mode off")?;
    off(daemon, &principal, environment, SwitchKind::Attack).await
}

fn allowed<'a>(
    daemon: &'a Arc<Daemon>,
    principal: &Principal,
    environment: &str,
    what: &str,
) -> Result<(&'a Daemon, Environment), ApiError> {
    daemon.allow(principal, &Scope::Admin, &format!("{what} {environment}"))?;
    let environment = environment.parse().map_err(ApiError::bad_request)?;
    Ok((daemon, environment))
}

/// Audited, then on disk, then at the edge: whatever is killed in between, the next publication carries it.
async fn on(
    daemon: &Daemon,
    principal: &Principal,
    environment: Environment,
    kind: SwitchKind,
    detail: &serde_json::Value,
) -> Answer {
    let platform = &daemon.platform;
    let known = platform.live().map_err(ApiError::internal)?;
    if !known.contains_key(&environment) {
        return Err(ApiError::new(
            StatusCode::NOT_FOUND,
            format!("{environment} is not up: `astraler status` says what is"),
        ));
    }
    let action = format!("{} on", kind.name());
    let subject = environment.to_string();
    platform
        .audit(&principal.name, &action, &subject, detail)
        .map_err(ApiError::internal)?;
    platform
        .store
        .switch_on(environment, kind, &detail.to_string())
        .map_err(ApiError::internal)?;
    publish::edge(platform).await.map_err(ApiError::internal)?;
    Ok(Json(json!({})).into_response())
}

async fn off(daemon: &Daemon, principal: &Principal, environment: Environment, kind: SwitchKind) -> Answer {
    let platform = &daemon.platform;
    let action = format!("{} off", kind.name());
    platform
        .audit(&principal.name, &action, &environment.to_string(), &json!(null))
        .map_err(ApiError::internal)?;
    let was_on = platform
        .store
        .switch_off(environment, kind)
        .map_err(ApiError::internal)?;
    publish::edge(platform).await.map_err(ApiError::internal)?;
    Ok(Json(json!({ "was_on": was_on })).into_response())
}

/// What is on in an environment.
#[derive(Debug, Clone, Default)]
pub(crate) struct On {
    pub(crate) maintenance: Option<Maintenance>,
    /// Also one that is over: the edge knows that by itself, and a snapshot changes only when something is done.
    pub(crate) attack: Option<Attack>,
}

impl On {
    pub(crate) fn of(platform: &Platform, environment: Environment) -> Result<Self, PlatformError> {
        let mut on = Self::default();
        let records = platform.store.switches()?.into_iter();
        for record in records.filter(|record| record.environment == environment) {
            let unreadable = |source| PlatformError::Record {
                record: format!("what is switched on in {environment}"),
                source,
            };
            match record.kind {
                SwitchKind::Maintenance => {
                    on.maintenance = Some(serde_json::from_str(&record.detail).map_err(unreadable)?);
                }
                SwitchKind::Attack => {
                    on.attack = Some(serde_json::from_str(&record.detail).map_err(unreadable)?);
                }
            }
        }
        Ok(on)
    }

    /// Without what is over.
    pub(crate) fn now(mut self) -> Self {
        self.attack = self
            .attack
            .filter(|attack| attack.until_ms.is_none_or(|until| until > now_ms()));
        self
    }

    /// Rules of the manifest with what is on.
    pub(crate) fn policy(self, config: &astraler_manifest::Config, environment: Environment) -> EdgePolicy {
        EdgePolicy {
            maintenance: self.maintenance,
            attack: self.attack,
            ..config.edge.policy(environment)
        }
    }
}

impl AdminClient {
    /// Closes an environment to all but a few.
    pub async fn maintenance_on(
        &self,
        environment: Environment,
        request: &MaintenanceRequest,
    ) -> Result<(), ClientError> {
        self.switch(Method::PUT, environment, "maintenance", request)
            .await
    }

    /// Opens it again.
    pub async fn maintenance_off(&self, environment: Environment) -> Result<(), ClientError> {
        self.switch(Method::DELETE, environment, "maintenance", &json!({}))
            .await
    }

    /// Tightens its limits.
    pub async fn attack_on(
        &self,
        environment: Environment,
        request: &AttackRequest,
    ) -> Result<(), ClientError> {
        self.switch(Method::PUT, environment, "attack", request).await
    }

    /// Loosens them again.
    pub async fn attack_off(&self, environment: Environment) -> Result<(), ClientError> {
        self.switch(Method::DELETE, environment, "attack", &json!({}))
            .await
    }

    async fn switch(
        &self,
        method: Method,
        environment: Environment,
        kind: &str,
        request: &impl Serialize,
    ) -> Result<(), ClientError> {
        let path = format!("/v1/environments/{environment}/{kind}");
        let body = json!(request).to_string();
        let _: serde_json::Value = self.ask(method, &path, body.into()).await?;
        Ok(())
    }
}
