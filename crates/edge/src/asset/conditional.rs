//! Preconditions and ranges (RFC 9110 sections 13 and 14) on a file with a strong ETag. Pure.

use http::Method;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use std::time::SystemTime;

/// Which bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) start: u64,
    /// Never 0 for a part.
    pub(super) length: u64,
}

/// How much of the file the client needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Whole,
    Part(Range),
    NotModified,
    PreconditionFailed,
    Unsatisfiable,
}

/// In the order of RFC 9110 section 13.2.2.
pub(super) fn evaluate(
    method: &Method,
    headers: &HeaderMap,
    etag: &HeaderValue,
    modified: SystemTime,
    size: u64,
) -> Answer {
    if headers.contains_key(header::IF_MATCH) {
        if !names(headers, header::IF_MATCH, etag, Comparison::Strong) {
            return Answer::PreconditionFailed;
        }
    } else if let Some(since) = date(headers, header::IF_UNMODIFIED_SINCE)
        && modified > since
    {
        return Answer::PreconditionFailed;
    }
    if headers.contains_key(header::IF_NONE_MATCH) {
        if names(headers, header::IF_NONE_MATCH, etag, Comparison::Weak) {
            return Answer::NotModified;
        }
    } else if let Some(since) = date(headers, header::IF_MODIFIED_SINCE)
        && modified <= since
    {
        return Answer::NotModified;
    }
    if *method == Method::GET && if_range(headers, etag, modified) {
        range(headers, size)
    } else {
        Answer::Whole
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

/// Whether a list of entity tags, or `*`, names ours.
fn names(headers: &HeaderMap, name: HeaderName, etag: &HeaderValue, comparison: Comparison) -> bool {
    headers.get_all(name).iter().any(|value| {
        let mut rest = value.as_bytes().trim_ascii();
        if rest == b"*" {
            return true;
        }
        // Entity tags may hold commas: walk from quote to quote.
        loop {
            let weak = rest.starts_with(b"W/");
            let tag = rest.strip_prefix(b"W/").unwrap_or(rest);
            let Some(end) = tag
                .get(1..)
                .and_then(|inner| memchr::memchr(b'"', inner))
                .filter(|_| tag[0] == b'"')
            else {
                return false;
            };
            if &tag[..end + 2] == etag.as_bytes() && (!weak || comparison == Comparison::Weak) {
                return true;
            }
            rest = tag[end + 2..].trim_ascii();
            let Some(next) = rest.strip_prefix(b",") else {
                return false;
            };
            rest = next.trim_ascii();
        }
    })
}

fn date(headers: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()
}

/// RFC 9110 section 13.1.5: strong comparison; a date must match exactly.
fn if_range(headers: &HeaderMap, etag: &HeaderValue, modified: SystemTime) -> bool {
    match headers.get(header::IF_RANGE) {
        None => true,
        Some(value) if value == etag => true,
        Some(_) => date(headers, header::IF_RANGE) == Some(modified),
    }
}

/// One range of bytes. Several, other units and what cannot be read are ignored, as section 14.2 allows.
fn range(headers: &HeaderMap, size: u64) -> Answer {
    let mut all = headers.get_all(header::RANGE).iter();
    let (Some(value), None) = (all.next(), all.next()) else {
        return Answer::Whole;
    };
    // Units are case-insensitive (section 14.1).
    let Some(spec) = value.to_str().ok().and_then(|value| {
        let (unit, spec) = value.split_at_checked(6)?;
        unit.eq_ignore_ascii_case("bytes=").then_some(spec)
    }) else {
        return Answer::Whole;
    };
    let Some((first, last)) = spec.trim().split_once('-') else {
        return Answer::Whole;
    };
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    match (number(first), number(last)) {
        (None, Some(suffix)) if first.is_empty() => {
            if suffix == 0 || size == 0 {
                return Answer::Unsatisfiable;
            }
            let length = suffix.min(size);
            Answer::Part(Range {
                start: size - length,
                length,
            })
        }
        (Some(start), None) if last.is_empty() => from(start, u64::MAX, size),
        (Some(start), Some(end)) if start <= end => from(start, end, size),
        _ => Answer::Whole,
    }
}

fn from(start: u64, end: u64, size: u64) -> Answer {
    if start >= size {
        return Answer::Unsatisfiable;
    }
    Answer::Part(Range {
        start,
        length: end.min(size - 1) - start + 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn ask(fields: &[(&str, &str)]) -> Answer {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                value.parse().unwrap(),
            );
        }
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        evaluate(
            &Method::GET,
            &headers,
            &HeaderValue::from_static("\"abc\""),
            modified,
            100,
        )
    }

    #[test]
    fn preconditions() {
        let same = "Sun, 06 Nov 1994 08:49:37 GMT";
        let before = "Sun, 06 Nov 1994 08:49:36 GMT";
        for (fields, answer) in [
            (&[("if-none-match", "\"abc\"")][..], Answer::NotModified),
            (&[("if-none-match", "W/\"abc\"")], Answer::NotModified),
            (&[("if-none-match", "\"x,y\", \"abc\"")], Answer::NotModified),
            (&[("if-none-match", "*")], Answer::NotModified),
            (&[("if-none-match", "\"x\"")], Answer::Whole),
            (&[("if-none-match", "abc")], Answer::Whole),
            (
                &[("if-none-match", "\"x\""), ("if-modified-since", same)],
                Answer::Whole,
            ),
            (&[("if-modified-since", same)], Answer::NotModified),
            (&[("if-modified-since", before)], Answer::Whole),
            (&[("if-match", "\"abc\"")], Answer::Whole),
            (&[("if-match", "W/\"abc\"")], Answer::PreconditionFailed),
            (&[("if-match", "\"x\"")], Answer::PreconditionFailed),
            (&[("if-unmodified-since", before)], Answer::PreconditionFailed),
            (&[("if-unmodified-since", same)], Answer::Whole),
        ] {
            assert_eq!(ask(fields), answer, "{fields:?}");
        }
    }

    #[test]
    fn ranges() {
        let part = |start, length| Answer::Part(Range { start, length });
        for (value, answer) in [
            ("Bytes=0-9", part(0, 10)),
            ("BYTES=90-", part(90, 10)),
            ("bytes=90-", part(90, 10)),
            ("bytes=-5", part(95, 5)),
            ("bytes=-500", part(0, 100)),
            ("bytes=99-1000", part(99, 1)),
            ("bytes=0-99999999999999999999999", part(0, 100)),
            ("bytes=100-", Answer::Unsatisfiable),
            ("bytes=-0", Answer::Unsatisfiable),
            ("bytes=9-1", Answer::Whole),
            ("bytes=0-1,5-6", Answer::Whole),
            ("bytes=a-b", Answer::Whole),
            ("bytes=-", Answer::Whole),
            ("lines=1-2", Answer::Whole),
        ] {
            assert_eq!(ask(&[("range", value)]), answer, "{value}");
        }
        assert_eq!(
            ask(&[("range", "bytes=0-9"), ("if-range", "\"abc\"")]),
            part(0, 10)
        );
        assert_eq!(
            ask(&[("range", "bytes=0-9"), ("if-range", "W/\"abc\"")]),
            Answer::Whole
        );
        assert_eq!(
            ask(&[("range", "bytes=0-9"), ("if-range", "\"old\"")]),
            Answer::Whole
        );
        assert_eq!(
            ask(&[("range", "bytes=0-9"), ("if-none-match", "\"abc\"")]),
            Answer::NotModified
        );
    }
}
