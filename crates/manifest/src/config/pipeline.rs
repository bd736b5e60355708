//! `[pipeline]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The delivery pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Pipeline {
    /// Jobs that must pass, by a word of their id or name; where no job has it, a step.
    pub gates: Vec<String>,
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
            gates: ["lint", "typecheck", "test", "build", "e2e"]
                .map(String::from)
                .to_vec(),
            coverage_percent: 70,
            registries: ["npm", "pypi", "crates.io"].map(String::from).to_vec(),
            job_timeout_minutes: 60,
        }
    }
}
