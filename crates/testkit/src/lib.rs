//! A whole platform in a temporary folder, for tests: the built program, a small application, real engines.
//!
//! For: integration tests and benches. It knows the command line and HTTP, nothing of the crates' insides:
//! what it proves holds for users.

pub mod acme;
mod application;
mod http;
mod platform;

pub use application::{API_WORKER, small_application};
pub use http::{Answer, request};
pub use platform::{Finished, Platform};
