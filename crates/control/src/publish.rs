//! Snapshots for the data plane: complete, versioned, replaced atomically, and confirmed by their readers.

use crate::credentials::EnvironmentSecrets;
use crate::deploy::{self, worker_http_socket};
use crate::engines::service_role;
use crate::installation::Installation;
use crate::platform::{Platform, application_of, governs};
use crate::switches::On;
use crate::words::Application;
use astraler_host::snapshot;
use astraler_manifest::{Alerts, Config, Edge, Signals};
use astraler_model::{
    BindingGrant, BindingKind, BucketGrant, CacheBounds, DataEnvironment, DataSnapshot, DnsSnapshot,
    EdgePolicy, EdgeSnapshot, Environment, InternalHost, Origin, PostgresAccess, Probe, RedisAccess,
    ReplicationTarget, Route, S3Credential, SignalSnapshot, TokenHash, WorkerRoute,
};
use astraler_store::{Deployment, DeploymentState};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
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
    #[error("{role} has not taken up its snapshot within {after_s} s")]
    NotTakenUp { role: &'static str, after_s: u64 },
    #[error("the data role does not answer")]
    Asked(#[from] crate::client::ClientError),
    #[error("the data role does not answer within {after_s} s")]
    Silent { after_s: u64 },
    #[error("the data role answers with something else than its buckets")]
    Answer(#[source] serde_json::Error),
}

/// The names that egress answers by itself.
pub(crate) fn internal_hosts(platform: &Platform) -> Vec<InternalHost> {
    vec![InternalHost {
        host: REDIS_HOST.into(),
        socket: platform.installation.layout.rest_socket(),
    }]
}

/// What the edge shall know, of version 0.
pub(crate) fn edge_snapshot(platform: &Platform) -> Result<EdgeSnapshot, crate::platform::PlatformError> {
    let asleep = platform.asleep()?;
    let mut routes = Vec::new();
    let live = platform.live()?;
    let shared = governing_edge(&live).cloned();
    for (environment, (deployment, application)) in live {
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
                        origin: Origin::Unix(socket.clone()),
                    })
                })
                .collect(),
            assets: application.assets.clone(),
            wake: asleep
                .contains(&environment)
                .then(|| platform.installation.layout.wake_socket()),
            cache: application.config.edge.cache.rules(),
            policy: policy(platform, environment, &application)?,
        });
    }
    Ok(EdgeSnapshot {
        version: 0,
        routes,
        tls: crate::certificates::snapshot(platform)?,
        cache: shared
            .as_ref()
            .map_or_else(CacheBounds::default, |edge| edge.cache.bounds()),
        proxy_protocol: shared.map(|edge| edge.proxy_protocol).unwrap_or_default(),
    })
}

fn policy(
    platform: &Platform,
    environment: Environment,
    application: &Application,
) -> Result<EdgePolicy, crate::platform::PlatformError> {
    let mut policy = On::of(platform, environment)?.policy(&application.config, environment);
    if let Some(waf) = &mut policy.waf {
        crate::waf::locate(platform, application, waf);
    }
    Ok(policy)
}

/// Of the manifest that decides for what environments share.
fn governing_edge(live: &BTreeMap<Environment, (Deployment, Application)>) -> Option<&Edge> {
    let best = live.iter().min_by_key(|(environment, _)| governs(**environment));
    best.map(|(_, (_, application))| &application.config.edge)
}

/// Publishes routes to the edge and waits until it uses them.
pub(crate) async fn edge(platform: &Platform) -> Result<(), PublishError> {
    let version = write_edge(platform).await?;
    // What is deployed may have another manifest.
    crate::dns::wake(platform);
    confirm(platform, "edge", version).await
}

/// The same although nothing in it has changed: what it names may have.
pub(crate) async fn edge_anew(platform: &Platform) -> Result<(), PublishError> {
    let version = write_edge_if(platform, |_, _| true).await?;
    confirm(platform, "edge", version).await
}

/// Publishes routes to the edge; a reader that is not there yet will find them.
pub(crate) async fn write_edge(platform: &Platform) -> Result<u64, PublishError> {
    write_edge_if(platform, |published, present| published != present).await
}

