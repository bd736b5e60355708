//! What is wanted, what is recorded, what is there.

use crate::address::{Address, Part};
use astraler_model::{Cluster, Environment};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Attributes of one resource, by name. Never a secret: names, digests and references only.
pub type Attributes = BTreeMap<String, Value>;

/// The attribute of `environment.E.protection`.
pub const PROTECTED: &str = "protected";

/// Every resource that shall be there, as it shall be.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Desired {
    /// By address.
    pub resources: BTreeMap<Address, Attributes>,
}

/// Every resource that is there, as it is, with what the platform recorded of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// By address.
    pub resources: BTreeMap<Address, Attributes>,
    /// How the platform made it last. A resource that several environments share has been made by each of them: what
    /// is there is as recorded when it is as one of these. None recorded: nothing can be told from it.
    pub recorded: BTreeMap<Address, Vec<Attributes>>,
    /// Environments whose destruction was begun and not finished: they are wanted by nobody.
    pub destroying: BTreeSet<Environment>,
}

/// What the environments share.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SharedWanted {
    /// Limits of the edge.
    pub edge: Attributes,
    /// Settings of the clusters that are wanted.
    pub clusters: BTreeMap<Cluster, Attributes>,
}

/// One environment as it is wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct EnvironmentWanted {
    /// Which.
    pub environment: Environment,
    /// Whether its data takes two steps to destroy.
    pub protected: bool,
    /// Its secrets' scope.
    pub secrets: Attributes,
    /// Its database and roles.
    pub database: Attributes,
    /// Its Redis.
    pub redis: Attributes,
    /// Its buckets.
    pub buckets: BTreeSet<String>,
    /// Its session pool.
    pub pool: Attributes,
    /// Its workers.
    pub workers: Attributes,
    /// Its routes.
    pub routes: Attributes,
}

impl Desired {
    /// The resources that follow from what is wanted.
    pub fn of(shared: &SharedWanted, environments: &[EnvironmentWanted]) -> Self {
        let mut resources = BTreeMap::new();
        if !environments.is_empty() {
            resources.insert(Address::EdgeSettings, shared.edge.clone());
        }
        for (cluster, settings) in &shared.clusters {
            resources.insert(Address::PostgresSettings(*cluster), settings.clone());
        }
        for wanted in environments {
            let mut add = |part, attributes: &Attributes| {
                resources.insert(Address::Environment(wanted.environment, part), attributes.clone());
            };
            add(Part::Record, &Attributes::new());
            add(
                Part::Protection,
                &[(PROTECTED.to_owned(), Value::from(wanted.protected))].into(),
            );
            add(Part::Secrets, &wanted.secrets);
            add(Part::Database, &wanted.database);
            add(Part::Redis, &wanted.redis);
            for bucket in &wanted.buckets {
                add(Part::Bucket(bucket.clone()), &Attributes::new());
            }
            add(Part::Pool, &wanted.pool);
            add(Part::Workers, &wanted.workers);
            add(Part::Routes, &wanted.routes);
        }
        Self { resources }
    }

    /// The environments that shall be there.
    pub fn environments(&self) -> BTreeSet<Environment> {
        self.resources
            .keys()
            .filter(|address| address.part() == Some(&Part::Record))
            .filter_map(Address::environment)
            .collect()
    }
}

impl Observed {
    /// Whether the *state* says that this environment's data takes two steps to destroy. What the manifest says now
    /// does not matter: else removing a key and destroying would be one step.
    pub fn is_protected(&self, environment: Environment) -> bool {
        let protection = Address::Environment(environment, Part::Protection);
        self.resources
            .get(&protection)
            .and_then(|attributes| attributes.get(PROTECTED))
            == Some(&Value::Bool(true))
    }
}
