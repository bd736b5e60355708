//! `GET /status` on a role's own Unix socket: which snapshot it has. On the data role's, the daemon also asks for
//! buckets; on the signal role's, for numbers.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;

/// What a role says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleStatus {
    /// `data` or `egress`.
    pub role: String,
    /// Version of the snapshot in use.
    pub snapshot_version: u64,
    /// Its process.
    pub pid: u32,
    /// Of the data role: server connections in use, and how many there may be, by environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub connections: BTreeMap<String, (usize, usize)>,
}

/// What else a role answers; `None` is no such path.
pub(crate) type Further = Arc<
    dyn Fn(Method, Uri) -> Pin<Box<dyn Future<Output = Option<(StatusCode, Vec<u8>)>> + Send>> + Send + Sync,
>;

/// Serves the status until the task is dropped. Requests are answered one connection at a time each, and a
/// head must arrive within five seconds.
pub(crate) async fn serve(
    listener: UnixListener,
    read: Arc<dyn Fn() -> RoleStatus + Send + Sync>,
    further: Option<Further>,
) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "accepting on the status socket");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let read = Arc::clone(&read);
        let further = further.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let read = Arc::clone(&read);
                let further = further.clone();
                async move {
                    let (method, uri) = (request.method().clone(), request.uri().clone());
                    if uri.path() == "/status" {
                        let body = serde_json::to_vec(&read()).unwrap_or_default();
                        return Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(body))));
                    }
                    let answered = match &further {
                        Some(further) => further(method, uri).await,
                        None => None,
                    };
                    let (status, body) = answered.unwrap_or((StatusCode::NOT_FOUND, vec![]));
                    let mut response = Response::new(Full::new(Bytes::from(body)));
                    *response.status_mut() = status;
                    Ok(response)
                }
            });
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(5))
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "status connection");
            }
        });
    }
}
