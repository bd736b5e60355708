//! The store from outside.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests: a panic is a failure, and no file is for keeps"
)]

mod alert;
mod audit;
mod deployment;
mod gate;
mod journal;
mod mark;
mod open;
mod run;
mod sealed;
mod source;
mod token;
mod user_secret;

use astraler_store::Store;
use tempfile::TempDir;

/// A store of its own for a test; the folder goes with it.
fn store() -> (Store, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("control.db")).unwrap();
    (store, folder)
}
