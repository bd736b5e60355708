//! Worker: the request goes on to the worker's socket, the answer comes back, both streaming.

use crate::body::{self, Body, FromClient};
use crate::checks::Checked;
use crate::fault::{Fault, Kind};
use crate::forward::{self, Gained};
use crate::record::Access;
use crate::run::Edge;
use crate::serve::{Client, Interim, OnUpgrade};
use crate::tunnel;
use crate::upstream::Effort;
use astraler_model::WorkerRoute;
use http::header::{self, HeaderMap};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Uri, Version};
use std::sync::Arc;
use std::time::Instant;

/// Sends a request to its worker.
pub(crate) async fn forward(
    edge: &Arc<Edge>,
    client: &Client,
    request: Request<Body>,
    checked: &Checked,
    worker: &WorkerRoute,
    interim: &Interim,
    access: &mut Access,
) -> Result<Response<Body>, Fault> {
    let upload = access.upload();
    let (mut parts, incoming) = request.into_parts();
    let tunnel = wants_tunnel(&parts)
        .then(|| parts.extensions.remove::<OnUpgrade>())
        .flatten();
    let body = match http_body::Body::is_end_stream(&incoming) {
        true => Body::empty(),
        false => Body::new(FromClient::new(
            incoming,
            upload.clone(),
            edge.limits.max_body_bytes,
        )),
    };
    let (request, gained) = outgoing(
        parts,
        body,
        checked,
        client,
        &access.request_id(),
        tunnel.is_some(),
    );

    let begun = Instant::now();
    access.goes_upstream(gained.trace_id, begun);
    let effort = Effort::default();
    let answer = edge
        .upstream
        .send_with(&worker.origin, (request, &gained.lines), interim, &effort)
        .await;
    access.upstream_took(begun);
    access.effort(&effort);
    let mut response = answer.map_err(|error| {
        // What the client did to its own body explains more than what the worker made of it.
        let fault = upload.fault.get().copied().unwrap_or_else(|| error.fault());
        tracing::debug!(
            worker = worker.worker,
            error = &error as &dyn std::error::Error,
            "no answer"
        );
        fault
    })?;

    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        // To nothing but what was asked for (RFC 9110 section 7.8): the client would speak one protocol, the worker another.
        if !is_websocket(response.headers()) {
            return Err(Kind::UpstreamInvalid.because("the worker switched to another protocol"));
        }
        let (Some(client_side), Some(upstream_side)) =
            (tunnel, response.extensions_mut().remove::<OnUpgrade>())
        else {
            return Err(Kind::UpstreamInvalid.because("the worker switched protocols without being asked"));
        };
        tunnel::start(edge, client_side, upstream_side, access.split_off_for_tunnel());
        let mut headers = std::mem::take(response.headers_mut());
        forward::to_client(&mut headers);
        headers.insert(header::CONNECTION, header::HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, header::HeaderValue::from_static("websocket"));
        let mut switching = Response::new(body::empty());
        *switching.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *switching.headers_mut() = headers;
        return Ok(switching);
    }
    received(response)
}

/// Sends a request without body that the cache makes of a client's.
pub(crate) async fn fetch(
    edge: &Edge,
    client: &Client,
    request_id: &str,
    head: (Method, HeaderMap),
    (interim, effort): (&Interim, &Effort),
    checked: &Checked,
    worker: &WorkerRoute,
) -> Result<Response<Body>, Fault> {
    let (mut parts, ()) = Request::new(()).into_parts();
    (parts.method, parts.headers) = head;
    let (request, gained) = outgoing(parts, body::empty(), checked, client, request_id, false);
    let answer = edge
        .upstream
        .send_with(&worker.origin, (request, &gained.lines), interim, effort)
        .await;
    let response = answer.map_err(|error| {
        tracing::debug!(
            worker = worker.worker,
            error = &error as &dyn std::error::Error,
            "no answer"
        );
        error.fault()
    })?;
    received(response)
}

fn received(mut response: Response<Body>) -> Result<Response<Body>, Fault> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Kind::UpstreamInvalid.because("the worker switched protocols without being asked"));
    }
    forward::to_client(response.headers_mut());
    *response.version_mut() = Version::HTTP_11;
    Ok(response)
}

fn is_websocket(headers: &HeaderMap) -> bool {
    let mut protocols = headers.get_all(header::UPGRADE).iter();
    matches!((protocols.next(), protocols.next()), (Some(one), None) if one.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// The one upgrade that is carried; [`crate::wire::head`] has judged it by the same words. Others (`h2c`) are dropped.
fn wants_tunnel(parts: &Parts) -> bool {
    let names_it = |value: &header::HeaderValue| {
        let mut tokens = value.to_str().unwrap_or_default().split(',');
        tokens.any(|token| token.trim().eq_ignore_ascii_case("upgrade"))
    };
    parts.method == http::Method::GET
        && parts.version != Version::HTTP_10
        && is_websocket(&parts.headers)
        && parts.headers.get_all(header::CONNECTION).iter().any(names_it)
        && parts
            .headers
            .get(header::CONTENT_LENGTH)
            .is_none_or(|length| length.as_bytes().iter().all(|&b| b == b'0'))
        && !parts.headers.contains_key(header::TRANSFER_ENCODING)
}

fn outgoing(
    parts: Parts,
    body: Body,
    checked: &Checked,
    client: &Client,
    request_id: &str,
    tunnel: bool,
) -> (Request<Body>, Gained) {
    let mut request = Request::new(body);
    *request.method_mut() = parts.method;
    *request.uri_mut() = Uri::from(checked.target().clone());
    *request.headers_mut() = parts.headers;
    let gained = forward::to_upstream(request.headers_mut(), checked, client, request_id, tunnel);
    (request, gained)
}
