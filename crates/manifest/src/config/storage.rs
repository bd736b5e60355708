//! Object storage and its second location.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Object storage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Storage {
    /// Second location off this machine, written to in real time: `s3://bucket/prefix`, `gs://bucket/prefix`,
    /// `az://container/prefix` or `file:///folder`. Production's buckets go there, and those of environments that say
    /// `replicate_storage`.
    pub replication_url: Option<String>,
    /// Address of an S3 service that is not Amazon's, as R2's.
    pub replication_endpoint_url: Option<String>,
    /// Absolute path of a file with the second location's credentials, `NAME=value` lines as its vendor names them; mode
    /// 0600, its owner the user of the data role.
    pub replication_credentials_file: Option<String>,
    /// Days after which unfinished uploads go; 0 is never.
    #[schemars(extend("x-astraler-status" = "planned"))]
    pub lifecycle_days: u32,
    /// Space of all buckets together.
    #[schemars(extend("x-astraler-status" = "planned"))]
    pub max_bytes: u64,
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            replication_url: None,
            replication_endpoint_url: None,
            replication_credentials_file: None,
            lifecycle_days: 0,
            max_bytes: 100 << 30,
        }
    }
}
