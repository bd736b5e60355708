//! A scratch cluster: a backup of another one, brought to a point in time, for as long as somebody reads from it.

use crate::binaries::Binaries;
use crate::cluster::{environment, text};
use crate::configuration::shell;
use astraler_model::{
    DirectorySpec, Identity, Ready, ResourceLimits, RestartPolicy, StopPolicy, UnitName, UnitSpec,
};
use std::path::PathBuf;

/// What a scratch cluster is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct ScratchConfig {
    /// Programs of the version that made the backup.
    pub binaries: Binaries,
    /// Its own folder, emptied before.
    pub directory: PathBuf,
    /// Folder of its socket.
    pub socket_directory: PathBuf,
    /// Part of the socket's name.
    pub port: u16,
    /// The user it runs as.
    pub identity: Option<Identity>,
    /// Holds `base.tar.gz` and `wal/SEGMENT.gz`; that user can read it.
    pub from: PathBuf,
    /// The `conf/` folder of the cluster that was backed up.
    pub conf: PathBuf,
    /// Everything that was committed before, and nothing after: `2026-11-27 18:50:30.123+00`.
    pub until: String,
}

const UNPACK_TIMEOUT_MS: u64 = 3_600_000;

/// Whatever an interrupted restore has left goes first.
const UNPACK_SCRIPT: &str = r#"
from=$1; data=$2
rm -rf "$data"
mkdir -m 700 "$data"
tar -xzf "$from/base.tar.gz" -C "$data"
touch "$data/recovery.signal"
"#;

/// Names of the units.
pub fn scratch_units() -> [UnitName; 3] {
    [
        "postgres-scratch-unpack",
        "postgres-scratch",
        "postgres-scratch-pages",
    ]
    .map(|name| UnitName::new(name).expect("made of lower-case letters and dashes"))
}

/// The job that unpacks the base.
pub fn unpack_unit(config: &ScratchConfig) -> UnitSpec {
    let [name, ..] = scratch_units();
    UnitSpec {
        argv: vec![
            "/bin/sh".into(),
            "-euc".into(),
            UNPACK_SCRIPT.into(),
            "unpack".into(),
            text(&config.from),
            text(&config.directory.join("data")),
        ],
        ready: Ready::Exited {
            timeout_ms: UNPACK_TIMEOUT_MS,
        },
        ..unit(config, name)
    }
}

/// The job that looks at the checksum of every page, once the server was stopped.
pub fn checksums_unit(config: &ScratchConfig) -> UnitSpec {
    let [_, _, name] = scratch_units();
    UnitSpec {
        argv: vec![
            text(&config.binaries.directory.join("pg_checksums")),
            "--check".into(),
            "-D".into(),
            text(&config.directory.join("data")),
        ],
        ready: Ready::Exited {
            timeout_ms: UNPACK_TIMEOUT_MS,
        },
        ..unit(config, name)
    }
}

/// The server: it replays the log until the point, then takes connections.
pub fn scratch_unit(config: &ScratchConfig) -> UnitSpec {
    let [_, name, _] = scratch_units();
    let wal = format!("{}/%f.gz", config.from.join("wal").display());
    // `%f` and `%p` are the server's; a path of ours holds no other `%`.
    let wal = shell(&wal).replace("%%f.gz", "%f.gz");
    let restore = format!("test -f {wal} && gzip -dc < {wal} > \"%p\"");
    let mut argv = vec![
        text(&config.binaries.directory.join("postgres")),
        "-D".into(),
        text(&config.directory.join("data")),
    ];
    let settings = [
        (
            "config_file",
            config.conf.join("postgresql.conf").display().to_string(),
        ),
        ("hba_file", config.conf.join("pg_hba.conf").display().to_string()),
        ("cluster_name", "astraler-scratch".into()),
        ("listen_addresses", String::new()),
        (
            "unix_socket_directories",
            config.socket_directory.display().to_string(),
        ),
        ("port", config.port.to_string()),
        ("archive_mode", "off".into()),
        ("hot_standby", "off".into()),
        ("restore_command", restore),
        ("recovery_target_time", config.until.clone()),
        ("recovery_target_inclusive", "off".into()),
        ("recovery_target_action", "promote".into()),
        // It is read once and thrown away: what a loss of power takes is made again.
        ("fsync", "off".into()),
        ("full_page_writes", "off".into()),
        ("shared_buffers", "64MB".into()),
        ("autovacuum", "off".into()),
    ];
    for (setting, value) in settings {
        argv.push("-c".into());
        argv.push(format!("{setting}={value}"));
    }
    UnitSpec {
        argv,
        // Fast shutdown: without `fsync` it takes no time, and pages that are whole can be checked afterwards.
        stop: StopPolicy {
            signal: 2,
            grace_ms: 60_000,
            descendants: false,
        },
        ..unit(config, name)
    }
}

fn unit(config: &ScratchConfig, name: UnitName) -> UnitSpec {
    UnitSpec {
        name,
        argv: vec![],
        env: environment(),
        cwd: None,
        identity: config.identity.clone(),
        directories: [&config.directory, &config.socket_directory]
            .map(|path| DirectorySpec {
                path: path.clone(),
                mode: 0o750,
                group: None,
            })
            .into(),
        credentials: vec![],
        stdin: None,
        listeners: vec![],
        ready: Ready::Spawned,
        restart: RestartPolicy::Never,
        stop: StopPolicy::default(),
        limits: ResourceLimits::default(),
        log: Default::default(),
    }
}
