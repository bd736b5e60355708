//! How old a response is, and for how long it is fresh (RFC 9111 section 4.2).

use crate::directive::ResponseDirectives;
use crate::field;
use crate::settings::Settings;
use http::StatusCode;
use http::header::{self, HeaderMap};
use std::time::{Duration, SystemTime};

/// When a response was asked for, and when its head arrived, by our clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// `request_time` of RFC 9111 section 4.2.3.
    pub requested: SystemTime,
    /// `response_time` of RFC 9111 section 4.2.3.
    pub received: SystemTime,
}

/// Where a lifetime comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// `s-maxage`.
    SharedMaxAge,
    /// `max-age`.
    MaxAge,
    /// `Expires`.
    Expires,
    /// A share of the time since `Last-Modified`.
    Heuristic,
    /// The operator's lifetime for errors.
    Negative,
    /// Nobody says anything: it is stale at once.
    Nothing,
}

impl Source {
    /// Whether the origin gave an expiration time, be it one that is past.
    pub fn is_explicit(self) -> bool {
        matches!(self, Self::SharedMaxAge | Self::MaxAge | Self::Expires)
    }
}

/// A clock may be set back by so much and we take it for no time at all.
const SMALL_STEP: Duration = Duration::from_secs(5);

/// `corrected_initial_age` (RFC 9111 section 4.2.3), from the response's `Age` and `Date`. Dates have whole seconds, so
/// the apparent age is counted in whole ones: a response from this very second has none.
pub(crate) fn initial_age(headers: &HeaderMap, times: Times) -> Duration {
    let apparent = field::date_of(headers, header::DATE)
        .and_then(|date| times.received.duration_since(date).ok())
        .map_or(Duration::ZERO, |age| Duration::from_secs(age.as_secs()));
    let delay = times.received.duration_since(times.requested).unwrap_or_default();
    let corrected = field::age(headers).unwrap_or_default().saturating_add(delay);
    apparent.max(corrected)
}

/// The `Age` that a response came with. What is passed on at once, or was just validated, carries this and no other: an
/// `Age` says that the origin did not answer this request (RFC 9111 section 5.1).
pub fn received_age(headers: &HeaderMap) -> Option<Duration> {
    field::age(headers)
}

/// `current_age` (RFC 9111 section 4.2.3). `None` where the clock was set back to before the response arrived: its age
/// cannot be known, and nothing may be called fresh.
pub(crate) fn current_age(initial: Duration, received: SystemTime, now: SystemTime) -> Option<Duration> {
    let resident = match now.duration_since(received) {
        Ok(resident) => resident,
        Err(back) if back.duration() <= SMALL_STEP => Duration::ZERO,
        Err(_) => return None,
    };
    Some(initial.saturating_add(resident))
}

/// `freshness_lifetime` (RFC 9111 section 4.2.1) for a shared cache, and what it was taken from.
pub(crate) fn lifetime(
    status: StatusCode,
    headers: &HeaderMap,
    directives: &ResponseDirectives,
    received: SystemTime,
    settings: &Settings,
) -> (Duration, Source) {
    if let Some(age) = directives.s_maxage {
        return (age, Source::SharedMaxAge);
    }
    if let Some(age) = directives.max_age {
        return (age, Source::MaxAge);
    }
    let date = field::date_of(headers, header::DATE).unwrap_or(received);
    if !directives.targeted && headers.contains_key(header::EXPIRES) {
        // What cannot be read, above all "0", is in the past (section 5.3).
        let expires = field::date_of(headers, header::EXPIRES);
        let left = expires.and_then(|expires| expires.duration_since(date).ok());
        return (left.unwrap_or_default(), Source::Expires);
    }
    if !(heuristically_cacheable(status) || directives.public) {
        return (Duration::ZERO, Source::Nothing);
    }
    if let Some(lifetime) = heuristic(headers, date, settings) {
        return (lifetime, Source::Heuristic);
    }
    let negative = (status.is_client_error() || status.is_server_error()) && heuristically_cacheable(status);
    settings
        .negative
        .iter()
        .find(|(of, _)| negative && *of == status)
        .map_or((Duration::ZERO, Source::Nothing), |(_, lifetime)| {
            (*lifetime, Source::Negative)
        })
}

/// RFC 9111 section 4.2.2.
fn heuristic(headers: &HeaderMap, date: SystemTime, settings: &Settings) -> Option<Duration> {
    let modified = field::date_of(headers, header::LAST_MODIFIED)?;
    let unchanged = date.duration_since(modified).ok()?;
    let share = unchanged
        .as_secs()
        .saturating_mul(settings.heuristic_percent.into())
        / 100;
    Some(Duration::from_secs(share).min(settings.heuristic_max))
}

