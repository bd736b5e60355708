//! Asking the origin whether a stored response still holds, and what its answer changes (RFC 9111 sections 3.2 and 4.3).

use crate::admit::{Refusal, judge};
use crate::directive::ResponseDirectives;
use crate::field::{self, Comparison};
use crate::fresh::Times;
use crate::request::Asked;
use crate::settings::Settings;
use crate::store::Stored;
use http::header::{self, HeaderMap, HeaderName};

/// Preconditions and parts: what a client asked for itself, and what must not go to the origin in a request that fetches
/// a whole response for the cache.
const OF_THE_CLIENT: [HeaderName; 4] = [
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_RANGE,
    header::RANGE,
];

/// Makes a client's fields those of a request by which the cache validates `chosen` (RFC 9111 section 4.3.1), or, where
/// there is nothing to validate, fetches the whole. False for the latter: a 304 to it would be wrong.
///
/// The client's own condition and range are answered from what comes back, by [`answer`](crate::answer()).
pub fn condition(chosen: Option<&Stored>, headers: &mut HeaderMap) -> bool {
    for name in OF_THE_CLIENT {
        headers.remove(name);
    }
    let Some(chosen) = chosen else {
        return false;
    };
    if let Some(tag) = chosen.etag() {
        headers.insert(header::IF_NONE_MATCH, tag.clone());
    }
    if chosen.last_modified().is_some()
        && let Some(modified) = chosen.headers.get(header::LAST_MODIFIED)
    {
        headers.insert(header::IF_MODIFIED_SINCE, modified.clone());
    }
    chosen.can_be_validated()
}

/// Which of the stored responses a 304 speaks of, as indices: those to [`freshen`] (RFC 9111 section 4.3.4).
///
/// `validated` is the one that [`condition`] named. It decides where the 304 carries no validator at all, as many
/// origins send it: they can mean no other. None found: repeat the request without condition.
pub fn identify(
    stored: &[Stored],
    validated: usize,
    asked: &Asked<'_>,
    not_modified: &HeaderMap,
) -> Vec<usize> {
    let candidates = || {
        stored
            .iter()
            .enumerate()
            .filter(|(_, stored)| stored.variant.matches(asked.headers))
    };
    let latest = |matching: &dyn Fn(&Stored) -> bool| -> Vec<usize> {
        candidates()
            .filter(|(_, stored)| matching(stored))
            .max_by_key(|(_, stored)| (stored.policy.date, stored.received))
            .map(|(index, _)| index)
            .into_iter()
            .collect()
    };
    match not_modified.get(header::ETAG).map(|tag| tag.as_bytes()) {
        // A strong one: all that have it.
        Some(tag) if !tag.starts_with(b"W/") => candidates()
            .filter(|(_, stored)| has_tag(stored, tag, Comparison::Strong))
            .map(|(index, _)| index)
            .collect(),
        // Weak ones: the latest that has it.
        Some(tag) => latest(&|stored| has_tag(stored, tag, Comparison::Weak)),
        None => match field::date_of(not_modified, header::LAST_MODIFIED) {
            Some(modified) => latest(&|stored| stored.last_modified() == Some(modified)),
            None => candidates()
                .map(|(index, _)| index)
                .filter(|index| *index == validated)
                .collect(),
        },
    }
}

fn has_tag(stored: &Stored, tag: &[u8], comparison: Comparison) -> bool {
    stored
        .etag()
        .is_some_and(|own| field::same_tag(own.as_bytes(), tag, comparison))
}

/// A stored response with the fields of a newer one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freshened {
    /// Answer with it.
    pub stored: Stored,
    /// Fields of the newer response that this client gets and storage does not: those that `private` or `no-cache` name.
    pub once: HeaderMap,
    /// What becomes of the one in storage.
    pub fate: Fate,
}

/// What becomes of a stored response that was freshened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The freshened one replaces it.
    Replace,
    /// It stays as it was: this request's client allows nothing of its exchange to be stored.
    Leave,
    /// It goes: the newer fields say `no-store`, for example.
    Drop(Refusal),
}

/// Updates a stored response from a 304, or from the 200 to a HEAD (RFC 9111 section 3.2): each field of the newer
/// response replaces those of its name, but for what is not stored at all and for `Content-Length` and
/// `Content-Range`, which belong to the content that is kept.
pub fn freshen(
    stored: &Stored,
    asked: &Asked<'_>,
    newer: &HeaderMap,
    times: Times,
    settings: &Settings,
) -> Freshened {
    let mut merged = stored.headers.clone();
    // Without a date of its own, it was made when it came (RFC 9110 section 6.6.1); the old date would age it.
    merged.remove(header::DATE);
    for name in newer.keys() {
        if matches!(*name, header::CONTENT_LENGTH | header::CONTENT_RANGE) {
            continue;
        }
        merged.remove(name);
        for value in newer.get_all(name) {
            merged.append(name, value.clone());
        }
    }
    let directives = ResponseDirectives::of(&merged, &settings.targets);
    let judged = judge(asked, stored.status, &merged, &directives, settings);
    let refusal = judged.as_ref().err().copied();
    let variant = judged.unwrap_or_else(|_| stored.variant.clone());
    let mut fresh = Stored::new(stored.status, &merged, &directives, variant, times, settings);
    fresh.length = stored.length;
    let fate = match refusal.or_else(|| fresh.is_useless().then_some(Refusal::Useless)) {
        None => Fate::Replace,
        Some(refusal) if refusal.is_of_request() => Fate::Leave,
        Some(refusal) => Fate::Drop(refusal),
    };
    let mut once = HeaderMap::new();
    for name in directives.restricted() {
        if !once.contains_key(name) {
            once.extend(
                newer
                    .get_all(name)
                    .iter()
                    .map(|value| (name.clone(), value.clone())),
            );
        }
    }
    Freshened {
        stored: fresh,
        once,
        fate,
    }
}

