//! workerd as a unit: in a sandbox without a network, with nothing of the file system but what it needs.

use crate::config::DeploymentConfig;
use crate::tools::Tools;
use astraler_model::{
    Identity, Listener, LogPolicy, Ready, ResourceLimits, RestartPolicy, StopPolicy, UnitName, UnitSpec,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What fences workerd in: by its own README it has no defence in depth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sandbox {
    /// bubblewrap, at this path.
    Bubblewrap(PathBuf),
    /// Nothing: for code that is trusted.
    Off,
}

/// What a unit is made of.
#[derive(Debug)]
pub struct UnitInput<'a> {
    /// Name of the unit.
    pub name: UnitName,
    /// The deployment.
    pub config: &'a DeploymentConfig,
    /// Where its rendered configuration lies: secret, readable by the identity.
    pub config_file: PathBuf,
    /// Folder of the release, with the modules.
    pub release_directory: PathBuf,
    /// The tools.
    pub tools: Tools,
    /// The fence.
    pub sandbox: Sandbox,
    /// The user it runs as.
    pub identity: Option<Identity>,
    /// Memory of the whole process.
    pub memory_bytes: Option<u64>,
    /// One for each worker, named by [`listener_name`].
    pub listeners: Vec<Listener>,
}

const READY_TIMEOUT_MS: u64 = 20_000;

/// Requests in flight get this long when the process is asked to end.
const GRACE_MS: u64 = 15_000;

/// Memory of a deployment that names none.
const DEFAULT_MEMORY_BYTES: u64 = 512 << 20;

/// Name of a worker's listening socket.
pub fn listener_name(worker: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || c == '-' || c == '_' {
            c
        } else {
            '_'
        }
    };
    format!("w-{}", worker.chars().map(plain).collect::<String>())
}

/// Describes the process.
pub fn unit(input: &UnitInput<'_>) -> UnitSpec {
    let mut argv = match &input.sandbox {
        Sandbox::Bubblewrap(program) => fence(program, input),
        Sandbox::Off => vec![],
    };
    argv.push(input.tools.workerd.display().to_string());
    argv.extend(["serve", "--import-path=/"].map(str::to_owned));
    argv.push(input.config_file.display().to_string());
    for listener in &input.listeners {
        argv.push(format!("--socket-fd={0}={{FD:{0}}}", listener.name));
    }
    argv.push("--control-fd={READY_FD}".to_owned());
    UnitSpec {
        name: input.name.clone(),
        argv,
        env: BTreeMap::new(),
        cwd: None,
        identity: input.identity.clone(),
        directories: vec![],
        credentials: vec![],
        stdin: None,
        listeners: input.listeners.clone(),
        ready: Ready::Line {
            timeout_ms: READY_TIMEOUT_MS,
        },
        restart: RestartPolicy::default(),
        // bubblewrap passes no signal on to what it runs.
        stop: StopPolicy {
            signal: 15,
            grace_ms: GRACE_MS,
            descendants: matches!(input.sandbox, Sandbox::Bubblewrap(_)),
        },
        limits: ResourceLimits {
            memory_bytes: Some(input.memory_bytes.unwrap_or(DEFAULT_MEMORY_BYTES)),
            pids: Some(256),
            open_files: Some(65_536),
            oom_score_adj: Some(500),
        },
        log: LogPolicy::default(),
    }
}

/// bubblewrap's arguments: new namespaces for everything, no capability, no network, a file system made of the
/// system's libraries, workerd, the release, the configuration, and the folders of three sockets.
fn fence(program: &Path, input: &UnitInput<'_>) -> Vec<String> {
    let mut argv: Vec<String> = vec![program.display().to_string()];
    argv.extend(
        [
            "--unshare-all",
            "--cap-drop",
            "ALL",
            "--new-session",
            "--clearenv",
            "--uid",
            "65534",
            "--gid",
            "65534",
            "--proc",
            "/proc",
            "--dev",
            "/dev",
            // Before what is bound, which may lie below it.
            "--tmpfs",
            "/tmp",
            "--chdir",
            "/",
        ]
        .map(str::to_owned),
    );
    let mut bind = |flag: &str, path: &Path| {
        let path = path.display().to_string();
        argv.extend([flag.to_owned(), path.clone(), path]);
    };
    for library in [
        "/usr/lib",
        "/usr/lib64",
        "/lib",
        "/lib64",
        "/etc/ssl",
        "/usr/share/ca-certificates",
        "/etc/pki",
    ] {
        bind("--ro-bind-try", Path::new(library));
    }
    bind("--ro-bind", &input.tools.workerd);
    bind("--ro-bind", &input.release_directory);
    bind("--ro-bind", &input.config_file);
    let config = input.config;
    for socket in [
        &config.bindings_socket,
        &config.hyperdrive_socket,
        &config.egress_socket,
    ] {
        // The folder, not the file: a socket that is made anew is then reached too.
        if let Some(folder) = socket.parent() {
            bind("--ro-bind", folder);
        }
    }
    argv.push("--".to_owned());
    argv
}
