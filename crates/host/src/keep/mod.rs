//! `keep`: the parent of every process of the platform. It spawns, waits, captures output and restarts; it has no
//! policy and no secret.

mod capture;
mod client;
mod gate;
mod live;
mod protocol;
mod server;
mod sockets;
mod spawn;
mod standby;
mod starting;
mod table;
mod unit;
mod validate;

pub use client::Client;
pub use table::TableError;

use crate::cgroup::Cgroups;
use crate::file::{self, FileError};
use crate::lock::{FileLock, LockError};
use astraler_model::{UnitName, UnitStatus};
use capture::Capture;
use rustix::fd::OwnedFd;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;
use table::{Process, Record, Table};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;
use unit::{Command, Handle, Unit};

/// The name of the control socket in the runtime folder.
pub const SOCKET: &str = "keep.sock";

/// How often output is looked for.
const PUMP: Duration = Duration::from_millis(200);
/// Descriptors below this are kept in use, so that none that std opens while it spawns is one that a child is given.
const RESERVED_FDS: i32 = 32;

/// All that `keep` needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeepConfig {
    /// The state folder: the table, the lock and the logs are below it. Log files belong to the group of `logs`.
    pub state: PathBuf,
    /// The runtime folder, short: the control socket, credentials and ready files are in it.
    pub runtime: PathBuf,
    /// The program and arguments that call [`crate::launch::run`], for example `/usr/bin/astraler`, `launch`.
    pub launcher: Vec<String>,
    /// The program and arguments that call [`run`] with `standby`. Empty: no standby.
    pub standby: Vec<String>,
    /// Users that may use the control socket, besides root and the user of `keep`.
    pub allowed_uids: Vec<u32>,
    /// Names the platform on this machine: a part of cgroup paths. 1 to 64 letters, digits and `-`.
    pub platform_id: String,
}

/// `keep` could not start, or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// Another one runs.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A folder or file of its own cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// What the one before it knew cannot be read.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The name of the platform is not usable in a path.
    #[error("`{0}` cannot name a platform: expected 1 to 64 letters, digits and '-'")]
    PlatformId(String),
    /// The machine does not give what it needs.
    #[error("cannot {operation}")]
    System {
        /// What was tried.
        operation: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Supervises until it is told to shut down (request or SIGTERM), then ends every unit, the last started first, and
/// returns. With `standby` it waits first, without a runtime, until the active one is gone.
pub fn run(config: KeepConfig, standby: bool) -> Result<(), KeepError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if !(1..=64).contains(&config.platform_id.len()) || !config.platform_id.chars().all(plain) {
        return Err(KeepError::PlatformId(config.platform_id));
    }
    // Neither a terminal nor the group of whoever started us reaches us. Fails only where it is so already.
    let _ = rustix::process::setsid();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    make_folders(&config)?;
    close_inherited_on_exec();
    let path = config.state.join("keep/lock");
    let lock = if standby {
        FileLock::wait(path, "astraler keep")
    } else {
        FileLock::try_acquire(path, "astraler keep")
    }?;
    let _reserved = reserve_descriptors().map_err(system("reserve descriptors"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("start its runtime"))?;
    let result = LocalSet::new().block_on(&runtime, supervise(config));
    drop(lock);
    result
}

fn make_folders(config: &KeepConfig) -> Result<(), FileError> {
    for folder in [&config.state, &config.runtime] {
        if !folder.is_dir() {
            file::make_dir(folder, 0o755, None, None)?;
        }
    }
    let logs = config.state.join("logs");
    if !logs.is_dir() {
        file::make_dir(&logs, 0o750, None, None)?;
    }
    file::make_dir(config.state.join("keep"), 0o700, None, None)?;
    file::make_dir(logs.join("raw"), 0o700, None, None)?;
    file::make_dir(config.runtime.join("credentials"), 0o711, None, None)?;
    file::make_dir(config.runtime.join("ready"), 0o700, None, None)
}

/// Whoever started us may have left descriptors open: a unit gets its own and no other.
fn close_inherited_on_exec() {
    let open = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    for raw in open
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|raw| *raw > 2)
    {
        #[expect(
            unsafe_code,
            reason = "a descriptor that was inherited has no owner that could be borrowed from"
        )]
        // SAFETY: borrowed for one call, which neither closes nor keeps it; were it closed, the call would fail.
        let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(raw) };
        let _ = rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC);
    }
}

