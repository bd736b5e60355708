//! What the edge is told. One place elsewhere reads files and environment; here are plain values.

use crate::EdgeSnapshot;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Everything [`crate::run()`] needs.
#[derive(Debug)]
pub struct Config {
    /// Bound and listening TCP sockets; plain HTTP/1.1. Several with one address are shards of it (`SO_REUSEPORT`).
    pub listeners: Vec<std::net::TcpListener>,
    /// Bound and listening TCP sockets on which everything is TLS, with the certificates of the snapshot.
    pub https: Vec<std::net::TcpListener>,
    /// Bound UDP sockets for HTTP/3, on the ports of `https`. Each belongs to one thread with all of its connections.
    pub quic: Vec<std::net::UdpSocket>,
    /// The routes, now and in future. The last value stays in force when the sender goes away.
    pub snapshot: tokio::sync::watch::Receiver<Arc<EdgeSnapshot>>,
    /// Told the version of the routes that are in force, when given.
    pub in_force: Option<tokio::sync::watch::Sender<u64>>,
    /// Bounds.
    pub limits: Limits,
    /// Where a line for each request goes.
    pub access_log: AccessLogConfig,
    /// Folder of the cache's disk tier, its own; memory alone when absent. It is made where it is missing.
    pub cache_folder: Option<PathBuf>,
    /// Answers `GET /status` with JSON, when given.
    pub control: Option<std::os::unix::net::UnixListener>,
    /// Gives freed memory back to the system, as the program's allocator does it: [`crate::trim`] for the system's own.
    /// Called in each thread of the edge, now and then, while memory is short.
    pub give_back: fn(),
}

/// Where a JSON line for each request goes.
#[derive(Debug, Clone)]
pub struct AccessLogConfig {
    /// The current file; older ones are beside it with `.1`, `.2`, …
    pub path: PathBuf,
    /// The file is rotated when it would grow beyond this.
    pub max_file_bytes: u64,
    /// Rotated files kept beside the current one.
    pub keep_files: u32,
}

/// Every bound of the edge. The defaults are for one machine open to the internet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Threads that serve, each with its own queue of connections where its listener has shards; 0 is one for each
    /// processor.
    pub threads: usize,
    /// Request line and header fields together; more is answered 431.
    pub max_header_bytes: usize,
    /// Header fields of a request; more is answered 431.
    pub max_headers: usize,
    /// The request target; more is answered 414.
    pub max_uri_bytes: usize,
    /// From the first byte of a head to its last. Bytes that keep dribbling in do not extend it.
    pub header_timeout_ms: u64,
    /// How long a connection may stay open without a request.
    pub idle_timeout_ms: u64,
    /// How long a client may send nothing of a body, or read nothing of an answer, while we wait for it.
    pub body_idle_timeout_ms: u64,
    /// After the first `body_idle_timeout_ms` of waiting, a body must have arrived at this average rate: so a dribble
    /// cannot hold a worker. Time in which we did not read because the worker was slow does not count.
    pub body_min_bytes_per_s: u64,
    /// A request body; more is answered 413.
    pub max_body_bytes: u64,
    /// Open client connections; one more is answered 503 and closed.
    pub max_connections: usize,
    /// Open connections of one client (an IPv4 address, an IPv6 /64); one more is answered 503 and closed. 0: any number.
    pub max_connections_per_client: u32,
    /// Resident memory of the process; from 85 % on load is shed (503 and Retry-After). 0: no budget.
    pub max_memory_bytes: u64,
    /// Bytes of bodies that are kept to be inspected, of all requests and answers together. Beyond it a request is
    /// answered 503 where the firewall blocks; where it only detects, and of answers, the rest passes unseen.
    pub max_inspected_bytes: u64,
    /// One attempt to connect to an upstream.
    pub upstream_connect_timeout_ms: u64,
    /// From the last byte of the request to the head of the upstream's answer.
    pub upstream_timeout_ms: u64,
    /// How long an upstream may send nothing in the middle of an answer.
    pub upstream_body_idle_timeout_ms: u64,
    /// How long an unused connection to an upstream is kept. Shorter than workerd's own 5 s, so that a request is not
    /// sent on a connection that is just being closed.
    pub upstream_idle_ms: u64,
    /// Unused connections kept for each upstream socket.
    pub upstream_max_idle: usize,
    /// How long a request that may be tried again waits for an upstream that is being replaced.
    pub upstream_retry_ms: u64,
    /// How long a tunnel (WebSocket) may carry nothing in either direction.
    pub tunnel_idle_timeout_ms: u64,
    /// How long requests in flight may take to end after the shutdown signal.
    pub drain_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            threads: 0,
            max_header_bytes: 32 << 10,
            max_headers: 100,
            max_uri_bytes: 8 << 10,
            header_timeout_ms: 10_000,
            idle_timeout_ms: 60_000,
            body_idle_timeout_ms: 30_000,
            body_min_bytes_per_s: 256,
            max_body_bytes: 100 << 20,
            max_connections: 10_000,
            max_connections_per_client: 1_024,
            max_memory_bytes: 1 << 30,
            max_inspected_bytes: 128 << 20,
            upstream_connect_timeout_ms: 2_000,
            upstream_timeout_ms: 100_000,
            upstream_body_idle_timeout_ms: 600_000,
            upstream_idle_ms: 4_000,
            upstream_max_idle: 256,
            upstream_retry_ms: 2_000,
            tunnel_idle_timeout_ms: 3_600_000,
            drain_ms: 10_000,
        }
    }
}

pub(crate) fn ms(value: u64) -> Duration {
    Duration::from_millis(value)
}
