//! What may be stored, and as what (RFC 9111 section 3).

use crate::directive::{ResponseDirectives, Restriction};
use crate::field::{self, Quotes};
use crate::fresh::{self, Source, Times};
use crate::request::{Asked, Consult};
use crate::settings::Settings;
use crate::vary::Variant;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
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

/// Why a response is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The request was not a GET that stored responses could have answered.
    Request,
    /// The client said `no-store` (RFC 9111 section 5.2.1.5).
    RequestNoStore,
    /// An informational response (RFC 9111 section 3).
    NotFinal,
    /// A 206, or content that ended early: parts are not stored (RFC 9111 section 3.3).
    Partial,
    /// A 304 is no representation; it freshens one.
    NotModified,
    /// `must-understand`, and we do not understand the status (RFC 9111 section 5.2.2.3).
    NotUnderstood,
    /// The origin said `no-store` (RFC 9111 section 5.2.2.5), or its `Cache-Control` cannot be read.
    NoStore,
    /// The origin said `private` (RFC 9111 section 5.2.2.7).
    Private,
    /// The request had `Authorization`, and the origin allowed nothing (RFC 9111 section 3.5).
    Authorization,
    /// Nothing says that it may be stored (RFC 9111 section 3, last item).
    NothingAllows,
    /// No request would ever match: `Vary: *` or a `Vary` that cannot be read (RFC 9111 section 4.1).
    Vary,
    /// It sets a cookie, and the origin did not say that it is for everybody ([`Settings::store_cookies`]).
    Cookie,
    /// It could never be used: neither fresh, nor usable when stale, nor with anything to validate it by.
    Useless,
}

impl Refusal {
    /// Whether it is for what the request said: then nothing speaks against what was stored before. Any other refusal
    /// of a new response means that an older one for the same request must go.
    pub fn is_of_request(self) -> bool {
        matches!(self, Self::Request | Self::RequestNoStore | Self::Authorization)
    }

    /// One word for `Cache-Status` and records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::RequestNoStore => "request-no-store",
            Self::NotFinal => "not-final",
            Self::Partial => "partial",
            Self::NotModified => "not-modified",
            Self::NotUnderstood => "not-understood",
            Self::NoStore => "no-store",
            Self::Private => "private",
            Self::Authorization => "authorization",
            Self::NothingAllows => "nothing-allows",
            Self::Vary => "vary",
            Self::Cookie => "set-cookie",
            Self::Useless => "useless",
        }
    }
}

/// Judges a response whose head has just arrived. What is admitted is to be stored once its content is
/// [`complete`](Stored::complete).
///
/// # Errors
///
/// The first reason not to store it.
pub fn admit(
    asked: &Asked<'_>,
    status: StatusCode,
    headers: &HeaderMap,
    times: Times,
    settings: &Settings,
) -> Result<Stored, Refusal> {
    // A HEAD has no content to store, and other methods are not understood (section 3, first item).
    if *asked.method != Method::GET || asked.consult() != Consult::Lookup {
        return Err(Refusal::Request);
    }
    let directives = ResponseDirectives::of(headers, &settings.targets);
    let variant = judge(asked, status, headers, &directives, settings)?;
    let stored = Stored::new(status, headers, &directives, variant, times, settings);
    if stored.is_useless() {
        Err(Refusal::Useless)
    } else {
        Ok(stored)
    }
}

