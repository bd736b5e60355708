//! A second S3 service: our own store on a port of the test's process, as far away as the platform can tell.

use astraler_model::{BucketGrant, DataEnvironment, DataSnapshot, Environment, S3Credential};
use astraler_storage::{Store, StoreOptions, s3};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::{oneshot, watch};

pub(super) const BUCKET: &str = "backups";
pub(super) const KEY_ID: &str = "backup-writer";
pub(super) const SECRET: &str = "canary-of-the-backup-destination";

/// Serves one bucket until it is dropped.
pub(super) struct Bucket {
    pub(super) port: u16,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Bucket {
    /// On a free port, or on the one where it was before.
    pub(super) fn start(folder: &Path, port: u16) -> Self {
        let listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (stop, stopped) = oneshot::channel::<()>();
        let folder = folder.to_owned();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let options = StoreOptions {
                    reserve_bytes: 0,
                    ..StoreOptions::default()
                };
                let store = Store::open(&folder, options).unwrap();
                // It is there already when the service comes back.
                store.create_bucket(BUCKET).await.ok();
                let (_snapshot, source) = watch::channel(Arc::new(snapshot()));
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let shutdown = async {
                    stopped.await.ok();
                };
                s3::serve(listener, store.clone(), source, shutdown).await;
                store.close().await;
            });
        });
        Self {
            port,
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        self.stop.take().map(|stop| stop.send(()));
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn snapshot() -> DataSnapshot {
    let grant = BucketGrant {
        bucket: BUCKET.into(),
        write: true,
    };
    let environment = DataEnvironment {
        postgres: None,
        redis: None,
        buckets: BTreeMap::from([(BUCKET.to_owned(), BUCKET.to_owned())]),
        replication: None,
        s3_credentials: vec![S3Credential {
            access_key_id: KEY_ID.into(),
            secret_access_key: SECRET.into(),
            buckets: vec![grant],
        }],
    };
    DataSnapshot {
        environments: BTreeMap::from([(Environment::Production, environment)]),
        ..DataSnapshot::default()
    }
}