/// As [`write_edge`], where what is published and what should be, both of version 0, call for it.
async fn write_edge_if(
    platform: &Platform,
    is_wanted: impl Fn(&EdgeSnapshot, &EdgeSnapshot) -> bool,
) -> Result<u64, PublishError> {
    let _publishing = platform.publishing.lock().await;
    signal(platform, None)?;
    crate::certificates::ready(platform);
    // Those that others issue are asked for as soon as their hosts are served.
    platform.certificates.wake.notify_one();
    let present = edge_snapshot(platform)?;
    let group = Installation::group(platform.installation.identities.edge.as_ref());
    let path = platform.installation.layout.snapshot("edge");
    if let Some(published) = read::<EdgeSnapshot>(&path) {
        let version = published.version;
        let published = EdgeSnapshot {
            version: 0,
            ..published
        };
        if !is_wanted(&published, &present) {
            return Ok(version);
        }
    }
    let version = platform.next_version();
    snapshot::publish(&path, &EdgeSnapshot { version, ..present }, 0o640, group)
        .map_err(|source| PublishError::Write { role: "edge", source })?;
    Ok(version)
}

/// Publishes credentials and grants to the data role and waits until it uses them: those of what is live, of what
/// starts and of what still drains.
pub(crate) async fn data(platform: &Platform) -> Result<(), PublishError> {
    let version = write_data(platform).await?;
    confirm(platform, "data", version).await
}

/// Names of all buckets, as the data role has them.
pub(crate) async fn buckets(platform: &Platform) -> Result<Vec<String>, PublishError> {
    let socket = platform.installation.layout.status_socket("data");
    let asked = tokio::time::timeout(CONFIRM_TIMEOUT, crate::client::get(&socket, "/buckets"));
    let silent = PublishError::Silent {
        after_s: CONFIRM_TIMEOUT.as_secs(),
    };
    let answer = asked.await.map_err(|_| silent)??;
    serde_json::from_slice(&answer.body).map_err(PublishError::Answer)
}

/// What the data role shall know, of version 0.
pub(crate) fn data_snapshot(platform: &Platform) -> Result<DataSnapshot, PublishError> {
    // Of one environment the last one decides: what drains, what is live, what starts.
    let (draining, starting): (Vec<_>, Vec<_>) = platform
        .in_motion()?
        .into_iter()
        .partition(|deployment| deployment.state == DeploymentState::Draining);
    let live = platform.live()?.into_values().map(|(deployment, _)| deployment);
    let mut all = Vec::new();
    for deployment in draining.into_iter().chain(live).chain(starting) {
        all.push((deployment.environment, application_of(&deployment)?));
    }
    let mut environments = BTreeMap::new();
    let mut grants = BTreeMap::new();
    for (environment, application) in &all {
        let environment = *environment;
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
    Ok(DataSnapshot {
        version: 0,
        environments,
        grants,
    })
}

async fn write_data(platform: &Platform) -> Result<u64, PublishError> {
    let _publishing = platform.publishing.lock().await;
    signal(platform, None)?;
    let present = data_snapshot(platform)?;
    let path = platform.installation.layout.snapshot("data");
    if let Some(published) = read::<DataSnapshot>(&path)
        && (DataSnapshot {
            version: 0,
            ..published.clone()
        }) == present
    {
        return Ok(published.version);
    }
    let group = Installation::group(platform.installation.identities.data.as_ref());
    let version = platform.next_version();
    snapshot::publish(&path, &DataSnapshot { version, ..present }, 0o640, group)
        .map_err(|source| PublishError::Write { role: "data", source })?;
    Ok(version)
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
        replication: replication(platform, environment, application),
        s3_credentials: vec![],
        buckets: application
            .workers
            .iter()
            .flat_map(|worker| worker.r2.values())
            .map(|bucket| (bucket.clone(), store_bucket(environment, bucket)))
            .collect(),
    }
}

