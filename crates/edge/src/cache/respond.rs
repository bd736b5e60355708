//! From what is stored to an answer, and what it says of the cache: `Age`, `Cache-Status` (RFC 9211) and, for those who
//! come from Cloudflare, `CF-Cache-Status`.

use super::entry::{CACHE_TAG, Entry};
use super::pump::Fill;
use super::rules::OWN_TARGET;
use crate::body::{self, Body};
use astraler_http_cache::{Answer, Asked, CacheStatus, Forward, Outcome, Stored, answer, head};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode};
use std::time::Duration;

/// The name of this cache in `Cache-Status`.
const NAME: &str = "Astraler";
const CF_CACHE_STATUS: HeaderName = HeaderName::from_static("cf-cache-status");

/// What the cache did, in one word: Cloudflare's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    /// Answered from the cache.
    Hit,
    /// Nothing was stored for this request.
    Miss,
    /// What was stored was too old; the worker's new answer.
    Expired,
    /// Too old, but the worker gave no answer.
    Stale,
    /// Too old, and being renewed behind the client's back.
    Updating,
    /// Too old, but it still holds: the worker said so.
    Revalidated,
    /// The site, the request or the answer said that it is not for the cache.
    Bypass,
    /// Nothing said that it may be stored.
    Dynamic,
}

impl Word {
    pub(crate) fn record(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Expired => "expired",
            Self::Stale => "stale",
            Self::Updating => "updating",
            Self::Revalidated => "revalidated",
            Self::Bypass => "bypass",
            Self::Dynamic => "dynamic",
        }
    }

    fn header(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Hit => "HIT",
            Self::Miss => "MISS",
            Self::Expired => "EXPIRED",
            Self::Stale => "STALE",
            Self::Updating => "UPDATING",
            Self::Revalidated => "REVALIDATED",
            Self::Bypass => "BYPASS",
            Self::Dynamic => "DYNAMIC",
        })
    }
}

/// What is told of one answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told {
    pub(super) word: Word,
    pub(super) outcome: Outcome,
    pub(super) ttl: Option<i64>,
    pub(super) detail: Option<&'static str>,
}

impl Told {
    pub(super) fn hit(word: Word, ttl: i64) -> Self {
        Self {
            word,
            outcome: Outcome::Hit,
            ttl: Some(ttl),
            detail: None,
        }
    }

    /// Passed on, not stored.
    pub(super) fn forwarded(word: Word, why: Forward, detail: Option<&'static str>) -> Self {
        Self {
            word,
            outcome: Outcome::Forwarded {
                why,
                status: None,
                stored: false,
                collapsed: false,
            },
            ttl: None,
            detail,
        }
    }

    /// Writes it, and takes out what is for caches only.
    pub(super) fn write(self, headers: &mut HeaderMap) {
        headers.remove(&CACHE_TAG);
        headers.remove(&OWN_TARGET);
        headers.insert(CF_CACHE_STATUS, self.word.header());
        let status = CacheStatus {
            cache: NAME,
            outcome: self.outcome,
            ttl: self.ttl,
            key: None,
            detail: self.detail,
        };
        status.append_to(headers);
    }
}

/// From a stored response that can answer this request.
pub(super) fn from_entry(
    asked: &Asked<'_>,
    entry: &Entry,
    age: Option<Duration>,
    told: Told,
) -> Response<Body> {
    let answer = answer(asked, &entry.stored);
    let content = match answer {
        _ if *asked.method == Method::HEAD => None,
        Answer::Whole => Some(entry.body.clone()),
        Answer::Part { first, last } => entry.part(first, last),
        Answer::Unsatisfiable | Answer::NotModified => None,
    };
    let body = content.map_or_else(body::empty, body::full);
    respond(answer, &entry.stored, age, body, told)
}

/// From one whose content is on its way; `None` when its beginning is gone. `first`: the head as it came, for the client
/// whose request brought it.
pub(super) fn from_fill(
    asked: &Asked<'_>,
    fill: &Fill,
    first: Option<(StatusCode, HeaderMap)>,
    age: Option<Duration>,
    told: Told,
) -> Option<Response<Body>> {
    let length = fill.length;
    let stored = match length {
        // Known in advance, it can be cut.
        Some(length) => &Stored {
            length: Some(length),
            ..fill.stored.clone()
        },
        None => &fill.stored,
    };
    let answer = answer(asked, stored);
    let body = match answer {
        _ if *asked.method == Method::HEAD => body::empty(),
        Answer::Whole => Body::new(fill.filling.reader(0, u64::MAX, length)?),
        Answer::Part { first, last } => Body::new(fill.filling.reader(first, last - first + 1, length)?),
        Answer::Unsatisfiable | Answer::NotModified => body::empty(),
    };
    if let (Answer::Whole, Some((status, headers))) = (answer, first) {
        let mut response = Response::new(body);
        (*response.status_mut(), *response.headers_mut()) = (status, headers);
        told.write(response.headers_mut());
        return Some(response);
    }
    Some(respond(answer, stored, age, body, told))
}

fn respond(answer: Answer, stored: &Stored, age: Option<Duration>, body: Body, told: Told) -> Response<Body> {
    let (status, headers) = head(answer, stored, age);
    let mut response = Response::new(body);
    (*response.status_mut(), *response.headers_mut()) = (status, headers);
    told.write(response.headers_mut());
    response
}
