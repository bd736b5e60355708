//! Releases come in here: `POST /v1/releases?key=KEY` with a tar of an OCI image layout, and
//! `GET /v1/releases/key/{key}`, which says whether that is needed. The daemon alone writes the folder of releases.

use crate::admin::ApiError;
use crate::daemon::Daemon;
use crate::words::chain;
use astraler_release::{Key, ParseKeyError, limits};
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::StreamExt;
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
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
pub(crate) struct KeyQuery {
    #[serde(default)]
    pub(crate) key: Option<String>,
}

/// The routes.
pub(crate) fn router() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/v1/releases", post(receive))
        .route("/v1/releases/key/{key}", get(find))
}

async fn receive(
    State(daemon): State<Arc<Daemon>>,
    Query(query): Query<KeyQuery>,
    body: Body,
) -> Result<Json<Received>, ApiError> {
    let key = query.key.as_deref().map(str::parse).transpose();
    let digest = take(&daemon, key.map_err(bad_key)?, body).await?;
    Ok(Json(Received { digest }))
}

async fn find(
    State(daemon): State<Arc<Daemon>>,
    Path(key): Path<String>,
) -> Result<Json<Received>, ApiError> {
    let digest = look(&daemon, key.parse().map_err(bad_key)?).await?;
    Ok(Json(Received { digest }))
}

fn bad_key(error: ParseKeyError) -> ApiError {
    ApiError::bad_request(error)
}

/// Takes a release in, under a key where there is one: streamed to disk, bounded by [`limits`], checked against its
/// digests before it takes its place.
pub(crate) async fn take(daemon: &Daemon, key: Option<Key>, body: Body) -> Result<String, ApiError> {
    let _place = daemon.uploads.acquire().await.map_err(ApiError::internal)?;
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
    let imported = importing.await.map_err(ApiError::internal)?;
    imported.map_err(|error| ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, chain(error.as_ref())))
}

/// The release that was built from what the key stands for.
pub(crate) async fn look(daemon: &Daemon, key: Key) -> Result<String, ApiError> {
    let releases = daemon.platform.releases.clone();
    let wanted = key.clone();
    let looked = tokio::task::spawn_blocking(move || {
        let found = releases.find_by_key(&wanted)?;
        // What was changed since it was stored is not known: it is built and uploaded again, which mends it.
        Ok::<_, astraler_release::StoreError>(found.filter(|digest| releases.verify(digest).is_ok()))
    });
    let found = looked.await.map_err(ApiError::internal)?;
    let found = found
        .map_err(ApiError::internal)?
        .ok_or_else(|| ApiError::new(StatusCode::NOT_FOUND, format!("no release was built from {key}")))?;
    daemon.wanted.note(&found).await;
    Ok(found)
}
