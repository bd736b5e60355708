//! Against the real PostgreSQL of this machine. Each test has a cluster of its own, copied from one that
//! `initdb_unit` made; the server runs exactly as `server_unit` says.

mod cluster;
mod database;
mod migrate;
mod pool;
mod server;
