//! A request as a cache sees it.

use crate::directive::RequestDirectives;
use crate::settings::Settings;
use http::Method;
use http::header::{self, HeaderMap};

/// A request, its directives read once.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The method.
    pub method: &'a Method,
    /// The fields, as the client sent them.
    pub headers: &'a HeaderMap,
    /// What the client asks of caches.
    pub directives: RequestDirectives,
}

/// What to do with a request first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consult {
    /// Look for stored responses.
    Lookup,
    /// Send it on; its response is neither stored nor does it freshen any.
    PassOn(PassOn),
}

/// Why a request is none of the cache's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PassOn {
    /// Only GET and HEAD are understood. After it: [`invalidated`](crate::invalidated).
    Method,
    /// `If-Match` and `If-Unmodified-Since` are for the origin: a cache must not evaluate them (RFC 9111 section
    /// 4.3.2), and they come first (RFC 9110 section 13.2.2).
    OriginCondition,
    /// A field says that another method is meant, which many frameworks believe: what they answer is none to a GET.
    MethodOverride,
    /// A GET with content, which may mean something to this origin (RFC 9110 section 9.3.1) and is not in the key.
    Content,
}

/// By which frameworks let a form, or a client behind a firewall, say what it means.
const METHOD_OVERRIDES: [&str; 3] = ["x-http-method-override", "x-method-override", "x-http-method"];

impl<'a> Asked<'a> {
    /// Reads the directives of a request.
    pub fn new(method: &'a Method, headers: &'a HeaderMap, settings: &Settings) -> Self {
        let mut directives = RequestDirectives::of(headers);
        if !settings.request_directives {
            directives = RequestDirectives {
                no_store: directives.no_store,
                ..RequestDirectives::default()
            };
        }
        Self {
            method,
            headers,
            directives,
        }
    }

    /// Whether stored responses can answer it (RFC 9111 section 4).
    pub fn consult(&self) -> Consult {
        if !matches!(*self.method, Method::GET | Method::HEAD) {
            return Consult::PassOn(PassOn::Method);
        }
        let has = |name| self.headers.contains_key(name);
        if has(header::IF_MATCH) || has(header::IF_UNMODIFIED_SINCE) {
            return Consult::PassOn(PassOn::OriginCondition);
        }
        if METHOD_OVERRIDES
            .iter()
            .any(|name| self.headers.contains_key(*name))
        {
            return Consult::PassOn(PassOn::MethodOverride);
        }
        let length = self.headers.get(header::CONTENT_LENGTH);
        if has(header::TRANSFER_ENCODING)
            || length.is_some_and(|length| length.as_bytes().iter().any(|&digit| digit != b'0'))
        {
            return Consult::PassOn(PassOn::Content);
        }
        Consult::Lookup
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fields;

    #[test]
    fn who_is_looked_up() {
        for (method, lines, consult) in [
            ("GET", &[][..], Consult::Lookup),
            ("HEAD", &[("range", "bytes=0-1")], Consult::Lookup),
            (
                "GET",
                &[("content-length", "0"), ("if-none-match", "*")],
                Consult::Lookup,
            ),
            ("POST", &[], Consult::PassOn(PassOn::Method)),
            ("PURGE", &[], Consult::PassOn(PassOn::Method)),
            (
                "GET",
                &[("if-match", "*")],
                Consult::PassOn(PassOn::OriginCondition),
            ),
            (
                "GET",
                &[("if-unmodified-since", "x")],
                Consult::PassOn(PassOn::OriginCondition),
            ),
            (
                "GET",
                &[("x-http-method-override", "DELETE")],
                Consult::PassOn(PassOn::MethodOverride),
            ),
            (
                "GET",
                &[("content-length", "10")],
                Consult::PassOn(PassOn::Content),
            ),
            (
                "GET",
                &[("transfer-encoding", "chunked")],
                Consult::PassOn(PassOn::Content),
            ),
        ] {
            let (method, headers) = (Method::from_bytes(method.as_bytes()).unwrap(), fields(lines));
            assert_eq!(
                Asked::new(&method, &headers, &Settings::default()).consult(),
                consult,
                "{method} {lines:?}"
            );
        }
    }

    #[test]
    fn a_site_can_ignore_what_clients_ask() {
        let settings = Settings {
            request_directives: false,
            ..Settings::default()
        };
        let headers = fields(&[("cache-control", "no-cache, no-store, max-age=0")]);
        let directives = Asked::new(&Method::GET, &headers, &settings).directives;
        assert_eq!(
            directives,
            RequestDirectives {
                no_store: true,
                ..RequestDirectives::default()
            }
        );
    }
}
