//! The edge's cache, for people and for Cloudflare's clients:
//!
//! - `GET /v1/cache` → [`CacheStanding`]: `read`
//! - `POST /v1/cache/purge`, [`Purge`] → [`Purged`]: `deploy:ENVIRONMENT`, or `admin` for all environments at once
//! - `POST /client/v4/zones/{zone}/purge_cache`, in Cloudflare's words: the same. The zone is the name of an environment,
//!   or one of its host names.
//!
//! The edge itself purges; its answer comes when what was purged cannot come back.

use crate::admin::ApiError;
use crate::client::{AdminClient, ClientError};
use crate::daemon::Daemon;
use crate::platform::Platform;
use astraler_model::{CacheStanding, DeployTarget, Environment, Principal, Purge, PurgeWhat, Purged, Scope};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// The edge answers within milliseconds; a purge syncs a file.
const LIMIT: Duration = Duration::from_secs(10);
/// Things that one purge may name.
const MAX_PURGE: usize = 500;

type Answer = Result<Response, ApiError>;

pub(crate) fn router() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/v1/cache", get(standing))
        .route("/v1/cache/purge", post(purge))
        .route("/client/v4/zones/{zone}/purge_cache", post(as_cloudflare))
}

async fn standing(State(daemon): State<Arc<Daemon>>, Extension(principal): Extension<Principal>) -> Answer {
    daemon.allow(&principal, &Scope::Read, "cache status")?;
    let client = edge(&daemon.platform);
    let standing: CacheStanding = in_time(client.read("/cache")).await?;
    Ok(Json(standing).into_response())
}

async fn purge(
    State(daemon): State<Arc<Daemon>>,
    Extension(principal): Extension<Principal>,
    body: axum::body::Bytes,
) -> Answer {
    // Whoever may purge nothing is told nothing about the body.
    let parsed = serde_json::from_slice::<Purge>(&body);
    let environment = parsed.as_ref().ok().and_then(|purge| purge.environment);
    may_purge(&daemon, &principal, environment)?;
    let purge = parsed.map_err(ApiError::bad_request)?;
    if purge.what.is_empty() || purge.what.len() > MAX_PURGE {
        return Err(too_much());
    }
    Ok(Json(forget(&daemon, &principal, &purge).await?).into_response())
}

