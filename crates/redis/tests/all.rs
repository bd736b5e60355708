//! Against the real server of this machine, run exactly as `unit` says.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests say what is wrong by failing, and write to folders of their own"
)]

mod acl;
mod instance;
mod rest;
mod settings;
mod upstash;
