//! What a request and an answer lose and gain on their way through: hop-by-hop fields, who the client is, request id,
//! trace.

use crate::checks::Checked;
use crate::serve::Client;
use crate::text;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Version};
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Our name in `Via`.
const PSEUDONYM: &str = "astraler";
/// So often may a request come through an edge.
const MAX_ROUNDS: usize = 8;

/// Fields of one connection only (RFC 9110 section 7.6.1), besides those that `Connection` names. `TE: trailers` and
/// `Trailer` are dealt with apart: trailers do pass.
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// Fields by which a client could claim to be someone else, or to ask for something else: nobody in front of us is
/// trusted, so they are all dropped. `Proxy` becomes the variable `HTTP_PROXY` of CGI and its kin.
const CLAIMS: [&str; 35] = [
    "forwarded",
    "forwarded-for",
    "client-ip",
    "fastly-client-ip",
    "proxy",
    "x-forwarded",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-server",
    "x-forwarded-prefix",
    "x-forwarded-scheme",
    "x-forwarded-ssl",
    "x-forwarded-uri",
    "x-forwarded-method",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "x-originating-ip",
    "x-remote-ip",
    "x-remote-addr",
    "x-host",
    "x-original-url",
    "x-original-uri",
    "x-original-host",
    "x-rewrite-url",
    "x-request-id",
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "cf-ray",
    "cf-visitor",
    "cf-ipcountry",
    "cf-worker",
];

/// What a request gains on its way to a worker: lines of its head, besides the fields that it came with.
#[derive(Debug)]
pub(crate) struct Gained {
    pub(crate) lines: Vec<u8>,
    /// Of the trace that it belongs to, in hexadecimal.
    pub(crate) trace_id: TraceId,
}

/// W3C Trace Context section 3.2.2.3.
pub(crate) type TraceId = [u8; 32];

/// Makes a client's fields fit for a worker.
pub(crate) fn to_upstream(
    headers: &mut HeaderMap,
    checked: &Checked,
    client: &Client,
    request_id: &str,
    upgrade: bool,
) -> Gained {
    let via = via(headers, checked.version);
    let trailers = headers
        .get_all(header::TE)
        .iter()
        .any(|value| has_token(value, "trailers"));
    let (trace_id, trace) = trace(headers);
    strip(headers, |name| {
        matches!(*name, header::EXPECT | header::HOST | header::VIA)
            || is_claim(name.as_str())
            || *name == TRACEPARENT
    });
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }

    let (scheme, authority) = (client.scheme.as_str().as_bytes(), checked.authority().as_bytes());
    let mut address = Vec::with_capacity(48);
    text::address(&mut address, client.address.ip());
    let (open, close): (&[u8], &[u8]) = match client.address {
        SocketAddr::V4(_) => (b"", b""),
        SocketAddr::V6(_) => (b"\"[", b"]\""),
    };
    let pieces: [&[u8]; 24] = [
        b"host: ",
        authority,
        b"\r\nforwarded: for=",
        open,
        &address,
        close,
        b";host=\"",
        authority,
        b"\";proto=",
        scheme,
        b"\r\nx-forwarded-for: ",
        &address,
        b"\r\nx-forwarded-proto: ",
        scheme,
        b"\r\nx-forwarded-host: ",
        authority,
        b"\r\ncf-connecting-ip: ",
        &address,
        b"\r\nx-request-id: ",
        request_id.as_bytes(),
        b"\r\nvia: ",
        &via,
        b"\r\ntraceparent: ",
        &trace,
    ];
    let mut lines = Vec::with_capacity(512);
    for piece in pieces {
        lines.extend_from_slice(piece);
    }
    lines.extend_from_slice(b"\r\n");
    Gained { lines, trace_id }
}

