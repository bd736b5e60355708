//! The four environments and what follows from being one of them.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// One of the four kinds of environment. A preview carries the number of its pull request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Environment {
    /// `localhost:3000`; branches `feature/*`.
    Development,
    /// `pr-N.preview.<domain>`; a pull request.
    Preview(u32),
    /// `staging.<domain>`; branch `develop`.
    Staging,
    /// `app.<domain>`; branch `main`.
    Production,
}

/// The two PostgreSQL clusters: recovery of one never rewinds the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cluster {
    /// Holds production only.
    Production,
    /// Holds development, staging and every preview.
    Shared,
}

/// A kind of environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EnvironmentKind {
    /// `localhost:3000`.
    Development,
    /// Every preview.
    Preview,
    /// `staging.<domain>`.
    Staging,
    /// `app.<domain>`.
    Production,
}

impl EnvironmentKind {
    /// The kind of an environment.
    pub fn of(environment: Environment) -> Self {
        match environment {
            Environment::Development => Self::Development,
            Environment::Preview(_) => Self::Preview,
            Environment::Staging => Self::Staging,
            Environment::Production => Self::Production,
        }
    }

    /// Its name, as the manifest says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Preview => "preview",
            Self::Staging => "staging",
            Self::Production => "production",
        }
    }
}

impl Environment {
    /// The cluster that holds this environment's database.
    pub fn cluster(self) -> Cluster {
        if self == Self::Production {
            Cluster::Production
        } else {
            Cluster::Shared
        }
    }

    /// The name as an SQL identifier and file name: `development`, `pr_7`, `staging`, `production`.
    pub fn identifier(self) -> String {
        self.to_string().replace('-', "_")
    }

    /// The host names under `localhost` by which a laptop reaches this environment without DNS.
    pub fn local_hosts(self) -> Vec<String> {
        match self {
            Self::Development => ["localhost", "127.0.0.1", "[::1]"].map(String::from).to_vec(),
            Self::Preview(n) => vec![format!("pr-{n}.preview.localhost")],
            Self::Staging => vec!["staging.localhost".into()],
            Self::Production => vec!["app.localhost".into()],
        }
    }

    /// The host names under the product's own domain; none for development.
    pub fn domain_hosts(self, domain: &str) -> Vec<String> {
        match self {
            Self::Development => vec![],
            Self::Preview(n) => vec![format!("pr-{n}.preview.{domain}")],
            Self::Staging => vec![format!("staging.{domain}")],
            Self::Production => vec![format!("app.{domain}")],
        }
    }
}

impl Cluster {
    /// `production` or `shared`: used in unit names, folders and the port table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Production => "production",
            Self::Shared => "shared",
        }
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Development => f.write_str("development"),
            Self::Preview(n) => write!(f, "pr-{n}"),
            Self::Staging => f.write_str("staging"),
            Self::Production => f.write_str("production"),
        }
    }
}

impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text names no environment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no environment: expected development, pr-N, staging or production")]
pub struct ParseEnvironmentError(String);

impl FromStr for Environment {
    type Err = ParseEnvironmentError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "development" => Ok(Self::Development),
            "staging" => Ok(Self::Staging),
            "production" => Ok(Self::Production),
            _ => text
                .strip_prefix("pr-")
                .filter(|digits| !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit()))
                .and_then(|digits| digits.parse().ok())
                .map(Self::Preview)
                .ok_or_else(|| ParseEnvironmentError(text.to_owned())),
        }
    }
}

impl From<Environment> for String {
    fn from(environment: Environment) -> Self {
        environment.to_string()
    }
}

impl TryFrom<String> for Environment {
    type Error = ParseEnvironmentError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_environment_reads_back_as_written(n in 1u32..) {
            for environment in [Environment::Development, Environment::Preview(n), Environment::Staging, Environment::Production] {
                prop_assert_eq!(environment.to_string().parse::<Environment>().unwrap(), environment);
            }
        }

        #[test]
        fn no_text_panics(text in ".*") {
            if let Ok(environment) = text.parse::<Environment>() {
                prop_assert_eq!(environment.to_string(), text);
            }
        }
    }

    #[test]
    fn only_production_lives_in_the_production_cluster() {
        assert_eq!(Environment::Production.cluster(), Cluster::Production);
        for other in [
            Environment::Development,
            Environment::Preview(1),
            Environment::Staging,
        ] {
            assert_eq!(other.cluster(), Cluster::Shared);
        }
    }
}