/// RFC 9110 section 15.1.
pub(crate) fn heuristically_cacheable(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200 | 203 | 204 | 206 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOW, after, date, epoch, fields};
    use proptest::prelude::*;

    fn lifetime_of(status: u16, lines: &[(&str, &str)], settings: &Settings) -> (u64, Source) {
        let headers = fields(lines);
        let directives = ResponseDirectives::of(&headers, &settings.targets);
        let status = StatusCode::from_u16(status).unwrap();
        let (lifetime, source) = lifetime(status, &headers, &directives, epoch(), settings);
        (lifetime.as_secs(), source)
    }

    #[test]
    fn lifetimes() {
        let settings = Settings {
            negative: vec![
                (StatusCode::NOT_FOUND, Duration::from_secs(7)),
                (StatusCode::BAD_GATEWAY, Duration::from_secs(7)),
            ],
            ..Settings::default()
        };
        let (soon, past, month) = (date(30), date(-30), date(-30 * 86_400));
        for (status, lines, expected) in [
            (
                200,
                &[("cache-control", "s-maxage=9, max-age=1")][..],
                (9, Source::SharedMaxAge),
            ),
            (
                200,
                &[("cache-control", "max-age=5"), ("expires", &soon)],
                (5, Source::MaxAge),
            ),
            (200, &[("expires", &soon)], (30, Source::Expires)),
            (200, &[("expires", &soon), ("date", &past)], (60, Source::Expires)),
            (200, &[("expires", &past)], (0, Source::Expires)),
            (
                200,
                &[("expires", "0"), ("last-modified", &month)],
                (0, Source::Expires),
            ),
            (
                200,
                &[("cdn-cache-control", "public"), ("expires", &soon)],
                (0, Source::Nothing),
            ),
            (200, &[("last-modified", &month)], (86_400, Source::Heuristic)),
            (
                200,
                &[("last-modified", &past), ("date", NOW)],
                (3, Source::Heuristic),
            ),
            (200, &[("last-modified", &soon)], (0, Source::Nothing)),
            (302, &[("last-modified", &month)], (0, Source::Nothing)),
            (
                302,
                &[("last-modified", &past), ("cache-control", "public")],
                (3, Source::Heuristic),
            ),
            (404, &[], (7, Source::Negative)),
            (404, &[("cache-control", "max-age=1")], (1, Source::MaxAge)),
            (502, &[], (0, Source::Nothing)),
            (410, &[], (0, Source::Nothing)),
        ] {
            assert_eq!(
                lifetime_of(status, lines, &settings),
                expected,
                "{status} {lines:?}"
            );
        }
    }

    #[test]
    fn ages() {
        let past = date(-30);
        let future = date(30);
        for (lines, delay, age) in [
            (&[][..], 0, 0),
            (&[("age", "10")][..], 2, 12),
            (&[("age", "10, 90")], 0, 10),
            (&[("age", "10"), ("age", "90")], 0, 10),
            (&[("age", "-10")], 0, 0),
            (&[("age", "x"), ("date", &past)], 0, 30),
            (&[("age", "10"), ("date", &past)], 0, 30),
            (&[("age", "40"), ("date", &past)], 1, 41),
            (&[("date", &future)], 0, 0),
            (&[("age", "99999999999999999999")], 0, 1 << 31),
        ] {
            let times = Times {
                requested: epoch() - Duration::from_secs(delay),
                received: epoch(),
            };
            assert_eq!(
                initial_age(&fields(lines), times),
                Duration::from_secs(age),
                "{lines:?}"
            );
        }
    }

    #[test]
    fn clocks_jump() {
        let initial = Duration::from_secs(7);
        let age = |now| current_age(initial, epoch(), now).map(|age| age.as_secs());
        assert_eq!(age(after(3)), Some(10));
        assert_eq!(age(epoch() - Duration::from_secs(4)), Some(7));
        assert_eq!(age(epoch() - Duration::from_secs(6)), None);
        assert_eq!(age(SystemTime::UNIX_EPOCH), None);
        // The request "left" after its response came: no negative delay.
        let times = Times {
            requested: after(100),
            received: epoch(),
        };
        assert_eq!(initial_age(&fields(&[]), times), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn age_grows_with_time(initial in 0_u64..1 << 40, one in 0_u64..1 << 33, other in 0_u64..1 << 33) {
            let age = |now| current_age(Duration::from_secs(initial), epoch(), after(now));
            prop_assert_eq!(one <= other, age(one) <= age(other));
        }
    }
}
