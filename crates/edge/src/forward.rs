//! What a request and an answer lose and gain on their way through: hop-by-hop fields, who the client is, request id,
//! trace.

use crate::checks::Checked;
use crate::serve::Client;
use crate::text;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use std::net::IpAddr;
use std::ops::Range;
use std::time::{SystemTime, UNIX_EPOCH};

const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const CF_CONNECTING_IP: HeaderName = HeaderName::from_static("cf-connecting-ip");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

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

/// Fields by which a client could claim to be someone else: nobody in front of us is trusted, so they are all dropped.
const CLAIMS: [&str; 23] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-server",
    "x-forwarded-prefix",
    "x-forwarded-scheme",
    "x-forwarded-ssl",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "x-original-url",
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

/// Makes a client's fields fit for a worker.
pub(crate) fn to_upstream(
    headers: &mut HeaderMap,
    checked: &Checked,
    client: &Client,
    request_id: &str,
    upgrade: bool,
) {
    let trailers = headers
        .get_all(header::TE)
        .iter()
        .any(|value| has_token(value, "trailers"));
    strip(headers, |name| *name == header::EXPECT || is_claim(name.as_str()));
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }
    // One piece of text for all values, instead of one for each.
    let (scheme, address) = (client.scheme.as_str(), client.address.ip());
    let mut values = Values::default();
    let said = values.write(|to| text::address(to, address));
    let forwarded = values.write(|to| {
        let (open, close): (&[u8], &[u8]) = match address {
            IpAddr::V4(_) => (b"for=", b";host=\""),
            IpAddr::V6(_) => (b"for=\"[", b"]\";host=\""),
        };
        to.extend_from_slice(open);
        to.extend_from_within(said.clone());
        to.extend_from_slice(close);
        to.extend_from_slice(checked.authority().as_bytes());
        to.extend_from_slice(b"\";proto=");
        to.extend_from_slice(scheme.as_bytes());
    });
    let id = values.write(|to| to.extend_from_slice(request_id.as_bytes()));
    let trace = values.write(|to| trace(headers, to));
    let values = values.finish();
    let mut set = |name: HeaderName, value: Option<HeaderValue>| {
        if let Some(value) = value {
            headers.insert(name, value);
        }
    };
    set(header::FORWARDED, values.get(forwarded));
    set(X_FORWARDED_PROTO, Some(HeaderValue::from_static(scheme)));
    set(X_FORWARDED_FOR, values.get(said.clone()));
    set(CF_CONNECTING_IP, values.get(said));
    set(X_FORWARDED_HOST, Some(checked.authority_value().clone()));
    set(header::HOST, Some(checked.authority_value().clone()));
    set(X_REQUEST_ID, values.get(id));
    set(TRACEPARENT, values.get(trace));
}

/// Several values of fields in one piece of memory.
#[derive(Default)]
struct Values(Vec<u8>);

impl Values {
    fn write(&mut self, value: impl FnOnce(&mut Vec<u8>)) -> Range<usize> {
        if self.0.capacity() == 0 {
            self.0.reserve(256);
        }
        let start = self.0.len();
        value(&mut self.0);
        start..self.0.len()
    }

    fn finish(self) -> Written {
        Written(self.0.into())
    }
}

struct Written(Bytes);

impl Written {
    /// `None` where it is no value of a field.
    fn get(&self, place: Range<usize>) -> Option<HeaderValue> {
        HeaderValue::from_maybe_shared(self.0.slice(place)).ok()
    }
}

/// Makes an upstream's fields fit for a client.
pub(crate) fn to_client(headers: &mut HeaderMap) {
    strip(headers, |name| *name == header::SERVER);
}

/// Takes away what is of one connection, what `Connection` names, and what else is said. Most messages have little of
/// it, so the fields that are there are looked at once, instead of looking for each that could be.
fn strip(headers: &mut HeaderMap, also: impl Fn(&HeaderName) -> bool) {
    let mut named: Vec<HeaderName> = headers
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
        .collect();
    let of_the_connection =
        |name: &&HeaderName| HOP_BY_HOP.contains(name) || name.as_str() == "proxy-connection" || also(name);
    named.extend(headers.keys().filter(of_the_connection).cloned());
    for name in named {
        headers.remove(name);
    }
}

fn is_claim(name: &str) -> bool {
    matches!(name.as_bytes().first(), Some(b'c' | b'f' | b't' | b'x')) && CLAIMS.contains(&name)
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

/// W3C Trace Context: a valid parent is continued with a span of ours, any other is replaced by a new trace.
fn trace(headers: &mut HeaderMap, to: &mut Vec<u8>) {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let value = values.next().filter(|_| values.next().is_none()).cloned();
    let parent = value
        .as_ref()
        .and_then(|value| value.to_str().ok())
        .and_then(parent_of);
    let span = text::hex_digits(u128::from(rand::random::<u64>().max(1)));
    let new = text::hex_digits(rand::random::<u128>().max(1));
    let (trace, flags) = match parent {
        Some((trace, flags)) => (trace.as_bytes(), flags.as_bytes()),
        None => {
            headers.remove("tracestate");
            (&new[..], &b"01"[..])
        }
    };
    for piece in [b"00-", trace, b"-", &span[16..], b"-", flags] {
        to.extend_from_slice(piece);
    }
}

/// Trace id and flags of a valid `traceparent` (W3C Trace Context section 3.2).
fn parent_of(value: &str) -> Option<(&str, &str)> {
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
    valid.then_some((trace, flags))
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
        assert_eq!(parent_of(good), Some(("4bf92f3577b34da6a3ce929d0e0e4736", "01")));
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
