//! The launcher: what runs between `fork` and a unit's own program. It waits for its order on standard input, so that
//! `keep` can record the process first; an order that ends early means that `keep` died, and nothing is started.

use crate::activation::{FIRST_FD, own};
use crate::file::{self, FileError};
use astraler_model::{Identity, Ready, UnitSpec};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Uid};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The longest order, in bytes: a description and a little more.
const MAX_ORDER: u64 = 4 << 20;
/// The largest credential, in bytes, as systemd's limit.
const MAX_CREDENTIAL: u64 = 1 << 20;

/// What the launcher does, decided by `keep`. The descriptors: listeners from 3 on, then readiness if the unit says
/// so with a line, then the one on which the launcher reports.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) spec: UnitSpec,
    /// `<runtime>/credentials/<unit>`.
    pub(crate) credentials: PathBuf,
    /// Control groups to enter.
    pub(crate) cgroups: Vec<PathBuf>,
    /// `NAME=value` that marks the processes of the unit.
    pub(crate) marker: (String, String),
}

impl Order {
    pub(crate) fn ready_fd(spec: &UnitSpec) -> Option<i32> {
        matches!(spec.ready, Ready::Line { .. }).then(|| FIRST_FD + count(spec))
    }

    pub(crate) fn report_fd(spec: &UnitSpec) -> i32 {
        FIRST_FD + count(spec) + i32::from(Self::ready_fd(spec).is_some())
    }
}

fn count(spec: &UnitSpec) -> i32 {
    i32::try_from(spec.listeners.len()).unwrap_or(i32::MAX - 8)
}

/// Why a unit's program was not executed.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// `keep` ended before it had given the order: nothing to do.
    #[error("keep ended before it gave the order to start")]
    NoOrder,
    /// A file or folder of the unit could not be prepared.
    #[error(transparent)]
    File(#[from] FileError),
    /// A credential is not there or too large.
    #[error("cannot read the credential {name} from {path}", path = path.display())]
    Credential {
        /// Its name.
        name: String,
        /// Where it should come from.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The process could not be set up.
    #[error("cannot {operation}")]
    Setup {
        /// What was tried.
        operation: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The program could not be executed.
    #[error("cannot execute {program}")]
    Execute {
        /// Its path.
        program: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl LaunchError {
    /// The exit status to end with, as shells have it: 127 when the program is not there, else 126.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Execute { source, .. } if source.kind() == io::ErrorKind::NotFound => 127,
            _ => 126,
        }
    }
}

/// Becomes the unit's program. Returns only when that fails; it has then written one line to standard error, and the
/// caller ends the process with [`LaunchError::exit_code`].
pub fn run() -> LaunchError {
    let order = match read_order() {
        Ok(order) => order,
        Err(error) => return error,
    };
    let mut report = File::from(own(Order::report_fd(&order.spec)));
    let error = match rustix::io::fcntl_setfd(&report, rustix::io::FdFlags::CLOEXEC) {
        Ok(()) => match prepare(&order) {
            Ok(mut command) => LaunchError::Execute {
                program: order.spec.argv.first().cloned().unwrap_or_default(),
                source: command.exec(),
            },
            Err(error) => error,
        },
        Err(errno) => setup("use the descriptors that keep passed")(errno.into()),
    };
    let line = explain(&error);
    let _ = writeln!(io::stderr(), "launch: {line}");
    let _ = report.write_all(line.as_bytes());
    error
}

fn read_order() -> Result<Order, LaunchError> {
    let mut bytes = Vec::new();
    io::stdin()
        .take(MAX_ORDER)
        .read_to_end(&mut bytes)
        .map_err(|_| LaunchError::NoOrder)?;
    serde_json::from_slice(&bytes).map_err(|_| LaunchError::NoOrder)
}

fn prepare(order: &Order) -> Result<Command, LaunchError> {
    let spec = &order.spec;
    // A session of its own: signals of a terminal and of other units do not reach it, and it is found by it.
    rustix::process::setsid().map_err(|errno| setup("start a session")(errno.into()))?;
    for cgroup in &order.cgroups {
        write_existing(&cgroup.join("cgroup.procs"), "0").map_err(setup("enter the control group"))?;
    }
    limit(spec)?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o027));
    make_directories(spec)?;
    if !spec.credentials.is_empty() {
        copy_credentials(spec, &order.credentials)?;
    }
    let input = spec.stdin.clone().unwrap_or_else(|| PathBuf::from("/dev/null"));
    let input = File::open(&input).map_err(file::at("open the standard input", &input))?;
    nix::unistd::dup2_stdin(&input).map_err(|errno| setup("set the standard input")(errno.into()))?;
    if let Some(identity) = &spec.identity {
        become_identity(identity)?;
    }
    nix::sys::prctl::set_no_new_privs().map_err(|errno| setup("give up new privileges")(errno.into()))?;
    let cwd = spec.cwd.as_deref().unwrap_or(Path::new("/"));
    std::env::set_current_dir(cwd).map_err(file::at("enter", cwd))?;
    Ok(command(order))
}