/// <https://developers.cloudflare.com/api/resources/cache/methods/purge/>
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct CloudflarePurge {
    purge_everything: bool,
    files: Vec<CloudflareFile>,
    tags: Vec<String>,
    hosts: Vec<String>,
    prefixes: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum CloudflareFile {
    Url(String),
    /// With headers that select a variant: here all variants go.
    With {
        url: String,
    },
}

impl CloudflarePurge {
    fn what(self) -> Vec<PurgeWhat> {
        let files = self.files.into_iter().map(|file| match file {
            CloudflareFile::Url(url) | CloudflareFile::With { url } => PurgeWhat::Url(url),
        });
        files
            .chain(self.tags.into_iter().map(PurgeWhat::Tag))
            .chain(self.hosts.into_iter().map(PurgeWhat::Host))
            .chain(self.prefixes.into_iter().map(PurgeWhat::Prefix))
            .chain(self.purge_everything.then_some(PurgeWhat::Everything))
            .collect()
    }
}

async fn as_cloudflare(
    State(daemon): State<Arc<Daemon>>,
    Extension(principal): Extension<Principal>,
    Path(zone): Path<String>,
    body: axum::body::Bytes,
) -> Answer {
    let environment = zone_of(&daemon.platform, &zone)?;
    if let Err(error) = may_purge(&daemon, &principal, environment) {
        return Ok(envelope(
            StatusCode::FORBIDDEN,
            &zone,
            Some((10000, error.message().to_owned())),
        ));
    }
    let Some(environment) = environment else {
        let message = format!("no zone `{zone}`: expected the name of an environment, or one of its hosts");
        return Ok(envelope(StatusCode::NOT_FOUND, &zone, Some((1001, message))));
    };
    let what = match serde_json::from_slice::<CloudflarePurge>(&body) {
        Ok(asked) => asked.what(),
        Err(error) => {
            return Ok(envelope(
                StatusCode::BAD_REQUEST,
                &zone,
                Some((1012, error.to_string())),
            ));
        }
    };
    if what.is_empty() || what.len() > MAX_PURGE {
        let message = "Request must contain one of \"purge_everything\", \"files\", \"tags\", \"hosts\" or \"prefixes\"";
        return Ok(envelope(
            StatusCode::BAD_REQUEST,
            &zone,
            Some((1012, message.into())),
        ));
    }
    let purge = Purge {
        environment: Some(environment),
        what,
    };
    Ok(match forget(&daemon, &principal, &purge).await {
        Ok(_) => envelope(StatusCode::OK, &zone, None),
        Err(error) => envelope(error.status(), &zone, Some((1094, error.message().to_owned()))),
    })
}

/// Cloudflare's answer.
fn envelope(status: StatusCode, zone: &str, error: Option<(u32, String)>) -> Response {
    let success = error.is_none();
    let errors: Vec<Value> = error
        .into_iter()
        .map(|(code, message)| json!({ "code": code, "message": message }))
        .collect();
    let result = success.then(|| json!({ "id": zone }));
    let body = json!({ "success": success, "errors": errors, "messages": [], "result": result });
    (status, Json(body)).into_response()
}

/// The environment of that name or host.
fn zone_of(platform: &Platform, zone: &str) -> Result<Option<Environment>, ApiError> {
    if let Ok(environment) = zone.parse() {
        return Ok(Some(environment));
    }
    let live = platform.live().map_err(ApiError::internal)?;
    Ok(live.into_iter().find_map(|(environment, (_, application))| {
        let hosts = platform.hosts(environment, &application.config);
        hosts.iter().any(|host| host == zone).then_some(environment)
    }))
}

fn may_purge(daemon: &Daemon, principal: &Principal, of: Option<Environment>) -> Result<(), ApiError> {
    let scope = match of {
        Some(environment) => Scope::Deploy(DeployTarget::One(environment)),
        None => Scope::Admin,
    };
    let place = of.map_or_else(|| "all".to_owned(), |environment| environment.to_string());
    daemon.allow(principal, &scope, &format!("cache purge {place}"))?;
    Ok(())
}

async fn forget(daemon: &Daemon, principal: &Principal, purge: &Purge) -> Result<Purged, ApiError> {
    let subject = purge
        .environment
        .map_or_else(|| "all".to_owned(), |environment| environment.to_string());
    // URLs of people's pages have no place in an audit that is kept for a year: how many is.
    let everything = purge.what.contains(&PurgeWhat::Everything);
    let detail = json!({ "items": purge.what.len(), "everything": everything });
    daemon
        .platform
        .audit(&principal.name, "cache purge", &subject, &detail)
        .map_err(ApiError::internal)?;
    in_time(edge(&daemon.platform).post("/cache/purge", purge)).await
}

impl AdminClient {
    /// How the edge's cache stands.
    pub async fn cache(&self) -> Result<CacheStanding, ClientError> {
        self.read("/v1/cache").await
    }

    /// Makes the edge's cache forget.
    pub async fn cache_purge(&self, purge: &Purge) -> Result<Purged, ClientError> {
        self.post("/v1/cache/purge", purge).await
    }
}

fn edge(platform: &Platform) -> AdminClient {
    AdminClient::new(platform.installation.layout.status_socket("edge"))
}

async fn in_time<T>(asked: impl Future<Output = Result<T, ClientError>>) -> Result<T, ApiError> {
    match tokio::time::timeout(LIMIT, asked).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(ClientError::Refused { status: 400, message })) => {
            Err(ApiError::new(StatusCode::BAD_REQUEST, message))
        }
        Ok(Err(error)) => Err(ApiError::unavailable(crate::words::chain(&error))),
        Err(_) => Err(ApiError::unavailable("the edge does not answer")),
    }
}

fn too_much() -> ApiError {
    ApiError::new(
        StatusCode::BAD_REQUEST,
        format!("a purge names between 1 and {MAX_PURGE} things"),
    )
}
