//! What runs in each role of `astraler services`: the data plane beside the edge.
//!
//! For: the program's `services --role data|egress|signal`. One of the two crates in which the capabilities meet
//! (the other is `control`). Each role reads one snapshot and keeps the last good one; it needs nothing else
//! to serve.
//!
//! It does *not* know the manifest, the control plane's database, or how snapshots come about.

pub mod data;
pub mod egress;
pub mod signal;
mod status;

pub use status::RoleStatus;
