//! What is stored: a response without its content, and what follows for its use (RFC 9111 section 3.1).

use crate::admit::Refusal;
use crate::directive::{ResponseDirectives, Restriction};
use crate::field::{self, Quotes};
use crate::fresh::{self, Source, Times};
use crate::settings::Settings;
use crate::vary::Variant;
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use std::time::{Duration, SystemTime};

/// A stored response, all but its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its status.
    pub status: StatusCode,
    /// Its fields as they are stored: without `Age`, those of the connection, and those that are for one user only. There
    /// is always a `Date`.
    pub headers: HeaderMap,
    /// Which requests it answers.
    pub variant: Variant,
    /// When its head arrived or it was last validated.
    pub received: SystemTime,
    /// Its age at that time.
    pub initial_age: Duration,
    /// Bytes of content; `None` until [`complete`](Self::complete) said that all have arrived. Only what is complete is
    /// kept (RFC 9111 section 3.3).
    pub length: Option<u64>,
    /// Something spoke against it: a HEAD that did not fit (RFC 9111 section 4.3.5) or a soft purge. It is used only
    /// after validation.
    pub contradicted: bool,
    /// What follows from all of these, worked out once.
    pub policy: Policy,
}

/// When a stored response may be used. Derived: storage can leave it out and call [`Stored::restore`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Its `Date`.
    pub date: SystemTime,
    /// For how long it is fresh, from its origin on.
    pub lifetime: Duration,
    /// Where that comes from.
    pub source: Source,
    /// `no-cache`: never without validation (RFC 9111 section 5.2.2.4).
    pub always_validate: bool,
    /// Whether it may be used once it is stale.
    pub once_stale: OnceStale,
    /// RFC 5861 section 3.
    pub stale_while_revalidate: Duration,
    /// RFC 5861 section 4.
    pub stale_if_error: Duration,
}

/// Whether the origin prohibits the use of what is stale (RFC 9111 section 4.2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnceStale {
    /// It does not.
    Usable,
    /// By `s-maxage`, which implies `proxy-revalidate` (section 5.2.2.10).
    ImpliedNever,
    /// By `must-revalidate`, `proxy-revalidate` or `no-cache`.
    Never,
}

impl Stored {
    pub(crate) fn new(
        status: StatusCode,
        headers: &HeaderMap,
        directives: &ResponseDirectives,
        variant: Variant,
        times: Times,
        settings: &Settings,
    ) -> Self {
        let mut kept = storable_fields(headers, directives, settings);
        // A cache with a clock records when a response without a date arrived (RFC 9110 section 6.6.1).
        if field::date_of(&kept, header::DATE).is_none()
            && let Ok(date) = HeaderValue::try_from(httpdate::fmt_http_date(times.received))
        {
            kept.insert(header::DATE, date);
        }
        Self {
            status,
            variant,
            received: times.received,
            initial_age: fresh::initial_age(headers, times),
            length: None,
            contradicted: false,
            policy: Policy::of(status, &kept, directives, times.received, settings),
            headers: kept,
        }
    }

    /// A response as storage kept it; its policy is worked out anew, so that changed settings count.
    pub fn restore(
        status: StatusCode,
        headers: HeaderMap,
        variant: Variant,
        received: SystemTime,
        initial_age: Duration,
        length: u64,
        settings: &Settings,
    ) -> Self {
        let directives = ResponseDirectives::of(&headers, &settings.targets);
        Self {
            status,
            variant,
            received,
            initial_age,
            length: Some(length),
            contradicted: false,
            policy: Policy::of(status, &headers, &directives, received, settings),
            headers,
        }
    }

    /// Its content has ended, in the way that its framing says, after `length` bytes.
    ///
    /// # Errors
    ///
    /// [`Refusal::Partial`] where `Content-Length` says something else (RFC 9111 section 3.3).
    pub fn complete(mut self, length: u64) -> Result<Self, Refusal> {
        if self.headers.contains_key(header::CONTENT_LENGTH) && self.content_length() != Some(length) {
            return Err(Refusal::Partial);
        }
        self.length = Some(length);
        Ok(self)
    }

    /// Its age (RFC 9111 section 4.2.3); `None` where the clock was set back so far that nobody knows.
    pub fn age(&self, now: SystemTime) -> Option<Duration> {
        fresh::current_age(self.initial_age, self.received, now)
    }

    /// Its entity tag.
    pub fn etag(&self) -> Option<&HeaderValue> {
        self.headers.get(header::ETAG)
    }

    /// Its `Last-Modified`, where that is a date.
    pub fn last_modified(&self) -> Option<SystemTime> {
        field::date_of(&self.headers, header::LAST_MODIFIED)
    }

    pub(crate) fn content_length(&self) -> Option<u64> {
        self.headers
            .get(header::CONTENT_LENGTH)?
            .to_str()
            .ok()?
            .trim()
            .parse()
            .ok()
    }

    /// After which time it may be dropped: nothing allows its use any more, and there is nothing to validate it by.
    /// `None` for one with a validator, which is always of use.
    pub fn expires(&self, settings: &Settings) -> Option<SystemTime> {
        if self.can_be_validated() {
            return None;
        }
        let unreachable = match self.policy.once_stale {
            OnceStale::Usable => settings.stale_when_unreachable,
            OnceStale::ImpliedNever | OnceStale::Never => Duration::ZERO,
        };
        let stale = self
            .policy
            .stale_while_revalidate
            .max(self.policy.stale_if_error)
            .max(unreachable);
        let left = self
            .policy
            .lifetime
            .saturating_add(stale)
            .saturating_sub(self.initial_age);
        self.received.checked_add(left)
    }

