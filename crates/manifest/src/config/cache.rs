//! `[edge.cache]`.

use astraler_model::{CacheBounds, CacheQuery, CacheRules};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The edge's cache of what workers answer (RFC 9111). Sizes hold for the whole edge: production's count where it is
/// up, and then staging's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cache {
    /// Whether answers of workers are cached.
    pub enabled: bool,
    /// Space in memory; it is taken as responses come. 0 caches nothing.
    pub memory_bytes: u64,
    /// Space on disk, beside the platform's state. 0 keeps nothing there.
    pub disk_bytes: u64,
    /// A response with more content is passed on and not stored.
    #[schemars(range(min = 1024, max = 1_073_741_824))]
    pub max_object_bytes: u64,
    /// Paths that are never cached: exact, or all that begin alike with a `*` at the end.
    pub bypass: Vec<String>,
    /// A request with one of these cookies is passed on.
    pub bypass_cookies: Vec<String>,
    /// A request with one of these header fields is passed on.
    pub bypass_headers: Vec<String>,
    /// Parameters of the query that do not change the answer, as `utm_source`.
    pub ignore_query: Vec<String>,
    /// The only parameters of the query that change the answer; with an empty list none does. Counts before
    /// `ignore_query`.
    pub only_query: Option<Vec<String>>,
    /// Whether the order of the query's parameters is without meaning.
    pub sort_query: bool,
    /// Header fields of requests that change the answer, where `Vary` does not say so.
    pub key_headers: Vec<String>,
    /// Cookies that change the answer.
    pub key_cookies: Vec<String>,
    /// For how long 404, 405, 410, 414 and 501 are kept where the worker says nothing. 0: not at all.
    #[schemars(range(max = 86_400))]
    pub negative_ttl_s: u64,
    /// How long a response without any word on that stays fresh, in percent of the time since its `Last-Modified`.
    #[schemars(range(max = 100))]
    pub heuristic_percent: u32,
    /// For how long a stale response stands in while the worker does not answer at all, where the worker did not
    /// prohibit it.
    pub stale_if_unreachable_s: u64,
    /// Whether clients may ask for newer or older than what is fresh, by `Cache-Control` in requests.
    pub client_directives: bool,
    /// Whether a response with `Set-Cookie` is stored without the worker's word (`public`, `s-maxage`,
    /// `CDN-Cache-Control`) that it is for everybody.
    pub store_cookies: bool,
}

impl Default for Cache {
    fn default() -> Self {
        let (bounds, rules) = (CacheBounds::default(), CacheRules::default());
        Self {
            enabled: true,
            memory_bytes: bounds.memory_bytes,
            disk_bytes: bounds.disk_bytes,
            max_object_bytes: bounds.max_object_bytes,
            bypass: rules.bypass,
            bypass_cookies: rules.bypass_cookies,
            bypass_headers: rules.bypass_headers,
            ignore_query: Vec::new(),
            only_query: None,
            sort_query: rules.sort_query,
            key_headers: rules.key_headers,
            key_cookies: rules.key_cookies,
            negative_ttl_s: rules.negative_ttl_s,
            heuristic_percent: rules.heuristic_percent,
            stale_if_unreachable_s: rules.stale_if_unreachable_s,
            client_directives: rules.client_directives,
            store_cookies: rules.store_cookies,
        }
    }
}

impl Cache {
    /// As the edge takes it; `None` where nothing is cached.
    pub fn rules(&self) -> Option<CacheRules> {
        let query = match &self.only_query {
            Some(names) if names.is_empty() => CacheQuery::Nothing,
            Some(names) => CacheQuery::Only(names.clone()),
            None if self.ignore_query.is_empty() => CacheQuery::All,
            None => CacheQuery::Except(self.ignore_query.clone()),
        };
        self.enabled.then(|| CacheRules {
            bypass: self.bypass.clone(),
            bypass_cookies: self.bypass_cookies.clone(),
            bypass_headers: self.bypass_headers.clone(),
            query,
            sort_query: self.sort_query,
            key_headers: self.key_headers.clone(),
            key_cookies: self.key_cookies.clone(),
            negative_ttl_s: self.negative_ttl_s,
            heuristic_percent: self.heuristic_percent,
            stale_if_unreachable_s: self.stale_if_unreachable_s,
            client_directives: self.client_directives,
            store_cookies: self.store_cookies,
        })
    }

    /// How much it may hold.
    pub fn bounds(&self) -> CacheBounds {
        CacheBounds {
            memory_bytes: self.memory_bytes,
            disk_bytes: self.disk_bytes,
            max_object_bytes: self.max_object_bytes,
        }
    }
}
