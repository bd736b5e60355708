//! A unit: one supervised process, described completely, so that starting it takes no further decision.
//!
//! The words follow systemd where it has one (unit, socket activation, credentials).

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The name of a unit: lower-case letters, digits, `-`, `.` and `@`; 1 to 64 bytes. It is also a file name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct UnitName(String);

/// The text cannot name a unit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` cannot name a unit: expected 1 to 64 of a-z, 0-9, '-', '.', '@', not starting with '.'")]
pub struct UnitNameError(String);

impl UnitName {
    /// Checks and wraps a name.
    pub fn new(name: impl Into<String>) -> Result<Self, UnitNameError> {
        let name = name.into();
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.' | b'@');
        let valid = (1..=64).contains(&name.len()) && name.bytes().all(allowed) && !name.starts_with('.');
        if valid {
            Ok(Self(name))
        } else {
            Err(UnitNameError(name))
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<UnitName> for String {
    fn from(name: UnitName) -> Self {
        name.0
    }
}

impl TryFrom<String> for UnitName {
    type Error = UnitNameError;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        Self::new(name)
    }
}

/// Everything that is needed to start and keep one process. Holds no secret: those are files named in
/// [`UnitSpec::credentials`] or [`UnitSpec::stdin`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitSpec {
    /// Its name, unique in one platform.
    pub name: UnitName,
    /// Absolute path of the program, then its arguments. Never a secret: others can read them.
    pub argv: Vec<String>,
    /// The whole environment: nothing is inherited.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Working folder; `/` when absent.
    #[serde(default)]
    pub cwd: Option<PathBuf>,
    /// The user and groups it runs as; absent means those of `keep` itself.
    #[serde(default)]
    pub identity: Option<Identity>,
    /// Folders made (with parents) and given to the identity before it starts.
    #[serde(default)]
    pub directories: Vec<DirectorySpec>,
    /// Files copied, readable by the identity alone, into its own folder `$CREDENTIALS_DIRECTORY` before it starts.
    #[serde(default)]
    pub credentials: Vec<Credential>,
    /// File that is its standard input, opened before privileges are dropped; `/dev/null` when absent.
    #[serde(default)]
    pub stdin: Option<PathBuf>,
    /// Listening sockets that `keep` binds, holds across restarts, and passes as descriptors 3, 4, …
    /// (`LISTEN_FDS`, `LISTEN_FDNAMES` as in sd_listen_fds(3)).
    #[serde(default)]
    pub listeners: Vec<Listener>,
    /// When it counts as started.
    #[serde(default)]
    pub ready: Ready,
    /// What happens when it ends by itself.
    #[serde(default)]
    pub restart: RestartPolicy,
    /// How it is asked to end.
    #[serde(default)]
    pub stop: StopPolicy,
    /// What it may use.
    #[serde(default)]
    pub limits: ResourceLimits,
    /// How much of its output is kept.
    #[serde(default)]
    pub log: LogPolicy,
}

/// Numeric user and groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary group ids.
    #[serde(default)]
    pub groups: Vec<u32>,
}

/// A folder that must exist before the unit starts, owned by its identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectorySpec {
    /// Absolute path.
    pub path: PathBuf,
    /// Permission bits, for example `0o700`.
    pub mode: u32,
    /// Group that owns it, when not the identity's primary group.
    #[serde(default)]
    pub group: Option<u32>,
}

/// A file handed to the unit, as systemd's `LoadCredential=`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// File name inside `$CREDENTIALS_DIRECTORY`.
    pub name: String,
    /// Absolute path of the source.
    pub source: PathBuf,
}

/// A listening socket that outlives the process that serves it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Its name in `LISTEN_FDNAMES`; letters, digits, `-` and `_`.
    pub name: String,
    /// Where it listens.
    pub address: ListenAddress,
    /// Length of the queue of connections not accepted yet.
    #[serde(default = "default_backlog")]
    pub backlog: u32,
}

fn default_backlog() -> u32 {
    1024
}

/// Where a socket listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListenAddress {
    /// A TCP address; port 0 is not allowed in a spec (allocate it first).
    Tcp(SocketAddr),
    /// One more socket at the address of a `Tcp` of the same unit, with a queue of its own: the kernel divides
    /// connections among them (SO_REUSEPORT).
    TcpShare {
        /// Address and port, as the first has them.
        address: SocketAddr,
        /// From 1 on; the `Tcp` is the first.
        share: u16,
    },
    /// A UDP address. Several with one address and different shares divide its packets among them, by their senders
    /// (SO_REUSEPORT).
    Udp {
        /// Address and port; port 0 is not allowed.
        address: SocketAddr,
        /// 0 for the first or only one.
        #[serde(default)]
        share: u16,
    },
    /// A Unix socket: path (at most 107 bytes), permission bits, owning group.
    Unix {
        /// Absolute path; a stale file there is replaced.
        path: PathBuf,
        /// Permission bits, for example `0o660`.
        mode: u32,
        /// Owning group id, when not that of the unit's identity.
        #[serde(default)]
        group: Option<u32>,
    },
}

