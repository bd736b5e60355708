//! The path of a request, top to bottom.

use crate::body::{self, Body};
use crate::fault::{Fault, Kind};
use crate::page::{self, Hint};
use crate::record::Access;
use crate::route::Routes;
use crate::run::Edge;
use crate::wire::Link;
use crate::{asset, checks, proxy, rules, wake};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The other end of a connection.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    pub(crate) link: Arc<Link>,
    /// Requests that hyper has handed us from this connection.
    pub(crate) requests: AtomicU64,
}

/// Answers one request, whatever happens.
pub(crate) async fn serve(
    edge: Arc<Edge>,
    client: Arc<Client>,
    request: Request<Incoming>,
) -> Response<Body> {
    let number = client.requests.fetch_add(1, Ordering::Relaxed);
    let mut access = Access::begin(
        &request,
        client.address.ip(),
        &edge.log,
        &edge.counters,
        &client.link,
    );
    let routes = edge.routes.load_full();
    let accept = accept_of(request.headers());

    let answer = phases(&edge, &client, &routes, number, request, &mut access).await;

    let response = answer.unwrap_or_else(|fault| {
        access.fault(fault);
        page::of(
            fault,
            &accept,
            access.request_id(),
            &hint(fault, &routes, &client),
        )
    });
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        client.link.decide(false);
    }
    rules::apply(response, access)
}

async fn phases(
    edge: &Arc<Edge>,
    client: &Client,
    routes: &Routes,
    number: u64,
    request: Request<Incoming>,
    access: &mut Access,
) -> Result<Response<Body>, Fault> {
    // Limits: judged on the wire, before hyper saw the request.
    if let Some(refusal) = client.link.refusal(number) {
        access.refused(&refusal.first_line);
        return Err(refusal.fault);
    }

    // Checks: one meaning.
    let (parts, incoming) = request.into_parts();
    let checked = checks::check(&parts, &edge.limits)?;
    access.host(checked.host.as_str());

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
        return Box::pin(proxy::forward(edge, client, request, &checked, worker, access)).await;
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
