//! Objects on their way back.

use super::compare::own_it;
use super::{AT_ONCE, Description, NAMED, ReplicaError, body_at, describe, folder, hash, hash_of};
use crate::destination::Destination;
use astraler_storage::{
    Announced, CompletePart, Conditions, Incoming, Origin, PutOptions, Store, StoreError, UploadChecksum,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// What a restore of a bucket did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Restored {
    /// Objects that came back.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects that are here, the same or newer.
    pub present: u64,
    /// Objects that could not be brought back.
    pub failed: u64,
    /// Why: of some of them, with their keys.
    pub errors: Vec<String>,
}

enum One {
    Back(u64),
    Present,
}

/// Puts back what the second location holds of a bucket and the bucket does not, or only in an older version. A failure
/// of one object does not keep the others from coming back; it can be called again. When all is back, the replica is this
/// store's own.
pub async fn restore(
    destination: &Destination,
    store: &Store,
    bucket: &str,
    dry_run: bool,
) -> Result<Restored, ReplicaError> {
    let mut restored = Restored::default();
    if !dry_run {
        match store.create_bucket(bucket).await {
            Ok(_) | Err(StoreError::BucketExists(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let descriptions = destination
        .each(&folder(bucket))
        .try_filter(|listed| std::future::ready(hash_of(&listed.key).is_some()));
    let mut each = descriptions
        .map(|listed| async move {
            let at = listed?.key;
            let done = Box::pin(one(destination, store, bucket, &at, dry_run)).await;
            Ok::<_, ReplicaError>((at, done))
        })
        .buffer_unordered(AT_ONCE);
    while let Some((at, done)) = each.try_next().await? {
        match done {
            Ok(One::Back(bytes)) => {
                restored.objects += 1;
                restored.bytes += bytes;
            }
            Ok(One::Present) => restored.present += 1,
            Err(error) => {
                restored.failed += 1;
                if restored.errors.len() < NAMED {
                    restored.errors.push(format!("{at}: {}", chain(&error)));
                }
            }
        }
    }
    if !dry_run && restored.failed == 0 && restored.objects + restored.present > 0 {
        own_it(destination, store, bucket).await?;
    }
    Ok(restored)
}

async fn one(
    destination: &Destination,
    store: &Store,
    bucket: &str,
    at: &str,
    dry_run: bool,
) -> Result<One, ReplicaError> {
    // It was deleted while it was listed.
    let Some(description) = describe(destination, at).await? else {
        return Ok(One::Present);
    };
    match store.head(bucket, &description.key, &Conditions::default()).await {
        Ok(here) if here.version == description.version || here.uploaded_ms >= description.uploaded_ms => {
            return Ok(One::Present);
        }
        Ok(_) | Err(StoreError::NoSuchKey(_) | StoreError::NoSuchBucket(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let size = description.size;
    if dry_run {
        return Ok(One::Back(size));
    }
    let body = body_at(bucket, &hash(&description.key), &description.version);
    match put(destination, store, bucket, &body, description).await {
        Ok(()) => Ok(One::Back(size)),
        // Somebody was faster.
        Err(ReplicaError::Store(StoreError::PreconditionFailed { .. })) => Ok(One::Present),
        Err(error) => Err(error),
    }
}

async fn put(
    destination: &Destination,
    store: &Store,
    bucket: &str,
    body: &str,
    description: Description,
) -> Result<(), ReplicaError> {
    let origin = Origin {
        version: description.version.clone(),
        uploaded_ms: description.uploaded_ms,
    };
    let hasher = Arc::new(Mutex::new(Sha256::new()));
    let key = description.key.as_str();
    if description.parts.is_empty() {
        let pieces = destination.body(body, 0..description.size).await?;
        let options = PutOptions {
            checksums: description.checksums.iter().map(|sum| sum.algorithm).collect(),
            length: Some(description.size),
            origin: Some(origin),
            metadata: description.metadata,
            ..PutOptions::default()
        };
        let body = hashed(pieces, Arc::clone(&hasher), Some(description.sha256));
        store.put(bucket, key, body, options).await?;
        return Ok(());
    }
    let checksum = description.checksums.first().map(|sum| UploadChecksum {
        algorithm: sum.algorithm,
        full: sum.composite.is_none(),
    });
    let upload = store
        .create_upload(bucket, key, description.metadata, checksum)
        .await?;
    let parts = async {
        let mut parts = Vec::with_capacity(description.parts.len());
        let mut from = 0;
        for (number, size) in (1..).zip(&description.parts) {
            let pieces = destination.body(body, from..from + size).await?;
            from += size;
            let last = parts.len() + 1 == description.parts.len();
            let pieces = hashed(
                pieces,
                Arc::clone(&hasher),
                last.then(|| description.sha256.clone()),
            );
            let part = store
                .put_part(
                    bucket,
                    key,
                    &upload,
                    number,
                    pieces,
                    Some(*size),
                    Announced::Nothing,
                    &[],
                )
                .await?;
            parts.push(CompletePart {
                number,
                etag: part.etag,
                checksums: vec![],
            });
        }
        Ok::<_, ReplicaError>(parts)
    };
    let done = match Box::pin(parts).await {
        Ok(parts) => store
            .complete_restored(bucket, key, &upload, parts, origin)
            .await
            .map_err(ReplicaError::Store),
        Err(error) => Err(error),
    };
    if done.is_err() {
        store.abort_upload(bucket, key, &upload).await.ok();
    }
    done.map(|_| ())
}

/// Bytes that are hashed as they pass. At their end an error, unless the hash is what it must be: nothing is stored then.
fn hashed(
    pieces: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    hasher: Arc<Mutex<Sha256>>,
    expected: Option<String>,
) -> Incoming {
    let lock = move |hasher: &Mutex<Sha256>| hasher.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let updated = Arc::clone(&hasher);
    let pieces = pieces.inspect_ok(move |piece| {
        updated
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .update(piece);
    });
    let end = futures_util::stream::once(async move {
        let found = hex::encode(lock(&hasher).finalize());
        match expected {
            Some(expected) if expected != found => Err(io::Error::other(format!(
                "the replica was changed: its SHA-256 is {found}, it was {expected}"
            ))),
            _ => Ok(Bytes::new()),
        }
    });
    Box::pin(pieces.chain(end))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
