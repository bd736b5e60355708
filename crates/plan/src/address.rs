//! Names of resources, and which of them need which.

use astraler_model::{Cluster, Environment};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The name of one resource: `edge.settings`, `postgres.shared.settings`, `environment.staging`,
/// `environment.pr-7.bucket.files`. Their order is the order in which they are made.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Address {
    /// Limits of the edge.
    EdgeSettings,
    /// Settings of a PostgreSQL cluster.
    PostgresSettings(Cluster),
    /// A part of an environment.
    Environment(Environment, Part),
}

/// The parts of an environment, in the order in which they depend on each other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// That it is known: `environment.staging`.
    Record,
    /// Whether its data takes two steps to destroy.
    Protection,
    /// The scope of its secrets.
    Secrets,
    /// Its database and roles.
    Database,
    /// Its Redis.
    Redis,
    /// One bucket.
    Bucket(String),
    /// The processes of its live deployment.
    Workers,
    /// The session pool in front of its database, as large as the live deployment says.
    Pool,
    /// What the edge knows of it.
    Routes,
}

impl Part {
    /// Whether people's data is in it: lost with it for good.
    pub fn holds_data(&self) -> bool {
        matches!(
            self,
            Self::Database | Self::Redis | Self::Bucket(_) | Self::Secrets
        )
    }
}

impl Address {
    /// The environment that it belongs to.
    pub fn environment(&self) -> Option<Environment> {
        match self {
            Self::Environment(environment, _) => Some(*environment),
            Self::EdgeSettings | Self::PostgresSettings(_) => None,
        }
    }

    /// The part of its environment.
    pub fn part(&self) -> Option<&Part> {
        match self {
            Self::Environment(_, part) => Some(part),
            Self::EdgeSettings | Self::PostgresSettings(_) => None,
        }
    }

    /// Whether this one can only be there while `other` is.
    pub fn needs(&self, other: &Self) -> bool {
        use Part::{Bucket, Database, Pool, Protection, Record, Redis, Routes, Secrets, Workers};
        let Self::Environment(environment, part) = self else {
            return false;
        };
        match other {
            Self::EdgeSettings => *part == Routes,
            Self::PostgresSettings(cluster) => *part == Database && *cluster == environment.cluster(),
            Self::Environment(of, needed) => {
                of == environment
                    && match part {
                        Record => false,
                        Protection | Secrets => *needed == Record,
                        Database | Redis | Bucket(_) => matches!(needed, Record | Secrets),
                        Workers => matches!(needed, Secrets | Database | Redis | Bucket(_)),
                        Pool => matches!(needed, Database | Workers),
                        Routes => *needed == Workers,
                    }
            }
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EdgeSettings => f.write_str("edge.settings"),
            Self::PostgresSettings(cluster) => write!(f, "postgres.{cluster}.settings"),
            Self::Environment(environment, part) => {
                write!(f, "environment.{environment}")?;
                match part {
                    Part::Record => Ok(()),
                    Part::Protection => f.write_str(".protection"),
                    Part::Secrets => f.write_str(".secrets"),
                    Part::Database => f.write_str(".database"),
                    Part::Redis => f.write_str(".redis"),
                    Part::Bucket(name) => write!(f, ".bucket.{name}"),
                    Part::Pool => f.write_str(".pool"),
                    Part::Workers => f.write_str(".workers"),
                    Part::Routes => f.write_str(".routes"),
                }
            }
        }
    }
}

/// The text names no resource.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no resource: expected for example `environment.staging.database`")]
pub struct ParseAddressError(String);

impl FromStr for Address {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseAddressError(text.to_owned());
        match text {
            "edge.settings" => return Ok(Self::EdgeSettings),
            "postgres.shared.settings" => return Ok(Self::PostgresSettings(Cluster::Shared)),
            "postgres.production.settings" => return Ok(Self::PostgresSettings(Cluster::Production)),
            _ => {}
        }
        let rest = text.strip_prefix("environment.").ok_or_else(error)?;
        let (name, part) = rest.split_once('.').unwrap_or((rest, ""));
        let environment = name.parse().map_err(|_| error())?;
        let part = match part {
            "" => Part::Record,
            "protection" => Part::Protection,
            "secrets" => Part::Secrets,
            "database" => Part::Database,
            "redis" => Part::Redis,
            "pool" => Part::Pool,
            "workers" => Part::Workers,
            "routes" => Part::Routes,
            other => match other.strip_prefix("bucket.") {
                Some(bucket) if !bucket.is_empty() => Part::Bucket(bucket.to_owned()),
                _ => return Err(error()),
            },
        };
        if part == Part::Record && rest.ends_with('.') {
            return Err(error());
        }
        Ok(Self::Environment(environment, part))
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

impl TryFrom<String> for Address {
    type Error = ParseAddressError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}
