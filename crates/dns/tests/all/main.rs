//! The server as its clients see it: Debian's `dig` and `delv`, which validate by themselves, and raw sockets.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot go on fails"
)]

mod answers;
mod dnssec;
mod hostile;
mod life;
mod support;
mod transfer;
