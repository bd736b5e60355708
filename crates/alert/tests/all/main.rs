//! Alerts from outside: rules, the life of an alert, deliveries, and the channels against real servers.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests: a panic is a failure, and no file is for keeps"
)]

mod channels;
mod life;
mod outbox;
mod payloads;
mod properties;
mod rules;
mod script;
mod sink;
