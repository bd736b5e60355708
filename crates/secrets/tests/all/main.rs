//! The crate from outside: the envelope under attack, and the root key's file.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests: a panic is a failure, and no file is for keeps"
)]

mod envelope;
mod root_key;
