//! The keys of `[edge.dns]`: one test of a real platform has them all.

/// As `keys::EFFECTIVE`: another value than the default, for each.
pub(crate) const EFFECTIVE: &[(&str, &str)] = &[
    ("edge.dns.dnssec", "false"),
    ("edge.dns.addresses", "[\"192.0.2.1\"]"),
    ("edge.dns.name_servers", "[\"ns1.example.net\"]"),
    ("edge.dns.contact", "\"jo@shop.example\""),
    ("edge.dns.negative_ttl_s", "60"),
    ("edge.dns.records", "[\"www CNAME app\"]"),
    ("edge.dns.caa_issuers", "[]"),
    ("edge.dns.resolver", "\"127.0.0.1:5300\""),
    (
        "edge.dns.secondaries",
        "[{ key_name = \"ns2.example.net\", key_secret = \"KEY\", notify = [\"192.0.2.53:53\"] }]",
    ),
    ("edge.dns.response_rate_per_s", "5"),
    ("edge.dns.rate_exempt", "[\"192.0.2.0/24\"]"),
    ("edge.dns.port", "3054"),
    ("edge.dns.ttl_s", "60"),
];

/// The test that shows what they lead to.
pub(crate) const TEST: &str = "dns::the_zone_is_as_the_manifest_says";
