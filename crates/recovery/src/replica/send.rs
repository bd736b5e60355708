//! One change on its way to the second location.

use super::{Description, ReplicaError, body_at, describe, description_at, hash};
use crate::destination::{Destination, DestinationError};
use astraler_storage::{Change, GetOptions, Store, StoreError};
use bytes::Bytes;

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// The object went there, with so many bytes.
    Object(u64),
    /// It was there already.
    Present,
    /// It was deleted there.
    Deleted,
}

/// Makes the second location hold what the key holds now. Ended at any moment, it is done again as if for the first time:
/// what it was about to leave there is written down with the change.
pub async fn send(destination: &Destination, store: &Store, change: &Change) -> Result<Sent, ReplicaError> {
    let (bucket, hash) = (&change.bucket, hash(&change.key));
    let at = description_at(bucket, &hash);
    let there = match describe(destination, &at).await {
        Ok(there) => there.map(|there| there.version),
        // Whatever that is, it is written anew.
        Err(ReplicaError::Form { .. } | ReplicaError::Destination(DestinationError::Damaged { .. })) => None,
        Err(error) => return Err(error),
    };
    let bodies = |versions: &[&String]| -> Vec<String> {
        let each = versions.iter().map(|version| body_at(bucket, &hash, version));
        each.collect()
    };
    let read = match store.get(bucket, &change.key, GetOptions::default()).await {
        Ok(read) => read,
        Err(StoreError::NoSuchKey(_) | StoreError::NoSuchBucket(_)) => {
            let mut known = change.sent.clone();
            known.extend(there.filter(|there| !change.sent.contains(there)));
            store.change_sends(change, &known).await?;
            destination.delete_whole(&[at]).await?;
            destination
                .delete_whole(&bodies(&known.iter().collect::<Vec<_>>()))
                .await?;
            return Ok(Sent::Deleted);
        }
        Err(error) => return Err(error.into()),
    };
    let version = read.info.version.clone();
    // What earlier tries have left, and nothing names.
    let counts = |sent: &&String| there.as_ref() == Some(*sent) || **sent == version;
    let left: Vec<&String> = change.sent.iter().filter(|sent| !counts(sent)).collect();
    destination.delete_whole(&bodies(&left)).await?;
    let body = body_at(bucket, &hash, &version);
    let others: Vec<&String> = change
        .sent
        .iter()
        .chain(&there)
        .filter(|sent| **sent != version)
        .collect();
    if there.as_ref() == Some(&version) && destination.size(&body).await? == Some(read.info.size) {
        destination.delete_whole(&bodies(&others)).await?;
        return Ok(Sent::Present);
    }
    let mut about = vec![version.clone()];
    about.extend(there.iter().filter(|there| **there != version).cloned());
    store.change_sends(change, &about).await?;
    let size = read.info.size;
    let sha256 = destination.put_body(&body, size, read.body).await?;
    let description = Description::of(read.info, read.parts, sha256);
    let json = serde_json::to_vec_pretty(&description).map_err(|source| ReplicaError::Form {
        key: at.clone(),
        source,
    })?;
    destination.put_again(&at, Bytes::from(json)).await?;
    destination.delete_whole(&bodies(&others)).await?;
    Ok(Sent::Object(size))
}
