//! `[release]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Releases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReleaseSettings {
    /// Releases kept, the newest; those that an environment runs or can go back to stay beside them.
    #[schemars(range(min = 1, max = 1000))]
    pub keep: u32,
    /// Sign provenance.
    #[schemars(extend("x-astraler-status" = "planned"))]
    pub sign: bool,
}

impl Default for ReleaseSettings {
    fn default() -> Self {
        Self { keep: 20, sign: true }
    }
}
