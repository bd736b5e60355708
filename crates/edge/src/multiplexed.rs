//! What HTTP/2 and HTTP/3 have in common where HTTP/1.1 differs: a request's head comes as fields, not as bytes, and an
//! answer's head has no connection to speak about. Sections are of RFC 9113 where not said otherwise; RFC 9114
//! section 4 says the same.

use crate::config::Limits;
use crate::fault::{Fault, Kind};
use crate::wire::head::is_framing_alias;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use http_body::Body as _;

/// Fields that speak about one connection: malformed in a request (section 8.2.2), dropped from an answer.
const OF_THE_CONNECTION: [HeaderName; 5] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Judges what the libraries leave open, by the same rules as [`crate::wire::head`] judges bytes, and joins the crumbs of
/// a cookie (section 8.2.3). Host and path are for [`crate::checks`].
pub(crate) fn sound(request: &mut Parts, limits: &Limits) -> Result<(), Fault> {
    target_of(request, limits)?;
    let mut bytes = 0;
    for (name, value) in &request.headers {
        let value = value.as_bytes();
        bytes += name.as_str().len() + value.len() + 4;
        // Section 8.2.1.
        if value.trim_ascii().len() != value.len() {
            return Err(Kind::Malformed.because("white space around a field value"));
        }
        if is_framing_alias(name.as_str().as_bytes()) {
            return Err(Kind::Malformed.because("a field name that others could take for one of framing"));
        }
    }
    if request.headers.len() > limits.max_headers || bytes > limits.max_header_bytes {
        return Err(Kind::HeadTooLarge.because("too many header fields"));
    }
    if OF_THE_CONNECTION
        .iter()
        .any(|name| request.headers.contains_key(name))
    {
        return Err(Kind::Malformed.because("a field about the connection, which this protocol has not"));
    }
    if request
        .headers
        .get_all(header::TE)
        .iter()
        .any(|value| !value.as_bytes().eq_ignore_ascii_case(b"trailers"))
    {
        return Err(Kind::Malformed.because("TE other than `trailers`"));
    }
    length_of(&request.headers)?;
    join_cookies(&mut request.headers);
    Ok(())
}

fn target_of(request: &Parts, limits: &Limits) -> Result<(), Fault> {
    match request.method {
        Method::CONNECT => return Err(Kind::MethodNotAllowed.because("CONNECT is not served")),
        Method::TRACE => return Err(Kind::MethodNotAllowed.because("TRACE is not served")),
        _ if request.method.as_str().len() > 32 => return Err(Kind::Malformed.because("invalid method")),
        _ => {}
    }
    let target = request
        .uri
        .path_and_query()
        .map(http::uri::PathAndQuery::as_str)
        .unwrap_or_default();
    if target.len() > limits.max_uri_bytes {
        return Err(Kind::UriTooLong.because("request target too long"));
    }
    if !target
        .bytes()
        .all(|b| (0x21..=0x7e).contains(&b) && !matches!(b, b'#' | b'<' | b'>'))
    {
        return Err(Kind::Malformed.because("invalid character in the request target"));
    }
    let asterisk = target == "*" && request.method == Method::OPTIONS;
    if !target.starts_with('/') && !asterisk {
        return Err(Kind::Malformed.because("the path does not begin with `/`"));
    }
    Ok(())
}

fn length_of(headers: &HeaderMap) -> Result<(), Fault> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else {
        return Ok(());
    };
    let digits = !length.is_empty() && length.as_bytes().iter().all(u8::is_ascii_digit);
    if lengths.next().is_some() || !digits || length.len() > 19 {
        return Err(Kind::Malformed.because("Content-Length is not one number"));
    }
    Ok(())
}

fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(header::COOKIE).iter();
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else {
        return;
    };
    let mut joined = first.as_bytes().to_vec();
    for crumb in std::iter::once(second).chain(crumbs) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(crumb.as_bytes());
    }
    if let Ok(joined) = HeaderValue::from_bytes(&joined) {
        headers.insert(header::COOKIE, joined);
    }
}

/// The start of a refused request, as the access log knows it from HTTP/1.1.
pub(crate) fn first_line(request: &Parts) -> String {
    let target = request.uri.path_and_query().map(http::uri::PathAndQuery::as_str);
    format!("{} {}", request.method, target.unwrap_or_default())
}

