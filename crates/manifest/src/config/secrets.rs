//! `[secrets]`: what must be there. No value stands in a manifest, and no grant: whoever may push could grant to himself.

use super::EnvironmentKind;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Secrets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Secrets {
    /// Secrets without which nothing is deployed.
    pub required: Vec<RequiredSecret>,
    /// Age after which a rotation is due.
    #[schemars(range(min = 1, max = 3650))]
    pub rotation_days: u32,
}

impl Default for Secrets {
    fn default() -> Self {
        Self {
            required: vec![],
            rotation_days: 90,
        }
    }
}

/// A secret that a service needs: it must be set and granted (`astraler secrets`) before a deployment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequiredSecret {
    /// Its name.
    pub name: String,
    /// The worker that needs it, or `pipeline`.
    pub service: String,
    /// Where; everywhere by default.
    #[serde(default)]
    pub environments: Vec<EnvironmentKind>,
}
