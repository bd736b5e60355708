//! What control code asks of a supervisor of processes, real ([`crate::keep::Client`]) or simulated
//! ([`crate::sim::SimSupervisor`]).

use crate::port::Holder;
use astraler_model::{ListenAddress, UnitName, UnitSpec, UnitStatus};
use serde::{Deserialize, Serialize};
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

/// A boxed future: what keeps the trait object-safe.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Starts, keeps and ends units.
pub trait Supervisor: Send + Sync {
    /// Makes the unit run as described and waits until it is ready. Idempotent: with the same digest and running,
    /// nothing happens; with another digest the old process is stopped first. A unit that fails before it is ready
    /// is not started again: the error carries its last lines.
    fn start(&self, spec: &UnitSpec) -> BoxFuture<'_, Result<Started, SupervisorError>>;
    /// Starts a new process beside the old one with the same listening sockets, waits until it is ready, then stops
    /// the old one (its grace period, then SIGKILL). Where the new one fails, the old one serves on. Without an old
    /// one it is [`Supervisor::start`].
    fn replace(&self, spec: &UnitSpec) -> BoxFuture<'_, Result<Started, SupervisorError>>;
    /// Stops and starts the unit as it was described last.
    fn restart(&self, name: &UnitName) -> BoxFuture<'_, Result<UnitStatus, SupervisorError>>;
    /// Stops the unit and closes its sockets; it stays known, and no successor starts it.
    fn stop(&self, name: &UnitName) -> BoxFuture<'_, Result<(), SupervisorError>>;
    /// Stops and forgets the unit, deletes its sockets and credentials. One that is not known is fine.
    fn remove(&self, name: &UnitName) -> BoxFuture<'_, Result<(), SupervisorError>>;
    /// Every unit that is known, in the order in which they were first started.
    fn list(&self) -> BoxFuture<'_, Result<Vec<UnitStatus>, SupervisorError>>;
    /// Stops every unit, the last started first, then the supervisor itself.
    fn shutdown(&self) -> BoxFuture<'_, Result<(), SupervisorError>>;
}

/// What a start did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Started {
    /// It ran already, as described.
    Unchanged(UnitStatus),
    /// A new process runs (or, for a one-time job, has ended well).
    Fresh(UnitStatus),
}

impl Started {
    /// The unit's state, whether new or not.
    pub fn status(&self) -> &UnitStatus {
        match self {
            Self::Unchanged(status) | Self::Fresh(status) => status,
        }
    }
}

/// Why a supervisor did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum SupervisorError {
    /// Somebody else listens there.
    #[error("{unit} cannot listen on {address}: {taken}", address = show(address), taken = taken(holder.as_ref()))]
    PortTaken {
        /// The unit that wanted it.
        unit: UnitName,
        /// The address.
        address: ListenAddress,
        /// The process that listens, where it can be seen.
        holder: Option<Holder>,
    },
    /// It did not become ready in time, and was killed.
    #[error("{unit} was not ready after {waited_ms} ms and was stopped{silent}", silent = silent(last_lines))]
    NotReady {
        /// The unit.
        unit: UnitName,
        /// How long it had, in milliseconds.
        waited_ms: u64,
        /// The last lines it wrote.
        last_lines: Vec<String>,
    },
    /// It ended before it was ready, or could not be executed.
    #[error("{unit} failed to start: {exit}{silent}", silent = silent(last_lines))]
    Failed {
        /// The unit.
        unit: UnitName,
        /// How it ended: `exit status 1`, `signal 9 (SIGKILL)`, or why it could not be executed.
        exit: String,
        /// The last lines it wrote.
        last_lines: Vec<String>,
    },
    /// The description cannot be carried out.
    #[error("the description of {unit} is not valid: {reason}")]
    Invalid {
        /// The unit.
        unit: UnitName,
        /// What is wrong with it.
        reason: String,
    },
    /// No unit has this name.
    #[error("there is no unit named {unit}")]
    Unknown {
        /// The name.
        unit: UnitName,
    },
    /// It was stopped while it was starting.
    #[error("the start of {unit} was cancelled: it was stopped meanwhile")]
    Cancelled {
        /// The unit.
        unit: UnitName,
    },
    /// An operation of the machine failed.
    #[error("cannot {operation} for {unit}: {reason}")]
    Host {
        /// The unit.
        unit: UnitName,
        /// What was tried.
        operation: String,
        /// What the system said.
        reason: String,
    },
    /// The supervisor does not answer.
    #[error("keep does not answer on {socket}: {reason}; is the platform up?", socket = socket.display())]
    Unreachable {
        /// Its control socket.
        socket: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The caller may not use the control socket, or asked what cannot be read.
    #[error("keep refused the request: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// The supervisor is ending.
    #[error("keep is shutting down")]
    ShuttingDown,
}

/// A listening address in words: `127.0.0.1:3000` or the path of the socket.
pub fn show(address: &ListenAddress) -> String {
    match address {
        ListenAddress::Tcp(address) => address.to_string(),
        ListenAddress::TcpShare { address, share } => format!("{address} (share {share})"),
        ListenAddress::Udp { address, share: 0 } => format!("udp {address}"),
        ListenAddress::Udp { address, share } => format!("udp {address} (share {share})"),
        ListenAddress::Unix { path, .. } => path.display().to_string(),
    }
}

fn taken(holder: Option<&Holder>) -> String {
    match holder {
        Some(Holder { pid, command }) => format!("process {pid} ({command}) listens there"),
        None => "another process listens there".to_owned(),
    }
}

/// The lines themselves are for whoever shows the error: they are many.
fn silent(last_lines: &[String]) -> &'static str {
    if last_lines.is_empty() {
        "; it wrote nothing"
    } else {
        ""
    }
}
