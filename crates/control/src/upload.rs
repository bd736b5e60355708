//! Releases come in here: `POST /v1/releases?key=KEY` with a tar of an OCI image layout, and
//! `GET /v1/releases/key/{key}`, which says whether that is needed. The daemon alone writes the folder of releases.

use crate::daemon::Daemon;
use crate::words::chain;
use astraler_release::{Key, limits};
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::StreamExt;
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::io::{self, Read};
use std::sync::Arc;
use tokio::sync::mpsc;

/// The answer: the release that is here now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Received {
    pub(crate) digest: String,
}

/// Pieces of an upload that wait for the disk.
const PIECES_QUEUE: usize = 8;

/// What arrives, for a thread that reads.
struct Pieces {
    received: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.received.blocking_recv() {
                Some(piece) => self.current = piece?,
                None => return Ok(0),
            }
        }
        let piece = self.current.split_to(into.len().min(self.current.len()));
        into[..piece.len()].copy_from_slice(&piece);
        Ok(piece.len())
    }
}

#[derive(Deserialize)]
struct KeyQuery {
    #[serde(default)]
    key: Option<String>,
}

/// The routes.
pub(crate) fn router() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/v1/releases", post(receive))
        .route("/v1/releases/key/{key}", get(find))
}

/// Streamed to disk, bounded by [`limits`], checked against its digests before it takes its place.
async fn receive(State(daemon): State<Arc<Daemon>>, Query(query): Query<KeyQuery>, body: Body) -> Response {
    let key = match query.key.as_deref().map(str::parse::<Key>).transpose() {
        Ok(key) => key,
        Err(error) => return failure(StatusCode::BAD_REQUEST, &error),
    };
    let Ok(_place) = daemon.uploads.acquire().await else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let (pieces, received) = mpsc::channel(PIECES_QUEUE);
    let releases = daemon.platform.releases.clone();
    let importing = tokio::task::spawn_blocking(move || {
        let release = releases.import(Pieces {
            received,
            current: Bytes::new(),
        })?;
        if let Some(key) = key {
            releases.set_key(&release.digest, &key)?;
        }
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(release.digest)
    });
    let limit = usize::try_from(limits::ARCHIVE_BYTES).unwrap_or(usize::MAX);
    let mut body = http_body_util::Limited::new(body, limit).into_data_stream();
    while let Some(piece) = body.next().await {
        // Nobody reads on when the import has refused what it saw; its answer says why.
        if pieces.send(piece.map_err(io::Error::other)).await.is_err() {
            break;
        }
    }
    drop(pieces);
    let imported = importing.await;
    match imported {
        Ok(Ok(digest)) => Json(Received { digest }).into_response(),
        Ok(Err(error)) => failure(StatusCode::UNPROCESSABLE_ENTITY, error.as_ref()),
        Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, &error),
    }
}

async fn find(State(daemon): State<Arc<Daemon>>, Path(key): Path<String>) -> Response {
    let key = match key.parse::<Key>() {
        Ok(key) => key,
        Err(error) => return failure(StatusCode::BAD_REQUEST, &error),
    };
    let releases = daemon.platform.releases.clone();
    let wanted = key.clone();
    let looked = tokio::task::spawn_blocking(move || {
        let found = releases.find_by_key(&wanted)?;
        // What was changed since it was stored is not known: it is built and uploaded again, which mends it.
        Ok::<_, astraler_release::StoreError>(found.filter(|digest| releases.verify(digest).is_ok()))
    });
    let found = match looked.await {
        Ok(found) => found,
        Err(error) => return failure(StatusCode::INTERNAL_SERVER_ERROR, &error),
    };
    match found {
        Ok(Some(digest)) => Json(Received { digest }).into_response(),
        Ok(None) => {
            let message = json!({ "message": format!("no release was built from {key}") });
            (StatusCode::NOT_FOUND, Json(message)).into_response()
        }
        Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, &error),
    }
}

fn failure(status: StatusCode, error: &dyn std::error::Error) -> Response {
    (status, Json(json!({ "message": chain(error) }))).into_response()
}