/// Makes an answer's head fit for streams. Says whether no body follows it.
pub(crate) fn finish(response: &mut Response<crate::body::Body>, head: bool) -> bool {
    let length = response.body().size_hint().exact();
    let status = response.status();
    let headers = response.headers_mut();
    for name in OF_THE_CONNECTION {
        headers.remove(name);
    }
    let bodiless = status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    if let (Some(length), false, false) = (length, bodiless, headers.contains_key(header::CONTENT_LENGTH))
        // What a GET would have brought is not known from the empty body of a HEAD.
        && !(head && length == 0)
    {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    if status == StatusCode::NO_CONTENT {
        headers.remove(header::CONTENT_LENGTH);
    }
    if !headers.contains_key(header::DATE) {
        headers.insert(header::DATE, date());
    }
    head || bodiless || response.body().is_end_stream()
}

/// Now, as `Date` says it; made once a second for each thread.
fn date() -> HeaderValue {
    use std::cell::RefCell;
    use std::time::{SystemTime, UNIX_EPOCH};
    thread_local! {
        static LAST: RefCell<(u64, HeaderValue)> = const { RefCell::new((0, HeaderValue::from_static(""))) };
    }
    let now = SystemTime::now();
    let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    LAST.with_borrow_mut(|(last, value)| {
        if *last != second {
            if let Ok(text) = HeaderValue::from_str(&httpdate::fmt_http_date(now)) {
                *value = text;
            }
            *last = second;
        }
        value.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::Body;

    fn parts(method: &str, target: &str, fields: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().method(method).uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn what_others_could_read_differently_is_refused() {
        let limits = Limits {
            max_headers: 5,
            max_header_bytes: 200,
            max_uri_bytes: 30,
            ..Limits::default()
        };
        for (method, target, fields, kind) in [
            ("CONNECT", "a:1", vec![], Kind::MethodNotAllowed),
            ("TRACE", "/", vec![], Kind::MethodNotAllowed),
            ("GET", "*", vec![], Kind::Malformed),
            ("GET", "/", vec![("connection", "close")], Kind::Malformed),
            (
                "GET",
                "/",
                vec![("transfer-encoding", "chunked")],
                Kind::Malformed,
            ),
            ("GET", "/", vec![("upgrade", "websocket")], Kind::Malformed),
            ("GET", "/", vec![("keep-alive", "1")], Kind::Malformed),
            ("GET", "/", vec![("proxy-connection", "x")], Kind::Malformed),
            ("GET", "/", vec![("te", "gzip")], Kind::Malformed),
            ("GET", "/", vec![("x", " a")], Kind::Malformed),
            ("GET", "/", vec![("x", "a\t")], Kind::Malformed),
            ("GET", "/", vec![("content_length", "1")], Kind::Malformed),
            (
                "POST",
                "/",
                vec![("content-length", "1"), ("content-length", "1")],
                Kind::Malformed,
            ),
            ("POST", "/", vec![("content-length", "+1")], Kind::Malformed),
            ("POST", "/", vec![("content-length", "")], Kind::Malformed),
            (
                "GET",
                "/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                vec![],
                Kind::UriTooLong,
            ),
            ("GET", "/", vec![("a", "1"); 6], Kind::HeadTooLarge),
        ] {
            let fault = sound(&mut parts(method, target, &fields), &limits).unwrap_err();
            assert_eq!(fault.kind, kind, "{method} {target} {fields:?}");
        }
        let mut good = parts(
            "GET",
            "/a?b",
            &[
                ("te", "trailers"),
                ("cookie", "a=1"),
                ("cookie", "b=2"),
                ("cookie", "c=3"),
            ],
        );
        sound(&mut good, &limits).unwrap();
        assert_eq!(
            good.headers.get_all("cookie").iter().collect::<Vec<_>>(),
            ["a=1; b=2; c=3"]
        );
        sound(&mut parts("OPTIONS", "*", &[]), &limits).unwrap();
    }

    #[test]
    fn an_answer_says_its_length_where_it_may() {
        let mut answer = Response::new(Body::full("abc"));
        answer
            .headers_mut()
            .insert("connection", HeaderValue::from_static("close"));
        assert!(!finish(&mut answer, false));
        assert_eq!(answer.headers()["content-length"], "3");
        assert!(!answer.headers().contains_key("connection"));
        assert!(answer.headers().contains_key("date"));
        let mut answer = Response::new(Body::empty());
        *answer.status_mut() = StatusCode::NO_CONTENT;
        assert!(finish(&mut answer, false));
        assert!(!answer.headers().contains_key("content-length"));
        let mut answer = Response::new(Body::empty());
        answer
            .headers_mut()
            .insert("content-length", HeaderValue::from_static("7"));
        assert!(finish(&mut answer, true));
        assert_eq!(answer.headers()["content-length"], "7");
    }
}
