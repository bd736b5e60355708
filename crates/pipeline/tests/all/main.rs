//! The pipeline on the real thing: bubblewrap, git, the kernel.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot go on fails, and its files need no fsync"
)]

mod actions;
mod deploys;
mod engine;
mod faults;
mod sandbox;
mod support;
