//! What the cache did, for whoever looks into it: `Cache-Status` (RFC 9211).

use crate::structured::is_token;
use http::StatusCode;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use std::fmt::{self, Write};

/// One member of `Cache-Status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheStatus<'a> {
    /// The name of this cache.
    pub cache: &'a str,
    /// What it did.
    pub outcome: Outcome,
    /// Seconds for which the response remains fresh, negative once it is stale (section 2.4).
    pub ttl: Option<i64>,
    /// The key, where it is told (section 2.7).
    pub key: Option<&'a str>,
    /// More, in our own words (section 2.8).
    pub detail: Option<&'a str>,
}

/// Answered from the cache, or not: never both (section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Section 2.1: without asking the origin.
    Hit,
    /// Section 2.2.
    Forwarded {
        /// Why.
        why: Forward,
        /// The origin's status, where that is not the one the client gets (section 2.3).
        status: Option<StatusCode>,
        /// Whether the answer was stored (section 2.5).
        stored: bool,
        /// Whether the request waited for another one's answer (section 2.6).
        collapsed: bool,
    },
}

/// Why a request went to the origin (section 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forward {
    /// The cache was told not to handle it.
    Bypass,
    /// Its method.
    Method,
    /// Nothing stored under its URI.
    UriMiss,
    /// Something stored, and no variant that it selects.
    VaryMiss,
    /// Nothing usable, for other reasons.
    Miss,
    /// What is stored is fresh, but the request asks for newer.
    Request,
    /// What is stored is stale.
    Stale,
    /// What is stored is but a part.
    Partial,
}

impl Forward {
    /// Its word in the field.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Miss => "miss",
            Self::Request => "request",
            Self::Stale => "stale",
            Self::Partial => "partial",
        }
    }
}

/// Integers of structured fields have at most 15 digits (RFC 9651 section 3.3.1).
const GREATEST: i64 = 999_999_999_999_999;

impl CacheStatus<'_> {
    /// Adds it to a response, behind the members of the caches nearer to the origin (section 2).
    pub fn append_to(&self, headers: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::try_from(self.text()) {
            headers.append(HeaderName::from_static("cache-status"), value);
        }
    }

    /// Every response has one, so it is put together without `fmt`.
    fn text(&self) -> String {
        let mut text = String::with_capacity(64);
        push_text(&mut text, self.cache);
        match self.outcome {
            Outcome::Hit => text.push_str("; hit"),
            Outcome::Forwarded {
                why,
                status,
                stored,
                collapsed,
            } => {
                text.push_str("; fwd=");
                text.push_str(why.name());
                if let Some(status) = status {
                    text.push_str("; fwd-status=");
                    text.push_str(status.as_str());
                }
                if stored {
                    text.push_str("; stored");
                }
                if collapsed {
                    text.push_str("; collapsed");
                }
            }
        }
        if let Some(ttl) = self.ttl {
            text.push_str("; ttl=");
            // A string takes whatever is written.
            let _ = write!(text, "{}", ttl.clamp(-GREATEST, GREATEST));
        }
        if let Some(key) = self.key {
            text.push_str("; key=");
            push_string(&mut text, key);
        }
        if let Some(detail) = self.detail {
            text.push_str("; detail=");
            push_text(&mut text, detail);
        }
        text
    }
}

impl fmt::Display for CacheStatus<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

/// A token where it is one, else a string.
fn push_text(to: &mut String, text: &str) {
    let mut bytes = text.bytes();
    let token = bytes
        .next()
        .is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'*')
        && bytes.all(is_token);
    if token {
        to.push_str(text);
    } else {
        push_string(to, text);
    }
}

/// RFC 9651 section 4.1.6; what a string cannot hold becomes a space.
fn push_string(to: &mut String, text: &str) {
    to.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => to.extend(['\\', c]),
            ' '..='~' => to.push(c),
            _ => to.push(' '),
        }
    }
    to.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::structured::{Value, dictionary};
    use proptest::prelude::*;

    const HIT: CacheStatus<'_> = CacheStatus {
        cache: "astraler",
        outcome: Outcome::Hit,
        ttl: None,
        key: None,
        detail: None,
    };

    #[test]
    fn texts() {
        let forwarded = |why, status, stored, collapsed| Outcome::Forwarded {
            why,
            status,
            stored,
            collapsed,
        };
        for (status, text) in [
            (HIT, "astraler; hit"),
            (
                CacheStatus {
                    ttl: Some(-30),
                    ..HIT
                },
                "astraler; hit; ttl=-30",
            ),
            (
                CacheStatus {
                    cache: "a cache",
                    ..HIT
                },
                "\"a cache\"; hit",
            ),
            (
                CacheStatus {
                    outcome: forwarded(Forward::UriMiss, None, true, false),
                    ttl: Some(60),
                    ..HIT
                },
                "astraler; fwd=uri-miss; stored; ttl=60",
            ),
            (
                CacheStatus {
                    outcome: forwarded(Forward::Stale, Some(StatusCode::NOT_MODIFIED), false, true),
                    key: Some("https://a/\nx: \"\u{fc}\\"),
                    detail: Some("no-store"),
                    ..HIT
                },
                "astraler; fwd=stale; fwd-status=304; collapsed; key=\"https://a/ x: \\\" \\\\\"; detail=no-store",
            ),
            (
                CacheStatus {
                    ttl: Some(i64::MIN),
                    ..HIT
                },
                "astraler; hit; ttl=-999999999999999",
            ),
        ] {
            assert_eq!(status.to_string(), text);
        }
        let mut headers = crate::testing::fields(&[("cache-status", "origin; hit")]);
        HIT.append_to(&mut headers);
        let lines: Vec<_> = headers.get_all("cache-status").iter().collect();
        assert_eq!(lines, ["origin; hit", "astraler; hit"]);
    }

    proptest! {
        /// Whatever it is made of, it is an item of structured fields.
        #[test]
        fn it_can_be_read(cache in "\\PC{0,10}", key in ".{0,20}", detail in "\\PC{0,10}", ttl in any::<i64>()) {
            let status = CacheStatus { cache: &cache, key: Some(&key), detail: Some(&detail), ttl: Some(ttl), ..HIT };
            let mut members = 0;
            let read = dictionary(format!("a={status}").as_bytes(), &mut |_, value| {
                members += 1;
                assert!(matches!(value, Value::Text(_)));
            });
            prop_assert_eq!((read, members), (Ok(()), 1));
        }
    }
}
