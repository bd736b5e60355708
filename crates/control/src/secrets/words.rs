//! What the command line and the daemon say to each other about secrets. No value is in any of it.

use astraler_model::Environment;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Where a secret belongs. Previews share theirs: a pull request that begins has no time to be given any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SecretPlace {
    /// The environment of that name.
    Development,
    /// Every preview.
    Preview,
    /// The environment of that name.
    Staging,
    /// The environment of that name.
    Production,
    /// No environment: what alerts, backups and DNS need.
    Platform,
}

/// The text names no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParsePlaceError {
    /// It names one preview.
    #[error("previews share their secrets: `{0}` is `preview` here")]
    OnePreview(String),
    /// It names nothing.
    #[error("`{0}` has no secrets: expected development, preview, staging, production or platform")]
    Unknown(String),
}

/// What became of a value that was set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretSet {
    /// Its name.
    pub name: String,
    /// Where it belongs.
    pub place: SecretPlace,
    /// The newest version.
    pub version: u64,
    /// False when the value was there already.
    pub changed: bool,
    /// Whether it is long enough to be masked in logs.
    pub masked: bool,
    /// Services that may have it.
    pub grants: Vec<String>,
    /// Environments that run with another version.
    pub pending: Vec<Environment>,
}

/// A secret as a list shows it. No value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretReport {
    /// Its name.
    pub name: String,
    /// Where it belongs.
    pub place: SecretPlace,
    /// The newest version.
    pub version: u64,
    /// Who set it.
    pub actor: String,
    /// When, in milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// Services that may have it.
    pub grants: Vec<String>,
    /// Environments whose deployment does not have it as it is now: the next one has.
    pub pending: Vec<Environment>,
    /// When a rotation is due, by the manifest's `secrets.rotation_days`.
    pub due_ms: u64,
}

/// A grant that was made or taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretGrantReport {
    /// False when it was like that already.
    pub changed: bool,
    /// Whether what runs there knows the service.
    pub known: bool,
    /// Environments that run without the change.
    pub pending: Vec<Environment>,
}

impl SecretPlace {
    /// Every place, in the order in which they are shown.
    pub const ALL: [Self; 5] = [
        Self::Development,
        Self::Preview,
        Self::Staging,
        Self::Production,
        Self::Platform,
    ];

    /// The place of an environment's secrets.
    pub fn of(environment: Environment) -> Self {
        match environment {
            Environment::Development => Self::Development,
            Environment::Preview(_) => Self::Preview,
            Environment::Staging => Self::Staging,
            Environment::Production => Self::Production,
        }
    }

    /// Its name, which is also the scope of its key.
    pub fn name(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Preview => "preview",
            Self::Staging => "staging",
            Self::Production => "production",
            Self::Platform => "platform",
        }
    }
}

impl fmt::Display for SecretPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for SecretPlace {
    type Err = ParsePlaceError;

    fn from_str(text: &str) -> Result<Self, ParsePlaceError> {
        if let Some(place) = Self::ALL.into_iter().find(|place| place.name() == text) {
            return Ok(place);
        }
        match text.parse() {
            Ok(Environment::Preview(_)) => Err(ParsePlaceError::OnePreview(text.to_owned())),
            _ => Err(ParsePlaceError::Unknown(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_kind_of_environment() {
        for place in SecretPlace::ALL {
            assert_eq!(place.to_string().parse(), Ok(place));
        }
        let one = "pr-7".parse::<SecretPlace>().unwrap_err();
        assert!(one.to_string().contains("`preview`"), "{one}");
        "prod".parse::<SecretPlace>().unwrap_err();
    }
}
