//! A web application firewall as a library: it compiles rule files in ModSecurity's language (SecLang), as the OWASP Core
//! Rule Set writes them, into a program once, and then decides on requests and responses in microseconds.
//!
//! For: the edge, and any Rust server. A server brings what it has read of a request; this crate borrows it.
//!
//! It does *not* know sockets, HTTP parsing, threads, clocks or where logs go. Only [`seclang`] reads files: the rules and
//! the lists that they name.

pub mod body;
pub mod compile;
pub mod country;
pub mod engine;
pub mod expression;
pub mod libinjection;
pub mod network;
pub mod operator;
pub mod ruleset;
pub mod seclang;
pub mod suite;
pub mod transform;
pub mod url;

/// What stands before any rule set: which reader a body gets, and that a body which cannot be read is refused.
pub const BASE: &str = include_str!("base.conf");

/// The README's examples are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
