//! `keep`: the parent of every process of the platform. It spawns, waits, captures output and restarts; it has no
//! policy and no secret.

mod client;
mod protocol;

pub use client::Client;

use std::path::PathBuf;

/// The name of the control socket in the runtime folder.
pub const SOCKET: &str = "keep.sock";

/// All that `keep` needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeepConfig {
    /// The state folder: the table, the lock and the logs are below it.
    pub state: PathBuf,
    /// The runtime folder, short: the control socket, credentials and ready files are in it.
    pub runtime: PathBuf,
    /// The program and arguments that call [`crate::launch::run`], for example `/usr/bin/astraler`, `launch`.
    pub launcher: Vec<String>,
    /// The program and arguments that call [`run`] with `standby`. Empty: no standby.
    pub standby: Vec<String>,
    /// Users that may use the control socket, besides root and the user of `keep`.
    pub allowed_uids: Vec<u32>,
    /// Names the platform on this machine: a part of cgroup paths. Letters, digits and `-`.
    pub platform_id: String,
}