/// Where an environment's buckets go, as its manifest says.
fn replication(
    platform: &Platform,
    environment: Environment,
    application: &Application,
) -> Option<ReplicationTarget> {
    let config = &application.config;
    let storage = &config.storage;
    if !config.environments.replicates(environment) {
        return None;
    }
    Some(ReplicationTarget {
        url: storage.replication_url.clone()?,
        endpoint: storage.replication_endpoint_url.clone(),
        credentials_file: storage.replication_credentials_file.clone().map(Into::into),
        name: platform.installation.application.clone(),
        allow_same_device: environment != Environment::Production || config.backups.allow_same_device,
    })
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
    if !layout.snapshot("dns").exists() {
        let group = identities.edge.as_ref().map(|identity| identity.gid);
        snapshot::publish(layout.snapshot("dns"), &DnsSnapshot::default(), 0o640, group)
            .map_err(|source| PublishError::Write { role: "dns", source })?;
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

/// What the manifest says to the signal role: how long records are kept, and what is slow.
pub(crate) fn told(signals: &Signals, alerts: &Alerts) -> SignalSnapshot {
    SignalSnapshot {
        access_days: signals.access_retention_days,
        application_days: signals.application_retention_days,
        error_days: signals.error_retention_days,
        max_bytes: signals.max_bytes,
        slow_ms: alerts.p95_ms,
        bundles: BTreeMap::new(),
        probes: Vec::new(),
    }
}

/// Publishes what the signal role is told: what is asked whether it is up, and what the manifest says. Where that is
/// not given it stays as it is.
pub(crate) fn signal(platform: &Platform, config: Option<&Config>) -> Result<(), PublishError> {
    let installation = &platform.installation;
    let path = installation.layout.snapshot("signal");
    let published: Option<SignalSnapshot> = read(&path);
    let kept = match (config, &published) {
        (Some(config), _) => told(&config.signals, &config.alerts),
        (None, Some(published)) => published.clone(),
        (None, None) => told(&Signals::default(), &Alerts::default()),
    };
    let wanted = SignalSnapshot {
        bundles: bundles(platform)?,
        probes: probes(platform)?,
        ..kept
    };
    if published.as_ref() == Some(&wanted) {
        return Ok(());
    }
    let group = installation
        .identities
        .signal
        .as_ref()
        .map(|identity| identity.gid);
    snapshot::publish(&path, &wanted, 0o640, group).map_err(|source| PublishError::Write {
        role: "signal",
        source,
    })
}

/// Of deployments that are live, start or drain.
fn bundles(platform: &Platform) -> Result<BTreeMap<String, PathBuf>, PublishError> {
    let live = platform.live()?.into_values().map(|(deployment, _)| deployment);
    let all = live.chain(platform.in_motion()?);
    let releases = platform.installation.layout.releases();
    Ok(all
        .map(|deployment| {
            let folder = deployment.release.replace(':', "-");
            (deployment.id.to_string(), releases.join(folder).join("workers"))
        })
        .collect())
}

/// Previews are not asked: they sleep when nobody does.
fn probes(platform: &Platform) -> Result<Vec<Probe>, PublishError> {
    let installation = &platform.installation;
    let listening = installation.listen_addresses.first();
    let address = listening
        .copied()
        .filter(|address| !address.is_unspecified())
        .unwrap_or(Ipv4Addr::LOCALHOST.into());
    let networks = governing_edge(&platform.live()?).map(|edge| edge.proxy_protocol.clone());
    let mut probes = Vec::new();
    for (environment, (_, application)) in platform.awake()? {
        let config = &application.config;
        let host = platform.hosts(environment, config).into_iter().next();
        let (path, failing_from) = match &config.deploy.health_path {
            Some(path) => (path.clone(), 400),
            None => ("/".to_owned(), 500),
        };
        // Nobody is alerted of what an operator has closed.
        let closed = On::of(platform, environment)?.maintenance.is_some();
        if let Some(host) = host
            && !closed
            && !matches!(environment, Environment::Preview(_))
        {
            probes.push(Probe {
                environment,
                address: (address, installation.ports.http).into(),
                host,
                path,
                failing_from,
                proxy_protocol: networks.clone().unwrap_or_default(),
            });
        }
    }
    Ok(probes)
}

/// The name of an environment's bucket in the store.
pub(crate) fn store_bucket(environment: Environment, bucket: &str) -> String {
    format!("{environment}--{bucket}")
}

pub(crate) fn read<T: serde::de::DeserializeOwned>(path: &std::path::Path) -> Option<T> {
    std::fs::read(path)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
}

async fn confirm(platform: &Platform, role: &'static str, version: u64) -> Result<(), PublishError> {
    wait(platform, role, CONFIRM_TIMEOUT, |status| {
        status["snapshot_version"]
            .as_u64()
            .is_some_and(|seen| seen >= version)
    })
    .await
}

async fn wait(
    platform: &Platform,
    role: &'static str,
    limit: Duration,
    done: impl Fn(&serde_json::Value) -> bool,
) -> Result<(), PublishError> {
    let socket = platform.installation.layout.status_socket(role);
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        let asked = tokio::time::timeout(limit, crate::client::get(&socket, "/status")).await;
        if let Ok(Ok(answer)) = asked
            && let Ok(status) = serde_json::from_slice::<serde_json::Value>(&answer.body)
            && done(&status)
        {
            return Ok(());
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(PublishError::NotTakenUp {
                role,
                after_s: limit.as_secs(),
            });
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
