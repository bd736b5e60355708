//! `[pipeline]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The gates where the manifest names none.
const GATES: [&str; 5] = ["lint", "typecheck", "test", "build", "e2e"];

/// The delivery pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Pipeline {
    /// Jobs that must pass before production, by a word of their id or name; where no job has it, a step. `e2e` counts in
    /// runs of staging. One that no workflow has blocks where this is written, and warns where it is left at its default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = GATES))]
    pub gates: Option<Vec<String>>,
    /// Coverage of lines under which a run warns.
    #[schemars(range(max = 100))]
    pub coverage_percent: u8,
    /// Registries that jobs may reach: npm, pypi, crates.io, or the name of a host. Nothing else of the network is.
    pub registries: Vec<String>,
    /// Longest job; a workflow may ask for less.
    #[schemars(range(min = 1, max = 4320))]
    pub job_timeout_minutes: u32,
}

impl Default for Pipeline {
    fn default() -> Self {
        Self {
            gates: None,
            coverage_percent: 70,
            registries: ["npm", "pypi", "crates.io"].map(String::from).to_vec(),
            job_timeout_minutes: 60,
        }
    }
}

impl Pipeline {
    /// Names of the gates.
    pub fn gate_names(&self) -> Vec<String> {
        self.gates
            .clone()
            .unwrap_or_else(|| GATES.map(String::from).to_vec())
    }
}
