//! What a client gets of a response that is used: all, a part, or the word that it has it already (RFC 9111 section 4.3.2,
//! RFC 9110 sections 13 and 14).

use crate::field::{self, Comparison, Quotes};
use crate::request::Asked;
use crate::store::Stored;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use std::time::Duration;

/// How much of a complete stored response the client needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// All of it; for a HEAD no content, as always.
    Whole,
    /// 206 with these bytes, both ends included.
    Part {
        /// The first byte.
        first: u64,
        /// The last byte.
        last: u64,
    },
    /// 416: no byte of the range is there.
    Unsatisfiable,
    /// 304.
    NotModified,
}

/// Applies a client's condition and range to the response that is used, in the order of RFC 9110 section 13.2.2. Its
/// first two steps, `If-Match` and `If-Unmodified-Since`, and so 412, are the origin's
/// ([`PassOn::OriginCondition`](crate::PassOn)).
pub fn answer(asked: &Asked<'_>, stored: &Stored) -> Answer {
    // Conditions are about a representation: with any other status they are void (RFC 9110 section 13.2.1).
    if stored.status != StatusCode::OK {
        return Answer::Whole;
    }
    if asked.headers.contains_key(header::IF_NONE_MATCH) {
        if none_match(asked.headers, stored) {
            return Answer::NotModified;
        }
    } else if not_modified_since(asked.headers, stored) {
        return Answer::NotModified;
    }
    match stored.length {
        Some(length) if *asked.method == Method::GET && if_range(asked.headers, stored) => {
            range(asked.headers, length)
        }
        _ => Answer::Whole,
    }
}

/// RFC 9110 section 13.1.2: weak comparison. `*` means any representation, and there is one.
fn none_match(headers: &HeaderMap, stored: &Stored) -> bool {
    field::list(headers, header::IF_NONE_MATCH, Quotes::Plain).any(|tag| {
        tag == b"*"
            || stored
                .etag()
                .is_some_and(|own| field::same_tag(own.as_bytes(), tag, Comparison::Weak))
    })
}

/// RFC 9111 section 4.3.2: compared with `Last-Modified`, else with `Date`, which here is always there. More than one
/// date, or none, is void (RFC 9110 section 13.1.3).
fn not_modified_since(headers: &HeaderMap, stored: &Stored) -> bool {
    let mut lines = headers.get_all(header::IF_MODIFIED_SINCE).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return false;
    };
    let changed = stored.last_modified().unwrap_or(stored.policy.date);
    field::date(line.as_bytes().trim_ascii()).is_some_and(|since| changed <= since)
}

/// RFC 9110 section 13.1.5: strong comparison. A date counts only where it is exactly that of `Last-Modified`, and that
/// was over when the response was made (section 8.8.2.2).
fn if_range(headers: &HeaderMap, stored: &Stored) -> bool {
    let mut lines = headers.get_all(header::IF_RANGE).iter();
    let line = match (lines.next(), lines.next()) {
        (None, _) => return true,
        (Some(line), None) => line.as_bytes().trim_ascii(),
        (Some(_), Some(_)) => return false,
    };
    if let Some(own) = stored.etag()
        && field::same_tag(own.as_bytes(), line, Comparison::Strong)
    {
        return true;
    }
    let (Some(date), Some(modified)) = (field::date(line), stored.last_modified()) else {
        return false;
    };
    let strong = stored
        .policy
        .date
        .duration_since(modified)
        .is_ok_and(|since| since >= Duration::from_secs(1));
    date == modified && strong
}

/// One range of bytes (RFC 9110 section 14.1.2). Several, other units and what cannot be read are ignored, as section
/// 14.2 allows.
fn range(headers: &HeaderMap, length: u64) -> Answer {
    let mut lines = headers.get_all(header::RANGE).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return Answer::Whole;
    };
    let line = line.as_bytes().trim_ascii();
    let Some((unit, set)) = line.split_at_checked(6) else {
        return Answer::Whole;
    };
    // Units are case-insensitive (section 14.1).
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return Answer::Whole;
    }
    let set = set.trim_ascii();
    let Some(dash) = set.iter().position(|&byte| byte == b'-') else {
        return Answer::Whole;
    };
    let (first, last) = (&set[..dash], &set[dash + 1..]);
    match (position(first), position(last)) {
        (None, Some(suffix)) if first.is_empty() => match suffix.min(length) {
            0 => Answer::Unsatisfiable,
            suffix => Answer::Part {
                first: length - suffix,
                last: length - 1,
            },
        },
        (Some(first), None) if last.is_empty() => part(first, u64::MAX, length),
        (Some(first), Some(last)) if first <= last => part(first, last, length),
        _ => Answer::Whole,
    }
}

