//! Buckets, for the daemon on the role's own status socket: `GET /buckets`, `PUT /buckets/NAME`, and `DELETE
//! /buckets/NAME` with everything in it. A bucket that the snapshot names is in use and is never removed.

use astraler_model::DataSnapshot;
use astraler_storage::{ListOptions, Store, StoreError};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::watch;

/// What the answers are made of.
#[derive(Clone)]
pub(crate) struct Buckets {
    pub(crate) store: Store,
    pub(crate) snapshot: watch::Receiver<Arc<DataSnapshot>>,
}

impl Buckets {
    /// `None` when the path is not one of ours.
    pub(crate) async fn answer(&self, method: &Method, path: &str) -> Option<(StatusCode, Value)> {
        let failed = |error: StoreError| {
            tracing::error!(%error, "a question about buckets");
            (
                StatusCode::INTERNAL_SERVER_ERROR,
                json!({ "message": error.to_string() }),
            )
        };
        let name = path
            .strip_prefix("/buckets")
            .filter(|rest| rest.is_empty() || rest.starts_with('/'))?
            .trim_start_matches('/');
        Some(match (method, name) {
            (&Method::GET, "") => match self.store.list_buckets().await {
                Ok(buckets) => {
                    let names: Vec<String> = buckets.into_iter().map(|bucket| bucket.name).collect();
                    (StatusCode::OK, json!(names))
                }
                Err(error) => failed(error),
            },
            (&Method::PUT, name) if !name.is_empty() => match self.store.create_bucket(name).await {
                Ok(_) | Err(StoreError::BucketExists(_)) => (StatusCode::OK, json!({})),
                Err(error) => failed(error),
            },
            (&Method::DELETE, name) if !name.is_empty() => {
                if self.in_use(name) {
                    let message = format!("bucket `{name}` is in use");
                    return Some((StatusCode::CONFLICT, json!({ "message": message })));
                }
                match remove(&self.store, name).await {
                    Ok(objects) => (StatusCode::OK, json!({ "objects": objects })),
                    Err(error) => failed(error),
                }
            }
            _ => (StatusCode::METHOD_NOT_ALLOWED, json!({})),
        })
    }

    fn in_use(&self, name: &str) -> bool {
        self.snapshot
            .borrow()
            .environments
            .values()
            .any(|environment| environment.buckets.values().any(|bucket| bucket == name))
    }
}

/// Empties a bucket page by page and deletes it; returns how many objects went. A bucket that is not there is gone.
async fn remove(store: &Store, name: &str) -> Result<usize, StoreError> {
    let mut gone = 0;
    loop {
        let page = match store.list(name, ListOptions::default()).await {
            Ok(page) => page,
            Err(StoreError::NoSuchBucket(_)) => return Ok(gone),
            Err(error) => return Err(error),
        };
        if page.objects.is_empty() {
            return match store.delete_bucket(name).await {
                Ok(()) | Err(StoreError::NoSuchBucket(_)) => Ok(gone),
                Err(error) => Err(error),
            };
        }
        let keys: Vec<String> = page.objects.into_iter().map(|object| object.key).collect();
        gone += store.delete_many(name, keys).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use astraler_model::{DataEnvironment, Environment};
    use astraler_storage::{PutOptions, StoreOptions, body_of};

    #[tokio::test]
    async fn a_bucket_goes_with_everything_in_it_unless_it_is_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            reserve_bytes: 0,
            ..StoreOptions::default()
        };
        let store = Store::open(folder.path(), options).unwrap();
        for bucket in ["staging--files", "staging--old"] {
            store.create_bucket(bucket).await.unwrap();
            for key in ["a", "b", "c/d"] {
                store
                    .put(bucket, key, body_of("text"), PutOptions::default())
                    .await
                    .unwrap();
            }
        }
        let used = DataEnvironment {
            postgres: None,
            redis: None,
            replication: None,
            s3_credentials: vec![],
            buckets: [("files".to_owned(), "staging--files".to_owned())].into(),
        };
        let snapshot = DataSnapshot {
            environments: [(Environment::Staging, used)].into(),
            ..DataSnapshot::default()
        };
        let (_published, snapshot) = watch::channel(Arc::new(snapshot));
        let buckets = Buckets { store, snapshot };

        let (status, list) = buckets.answer(&Method::GET, "/buckets").await.unwrap();
        assert_eq!(
            (status, list),
            (StatusCode::OK, json!(["staging--files", "staging--old"]))
        );
        let delete = |name: &'static str| {
            let buckets = buckets.clone();
            async move { buckets.answer(&Method::DELETE, name).await.unwrap() }
        };
        let (status, body) = delete("/buckets/staging--files").await;
        assert_eq!(status, StatusCode::CONFLICT, "{body}");
        assert_eq!(
            delete("/buckets/staging--old").await,
            (StatusCode::OK, json!({ "objects": 3 }))
        );
        assert_eq!(
            delete("/buckets/staging--old").await,
            (StatusCode::OK, json!({ "objects": 0 }))
        );
        let (_, list) = buckets.answer(&Method::GET, "/buckets").await.unwrap();
        assert_eq!(list, json!(["staging--files"]));
        for _ in 0..2 {
            let (status, _) = buckets
                .answer(&Method::PUT, "/buckets/staging--new")
                .await
                .unwrap();
            assert_eq!(status, StatusCode::OK, "making twice makes one");
        }
        let (_, list) = buckets.answer(&Method::GET, "/buckets").await.unwrap();
        assert_eq!(list, json!(["staging--files", "staging--new"]));
        assert!(buckets.answer(&Method::GET, "/status").await.is_none());
        assert!(buckets.answer(&Method::GET, "/bucketsful").await.is_none());
    }
}
