//! The data role in this process, and a second S3 service beside it.

use astraler_dataplane::data::replication::{Answers, Standings, run};
use astraler_model::ReplicationStanding;
use astraler_model::{
    BucketGrant, DataEnvironment, DataSnapshot, Environment, ReplicationTarget, S3Credential,
};
use astraler_storage::{Metadata, ObjectInfo, PutOptions, Store, StoreError, StoreOptions, body_of, s3};
use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const KEY_ID: &str = "replica-writer";
pub(crate) const SECRET: &str = "canary-of-the-replica";
/// The bucket in the store that is replicated.
pub(crate) const FILES: &str = "production--files";
const FAR: &str = "far";

/// A second S3 service: another store on a port of this process.
pub(crate) struct Far {
    pub(crate) port: u16,
    pub(crate) store: Store,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Far {
    /// On a free port, or on the one where it was before.
    pub(crate) async fn start(folder: &Path, port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let store = open(folder);
        store.create_bucket(FAR).await.ok();
        let (stop, stopped) = oneshot::channel::<()>();
        let (served, own) = (store.clone(), Arc::new(far_snapshot()));
        let task = tokio::spawn(async move {
            let (_kept, source) = watch::channel(own);
            let shutdown = async {
                stopped.await.ok();
            };
            s3::serve(listener, served.clone(), source, shutdown).await;
            served.close().await;
        });
        Self {
            port,
            store,
            stop,
            task,
        }
    }

    pub(crate) async fn end(self) {
        let Self {
            store, stop, task, ..
        } = self;
        drop(store);
        stop.send(()).ok();
        task.await.unwrap();
    }
}

fn far_snapshot() -> DataSnapshot {
    let credential = S3Credential {
        access_key_id: KEY_ID.into(),
        secret_access_key: SECRET.into(),
        buckets: vec![BucketGrant {
            bucket: FAR.into(),
            write: true,
        }],
    };
    let environment = DataEnvironment {
        postgres: None,
        redis: None,
        buckets: BTreeMap::from([(FAR.to_owned(), FAR.to_owned())]),
        replication: None,
        s3_credentials: vec![credential],
    };
    DataSnapshot {
        environments: BTreeMap::from([(Environment::Production, environment)]),
        ..DataSnapshot::default()
    }
}

pub(crate) fn open(folder: &Path) -> Store {
    let options = StoreOptions {
        reserve_bytes: 0,
        ..StoreOptions::default()
    };
    Store::open(folder, options).unwrap()
}

pub(crate) fn credentials(path: &Path, mode: u32) {
    std::fs::remove_file(path).ok();
    let mut file = std::fs::File::options()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .unwrap();
    let text = format!("AWS_ACCESS_KEY_ID={KEY_ID}\nAWS_SECRET_ACCESS_KEY={SECRET}\n");
    std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

pub(crate) fn to_far(port: u16, credentials_file: &Path) -> ReplicationTarget {
    ReplicationTarget {
        url: format!("s3://{FAR}/team"),
        endpoint: Some(format!("http://127.0.0.1:{port}")),
        credentials_file: Some(credentials_file.to_owned()),
        name: "shop".into(),
        allow_same_device: true,
    }
}

pub(crate) fn to_folder(folder: &Path) -> ReplicationTarget {
    ReplicationTarget {
        url: format!("file://{}", folder.display()),
        endpoint: None,
        credentials_file: None,
        name: "shop".into(),
        allow_same_device: true,
    }
}

pub(crate) fn snapshot(version: u64, target: Option<ReplicationTarget>) -> Arc<DataSnapshot> {
    let environment = DataEnvironment {
        postgres: None,
        redis: None,
        buckets: BTreeMap::from([("files".to_owned(), FILES.to_owned())]),
        replication: target,
        s3_credentials: vec![],
    };
    Arc::new(DataSnapshot {
        version,
        environments: BTreeMap::from([(Environment::Production, environment)]),
        ..DataSnapshot::default()
    })
}

/// What the role does for replication, around a store that the test holds.
pub(crate) struct Role {
    pub(crate) store: Store,
    pub(crate) published: watch::Sender<Arc<DataSnapshot>>,
    answers: Answers,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Role {
    pub(crate) async fn start(storage: &Path, target: Option<ReplicationTarget>) -> Self {
        let store = open(storage);
        store.create_bucket(FILES).await.ok();
        let (published, source) = watch::channel(snapshot(1, target));
        let standings = Standings::default();
        let stop = CancellationToken::new();
        let answers = Answers::new(store.clone(), source.clone(), standings.clone());
        let task = tokio::spawn(run(store.clone(), source, standings, stop.clone()));
        Self {
            store,
            published,
            answers,
            stop,
            task,
        }
    }

    pub(crate) async fn end(self) {
        let Self {
            store,
            answers,
            stop,
            task,
            ..
        } = self;
        stop.cancel();
        task.await.unwrap();
        drop(answers);
        store.close().await;
    }

    pub(crate) async fn ask(&self, method: &str, path: &str) -> (u16, Value) {
        let method = method.parse().unwrap();
        let (status, body) = self
            .answers
            .answer(&method, &path.parse().unwrap())
            .await
            .unwrap();
        (status.as_u16(), body)
    }

    pub(crate) async fn standing(&self) -> ReplicationStanding {
        let (status, all) = self.ask("GET", "/replication").await;
        assert_eq!(status, 200, "{all}");
        let mut all: Vec<ReplicationStanding> = serde_json::from_value(all).unwrap();
        all.remove(0)
    }

    /// Until nothing waits.
    pub(crate) async fn settled(&self) {
        self.until("nothing waits", |now| {
            now.waiting == 0 && now.error.is_none() && now.last_ms.is_some()
        })
        .await;
    }

    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&ReplicationStanding) -> bool) {
        let began = Instant::now();
        loop {
            let now = self.standing().await;
            if holds(&now) {
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "{what}: {now:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Bytes that nothing reproduces by accident.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

pub(crate) async fn put(store: &Store, key: &str, bytes: Vec<u8>) -> ObjectInfo {
    let metadata = Metadata {
        custom: vec![("of".into(), key.chars().take(20).collect())],
        ..Metadata::default()
    };
    let options = PutOptions {
        metadata,
        ..PutOptions::default()
    };
    store.put(FILES, key, body_of(bytes), options).await.unwrap()
}

/// Everything of the bucket: what describes it, and its bytes.
pub(crate) async fn all(store: &Store) -> BTreeMap<String, (ObjectInfo, Vec<u8>)> {
    let mut all = BTreeMap::new();
    let page = match store.list(FILES, Default::default()).await {
        Ok(page) => page,
        Err(StoreError::NoSuchBucket(_)) => return all,
        Err(error) => panic!("{error:?}"),
    };
    for object in page.objects {
        let read = store.get(FILES, &object.key, Default::default()).await.unwrap();
        all.insert(object.key, (read.info, read.body.collect().await.unwrap()));
    }
    all
}

/// Names at the second location: descriptions and bodies.
pub(crate) fn names(listed: impl IntoIterator<Item = String>) -> (usize, usize) {
    let names: Vec<String> = listed
        .into_iter()
        .filter(|name| !name.ends_with("owner.json"))
        .collect();
    let descriptions = names.iter().filter(|name| name.ends_with(".json")).count();
    (descriptions, names.len() - descriptions)
}

pub(crate) fn files_below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files_below(&path)),
            false => found.push(path.display().to_string()),
        }
    }
    found
}

pub(crate) async fn far_keys(store: &Store) -> Vec<String> {
    let page = store.list(FAR, Default::default()).await.unwrap();
    page.objects.into_iter().map(|object| object.key).collect()
}
