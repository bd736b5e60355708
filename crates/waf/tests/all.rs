//! Tests of the crate as its users see it.
#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::disallowed_methods)]

mod blocking;
mod crs;
mod effects;
mod engine;
mod pause;
mod reference;
mod ruleset;
mod seclang;
mod settings;
mod suite;
mod with;
