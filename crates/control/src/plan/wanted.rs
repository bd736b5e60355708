//! What is wanted and what was recorded, as attributes. Both follow from an application: the one that a manifest
//! describes, and the one that the live deployment was made with.

use super::Question;
use super::scope::{described, in_scope, is_protected};
use crate::credentials::{CredentialError, EnvironmentSecrets};
use crate::engines::{self, owner_role};
use crate::platform::{Platform, PlatformError};
use crate::publish;
use crate::secrets::SecretError;
use crate::words::Application;
use astraler_manifest::Config;
use astraler_model::{Cluster, Environment, SignalSnapshot};
use astraler_plan::{Address, Attributes, Desired, EnvironmentWanted, PROTECTED, Part, SharedWanted};
use astraler_postgres as postgres;
use serde_json::{Value, json};
use sha2::Digest;
use std::collections::{BTreeMap, BTreeSet};

/// A file is as the platform wrote it.
pub(super) const AS_WRITTEN: &str = "as written";
/// A process is the one that the platform started.
pub(super) const RUNS: &str = "runs";
/// Its environment sleeps until it is asked for.
pub(super) const ASLEEP: &str = "asleep";

/// It cannot be said what is wanted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WantedError {
    #[error(transparent)]
    Platform(#[from] PlatformError),
    #[error("a credential cannot be opened")]
    Credential(#[from] CredentialError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("{0} runs no release yet, and there is none to begin with: deploy one there first")]
    NoRelease(Environment),
    #[error("production runs no release yet: `astraler promote staging production` puts one there")]
    NothingPromoted,
    #[error(
        "the manifest names worker `{worker}`, which release {release} of {environment} does not hold: deploy a release that has it"
    )]
    NoWorker {
        environment: Environment,
        worker: String,
        release: String,
    },
    #[error("the programs of an engine cannot be found")]
    Postgres(#[from] postgres::BinariesError),
    #[error("the programs of an engine cannot be found")]
    Redis(#[from] astraler_redis::BinaryError),
    #[error("a migration of release {release} cannot be read")]
    Migrations {
        release: String,
        #[source]
        source: postgres::MigrationsError,
    },
}

/// What the comparison is made of.
pub(crate) struct Wanted {
    pub(crate) desired: Desired,
    /// What runs in each environment when the plan is done.
    pub(crate) applications: BTreeMap<Environment, Application>,
    /// What runs there now, as it was recorded.
    pub(crate) live: BTreeMap<Environment, (String, Application)>,
    /// Environments that are looked at.
    pub(crate) looked_at: BTreeSet<Environment>,
    /// Environments that may be changed; all when absent.
    pub(crate) scope: Option<BTreeSet<Environment>>,
    pub(crate) recorded: BTreeMap<Address, Vec<Attributes>>,
}

pub(crate) fn wanted(platform: &Platform, question: &Question<'_>) -> Result<Wanted, WantedError> {
    let live: BTreeMap<Environment, (String, Application)> = platform
        .live()?
        .into_iter()
        .map(|(environment, (deployment, application))| {
            (environment, (deployment.id.to_string(), application))
        })
        .collect();
    let marks = platform.marks()?;
    let mut applications: BTreeMap<Environment, Application> = live
        .iter()
        .map(|(environment, (_, application))| (*environment, application.clone()))
        .collect();
    let mut protected: BTreeMap<Environment, bool> = applications
        .iter()
        .map(|(environment, application)| {
            let mark = marks.iter().find(|mark| mark.environment == *environment);
            let wanted = is_protected(&application.config, *environment);
            (*environment, mark.map_or(wanted, |mark| mark.protected))
        })
        .collect();
    let mut scope = None;
    let mut looked_at: BTreeSet<Environment> = marks
        .iter()
        .filter(|mark| mark.destroying)
        .map(|mark| mark.environment)
        .collect();
    match question {
        Question::Manifest(request) => {
            if !request.environments.is_empty() {
                scope = Some(request.environments.clone());
            }
            for environment in in_scope(platform, request, &live)? {
                let application = described(platform, &request.manifest, environment, &live)?;
                protected.insert(environment, is_protected(&application.config, environment));
                applications.insert(environment, application);
            }
        }
        Question::Recorded => looked_at.clear(),
        Question::Without(gone) => {
            let mut gone = (*gone).clone();
            if gone.is_empty() {
                let records = platform.environments()?.into_iter();
                gone.extend(records.map(|record| record.environment));
                gone.append(&mut looked_at);
            }
            applications.retain(|environment, _| !gone.contains(environment));
            looked_at.clone_from(&gone);
            scope = Some(gone);
        }
    }
    looked_at.extend(applications.keys());

    let desired = desired(platform, &applications, &protected)?;
    let mut recorded: BTreeMap<Address, Vec<Attributes>> = BTreeMap::new();
    for (environment, (_, application)) in &live {
        let one = [(*environment, application.clone())].into();
        for (address, attributes) in self::desired(platform, &one, &protected)?.resources {
            // Protection is what the marks say: nobody changes it by hand.
            if address.part() != Some(&Part::Protection) {
                recorded.entry(address).or_default().push(attributes);
            }
        }
    }
    Ok(Wanted {
        desired,
        applications,
        live,
        looked_at,
        scope,
        recorded,
    })
}

/// The configuration that decides for what environments share: production's before staging's before development's
/// before a preview's.
pub(crate) fn governing(
    applications: &BTreeMap<Environment, Application>,
    shares: impl Fn(Environment) -> bool,
) -> Option<(Environment, &Application)> {
    let rank = |environment: Environment| match environment {
        Environment::Production => (0, 0),
        Environment::Staging => (1, 0),
        Environment::Development => (2, 0),
        Environment::Preview(number) => (3, number),
    };
    applications
        .iter()
        .filter(|(environment, _)| shares(**environment))
        .min_by_key(|(environment, _)| rank(**environment))
        .map(|(environment, application)| (*environment, application))
}

fn desired(
    platform: &Platform,
    applications: &BTreeMap<Environment, Application>,
    protected: &BTreeMap<Environment, bool>,
) -> Result<Desired, WantedError> {
    let mut shared = SharedWanted::default();
    if let Some((_, application)) = governing(applications, |_| true) {
        shared.edge = edge(&application.config);
    }
    for cluster in [Cluster::Shared, Cluster::Production] {
        if let Some((_, application)) = governing(applications, |other| other.cluster() == cluster) {
            shared
                .clusters
                .insert(cluster, cluster_settings(platform, cluster, application)?);
        }
    }
    let environments = applications
        .iter()
        .map(|(environment, application)| {
            let protected = protected.get(environment).copied().unwrap_or_default();
            one(platform, *environment, application, protected)
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Desired::of(&shared, &environments))
}

fn attributes<const N: usize>(list: [(&str, Value); N]) -> Attributes {
    list.into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// Limits of the edge, and the processes of the data plane.
fn edge(config: &Config) -> Attributes {
    let mut attributes = attributes([
        ("process", json!(RUNS)),
        ("process.data", json!(RUNS)),
        ("process.egress", json!(RUNS)),
        ("process.signal", json!(RUNS)),
    ]);
    attributes.extend(records(&publish::told(&config.signals, &config.alerts)));
    attributes.extend(limits(
        &serde_json::to_value(&config.edge.limits).unwrap_or_default(),
    ));
    attributes
}

/// What the signal role is told.
pub(super) fn records(wanted: &SignalSnapshot) -> Attributes {
    attributes([
        ("signals.access_retention_days", json!(wanted.access_days)),
        (
            "signals.application_retention_days",
            json!(wanted.application_days),
        ),
        ("signals.error_retention_days", json!(wanted.error_days)),
        ("signals.max_bytes", json!(wanted.max_bytes)),
        ("alerts.p95_ms", json!(wanted.slow_ms)),
    ])
}

pub(super) fn limits(settings: &Value) -> Attributes {
    let object = settings.as_object().into_iter().flatten();
    object
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn cluster_settings(
    platform: &Platform,
    cluster: Cluster,
    application: &Application,
) -> Result<Attributes, WantedError> {
    let config = engines::cluster_config(platform, cluster, &application.config)?;
    let mut attributes = attributes([
        ("max_connections", json!(config.max_connections)),
        ("process", json!(RUNS)),
    ]);
    for (name, contents) in postgres::configuration_files(&config) {
        attributes.insert(name, json!(digest(contents.as_bytes())));
    }
    Ok(attributes)
}

/// Recognises contents without showing them.
pub(super) fn digest(bytes: &[u8]) -> String {
    let hex = hex::encode(sha2::Sha256::digest(bytes));
    format!("sha256:{}", &hex[..12])
}

fn one(
    platform: &Platform,
    environment: Environment,
    application: &Application,
    protected: bool,
) -> Result<EnvironmentWanted, WantedError> {
    let asleep = platform.sleeps(environment)?;
    let process = json!(if asleep { ASLEEP } else { RUNS });
    Ok(EnvironmentWanted {
        environment,
        protected,
        secrets: Attributes::new(),
        database: database(environment, application)?,
        redis: redis(platform, environment, application, &process)?,
        buckets: application
            .workers
            .iter()
            .flat_map(|worker| worker.r2.values().cloned())
            .collect(),
        pool: attributes([
            ("size", json!(application.config.database.pool_size)),
            ("snapshot", json!(AS_WRITTEN)),
        ]),
        workers: workers(application, &process),
        routes: attributes([
            ("hosts", json!(platform.hosts(environment, &application.config))),
            ("snapshot", json!(AS_WRITTEN)),
        ]),
    })
}

fn database(environment: Environment, application: &Application) -> Result<Attributes, WantedError> {
    let limits = postgres::role_limits(environment.cluster(), application.config.database.max_connections);
    let mut attributes = attributes([
        ("owner", json!(owner_role(environment))),
        ("owner.role", json!("plain")),
        ("owner.password", json!("as sealed")),
        ("owner.connection_limit", json!(limits.owner)),
        ("service.role", json!("plain")),
        ("service.password", json!("as sealed")),
        ("service.connection_limit", json!(limits.service)),
        ("rights", json!("as granted")),
    ]);
    for (name, value) in postgres::service_settings(application.config.database.statement_timeout_ms) {
        attributes.insert(format!("service.{name}"), json!(value.to_string()));
    }
    if let Some(folder) = &application.migrations {
        let migrations = postgres::read_migrations(folder).map_err(|source| WantedError::Migrations {
            release: application.release.clone(),
            source,
        })?;
        for migration in migrations {
            attributes.insert(
                format!("migration.{}", migration.name),
                json!(short(&migration.checksum)),
            );
        }
    }
    Ok(attributes)
}

/// The beginning of a checksum.
pub(super) fn short(checksum: &str) -> &str {
    checksum.get(..12).unwrap_or(checksum)
}

fn redis(
    platform: &Platform,
    environment: Environment,
    application: &Application,
    process: &Value,
) -> Result<Attributes, WantedError> {
    let wanted = &application.config.redis;
    let mut attributes = attributes([
        ("maxmemory_bytes", json!(wanted.maxmemory_bytes)),
        ("maxmemory_policy", json!(wanted.maxmemory_policy.to_string())),
        ("appendfsync", json!(wanted.appendfsync.to_string())),
        ("process", process.clone()),
    ]);
    let config = engines::redis_config(platform, environment, application)?;
    // Where an environment is not there yet, its secrets are not either: looking makes none.
    let secrets = platform.credentials.existing(environment)?;
    let files = secrets.map(|secrets: EnvironmentSecrets| {
        astraler_redis::configuration_files(
            &config,
            secrets.redis_password.expose(),
            secrets.redis_control_password.expose(),
        )
    });
    match files {
        Some(files) => {
            for file in files {
                attributes.insert(file.name, json!(digest(file.contents.as_bytes())));
            }
        }
        None => {
            for name in ["redis.conf", "users.acl"] {
                attributes.insert(name.to_owned(), json!("with new secrets"));
            }
        }
    }
    Ok(attributes)
}

fn workers(application: &Application, process: &Value) -> Attributes {
    let mut attributes = attributes([("process", process.clone()), ("workerd.capnp", json!(AS_WRITTEN))]);
    attributes.extend(deployed(application));
    attributes
}

/// What a deployment is made of.
pub(super) fn deployed(application: &Application) -> Attributes {
    let config = serde_json::to_vec(&application.config).unwrap_or_default();
    let mut attributes = attributes([
        ("release", json!(application.release)),
        ("configuration", json!(digest(&config))),
    ]);
    for worker in &application.workers {
        let Ok(Value::Object(fields)) = serde_json::to_value(worker) else {
            continue;
        };
        for (field, value) in fields {
            if !matches!(field.as_str(), "name" | "modules") && !value.is_null() {
                attributes.insert(format!("worker.{}.{field}", worker.name), value);
            }
        }
    }
    if let Some(assets) = &application.assets {
        attributes.insert("assets.html_handling".into(), json!(assets.html_handling));
        attributes.insert(
            "assets.not_found_handling".into(),
            json!(assets.not_found_handling),
        );
    }
    attributes
}

/// The attribute of a protection.
pub(super) fn protection(protected: bool) -> Attributes {
    attributes([(PROTECTED, json!(protected))])
}