    pub(crate) fn can_be_validated(&self) -> bool {
        self.etag().is_some() || self.last_modified().is_some()
    }

    pub(crate) fn is_useless(&self) -> bool {
        let policy = &self.policy;
        let unused = policy.always_validate
            || policy.lifetime.is_zero()
                && policy.stale_while_revalidate.is_zero()
                && policy.stale_if_error.is_zero();
        unused && !self.can_be_validated()
    }
}

impl Policy {
    fn of(
        status: StatusCode,
        headers: &HeaderMap,
        directives: &ResponseDirectives,
        received: SystemTime,
        settings: &Settings,
    ) -> Self {
        let (lifetime, source) = fresh::lifetime(status, headers, directives, received, settings);
        let always_validate = directives.no_cache == Restriction::Response;
        let once_stale = if always_validate || directives.must_revalidate || directives.proxy_revalidate {
            OnceStale::Never
        } else if directives.s_maxage.is_some() {
            OnceStale::ImpliedNever
        } else {
            OnceStale::Usable
        };
        // What is prohibited is not there, so that nobody has to ask twice.
        let unless_prohibited = |granted: Option<Duration>| match once_stale {
            OnceStale::Never => Duration::ZERO,
            OnceStale::ImpliedNever if settings.implied_revalidation => Duration::ZERO,
            OnceStale::ImpliedNever | OnceStale::Usable => granted.unwrap_or_default(),
        };
        Self {
            date: field::date_of(headers, header::DATE).unwrap_or(received),
            lifetime,
            source,
            always_validate,
            once_stale,
            stale_while_revalidate: unless_prohibited(directives.stale_while_revalidate),
            stale_if_error: unless_prohibited(directives.stale_if_error),
        }
    }
}

/// Fields that are never stored: those of a connection or of a proxy (RFC 9111 section 3.1, RFC 9110 section 7.6.1),
/// `Trailer` because trailers are not stored, and `Age`, which is counted on from the initial age.
const NEVER_STORED: [HeaderName; 11] = [
    header::AGE,
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-authentication-info"),
    HeaderName::from_static("proxy-connection"),
];

fn storable_fields(headers: &HeaderMap, directives: &ResponseDirectives, settings: &Settings) -> HeaderMap {
    let mut kept = headers.clone();
    for name in field::list(headers, header::CONNECTION, Quotes::Escaped) {
        // `Connection` must not name a field that is for all recipients (RFC 9110 section 7.6.1): without these, more
        // would be allowed than the origin allows.
        if let Ok(name) = HeaderName::from_bytes(name)
            && !matches!(
                name,
                header::CACHE_CONTROL | header::DATE | header::EXPIRES | header::VARY
            )
            && !settings.targets.contains(&name)
        {
            kept.remove(name);
        }
    }
    // Qualified `private` is not to be stored (section 5.2.2.7), qualified `no-cache` not to be used without validation
    // (section 5.2.2.4), which brings those fields anew.
    for name in NEVER_STORED.iter().chain(directives.restricted()) {
        kept.remove(name);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOW, after, stored};

    #[test]
    fn fields_of_connections_and_of_one_user_are_left_out() {
        let found = stored(&[
            (
                "cache-control",
                "max-age=60, private=\"x-user\", no-cache=\"x-once, set-cookie\"",
            ),
            ("connection", "close, x-hop, cache-control, cdn-cache-control"),
            ("cdn-cache-control", "no-cache=\"x-cdn\","),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("proxy-authenticate", "x"),
            ("trailer", "x-end"),
            ("age", "3"),
            ("x-hop", "1"),
            ("x-user", "1"),
            ("x-once", "1"),
            ("set-cookie", "a=b"),
            ("x-kept", "1"),
            ("x-kept", "2"),
            ("date", "not a date"),
        ]);
        let mut names: Vec<_> = found.headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["cache-control", "cdn-cache-control", "date", "x-kept"]);
        assert_eq!(found.headers.get_all("x-kept").iter().count(), 2);
        assert_eq!(found.headers[header::DATE], NOW);
        assert_eq!(found.initial_age, Duration::from_secs(3));
    }

    #[test]
    fn content_that_ended_early_is_not_stored() {
        let with = |length| stored(&[("cache-control", "max-age=60"), ("content-length", length)]);
        assert_eq!(with("10").complete(10).unwrap().length, Some(10));
        assert_eq!(with("10").complete(9), Err(Refusal::Partial));
        assert_eq!(with("x").complete(9), Err(Refusal::Partial));
        assert!(stored(&[("cache-control", "max-age=60")]).complete(9).is_ok());
    }

    #[test]
    fn storage_brings_back_the_same_policy() {
        let one = stored(&[
            ("cache-control", "max-age=60, stale-if-error=5, x=\",\""),
            ("vary", "a"),
        ]);
        let one = one.complete(3).unwrap();
        let again = Stored::restore(
            one.status,
            one.headers.clone(),
            one.variant.clone(),
            one.received,
            one.initial_age,
            3,
            &Settings::default(),
        );
        assert_eq!(again, one);
    }

    #[test]
    fn what_can_be_dropped_when() {
        let settings = Settings {
            stale_when_unreachable: Duration::from_secs(9),
            ..Settings::default()
        };
        for (value, expires) in [
            ("max-age=60", 69),
            ("max-age=60, stale-if-error=20", 80),
            ("max-age=60, must-revalidate", 60),
            ("s-maxage=60, stale-while-revalidate=15", 75),
        ] {
            let found = stored(&[("cache-control", value)]);
            assert_eq!(found.expires(&settings), Some(after(expires)), "{value}");
        }
        assert_eq!(
            stored(&[("cache-control", "max-age=60"), ("etag", "\"1\"")]).expires(&settings),
            None
        );
    }
}
