//! An origin that answers as a test says, and remembers what it was asked.

use crate::support::{Client, Reply, Seen, TestEdge, route};
use astraler_edge::{Body, BoxError, EdgeSnapshot, Limits};
use astraler_model::{CacheBounds, CacheRules};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tokio::net::UnixListener;

pub(crate) type Answer = Result<Response<Body>, BoxError>;
type Handler = dyn Fn(Seen) -> BoxFuture<'static, Answer> + Send + Sync;

pub(crate) struct Origin {
    pub(crate) seen: Arc<Mutex<Vec<Seen>>>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Origin {
    pub(crate) fn start<F>(socket: &Path, answer: impl Fn(Seen) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let handler: Arc<Handler> = Arc::new(move |seen| Box::pin(answer(seen)));
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let listener = UnixListener::bind(socket).unwrap();
        let saw = seen.clone();
        let accepting = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (handler, saw) = (handler.clone(), saw.clone());
                tokio::spawn(async move {
                    let service = service_fn(move |request: Request<Incoming>| {
                        let (handler, saw) = (handler.clone(), saw.clone());
                        async move {
                            let (parts, body) = request.into_parts();
                            let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
                            let seen = Seen {
                                method: parts.method.to_string(),
                                target: parts.uri.to_string(),
                                headers: parts.headers,
                                body,
                                trailers: None,
                            };
                            saw.lock().unwrap().push(seen.clone());
                            handler(seen).await.map_err(std::io::Error::other)
                        }
                    });
                    let connection = hyper::server::conn::http1::Builder::new();
                    let _ = connection.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { seen, accepting }
    }

    pub(crate) fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    pub(crate) fn last(&self) -> Seen {
        self.seen.lock().unwrap().last().unwrap().clone()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// An answer with these fields.
pub(crate) fn answer(status: u16, fields: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
    let mut response = Response::builder().status(status);
    for (name, value) in fields {
        response = response.header(*name, *value);
    }
    Ok(response.body(Body::full(body)).unwrap())
}

/// An edge with a cache for `worker.test`.
pub(crate) async fn edge(rules: CacheRules) -> TestEdge {
    TestEdge::start(Limits::default(), |folder| vec![cached(folder, rules, "dep-1")]).await
}

pub(crate) fn cached(folder: &Path, rules: CacheRules, deployment: &str) -> astraler_model::Route {
    let mut route = route("worker.test", vec![("/", folder.join("w.sock"))]);
    route.deployment = deployment.to_owned();
    route.cache = Some(rules);
    route
}

/// An edge with an origin behind it, and a client.
pub(crate) async fn start<F>(answer: impl Fn(Seen) -> F + Send + Sync + 'static) -> (TestEdge, Origin, Client)
where
    F: Future<Output = Answer> + Send + 'static,
{
    let edge = edge(CacheRules::default()).await;
    let origin = Origin::start(&edge.folder.path().join("w.sock"), answer);
    let client = edge.connect().await;
    (edge, origin, client)
}

/// Publishes other routes and bounds, and waits until they are in force.
pub(crate) async fn publish(edge: &TestEdge, routes: Vec<astraler_model::Route>, cache: CacheBounds) {
    let version = edge.snapshots.borrow().version + 1;
    edge.snapshots
        .send(Arc::new(EdgeSnapshot {
            version,
            routes,
            cache,
            ..EdgeSnapshot::default()
        }))
        .unwrap();
    while edge.status().await["snapshot_version"] != version {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// What the cache did, in Cloudflare's word.
pub(crate) fn word(reply: &Reply) -> &str {
    reply.header("cf-cache-status").unwrap_or("none")
}

impl TestEdge {
    /// Asks the status socket.
    pub(crate) async fn control(&self, method: &str, path: &str, body: &str) -> (u16, serde_json::Value) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::UnixStream::connect(self.folder.path().join("status.sock"))
            .await
            .unwrap();
        let length = body.len();
        stream
            .write_all(
                format!(
                    "{method} {path} HTTP/1.1\r\nHost: s\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
                )
                .as_bytes(),
            )
            .await
            .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap())
    }
}
