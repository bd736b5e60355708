//! Tests of `keep` with real processes. Each has a platform of its own in a temporary folder.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it should be"
)]

mod lifecycle;
mod output;
mod replacement;
mod simulated;
mod support;
mod takeover;