fn part(first: u64, last: u64, length: u64) -> Answer {
    if first >= length {
        return Answer::Unsatisfiable;
    }
    Answer::Part {
        first,
        last: last.min(length - 1),
    }
}

fn position(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        Some(value.saturating_mul(10).saturating_add(digit))
    })
}

/// Fields that describe the content, which a 304 does not have, besides those that tell which content it is (RFC 9110
/// section 15.4.5).
const OF_CONTENT: [HeaderName; 5] = [
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
];

/// Status and fields of the answer. `age` is that of [`Freshness`](crate::Freshness) for what is used without having been
/// validated for this request (RFC 9111 section 4), else [`received_age`](crate::received_age).
pub fn head(answer: Answer, stored: &Stored, age: Option<Duration>) -> (StatusCode, HeaderMap) {
    let mut headers = stored.headers.clone();
    if let Some(age) = age {
        headers.insert(header::AGE, HeaderValue::from(age.as_secs().min(1 << 31)));
    }
    let complete = |length: Option<u64>| length.map_or_else(|| "*".to_owned(), |length| length.to_string());
    let range = |headers: &mut HeaderMap, value: String| {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(header::CONTENT_RANGE, value);
        }
    };
    let status = match answer {
        Answer::Whole => {
            if let Some(length) = stored.length.filter(|_| may_have_content(stored.status)) {
                headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
            }
            stored.status
        }
        Answer::Part { first, last } => {
            range(
                &mut headers,
                format!("bytes {first}-{last}/{}", complete(stored.length)),
            );
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(last - first + 1));
            StatusCode::PARTIAL_CONTENT
        }
        Answer::Unsatisfiable => {
            for name in OF_CONTENT {
                headers.remove(name);
            }
            range(&mut headers, format!("bytes */{}", complete(stored.length)));
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(0));
            // These are those of the representation, which this is not; nobody behind us may store this in its place.
            for name in [header::AGE, header::ETAG, header::EXPIRES, header::LAST_MODIFIED] {
                headers.remove(name);
            }
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            StatusCode::RANGE_NOT_SATISFIABLE
        }
        Answer::NotModified => {
            for name in OF_CONTENT {
                headers.remove(name);
            }
            StatusCode::NOT_MODIFIED
        }
    };
    (status, headers)
}

