//! Snapshots for the data plane: complete, versioned, replaced atomically, and confirmed by their readers.

use crate::credentials::EnvironmentSecrets;
use crate::deploy::{self, worker_http_socket};
use crate::engines::service_role;
use crate::platform::Platform;
use crate::words::Application;
use astraler_host::snapshot;
use astraler_model::{
    BindingGrant, BindingKind, BucketGrant, DataEnvironment, DataSnapshot, EdgeSnapshot, Environment,
    InternalHost, PostgresAccess, RedisAccess, Route, S3Credential, TokenHash, WorkerRoute,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// The name by which workers reach Redis.
const REDIS_HOST: &str = "redis.astraler.internal";

/// The URL by which workers reach Redis; egress answers it.
pub(crate) const REDIS_URL: &str = "http://redis.astraler.internal";

const CONFIRM_TIMEOUT: Duration = Duration::from_secs(10);

/// A snapshot could not be made, written, or was not taken up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    #[error("the snapshot for {role} cannot be written")]
    Write {
        role: &'static str,
        #[source]
        source: astraler_host::snapshot::SnapshotError,
    },
    #[error("what the snapshot is made of cannot be read")]
    Read(#[from] crate::platform::PlatformError),
    #[error("a credential cannot be opened")]
    Credential(#[from] crate::credentials::CredentialError),
    #[error("{role} has not taken up its snapshot within {} s", CONFIRM_TIMEOUT.as_secs())]
    NotTakenUp { role: &'static str },
}

/// The names that egress answers by itself.
pub(crate) fn internal_hosts(platform: &Platform) -> Vec<InternalHost> {
    vec![InternalHost {
        host: REDIS_HOST.into(),
        socket: platform.installation.layout.rest_socket(),
    }]
}

/// Publishes routes to the edge and waits until it uses them.
pub(crate) async fn edge(platform: &Platform) -> Result<(), PublishError> {
    let mut routes = Vec::new();
    for (environment, (deployment, application)) in platform.live()? {
        let deployment = deployment.id.to_string();
        routes.push(Route {
            hosts: platform.hosts(environment, &application.config),
            environment,
            deployment: deployment.clone(),
            workers: application
                .workers
                .iter()
                .flat_map(|worker| {
                    let socket = worker_http_socket(platform, &deployment, &worker.name);
                    worker.routes.iter().map(move |prefix| WorkerRoute {
                        prefix: prefix.clone(),
                        worker: worker.name.clone(),
                        socket: socket.clone(),
                    })
                })
                .collect(),
            assets: application.assets.clone(),
        });
    }
    let present = EdgeSnapshot { version: 0, routes };
    let group = platform
        .installation
        .identities
        .edge
        .as_ref()
        .map(|identity| identity.gid);
    let path = platform.installation.layout.snapshot("edge");
    if let Some(published) = read::<EdgeSnapshot>(&path)
        && (EdgeSnapshot {
            version: 0,
            ..published.clone()
        }) == present
    {
        return confirm(platform, "edge", published.version).await;
    }
    let version = platform.next_version();
    snapshot::publish(&path, &EdgeSnapshot { version, ..present }, 0o640, group)
        .map_err(|source| PublishError::Write { role: "edge", source })?;
    confirm(platform, "edge", version).await
}

/// Publishes credentials and grants to the data role and waits until it uses them. `next` is about to start:
/// its grants come beside those of what is live.
pub(crate) async fn data(
    platform: &Platform,
    next: Option<(Environment, &Application)>,
) -> Result<(), PublishError> {
    let live = platform.live()?;
    let mut all: Vec<(Environment, &Application)> = live
        .iter()
        .map(|(environment, (_, application))| (*environment, application))
        .collect();
    all.extend(next);
    let mut environments = BTreeMap::new();
    let mut grants = BTreeMap::new();
    for (environment, application) in all {
        let secrets = platform.credentials.environment(environment)?;
        let present = environments.remove(&environment);
        let mut access = data_environment(platform, environment, &secrets, application);
        access.buckets.extend(
            present
                .map(|present: DataEnvironment| present.buckets)
                .unwrap_or_default(),
        );
        for (bucket, stored) in &access.buckets {
            let token = platform.credentials.binding_token(environment, bucket)?;
            let kind = BindingKind::R2 {
                bucket: stored.clone(),
            };
            let deployment = deploy::short(&application.release).to_owned();
            grants.insert(
                TokenHash::of(token.expose()),
                BindingGrant {
                    environment,
                    deployment,
                    kind,
                },
            );
        }
        access.s3_credentials = vec![S3Credential {
            access_key_id: secrets.s3_access_key_id.expose().to_owned(),
            secret_access_key: secrets.s3_secret_access_key.expose().to_owned(),
            buckets: access
                .buckets
                .values()
                .map(|bucket| BucketGrant {
                    bucket: bucket.clone(),
                    write: true,
                })
                .collect(),
        }];
        environments.insert(environment, access);
    }
    let present = DataSnapshot {
        version: 0,
        environments,
        grants,
    };
    let path = platform.installation.layout.snapshot("data");
    if let Some(published) = read::<DataSnapshot>(&path)
        && (DataSnapshot {
            version: 0,
            ..published.clone()
        }) == present
    {
        return confirm(platform, "data", published.version).await;
    }
    let group = platform
        .installation
        .identities
        .data
        .as_ref()
        .map(|identity| identity.gid);
    let version = platform.next_version();
    snapshot::publish(&path, &DataSnapshot { version, ..present }, 0o640, group)
        .map_err(|source| PublishError::Write { role: "data", source })?;
    confirm(platform, "data", version).await
}

fn data_environment(
    platform: &Platform,
    environment: Environment,
    secrets: &EnvironmentSecrets,
    application: &Application,
) -> DataEnvironment {
    let layout = &platform.installation.layout;
    let cluster = environment.cluster();
    DataEnvironment {
        postgres: Some(PostgresAccess {
            socket_directory: layout.postgres_socket(cluster),
            port: platform.installation.postgres_port(cluster),
            database: environment.identifier(),
            user: service_role(environment),
            password: secrets.postgres_service.expose().to_owned(),
            pool_size: application.config.database.pool_size,
            client_token: TokenHash::of(secrets.postgres_client_token.expose()),
        }),
        redis: Some(RedisAccess {
            socket: layout.redis_socket(environment),
            user: astraler_redis::USER.to_owned(),
            password: secrets.redis_password.expose().to_owned(),
            token: TokenHash::of(secrets.redis_token.expose()),
            read_only_token: TokenHash::of(secrets.redis_read_only_token.expose()),
        }),
        s3_credentials: vec![],
        buckets: application
            .workers
            .iter()
            .flat_map(|worker| worker.r2.values())
            .map(|bucket| (bucket.clone(), store_bucket(environment, bucket)))
            .collect(),
    }
}

/// Writes first, empty snapshots where there are none, so that the data plane can start.
pub(crate) fn first(platform: &Platform) -> Result<(), PublishError> {
    let identities = &platform.installation.identities;
    let layout = &platform.installation.layout;
    if !layout.snapshot("edge").exists() {
        let group = identities.edge.as_ref().map(|identity| identity.gid);
        snapshot::publish(layout.snapshot("edge"), &EdgeSnapshot::default(), 0o640, group)
            .map_err(|source| PublishError::Write { role: "edge", source })?;
    }
    if !layout.snapshot("data").exists() {
        let group = identities.data.as_ref().map(|identity| identity.gid);
        snapshot::publish(layout.snapshot("data"), &DataSnapshot::default(), 0o640, group)
            .map_err(|source| PublishError::Write { role: "data", source })?;
    }
    let group = identities.egress.as_ref().map(|identity| identity.gid);
    snapshot::publish(layout.snapshot("egress"), &internal_hosts(platform), 0o640, group).map_err(|source| {
        PublishError::Write {
            role: "egress",
            source,
        }
    })
}

/// The name of an environment's bucket in the store.
pub(crate) fn store_bucket(environment: Environment, bucket: &str) -> String {
    format!("{environment}--{bucket}")
}

fn read<T: serde::de::DeserializeOwned>(path: &std::path::Path) -> Option<T> {
    std::fs::read(path)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
}

async fn confirm(platform: &Platform, role: &'static str, version: u64) -> Result<(), PublishError> {
    let socket = platform.installation.layout.status_socket(role);
    let deadline = tokio::time::Instant::now() + CONFIRM_TIMEOUT;
    loop {
        if let Ok(answer) = crate::client::get(&socket, "/status").await
            && let Ok(status) = serde_json::from_slice::<serde_json::Value>(&answer.body)
            && status["snapshot_version"]
                .as_u64()
                .is_some_and(|seen| seen >= version)
        {
            return Ok(());
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(PublishError::NotTakenUp { role });
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
