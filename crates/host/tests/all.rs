//! Tests of `keep` with real processes. Each has a platform of its own in a temporary folder.

mod lifecycle;
mod output;
mod replacement;
mod simulated;
mod support;
mod takeover;
