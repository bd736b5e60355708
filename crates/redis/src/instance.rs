//! One environment's Redis as a unit with its configuration.

use crate::binary::Binary;
use astraler_model::{
    DirectorySpec, Environment, Identity, Ready, ResourceLimits, RestartPolicy, StopPolicy, UnitName,
    UnitSpec,
};
use sha2::Digest;
use std::path::{Path, PathBuf};

/// ACL user of the application and of the REST API.
pub const USER: &str = "app";

/// ACL user behind the read-only token of the REST API; its password is the application's.
pub const READ_ONLY_USER: &str = "readonly";

/// ACL user of the control plane: reads and sets what may change while Redis runs, and sees no data.
pub const CONTROL_USER: &str = "control";

/// One environment's Redis, completely.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceConfig {
    /// The environment.
    pub environment: Environment,
    /// Program to run it with.
    pub binary: Binary,
    /// Its folder: `data/` belongs to the engine.
    pub directory: PathBuf,
    /// Unix socket on which it listens; there is no TCP port.
    pub socket: PathBuf,
    /// The user it runs as.
    pub identity: Option<Identity>,
    /// Memory for data; above it, `maxmemory_policy` decides.
    pub maxmemory_bytes: u64,
    /// `noeviction`, `allkeys-lru`… as in redis.conf.
    pub maxmemory_policy: String,
    /// `always`, `everysec` or `no`, as in redis.conf.
    pub appendfsync: String,
    /// Where `users.acl` is; the configuration file lies beside it.
    pub acl_file: PathBuf,
}

/// A file that must lie beside [`InstanceConfig::acl_file`] before the unit starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigurationFile {
    /// File name.
    pub name: String,
    /// Contents.
    pub contents: String,
    /// For the engine's eyes only.
    pub secret: bool,
}

const CONFIGURATION: &str = "redis.conf";

/// What the application may do beyond everything harmless: what Upstash allows too. `CLIENT` is limited to
/// the subcommands that drivers send when they connect.
const ALSO_ALLOWED: &str = "+flushdb +flushall +keys +sort +sort_ro +info +role +restore \
    +client|id +client|info +client|getname +client|setname +client|reply +client|tracking +client|caching \
    +client|no-evict";

/// The configuration and the users. The passwords appear as SHA-256 only.
pub fn configuration_files(
    config: &InstanceConfig,
    password: &str,
    control_password: &str,
) -> Vec<ConfigurationFile> {
    let users = config
        .acl_file
        .file_name()
        .map_or("users.acl".into(), |name| name.to_string_lossy().into_owned());
    vec![
        ConfigurationFile {
            name: CONFIGURATION.into(),
            contents: configuration(config),
            secret: false,
        },
        ConfigurationFile {
            name: users,
            contents: acl(password, control_password),
            secret: true,
        },
    ]
}

/// The server. It is ready when it answers [`crate::ping`].
pub fn unit(config: &InstanceConfig) -> UnitSpec {
    let socket_folder = config.socket.parent().unwrap_or(Path::new("/")).to_owned();
    UnitSpec {
        name: UnitName::new(format!("redis-{}", config.environment)).expect("an environment's name fits"),
        argv: vec![
            text(&config.binary.path),
            text(&config.acl_file.with_file_name(CONFIGURATION)),
        ],
        env: [("LC_ALL", "C.UTF-8"), ("TZ", "UTC")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into(),
        cwd: None,
        identity: config.identity.clone(),
        directories: vec![
            DirectorySpec {
                path: config.directory.clone(),
                mode: 0o750,
                group: None,
            },
            DirectorySpec {
                path: data_directory(config),
                mode: 0o700,
                group: None,
            },
            DirectorySpec {
                path: socket_folder,
                mode: 0o750,
                group: None,
            },
        ],
        credentials: vec![],
        stdin: None,
        listeners: vec![],
        ready: Ready::Spawned,
        restart: RestartPolicy::default(),
        // SIGTERM writes what is buffered before it ends.
        stop: StopPolicy {
            signal: 15,
            grace_ms: 30_000,
            descendants: false,
        },
        limits: ResourceLimits {
            open_files: Some(4_096),
            ..ResourceLimits::default()
        },
        log: Default::default(),
    }
}

fn data_directory(config: &InstanceConfig) -> PathBuf {
    config.directory.join("data")
}

fn configuration(config: &InstanceConfig) -> String {
    let lines = [
        "# Written by astraler; changes are overwritten.".to_owned(),
        "# A unix socket only, for the groups that may enter its folder.".into(),
        "port 0".into(),
        format!("unixsocket {}", quoted(&text(&config.socket))),
        "unixsocketperm 770".into(),
        "protected-mode yes".into(),
        format!("aclfile {}", quoted(&text(&config.acl_file))),
        "maxclients 2000".into(),
        "tcp-backlog 511".into(),
        "timeout 0".into(),
        "# Supervised from outside: foreground, log to standard output.".into(),
        "daemonize no".into(),
        "supervised no".into(),
        "loglevel notice".into(),
        "logfile \"\"".into(),
        "always-show-logo no".into(),
        "# One database, as Upstash has.".into(),
        "databases 1".into(),
        "# Durable: an append-only file with snapshots as its base.".into(),
        format!("dir {}", quoted(&text(&data_directory(config)))),
        "appendonly yes".into(),
        format!("appendfsync {}", quoted(&config.appendfsync)),
        "aof-use-rdb-preamble yes".into(),
        "aof-load-truncated yes".into(),
        "auto-aof-rewrite-percentage 100".into(),
        "auto-aof-rewrite-min-size 16mb".into(),
        "save 3600 1 300 100 60 10000".into(),
        "stop-writes-on-bgsave-error yes".into(),
        "rdbchecksum yes".into(),
        "# Memory.".into(),
        format!("maxmemory {}", config.maxmemory_bytes),
        format!("maxmemory-policy {}", quoted(&config.maxmemory_policy)),
        "client-query-buffer-limit 64mb".into(),
        "proto-max-bulk-len 64mb".into(),
        "client-output-buffer-limit normal 128mb 64mb 30".into(),
        "client-output-buffer-limit pubsub 32mb 8mb 60".into(),
        "lazyfree-lazy-eviction yes".into(),
        "lazyfree-lazy-expire yes".into(),
        "lazyfree-lazy-server-del yes".into(),
        "lazyfree-lazy-user-del yes".into(),
        "lazyfree-lazy-user-flush yes".into(),
        "# Nobody changes or debugs it at run time.".into(),
        "enable-protected-configs no".into(),
        "enable-debug-command no".into(),
        "enable-module-command no".into(),
        "slowlog-log-slower-than 10000".into(),
        "slowlog-max-len 128".into(),
        "acllog-max-len 128".into(),
        "busy-reply-threshold 5000".into(),
    ];
    lines.join("\n") + "\n"
}

fn acl(password: &str, control_password: &str) -> String {
    let [hash, control] =
        [password, control_password].map(|word| hex::encode(sha2::Sha256::digest(word.as_bytes())));
    format!(
        "user default reset off\n\
         user {USER} reset on #{hash} ~* &* +@all -@dangerous -@admin {ALSO_ALLOWED}\n\
         user {READ_ONLY_USER} reset on #{hash} ~* &* +@read +ping +echo +time +info -@dangerous +keys +info +sort_ro \
         +eval_ro +evalsha_ro +fcall_ro +script|exists\n\
         user {CONTROL_USER} reset on #{control} -@all +ping +info +config|get +config|set\n"
    )
}

/// Quoted as `sdssplitargs` reads it.
fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
