//! The keys of the edge's rules: one test of a real platform has them all.

/// As `keys::EFFECTIVE`: another value than the default, for each.
pub(crate) const EFFECTIVE: &[(&str, &str)] = &[
    ("edge.trusted_proxies", "[\"10.0.0.0/8\"]"),
    ("edge.proxy_protocol", "[\"10.0.0.0/8\"]"),
    ("edge.client_ip_header", "\"forwarded\""),
    ("edge.admin_hosts", "[\"intern.*\"]"),
    ("edge.allow_list", "[\"192.0.2.0/24\"]"),
    (
        "edge.access",
        "[{ name = \"office\", environments = [], hosts = [], paths = [\"/x\"], allow = [\"192.0.2.7/32\"] }]",
    ),
    (
        "edge.rate_rules",
        "[{ name = \"login\", environments = [\"staging\"], hosts = [], paths = [\"/login\"], methods = [\"POST\"], \
         characteristics = [\"ip\", \"cookie:sid\"], period_s = 60, requests = 9, burst = 3, action = \"delay\", \
         mitigation_timeout_s = 5, max_delay_ms = 100, max_clients = 2048 }]",
    ),
    ("edge.under_attack.requests_per_s", "3"),
    ("edge.under_attack.rate_divisor", "9"),
    ("edge.under_attack.header_timeout_ms", "900"),
    ("edge.under_attack.idle_timeout_ms", "900"),
    ("edge.under_attack.max_connections_per_client", "3"),
    ("edge.waf.mode", "\"detect\""),
    ("edge.waf.modes.development", "\"block\""),
    ("edge.waf.modes.preview", "\"block\""),
    ("edge.waf.modes.staging", "\"block\""),
    ("edge.waf.modes.production", "\"detect\""),
    ("edge.waf.paranoia_level", "2"),
    ("edge.waf.paranoia_levels.development", "3"),
    ("edge.waf.paranoia_levels.preview", "3"),
    ("edge.waf.paranoia_levels.staging", "3"),
    ("edge.waf.paranoia_levels.production", "3"),
    ("edge.waf.inbound_threshold", "7"),
    ("edge.waf.inbound_thresholds.development", "6"),
    ("edge.waf.inbound_thresholds.preview", "6"),
    ("edge.waf.inbound_thresholds.staging", "6"),
    ("edge.waf.inbound_thresholds.production", "6"),
    ("edge.waf.outbound_threshold", "8"),
    ("edge.waf.outbound_thresholds.development", "6"),
    ("edge.waf.outbound_thresholds.preview", "6"),
    ("edge.waf.outbound_thresholds.staging", "6"),
    ("edge.waf.outbound_thresholds.production", "6"),
    ("edge.waf.body_limit_bytes", "2048"),
    ("edge.waf.body_limits_bytes.development", "4096"),
    ("edge.waf.body_limits_bytes.preview", "4096"),
    ("edge.waf.body_limits_bytes.staging", "4096"),
    ("edge.waf.body_limits_bytes.production", "4096"),
    ("edge.waf.managed_rules", "false"),
    ("edge.waf.rules", "\"/srv/coreruleset\""),
    ("edge.waf.countries", "\"/srv/countries.mmdb\""),
    ("edge.waf.networks", "\"/srv/networks.mmdb\""),
    (
        "edge.waf.custom_rules",
        "[{ name = \"a\", expression = \"ssl\", action = \"exception\", skip = [], rules = [942100], tags = [\"x\"] }]",
    ),
    (
        "edge.waf.exceptions",
        "[{ rules = [942100], tags = [\"x\"], hosts = [\"a.*\"], paths = [\"/editor\"] }]",
    ),
    ("edge.lists.<name>.kind", "\"text\""),
    ("edge.lists.<name>.items", "[\"192.0.2.0/24\"]"),
    ("edge.lists.<name>.file", "\"security/office.txt\""),
    ("edge.compression", "[\"gzip\"]"),
    ("edge.compression_min_bytes", "100"),
    ("edge.headers.<name>", "\"DENY\""),
    (
        "edge.header_rules",
        "[{ environments = [], hosts = [], paths = [\"/x\"], remove = [\"server\"], set = { a = \"b\" }, add = {} }]",
    ),
    ("edge.error_pages.<name>", "\"/404.html\""),
];

/// The test that shows what they lead to.
pub(crate) const TEST: &str = "edge_rules::rules_and_switches_hold_on_a_platform";