/// RFC 9111 section 3, item by item, but for the method.
pub(crate) fn judge(
    asked: &Asked<'_>,
    status: StatusCode,
    headers: &HeaderMap,
    directives: &ResponseDirectives,
    settings: &Settings,
) -> Result<Variant, Refusal> {
    if asked.directives.no_store {
        return Err(Refusal::RequestNoStore);
    }
    match status.as_u16() {
        100..=199 => return Err(Refusal::NotFinal),
        206 => return Err(Refusal::Partial),
        304 => return Err(Refusal::NotModified),
        _ => {}
    }
    if directives.must_understand && !understood(status) {
        return Err(Refusal::NotUnderstood);
    }
    // Who understands `must-understand` and the status ignores the `no-store` beside it (section 5.2.2.3).
    if directives.no_store && !directives.must_understand {
        return Err(Refusal::NoStore);
    }
    if directives.private == Restriction::Response {
        return Err(Refusal::Private);
    }
    let shared = directives.public || directives.s_maxage.is_some();
    if asked.headers.contains_key(header::AUTHORIZATION) && !shared && !directives.must_revalidate {
        return Err(Refusal::Authorization);
    }
    let expires = !directives.targeted && headers.contains_key(header::EXPIRES);
    if !(shared || expires || directives.max_age.is_some() || fresh::heuristically_cacheable(status)) {
        return Err(Refusal::NothingAllows);
    }
    let listed = |name| {
        let (private, no_cache) = (directives.private.fields(), directives.no_cache.fields());
        private.contains(name) || no_cache.contains(name)
    };
    if headers.contains_key(header::SET_COOKIE)
        && !(settings.store_cookies || shared || directives.targeted || listed(&header::SET_COOKIE))
    {
        return Err(Refusal::Cookie);
    }
    Variant::of(headers, asked.headers).ok_or(Refusal::Vary)
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
        let used = !policy.always_validate
            && !(policy.lifetime.is_zero()
                && policy.stale_while_revalidate.is_zero()
                && policy.stale_if_error.is_zero());
        !used && !self.can_be_validated()
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
            && !matches!(name, header::CACHE_CONTROL | header::EXPIRES | header::VARY)
            && !settings.targets.contains(&name)
        {
            kept.remove(name);
        }
    }
    // Qualified `private` is not to be stored (section 5.2.2.7), qualified `no-cache` not to be used without validation
    // (section 5.2.2.4), which brings those fields anew.
    let restricted = directives
        .private
        .fields()
        .iter()
        .chain(directives.no_cache.fields());
    for name in NEVER_STORED.iter().chain(restricted) {
        kept.remove(name);
    }
    kept
}

