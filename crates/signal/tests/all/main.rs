//! The store and its questions, on real files.
#![expect(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::disallowed_methods)]

mod errors;
mod kill;
mod lines;
mod metrics;
mod query;
mod store;