fn reserve_descriptors() -> io::Result<Vec<OwnedFd>> {
    let null = fs::File::open("/dev/null")?;
    let mut reserved = Vec::new();
    loop {
        let fd = rustix::io::fcntl_dupfd_cloexec(&null, 3)?;
        let enough = std::os::fd::AsRawFd::as_raw_fd(&fd) >= RESERVED_FDS;
        if enough {
            return Ok(reserved);
        }
        reserved.push(fd);
    }
}

async fn supervise(config: KeepConfig) -> Result<(), KeepError> {
    let signals = |kind| signal(kind).map_err(system("handle signals"));
    let mut terminate = signals(SignalKind::terminate())?;
    // Handled, so that they do nothing here and have their usual effect in children.
    let _ignored = [signals(SignalKind::interrupt())?, signals(SignalKind::hangup())?];
    let keep = Rc::new(Keep::new(config)?);
    let open_to_others = !keep.config.allowed_uids.is_empty();
    let socket = keep.config.runtime.join(SOCKET);
    for name in keep.names() {
        keep.adopt_unit(&name)?;
    }
    let listener = server::bind(&socket, open_to_others)?;
    let (ask_shutdown, mut shutdown) = mpsc::channel(1);
    let mut standby = tokio::task::spawn_local(standby::maintain(keep.clone()));
    let server = tokio::task::spawn_local(server::serve(keep.clone(), listener, ask_shutdown));
    let pump = tokio::task::spawn_local(pump(keep.clone()));
    let mut waiting: Vec<oneshot::Sender<()>> = Vec::new();
    tokio::select! {
        _ = terminate.recv() => {}
        asked = shutdown.recv() => waiting.extend(asked),
    }
    tracing::info!("shutting down");
    // First of all: nobody must take over what is being ended.
    standby.abort();
    let _ = (&mut standby).await;
    {
        let end = keep.end();
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = &mut end => break,
                Some(done) = shutdown.recv() => waiting.push(done),
            }
        }
    }
    pump.abort();
    let _ = fs::remove_file(&socket);
    for done in waiting {
        let _ = done.send(());
    }
    // Those who asked are told before the sockets close with us.
    tokio::time::sleep(Duration::from_millis(20)).await;
    server.abort();
    Ok(())
}

async fn pump(keep: Rc<Keep>) {
    loop {
        let captures: Vec<_> = keep.captures.borrow().values().cloned().collect();
        let mut more = false;
        for capture in captures {
            more |= capture.borrow_mut().pump(false);
            tokio::task::yield_now().await;
        }
        if !more {
            tokio::time::sleep(PUMP).await;
        }
    }
}

/// What the tasks share.
struct Keep {
    config: KeepConfig,
    boot_id: String,
    cgroups: Cgroups,
    table: RefCell<Table>,
    table_path: PathBuf,
    handles: RefCell<BTreeMap<UnitName, Handle>>,
    captures: RefCell<BTreeMap<UnitName, Rc<RefCell<Capture>>>>,
    ending: Cell<bool>,
}

impl Keep {
    fn new(config: KeepConfig) -> Result<Self, KeepError> {
        let table_path = config.state.join("keep/units.json");
        Ok(Self {
            boot_id: crate::process::boot_id(),
            cgroups: Cgroups::detect(&config.platform_id),
            table: RefCell::new(Table::load(&table_path)?),
            table_path,
            handles: RefCell::default(),
            captures: RefCell::default(),
            ending: Cell::new(false),
            config,
        })
    }

    fn names(&self) -> Vec<UnitName> {
        self.status().into_iter().map(|status| status.name).collect()
    }

    fn status(&self) -> Vec<UnitStatus> {
        self.table.borrow().status()
    }

    fn is_ending(&self) -> bool {
        self.ending.get()
    }

    fn handle(&self, name: &UnitName) -> Option<Handle> {
        self.handles.borrow().get(name).cloned()
    }

    fn record(&self, name: &UnitName) -> Option<Record> {
        self.table.borrow().units.get(name).cloned()
    }

    /// The next number; saved with whatever is saved next, which is before it matters.
    fn next_generation(&self) -> u64 {
        let mut table = self.table.borrow_mut();
        table.generation += 1;
        table.generation
    }

    fn insert(&self, name: &UnitName, record: Record) -> Result<(), FileError> {
        self.table.borrow_mut().units.insert(name.clone(), record);
        let saved = self.table.borrow().save(&self.table_path);
        if saved.is_err() {
            self.table.borrow_mut().units.remove(name);
        }
        saved
    }

