//! A cluster as units: the job that creates it and the server that runs it.

use crate::binaries::Binaries;
use crate::configuration::configuration_files;
use astraler_model::{
    Cluster, Credential, DirectorySpec, Identity, Ready, ResourceLimits, RestartPolicy, StopPolicy, UnitName,
    UnitSpec,
};
use sha2::Digest;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The cluster's superuser; only the control plane has its password.
pub const SUPERUSER: &str = "astraler";

/// What the machine offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// Physical memory, in bytes.
    pub memory_bytes: u64,
    /// Processor cores that may be used.
    pub cores: u32,
}

/// One cluster, completely.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterConfig {
    /// Which of the two.
    pub cluster: Cluster,
    /// Programs to run it with; their major version must be that of existing data.
    pub binaries: Binaries,
    /// Folder of the cluster: `data/` belongs to the engine, `conf/` to the control plane.
    pub directory: PathBuf,
    /// Folder of its Unix socket.
    pub socket_directory: PathBuf,
    /// Port: part of the socket's name, and the TCP port when `listen_loopback`.
    pub port: u16,
    /// Also listen on 127.0.0.1, for people's tools.
    pub listen_loopback: bool,
    /// The user it runs as; PostgreSQL refuses root.
    pub identity: Option<Identity>,
    /// File that holds the superuser's password, used once by `initdb`.
    pub superuser_password_file: PathBuf,
    /// Client connections the server allows.
    pub max_connections: u32,
    /// The machine it is tuned for.
    pub machine: Machine,
    /// The part of the machine's memory that this cluster may plan with, 0 to 1.
    pub share: f32,
    /// Where finished segments of the log go; nowhere when absent.
    pub archive: Option<ArchiveConfig>,
}

/// Continuous archiving: finished segments of the log are left, compressed, in a folder that somebody empties.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveConfig {
    /// The folder; the server's own user writes it, and whoever is of its group takes from it.
    pub spool: PathBuf,
    /// A segment is ended after so long, if anything was written.
    pub timeout_s: u32,
    /// So many segments may wait. Where one more does not fit, a file `gap` says so and the server goes on: an archive
    /// that is away must not fill the disk that the database is on.
    pub max_segments: u32,
}

