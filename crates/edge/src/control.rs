//! `GET /status` on a Unix socket, for the daemon and for people.

use crate::activity::Seen;
use crate::body::{self, Body};
use crate::run::{Counters, Edge};
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::UnixListener;

/// Askers at once.
const MAX_CLIENTS: usize = 32;

/// The body of `GET /status`.
#[derive(Debug, Serialize)]
struct Status {
    snapshot_version: u64,
    connections: u64,
    in_flight: u64,
    requests_total: u64,
    turned_away_total: u64,
    dropped_log_records: u64,
    upstream_idle_connections: usize,
    draining: bool,
    uptime_ms: u64,
    pid: u32,
    /// By deployment: those that routes lead to, and those that still have requests.
    deployments: BTreeMap<String, Seen>,
}

/// Answers until the edge has drained, so that a drain can be watched.
pub(crate) async fn listen(edges: Arc<[Arc<Edge>]>, listener: UnixListener) {
    let clients = Arc::new(tokio::sync::Semaphore::new(MAX_CLIENTS));
    loop {
        let Ok(permit) = clients.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let edges = edges.clone();
                tokio::spawn(async move {
                    let _permit = permit;
                    let service = service_fn(|request| {
                        let response = answer(&edges, &request);
                        async move { Ok::<_, Infallible>(response) }
                    });
                    let connection = hyper::server::conn::http1::Builder::new()
                        .timer(TokioTimer::new())
                        .header_read_timeout(Duration::from_secs(5))
                        .max_buf_size(16 << 10)
                        .serve_connection(TokioIo::new(stream), service);
                    if let Err(error) = connection.await {
                        tracing::debug!(%error, "status connection ended early");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept on the status socket");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn answer(edges: &[Arc<Edge>], request: &Request<Incoming>) -> Response<Body> {
    let (status, text) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/status") => (
            StatusCode::OK,
            serde_json::to_string(&status(edges)).unwrap_or_default(),
        ),
        (_, "/status") => (
            StatusCode::METHOD_NOT_ALLOWED,
            r#"{"error":"only GET"}"#.to_owned(),
        ),
        _ => (StatusCode::NOT_FOUND, r#"{"error":"only /status"}"#.to_owned()),
    };
    let mut response = Response::new(body::full(text));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// All threads together.
fn status(edges: &[Arc<Edge>]) -> Option<Status> {
    let edge = edges.first()?;
    let routes = edge.routes.load_full();
    let sum = |count: fn(&Counters) -> &AtomicU64| -> u64 {
        edges
            .iter()
            .map(|edge| count(&edge.counters).load(Ordering::Relaxed))
            .sum()
    };
    Some(Status {
        snapshot_version: routes.version,
        connections: edge.connections.load(Ordering::Relaxed),
        in_flight: sum(|counters| &counters.in_flight),
        requests_total: sum(|counters| &counters.requests_total),
        turned_away_total: sum(|counters| &counters.turned_away_total),
        dropped_log_records: edge.log.dropped(),
        upstream_idle_connections: edges.iter().map(|edge| edge.upstream.idle_connections()).sum(),
        draining: edge.draining.is_cancelled(),
        uptime_ms: u64::try_from(edge.begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        pid: std::process::id(),
        deployments: edge.activities.seen(|deployment| routes.leads_to(deployment)),
    })
}
