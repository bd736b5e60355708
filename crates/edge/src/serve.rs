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
//! are the server's. A [`hang_up`] is no answer: nothing of it is sent, and the connection ends. The body must be polled
//! to its end or dropped: the access record ends with it.
//!
//! `serve` is polled in the task that owns the connection or stream; dropping it says that the client has left.

use crate::body::{self, Body};
pub(crate) use crate::client::{Client, Interim, OnUpgrade, Scheme};
use crate::fault::{Fault, Kind};
use crate::page::{self, Hint};
use crate::policy::Asked;
use crate::record::{Access, Route};
use crate::route::Routes;
use crate::run::Edge;
use crate::{asset, cache, checks, forward, hang_up, rate, rules, tls, waf, wake};
use http::header::{self, HeaderValue};
use http::{Request, Response, StatusCode};
use std::sync::Arc;

/// Answers one request, whatever happens.
pub(crate) async fn serve(
    edge: Arc<Edge>,
    client: Arc<Client>,
    request: Request<Body>,
    interim: Interim,
) -> Response<Body> {
    let mut access = Access::begin(&request, &client, &edge.log, &edge.counters);
    let routes = edge.routes.load_full();
    let accept = request.headers().get(header::ACCEPT).cloned();
    let mut asked = Asked::default();

    let answer = phases(
        &edge,
        &client,
        &routes,
        request,
        &interim,
        &mut asked,
        &mut access,
    )
    .await;

    let mut response = match answer {
        Ok(response) => response,
        Err(fault) if fault.kind == Kind::Dropped => {
            access.fault(fault);
            hang_up::answer()
        }
        Err(fault) => {
            access.fault(fault);
            let hint = hint(fault, &routes, &client);
            let json = page::wants_json(accept.as_ref());
            error_page(fault, &asked, json, hint, &access.request_id()).await
        }
    };
    let seen = asked.client.as_ref().unwrap_or(&client);
    tls::promise(&edge.tls, seen, access.host_name(), response.headers_mut());
    if let (Some(alt_svc), Scheme::Https) = (&edge.alt_svc, client.scheme) {
        response.headers_mut().insert(header::ALT_SVC, alt_svc.clone());
    }
    rules::apply(response, &edge, &asked, access)
}

/// Answers a head that was refused on the wire: the same page, the same record. `first_line` is the start of what came.
pub(crate) fn refuse(
    edge: &Edge,
    client: &Client,
    request: &Request<Body>,
    fault: Fault,
    first_line: &str,
) -> Response<Body> {
    let mut access = Access::begin(request, client, &edge.log, &edge.counters);
    access.refused(first_line);
    access.fault(fault);
    let id = access.request_id();
    let words = page::Words {
        request_id: &id,
        ..page::Words::default()
    };
    let page = page::of(fault, words);
    rules::apply(page, edge, &Asked::default(), access)
}

