//! Releases over the admin API: look at them, check them, take one along.
//!
//! - `GET /v1/releases`
//! - `GET /v1/releases/{digest}`
//! - `GET /v1/releases/{digest}/verify`
//! - `GET /v1/releases/{digest}/archive` → a tar of an OCI image layout
//!
//! A digest may be short: its first four or more hex digits, as long as only one release begins like this.

use crate::daemon::Daemon;
use crate::words::chain;
use astraler_release::{Description, OpenError, Releases, ResolveError, Stored, VerifyError};
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::io::{self, Write};
use std::sync::Arc;
use tokio::sync::mpsc;

/// One release as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseSummary {
    /// What the folder of releases knows.
    #[serde(flatten)]
    pub stored: Stored,
    /// The environments that run it now; not known while the platform is not up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environments: Option<Vec<String>>,
}

/// A release that was checked: every blob against its digest, every file against its layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// Its digest.
    pub digest: String,
    /// Files that were compared.
    pub files: usize,
}

/// Why something about a release cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// Which release is meant is not clear.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It is not what it was.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The folder cannot be read.
    #[error(transparent)]
    Store(#[from] astraler_release::StoreError),
}

impl ReleaseError {
    /// The HTTP status: 404 unknown, 400 not one digest, [`DAMAGED`] changed since it was stored.
    fn status(&self) -> StatusCode {
        match self {
            Self::Resolve(ResolveError::Unknown { .. }) | Self::Open(OpenError::Unknown { .. }) => {
                StatusCode::NOT_FOUND
            }
            Self::Resolve(ResolveError::NotADigest { .. } | ResolveError::Ambiguous { .. }) => {
                StatusCode::BAD_REQUEST
            }
            _ if self.is_damage() => StatusCode::UNPROCESSABLE_ENTITY,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// There is no such release.
    pub fn is_unknown(&self) -> bool {
        match self {
            Self::Resolve(ResolveError::Unknown { .. }) => true,
            Self::Open(error) | Self::Verify(VerifyError::Open(error)) => {
                matches!(error, OpenError::Unknown { .. })
            }
            _ => false,
        }
    }

    /// The release is not what its digest says.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Open(error) | Self::Verify(VerifyError::Open(error)) => {
                !matches!(error, OpenError::Unknown { .. } | OpenError::Store(_))
            }
            Self::Verify(_) => true,
            Self::Resolve(_) | Self::Store(_) => false,
        }
    }
}

/// The status of an answer about a release that is not what its digest says.
pub const DAMAGED: u16 = 422;

/// Pieces of an archive that wait for a slow reader.
const ARCHIVE_QUEUE: usize = 8;
const ARCHIVE_PIECE: usize = 64 << 10;

/// The routes.
pub(crate) fn router() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/v1/releases", get(list))
        .route("/v1/releases/{digest}", get(show))
        .route("/v1/releases/{digest}/verify", get(verify))
        .route("/v1/releases/{digest}/archive", get(archive))
}

/// Describes the release that a digest, or its beginning, names.
pub fn describe_release(releases: &Releases, digest: &str) -> Result<Description, ReleaseError> {
    Ok(releases.describe(&releases.resolve(digest)?)?)
}

/// Checks every byte of the release that a digest, or its beginning, names.
pub fn verify_release(releases: &Releases, digest: &str) -> Result<Verified, ReleaseError> {
    let release = releases.verify(&releases.resolve(digest)?)?;
    Ok(Verified {
        digest: release.digest,
        files: release.manifest.files.len() + 1,
    })
}

async fn list(State(daemon): State<Arc<Daemon>>) -> Response {
    let live = match daemon.platform.live() {
        Ok(live) => live,
        Err(error) => {
            let message = json!({ "message": chain(&error) });
            return (StatusCode::INTERNAL_SERVER_ERROR, Json(message)).into_response();
        }
    };
    answer(daemon, move |releases| {
        let summaries = releases.list()?.into_iter().map(|stored| {
            let running = live
                .iter()
                .filter(|(_, (_, application))| application.release == stored.digest)
                .map(|(environment, _)| environment.to_string());
            ReleaseSummary {
                environments: Some(running.collect()),
                stored,
            }
        });
        Ok(summaries.collect::<Vec<_>>())
    })
    .await
}

async fn show(State(daemon): State<Arc<Daemon>>, Path(digest): Path<String>) -> Response {
    answer(daemon, move |releases| describe_release(releases, &digest)).await
}

async fn verify(State(daemon): State<Arc<Daemon>>, Path(digest): Path<String>) -> Response {
    answer(daemon, move |releases| verify_release(releases, &digest)).await
}

/// A damaged release is refused before the first byte.
async fn archive(State(daemon): State<Arc<Daemon>>, Path(digest): Path<String>) -> Response {
    let releases = Releases::at(daemon.platform.installation.layout.releases());
    let checked = {
        let releases = releases.clone();
        tokio::task::spawn_blocking(move || verify_release(&releases, &digest)).await
    };
    let verified = match checked {
        Ok(Ok(verified)) => verified,
        Ok(Err(error)) => return failure(&error),
        Err(error) => return broken(&error),
    };
    let (pieces, received) = mpsc::channel::<io::Result<Bytes>>(ARCHIVE_QUEUE);
    tokio::task::spawn_blocking(move || {
        let pipe = io::BufWriter::with_capacity(ARCHIVE_PIECE, Pipe(pieces.clone()));
        if let Err(error) = releases.export(&verified.digest, pipe) {
            // The connection breaks off, so that its reader knows.
            tracing::warn!(error = chain(&error), "an archive that was under way");
            pieces.blocking_send(Err(io::Error::other(error))).ok();
        }
    });
    let body = stream::unfold(received, |mut received| async move {
        let piece = received.recv().await?;
        Some((piece, received))
    });
    (
        [(header::CONTENT_TYPE, "application/x-tar")],
        Body::from_stream(body),
    )
        .into_response()
}

/// Writes into a bounded queue; fails when nobody reads it any more.
struct Pipe(mpsc::Sender<io::Result<Bytes>>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = Bytes::copy_from_slice(bytes);
        self.0
            .blocking_send(Ok(piece))
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads files on a thread for that, and answers with JSON.
async fn answer<T: Serialize + Send + 'static>(
    daemon: Arc<Daemon>,
    work: impl FnOnce(&Releases) -> Result<T, ReleaseError> + Send + 'static,
) -> Response {
    let done = tokio::task::spawn_blocking(move || {
        let releases = Releases::at(daemon.platform.installation.layout.releases());
        work(&releases)
    });
    match done.await {
        Ok(Ok(value)) => Json(value).into_response(),
        Ok(Err(error)) => failure(&error),
        Err(error) => broken(&error),
    }
}

fn failure(error: &ReleaseError) -> Response {
    (error.status(), Json(json!({ "message": chain(error) }))).into_response()
}

fn broken(error: &tokio::task::JoinError) -> Response {
    let message = json!({ "message": chain(error) });
    (StatusCode::INTERNAL_SERVER_ERROR, Json(message)).into_response()
}
