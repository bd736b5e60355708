//! The store and its two protocols, from outside: real files, a real SQLite, real clients.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it should be"
)]

mod change;
mod crash;
mod kill;
mod multipart;
mod s3;
mod store;
mod support;
