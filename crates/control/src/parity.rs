//! Parity: what two environments have in common and what not. Facts are collected from the real machine, the comparison
//! is pure. No value of a variable or secret is in them: names, and digests of variables.

use crate::admin::ApiError;
use crate::daemon::Daemon;
use crate::engines::admin_access;
use crate::platform::Platform;
use crate::secrets::SecretPlace;
use crate::words::{Application, Fault};
use astraler_model::Environment;
use astraler_postgres as postgres;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::Digest;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What an environment is, by group and name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnvironmentFacts {
    /// Which.
    pub environment: Environment,
    /// `release`, `migrations`, `schema`, `variables`, `secrets`, `bindings`, `routes`, `hosts`, `edge`, `engines`,
    /// `settings`: each name → what is compared.
    pub groups: BTreeMap<String, BTreeMap<String, Value>>,
}

/// Something that two environments do not have in common.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Group.
    pub group: String,
    /// Name in it.
    pub name: String,
    /// In the first; absent where it has none.
    pub a: Option<Value>,
    /// In the second.
    pub b: Option<Value>,
    /// It belongs to being another environment: it does not count.
    pub expected: bool,
}

/// `GET /v1/environments/{environment}/facts` → [`EnvironmentFacts`].
pub(crate) fn router() -> Router<Arc<Daemon>> {
    Router::new().route("/v1/environments/{environment}/facts", get(read_facts))
}

async fn read_facts(
    State(daemon): State<Arc<Daemon>>,
    Path(environment): Path<String>,
) -> Result<Response, ApiError> {
    let environment: Environment = environment.parse().map_err(ApiError::bad_request)?;
    // In the middle of its change an environment is half-way.
    let _change = daemon.changes.read().await;
    let _turn = daemon.turns.take(environment).await;
    let facts = Box::pin(facts(&daemon.platform, environment))
        .await
        .map_err(|fault| ApiError::fault(&fault))?;
    let missing = || {
        ApiError::new(
            StatusCode::NOT_FOUND,
            format!("environment {environment} is not up"),
        )
    };
    Ok(Json(facts.ok_or_else(missing)?).into_response())
}

/// Every difference, by group and name.
pub fn compare(a: &EnvironmentFacts, b: &EnvironmentFacts) -> Vec<Difference> {
    let empty = BTreeMap::new();
    let groups: BTreeSet<&String> = a.groups.keys().chain(b.groups.keys()).collect();
    let mut differences = Vec::new();
    for group in groups {
        let (left, right) = (
            a.groups.get(group).unwrap_or(&empty),
            b.groups.get(group).unwrap_or(&empty),
        );
        let names: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
        for name in names {
            let (one, other) = (left.get(name), right.get(name));
            if one == other {
                continue;
            }
            let expected = match group.as_str() {
                // Each environment is reached by names of its own.
                "hosts" => true,
                // The values are what environments are for; a name that one of them lacks is not.
                "variables" => one.is_some() && other.is_some(),
                _ => false,
            };
            differences.push(Difference {
                group: group.clone(),
                name: name.clone(),
                a: one.cloned(),
                b: other.cloned(),
                expected,
            });
        }
    }
    differences
}

/// The facts of an environment; `None` when it is not up.
pub(crate) async fn facts(
    platform: &Platform,
    environment: Environment,
) -> Result<Option<EnvironmentFacts>, Fault> {
    let part = format!("facts of {environment}");
    let fault = |error: &dyn std::error::Error| Fault::of(&part, error);
    let live = platform.live().map_err(|error| fault(&error))?;
    let Some((_, application)) = live.get(&environment) else {
        return Ok(None);
    };
    let mut groups = described(application);
    let mut add = |group: &str, facts: BTreeMap<String, Value>| {
        groups.entry(group.to_owned()).or_default().extend(facts);
    };
    let hosts = platform.hosts(environment, &application.config);
    add(
        "hosts",
        hosts.into_iter().map(|host| (host, json!("serves"))).collect(),
    );
    let names = platform
        .credentials
        .names(environment)
        .map_err(|error| fault(&error))?;
    add(
        "secrets",
        names.into_iter().map(|name| (name, json!("is there"))).collect(),
    );
    let own = platform
        .secret_list(SecretPlace::of(environment))
        .map_err(|error| fault(&error))?;
    // Who may have it is part of it: a secret that no service gets is as good as none.
    add(
        "secrets",
        own.into_iter()
            .map(|secret| (secret.name, json!(secret.grants)))
            .collect(),
    );

    let admin = admin_access(platform, environment.cluster()).map_err(|error| fault(&error))?;
    let cluster = postgres::inspect_cluster(&admin)
        .await
        .map_err(|error| fault(&error))?;
    let inside = postgres::Access {
        database: environment.identifier(),
        ..admin
    };
    let migrations = postgres::applied_migrations(&inside)
        .await
        .map_err(|error| fault(&error))?;
    add(
        "migrations",
        migrations
            .into_iter()
            .map(|(name, sum)| (name, json!(sum)))
            .collect(),
    );
    let schema = postgres::schema(&inside).await.map_err(|error| fault(&error))?;
    add(
        "schema",
        schema
            .into_iter()
            .map(|(name, text)| (name, json!(text)))
            .collect(),
    );

    let redis = match platform.credentials.existing(environment) {
        Ok(Some(secrets)) if !platform.sleeps(environment).map_err(|error| fault(&error))? => {
            let control = astraler_redis::Control::new(
                &platform.installation.layout.redis_socket(environment),
                secrets.redis_control_password.expose(),
            );
            control.version().await.map_err(|error| fault(&error))?
        }
        // It sleeps: what it will be started with.
        _ => {
            platform
                .installation
                .engines
                .redis()
                .map_err(|error| fault(&error))?
                .version
        }
    };
    let tools = platform.tools().map_err(|error| fault(&error))?;
    let workerd = astraler_workers::tools::workerd_version(&tools);
    add(
        "engines",
        BTreeMap::from([
            ("postgres".to_owned(), json!(cluster.version)),
            ("redis".to_owned(), json!(redis)),
            ("workerd".to_owned(), json!(workerd)),
        ]),
    );
    add(
        "settings",
        BTreeMap::from([(
            "postgres.max_connections".to_owned(),
            json!(cluster.max_connections),
        )]),
    );
    Ok(Some(EnvironmentFacts { environment, groups }))
}

