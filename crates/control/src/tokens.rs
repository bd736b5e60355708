//! The tokens' routes: made, listed, revoked.

use crate::admin::ApiError;
use crate::daemon::Daemon;
use crate::platform::now_ms;
use crate::words::{NewTokenReport, NewTokenRequest};
use astraler_model::{Principal, Scope};
use astraler_store::{StoreError, TokenKind};
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::json;
use std::sync::Arc;

type Answer = Result<Response, ApiError>;

const MAX_NAME_CHARACTERS: usize = 64;

pub(crate) async fn create(
    State(daemon): State<Arc<Daemon>>,
    Extension(principal): Extension<Principal>,
    body: Bytes,
) -> Answer {
    let request: Result<NewTokenRequest, _> = serde_json::from_slice(&body);
    let name = request.as_ref().map_or("", |request| request.name.as_str());
    daemon.allow(&principal, &Scope::Admin, &format!("token create {name}"))?;
    let request = request.map_err(ApiError::bad_request)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if !(1..=MAX_NAME_CHARACTERS).contains(&request.name.len()) || !request.name.chars().all(plain) {
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            format!("a token's name has 1 to {MAX_NAME_CHARACTERS} letters, digits, `-`, `_` and `.`"),
        ));
    }
    if request.scopes.is_empty() {
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "a token without a scope could do nothing: name one with --scope",
        ));
    }
    let expires_ms = request
        .expires_in_ms
        .map(|lifetime| now_ms().saturating_add(lifetime));
    // Before it exists: no audit, no token.
    let detail = json!({ "scopes": request.scopes, "expires_ms": expires_ms });
    daemon
        .platform
        .audit(&principal.name, "token create", &request.name, &detail)
        .map_err(ApiError::internal)?;
    let minted = daemon
        .platform
        .mint(TokenKind::Named, &request.name, &request.scopes, expires_ms)
        .map_err(|error| match error {
            StoreError::Refused { .. } => ApiError::conflict(error),
            error => ApiError::internal(error),
        })?;
    Ok(report(&minted))
}

pub(crate) async fn list(
    State(daemon): State<Arc<Daemon>>,
    Extension(principal): Extension<Principal>,
) -> Answer {
    daemon.allow(&principal, &Scope::Admin, "token list")?;
    let tokens = daemon.platform.store.tokens().map_err(ApiError::internal)?;
    Ok(Json(tokens).into_response())
}

pub(crate) async fn revoke(
    State(daemon): State<Arc<Daemon>>,
    Extension(principal): Extension<Principal>,
    Path(name): Path<String>,
) -> Answer {
    daemon.allow(&principal, &Scope::Admin, &format!("token revoke {name}"))?;
    daemon
        .platform
        .audit(&principal.name, "token revoke", &name, &json!(null))
        .map_err(ApiError::internal)?;
    let revoked = daemon
        .platform
        .store
        .token_revoke(&name, now_ms())
        .map_err(ApiError::internal)?;
    if revoked {
        return Ok(Json(json!({})).into_response());
    }
    Err(ApiError::new(
        StatusCode::NOT_FOUND,
        format!("there is no token `{name}` that could be revoked"),
    ))
}

/// A token for the owner's own tools, which cannot use the admin socket: git.
pub(crate) async fn session(
    State(daemon): State<Arc<Daemon>>,
    Extension(principal): Extension<Principal>,
) -> Answer {
    daemon.allow(&principal, &Scope::Admin, "session")?;
    let minted = daemon
        .platform
        .mint_session(&principal)
        .map_err(ApiError::internal)?;
    Ok(report(&minted))
}

fn report(minted: &crate::identity::Minted) -> Response {
    Json(NewTokenReport {
        id: minted.id.clone(),
        token: minted.token.expose().to_owned(),
        expires_ms: minted.expires_ms,
    })
    .into_response()
}
