//! Backups and what comes back from them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Backups.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Backups {
    /// Destination off this machine: `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix` or
    /// `file:///folder`. Nothing is backed up without one.
    pub target_url: Option<String>,
    /// Address of an S3 service that is not Amazon's, as R2's.
    pub endpoint_url: Option<String>,
    /// Absolute path of a file with the destination's credentials, `NAME=value` lines as its vendor names them; mode 0600,
    /// its owner the daemon's user.
    pub credentials_file: Option<String>,
    /// Accept a destination of production on the device that is protected.
    pub allow_same_device: bool,
    /// Hours between backups: a dump of each database, and with `wal` a base of each cluster.
    #[schemars(range(min = 1, max = 744))]
    pub database_hours: u32,
    /// Archive the write-ahead log continuously: any second can be brought back.
    pub wal: bool,
    /// Days between backups of secrets, each sealed to `recovery_recipient`.
    #[schemars(range(min = 1, max = 365))]
    pub secrets_days: u32,
    /// Public half of the recovery key to which backups of secrets are sealed, `age1…`: `astraler secrets recovery-key
    /// create` makes one, in three shares. Without it secrets are not backed up.
    #[schemars(regex(pattern = r"^age1[02-9ac-hj-np-z]{58}$"))]
    pub recovery_recipient: Option<String>,
    /// Days a backup is kept; the newest of each stays.
    #[schemars(range(min = 1, max = 3650))]
    pub retention_days: u32,
    /// Remote of the configuration's repository: what every environment runs is committed when it changes, and pushed
    /// there to `main`. Any address that git knows: `https://`, `ssh://`, `file://`.
    pub config_git_url: Option<String>,
    /// Absolute path of a file of the daemon's user: for `https://` git's store of credentials
    /// (`https://USER:TOKEN@host`), else a private key of ssh.
    pub config_git_credentials_file: Option<String>,
}

impl Default for Backups {
    fn default() -> Self {
        Self {
            target_url: None,
            endpoint_url: None,
            credentials_file: None,
            allow_same_device: false,
            database_hours: 24,
            wal: true,
            secrets_days: 7,
            recovery_recipient: None,
            retention_days: 30,
            config_git_url: None,
            config_git_credentials_file: None,
        }
    }
}

impl Backups {
    /// Whether the log of clusters goes to a destination.
    pub fn archives(&self) -> bool {
        self.wal && self.target_url.is_some()
    }
}

/// Restores.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Recovery {
    /// Hours between drills: a random point in time is restored into a scratch cluster and looked through.
    #[schemars(range(min = 1, max = 744))]
    pub drill_hours: u32,
    /// Most data that may be lost with the machine: the log goes to the destination twice as often.
    #[schemars(range(min = 10, max = 3600))]
    pub recovery_point_s: u32,
}

impl Default for Recovery {
    fn default() -> Self {
        Self {
            drill_hours: 24,
            recovery_point_s: 120,
        }
    }
}
