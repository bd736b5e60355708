//! The store and its two protocols, from outside: real files, a real SQLite, real clients.

#![allow(clippy::unwrap_used)]

mod store;
mod support;