/// What a 200 to a HEAD, which was sent on, means for a stored response that its request selects (RFC 9111 section
/// 4.3.5): freshened where it speaks of the same content, else `None`: set [`Stored::contradicted`].
pub fn freshen_by_head(
    stored: &Stored,
    asked: &Asked<'_>,
    head: &HeaderMap,
    times: Times,
    settings: &Settings,
) -> Option<Freshened> {
    let same = |name| {
        head.get(&name)
            .is_none_or(|value| stored.headers.get(&name) == Some(value))
    };
    let same_length = head.get(header::CONTENT_LENGTH).is_none_or(|length| {
        let length = length
            .to_str()
            .ok()
            .and_then(|length| length.trim().parse::<u64>().ok());
        length.is_some() && length == stored.length.or_else(|| stored.content_length())
    });
    (same(header::ETAG) && same(header::LAST_MODIFIED) && same_length)
        .then(|| freshen(stored, asked, head, times, settings))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOW, after, date, epoch, fields, stored, try_store};
    use http::Method;
    use std::time::Duration;

    fn later(seconds: u64) -> Times {
        Times {
            requested: after(seconds),
            received: after(seconds),
        }
    }

    #[test]
    fn conditions_replace_those_of_the_client() {
        let client = [
            ("if-none-match", "\"c\""),
            ("range", "bytes=0-1"),
            ("if-range", "\"c\""),
            ("accept", "x"),
        ];
        let past = date(-60);
        for (response, condition_expected, sent) in [
            (
                &[("etag", "\"1\"")][..],
                true,
                &[("accept", "x"), ("if-none-match", "\"1\"")][..],
            ),
            (
                &[("last-modified", &past)],
                true,
                &[("accept", "x"), ("if-modified-since", &past)],
            ),
            (
                &[("etag", "W/\"1\""), ("last-modified", &past)],
                true,
                &[
                    ("accept", "x"),
                    ("if-none-match", "W/\"1\""),
                    ("if-modified-since", &past),
                ],
            ),
            (
                &[("cache-control", "max-age=1"), ("last-modified", "x")],
                false,
                &[("accept", "x")],
            ),
        ] {
            let mut headers = fields(&client);
            assert_eq!(
                condition(Some(&stored(response)), &mut headers),
                condition_expected
            );
            assert_eq!(headers, fields(sent));
        }
        let mut headers = fields(&client);
        assert!(!condition(None, &mut headers));
        assert_eq!(headers, fields(&[("accept", "x")]));
    }

    #[test]
    fn a_304_speaks_of() {
        let (old, older) = (date(-60), date(-90));
        let variant = |a: &str, lines: &[(&str, &str)]| {
            let mut response = vec![("vary", "a"), ("cache-control", "max-age=60")];
            response.extend_from_slice(lines);
            try_store(&[("a", a)], 200, &response, &Settings::default()).unwrap()
        };
        let all = [
            variant("1", &[("etag", "\"1\""), ("date", &older)]),
            variant(
                "1",
                &[("etag", "\"1\""), ("date", &old), ("last-modified", &older)],
            ),
            variant(
                "1",
                &[("etag", "W/\"2\""), ("date", &old), ("last-modified", &older)],
            ),
            variant("1", &[("etag", "W/\"2\""), ("date", &older)]),
            variant("2", &[("etag", "\"1\"")]),
        ];
        let headers = fields(&[("a", "1")]);
        let settings = Settings::default();
        let asked = Asked::new(&Method::GET, &headers, &settings);
        for (lines, indices) in [
            (&[("etag", "\"1\"")][..], &[0, 1][..]),
            (&[("etag", "\"2\"")], &[]),
            (&[("etag", "W/\"2\"")], &[2]),
            (&[("etag", "W/\"1\"")], &[1]),
            (&[("etag", "\"3\"")], &[]),
            (&[("last-modified", &older)], &[2]),
            (&[("last-modified", NOW)], &[]),
            (&[], &[3]),
        ] {
            assert_eq!(identify(&all, 3, &asked, &fields(lines)), indices, "{lines:?}");
        }
        // One that the request does not select is not freshened, whatever was asked.
        assert!(identify(&all, 4, &asked, &fields(&[])).is_empty());
    }

    #[test]
    fn fields_are_updated() {
        let one = stored(&[
            ("cache-control", "max-age=60"),
            ("etag", "\"1\""),
            ("content-length", "3"),
            ("content-type", "text/plain"),
            ("x-two", "a"),
            ("x-two", "b"),
            ("x-kept", "1"),
            ("date", &date(-1000)),
        ]);
        let one = one.complete(3).unwrap();
        let headers = fields(&[]);
        let settings = Settings::default();
        let asked = Asked::new(&Method::GET, &headers, &settings);
        let newer = fields(&[
            ("cache-control", "max-age=90"),
            ("content-length", "0"),
            ("content-range", "bytes 0-1/2"),
            ("content-type", "text/html"),
            ("x-two", "c"),
            ("x-new", "1"),
            ("x-new", "2"),
            ("age", "7"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("transfer-encoding", "chunked"),
        ]);
        let Freshened {
            stored: fresh, fate, ..
        } = freshen(&one, &asked, &newer, later(100), &settings);
        assert_eq!(fate, Fate::Replace);
        let date = date(100);
        let expected = fields(&[
            ("cache-control", "max-age=90"),
            ("etag", "\"1\""),
            ("content-length", "3"),
            ("content-type", "text/html"),
            ("x-two", "c"),
            ("x-kept", "1"),
            ("x-new", "1"),
            ("x-new", "2"),
            ("date", &date),
        ]);
        assert_eq!(fresh.headers, expected);
        assert_eq!((fresh.length, fresh.received), (Some(3), after(100)));
        assert_eq!(fresh.initial_age, Duration::from_secs(7));
        assert_eq!(fresh.policy.lifetime, Duration::from_secs(90));
    }

    #[test]
    fn what_a_304_forbids_is_dropped() {
        let one = stored(&[("cache-control", "max-age=60"), ("etag", "\"1\"")]);
        let headers = fields(&[("a", "1")]);
        let settings = Settings::default();
        let asked = Asked::new(&Method::GET, &headers, &settings);
        for (newer, fate) in [
            (("cache-control", "no-store"), Fate::Drop(Refusal::NoStore)),
            (("cache-control", "private"), Fate::Drop(Refusal::Private)),
            (("vary", "*"), Fate::Drop(Refusal::Vary)),
            (("cache-control", "no-cache"), Fate::Replace),
            (("vary", "a"), Fate::Replace),
        ] {
            let found = freshen(&one, &asked, &fields(&[newer]), later(9), &settings);
            assert_eq!(found.fate, fate, "{newer:?}");
        }
        // A client's own no-store and credentials purge nothing.
        for request in [("cache-control", "no-store"), ("authorization", "x")] {
            let headers = fields(&[request]);
            let asked = Asked::new(&Method::GET, &headers, &settings);
            let found = freshen(&one, &asked, &fields(&[]), later(9), &settings);
            assert_eq!(found.fate, Fate::Leave, "{request:?}");
        }
        // A new Vary selects by the request that validated.
        let found = freshen(&one, &asked, &fields(&[("vary", "a")]), later(9), &settings);
        assert!(found.stored.variant.matches(&headers) && !found.stored.variant.matches(&fields(&[])));
    }

    #[test]
    fn fields_of_one_client_pass_once() {
        let one = stored(&[
            (
                "cache-control",
                "max-age=60, private=\"set-cookie\", no-cache=\"x-once\"",
            ),
            ("etag", "\"1\""),
        ]);
        let headers = fields(&[]);
        let settings = Settings::default();
        let asked = Asked::new(&Method::GET, &headers, &settings);
        let newer = fields(&[
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("x-once", "3"),
            ("x-all", "4"),
        ]);
        let found = freshen(&one, &asked, &newer, later(9), &settings);
        assert_eq!(
            found.once,
            fields(&[("set-cookie", "a=1"), ("set-cookie", "b=2"), ("x-once", "3")])
        );
        assert!(!found.stored.headers.contains_key("set-cookie"));
        assert_eq!(found.stored.headers["x-all"], "4");
    }

    #[test]
    fn heads_freshen_or_contradict() {
        let one = stored(&[
            ("cache-control", "max-age=60"),
            ("etag", "\"1\""),
            ("last-modified", NOW),
        ]);
        let one = one.complete(3).unwrap();
        let headers = fields(&[]);
        let settings = Settings::default();
        let asked = Asked::new(&Method::HEAD, &headers, &settings);
        let past = date(-9);
        for (head, same) in [
            (&[][..], true),
            (&[("etag", "\"1\""), ("content-length", "3")], true),
            (&[("etag", "\"2\"")], false),
            (&[("last-modified", &past)], false),
            (&[("content-length", "4")], false),
            (&[("content-length", "x")], false),
        ] {
            let found = freshen_by_head(&one, &asked, &fields(head), later(50), &settings);
            assert_eq!(found.is_some(), same, "{head:?}");
            if let Some(found) = found {
                assert_eq!((found.stored.received, found.fate), (after(50), Fate::Replace));
            }
        }
        assert_eq!(one.received, epoch());
    }
}
