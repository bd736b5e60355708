//! The edge from outside: raw sockets in front, real HTTP servers on Unix sockets behind.

#![allow(clippy::disallowed_methods, reason = "tests write files as they like")]

mod asset;
mod corpus;
mod lifecycle;
mod limits;
mod log;
mod proxy;
mod support;
mod upstream;
mod websocket;
