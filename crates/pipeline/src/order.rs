//! What the runner tells [`crate::sandbox_init()`], over its standard input.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where the proxy listens in the sandbox.
pub(crate) const PROXY_PORT: u16 = 61_128;
/// Its socket, in the sandbox.
pub(crate) const PROXY_SOCKET: &str = "/run/astraler/proxy.sock";
/// First letter of a line that asks for a signal: `s15`.
pub(crate) const SIGNAL: char = 's';
/// Exit code where the program cannot be started.
pub(crate) const NOT_STARTED: i32 = 126;

/// The first line: one program to run. It comes over a pipe, because it holds secrets.
#[derive(Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) argv: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) cwd: String,
    /// Whether there is a proxy.
    pub(crate) proxy: bool,
    /// Ports of the machine's loopback that are reached through it.
    pub(crate) ports: Vec<u16>,
    pub(crate) file_bytes: u64,
    pub(crate) processes: u64,
}
