//! Pages for what went wrong: HTML for browsers, JSON for programs, with the request id that the access log has too.

use crate::body::{self, Body};
use crate::fault::{Fault, Kind};
use crate::waf::Elsewhere;
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};

/// Which hosts a lost developer could have meant; empty for everybody else.
pub(crate) type Hint = Vec<String>;

/// What a page says besides its fault.
#[derive(Debug, Default)]
pub(crate) struct Words<'a> {
    pub(crate) request_id: &'a str,
    pub(crate) hint: Hint,
    /// An operator's own words, instead of the fault's reason.
    pub(crate) message: Option<&'a str>,
    /// Where the fault alone does not know it.
    pub(crate) retry_after_s: Option<u64>,
    /// The application's own page, for browsers: its content and type.
    pub(crate) own: Option<(Bytes, HeaderValue)>,
    pub(crate) json: bool,
    /// Where the client is sent instead.
    pub(crate) elsewhere: Option<Elsewhere>,
}

/// The answer to a fault. The text is ours or the operator's: nothing of the request is repeated in it.
pub(crate) fn of(fault: Fault, words: Words<'_>) -> Response<Body> {
    let status = words.elsewhere.as_ref().map_or(fault.status(), |to| to.status);
    let reason = words.message.unwrap_or(fault.reason);
    let (kind, text) = match words.own {
        _ if words.json => (
            HeaderValue::from_static("application/json; charset=utf-8"),
            json(fault, reason, status, words.request_id, &words.hint).into(),
        ),
        Some((content, kind)) => (kind, content),
        None => (
            HeaderValue::from_static("text/html; charset=utf-8"),
            html(reason, status, words.request_id, &words.hint).into(),
        ),
    };
    let mut response = Response::new(body::full(text));
    *response.status_mut() = status;
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, kind);
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    if let Some(to) = words.elsewhere {
        fields.insert(header::LOCATION, to.location);
    }
    let retry = fault.kind.retry_after_s().map(u64::from);
    if let Some(seconds) = words.retry_after_s.or(retry) {
        fields.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if fault.kind == Kind::MethodNotAllowed {
        // Of what was asked for (RFC 9110 section 15.5.6).
        let allowed = if fault == crate::asset::READ_ONLY {
            "GET, HEAD"
        } else {
            "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
        };
        fields.insert(header::ALLOW, HeaderValue::from_static(allowed));
    }
    if closes(fault.kind) {
        fields.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// After these the connection cannot be trusted to be where we think it is, or is not worth keeping.
fn closes(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Malformed
            | Kind::HeadTooLarge
            | Kind::UriTooLong
            | Kind::BodyTooLarge
            | Kind::HeadTimeout
            | Kind::BodyTimeout
            | Kind::VersionNotSupported
            | Kind::ExpectationFailed
            | Kind::Overloaded
    )
}

/// JSON when it is named before HTML.
pub(crate) fn wants_json(accept: Option<&HeaderValue>) -> bool {
    let accept = accept.and_then(|value| value.to_str().ok()).unwrap_or_default();
    match (accept.find("json"), accept.find("html")) {
        (Some(json), Some(html)) => json < html,
        (json, _) => json.is_some(),
    }
}

fn json(fault: Fault, reason: &str, status: StatusCode, request_id: &str, hint: &Hint) -> String {
    let mut value = serde_json::json!({
        "error": {
            "status": status.as_u16(),
            "code": fault.kind.code(),
            "message": reason,
            "request_id": request_id,
            "retryable": fault.kind.retryable(),
        }
    });
    if !hint.is_empty() {
        value["error"]["hosts"] = hint.clone().into();
    }
    value.to_string()
}

fn html(reason: &str, status: StatusCode, request_id: &str, hint: &Hint) -> String {
    use std::fmt::Write;
    let title = status.canonical_reason().unwrap_or("Error");
    let code = status.as_u16();
    let mut hosts = String::new();
    if !hint.is_empty() {
        hosts.push_str("<p>Hosts that are served here:</p><ul>");
        for host in hint {
            let _ = write!(hosts, "<li><code>{}</code></li>", escape(host));
        }
        hosts.push_str("</ul>");
    }
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{code} {title}</title><style>body{{font:16px/1.5 system-ui,sans-serif;max-width:34em;margin:15vh auto;\
         padding:0 1em;color:#222;background:#fff}}h1{{font-size:1.4em}}code{{font-size:.9em}}small{{color:#666}}\
         @media(prefers-color-scheme:dark){{body{{color:#ddd;background:#181818}}small{{color:#999}}}}</style>\
         <h1>{code} {title}</h1><p>{reason}</p>{hosts}<p><small>Request <code>{request_id}</code></small></p></html>\n",
        reason = sentence(&escape(reason)),
    )
}

fn sentence(text: &str) -> String {
    let ended = text.ends_with(['.', '!', '?']);
    format!("{text}{}", if ended { "" } else { "." })
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
