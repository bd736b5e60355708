//! Whether a stored response answers a request, fresh or stale (RFC 9111 section 4, RFC 5861).

use crate::request::Asked;
use crate::settings::Settings;
use crate::store::{OnceStale, Stored};
use http::StatusCode;
use std::time::{Duration, SystemTime};

/// What to do with the chosen response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// Answer with it.
    Fresh(Freshness),
    /// Answer with it although it is stale.
    Stale(Freshness, Grant),
    /// Ask the origin whether it still holds: [`condition`](crate::condition).
    Validate(Reason),
    /// Answer 504: the client said `only-if-cached` (RFC 9111 section 5.2.1.7).
    GatewayTimeout,
}

/// Who allows that it is used stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// `stale-while-revalidate`: validate it in the background, once (RFC 5861 section 3).
    WhileRevalidate,
    /// The client, by `max-stale` (RFC 9111 section 5.2.1.2).
    MaxStale,
}

/// Why it has to be validated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It is stale, or `no-cache`.
    Stale,
    /// The client wants it so, or newer.
    Request,
}

/// How old a response is that is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// For the field `Age` (RFC 9111 section 4).
    pub age: Duration,
    /// Seconds for which it remains fresh, negative once it is stale (RFC 9211 section 2.4).
    pub ttl: i64,
}

impl Freshness {
    fn with_age(stored: &Stored, age: Duration) -> Self {
        let whole = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        let ttl = whole(stored.policy.lifetime).saturating_sub(whole(age));
        Self { age, ttl }
    }
}

impl Stored {
    /// How old it is, for one that was just received or validated.
    pub fn freshness(&self, now: SystemTime) -> Freshness {
        Freshness::with_age(self, self.age(now).unwrap_or(self.initial_age))
    }
}

/// The response to use of those stored under one key: of those that the request selects the one with the latest `Date`
/// (RFC 9111 sections 4 and 4.1).
pub fn choose<'s>(stored: impl IntoIterator<Item = &'s Stored>, asked: &Asked<'_>) -> Option<&'s Stored> {
    stored
        .into_iter()
        .filter(|stored| stored.variant.matches(asked.headers))
        .max_by_key(|stored| (stored.policy.date, stored.received))
}

/// Whether the chosen response answers a request now.
pub fn decide(asked: &Asked<'_>, stored: &Stored, now: SystemTime) -> Reuse {
    let validate = |reason| {
        if asked.directives.only_if_cached {
            Reuse::GatewayTimeout
        } else {
            Reuse::Validate(reason)
        }
    };
    if stored.policy.always_validate || stored.contradicted {
        return validate(Reason::Stale);
    }
    if asked.directives.no_cache {
        return validate(Reason::Request);
    }
    let Some(age) = stored.age(now) else {
        return validate(Reason::Stale);
    };
    let freshness = Freshness::with_age(stored, age);
    let lifetime = stored.policy.lifetime;
    let asked = &asked.directives;

    // Section 4.2: fresh while its lifetime is longer than its age.
    if age < lifetime {
        // With `max-stale` beside it, `max-age` may be exceeded by that much (section 5.2.1.1).
        let max_age = asked
            .max_age
            .map(|max| max.saturating_add(asked.max_stale.unwrap_or_default()));
        let young = max_age.is_none_or(|max| age <= max);
        let long = asked.min_fresh.is_none_or(|least| lifetime - age >= least);
        return if young && long {
            Reuse::Fresh(freshness)
        } else {
            validate(Reason::Request)
        };
    }

    let staleness = age - lifetime;
    // Who says how fresh it must be does not want what is stale, unless they say so (section 5.2.1.1).
    let picky = asked.min_fresh.is_some() || asked.max_age.is_some() && asked.max_stale.is_none();
    if picky {
        return validate(Reason::Stale);
    }
    let granted = stored.policy.stale_while_revalidate;
    if !granted.is_zero() && staleness <= granted && asked.max_age.is_none() {
        return Reuse::Stale(freshness, Grant::WhileRevalidate);
    }
    let tolerated = asked.max_stale.is_some_and(|max| {
        staleness <= max
            && asked
                .max_age
                .is_none_or(|age_limit| age <= age_limit.saturating_add(max))
    });
    if tolerated && stored.policy.once_stale == OnceStale::Usable {
        return Reuse::Stale(freshness, Grant::MaxStale);
    }
    validate(Reason::Stale)
}