/// What follows from what was deployed.
fn described(application: &Application) -> BTreeMap<String, BTreeMap<String, Value>> {
    let mut groups: BTreeMap<String, BTreeMap<String, Value>> = BTreeMap::new();
    let mut add = |group: &str, name: String, value: Value| {
        groups.entry(group.to_owned()).or_default().insert(name, value);
    };
    let config = &application.config;
    add("release", "digest".into(), json!(application.release));
    for worker in &application.workers {
        let name = &worker.name;
        for (variable, value) in &worker.vars {
            let digest = hex::encode(sha2::Sha256::digest(value.to_string()));
            add("variables", format!("{name}.{variable}"), json!(digest));
        }
        for (binding, bucket) in &worker.r2 {
            add(
                "bindings",
                format!("{name}.{binding}"),
                json!(format!("r2 {bucket}")),
            );
        }
        for binding in &worker.hyperdrive {
            add("bindings", format!("{name}.{binding}"), json!("hyperdrive"));
        }
        for route in &worker.routes {
            add("routes", route.clone(), json!(name));
        }
        add(
            "release",
            format!("{name}.compatibility"),
            json!([worker.compatibility_date, worker.compatibility_flags]),
        );
        add(
            "settings",
            format!("{name}.memory_bytes"),
            json!(worker.memory_bytes),
        );
    }
    add(
        "routes",
        "assets".into(),
        json!(
            application
                .assets
                .as_ref()
                .map(|assets| (assets.html_handling, assets.not_found_handling))
        ),
    );
    if let Ok(Value::Object(limits)) = serde_json::to_value(&config.edge.limits) {
        for (limit, value) in limits {
            add("edge", limit, value);
        }
    }
    if let Ok(Value::Object(cache)) = serde_json::to_value(&config.edge.cache) {
        for (key, value) in cache {
            add("edge", format!("cache.{key}"), value);
        }
    }
    for (name, value) in [
        ("database.pool_size", json!(config.database.pool_size)),
        (
            "database.statement_timeout_ms",
            json!(config.database.statement_timeout_ms),
        ),
        ("redis.maxmemory_bytes", json!(config.redis.maxmemory_bytes)),
        ("redis.maxmemory_policy", json!(config.redis.maxmemory_policy)),
        ("redis.appendfsync", json!(config.redis.appendfsync)),
    ] {
        add("settings", name.into(), value);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(environment: Environment, list: &[(&str, &str, Value)]) -> EnvironmentFacts {
        let mut groups: BTreeMap<String, BTreeMap<String, Value>> = BTreeMap::new();
        for (group, name, value) in list {
            let group = groups.entry((*group).to_owned()).or_default();
            group.insert((*name).to_owned(), value.clone());
        }
        EnvironmentFacts { environment, groups }
    }

    #[test]
    fn values_of_variables_and_hosts_may_differ_and_nothing_else() {
        let a = facts(
            Environment::Staging,
            &[
                ("release", "digest", json!("a")),
                ("variables", "api.GREETING", json!("1")),
                ("variables", "api.ONLY_HERE", json!("1")),
                ("hosts", "staging.localhost", json!("serves")),
                ("engines", "redis", json!("7.0")),
            ],
        );
        let b = facts(
            Environment::Production,
            &[
                ("release", "digest", json!("b")),
                ("variables", "api.GREETING", json!("2")),
                ("hosts", "app.localhost", json!("serves")),
                ("engines", "redis", json!("7.0")),
                ("schema", "table public.notes", json!("")),
            ],
        );
        let found: Vec<(String, bool)> = compare(&a, &b)
            .into_iter()
            .map(|difference| {
                (
                    format!("{} {}", difference.group, difference.name),
                    difference.expected,
                )
            })
            .collect();
        assert_eq!(
            found,
            [
                ("hosts app.localhost".to_owned(), true),
                ("hosts staging.localhost".to_owned(), true),
                ("release digest".to_owned(), false),
                ("schema table public.notes".to_owned(), false),
                ("variables api.GREETING".to_owned(), true),
                ("variables api.ONLY_HERE".to_owned(), false),
            ]
        );
        assert_eq!(compare(&a, &a), []);
    }
}