impl ClusterConfig {
    /// The engine's own folder.
    pub fn data_directory(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// The folder into which [`configuration_files`] are written.
    pub fn conf_directory(&self) -> PathBuf {
        self.directory.join("conf")
    }
}

/// `initdb` is given this long on a slow disk.
const INITDB_TIMEOUT_MS: u64 = 120_000;

/// `initdb` cleans up after a failure but not after SIGKILL, so it fills `data.new` and the finished folder is
/// renamed: `data` is complete whenever it exists. A mismatch of versions is told before the server says it.
const INITDB_SCRIPT: &str = r#"
data=$1; version=$2; shift 2
if [ -f "$data/PG_VERSION" ]; then
  found=$(cat "$data/PG_VERSION")
  [ "$found" = "$version" ] && exit 0
  echo "the data in $data is of PostgreSQL $found, but PostgreSQL $version is installed: install postgresql-$found, or upgrade the data with pg_upgrade" >&2
  exit 1
fi
if [ -d "$data" ]; then
  rmdir "$data" || { echo "$data holds files but no PG_VERSION: it is no cluster; move it away" >&2; exit 1; }
fi
rm -rf "$data.new"
"$@" -D "$data.new" --pwfile="$CREDENTIALS_DIRECTORY/superuser"
mv "$data.new" "$data"
sync "$(dirname "$data")"
"#;

/// The job that creates the cluster; does nothing when it exists, and heals one that was killed half-way.
pub fn initdb_unit(config: &ClusterConfig) -> UnitSpec {
    let mut argv = vec![
        "/bin/sh".to_owned(),
        "-euc".into(),
        INITDB_SCRIPT.into(),
        "initdb".into(),
        text(&config.data_directory()),
        config.binaries.major.to_string(),
        text(&config.binaries.directory.join("initdb")),
        "--username".into(),
        SUPERUSER.into(),
        "--auth=scram-sha-256".into(),
        "--data-checksums".into(),
        "--encoding=UTF8".into(),
        "--no-instructions".into(),
    ];
    // The built-in provider (17) sorts by code point and never changes with the C library under an index.
    if config.binaries.major >= 17 {
        argv.extend(["--locale-provider=builtin", "--builtin-locale=C.UTF-8"].map(String::from));
        argv.push("--locale=C".into());
    } else {
        argv.push("--locale=C.UTF-8".into());
    }
    UnitSpec {
        name: unit_name(config.cluster, "-initdb"),
        argv,
        env: environment(),
        cwd: None,
        identity: config.identity.clone(),
        directories: vec![DirectorySpec {
            path: config.directory.clone(),
            mode: 0o750,
            group: None,
        }],
        credentials: vec![Credential {
            name: "superuser".into(),
            source: config.superuser_password_file.clone(),
        }],
        stdin: None,
        listeners: vec![],
        ready: Ready::Exited {
            timeout_ms: INITDB_TIMEOUT_MS,
        },
        restart: RestartPolicy::Never,
        stop: StopPolicy::default(),
        limits: ResourceLimits::default(),
        log: Default::default(),
    }
}

/// The server. A change of its configuration files changes the unit, so that they are never out of step.
pub fn server_unit(config: &ClusterConfig) -> UnitSpec {
    let conf = config.conf_directory();
    let mut env = environment();
    env.insert("ASTRALER_CONFIGURATION".into(), configuration_digest(config));
    // The postmaster is spared by the kernel's out-of-memory killer; its children are not: losing one is an
    // error for one client, losing the postmaster is an outage (PostgreSQL manual, 19.4.4).
    let root = config.identity.is_some();
    if root {
        env.insert("PG_OOM_ADJUST_FILE".into(), "/proc/self/oom_score_adj".into());
        env.insert("PG_OOM_ADJUST_VALUE".into(), "0".into());
    }
    UnitSpec {
        name: unit_name(config.cluster, ""),
        argv: vec![
            text(&config.binaries.directory.join("postgres")),
            "-D".into(),
            text(&config.data_directory()),
            "-c".into(),
            format!("config_file={}", conf.join("postgresql.conf").display()),
            "-c".into(),
            format!("hba_file={}", conf.join("pg_hba.conf").display()),
        ],
        env,
        cwd: None,
        identity: config.identity.clone(),
        directories: vec![
            DirectorySpec {
                path: config.directory.clone(),
                mode: 0o750,
                group: None,
            },
            DirectorySpec {
                path: config.socket_directory.clone(),
                mode: 0o750,
                group: None,
            },
        ]
        .into_iter()
        .chain(config.archive.iter().map(|archive| DirectorySpec {
            path: archive.spool.clone(),
            mode: 0o770,
            group: None,
        }))
        .collect(),
        credentials: vec![],
        stdin: None,
        listeners: vec![],
        ready: Ready::Spawned,
        restart: RestartPolicy::default(),
        // Fast shutdown: open transactions are rolled back, then a checkpoint is written.
        stop: StopPolicy {
            signal: 2,
            grace_ms: 30_000,
            descendants: false,
        },
        limits: ResourceLimits {
            open_files: Some(8_192),
            oom_score_adj: root.then_some(-500),
            ..ResourceLimits::default()
        },
        log: Default::default(),
    }
}

fn unit_name(cluster: Cluster, suffix: &str) -> UnitName {
    UnitName::new(format!("postgres-{cluster}{suffix}")).expect("made of lower-case letters and dashes")
}

pub(crate) fn environment() -> BTreeMap<String, String> {
    [
        ("PATH", "/usr/bin:/bin"),
        ("LANG", "C.UTF-8"),
        ("LC_ALL", "C.UTF-8"),
        ("TZ", "UTC"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

fn configuration_digest(config: &ClusterConfig) -> String {
    let mut hasher = sha2::Sha256::new();
    for (name, contents) in configuration_files(config) {
        hasher.update(name);
        hasher.update([0]);
        hasher.update(contents);
    }
    hex::encode(hasher.finalize())
}

pub(crate) fn text(path: &Path) -> String {
    path.display().to_string()
}
