//! The whole way at once, over requests and responses made of the words that matter.

use crate::testing::{after, at_once, epoch, fields};
use crate::{
    Answer, Asked, Fate, Reuse, Settings, admit, answer, choose, condition, decide, freshen, head, identify,
};
use http::header::HeaderMap;
use http::{Method, StatusCode};
use proptest::prelude::*;
use std::time::Duration;

fn request() -> impl Strategy<Value = HeaderMap> {
    let line = prop_oneof![
        (
            "cache-control",
            "(no-cache|max-age=[0-9]{1,2}|max-stale(=[0-9]{1,2})?|min-fresh=[0-9]|only-if-cached|,){1,5}"
        ),
        ("if-none-match", "(\\*|W/|\"[12]\"|, ){1,4}"),
        ("if-modified-since", "(Sun, 06 Nov 1994 08:49:3[0-9] GMT|x)"),
        ("range", "bytes=[0-9]{0,2}-[0-9]{0,2}"),
        ("if-range", "(W/)?\"[12]\""),
        ("accept-encoding", "(gzip|br|, ?|;q=0){0,5}"),
        ("x-a", "[ab, ]{0,3}"),
        ("authorization", "x"),
    ];
    proptest::collection::vec(line, 0..4).prop_map(|lines| headers(&lines))
}

fn response() -> impl Strategy<Value = HeaderMap> {
    let directives = "(public|private|no-cache|no-store|must-revalidate|proxy-revalidate|must-understand|max-age=[0-9]{1,2}\
                      |s-maxage=[0-9]{1,2}|stale-while-revalidate=[0-9]{1,2}|stale-if-error=9|private=\"x-a\"|=|\"|, ){1,9}";
    let line = prop_oneof![
        4 => ("cache-control", directives),
        1 => ("cdn-cache-control", directives),
        2 => ("expires", "(Sun, 06 Nov 1994 08:49:[45][0-9] GMT|0)"),
        1 => ("date", "(Sun, 06 Nov 1994 08:49:[0-5][0-9] GMT|0)"),
        1 => ("last-modified", "(Sun, 06 Nov 199[0-4] 08:49:[0-5][0-9] GMT|0)"),
        2 => ("etag", "(W/)?\"[12]\""),
        1 => ("age", "[0-9, x]{1,3}"),
        1 => ("vary", "(x-a|accept-encoding|\\*|, ){1,4}"),
        1 => ("connection", "(close|x-a|cache-control|date|vary|, ){1,4}"),
        1 => ("content-length", "[0-9]{1,2}"),
    ];
    proptest::collection::vec(line, 0..6).prop_map(|lines| headers(&lines))
}

fn headers(lines: &[(String, String)]) -> HeaderMap {
    let lines: Vec<_> = lines
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    fields(&lines)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn what_is_stored_is_used_as_it_may(
        first in request(), second in request(), response in response(), newer in response(),
        status in prop_oneof![Just(200_u16), Just(404), Just(302), Just(206), Just(304), Just(503), Just(599)],
        one in 0_u64..150, other in 0_u64..150,
    ) {
        let settings = Settings::default();
        let (first, second) = (Asked::new(&Method::GET, &first, &settings), Asked::new(&Method::GET, &second, &settings));
        let admitted = admit(&first, StatusCode::from_u16(status).unwrap(), &response, at_once(), &settings);
        let length = response.get("content-length").map_or(10, |length| length.to_str().unwrap().parse().unwrap());
        let Ok(stored) = admitted.and_then(|stored| stored.complete(length)) else { return Ok(()) };

        // Nothing of the connection, and always a date.
        for name in ["age", "connection"] {
            prop_assert!(!stored.headers.contains_key(name));
        }
        prop_assert!(stored.headers.contains_key("date"));

        // It answers the request that it answered, and is fresh only once.
        prop_assert_eq!(choose([&stored], &first), Some(&stored));
        let fresh = |seconds| matches!(decide(&second, &stored, after(seconds)), Reuse::Fresh(_));
        prop_assert!(fresh(one.min(other)) || !fresh(one.max(other)));
        prop_assert!(!fresh(stored.policy.lifetime.as_secs() + 1));
        if let Some(gone) = stored.expires(&settings)
            && second.directives.max_stale.is_none()
        {
            let late = decide(&second, &stored, gone + Duration::from_secs(1));
            prop_assert!(matches!(late, Reuse::Validate(_) | Reuse::GatewayTimeout), "{:?}", late);
        }

        // What the client gets is there, and says how old it is.
        let found = answer(&second, &stored);
        let (_, answered) = head(found, &stored, stored.age(after(one)));
        match found {
            Answer::Part { first, last } => prop_assert!(first <= last && last < length),
            Answer::Unsatisfiable => prop_assert!(!answered.contains_key("age")),
            Answer::Whole | Answer::NotModified => prop_assert!(answered.contains_key("age")),
        }

        // A 304 that speaks of it makes it as fresh as it says, and keeps its content.
        let mut sent = second.headers.clone();
        let conditional = condition(Some(&stored), &mut sent);
        prop_assert_eq!(conditional, sent.contains_key("if-none-match") || sent.contains_key("if-modified-since"));
        let all = [stored];
        for index in identify(&all, 0, &second, &newer) {
            let fresh = freshen(&all[index], &second, &newer, at_once(), &settings);
            prop_assert_eq!((fresh.stored.length, fresh.stored.received), (Some(length), epoch()));
            if fresh.fate == Fate::Replace {
                prop_assert!(fresh.stored.variant.matches(second.headers));
            }
        }
    }
}
