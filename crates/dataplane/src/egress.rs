//! The workers' way out: every `fetch` of a worker arrives here as an absolute-URI request, since workerd
//! itself runs without a network. Names of the platform are forwarded to its sockets; everything else must
//! resolve to public addresses only. This process holds no credential.

mod connect;
mod filter;

pub use filter::is_public;

use crate::status::{self, RoleStatus};
use astraler_model::InternalHost;
use bytes::Bytes;
use connect::PublicConnector;
use futures_util::FutureExt;
use http::header::{CONNECTION, HOST, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

/// What the role runs with.
pub struct Config {
    /// Where workers' requests arrive.
    pub requests: UnixListener,
    /// Where the daemon asks for the status.
    pub status: UnixListener,
    /// Names that are answered by the platform.
    pub internal: Vec<InternalHost>,
    /// Requests under way at once; more are answered 503.
    pub max_in_flight: usize,
}

type Body = BoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

struct Gateway {
    internal: Vec<InternalHost>,
    public: Client<PublicConnector, Incoming>,
    in_flight: Arc<Semaphore>,
}

/// Serves until `shutdown`, then finishes what is under way for at most ten seconds.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) {
    let gateway = Arc::new(Gateway {
        internal: config.internal,
        public: Client::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(16)
            .build(PublicConnector::new()),
        in_flight: Arc::new(Semaphore::new(config.max_in_flight)),
    });
    tokio::spawn(status::serve(
        config.status,
        Arc::new(|| RoleStatus {
            role: "egress".into(),
            snapshot_version: 0,
            pid: std::process::id(),
            connections: std::collections::BTreeMap::new(),
        }),
        None,
    ));
    let drain = hyper_util::server::graceful::GracefulShutdown::new();
    let mut shutdown = std::pin::pin!(shutdown.fuse());
    loop {
        let stream = tokio::select! {
            accepted = config.requests.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "accepting a worker's connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = &mut shutdown => break,
        };
        let gateway = Arc::clone(&gateway);
        let service = service_fn(move |request| {
            let gateway = Arc::clone(&gateway);
            async move { Ok::<_, Infallible>(gateway.answer(request).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_secs(30))
            .serve_connection(TokioIo::new(stream), service);
        let watched = drain.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = watched.await {
                tracing::debug!(%error, "a worker's connection ended early");
            }
        });
    }
    if tokio::time::timeout(Duration::from_secs(10), drain.shutdown())
        .await
        .is_err()
    {
        tracing::info!("requests still under way after 10 s were cut");
    }
}

impl Gateway {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let Ok(_permit) = Arc::clone(&self.in_flight).try_acquire_owned() else {
            return refusal(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many requests of workers are under way",
            );
        };
        if request.method() == Method::CONNECT {
            return refusal(
                StatusCode::FORBIDDEN,
                "connect() is not supported yet: use fetch, or Hyperdrive",
            );
        }
        let Some(host) = request.uri().host().map(str::to_ascii_lowercase) else {
            return refusal(StatusCode::BAD_REQUEST, "expected an absolute URI");
        };
        match self.internal.iter().find(|internal| internal.host == host) {
            Some(internal) => forward_inside(internal, request).await,
            None => self.forward_outside(request).await,
        }
    }

    async fn forward_outside(&self, mut request: Request<Incoming>) -> Response<Body> {
        if let Some(host) = authority_header(request.uri()) {
            request.headers_mut().insert(HOST, host);
        }
        strip_hop_by_hop(request.headers_mut());
        let authority = request
            .uri()
            .authority()
            .map(ToString::to_string)
            .unwrap_or_default();
        match self.public.request(request).await {
            Ok(response) => pass_back(response),
            Err(error) => {
                let reason = deepest(&error);
                tracing::info!(authority, reason, "a worker's request failed");
                refusal(StatusCode::BAD_GATEWAY, &format!("{authority}: {reason}"))
            }
        }
    }
}

async fn forward_inside(internal: &InternalHost, mut request: Request<Incoming>) -> Response<Body> {
    let stream = match UnixStream::connect(&internal.socket).await {
        Ok(stream) => stream,
        Err(error) => {
            tracing::warn!(host = internal.host, %error, "a service of the platform does not answer");
            return refusal(
                StatusCode::BAD_GATEWAY,
                &format!("{} does not answer: {error}", internal.host),
            );
        }
    };
    let (mut sender, connection) = match hyper::client::conn::http1::handshake(TokioIo::new(stream)).await {
        Ok(pair) => pair,
        Err(error) => return refusal(StatusCode::BAD_GATEWAY, &error.to_string()),
    };
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection to a service of the platform");
        }
    });
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", |path| path.as_str())
        .to_owned();
    let Ok(uri) = path.parse::<Uri>() else {
        return refusal(StatusCode::BAD_REQUEST, "the path is not valid");
    };
    *request.uri_mut() = uri;
    request.headers_mut().insert(
        HOST,
        HeaderValue::from_str(&internal.host).unwrap_or(HeaderValue::from_static("astraler.internal")),
    );
    strip_hop_by_hop(request.headers_mut());
    match sender.send_request(request).await {
        Ok(response) => pass_back(response),
        Err(error) => refusal(StatusCode::BAD_GATEWAY, &format!("{}: {error}", internal.host)),
    }
}

fn pass_back(mut response: Response<Incoming>) -> Response<Body> {
    strip_hop_by_hop(response.headers_mut());
    response.map(|body| body.map_err(Into::into).boxed())
}

/// RFC 9110 section 7.6.1: fields of one connection, and those that `Connection` names, end here.
fn strip_hop_by_hop(headers: &mut http::HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [
        "connection",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "te",
        "transfer-encoding",
        "upgrade",
    ] {
        headers.remove(name);
    }
}

fn authority_header(uri: &Uri) -> Option<HeaderValue> {
    let host = uri.host()?;
    let text = match uri.port_u16() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    HeaderValue::from_str(&text).ok()
}

fn refusal(status: StatusCode, reason: &str) -> Response<Body> {
    let body = Full::new(Bytes::from(format!("egress: {reason}\n")));
    let mut response = Response::new(body.map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    response.headers_mut().insert(
        "content-type",
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

fn deepest(error: &dyn std::error::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
