//! SQL injection and XSS, recognised as the C library of that name does (its source of 2025).
//!
//! The recogniser is `libinjectionrs`, a port of the C code with its tables. Where it answers otherwise than C, this module
//! mends the question or the answer; `tests` holds both against verdicts of the C library.

mod sql;
mod xss;

pub use sql::{Fingerprint, sqli};
pub use xss::xss;

#[cfg(test)]
mod tests;
