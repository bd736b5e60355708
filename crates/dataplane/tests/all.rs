//! The roles as their clients meet them: a worker in the real workerd, requests on real sockets.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it should be"
)]

mod egress;
mod r2;
mod replication;
