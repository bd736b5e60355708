//! Where one platform lives on this machine, and with what it runs.

use astraler_model::{Cluster, Environment, Identity};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// One platform on one machine: written by the command line before the daemon starts, read by every process.
/// It holds no secret and is readable by all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installation {
    /// Short identifier: names the runtime folder and the cgroups.
    pub id: String,
    /// The application's name.
    pub application: String,
    /// The folders.
    pub layout: Layout,
    /// The users, when started as root.
    pub identities: Identities,
    /// The user who owns the platform: may use the admin socket.
    pub owner_uid: u32,
    /// The program that every process of ours runs.
    pub program: PathBuf,
    /// The TCP ports.
    pub ports: Ports,
    /// Addresses on which the edge listens.
    pub listen_addresses: Vec<std::net::IpAddr>,
    /// Folders of engines that the user chose instead of what is found.
    #[serde(default)]
    pub engines: Engines,
    /// Which process isolation is in force, in words: what `keep` can do, not what the daemon may.
    #[serde(default)]
    pub isolation: Vec<String>,
}

/// The folders of one platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// What must survive a restart of the machine.
    pub state: PathBuf,
    /// Sockets, snapshots and secrets in use; short, because a socket's path has 107 bytes.
    pub runtime: PathBuf,
    /// The root key, outside the state.
    pub config: PathBuf,
    /// Pinned npm tools, shared by all platforms of this user.
    pub tools: PathBuf,
}

/// The users of the processes. `None` everywhere when not started as root: all run as the owner.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identities {
    /// Opens the root key.
    pub daemon: Option<Identity>,
    /// Listeners.
    pub edge: Option<Identity>,
    /// Data credentials.
    pub data: Option<Identity>,
    /// The workers' way out.
    pub egress: Option<Identity>,
    /// workerd.
    pub worker: Option<Identity>,
    /// PostgreSQL.
    pub postgres: Option<Identity>,
    /// Redis.
    pub redis: Option<Identity>,
    /// The pipeline's runs.
    #[serde(default)]
    pub runner: Option<Identity>,
    /// Records.
    #[serde(default)]
    pub signal: Option<Identity>,
}

/// Folders in which the engines' programs are looked for; `None` is the system's usual places.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Engines {
    /// Holds `postgres` and `initdb`.
    pub postgres: Option<PathBuf>,
    /// Holds `redis-server` or `valkey-server`.
    pub redis: Option<PathBuf>,
}

impl Engines {
    /// A PostgreSQL of these major versions, both included.
    pub fn postgres(
        &self,
        min: u32,
        max: u32,
    ) -> Result<astraler_postgres::Binaries, astraler_postgres::BinariesError> {
        match &self.postgres {
            Some(folder) => astraler_postgres::find_binaries_in(folder, min, max),
            None => astraler_postgres::find_binaries(min, max),
        }
    }

    /// A Redis or Valkey.
    pub fn redis(&self) -> Result<astraler_redis::Binary, astraler_redis::BinaryError> {
        match &self.redis {
            Some(folder) => astraler_redis::find_binary_in(folder),
            None => astraler_redis::find_binary(),
        }
    }
}

/// The port table: every TCP port of the platform, all on loopback but for `http` and `https`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// The edge.
    pub http: u16,
    /// The edge, with TLS. A record of an older version has none.
    #[serde(default)]
    pub https: u16,
    /// The S3 API.
    pub s3: u16,
    /// The platform's own API, and git.
    pub api: u16,
    /// The Upstash REST API.
    pub redis_rest: u16,
    /// PostgreSQL: development, staging, previews.
    pub postgres_shared: u16,
    /// PostgreSQL: production.
    pub postgres_production: u16,
    /// DNS, at the addresses of the edge, UDP and TCP. 0 is none; a record of an older version has none.
    #[serde(default)]
    pub dns: u16,
}