fn limit(spec: &UnitSpec) -> Result<(), LaunchError> {
    let failed = |errno: nix::Error| setup("set the resource limits")(errno.into());
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(failed)?;
    if let Some(files) = spec.limits.open_files {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(failed)?;
        setrlimit(Resource::RLIMIT_NOFILE, files.min(hard), hard).map_err(failed)?;
    }
    if let Some(score) = spec.limits.oom_score_adj {
        // Lowering it needs a privilege; to run without is better than not to run.
        let _ = write_existing(Path::new("/proc/self/oom_score_adj"), &score.to_string());
    }
    Ok(())
}

/// Makes the folders of a unit and gives them to its identity.
pub(crate) fn make_directories(spec: &UnitSpec) -> Result<(), FileError> {
    let uid = spec.identity.as_ref().map(|identity| identity.uid);
    for folder in &spec.directories {
        let gid = folder
            .group
            .or(spec.identity.as_ref().map(|identity| identity.gid));
        file::make_dir(&folder.path, folder.mode, uid, gid)?;
    }
    Ok(())
}

fn copy_credentials(spec: &UnitSpec, folder: &Path) -> Result<(), LaunchError> {
    let uid = spec.identity.as_ref().map(|identity| identity.uid);
    let gid = spec.identity.as_ref().map(|identity| identity.gid);
    file::make_dir(folder, 0o700, uid, gid)?;
    for entry in fs::read_dir(folder)
        .map_err(file::at("read the folder", folder))?
        .flatten()
    {
        let wanted = spec
            .credentials
            .iter()
            .any(|credential| entry.file_name() == *credential.name);
        if !wanted {
            file::remove_if_present(entry.path())?;
        }
    }
    for credential in &spec.credentials {
        let bytes = read_credential(&credential.source).map_err(|source| LaunchError::Credential {
            name: credential.name.clone(),
            path: credential.source.clone(),
            source,
        })?;
        file::replace_for(&folder.join(&credential.name), &bytes, 0o400, uid, gid)?;
    }
    Ok(file::make_dir(folder, 0o500, uid, gid)?)
}

fn read_credential(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // A queue or device in its place must not hang the start.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(path)?;
    file.take(MAX_CREDENTIAL + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_CREDENTIAL {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 1 MiB"));
    }
    Ok(bytes)
}

fn become_identity(identity: &Identity) -> Result<(), LaunchError> {
    let own = Uid::effective();
    if !own.is_root() && own.as_raw() == identity.uid {
        return Ok(());
    }
    let operation = format!("become user {} (keep runs as user {own})", identity.uid);
    let failed = |errno: nix::Error| setup(&operation)(errno.into());
    let groups: Vec<Gid> = identity.groups.iter().copied().map(Gid::from_raw).collect();
    nix::unistd::setgroups(&groups).map_err(failed)?;
    nix::unistd::setgid(Gid::from_raw(identity.gid)).map_err(failed)?;
    nix::unistd::setuid(Uid::from_raw(identity.uid)).map_err(failed)
}

fn command(order: &Order) -> Command {
    let spec = &order.spec;
    let words = substitutions(spec, &order.credentials);
    let fill = |text: &String| {
        words
            .iter()
            .fold(text.clone(), |text, (word, value)| text.replace(word, value))
    };
    let mut command = Command::new(spec.argv.first().map_or("", String::as_str));
    command.args(spec.argv.iter().skip(1).map(fill)).env_clear();
    command.envs(spec.env.iter().map(|(name, value)| (name, fill(value))));
    command.env(&order.marker.0, &order.marker.1);
    if !spec.listeners.is_empty() {
        let names: Vec<&str> = spec
            .listeners
            .iter()
            .map(|listener| listener.name.as_str())
            .collect();
        command.env("LISTEN_FDS", names.len().to_string());
        command.env("LISTEN_FDNAMES", names.join(":"));
        command.env("LISTEN_PID", std::process::id().to_string());
    }
    if let Some(fd) = Order::ready_fd(spec) {
        command.env("READY_FD", fd.to_string());
    }
    if !spec.credentials.is_empty() {
        command.env("CREDENTIALS_DIRECTORY", &order.credentials);
    }
    command
}

/// The words in braces that stand for what only `keep` knows.
fn substitutions(spec: &UnitSpec, credentials: &Path) -> Vec<(String, String)> {
    let listeners = spec.listeners.iter().zip(FIRST_FD..);
    let mut words: Vec<(String, String)> = listeners
        .map(|(listener, fd)| (format!("{{FD:{}}}", listener.name), fd.to_string()))
        .collect();
    if let Some(fd) = Order::ready_fd(spec) {
        words.push(("{READY_FD}".into(), fd.to_string()));
    }
    if !spec.credentials.is_empty() {
        words.push((
            "{CREDENTIALS_DIRECTORY}".into(),
            credentials.display().to_string(),
        ));
    }
    words
}

fn write_existing(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new()
        .write(true)
        .open(path)?
        .write_all(text.as_bytes())
}

fn setup(operation: &str) -> impl FnOnce(io::Error) -> LaunchError {
    let operation = operation.to_owned();
    move |source| LaunchError::Setup { operation, source }
}

/// The error and its causes in one line.
fn explain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        line = format!("{line}: {cause}");
        next = cause.source();
    }
    line.replace('\n', " ")
}
