//! What may be stored (RFC 9111 section 3).

use crate::directive::{ResponseDirectives, Restriction};
use crate::fresh::{self, Times};
use crate::request::{Asked, Consult};
use crate::settings::Settings;
use crate::store::Stored;
use crate::vary::Variant;
use http::header::{self, HeaderMap};
use http::{Method, StatusCode};

/// Why a response is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The request was not a GET that stored responses could have answered.
    Request,
    /// The client said `no-store` (RFC 9111 section 5.2.1.5).
    RequestNoStore,
    /// An informational response (RFC 9111 section 3).
    NotFinal,
    /// Content that ended early, or a 206 (RFC 9111 section 3.3): see [`admit_part`](crate::admit_part).
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
    /// Whether it is for what the request said: then nothing speaks against what was stored before.
    pub(crate) fn is_of_request(self) -> bool {
        matches!(self, Self::Request | Self::RequestNoStore | Self::Authorization)
    }

    /// Whether an older response that the same request selects must go, now that a newer one is not stored: it does not
    /// hold any more (RFC 9111 section 4.3.3). A failure of the origin says nothing about it.
    pub fn voids_older(self, status: StatusCode) -> bool {
        let says_nothing = matches!(self, Self::NotFinal | Self::NotModified | Self::Partial);
        !(self.is_of_request() || says_nothing || status.is_server_error())
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
/// [`complete`](Stored::complete). The client that asked gets the response with the fields as they came.
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
    let listed = |name| directives.restricted().any(|restricted| restricted == name);
    if headers.contains_key(header::SET_COOKIE)
        && !(settings.store_cookies || shared || directives.targeted || listed(&header::SET_COOKIE))
    {
        return Err(Refusal::Cookie);
    }
    Variant::of(headers, asked.headers).ok_or(Refusal::Vary)
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
    use crate::testing::{at_once, date, fields, try_store};

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
    fn an_older_response_goes_when_the_origin_says_otherwise() {
        for (refusal, status, voids) in [
            (Refusal::NoStore, 200, true),
            (Refusal::Private, 404, true),
            (Refusal::NothingAllows, 302, true),
            (Refusal::NothingAllows, 500, false),
            (Refusal::NoStore, 503, false),
            (Refusal::RequestNoStore, 200, false),
            (Refusal::Authorization, 200, false),
            (Refusal::Partial, 206, false),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(refusal.voids_older(status), voids, "{refusal:?} {status}");
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
}