/// The statuses whose rules for caches are known and followed (RFC 9111 section 3): those of RFC 9110, but for 206,
/// which is never stored, and 304.
fn understood(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200..=205 | 300..=303 | 305 | 307 | 308 | 400..=417 | 421 | 422 | 426 | 500..=505
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOW, after, at_once, date, fields, stored, try_store};

    const TAG: (&str, &str) = ("etag", "\"1\"");

    fn cached(value: &str) -> Vec<(&str, &str)> {
        vec![("cache-control", value), TAG]
    }

    #[test]
    fn what_is_stored_and_why_not() {
        let auth = &[("authorization", "x")][..];
        let (soon, past) = (date(60), date(-60));
        for (request, status, response, refusal) in [
            (&[][..], 200, cached("max-age=60"), None),
            (&[], 200, vec![TAG], None),
            (&[], 200, vec![("expires", soon.as_str())], None),
            (&[], 200, vec![("last-modified", past.as_str())], None),
            (&[], 200, vec![], Some(Refusal::Useless)),
            (
                &[],
                200,
                vec![("cache-control", "max-age=0")],
                Some(Refusal::Useless),
            ),
            (
                &[],
                200,
                vec![("cache-control", "max-age=0, stale-if-error=9")],
                None,
            ),
            (
                &[],
                200,
                vec![("cache-control", "max-age=60, no-cache")],
                Some(Refusal::Useless),
            ),
            (&[], 200, cached("no-cache"), None),
            (&[], 200, cached("no-store"), Some(Refusal::NoStore)),
            (&[], 200, cached("No-Store, max-age=60"), Some(Refusal::NoStore)),
            (&[], 200, cached("max-age=60, private"), Some(Refusal::Private)),
            (&[], 200, cached("public, private"), Some(Refusal::Private)),
            (&[], 200, cached("max-age=60, private=\"x-a\""), None),
            (
                &[("cache-control", "no-store")],
                200,
                cached("max-age=60"),
                Some(Refusal::RequestNoStore),
            ),
            (
                &[("if-match", "*")],
                200,
                cached("max-age=60"),
                Some(Refusal::Request),
            ),
            // Statuses.
            (&[], 103, cached("max-age=60"), Some(Refusal::NotFinal)),
            (&[], 206, cached("max-age=60"), Some(Refusal::Partial)),
            (&[], 304, cached("max-age=60"), Some(Refusal::NotModified)),
            (&[], 302, cached("x"), Some(Refusal::NothingAllows)),
            (&[], 302, cached("max-age=60"), None),
            (&[], 302, cached("public"), None),
            (&[], 302, cached("s-maxage=60"), None),
            (&[], 302, vec![("expires", soon.as_str())], None),
            (
                &[],
                302,
                vec![("expires", soon.as_str()), ("cdn-cache-control", "x"), TAG],
                Some(Refusal::NothingAllows),
            ),
            (&[], 500, cached("x"), Some(Refusal::NothingAllows)),
            (&[], 503, cached("max-age=60"), None),
            (&[], 404, cached("x"), None),
            (&[], 599, cached("max-age=60"), None),
            (
                &[],
                599,
                cached("max-age=60, must-understand"),
                Some(Refusal::NotUnderstood),
            ),
            (
                &[],
                599,
                cached("max-age=60, must-understand, no-store"),
                Some(Refusal::NotUnderstood),
            ),
            (&[], 200, cached("max-age=60, must-understand, no-store"), None),
            // Authorization.
            (auth, 200, cached("max-age=60"), Some(Refusal::Authorization)),
            (auth, 200, vec![TAG], Some(Refusal::Authorization)),
            (auth, 200, cached("max-age=60, must-revalidate"), None),
            (auth, 200, cached("max-age=60, public"), None),
            (auth, 200, cached("s-maxage=60"), None),
            (
                auth,
                200,
                cached("max-age=60, proxy-revalidate"),
                Some(Refusal::Authorization),
            ),
            // Vary and cookies.
            (
                &[],
                200,
                vec![("cache-control", "max-age=60"), ("vary", "a, *")],
                Some(Refusal::Vary),
            ),
            (
                &[],
                200,
                vec![("cache-control", "max-age=60"), ("set-cookie", "a=b")],
                Some(Refusal::Cookie),
            ),
            (
                &[],
                200,
                vec![("cache-control", "s-maxage=60"), ("set-cookie", "a=b")],
                None,
            ),
            (
                &[],
                200,
                vec![
                    ("cache-control", "max-age=60, private=set-cookie"),
                    ("set-cookie", "a=b"),
                ],
                None,
            ),
            // Targeted.
            (
                &[],
                200,
                vec![("cache-control", "no-store"), ("cdn-cache-control", "max-age=9")],
                None,
            ),
            (
                &[],
                200,
                vec![("cache-control", "max-age=9"), ("cdn-cache-control", "no-store")],
                Some(Refusal::NoStore),
            ),
            (
                &[],
                200,
                vec![("cache-control", "max-age=9"), ("cdn-cache-control", "no-store,")],
                None,
            ),
        ] {
            let found = try_store(request, status, &response, &Settings::default());
            assert_eq!(found.err(), refusal, "{status} {response:?} to {request:?}");
        }
    }

    #[test]
    fn only_gets_are_stored() {
        let (headers, settings) = (fields(&[]), Settings::default());
        for method in [Method::HEAD, Method::POST, Method::PUT, Method::OPTIONS] {
            let asked = Asked::new(&method, &headers, &settings);
            let response = fields(&cached("max-age=60, public"));
            let found = admit(&asked, StatusCode::OK, &response, at_once(), &settings);
            assert_eq!(found.err(), Some(Refusal::Request), "{method}");
        }
    }

    #[test]
    fn fields_of_connections_and_of_one_user_are_left_out() {
        let found = stored(&[
            (
                "cache-control",
                "max-age=60, private=\"x-user\", no-cache=\"x-once, set-cookie\"",
            ),
            ("connection", "close, x-hop, cache-control"),
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
        assert_eq!(names, ["cache-control", "date", "x-kept"]);
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
        assert_eq!(stored(&cached("max-age=60")).expires(&settings), None);
    }
}
