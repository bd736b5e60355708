//! An authoritative DNS server: the zones it is given, signed when they have a key, over UDP and TCP.
//!
//! For: the `astraler edge` process, which runs it on threads of its own, so that a flood of queries never takes a
//! request's turn; and the daemon, which makes keys and shows zones. It is handed bound sockets and a stream of
//! [`DnsSnapshot`]s. For whoever publishes them there is what goes into a zone beside its records: addresses behind
//! aliases ([`Aliases`]), proofs for certificate authorities ([`Proofs`]), the serial ([`serial_after`]).
//!
//! It does *not* know HTTP, the manifest or who publishes snapshots. It resolves nothing for anybody: what is not in
//! its zones is REFUSED. It reads no environment variable; the only files it opens are the keys that a snapshot names.
//!
//! # The path of a query, one module a phase
//!
//! `udp` or `tcp` → `query` (hostile input ends here) → `tsig` → `zone`, `answer` → `rate` → `write`. `server` calls
//! them in this order. A zone comes from `flatten` → `zone` → `sign`.
//!
//! # Invariants
//!
//! 1. **A query sees one version**: zones are built aside and replaced as a whole; a transfer keeps the one that it
//!    began with.
//! 2. **A zone that cannot be built leaves the last good one in place**, and says so.
//! 3. **What is not there is proven**: every denial of a signed zone carries the NSEC records that a validator needs.
//! 4. **An answer over UDP is at most 1,232 bytes**, and to a network that gets too many equal ones it is none.

mod aliases;
mod answer;
pub mod client;
mod cookie;
pub mod flatten;
mod local;
mod proofs;
mod query;
mod rate;
mod registrar;
mod run;
mod serial;
mod server;
mod sign;
mod tcp;
mod transfer;
mod tsig;
mod udp;
mod write;
mod zone;

pub use aliases::Aliases;
pub use proofs::{Proofs, TooMany, proof_name};
pub use registrar::{delegation, registrar};
pub use run::{Config, Server, start};
pub use serial::serial_after;
pub use sign::{KeyError, SigningKey, generate};
pub use tsig::{BadKey, Key};
pub use zone::{Zone, ZoneError};

pub use local::Local;
pub use server::{Counters, Served};

pub use astraler_model::DnsSnapshot;
