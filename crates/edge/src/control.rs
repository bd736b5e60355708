//! `GET /status`, `GET /cache`, `POST /cache/purge` and `POST /waf/check` on a Unix socket, for the daemon and for people.

use crate::activity::Seen;
use crate::body::{self, Body};
use crate::run::{Counters, Edge};
use astraler_model::{Purge, WafConfig};
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
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

/// The body of a purge.
const MAX_PURGE_BYTES: usize = 1 << 20;
/// A firewall that is asked about; its lists are the most of it.
const MAX_WAF_BYTES: usize = 16 << 20;
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
    resident_bytes: u64,
    /// Memory is short: new work is turned away.
    shedding: bool,
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
                        let edges = edges.clone();
                        async move { Ok::<_, Infallible>(answer(&edges, request).await) }
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

async fn answer(edges: &[Arc<Edge>], request: Request<Incoming>) -> Response<Body> {
    let (status, text) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/status") => (
            StatusCode::OK,
            serde_json::to_string(&status(edges)).unwrap_or_default(),
        ),
        (&Method::GET | &Method::HEAD, "/cache") => (
            StatusCode::OK,
            edges
                .first()
                .and_then(|edge| serde_json::to_string(&edge.cache.standing()).ok())
                .unwrap_or_default(),
        ),
        (&Method::POST, "/cache/purge") => purge(edges, request.into_body()).await,
        (&Method::POST, "/waf/check") => check_waf(edges, request.into_body()).await,
        (_, "/status" | "/cache") => refused(StatusCode::METHOD_NOT_ALLOWED, "only GET"),
        (_, "/cache/purge" | "/waf/check") => refused(StatusCode::METHOD_NOT_ALLOWED, "only POST"),
        _ => refused(
            StatusCode::NOT_FOUND,
            "only /status, /cache, /cache/purge and /waf/check",
        ),
    };
    let mut response = Response::new(body::full(text));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn refused(status: StatusCode, why: &str) -> (StatusCode, String) {
    (status, format!(r#"{{"error":"{why}"}}"#))
}

async fn read<T: serde::de::DeserializeOwned>(
    body: Incoming,
    max_bytes: usize,
) -> Result<T, (StatusCode, String)> {
    let Ok(body) = http_body_util::Limited::new(body, max_bytes).collect().await else {
        let why = "what is asked is too long, or ended early";
        return Err(refused(StatusCode::PAYLOAD_TOO_LARGE, why));
    };
    serde_json::from_slice(&body.to_bytes())
        .map_err(|_| refused(StatusCode::BAD_REQUEST, "that is not how this is asked"))
}

/// Whether the rules of a firewall can be used here: this process reads them, as the user that it is.
async fn check_waf(edges: &[Arc<Edge>], body: Incoming) -> (StatusCode, String) {
    let config: WafConfig = match read(body, MAX_WAF_BYTES).await {
        Ok(config) => config,
        Err(refused) => return refused,
    };
    let Some(edge) = edges.first() else {
        return refused(StatusCode::SERVICE_UNAVAILABLE, "the edge has no threads");
    };
    let programs = edge.programs.clone();
    match tokio::task::spawn_blocking(move || programs.check(&config)).await {
        Ok(found) => (StatusCode::OK, serde_json::to_string(&found).unwrap_or_default()),
        Err(_) => refused(StatusCode::SERVICE_UNAVAILABLE, "the check was broken off"),
    }
}

async fn purge(edges: &[Arc<Edge>], body: Incoming) -> (StatusCode, String) {
    let purge: Purge = match read(body, MAX_PURGE_BYTES).await {
        Ok(purge) => purge,
        Err(refused) => return refused,
    };
    let Some(edge) = edges.first() else {
        return refused(StatusCode::SERVICE_UNAVAILABLE, "the edge has no threads");
    };
    let cache = edge.cache.clone();
    match tokio::task::spawn_blocking(move || cache.purge(&purge)).await {
        Ok(Ok(Some(purged))) => (StatusCode::OK, serde_json::to_string(&purged).unwrap_or_default()),
        Ok(Ok(None)) => refused(
            StatusCode::BAD_REQUEST,
            "a URL, prefix or host in it is none, or there is too much of it",
        ),
        Ok(Err(error)) => {
            tracing::warn!(%error, "a purge did not reach the disk");
            refused(
                StatusCode::SERVICE_UNAVAILABLE,
                "memory is purged, the disk tier is not; try again",
            )
        }
        Err(_) => refused(StatusCode::SERVICE_UNAVAILABLE, "the purge was broken off"),
    }
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
        resident_bytes: edge.memory.resident(),
        shedding: edge.memory.is_tight(),
        dropped_log_records: edge.log.dropped(),
        upstream_idle_connections: edges.iter().map(|edge| edge.upstream.idle_connections()).sum(),
        draining: edge.draining.is_cancelled(),
        uptime_ms: u64::try_from(edge.begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        pid: std::process::id(),
        deployments: edge.activities.seen(|deployment| routes.leads_to(deployment)),
    })
}
