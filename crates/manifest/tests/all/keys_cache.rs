//! The keys of the edge's cache: one test of a real platform has them all.

/// As `keys::EFFECTIVE`: another value than the default, for each.
pub(crate) const EFFECTIVE: &[(&str, &str)] = &[
    ("edge.cache.enabled", "false"),
    ("edge.cache.memory_bytes", "1000000"),
    ("edge.cache.disk_bytes", "1000000"),
    ("edge.cache.max_object_bytes", "4096"),
    ("edge.cache.bypass", "[\"/x\"]"),
    ("edge.cache.bypass_cookies", "[\"x\"]"),
    ("edge.cache.bypass_headers", "[\"x\"]"),
    ("edge.cache.ignore_query", "[\"x\"]"),
    ("edge.cache.only_query", "[\"x\"]"),
    ("edge.cache.sort_query", "true"),
    ("edge.cache.key_headers", "[\"x\"]"),
    ("edge.cache.key_cookies", "[\"x\"]"),
    ("edge.cache.negative_ttl_s", "5"),
    ("edge.cache.heuristic_percent", "5"),
    ("edge.cache.stale_if_unreachable_s", "5"),
    ("edge.cache.client_directives", "false"),
    ("edge.cache.store_cookies", "true"),
];

/// That test.
pub(crate) const TEST: &str = "keys::the_edge_gets_every_limit";