fn may_have_content(status: StatusCode) -> bool {
    !matches!(status.as_u16(), 204 | 304)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use crate::testing::{NOW, date, fields, try_store};
    use proptest::prelude::*;

    fn resource(status: u16, lines: &[(&str, &str)]) -> Stored {
        let mut response = vec![("cache-control", "max-age=60"), ("content-type", "text/plain")];
        response.extend_from_slice(lines);
        let stored = try_store(&[], status, &response, &Settings::default()).unwrap();
        stored.complete(100).unwrap()
    }

    fn ask(method: &Method, request: &[(&str, &str)], stored: &Stored) -> Answer {
        let headers = fields(request);
        answer(&Asked::new(method, &headers, &Settings::default()), stored)
    }

    #[test]
    fn conditions() {
        let (before, past, future) = (date(-61), date(-60), date(60));
        let tagged = [("etag", "\"1\""), ("last-modified", past.as_str())];
        let weak = [("etag", "W/\"1\"")];
        for (response, request, known) in [
            (&tagged[..], &[("if-none-match", "\"1\"")][..], true),
            (&tagged, &[("if-none-match", "W/\"1\"")], true),
            (&weak, &[("if-none-match", "\"1\"")], true),
            (&tagged, &[("if-none-match", "\"0,\", \"1\"")], true),
            (&tagged, &[("if-none-match", "\"0\\\", \"1\"")], true),
            (
                &tagged,
                &[("if-none-match", "\"0\""), ("if-none-match", "\"1\"")],
                true,
            ),
            (&tagged, &[("if-none-match", "*")], true),
            (&[], &[("if-none-match", "*")], true),
            (&[], &[("if-none-match", "\"1\"")], false),
            (&tagged, &[("if-none-match", "\"2\"")], false),
            (
                &tagged,
                &[("if-none-match", "\"2\""), ("if-modified-since", &past)],
                false,
            ),
            (
                &tagged,
                &[("if-none-match", "\"1\""), ("if-modified-since", &before)],
                true,
            ),
            (&tagged, &[("if-modified-since", &past)], true),
            (&tagged, &[("if-modified-since", &future)], true),
            (&tagged, &[("if-modified-since", &before)], false),
            (&tagged, &[("if-modified-since", "0")], false),
            (
                &tagged,
                &[("if-modified-since", &past), ("if-modified-since", &past)],
                false,
            ),
            (&[], &[("if-modified-since", &past)], false),
            (&[], &[("if-modified-since", NOW)], true),
            (
                &tagged,
                &[("if-none-match", "\"1\""), ("range", "bytes=0-1")],
                true,
            ),
        ] {
            let stored = resource(200, response);
            for method in [Method::GET, Method::HEAD] {
                let found = ask(&method, request, &stored) == Answer::NotModified;
                assert_eq!(found, known, "{request:?} of {response:?}");
            }
        }
        let error = resource(404, &tagged);
        assert_eq!(
            ask(&Method::GET, &[("if-none-match", "\"1\"")], &error),
            Answer::Whole
        );
    }

    #[test]
    fn ranges() {
        let past = date(-60);
        let stored = resource(200, &[("etag", "\"1\""), ("last-modified", &past)]);
        let part = |first, last| Answer::Part { first, last };
        for (value, expected) in [
            ("bytes=0-9", part(0, 9)),
            ("BYTES=0-9", part(0, 9)),
            ("bytes=90-", part(90, 99)),
            ("bytes=-5", part(95, 99)),
            ("bytes=-500", part(0, 99)),
            ("bytes=99-1000", part(99, 99)),
            ("bytes=0-99999999999999999999999", part(0, 99)),
            ("bytes=100-", Answer::Unsatisfiable),
            ("bytes=-0", Answer::Unsatisfiable),
            ("bytes=9-1", Answer::Whole),
            ("bytes=0-1,5-6", Answer::Whole),
            ("bytes=-", Answer::Whole),
            ("bytes=a-b", Answer::Whole),
            ("lines=1-2", Answer::Whole),
            ("bytes", Answer::Whole),
        ] {
            assert_eq!(
                ask(&Method::GET, &[("range", value)], &stored),
                expected,
                "{value}"
            );
            assert_eq!(ask(&Method::HEAD, &[("range", value)], &stored), Answer::Whole);
        }
        for (value, used) in [
            ("\"1\"", true),
            ("W/\"1\"", false),
            ("\"2\"", false),
            (past.as_str(), true),
            (NOW, false),
            ("x", false),
        ] {
            let expected = if used { part(0, 9) } else { Answer::Whole };
            let request = [("range", "bytes=0-9"), ("if-range", value)];
            assert_eq!(ask(&Method::GET, &request, &stored), expected, "{value}");
        }
        // Modified in the second in which it was made: the date is weak.
        let weak = resource(200, &[("last-modified", NOW), ("date", NOW)]);
        assert_eq!(
            ask(&Method::GET, &[("range", "bytes=0-9"), ("if-range", NOW)], &weak),
            Answer::Whole
        );
        let error = resource(404, &[]);
        assert_eq!(
            ask(&Method::GET, &[("range", "bytes=0-9")], &error),
            Answer::Whole
        );
    }

    #[test]
    fn heads() {
        let stored = resource(200, &[("etag", "\"1\""), ("x-a", "1"), ("date", NOW)]);
        let age = Some(Duration::from_millis(7_900));
        let of = |answer| {
            let (status, headers) = head(answer, &stored, age);
            let mut lines: Vec<_> = headers
                .iter()
                .filter(|(name, _)| !matches!(**name, header::DATE | header::CACHE_CONTROL))
                .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
                .collect();
            lines.sort();
            (status.as_u16(), lines.join("\n"))
        };
        assert_eq!(
            of(Answer::Whole),
            (
                200,
                "age: 7\ncontent-length: 100\ncontent-type: text/plain\netag: \"1\"\nx-a: 1".to_owned()
            )
        );
        assert_eq!(
            of(Answer::Part { first: 10, last: 19 }),
            (
                206,
                "age: 7\ncontent-length: 10\ncontent-range: bytes 10-19/100\ncontent-type: text/plain\n\
                 etag: \"1\"\nx-a: 1"
                    .to_owned()
            )
        );
        assert_eq!(
            of(Answer::Unsatisfiable),
            (
                416,
                "content-length: 0\ncontent-range: bytes */100\nx-a: 1".to_owned()
            )
        );
        assert_eq!(
            of(Answer::NotModified),
            (304, "age: 7\netag: \"1\"\nx-a: 1".to_owned())
        );
    }

    proptest! {
        #[test]
        fn parts_lie_inside(value in "bytes=([0-9]{0,20}|-|,){0,4}", length in any::<u64>()) {
            match range(&fields(&[("range", &value)]), length) {
                Answer::Part { first, last } => prop_assert!(first <= last && last < length),
                Answer::Whole | Answer::Unsatisfiable => {}
                Answer::NotModified => prop_assert!(false),
            }
        }
    }
}
