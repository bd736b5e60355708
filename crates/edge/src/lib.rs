//! The edge: from an accepted connection to an answer from a worker or a file.
//!
//! For: the `astraler edge` process (and the egress role, which borrows [`upstream`]). It is handed bound listeners, a
//! stream of [`EdgeSnapshot`]s and limits, and serves until it is told to stop.
//!
//! It does *not* know who publishes snapshots, where they are stored, how workers are started, or any secret but the keys of its certificates. It reads
//! no environment variable and no configuration file; the only files it opens are the assets and certificates
//! that a snapshot names and its own access log.
//!
//! # The path of a request, one module a phase
//!
//! `accept` → `greet` (TLS, and which protocol) → `h1` (by [`wire`]), [`http2`] or `http3` (limits: framing, sizes, deadlines) → `checks` →
//! `route` (the host's environment) → `policy` (who the client is, allow-lists, maintenance) → `waf` (custom rules about the head) → `rate` → `waf` → `route` (the path) →
//! `cache` → (`wake`) → `proxy` or `asset` → `rules` (response rules: fields, `compress`) → `record` (access record).
//! `serve` calls them in this order and holds nothing else.
//!
//! # Invariants
//!
//! 1. **One framing.** A head is parsed once, by [`wire::head::parse`], which refuses what two parsers could read
//!    differently; bodies are counted by what it says, and nothing else looks for the next head.
//! 2. **A request keeps the routes it started with.** A new snapshot replaces the route table atomically; requests in
//!    flight hold the old one until they end.
//! 3. **A short answer is an error.** A body that ends early, from a worker or a file, breaks the client's connection; it
//!    is never completed as if it were whole.
//! 4. **Logging never waits.** A full queue drops the record and counts it.
//! 5. **Nothing is resent that may have had an effect.** See [`upstream`] for when a request is tried again.
//! 6. **Only what is whole is stored.** The cache keeps a response once its last byte has come, and not if a purge came
//!    before that.

mod accept;
mod activity;
mod asset;
mod body;
mod cache;
mod checks;
mod client;
mod clients;
mod compress;
mod config;
mod control;
mod deadline;
mod fault;
mod forward;
mod greet;
mod h1;
mod hang_up;
mod host;
pub mod http2;
mod http3;
mod idle;
mod log;
mod memory;
mod multiplexed;
mod out;
mod pace;
mod page;
mod path;
mod policy;
mod proxy;
pub mod proxy_protocol;
mod rate;
mod record;
mod route;
mod rules;
mod run;
mod serve;
mod text;
mod threads;
mod tls;
mod tunnel;
pub mod upstream;
mod waf;
mod wake;
pub mod wire;

pub use body::{Body, BoxError};
#[doc(hidden)]
pub use cache::read_file as read_cache_file;
pub use config::{AccessLogConfig, Config, Limits};
pub use fault::{Blame, Fault, Kind};
pub use host::HostName;
pub use memory::trim;
pub use path::normalise;
pub use run::{EdgeError, run};

pub use astraler_model::EdgeSnapshot;