/// When a unit counts as started.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ready {
    /// As soon as its program runs.
    #[default]
    Spawned,
    /// When it has written one line to the descriptor whose number is in `$READY_FD` (and, so that programs
    /// which take it as an argument can be told, substituted for `{READY_FD}` in `argv`).
    Line {
        /// How long that may take.
        timeout_ms: u64,
    },
    /// When it has ended with status 0: a job that runs once. `restart` must be `Never`.
    Exited {
        /// How long that may take.
        timeout_ms: u64,
    },
}

/// What happens when a unit ends by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartPolicy {
    /// It stays ended.
    Never,
    /// It is started again, after a growing delay, until it has ended `limit` times within `window_ms`.
    Always {
        /// First delay; doubles each time.
        backoff_ms: u64,
        /// The longest delay.
        max_backoff_ms: u64,
        /// So many ends within the window make it `Failed`.
        limit: u32,
        /// The window.
        window_ms: u64,
    },
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self::Always {
            backoff_ms: 50,
            max_backoff_ms: 10_000,
            limit: 10,
            window_ms: 60_000,
        }
    }
}

/// How a unit is asked to end: the signal, then SIGKILL to its whole group after the grace period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopPolicy {
    /// Signal number; SIGTERM (15) by default. PostgreSQL's fast shutdown is SIGINT (2).
    pub signal: i32,
    /// How long it may take after the signal.
    pub grace_ms: u64,
    /// The signal goes to the descendants of the unit's process instead of to itself: for programs run below a
    /// monitor that passes no signal on, as bubblewrap's. The unit has ended when its own process has.
    #[serde(default)]
    pub descendants: bool,
}

impl Default for StopPolicy {
    fn default() -> Self {
        Self {
            signal: 15,
            grace_ms: 10_000,
            descendants: false,
        }
    }
}

/// What a unit may use. `None` is no limit of its own.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ResourceLimits {
    /// Memory of the whole process group, enforced by cgroup v1 or v2 where available.
    #[serde(default)]
    pub memory_bytes: Option<u64>,
    /// Processes and threads, enforced by cgroup where available.
    #[serde(default)]
    pub pids: Option<u64>,
    /// Open files (RLIMIT_NOFILE); clamped to the hard limit.
    #[serde(default)]
    pub open_files: Option<u64>,
    /// Value written to `oom_score_adj`, -1000 to 1000.
    #[serde(default)]
    pub oom_score_adj: Option<i32>,
}

/// How much of a unit's output is kept on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPolicy {
    /// A file is rotated when it reaches this size.
    pub max_file_bytes: u64,
    /// Rotated files kept beside the current one.
    pub keep_files: u32,
}

impl Default for LogPolicy {
    fn default() -> Self {
        Self {
            max_file_bytes: 8 << 20,
            keep_files: 3,
        }
    }
}

/// Where a unit is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnitPhase {
    /// Its process runs, but it is not ready yet.
    Starting,
    /// It is ready.
    Running,
    /// It ended and waits for its next start.
    Backoff,
    /// It was asked to end.
    Stopping,
    /// A one-time job that ended with status 0, or a unit that was stopped.
    Stopped,
    /// It ended too often, never became ready, or a one-time job ended with another status.
    Failed,
}

/// What `keep` knows of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitStatus {
    /// Its name.
    pub name: UnitName,
    /// Where it is in its life.
    pub phase: UnitPhase,
    /// Its process, while there is one.
    pub pid: Option<u32>,
    /// Starts since it was defined, the first included.
    pub starts: u64,
    /// When its present process started, in milliseconds since the Unix epoch.
    pub since_ms: Option<u64>,
    /// How its last process ended: `exit status 1`, `signal 9 (SIGKILL)`; absent where that is not known
    /// (adopted processes are not our children).
    pub last_exit: Option<String>,
    /// SHA-256 of the spec it was started with, in hex.
    pub spec_digest: String,
}

impl UnitSpec {
    /// SHA-256 of the canonical JSON form, in hex: two specs with one digest start the same process.
    pub fn digest(&self) -> String {
        use sha2::Digest;
        let json = serde_json::to_vec(self).unwrap_or_default();
        hex::encode(sha2::Sha256::digest(json))
    }
}
