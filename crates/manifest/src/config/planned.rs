//! What later work makes effective. The defaults are the requirement's own figures.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where an environment runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// This machine.
    #[default]
    Local,
    /// Cloudflare, Supabase, Upstash.
    Cloud,
}

/// How far things grow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Scaling {
    /// Connections at once.
    pub concurrent_users: u32,
    /// Requests.
    pub requests_per_s: u32,
    /// Minutes without a request after which workers sleep.
    pub idle_sleep_minutes: u32,
}

impl Default for Scaling {
    fn default() -> Self {
        Self {
            concurrent_users: 10_000,
            requests_per_s: 5_000,
            idle_sleep_minutes: 15,
        }
    }
}

/// The console.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Console {
    /// Port.
    pub port: u16,
    /// Networks that may reach it, in CIDR form.
    pub allow_list: Vec<String>,
}

impl Default for Console {
    fn default() -> Self {
        Self {
            port: 3001,
            allow_list: vec![],
        }
    }
}

/// Accounts of the cloud target. No secret stands here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cloud {
    /// Cloudflare account.
    pub cloudflare_account_id: Option<String>,
    /// Supabase organisation.
    pub supabase_organization_id: Option<String>,
    /// Primary region of Redis.
    pub upstash_region: String,
    /// Region of the database.
    pub region: String,
    /// Where OpenTofu keeps its state.
    pub state_backend: String,
}

impl Default for Cloud {
    fn default() -> Self {
        Self {
            cloudflare_account_id: None,
            supabase_organization_id: None,
            upstash_region: "eu-west-1".into(),
            region: "eu-central-1".into(),
            state_backend: "local".into(),
        }
    }
}