async fn phases(
    edge: &Arc<Edge>,
    client: &Client,
    routes: &Routes,
    request: Request<Body>,
    interim: &Interim,
    asked: &mut Asked,
    access: &mut Access,
) -> Result<Response<Body>, Fault> {
    // Limits: what the memory cannot bear is not begun.
    if edge.memory.is_tight() {
        return Err(Kind::Overloaded.because("memory is short"));
    }

    // Checks: one meaning.
    let (mut parts, mut incoming) = request.into_parts();
    let checked = checks::check(&parts, &edge.limits)?;
    if forward::goes_round(&parts.headers) {
        // Anybody can write such a field: it is no fault of a worker. 508 is "Loop Detected" (RFC 5842).
        let circle = Kind::Malformed.because("the request goes round in a circle of proxies");
        return Err(circle.with_status(508));
    }
    forward::drop_nominated(&mut parts.headers);
    let last_hop = forward::is_last_hop(&parts.method, &mut parts.headers);
    // Over HTTP/2 and HTTP/3 no field need tell of it.
    let has_content = !http_body::Body::is_end_stream(&incoming);
    access.host(&checked.host);

    // Who the client is: the other end, or whom a proxy names that the host's environment trusts.
    let found = routes.site(&checked.host);
    let seen = match found {
        Some(site) => site.policy.client(&parts.headers, client),
        None => client.clone(),
    };
    asked.client = Some(seen.clone());
    let client = &seen;
    access.client(client.address.ip());

    // TLS: who validates a name of ours comes first; whoever came without it is shown the way.
    if let Some(answer) = tls::answer(&edge.tls, client, &parts.method, &checked) {
        access.route(Route::Tls);
        return Ok(answer);
    }

    // Route: host, then path.
    let unknown = Kind::UnknownHost.because("no environment has this host");
    let mut site = found.ok_or(unknown)?.clone();
    access.site(&site);

    // Whether the client may come, what rules of the application's own say of the head, and how often the client may.
    let policy = &site.policy;
    let (address, host, path) = (client.address.ip(), checked.host.as_str(), checked.path());
    asked.about(&site, host, path, &parts.method, &parts.headers);
    policy.admit(address, host, path, &parts.method, access)?;
    let request = rate::Request {
        client: address,
        host,
        path,
        method: &parts.method,
        headers: &parts.headers,
    };
    let call = waf::Call {
        client,
        checked: &checked,
        parts: &parts,
    };
    let opened = match &site.waf {
        Some(waf) if !checked.asterisk => waf.open(&call, access)?,
        _ => waf::Opened::default(),
    };
    let skips = opened.skips_rate_rules();
    policy
        .rates
        .count(&edge.rates, request, skips, asked, access)
        .await?;
    if checked.asterisk || last_hop {
        return Ok(about_the_server());
    }

    // WAF: whether the request is what it seems to be, and later what the worker gives away.
    let mut inspection = None;
    if let Some(waf) = &site.waf {
        let looked = waf.inspect(opened, &call, incoming, &edge.inspecting, access);
        (incoming, inspection) = Box::pin(looked).await.map_err(|refusal| {
            asked.elsewhere = refusal.elsewhere;
            refusal.fault
        })?;
    }
    // Rules cannot read what a worker has compressed. The client gets it from here: `asked` knows what it takes.
    if inspection.as_ref().is_some_and(waf::Inspection::reads_body) {
        parts.headers.remove(header::ACCEPT_ENCODING);
    }

    // Cache: what is stored wakes nobody.
    let mut lookup = cache::Lookup::Off;
    if let Some(worker) = site.worker(checked.path()) {
        access.route(Route::Worker(worker.clone()));
        let call = cache::Call {
            edge,
            client,
            checked: &checked,
            worker,
            inspection: inspection.as_ref(),
        };
        lookup = cache::lookup(&call, site.cache.as_ref(), &parts, has_content, access);
        if let cache::Lookup::Answer(response) = lookup {
            return Ok(response);
        }
    }

    // Wake: workers that sleep are started first; their routes are other ones.
    if let Some(asleep) = &site.wake
        && site.worker(checked.path()).is_some()
    {
        wake::wake(edge, asleep, site.environment).await?;
        let routes = edge.routes.load_full();
        site = routes.site(&checked.host).ok_or(unknown)?.clone();
        access.site(&site);
    }

    // Worker, or asset.
    if let Some(worker) = site.worker(checked.path()) {
        access.route(Route::Worker(worker.clone()));
        let request = Request::from_parts(parts, incoming);
        let call = cache::Call {
            edge,
            client,
            checked: &checked,
            worker,
            inspection: inspection.as_ref(),
        };
        let rules = site.cache.as_ref();
        let answer = Box::pin(cache::serve(call, request, lookup, rules, interim, access)).await;
        if let Some(inspection) = &inspection {
            inspection.tell(access);
            asked.elsewhere = inspection.elsewhere();
        }
        return answer;
    }
    if let Some(assets) = &site.assets {
        access.route(Route::Asset);
        return asset::serve(assets, &parts.method, &parts.headers, &checked, &asked.wish).await;
    }
    Err(Kind::NotFound.because("nothing is served at this path"))
}

/// `OPTIONS *` (RFC 9110 section 9.3.7), and an OPTIONS that has no forward left.
fn about_the_server() -> Response<Body> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let methods = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
    response.headers_mut().insert(header::ALLOW, methods);
    response
}

/// The application's page for a fault, where it has one, or ours.
async fn error_page(fault: Fault, asked: &Asked, json: bool, hint: Hint, request_id: &str) -> Response<Body> {
    let site = asked.site.as_deref();
    let elsewhere = asked.elsewhere.clone().filter(|_| fault.kind == Kind::Blocked);
    let own = match site
        .filter(|_| elsewhere.is_none())
        .map(|site| (site.policy.error_page(fault.status()), &site.assets))
    {
        Some((Some(path), Some(assets))) if !json => asset::page(assets, path).await,
        _ => None,
    };
    let maintenance = site
        .filter(|_| fault.kind == Kind::Maintenance)
        .and_then(|site| site.policy.maintenance());
    let words = page::Words {
        request_id,
        hint,
        message: maintenance.and_then(|maintenance| maintenance.message.as_deref()),
        retry_after_s: maintenance
            .map(|maintenance| u64::from(maintenance.retry_after_s))
            .or(asked.retry_after_s),
        own,
        json,
        elsewhere,
    };
    page::of(fault, words)
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
