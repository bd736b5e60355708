//! The path of a request, top to bottom, whatever protocol it came by.
//!
//! # What a protocol's server does
//!
//! It makes a [`Client`] for each connection, and for each request a `Request<Body>` whose version is the protocol's and
//! whose body is [`Body::new`] of whatever reads it (deadlines are the reader's; the size is bounded here). Where the
//! protocol has interim answers it passes [`Interim::new`] and looks with [`Interim::take`] after each poll of `serve`;
//! otherwise [`Interim::none`]. Where the connection or stream can become a tunnel it puts an [`OnUpgrade`] into the
//! request's extensions: it is awaited only after an answer with status 101 was returned. The answer has no hop-by-hop
//! field but `Connection: close` (the connection should end) and those of 101; framing, `Date`, what a HEAD or a 304 must not carry and GOAWAY
//! are the server's. The body must be polled to its end or dropped: the access record ends with it.
//!
//! `serve` is polled in the task that owns the connection or stream; dropping it says that the client has left.

use crate::body::{self, Body};
pub(crate) use crate::client::{Client, Interim, OnUpgrade, Scheme};
use crate::fault::{Fault, Kind};
use crate::page::{self, Hint};
use crate::record::Access;
use crate::route::Routes;
use crate::run::Edge;
use crate::{asset, checks, proxy, rules, tls, wake};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Request, Response, StatusCode};
use std::sync::Arc;

/// Answers one request, whatever happens.
pub(crate) async fn serve(
    edge: Arc<Edge>,
    client: Arc<Client>,
    request: Request<Body>,
    interim: Interim,
) -> Response<Body> {
    let mut access = Access::begin(&request, client.address.ip(), &edge.log, &edge.counters);
    let routes = edge.routes.load_full();
    let accept = accept_of(request.headers());

    let answer = phases(&edge, &client, &routes, request, &interim, &mut access).await;

    let mut response = answer.unwrap_or_else(|fault| {
        access.fault(fault);
        page::of(
            fault,
            &accept,
            access.request_id(),
            &hint(fault, &routes, &client),
        )
    });
    tls::promise(&edge.tls, &client, access.host_name(), response.headers_mut());
    rules::apply(response, access)
}

/// Answers a head that was refused on the wire: the same page, the same record. `first_line` is the start of what came.
pub(crate) fn refuse(
    edge: &Edge,
    client: &Client,
    request: &Request<Body>,
    fault: Fault,
    first_line: &str,
) -> Response<Body> {
    let mut access = Access::begin(request, client.address.ip(), &edge.log, &edge.counters);
    access.refused(first_line);
    access.fault(fault);
    let page = page::of(fault, &HeaderMap::new(), access.request_id(), &Hint::new());
    rules::apply(page, access)
}

async fn phases(
    edge: &Arc<Edge>,
    client: &Client,
    routes: &Routes,
    request: Request<Body>,
    interim: &Interim,
    access: &mut Access,
) -> Result<Response<Body>, Fault> {
    // Checks: one meaning.
    let (parts, incoming) = request.into_parts();
    let checked = checks::check(&parts, &edge.limits)?;
    access.host(checked.host.as_str());

    // TLS: who validates a name of ours comes first; whoever came without it is shown the way.
    if let Some(answer) = tls::answer(&edge.tls, client, &parts.method, &checked) {
        access.route("tls".to_owned());
        return Ok(answer);
    }

    // Route: host, then path.
    let unknown = Kind::UnknownHost.because("no environment has this host");
    let mut site = routes.site(&checked.host).ok_or(unknown)?.clone();
    access.site(site.environment.to_string(), &site.deployment, &site.activity);
    if checked.asterisk {
        return Ok(about_the_server());
    }

    // Wake: workers that sleep are started first; their routes are other ones.
    if let Some(asleep) = &site.wake
        && site.worker(&checked.path).is_some()
    {
        wake::wake(edge, asleep, site.environment).await?;
        let routes = edge.routes.load_full();
        site = routes.site(&checked.host).ok_or(unknown)?.clone();
        access.site(site.environment.to_string(), &site.deployment, &site.activity);
    }

    // Worker, or asset.
    if let Some(worker) = site.worker(&checked.path) {
        access.route(format!("worker:{}", worker.worker));
        let request = Request::from_parts(parts, incoming);
        return Box::pin(proxy::forward(
            edge, client, request, &checked, worker, interim, access,
        ))
        .await;
    }
    if let Some(assets) = &site.assets {
        access.route("asset".to_owned());
        return asset::serve(assets, &parts.method, &parts.headers, &checked).await;
    }
    Err(Kind::NotFound.because("nothing is served at this path"))
}

/// `OPTIONS *` (RFC 9110 section 9.3.7).
fn about_the_server() -> Response<Body> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let methods = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
    response.headers_mut().insert(header::ALLOW, methods);
    response
}

fn accept_of(headers: &HeaderMap) -> HeaderMap {
    headers
        .get(header::ACCEPT)
        .map(|value| (header::ACCEPT, value.clone()))
        .into_iter()
        .collect()
}

/// Only somebody on this machine, where development is served too, is told what there is.
fn hint(fault: Fault, routes: &Routes, client: &Client) -> Hint {
    let developer = routes.has_development && client.address.ip().to_canonical().is_loopback();
    if fault.kind == Kind::UnknownHost && developer {
        routes.host_names().into_iter().map(str::to_owned).collect()
    } else {
        Hint::new()
    }
}
