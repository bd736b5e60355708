//! Parts of a representation: which 206 may be stored, and which belong together (RFC 9111 sections 3.3 and 3.4).

use crate::admit::{Refusal, judge};
use crate::directive::ResponseDirectives;
use crate::field::{self, Comparison};
use crate::fresh::Times;
use crate::request::{Asked, Consult};
use crate::settings::Settings;
use crate::store::Stored;
use http::header::{self, HeaderMap};
use http::{Method, StatusCode};

/// A 206, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The representation that it is a part of: a 200 of which the length is known, and not all content is there.
    pub stored: Stored,
    /// Its first byte.
    pub first: u64,
    /// Its last byte.
    pub last: u64,
}

/// Judges a 206 whose head has just arrived. Only a single part of something with a strong entity tag and a known length
/// is admitted: what it belongs to must be beyond doubt. [`answer`](crate::answer()) says what of it a later request
/// needs; the caller answers only with bytes that it has.
///
/// # Errors
///
/// The first reason not to store it.
pub fn admit_part(
    asked: &Asked<'_>,
    status: StatusCode,
    headers: &HeaderMap,
    times: Times,
    settings: &Settings,
) -> Result<Part, Refusal> {
    if *asked.method != Method::GET
        || asked.consult() != Consult::Lookup
        || !asked.headers.contains_key(header::RANGE)
    {
        return Err(Refusal::Request);
    }
    let (first, last, complete) = place(headers)
        .filter(|_| status == StatusCode::PARTIAL_CONTENT)
        .ok_or(Refusal::Partial)?;
    let mut whole = headers.clone();
    whole.remove(header::CONTENT_RANGE);
    whole.remove(header::CONTENT_LENGTH);
    let directives = ResponseDirectives::of(&whole, &settings.targets);
    let variant = judge(asked, StatusCode::OK, &whole, &directives, settings)?;
    let mut stored = Stored::new(StatusCode::OK, &whole, &directives, variant, times, settings);
    stored.length = Some(complete);
    if strong_tag(&stored).is_none() {
        return Err(Refusal::Partial);
    }
    if stored.is_useless() {
        return Err(Refusal::Useless);
    }
    Ok(Part { stored, first, last })
}

/// Whether what is stored and what has come are of one representation, so that their parts can be combined.
pub fn same_representation(stored: &Stored, newer: &Stored) -> bool {
    let same = |name| stored.headers.get(&name) == newer.headers.get(&name);
    stored.length == newer.length
        && same(header::CONTENT_ENCODING)
        && strong_tag(stored)
            .zip(strong_tag(newer))
            .is_some_and(|(one, other)| field::same_tag(one, other, Comparison::Strong))
}

fn strong_tag(stored: &Stored) -> Option<&[u8]> {
    let tag = stored.etag()?.as_bytes();
    tag.starts_with(b"\"").then_some(tag)
}