/// The file that describes the installation cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum InstallationError {
    /// No such file, or no right to read it.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not what we write there.
    #[error("{path} is not an installation record of this version")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

impl Installation {
    /// Reads the record.
    pub fn load(path: &Path) -> Result<Self, InstallationError> {
        let bytes = std::fs::read(path).map_err(|source| InstallationError::Read {
            path: path.to_owned(),
            source,
        })?;
        serde_json::from_slice(&bytes).map_err(|source| InstallationError::Parse {
            path: path.to_owned(),
            source,
        })
    }

    /// SHA-256 of the record, in hex: another digest is another installation.
    pub fn digest(&self) -> String {
        use sha2::Digest;
        hex::encode(sha2::Sha256::digest(serde_json::to_vec(self).unwrap_or_default()))
    }

    /// Group of a role, for files and sockets that it must reach.
    pub(crate) fn group(identity: Option<&Identity>) -> Option<u32> {
        identity.map(|identity| identity.gid)
    }

    /// The port of a cluster.
    pub fn postgres_port(&self, cluster: Cluster) -> u16 {
        match cluster {
            Cluster::Production => self.ports.postgres_production,
            Cluster::Shared => self.ports.postgres_shared,
        }
    }
}

/// Paths below the four folders: the only place that spells them.
impl Layout {
    /// The record itself.
    pub fn installation_file(&self) -> PathBuf {
        self.state.join("installation.json")
    }
    /// The port table.
    pub fn port_table(&self) -> PathBuf {
        self.state.join("ports.json")
    }
    /// Held by whoever runs `up` or `down`.
    pub fn change_lock(&self) -> PathBuf {
        self.state.join("change.lock")
    }
    /// The control plane's database.
    pub fn control_database(&self) -> PathBuf {
        self.state.join("control/control.db")
    }
    /// Releases, by digest.
    pub fn releases(&self) -> PathBuf {
        self.state.join("releases")
    }
    /// Managed rules that `astraler waf update` brought: a folder each, and the link `current` to the one in force.
    pub fn waf_rules(&self) -> PathBuf {
        self.state.join("waf")
    }
    /// Output of the units.
    pub fn logs(&self) -> PathBuf {
        self.state.join("logs")
    }
    /// Certificates and their keys: the edge reads them.
    pub fn certificates(&self) -> PathBuf {
        self.state.join("tls")
    }
    /// The local CA's certificate, as `astraler tls trust` writes it for clients.
    pub fn local_authority(&self) -> PathBuf {
        self.state.join("local-ca.pem")
    }
    /// The edge's access log.
    pub fn access_log(&self) -> PathBuf {
        self.state.join("logs/edge/access.log")
    }
    /// The disk tier of the edge's cache. Nothing in it is missed.
    pub fn edge_cache(&self) -> PathBuf {
        self.state.join("cache")
    }
    /// What the owner's shell says of registries and certificates: runs use the same. The daemon's environment is bare.
    pub fn machine(&self) -> PathBuf {
        self.state.join("machine.json")
    }
    /// What the daemon and a run of the pipeline share: one folder each.
    pub fn run(&self, number: u64) -> PathBuf {
        self.state.join("runs").join(number.to_string())
    }
    /// The runner's own: work folders, caches, artifacts, tools.
    pub fn pipeline(&self) -> PathBuf {
        self.state.join("pipeline")
    }
    /// Sockets through which the jobs of a run reach the platform.
    pub fn run_sockets(&self, number: u64) -> PathBuf {
        self.runtime.join("runs").join(number.to_string())
    }
    /// The repository of the configuration; no application bears such a name.
    pub fn config_git(&self) -> PathBuf {
        self.state.join("git").join("@configuration.git")
    }
    /// The application's repository.
    pub fn repository(&self, application: &str) -> PathBuf {
        self.state.join("git").join(format!("{application}.git"))
    }
    /// Records of what happened.
    pub fn signal(&self) -> PathBuf {
        self.state.join("signal")
    }
    /// Object storage.
    pub fn storage(&self) -> PathBuf {
        self.state.join("storage")
    }
    /// A PostgreSQL cluster.
    pub fn cluster(&self, cluster: Cluster) -> PathBuf {
        self.state.join("postgres").join(cluster.name())
    }
    /// Segments of a cluster's log on their way to the destination of backups.
    pub fn wal_spool(&self, cluster: Cluster) -> PathBuf {
        self.cluster(cluster).join("spool")
    }
    /// Where backups are put together that are not the engines'.
    pub fn backup_work(&self) -> PathBuf {
        self.state.join("control/backup")
    }
    /// The scratch cluster of a restore; the next one empties what an interrupted one has left.
    pub fn scratch(&self) -> PathBuf {
        self.state.join("postgres/scratch")
    }
    /// What a restore has fetched.
    pub fn fetched(&self) -> PathBuf {
        self.state.join("postgres/fetched")
    }
    /// Folder of the scratch cluster's socket.
    pub fn scratch_socket(&self) -> PathBuf {
        self.runtime.join("postgres").join("scratch")
    }
    /// Major version of the PostgreSQL that made a cluster: no other can open it.
    pub fn cluster_version(&self, cluster: Cluster) -> PathBuf {
        self.state
            .join("postgres")
            .join(format!("{}.version", cluster.name()))
    }
    /// A Redis.
    pub fn redis(&self, environment: Environment) -> PathBuf {
        self.state.join("redis").join(environment.to_string())
    }
    /// The root key.
    pub fn root_key(&self) -> PathBuf {
        self.config.join("root.key")
    }
    /// The root key that is about to take its place.
    pub fn next_root_key(&self) -> PathBuf {
        self.config.join("root.key.next")
    }
    /// Control socket of `keep`.
    pub fn keep_socket(&self) -> PathBuf {
        self.runtime.join("keep.sock")
    }
    /// Admin socket of the daemon.
    pub fn admin_socket(&self) -> PathBuf {
        self.runtime.join("admin.sock")
    }
    /// Where the edge asks the daemon to wake an environment.
    pub fn wake_socket(&self) -> PathBuf {
        self.runtime.join("wake.sock")
    }
    /// What the daemon publishes.
    pub fn snapshot(&self, role: &str) -> PathBuf {
        self.runtime.join("snapshots").join(format!("{role}.json"))
    }
    /// Status socket of a process of the data plane.
    pub fn status_socket(&self, role: &str) -> PathBuf {
        self.runtime.join("status").join(format!("{role}.sock"))
    }
    /// Sockets that a sandboxed worker may reach: one folder each, bound into the sandbox.
    pub fn worker_socket(&self, name: &str) -> PathBuf {
        self.runtime.join("worker").join(name).join("s.sock")
    }
    /// The REST API's socket, for `egress`.
    pub fn rest_socket(&self) -> PathBuf {
        self.runtime.join("rest.sock")
    }
    /// Folder of a deployment's configuration and sockets.
    pub fn deployment(&self, deployment: &str) -> PathBuf {
        self.runtime.join("deployments").join(deployment)
    }
    /// Folder of a cluster's socket.
    pub fn postgres_socket(&self, cluster: Cluster) -> PathBuf {
        self.runtime.join("postgres").join(cluster.name())
    }
    /// A Redis socket.
    pub fn redis_socket(&self, environment: Environment) -> PathBuf {
        self.runtime
            .join("redis")
            .join(environment.to_string())
            .join("redis.sock")
    }
    /// Keys that sign zones and that secondaries have: the edge reads them.
    pub fn dns_keys(&self) -> PathBuf {
        self.runtime.join("dns")
    }
    /// Secrets on their way to a unit.
    pub fn secret(&self, name: &str) -> PathBuf {
        self.runtime.join("secrets").join(name)
    }
}