    /// Starts the task of a recorded unit, which adopts or restarts what the record says.
    fn adopt_unit(self: &Rc<Self>, name: &UnitName) -> Result<Handle, FileError> {
        let policy = self
            .record(name)
            .map(|record| record.spec.log)
            .unwrap_or_default();
        let capture = Capture::open(&self.config.state.join("logs"), name, policy)?;
        let capture = Rc::new(RefCell::new(capture));
        self.captures.borrow_mut().insert(name.clone(), capture.clone());
        let (unit, handle) = Unit::new(self.clone(), name.clone(), capture);
        self.handles.borrow_mut().insert(name.clone(), handle.clone());
        tokio::task::spawn_local(unit.run());
        Ok(handle)
    }

    /// Changes a record and saves the table. Where that fails (a full disk), the change holds in memory, and the next
    /// one saves it.
    fn update(&self, name: &UnitName, change: impl FnOnce(&mut Record)) {
        let changed = self.table.borrow_mut().units.get_mut(name).is_some_and(|record| {
            let before = record.clone();
            change(record);
            *record != before
        });
        if changed {
            self.save();
        }
    }

    fn save(&self) {
        if let Err(error) = self.table.borrow().save(&self.table_path) {
            tracing::error!(error = %error.source, path = %error.path.display(), "the table of units is not saved");
        }
    }

    /// Records a process before it may run: here a failure to save counts.
    fn record_process(&self, name: &UnitName, process: Process) -> Result<(), FileError> {
        if let Some(record) = self.table.borrow_mut().units.get_mut(name) {
            record.starts += 1;
            record.processes.push(process);
        }
        let saved = self.table.borrow().save(&self.table_path);
        if saved.is_err()
            && let Some(record) = self.table.borrow_mut().units.get_mut(name)
        {
            record.starts -= 1;
            record.processes.pop();
        }
        saved
    }

    fn forget_process(&self, name: &UnitName, process: &Process) {
        self.remove_ready_file(name, process.generation);
        self.update(name, |record| {
            record
                .processes
                .retain(|other| other.generation != process.generation);
        });
    }

    /// Ends what a process left behind that ended while nobody watched.
    async fn clear(&self, name: &UnitName, process: &Process) {
        live::clear(self, name, process).await;
        self.forget_process(name, process);
    }

    /// Drops every trace of a unit but its logs.
    fn forget(&self, name: &UnitName) {
        self.handles.borrow_mut().remove(name);
        self.captures.borrow_mut().remove(name);
        capture::remove(&self.config.state.join("logs"), name);
        self.remove_credentials(name);
        self.table.borrow_mut().units.remove(name);
        self.save();
    }

    /// Ends every unit, the last started first, and cleans up.
    async fn end(&self) {
        self.ending.set(true);
        let names = self.names();
        for name in names.iter().rev() {
            let Some(handle) = self.handle(name) else { continue };
            handle.ending.ask();
            let (done, ended) = oneshot::channel();
            if handle.commands.send(Command::Remove(done)).await.is_ok() {
                let _ = ended.await;
            }
        }
        self.cgroups.remove_platform();
        for folder in ["credentials", "ready"] {
            let _ = fs::remove_dir(self.config.runtime.join(folder));
        }
    }

    fn cgroup_name(&self, unit: &UnitName, generation: u64) -> String {
        format!("{unit}_{generation}")
    }

    /// The variable that marks every process of a generation.
    fn marker(&self, generation: u64) -> (String, String) {
        (
            "ASTRALER_UNIT".into(),
            format!("{}_{generation}", self.config.platform_id),
        )
    }

    fn credentials(&self, unit: &UnitName) -> PathBuf {
        self.config.runtime.join("credentials").join(unit.as_str())
    }

    fn remove_credentials(&self, unit: &UnitName) {
        let _ = fs::set_permissions(
            self.credentials(unit),
            std::os::unix::fs::PermissionsExt::from_mode(0o700),
        );
        let _ = fs::remove_dir_all(self.credentials(unit));
    }

    fn ready_file(&self, unit: &UnitName, generation: u64) -> PathBuf {
        self.config
            .runtime
            .join("ready")
            .join(format!("{unit}_{generation}"))
    }

    fn remove_ready_file(&self, unit: &UnitName, generation: u64) {
        let _ = fs::remove_file(self.ready_file(unit, generation));
    }
}

fn system(operation: &'static str) -> impl FnOnce(io::Error) -> KeepError {
    move |source| KeepError::System { operation, source }
}
