//! What an operator chooses, where the RFCs leave a choice.

use http::StatusCode;
use http::header::HeaderName;
use std::time::Duration;

/// Choices that hold for all requests of a site. The defaults follow RFC 9111 to the letter but for
/// [`implied_revalidation`](Self::implied_revalidation).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The target list, most specific field first (RFC 9213 section 2.2).
    pub targets: Vec<HeaderName>,
    /// Freshness where the origin says nothing, in percent of the time since `Last-Modified` (RFC 9111 section 4.2.2).
    pub heuristic_percent: u32,
    /// Never longer than this.
    pub heuristic_max: Duration,
    /// Negative caching: freshness for statuses where the origin says nothing and there is no heuristic. Only statuses
    /// that are cacheable by themselves (RFC 9110 section 15.1) and that are errors are looked up.
    pub negative: Vec<(StatusCode, Duration)>,
    /// Whether clients may ask for less or more than what is fresh. The directives of requests are advisory (RFC 9111
    /// section 5.2.1); a site under attack ignores them. `no-store` is heeded in any case.
    pub request_directives: bool,
    /// For how long a stale response may stand in while the origin gives no answer at all, where nothing prohibits it
    /// (RFC 9111 section 4.2.4: a cache that is disconnected).
    pub stale_when_unreachable: Duration,
    /// Whether the `proxy-revalidate` that `s-maxage` implies (RFC 9111 section 5.2.2.10) also cancels
    /// `stale-while-revalidate` and `stale-if-error` of the same response. By the letter it does; but origins that send
    /// `s-maxage=1, stale-while-revalidate=59` (many frameworks do) mean both, so the default is that what they wrote
    /// outweighs what is implied. Clients' `max-stale` and our own settings never do.
    pub implied_revalidation: bool,
    /// Whether a response with `Set-Cookie` is stored even where the origin did not say by `public`, `s-maxage` or a
    /// targeted field that it is for everybody. RFC 9111 section 7.3 would allow it.
    pub store_cookies: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            targets: vec![HeaderName::from_static("cdn-cache-control")],
            heuristic_percent: 10,
            heuristic_max: Duration::from_secs(24 * 3600),
            negative: Vec::new(),
            request_directives: true,
            stale_when_unreachable: Duration::from_secs(3600),
            implied_revalidation: false,
            store_cookies: false,
        }
    }
}
