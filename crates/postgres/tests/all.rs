//! Against the real PostgreSQL of this machine. Each test has a cluster of its own, copied from one that
//! `initdb_unit` made; the server runs exactly as `server_unit` says.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests say what is wrong by failing, and write to folders of their own"
)]

mod cluster;
mod database;
mod inspect;
mod migrate;
mod pool;
mod server;
