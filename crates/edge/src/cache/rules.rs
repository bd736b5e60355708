//! A site's rules for the cache, ready to be asked.

use astraler_http_cache::{KeyRules, Query, Settings};
use astraler_model::{CacheQuery, CacheRules, Environment};
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName};
use std::sync::Arc;
use std::time::Duration;

/// For this cache only: Cloudflare's own field first, as there, and then that of all CDNs (RFC 9213 section 3). The
/// first is taken out of what clients get, the second is not: caches between us and them may be meant too.
pub(super) const OWN_TARGET: HeaderName = HeaderName::from_static("cloudflare-cdn-cache-control");
const CDN_TARGET: HeaderName = HeaderName::from_static("cdn-cache-control");

/// Errors that are cacheable by themselves (RFC 9110 section 15.1).
const NEGATIVE: [StatusCode; 5] = [
    StatusCode::NOT_FOUND,
    StatusCode::METHOD_NOT_ALLOWED,
    StatusCode::GONE,
    StatusCode::URI_TOO_LONG,
    StatusCode::NOT_IMPLEMENTED,
];

#[derive(Debug)]
pub(crate) struct Rules {
    pub(super) settings: Settings,
    pub(super) key: KeyRules,
    pub(super) environment: Environment,
    /// Responses of another deployment are not used before this one has confirmed them.
    pub(super) deployment: Arc<str>,
    bypass: Vec<Paths>,
    bypass_cookies: Vec<String>,
    bypass_headers: Vec<HeaderName>,
}

#[derive(Debug)]
enum Paths {
    Exactly(String),
    Below(String),
}

impl Rules {
    pub(crate) fn of(rules: &CacheRules, environment: Environment, deployment: &str) -> Self {
        let names = |names: &[String]| -> Vec<HeaderName> {
            names
                .iter()
                .filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok())
                .collect()
        };
        let negative = Duration::from_secs(rules.negative_ttl_s);
        Self {
            settings: Settings {
                targets: vec![OWN_TARGET, CDN_TARGET],
                heuristic_percent: rules.heuristic_percent,
                negative: if negative.is_zero() {
                    Vec::new()
                } else {
                    NEGATIVE.iter().map(|status| (*status, negative)).collect()
                },
                request_directives: rules.client_directives,
                stale_when_unreachable: Duration::from_secs(rules.stale_if_unreachable_s),
                store_cookies: rules.store_cookies,
                ..Settings::default()
            },
            key: KeyRules {
                query: match &rules.query {
                    CacheQuery::All => Query::All,
                    CacheQuery::Nothing => Query::Nothing,
                    CacheQuery::Only(names) => Query::Only(names.clone()),
                    CacheQuery::Except(names) => Query::Except(names.clone()),
                },
                sort_query: rules.sort_query,
                headers: names(&rules.key_headers),
                cookies: rules.key_cookies.clone(),
            },
            environment,
            deployment: deployment.into(),
            bypass: rules
                .bypass
                .iter()
                .map(|path| match path.strip_suffix('*') {
                    Some(prefix) => Paths::Below(prefix.to_owned()),
                    None => Paths::Exactly(path.clone()),
                })
                .collect(),
            bypass_cookies: rules.bypass_cookies.clone(),
            bypass_headers: names(&rules.bypass_headers),
        }
    }

    /// Whether the site says that a request is none of the cache's.
    pub(super) fn bypasses(&self, path: &str, headers: &HeaderMap) -> bool {
        self.bypass.iter().any(|paths| match paths {
            Paths::Exactly(exact) => path == exact,
            Paths::Below(prefix) => path.starts_with(prefix.as_str()),
        }) || self.bypass_headers.iter().any(|name| headers.contains_key(name))
            || !self.bypass_cookies.is_empty() && has_cookie(headers, &self.bypass_cookies)
    }
}

fn has_cookie(headers: &HeaderMap, wanted: &[String]) -> bool {
    headers
        .get_all(header::COOKIE)
        .iter()
        .flat_map(|line| line.as_bytes().split(|&byte| byte == b';'))
        .map(|pair| pair.split(|&byte| byte == b'=').next().unwrap_or_default())
        .any(|name| wanted.iter().any(|wanted| wanted.as_bytes() == name.trim_ascii()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_site_keeps_from_the_cache() {
        let rules = Rules::of(
            &CacheRules {
                bypass: vec!["/admin".into(), "/api/*".into()],
                bypass_cookies: vec!["session".into()],
                bypass_headers: vec!["x-draft".into()],
                ..CacheRules::default()
            },
            Environment::Staging,
            "dep-1",
        );
        let with = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            headers
        };
        let none = HeaderMap::new();
        for (path, headers, bypassed) in [
            ("/", &none, false),
            ("/admin", &none, true),
            ("/admin/x", &none, false),
            ("/api/x", &none, true),
            ("/api", &none, false),
            ("/", &with("cookie", "a=1; session=2"), true),
            ("/", &with("cookie", "a=session; xsession=2"), false),
            ("/", &with("x-draft", ""), true),
        ] {
            assert_eq!(rules.bypasses(path, headers), bypassed, "{path} {headers:?}");
        }
    }
}
