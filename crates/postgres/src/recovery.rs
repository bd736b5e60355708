//! A cluster brought back from its backup, before any server of it runs: base and log become its data folder.

use crate::binaries::Binaries;
use crate::cluster::{environment, text};
use crate::configuration::shell;
use astraler_model::{
    Cluster, DirectorySpec, Identity, Ready, ResourceLimits, RestartPolicy, StopPolicy, UnitName, UnitSpec,
};
use std::path::PathBuf;

/// What a cluster is brought back from, and where to.
#[derive(Debug, Clone, PartialEq)]
pub struct RecoveryConfig {
    /// Which of the two.
    pub cluster: Cluster,
    /// Programs of the version that made the backup.
    pub binaries: Binaries,
    /// Folder of the cluster.
    pub directory: PathBuf,
    /// Folder of its socket.
    pub socket_directory: PathBuf,
    /// Part of the socket's name.
    pub port: u16,
    /// The user it runs as.
    pub identity: Option<Identity>,
    /// Holds `base.tar.gz` and `wal/SEGMENT.gz`; that user can read it.
    pub from: PathBuf,
    /// Everything that was committed before, and nothing after: `2026-11-27 18:50:30.123+00`. Without it everything that
    /// is in the log.
    pub until: Option<String>,
}

/// A day: the log of a large base is long.
const TIMEOUT_MS: u64 = 86_400_000;

/// The data folder appears when it is whole, and never changes here once it is there. The server is ended when it has taken
/// the new timeline into use and would take connections.
const SCRIPT: &str = r#"
from=$1; data=$2; server=$3; shift 3
[ -f "$data/PG_VERSION" ] && exit 0
next=$data.recovering
rm -rf "$next"
mkdir -m 700 "$next"
tar -xzf "$from/base.tar.gz" -C "$next"
touch "$next/recovery.signal"
(
  until sed -n 8p "$next/postmaster.pid" 2>/dev/null | grep -q '^ready'; do sleep 0.05; done
  kill -INT "$(head -n 1 "$next/postmaster.pid")"
) &
watch=$!
ended=0
"$server" -D "$next" "$@" || ended=$?
kill "$watch" 2>/dev/null || true
[ "$ended" -eq 0 ] || exit "$ended"
[ ! -e "$next/recovery.signal" ] || { echo "the server ended before it had replayed the log" >&2; exit 1; }
sync -f "$next"
mv "$next" "$data"
sync "$(dirname "$data")"
"#;

/// The job that does it; does nothing where the cluster has its data.
pub fn recovery_unit(config: &RecoveryConfig) -> UnitSpec {
    let wal = format!("{}/%f.gz", config.from.join("wal").display());
    // `%f` and `%p` are the server's; a path of ours holds no other `%`.
    let wal = shell(&wal).replace("%%f.gz", "%f.gz");
    let mut argv = vec![
        "/bin/sh".to_owned(),
        "-euc".into(),
        SCRIPT.into(),
        "recover".into(),
        text(&config.from),
        text(&config.directory.join("data")),
        text(&config.binaries.directory.join("postgres")),
    ];
    let mut settings = vec![
        ("cluster_name", format!("astraler-{}-recovery", config.cluster)),
        ("listen_addresses", String::new()),
        ("unix_socket_directories", text(&config.socket_directory)),
        ("port", config.port.to_string()),
        ("logging_collector", "off".into()),
        ("archive_mode", "off".into()),
        ("hot_standby", "off".into()),
        ("shared_buffers", "128MB".into()),
        (
            "restore_command",
            format!("test -f {wal} && gzip -dc < {wal} > \"%p\""),
        ),
    ];
    if let Some(until) = &config.until {
        settings.extend([
            ("recovery_target_time", until.clone()),
            ("recovery_target_inclusive", "off".into()),
            ("recovery_target_action", "promote".into()),
        ]);
    }
    for (setting, value) in settings {
        argv.push("-c".into());
        argv.push(format!("{setting}={value}"));
    }
    UnitSpec {
        name: UnitName::new(format!("postgres-{}-recovery", config.cluster))
            .expect("made of lower-case letters and dashes"),
        argv,
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
        ready: Ready::Exited {
            timeout_ms: TIMEOUT_MS,
        },
        restart: RestartPolicy::Never,
        // To the server below the shell, whose end ends the shell: it begins anew the next time.
        stop: StopPolicy {
            signal: 3,
            grace_ms: 10_000,
            descendants: true,
        },
        limits: ResourceLimits::default(),
        log: Default::default(),
    }
}