/// How the origin failed to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// There was no answer at all.
    Unreachable,
    /// It answered with this.
    Status(StatusCode),
}

/// Whether the chosen response may stand in for the origin that failed to validate it: because `stale-if-error` of the
/// response or the request says so (RFC 5861 section 4), or because the cache is cut off (RFC 9111 section 4.2.4) and
/// the operator allows it. `None`: pass the error on, 504 where there was no answer (RFC 9111 section 5.2.2.2).
pub fn stand_in(
    asked: &Asked<'_>,
    stored: &Stored,
    failure: Failure,
    now: SystemTime,
    settings: &Settings,
) -> Option<Freshness> {
    let policy = &stored.policy;
    if policy.always_validate || stored.contradicted || asked.directives.no_cache {
        return None;
    }
    let mut granted = policy.stale_if_error;
    if policy.once_stale == OnceStale::Usable {
        granted = granted.max(asked.directives.stale_if_error.unwrap_or_default());
    }
    match failure {
        // The statuses of RFC 5861 section 4.
        Failure::Status(status) if !matches!(status.as_u16(), 500 | 502 | 503 | 504) => return None,
        Failure::Unreachable if policy.once_stale == OnceStale::Usable => {
            granted = granted.max(settings.stale_when_unreachable);
        }
        Failure::Status(_) | Failure::Unreachable => {}
    }
    let age = stored.age(now)?;
    let staleness = age.saturating_sub(policy.lifetime);
    (!granted.is_zero() && staleness <= granted).then(|| Freshness::with_age(stored, age))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{after, date, epoch, fields, stored, try_store};
    use http::Method;
    use proptest::prelude::*;

    fn decision(cache_control: &str, request: &str, seconds: u64) -> Reuse {
        let headers = fields(&if request.is_empty() {
            vec![]
        } else {
            vec![("cache-control", request)]
        });
        let asked = Asked::new(&Method::GET, &headers, &Settings::default());
        decide(
            &asked,
            &stored(&[("cache-control", cache_control), ("etag", "\"1\"")]),
            after(seconds),
        )
    }

    #[test]
    fn decisions() {
        use Grant::{MaxStale, WhileRevalidate};
        let freshness = |age, ttl| Freshness {
            age: Duration::from_secs(age),
            ttl,
        };
        let fresh = |age, ttl| Reuse::Fresh(freshness(age, ttl));
        let stale = |age, ttl, grant| Reuse::Stale(freshness(age, ttl), grant);
        let (old, wanted) = (Reuse::Validate(Reason::Stale), Reuse::Validate(Reason::Request));
        for (response, request, age, decision_expected) in [
            ("max-age=60", "", 0, fresh(0, 60)),
            ("max-age=60", "", 59, fresh(59, 1)),
            ("max-age=60", "", 60, old),
            ("max-age=60, no-cache", "", 1, old),
            ("max-age=60, no-cache=x-a", "", 1, fresh(1, 59)),
            ("no-cache", "max-stale", 1, old),
            // What clients ask (section 5.2.1).
            ("max-age=60", "no-cache", 1, wanted),
            ("max-age=60", "max-age=0", 1, wanted),
            ("max-age=60", "max-age=10", 10, fresh(10, 50)),
            ("max-age=60", "max-age=10", 11, wanted),
            ("max-age=60", "max-age=10, max-stale=5", 15, fresh(15, 45)),
            ("max-age=60", "max-age=10, max-stale=5", 16, wanted),
            ("max-age=60", "min-fresh=10", 50, fresh(50, 10)),
            ("max-age=60", "min-fresh=10", 51, wanted),
            ("max-age=60", "max-stale", 1000, stale(1000, -940, MaxStale)),
            ("max-age=60", "max-stale=10", 70, stale(70, -10, MaxStale)),
            ("max-age=60", "max-stale=10", 71, old),
            ("max-age=60", "max-stale=10, max-age=50", 61, old),
            (
                "max-age=60",
                "max-stale=10, max-age=51",
                61,
                stale(61, -1, MaxStale),
            ),
            ("max-age=60", "only-if-cached", 1, fresh(1, 59)),
            ("max-age=60", "only-if-cached", 61, Reuse::GatewayTimeout),
            (
                "max-age=60",
                "only-if-cached, max-stale",
                61,
                stale(61, -1, MaxStale),
            ),
            // What origins forbid (section 4.2.4).
            ("max-age=60, must-revalidate", "max-stale", 61, old),
            ("max-age=60, proxy-revalidate", "max-stale", 61, old),
            ("s-maxage=60", "max-stale", 61, old),
            (
                "max-age=60, must-revalidate, stale-while-revalidate=60",
                "",
                61,
                old,
            ),
            // RFC 5861 section 3.
            ("max-age=60, stale-while-revalidate=30", "", 59, fresh(59, 1)),
            (
                "max-age=60, stale-while-revalidate=30",
                "",
                90,
                stale(90, -30, WhileRevalidate),
            ),
            ("max-age=60, stale-while-revalidate=30", "", 91, old),
            (
                "s-maxage=60, stale-while-revalidate=30",
                "",
                61,
                stale(61, -1, WhileRevalidate),
            ),
            (
                "max-age=0, stale-while-revalidate=30",
                "",
                0,
                stale(0, 0, WhileRevalidate),
            ),
            ("max-age=60, stale-while-revalidate=30", "no-cache", 61, wanted),
            ("max-age=60, stale-while-revalidate=30", "max-age=100", 61, old),
            ("max-age=60, stale-while-revalidate=30", "min-fresh=1", 61, old),
        ] {
            assert_eq!(
                decision(response, request, age),
                decision_expected,
                "{response} / {request} at {age}"
            );
        }
    }

    #[test]
    fn what_was_contradicted_is_validated() {
        let headers = fields(&[]);
        let settings = Settings::default();
        let asked = Asked::new(&Method::GET, &headers, &settings);
        let mut stored = stored(&[(
            "cache-control",
            "max-age=60, stale-while-revalidate=60, stale-if-error=60",
        )]);
        stored.contradicted = true;
        assert_eq!(decide(&asked, &stored, after(1)), Reuse::Validate(Reason::Stale));
        assert_eq!(
            stand_in(&asked, &stored, Failure::Unreachable, after(1), &settings),
            None
        );
    }

    #[test]
    fn by_the_letter_s_maxage_cancels_what_is_stale() {
        let settings = Settings {
            implied_revalidation: true,
            ..Settings::default()
        };
        let response = [("cache-control", "s-maxage=60, stale-while-revalidate=30")];
        let headers = fields(&[]);
        let asked = Asked::new(&Method::GET, &headers, &settings);
        let stored = try_store(&[], 200, &response, &settings).unwrap();
        assert_eq!(decide(&asked, &stored, after(61)), Reuse::Validate(Reason::Stale));
    }

    #[test]
    fn a_clock_that_went_back_makes_nothing_fresh() {
        let headers = fields(&[]);
        let asked = Asked::new(&Method::GET, &headers, &Settings::default());
        let stored = stored(&[("cache-control", "max-age=60")]);
        let at = |now| decide(&asked, &stored, now);
        assert!(matches!(at(epoch() - Duration::from_secs(1)), Reuse::Fresh(_)));
        assert_eq!(
            at(epoch() - Duration::from_secs(3600)),
            Reuse::Validate(Reason::Stale)
        );
    }

    #[test]
    fn the_latest_of_the_matching_is_chosen() {
        let variant = |value: &str, offset: i64| {
            let response = [
                ("cache-control", "max-age=60"),
                ("vary", "a"),
                ("date", &date(offset)),
                ("x", value),
            ];
            try_store(&[("a", value)], 200, &response, &Settings::default()).unwrap()
        };
        let all = [
            variant("1", -20),
            variant("1", -5),
            variant("1", -30),
            variant("2", 0),
        ];
        let headers = fields(&[("a", "1")]);
        let asked = Asked::new(&Method::GET, &headers, &Settings::default());
        assert_eq!(choose(&all, &asked), Some(&all[1]));
        let headers = fields(&[("a", "3")]);
        assert_eq!(
            choose(&all, &Asked::new(&Method::GET, &headers, &Settings::default())),
            None
        );
    }

    #[test]
    fn who_stands_in_for_a_failed_origin() {
        let settings = Settings {
            stale_when_unreachable: Duration::from_secs(10),
            ..Settings::default()
        };
        let status = |code| Failure::Status(StatusCode::from_u16(code).unwrap());
        for (response, request, failure, seconds, stands) in [
            ("max-age=60, stale-if-error=30", "", status(503), 90, true),
            ("max-age=60, stale-if-error=30", "", status(503), 91, false),
            ("max-age=60, stale-if-error=30", "", status(500), 61, true),
            ("max-age=60, stale-if-error=30", "", status(501), 61, false),
            ("max-age=60, stale-if-error=30", "", status(404), 61, false),
            (
                "max-age=60, stale-if-error=30",
                "",
                Failure::Unreachable,
                90,
                true,
            ),
            (
                "max-age=60, stale-if-error=30",
                "no-cache",
                status(503),
                61,
                false,
            ),
            (
                "max-age=60, stale-if-error=30, must-revalidate",
                "",
                status(503),
                61,
                false,
            ),
            (
                "max-age=60, stale-if-error=30, no-cache",
                "",
                status(503),
                61,
                false,
            ),
            ("s-maxage=60, stale-if-error=30", "", status(503), 61, true),
            ("max-age=60", "", status(503), 61, false),
            ("max-age=60", "stale-if-error=5", status(503), 65, true),
            ("max-age=60", "stale-if-error=5", status(503), 66, false),
            ("s-maxage=60", "stale-if-error=5", status(503), 61, false),
            ("max-age=60", "", Failure::Unreachable, 70, true),
            ("max-age=60", "", Failure::Unreachable, 71, false),
            ("s-maxage=60", "", Failure::Unreachable, 61, false),
            ("max-age=60, must-revalidate", "", Failure::Unreachable, 61, false),
        ] {
            let headers = fields(&if request.is_empty() {
                vec![]
            } else {
                vec![("cache-control", request)]
            });
            let asked = Asked::new(&Method::GET, &headers, &settings);
            let stored = stored(&[("cache-control", response), ("etag", "\"1\"")]);
            let found = stand_in(&asked, &stored, failure, after(seconds), &settings).is_some();
            assert_eq!(found, stands, "{response} / {request} {failure:?} at {seconds}");
        }
    }

    proptest! {
        /// Once it is not fresh any more, a response never becomes fresh again; once it must be validated it must be.
        #[test]
        fn freshness_is_lost_once(
            max_age in 0_u64..100, swr in 0_u64..50, stale in proptest::option::of(0_u64..50),
            least in proptest::option::of(0_u64..50), request_age in proptest::option::of(0_u64..100),
            one in 0_u64..300, other in 0_u64..300,
        ) {
            let mut request = vec!["x".to_owned()];
            request.extend(stale.map(|seconds| format!("max-stale={seconds}")));
            request.extend(least.map(|seconds| format!("min-fresh={seconds}")));
            request.extend(request_age.map(|seconds| format!("max-age={seconds}")));
            let response = format!("max-age={max_age}, stale-while-revalidate={swr}");
            let rank = |seconds| match decision(&response, &request.join(","), seconds) {
                Reuse::Fresh(_) => 0,
                Reuse::Stale(..) => 1,
                Reuse::Validate(_) | Reuse::GatewayTimeout => 2,
            };
            let (early, late) = (one.min(other), one.max(other));
            prop_assert!(rank(early) <= rank(late), "{} / {:?}", response, request);
        }
    }
}