/// Who has passed a request on, and by which protocol it came to each (RFC 9110 section 7.6.3): we are the last.
fn via(headers: &HeaderMap, version: Version) -> Vec<u8> {
    let mut text = Vec::with_capacity(16);
    for value in headers.get_all(header::VIA) {
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b", ");
    }
    text.extend_from_slice(match version {
        Version::HTTP_10 => b"1.0 ",
        Version::HTTP_2 => b"2 ",
        Version::HTTP_3 => b"3 ",
        _ => b"1.1 ",
    });
    text.extend_from_slice(PSEUDONYM.as_bytes());
    text
}

/// An edge whose origin leads back to itself would ask itself until nothing is left. Several edges may stand one behind
/// the other.
pub(crate) fn goes_round(headers: &HeaderMap) -> bool {
    let passed = headers
        .get_all(header::VIA)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter(|hop| hop.split_whitespace().nth(1) == Some(PSEUDONYM));
    passed.count() >= MAX_ROUNDS
}

/// Makes an upstream's fields fit for a client.
pub(crate) fn to_client(headers: &mut HeaderMap) {
    strip(headers, |name| *name == header::SERVER);
}

/// Takes away what is of one connection, what `Connection` names, and what else is said. Most messages have little of
/// it, so the fields that are there are looked at once, instead of looking for each that could be.
fn strip(headers: &mut HeaderMap, also: impl Fn(&HeaderName) -> bool) {
    let mut named: Vec<HeaderName> = nominated(headers).collect();
    let of_the_connection =
        |name: &&HeaderName| HOP_BY_HOP.contains(name) || name.as_str() == "proxy-connection" || also(name);
    named.extend(headers.keys().filter(of_the_connection).cloned());
    for name in named {
        headers.remove(name);
    }
}

/// The fields that `Connection` names, in whatever case they are written.
fn nominated(headers: &HeaderMap) -> impl Iterator<Item = HeaderName> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        // The usual words, which name no field of the message.
        .filter(|name| !name.eq_ignore_ascii_case("keep-alive") && !name.eq_ignore_ascii_case("close"))
        .filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok())
        // A client must not be able to make us drop what frames or addresses the message.
        .filter(|name| !matches!(*name, header::HOST | header::CONTENT_LENGTH | header::TRAILER))
}

/// Takes away what `Connection` of a request names, before anybody looks at it: the worker will not see it, so it must
/// not choose between stored answers either. Else whoever sends `Connection: origin` has the answer to a request without
/// `Origin` stored for all requests with it. What is still needed, or said by a proxy in front, stays until [`strip`].
pub(crate) fn drop_nominated(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = nominated(headers)
        .filter(|name| !HOP_BY_HOP.contains(name) && !is_claim(name.as_str()))
        .collect();
    for name in named {
        headers.remove(name);
    }
}

/// Whether the worker gets this field from us, with a value that is another for each client or request: what a client
/// sent under this name says nothing about the answer. Host and scheme are in every key.
pub(crate) fn is_written_here(name: &HeaderName) -> bool {
    let in_key = matches!(name.as_str(), "x-forwarded-host" | "x-forwarded-proto");
    !in_key && (is_claim(name.as_str()) || *name == header::VIA || *name == TRACEPARENT)
}

/// Also with `_` for `-`: to CGI, WSGI and Rack both are the same variable.
pub(crate) fn is_claim(name: &str) -> bool {
    matches!(name.as_bytes().first(), Some(b'c' | b'f' | b'p' | b't' | b'x'))
        && CLAIMS.iter().any(|claim| {
            claim.len() == name.len()
                && claim
                    .bytes()
                    .zip(name.bytes())
                    .all(|(known, byte)| known == byte || known == b'-' && byte == b'_')
        })
}

/// `Max-Forwards` of OPTIONS (RFC 9110 section 7.6.2; TRACE is not served): one less, or `true` where nobody behind us
/// is to see it.
pub(crate) fn is_last_hop(method: &Method, headers: &mut HeaderMap) -> bool {
    if *method != Method::OPTIONS {
        return false;
    }
    let Some(value) = headers
        .get(header::MAX_FORWARDS)
        .and_then(|value| value.to_str().ok())
    else {
        return false;
    };
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return false;
    }
    let left: u64 = value.parse().unwrap_or(u64::MAX);
    headers.insert(header::MAX_FORWARDS, HeaderValue::from(left.saturating_sub(1)));
    left == 0
}

