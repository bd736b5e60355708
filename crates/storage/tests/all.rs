//! The store and its two protocols, from outside: real files, a real SQLite, real clients.

mod store;
mod support;
