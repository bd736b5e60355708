//! The S3 API: R2's subset of it, with `s3s` for the protocol and the store behind it.
//!
//! What R2 does not have (ACLs, policies, versions, tags, object lock, presigned POST) and what is not there yet
//! (CORS and lifecycle configuration, SSE-C) is answered with `NotImplemented`, never ignored.

mod access;
mod backend;
mod bodies;
mod convert;
mod listings;
mod uploads;

use crate::Store;
use astraler_model::DataSnapshot;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{HttpError, HttpResponse, S3Error};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// The longest life of a presigned URL in seconds: seven days.
const MAX_PRESIGNED_S: u64 = 7 * 86_400;
/// Connections served at one time; further ones wait in the listener's queue.
const MAX_CONNECTIONS: usize = 1024;
/// How long a client may take for its request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long requests in flight may take once a shutdown has begun.
const DRAIN: Duration = Duration::from_secs(10);

/// An HTTP service that speaks S3.
#[derive(Clone)]
pub struct Service {
    inner: S3Service,
}

/// Builds the service. `source` holds the access keys; a new snapshot counts from the next request on.
pub fn service(store: Store, source: watch::Receiver<Arc<DataSnapshot>>) -> Service {
    let access = access::Access::new(source);
    let mut builder = S3ServiceBuilder::new(backend::Backend::new(store, access.clone()));
    builder.set_auth(access.clone());
    builder.set_access(access);
    Service {
        inner: builder.build(),
    }
}

/// Serves S3 on a listener until `shutdown` is ready; then finishes the requests in flight.
pub async fn serve(
    listener: TcpListener,
    store: Store,
    source: watch::Receiver<Arc<DataSnapshot>>,
    shutdown: impl Future<Output = ()>,
) {
    let service = service(store, source);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accept = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = &mut shutdown => break,
            accepted = accept => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, mostly: give others time to close some.
                tracing::warn!(%error, "cannot accept a connection for S3");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(256 << 10)
            .serve_connection(TokioIo::new(stream), service.clone());
        let connection = graceful.watch(connection);
        while connections.try_join_next().is_some() {}
        connections.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection for S3 ended early");
            }
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests for S3 were still in flight when their time was over");
    }
    // Whoever is still there is cut off: its handle would keep the store open.
    connections.shutdown().await;
}

impl hyper::service::Service<http::Request<hyper::body::Incoming>> for Service {
    type Response = HttpResponse;
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send>>;

    fn call(&self, request: http::Request<hyper::body::Incoming>) -> Self::Future {
        let waits = request.headers().contains_key(http::header::EXPECT);
        let answer: Self::Future = match refuse(&request) {
            Some(error) => Box::pin(async move {
                error
                    .to_http_response()
                    .map_err(|error| HttpError::new(Box::new(error)))
            }),
            None => hyper::service::Service::call(&self.inner, request),
        };
        if !waits {
            return answer;
        }
        Box::pin(async move {
            let mut answer = answer.await?;
            // Refused before it was told to go on, the client sends no body (RFC 9110 section 10.1.1). On a
            // connection that goes on, its next request would be read as that body.
            if !answer.status().is_success() {
                let close = http::HeaderValue::from_static("close");
                answer.headers_mut().insert(http::header::CONNECTION, close);
            }
            Ok(answer)
        })
    }
}

/// Forms of request that `s3s` would serve and R2 does not: AWS Signature Version 2, forms, presigned URLs of more
/// than seven days.
fn refuse<B>(request: &http::Request<B>) -> Option<S3Error> {
    let header = |name| {
        let value: Option<&http::HeaderValue> = request.headers().get(name);
        value.and_then(|value| value.to_str().ok()).unwrap_or_default()
    };
    let query = |name: &str| {
        let pairs = request.uri().query().unwrap_or_default().split('&');
        pairs
            .filter_map(|pair| pair.split_once('='))
            .find(|(found, _)| *found == name)
            .map(|(_, value)| value.to_owned())
    };
    if header(http::header::AUTHORIZATION).starts_with("AWS ") || query("AWSAccessKeyId").is_some() {
        return Some(s3s::s3_error!(
            InvalidRequest,
            "AWS Signature Version 2 is not supported: sign with Version 4"
        ));
    }
    if request.method() == http::Method::POST
        && header(http::header::CONTENT_TYPE).starts_with("multipart/form-data")
    {
        return Some(s3s::s3_error!(
            NotImplemented,
            "presigned POST is not implemented: presign a PUT"
        ));
    }
    let expires = query("X-Amz-Expires").and_then(|seconds| seconds.parse().ok());
    if expires.is_some_and(|seconds: u64| seconds > MAX_PRESIGNED_S) {
        return Some(s3s::s3_error!(
            AuthorizationQueryParametersError,
            "X-Amz-Expires must be at most 604800 seconds"
        ));
    }
    None
}
