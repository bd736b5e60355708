//! Checks: what a request means, once its bytes are known to be sound. One Host, one path, a body of allowed size.

use crate::config::Limits;
use crate::fault::{Fault, Kind};
use crate::host::HostName;
use http::header::{self, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Version};
use std::borrow::Cow;

/// A request that means one thing only.
#[derive(Debug, Clone)]
pub(crate) struct Checked {
    /// For routing.
    pub(crate) host: HostName,
    /// Host and port as the client wrote them, in lower case.
    authority: HeaderValue,
    /// The path in its one spelling, and the query as it came.
    target: PathAndQuery,
    /// `OPTIONS *`: about the server, not a resource.
    pub(crate) asterisk: bool,
    /// As the client spoke it.
    pub(crate) version: Version,
}

impl Checked {
    /// Host and port as the client wrote them, in lower case.
    pub(crate) fn authority(&self) -> &str {
        self.authority.to_str().unwrap_or_default()
    }

    /// The path in its one spelling.
    pub(crate) fn path(&self) -> &str {
        self.target.path()
    }

    /// As it came, without `?`.
    pub(crate) fn query(&self) -> Option<&str> {
        self.target.query()
    }

    /// The target for an upstream.
    pub(crate) fn target(&self) -> &PathAndQuery {
        &self.target
    }
}

pub(crate) fn check(request: &Parts, limits: &Limits) -> Result<Checked, Fault> {
    let authority = authority_of(request)?;
    let host = authority.to_str().ok().and_then(HostName::parse);
    let host = host.ok_or(Kind::Malformed.because("invalid Host"))?;
    expectation_of(request)?;
    length_of(request, limits)?;
    let asterisk = request.uri.path() == "*" && request.method == Method::OPTIONS;
    let target = match asterisk {
        true => PathAndQuery::from_static("/"),
        false => target_of(request, limits)?,
    };
    Ok(Checked {
        host,
        authority,
        target,
        asterisk,
        version: request.version,
    })
}

/// The target with its path in its one spelling; mostly it came so.
fn target_of(request: &Parts, limits: &Limits) -> Result<PathAndQuery, Fault> {
    let invalid = Kind::Malformed.because("invalid request target");
    let path = crate::path::normalise(request.uri.path())
        .ok_or(Kind::Malformed.because("invalid escape in the path"))?;
    let came = request.uri.path_and_query();
    match (path, came) {
        (Cow::Borrowed(_), Some(came)) if came.as_str().starts_with('/') => Ok(came.clone()),
        (path, came) => {
            let spelled = match came.and_then(PathAndQuery::query) {
                Some(query) => format!("{path}?{query}"),
                None => path.into_owned(),
            };
            if spelled.len() > limits.max_uri_bytes.saturating_mul(3) {
                return Err(Kind::UriTooLong.because("request target too long once escaped"));
            }
            PathAndQuery::try_from(spelled).map_err(|_| invalid)
        }
    }
}

/// One Host field (RFC 9112 section 3.2), or `:authority` in HTTP/2 and HTTP/3 (RFC 9113 section 8.3.1). In absolute form the target's authority counts (section 3.2.2), and a Host
/// field that says otherwise is refused: somebody behind us might have believed it.
fn authority_of(request: &Parts) -> Result<HeaderValue, Fault> {
    let mut hosts = request.headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Kind::Malformed.because("more than one Host"));
    }
    let host = match host {
        Some(value) => Some(lower(value.clone())?),
        None if request.version != Version::HTTP_11 && request.uri.authority().is_some() => None,
        None => return Err(Kind::Malformed.because("no Host")),
    };
    let Some(authority) = request.uri.authority() else {
        return host.ok_or(Kind::Malformed.because("no Host"));
    };
    if !request
        .uri
        .scheme_str()
        .is_some_and(|scheme| scheme == "http" || scheme == "https")
    {
        return Err(Kind::Malformed.because("scheme of the target is not http"));
    }
    if authority.as_str().contains('@') {
        return Err(Kind::Malformed.because("user information in the target"));
    }
    let invalid = Kind::Malformed.because("invalid Host");
    let authority = HeaderValue::from_str(authority.as_str()).map_err(|_| invalid);
    let authority = authority.and_then(lower)?;
    match host {
        Some(host) if host != authority => {
            Err(Kind::Malformed.because("Host differs from the target's authority"))
        }
        _ => Ok(authority),
    }
}

/// Mostly it is so already, and no byte of it is copied.
fn lower(value: HeaderValue) -> Result<HeaderValue, Fault> {
    let invalid = Kind::Malformed.because("invalid Host");
    let text = value.to_str().map_err(|_| invalid)?;
    if !text.bytes().any(|b| b.is_ascii_uppercase()) {
        return Ok(value);
    }
    HeaderValue::try_from(text.to_ascii_lowercase()).map_err(|_| invalid)
}

fn expectation_of(request: &Parts) -> Result<(), Fault> {
    let all = request.headers.get_all(header::EXPECT);
    if all
        .iter()
        .all(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
    {
        Ok(())
    } else {
        Err(Kind::ExpectationFailed.because("only 100-continue can be expected"))
    }
}

fn length_of(request: &Parts, limits: &Limits) -> Result<(), Fault> {
    let length = request
        .headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok());
    match length.and_then(|length| length.parse::<u64>().ok()) {
        Some(length) if length > limits.max_body_bytes => {
            Err(Kind::BodyTooLarge.because("request body too large"))
        }
        _ => Ok(()),
    }
}