/// First byte, last byte and complete length by `Content-Range` (RFC 9110 section 14.4), where it is the only one and
/// nothing contradicts it. A part of several has none.
fn place(headers: &HeaderMap) -> Option<(u64, u64, u64)> {
    let only = |name| {
        let mut lines = headers.get_all(name).iter();
        let line = lines.next()?;
        lines.next().is_none().then_some(line)
    };
    let range = only(header::CONTENT_RANGE)?.to_str().ok()?.trim();
    let (unit, range) = range.split_once(' ')?;
    let (part, complete) = range.split_once('/')?;
    let (first, last) = part.split_once('-')?;
    let number = |digits: &str| {
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse::<u64>().ok())?
    };
    let (first, last, complete) = (number(first)?, number(last)?, number(complete)?);
    let length = match headers.contains_key(header::CONTENT_LENGTH) {
        true => number(only(header::CONTENT_LENGTH)?.to_str().ok()?.trim())?,
        false => last.checked_sub(first)?.checked_add(1)?,
    };
    let sound =
        unit.eq_ignore_ascii_case("bytes") && first <= last && last < complete && length == last - first + 1;
    sound.then_some((first, last, complete))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at_once, fields};

    fn part_of(request: &[(&str, &str)], response: &[(&str, &str)]) -> Result<Part, Refusal> {
        let settings = Settings::default();
        let (request, response) = (fields(request), fields(response));
        let asked = Asked::new(&Method::GET, &request, &settings);
        let times = at_once();
        admit_part(&asked, StatusCode::PARTIAL_CONTENT, &response, times, &settings)
    }

    const RANGE: (&str, &str) = ("range", "bytes=2-4");
    const FRESH: (&str, &str) = ("cache-control", "max-age=60");
    const TAG: (&str, &str) = ("etag", "\"1\"");

    #[test]
    fn one_part_of_something_certain_is_admitted() {
        let found = part_of(
            &[RANGE],
            &[
                FRESH,
                TAG,
                ("content-range", "bytes 2-4/10"),
                ("content-length", "3"),
            ],
        )
        .unwrap();
        assert_eq!((found.first, found.last, found.stored.length), (2, 4, Some(10)));
        assert_eq!(found.stored.status, StatusCode::OK);
        assert!(!found.stored.headers.contains_key("content-range"));
        assert!(!found.stored.headers.contains_key("content-length"));
        let of = ("content-range", "bytes 2-4/10");
        for (request, response, refusal) in [
            (&[][..], &[FRESH, TAG, of][..], Refusal::Request),
            (&[RANGE], &[FRESH, of], Refusal::Partial),
            (&[RANGE], &[FRESH, ("etag", "W/\"1\""), of], Refusal::Partial),
            (&[RANGE], &[FRESH, TAG], Refusal::Partial),
            (&[RANGE], &[FRESH, TAG, of, of], Refusal::Partial),
            (
                &[RANGE],
                &[FRESH, TAG, ("content-range", "bytes 2-4/*")],
                Refusal::Partial,
            ),
            (
                &[RANGE],
                &[FRESH, TAG, ("content-range", "bytes */10")],
                Refusal::Partial,
            ),
            (
                &[RANGE],
                &[FRESH, TAG, ("content-range", "bytes 4-2/10")],
                Refusal::Partial,
            ),
            (
                &[RANGE],
                &[FRESH, TAG, ("content-range", "bytes 2-10/10")],
                Refusal::Partial,
            ),
            (
                &[RANGE],
                &[FRESH, TAG, ("content-range", "bytes +2-4/10")],
                Refusal::Partial,
            ),
            (
                &[RANGE],
                &[FRESH, TAG, ("content-range", "lines 2-4/10")],
                Refusal::Partial,
            ),
            (
                &[RANGE],
                &[FRESH, TAG, ("content-range", "bytes 0-18446744073709551615/10")],
                Refusal::Partial,
            ),
            (
                &[RANGE],
                &[FRESH, TAG, of, ("content-length", "4")],
                Refusal::Partial,
            ),
            (
                &[RANGE],
                &[FRESH, TAG, ("content-type", "multipart/byteranges; boundary=x")],
                Refusal::Partial,
            ),
            (
                &[RANGE],
                &[("cache-control", "no-store"), TAG, of],
                Refusal::NoStore,
            ),
            (
                &[RANGE],
                &[("cache-control", "private"), TAG, of],
                Refusal::Private,
            ),
            (
                &[RANGE, ("cache-control", "no-store")],
                &[FRESH, TAG, of],
                Refusal::RequestNoStore,
            ),
            (
                &[RANGE, ("authorization", "x")],
                &[FRESH, TAG, of],
                Refusal::Authorization,
            ),
            (&[RANGE], &[FRESH, TAG, of, ("vary", "*")], Refusal::Vary),
        ] {
            assert_eq!(
                part_of(request, response),
                Err(refusal),
                "{request:?} {response:?}"
            );
        }
    }

    #[test]
    fn only_parts_of_one_representation_belong_together() {
        let of = |more: &[(&str, &str)], range: &str| {
            let mut response = vec![FRESH, ("content-range", range)];
            response.extend_from_slice(more);
            part_of(&[RANGE], &response).unwrap().stored
        };
        let one = of(&[TAG], "bytes 0-4/10");
        assert!(same_representation(&one, &of(&[TAG], "bytes 5-9/10")));
        assert!(!same_representation(&one, &of(&[TAG], "bytes 5-9/11")));
        assert!(!same_representation(
            &one,
            &of(&[("etag", "\"2\"")], "bytes 5-9/10")
        ));
        let coded = of(&[TAG, ("content-encoding", "gzip")], "bytes 5-9/10");
        assert!(!same_representation(&one, &coded));
    }
}
