//! Whose replica lies at the second location, and what it holds that the bucket does not.

use super::{MAX_DESCRIPTION_BYTES, ReplicaError, describe, folder, hash, hash_of};
use crate::destination::{Destination, DestinationError};
use astraler_storage::{ListOptions, Replica, Store, StoreError};
use bytes::Bytes;
use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};

/// Pages of a listing at most: ten million objects.
const MAX_PAGES: usize = 10_000;

#[derive(Serialize, Deserialize)]
struct Owner {
    store: String,
}

fn owner_at(bucket: &str) -> String {
    format!("{}/owner.json", folder(bucket))
}

/// Makes sure that what lies at the second location is this store's own; an empty one becomes it. A store that was made
/// anew, with the same names, must not write over the copy that it is to be brought back from.
pub async fn claim(destination: &Destination, store: &Store, bucket: &str) -> Result<(), ReplicaError> {
    let own = store.identity().await?;
    let at = owner_at(bucket);
    let owner = match destination.read(&at, MAX_DESCRIPTION_BYTES).await {
        Ok(bytes) => {
            Some(serde_json::from_slice::<Owner>(&bytes).map_or_else(|_| String::new(), |owner| owner.store))
        }
        Err(DestinationError::Missing { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let free = match owner {
        Some(owner) if owner == own => return Ok(()),
        Some(_) => false,
        None => destination.each(&folder(bucket)).try_next().await?.is_none(),
    };
    match free {
        true => own_it(destination, store, bucket).await,
        false => Err(ReplicaError::Foreign {
            url: destination.url().to_owned(),
            bucket: bucket.to_owned(),
        }),
    }
}

/// From now on it is this store's.
pub(super) async fn own_it(
    destination: &Destination,
    store: &Store,
    bucket: &str,
) -> Result<(), ReplicaError> {
    let at = owner_at(bucket);
    let owner = Owner {
        store: store.identity().await?,
    };
    let json = serde_json::to_vec(&owner).map_err(|source| ReplicaError::Form {
        key: at.clone(),
        source,
    })?;
    destination.put(&at, Bytes::from(json)).await?;
    Ok(())
}

/// Queues what the second location holds and the bucket does not: deletions that were not seen, because the bucket was not
/// replicated for a while. Eight bytes of each key are in memory meanwhile. Returns how many there were.
pub async fn compare(
    destination: &Destination,
    store: &Store,
    replica: &Replica,
) -> Result<usize, ReplicaError> {
    let bucket = &replica.bucket;
    let mut present = hashes(store, bucket).await?;
    present.sort_unstable();
    let mut queued = 0;
    let mut listed = destination.each(&folder(bucket));
    while let Some(found) = listed.try_next().await? {
        let Some(hash) = hash_of(&found.key) else {
            continue;
        };
        if present.binary_search(&short(hash)).is_ok() {
            continue;
        }
        match describe(destination, &found.key).await {
            Ok(Some(gone)) => {
                store.queue_change(bucket, &gone.key).await?;
                queued += 1;
            }
            // Not ours, or changed: whatever key it was of, it brings nothing back.
            Ok(None)
            | Err(ReplicaError::Form { .. } | ReplicaError::Destination(DestinationError::Damaged { .. })) => {
            }
            Err(error) => return Err(error),
        }
    }
    store.replica_compared(replica).await?;
    Ok(queued)
}

async fn hashes(store: &Store, bucket: &str) -> Result<Vec<u64>, ReplicaError> {
    let mut hashes = Vec::new();
    let mut options = ListOptions::default();
    for _ in 0..MAX_PAGES {
        let page = match store.list(bucket, options.clone()).await {
            Ok(page) => page,
            Err(StoreError::NoSuchBucket(_)) => break,
            Err(error) => return Err(error.into()),
        };
        hashes.extend(page.objects.iter().map(|object| short(&hash(&object.key))));
        options.cursor = page.cursor;
        if options.cursor.is_none() {
            break;
        }
    }
    Ok(hashes)
}

fn short(hash: &str) -> u64 {
    u64::from_str_radix(hash.get(..16).unwrap_or_default(), 16).unwrap_or_default()
}