fn has_token(value: &HeaderValue, token: &str) -> bool {
    value.to_str().is_ok_and(|value| {
        value.split(',').any(|item| {
            item.split(';')
                .next()
                .unwrap_or_default()
                .trim()
                .eq_ignore_ascii_case(token)
        })
    })
}

/// W3C Trace Context: a valid parent is continued with a span of ours, any other is replaced by a new trace. The trace,
/// and the value that tells of it.
fn trace(headers: &mut HeaderMap) -> (TraceId, [u8; 55]) {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let parent = values
        .next()
        .filter(|_| values.next().is_none())
        .and_then(|value| value.to_str().ok())
        .and_then(parent_of);
    let (trace, flags) = parent.unwrap_or_else(|| {
        // A state belongs to its parent.
        (text::hex_digits(rand::random::<u128>().max(1)), *b"01")
    });
    if parent.is_none() {
        headers.remove("tracestate");
    }
    let span = text::hex_digits(u128::from(rand::random::<u64>().max(1)));
    let mut value = *b"00-00000000000000000000000000000000-0000000000000000-00";
    value[3..35].copy_from_slice(&trace);
    value[36..52].copy_from_slice(&span[16..]);
    value[53..].copy_from_slice(&flags);
    (trace, value)
}

/// Trace id and flags of a valid `traceparent` (W3C Trace Context section 3.2).
fn parent_of(value: &str) -> Option<(TraceId, [u8; 2])> {
    let mut parts = value.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |text: &str, length: usize| {
        text.len() == length
            && text
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let zero = |text: &str| text.bytes().all(|b| b == b'0');
    let valid = hex(version, 2)
        && version != "ff"
        && (version != "00" || parts.next().is_none())
        && hex(trace, 32)
        && !zero(trace)
        && hex(span, 16)
        && !zero(span)
        && hex(flags, 2);
    let pair = (
        trace.as_bytes().try_into().ok()?,
        flags.as_bytes().try_into().ok()?,
    );
    valid.then_some(pair)
}

/// A request id: UUID version 7 (RFC 9562), so that ids sort by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RequestId([u8; 36]);

impl std::ops::Deref for RequestId {
    type Target = str;

    fn deref(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// A new one, of a request that comes now.
pub(crate) fn request_id(now: SystemTime) -> RequestId {
    let millis = now
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
    let random = rand::random::<u128>();
    let value = u128::from(millis & 0xffff_ffff_ffff) << 80
        | 7 << 76
        | (random >> 64 & 0xfff) << 64
        | 0b10 << 62
        | random & 0x3fff_ffff_ffff_ffff;
    let digits = text::hex_digits(value);
    let mut id = [b'-'; 36];
    for (place, group) in [(0, 0..8), (9, 8..12), (14, 12..16), (19, 16..20), (24, 20..32)] {
        let digits = &digits[group];
        id[place..place + digits.len()].copy_from_slice(digits);
    }
    RequestId(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_valid_parents_are_continued() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(
            parent_of(good),
            Some((*b"4bf92f3577b34da6a3ce929d0e0e4736", *b"01"))
        );
        for bad in [
            "",
            "00-0-0-0",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
        ] {
            assert_eq!(parent_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn request_ids_are_version_7_and_sort_by_time() {
        let now = SystemTime::now();
        let first = request_id(now);
        assert_eq!(first.len(), 36);
        assert_eq!(&first[14..15], "7");
        assert_eq!(first.matches('-').count(), 4);
        assert!(matches!(&first[19..20], "8" | "9" | "a" | "b"), "{first:?}");
        assert!(request_id(now + std::time::Duration::from_millis(2)) > first);
    }
}
