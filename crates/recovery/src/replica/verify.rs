//! Whether the second location holds what the bucket holds.

use super::{AT_ONCE, Description, NAMED, ReplicaError, body_at, describe, description_at, hash};
use crate::destination::{Destination, DestinationError};
use astraler_storage::{GetOptions, ListOptions, ObjectInfo, Store, StoreError};
use futures_util::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Pages of a listing at most: ten million objects.
const MAX_PAGES: usize = 10_000;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Verified {
    /// Objects whose copy was read and is good.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects that changed a moment ago and wait to be sent.
    pub waiting: u64,
    /// Objects whose copy is missing or was changed. They are sent anew.
    pub damaged: u64,
    /// What is wrong: of some of them, with their keys.
    pub errors: Vec<String>,
}

/// What is wrong with a copy; nothing when it is good.
enum Found {
    Good(u64),
    Waiting,
    Damaged(String),
}

/// Reads copies back and compares them with the bucket: every `every`th object, all when that is one. What is damaged is
/// queued, so that it is sent anew.
pub async fn verify(
    destination: &Destination,
    store: &Store,
    bucket: &str,
    every: usize,
) -> Result<Verified, ReplicaError> {
    let mut verified = Verified::default();
    let mut options = ListOptions::default();
    let mut seen = 0;
    for _ in 0..MAX_PAGES {
        let page = match store.list(bucket, options.clone()).await {
            Ok(page) => page,
            Err(StoreError::NoSuchBucket(_)) => break,
            Err(error) => return Err(error.into()),
        };
        let from = seen;
        seen += page.objects.len();
        let chosen: Vec<ObjectInfo> = (from..)
            .zip(page.objects)
            .filter(|(at, _)| at % every.max(1) == 0)
            .map(|(_, object)| object)
            .collect();
        let mut each = futures_util::stream::iter(chosen)
            .map(|object| async move {
                let found = Box::pin(look(destination, store, bucket, &object)).await?;
                Ok::<_, ReplicaError>((object.key, found))
            })
            .buffer_unordered(AT_ONCE);
        while let Some((key, found)) = each.try_next().await? {
            match found {
                Found::Good(bytes) => {
                    verified.objects += 1;
                    verified.bytes += bytes;
                }
                Found::Waiting => verified.waiting += 1,
                Found::Damaged(what) => {
                    mend(destination, store, bucket, &key).await?;
                    verified.damaged += 1;
                    if verified.errors.len() < NAMED {
                        verified.errors.push(format!("{key}: {what}"));
                    }
                }
            }
        }
        options.cursor = page.cursor;
        if options.cursor.is_none() {
            break;
        }
    }
    Ok(verified)
}

async fn look(
    destination: &Destination,
    store: &Store,
    bucket: &str,
    object: &ObjectInfo,
) -> Result<Found, ReplicaError> {
    match judge(destination, store, bucket, object).await? {
        Found::Damaged(_) => {}
        other => return Ok(other),
    }
    // What waits differs of course, and so does what changed since it was listed. What was sent just now is looked at
    // again.
    if store.waits(bucket, &object.key).await? || !is_current(store, bucket, object).await? {
        return Ok(Found::Waiting);
    }
    judge(destination, store, bucket, object).await
}

async fn is_current(store: &Store, bucket: &str, object: &ObjectInfo) -> Result<bool, ReplicaError> {
    match store.head(bucket, &object.key, &Default::default()).await {
        Ok(now) => Ok(now.version == object.version),
        Err(StoreError::NoSuchKey(_) | StoreError::NoSuchBucket(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

async fn judge(
    destination: &Destination,
    store: &Store,
    bucket: &str,
    object: &ObjectInfo,
) -> Result<Found, ReplicaError> {
    let hash = hash(&object.key);
    let there = match describe(destination, &description_at(bucket, &hash)).await {
        Ok(Some(there)) => there,
        Ok(None) => return Ok(Found::Damaged("it is not there".to_owned())),
        Err(ReplicaError::Form { .. } | ReplicaError::Destination(DestinationError::Damaged { .. })) => {
            return Ok(Found::Damaged("its description cannot be read".to_owned()));
        }
        Err(error) => return Err(error),
    };
    let read = match store.get(bucket, &object.key, GetOptions::default()).await {
        Ok(read) => read,
        Err(StoreError::NoSuchKey(_) | StoreError::NoSuchBucket(_)) => return Ok(Found::Waiting),
        Err(error) => return Err(error.into()),
    };
    // What the bucket itself holds is what counts: who can change a copy can change the words beside it too.
    let mut hasher = Sha256::new();
    let mut body = read.body;
    while let Some(piece) = body.try_next().await.map_err(|source| DestinationError::File {
        path: object.key.clone().into(),
        source,
    })? {
        hasher.update(&piece);
    }
    let sha256 = hex::encode(hasher.finalize());
    let size = read.info.size;
    let expected = Description::of(read.info, read.parts, sha256.clone());
    if there.version != expected.version {
        return Ok(Found::Damaged("it is another version".to_owned()));
    }
    if there != expected {
        return Ok(Found::Damaged("its description was changed".to_owned()));
    }
    let at = body_at(bucket, &hash, &expected.version);
    match destination.fetch(&at, &sha256, None).await {
        Ok(_) => Ok(Found::Good(size)),
        Err(DestinationError::Damaged { reason, .. }) => Ok(Found::Damaged(reason)),
        Err(DestinationError::Missing { .. }) => Ok(Found::Damaged("its body is not there".to_owned())),
        Err(error) => Err(error.into()),
    }
}

/// Without its description an object does not exist there, so that it is sent whole.
async fn mend(destination: &Destination, store: &Store, bucket: &str, key: &str) -> Result<(), ReplicaError> {
    destination.delete(&[description_at(bucket, &hash(key))]).await?;
    match store.queue_change(bucket, key).await {
        Ok(()) | Err(StoreError::NoSuchBucket(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
