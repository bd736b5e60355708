//! Checks: what a request means, once its bytes are known to be sound. One Host, one path, a body of allowed size.

use crate::config::Limits;
use crate::fault::{Fault, Kind};
use crate::host::HostName;
use http::header;
use http::request::Parts;
use http::{Method, Version};

/// A request that means one thing only.
#[derive(Debug, Clone)]
pub(crate) struct Checked {
    /// For routing.
    pub(crate) host: HostName,
    /// Host and port as the client wrote them, in lower case.
    pub(crate) authority: String,
    /// In its one spelling.
    pub(crate) path: String,
    /// As it came, without `?`.
    pub(crate) query: Option<String>,
    /// `OPTIONS *`: about the server, not a resource.
    pub(crate) asterisk: bool,
}

impl Checked {
    /// The target for an upstream.
    pub(crate) fn target(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }
}

pub(crate) fn check(request: &Parts, limits: &Limits) -> Result<Checked, Fault> {
    let authority = authority_of(request)?;
    let host = HostName::parse(&authority).ok_or(Kind::Malformed.because("invalid Host"))?;
    expectation_of(request)?;
    length_of(request, limits)?;
    let asterisk = request.uri.path() == "*" && request.method == Method::OPTIONS;
    let raw = if asterisk { "/" } else { request.uri.path() };
    let path = crate::path::normalise(raw)
        .ok_or(Kind::Malformed.because("invalid escape in the path"))?
        .into_owned();
    let query = request.uri.query().map(str::to_owned);
    Ok(Checked {
        host,
        authority,
        path,
        query,
        asterisk,
    })
}

/// One Host field (RFC 9112 section 3.2), or `:authority` in HTTP/2 and HTTP/3 (RFC 9113 section 8.3.1). In absolute form the target's authority counts (section 3.2.2), and a Host
/// field that says otherwise is refused: somebody behind us might have believed it.
fn authority_of(request: &Parts) -> Result<String, Fault> {
    let mut hosts = request.headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Kind::Malformed.because("more than one Host"));
    }
    let host = match host {
        Some(value) => Some(
            value
                .to_str()
                .map_err(|_| Kind::Malformed.because("invalid Host"))?
                .to_ascii_lowercase(),
        ),
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
    let authority = authority.as_str().to_ascii_lowercase();
    match host {
        Some(host) if host != authority => {
            Err(Kind::Malformed.because("Host differs from the target's authority"))
        }
        _ => Ok(authority),
    }
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
