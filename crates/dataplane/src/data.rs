//! The `data` role: the session pool, Redis REST, S3 and the workers' bindings, over one snapshot of
//! credentials; and what goes from the buckets to a second location.

mod bindings;
pub(crate) mod buckets;
pub mod replication;

use crate::status::{self, RoleStatus};
use astraler_model::DataSnapshot;
use astraler_storage::{Store, StoreError};
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What the role runs with.
pub struct Config {
    /// Native bindings of workerd (R2), HTTP.
    pub bindings: UnixListener,
    /// PostgreSQL's protocol for the workers' Hyperdrive.
    pub hyperdrive: UnixListener,
    /// Upstash REST for `egress`.
    pub rest: UnixListener,
    /// Upstash REST on loopback.
    pub rest_tcp: TcpListener,
    /// S3 on loopback.
    pub s3: TcpListener,
    /// Status.
    pub status: UnixListener,
    /// Folder of the object store.
    pub storage: PathBuf,
    /// What the daemon published last.
    pub snapshot: watch::Receiver<Arc<DataSnapshot>>,
}

/// Serves until `shutdown`, then finishes what is under way for at most ten seconds.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), StoreError> {
    let store = Store::open(&config.storage, astraler_storage::StoreOptions::default())?;
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();

    tasks.spawn(keep_buckets(store.clone(), config.snapshot.clone(), stop.clone()));
    let limits = astraler_postgres::pool::PoolLimits::default();
    let pool = Arc::new(astraler_postgres::pool::Pool::new(
        config.snapshot.clone(),
        limits,
    ));
    tasks.spawn(Arc::clone(&pool).serve(config.hyperdrive, stop.clone()));
    let s3_stop = stop.clone();
    let s3_store = store.clone();
    let s3_source = config.snapshot.clone();
    tasks.spawn(async move {
        astraler_storage::s3::serve(config.s3, s3_store, s3_source, s3_stop.cancelled_owned()).await;
    });
    let rest = Arc::new(astraler_redis::rest::Service::new(config.snapshot.clone()));
    tasks.spawn(bindings::serve_rest(
        bindings::Incoming::Unix(config.rest),
        Arc::clone(&rest),
        stop.clone(),
    ));
    tasks.spawn(bindings::serve_rest(
        bindings::Incoming::Tcp(config.rest_tcp),
        rest,
        stop.clone(),
    ));
    tasks.spawn(bindings::serve_bindings(
        config.bindings,
        store.clone(),
        config.snapshot.clone(),
        stop.clone(),
    ));

    let buckets = buckets::Buckets {
        store: store.clone(),
        snapshot: config.snapshot.clone(),
    };
    let standings = replication::Standings::default();
    tasks.spawn(replication::run(
        store.clone(),
        config.snapshot.clone(),
        standings.clone(),
        stop.clone(),
    ));
    let replicas = replication::Answers::new(store.clone(), config.snapshot.clone(), standings);
    let further: status::Further = Arc::new(move |method, uri| {
        let (buckets, replicas) = (buckets.clone(), replicas.clone());
        Box::pin(async move {
            let answered = match buckets.answer(&method, uri.path()).await {
                Some(answered) => Some(answered),
                None => replicas.answer(&method, &uri).await,
            };
            let (status, body) = answered?;
            Some((status, body.to_string().into_bytes()))
        })
    });
    let seen = config.snapshot.clone();
    tokio::spawn(status::serve(
        config.status,
        Arc::new(move || RoleStatus {
            role: "data".into(),
            snapshot_version: seen.borrow().version,
            pid: std::process::id(),
            connections: pool
                .stats()
                .into_iter()
                .map(|(environment, stats)| (environment.to_string(), (stats.active, stats.size)))
                .collect(),
        }),
        Some(further),
    ));

    shutdown.await;
    stop.cancel();
    tasks.close();
    if tokio::time::timeout(Duration::from_secs(10), tasks.wait())
        .await
        .is_err()
    {
        tracing::info!("requests still under way after 10 s were cut");
    }
    Ok(())
}

/// Creates the buckets that a snapshot names. Never deletes one: that takes a plan.
async fn keep_buckets(
    store: Store,
    mut snapshot: watch::Receiver<Arc<DataSnapshot>>,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    loop {
        let current = snapshot.borrow_and_update().clone();
        for bucket in current
            .environments
            .values()
            .flat_map(|environment| environment.buckets.values())
        {
            match store.create_bucket(bucket).await {
                Ok(_) | Err(StoreError::BucketExists(_)) => {}
                Err(error) => tracing::error!(bucket, %error, "creating a bucket"),
            }
        }
        tokio::select! {
            changed = snapshot.changed() => if changed.is_err() { return Ok(()) },
            () = stop.cancelled() => return Ok(()),
        }
    }
}
