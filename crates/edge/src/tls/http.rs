//! What HTTP owes to TLS: challenges of HTTP-01, the way from http to https, and the promise to stay there.

use super::Tls;
use crate::body::{self, Body};
use crate::checks::Checked;
use crate::serve::{Client, Scheme};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode};

const CHALLENGE: &str = "/.well-known/acme-challenge/";
/// Longer than any token: 128 bits in base64url are 22 characters.
const MAX_TOKEN: usize = 256;

/// What answers a plain request before every rule; nothing where it goes its way.
pub(crate) fn answer(
    tls: &Tls,
    client: &Client,
    method: &Method,
    checked: &Checked,
) -> Option<Response<Body>> {
    match client.scheme {
        Scheme::Https => None,
        Scheme::Http => challenge(tls, method, checked).or_else(|| redirect(tls, checked)),
    }
}

/// The answer for a token of HTTP-01 that is ours (RFC 8555 section 8.3): before every rule, because a validating CA is a
/// stranger to all of them. Other tokens are the application's.
fn challenge(tls: &Tls, method: &Method, checked: &Checked) -> Option<Response<Body>> {
    let token = checked.path().strip_prefix(CHALLENGE)?;
    if !(method == Method::GET || method == Method::HEAD) || token.len() > MAX_TOKEN {
        return None;
    }
    let now = tls.now.load();
    let authorisation = now.http_challenges.get(token)?;
    let mut response = Response::new(body::full(authorisation.clone()));
    let fields = response.headers_mut();
    fields.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Some(response)
}

/// Where a plain request is sent when its host is served over https only: 308 keeps method and body. A challenge is
/// never sent away: who validates may not follow, and its answer may be the application's.
fn redirect(tls: &Tls, checked: &Checked) -> Option<Response<Body>> {
    if checked.asterisk || checked.path().starts_with(CHALLENGE) {
        return None;
    }
    let port = tls.now.load().https_port;
    if port == 0 || !tls.certificate(checked.host.as_str())?.redirect {
        return None;
    }
    let port = match port {
        443 => String::new(),
        port => format!(":{port}"),
    };
    let target = format!("https://{}{port}{}", checked.host.as_str(), checked.target());
    let target = HeaderValue::from_str(&target).ok()?;
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    response.headers_mut().insert(header::LOCATION, target);
    Some(response)
}

/// `Strict-Transport-Security` for an answer over TLS. Over plain HTTP it must not be sent (RFC 6797 section 7.2).
pub(crate) fn promise(tls: &Tls, client: &Client, host: &str, fields: &mut HeaderMap) {
    if client.scheme != Scheme::Https {
        return;
    }
    let age = tls
        .certificate(host)
        .map_or(0, |certificate| certificate.hsts_max_age_s);
    if age > 0
        && let Ok(value) = HeaderValue::from_str(&format!("max-age={age}"))
    {
        fields.insert(header::STRICT_TRANSPORT_SECURITY, value);
    }
}
