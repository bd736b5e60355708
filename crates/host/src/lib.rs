//! Processes, files, ports and the clock: the one seam for effects.
//!
//! For: every crate that touches the machine. Control code sees [`supervisor::Supervisor`] and
//! [`clock::Clock`], which are real ([`keep::Client`], [`clock::RealClock`]) or simulated ([`sim`]).
//!
//! It does *not* know what a unit is for: no engine, environment, release or route is named here; it holds no
//! secret (credentials are files it copies, never reads into a message), and it takes no decision that is not in a
//! [`astraler_model::UnitSpec`].
//!
//! # Invariants
//!
//! 1. **Recorded before it runs.** A process is in `units.json` (pid, start time, boot id; durable) before it may
//!    execute its program: the launcher waits for its order on a pipe and exits when the pipe ends early. A `keep`
//!    killed at any point leaves no process that its successor does not know.
//! 2. **A unit does not need `keep`.** It writes its output to a file and its readiness to a file; nothing blocks and
//!    nothing signals it when `keep` dies.
//! 3. **A successor changes nothing that is well.** It adopts by pidfd, compares start time and boot id, and takes
//!    the listening sockets from the living unit (`pidfd_getfd`), so that no connection is refused.
//! 4. **One keep.** The holder of the kernel's lock on `keep/lock` acts; the standby waits in `flock`.
//! 5. **Nothing is left behind.** A stop ends the main process, its group, its session, its descendants, and, where
//!    cgroups are writable, all that was ever forked from it. Elsewhere a daemon that left the session is known by the
//!    variable `ASTRALER_UNIT` that each unit gets; one that also overwrote its environment escapes. Sockets, ready
//!    files, credentials go with it.
//! 6. **Files are whole.** [`file::replace`] leaves the old or the new content, never a part, even on a full disk.
//! 7. **Everything has a bound**: lines, logs, raw output, requests, clients, restarts, waits.

pub mod activation;
mod cgroup;
pub mod clock;
pub mod file;
pub mod isolation;
pub mod keep;
pub mod launch;
pub mod lock;
pub mod logs;
pub mod port;
pub mod process;
mod reactor;
pub mod sim;
mod sim_clock;
pub mod snapshot;
pub mod succession;
pub mod supervisor;
pub mod users;
