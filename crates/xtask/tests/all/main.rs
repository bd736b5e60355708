//! The scripts of the repository, run as they stand.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests: a panic is a failure, and no file is for keeps"
)]

mod setup;
