//! Releases on a real file system.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it should be"
)]

mod crash;
mod damage;
mod forge;
mod hostile;
mod same;
mod store;
mod support;
mod together;
mod tools;
