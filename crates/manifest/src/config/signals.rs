//! `[signals]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Metrics, logs and errors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Signals {
    /// Days that what workers write is kept.
    #[schemars(range(min = 1, max = 3650))]
    pub application_retention_days: u32,
    /// Days that access records are kept.
    #[schemars(range(min = 1, max = 3650))]
    pub access_retention_days: u32,
    /// Days that errors are kept.
    #[schemars(range(min = 1, max = 3650))]
    pub error_retention_days: u32,
    /// Audit entries.
    #[schemars(extend("x-astraler-status" = "planned"))]
    pub audit_retention_days: u32,
    /// Space of all records. When it is used up, the oldest of the largest stream are dropped, and counted.
    #[schemars(range(min = 67_108_864))]
    pub max_bytes: u64,
}

impl Default for Signals {
    fn default() -> Self {
        Self {
            application_retention_days: 7,
            access_retention_days: 3,
            error_retention_days: 90,
            audit_retention_days: 365,
            max_bytes: 10 << 30,
        }
    }
}
