//! The edge from outside: raw sockets in front, real HTTP servers on Unix sockets behind.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "these are tests: helpers write files and unwrap as tests do"
)]

mod accept;
mod asset;
mod cache;
mod compression;
mod corpus;
mod forged;
mod http1;
mod http2;
mod http3;
mod lifecycle;
mod limits;
mod log;
mod policy;
mod proxy;
mod rates;
mod scripted;
mod secured;
mod support;
mod tls;
mod upstream;
mod waf;
mod websocket;
