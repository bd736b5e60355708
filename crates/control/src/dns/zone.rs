//! The zone that a manifest means. Pure.

use astraler_manifest::{Config, zone};
use astraler_model::{DnsName, DnsZone, Environment};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Everything but serial and key; aliases as they are written.
pub(super) fn zone(config: &Config, domain: &DnsName, listening: &[IpAddr]) -> DnsZone {
    let addresses = zone::addresses(&config.edge.dns, listening);
    zone::zone(&config.edge.dns, domain, hosts(config, domain), &addresses)
}

/// Names that lead to the platform: the hosts of the environments, every preview.
fn hosts(config: &Config, domain: &DnsName) -> BTreeSet<DnsName> {
    let mut hosts = BTreeSet::new();
    for environment in [
        Environment::Development,
        Environment::Staging,
        Environment::Production,
    ] {
        let usual = environment.domain_hosts(&config.domain);
        hosts.extend(
            usual
                .iter()
                .chain(config.hosts(environment))
                .filter_map(|host| host.parse().ok()),
        );
    }
    hosts.extend(domain.child(b"preview").and_then(|preview| preview.child(b"*")));
    for pattern in config.hosts(Environment::Preview(1)) {
        // The number is in the first label: all that it can be are one wildcard.
        let (label, rest) = pattern.split_once('.').unwrap_or((pattern, ""));
        let host = match label.contains("{number}") {
            true => format!("*.{rest}"),
            false => pattern.clone(),
        };
        hosts.extend(host.parse::<DnsName>().ok());
    }
    hosts
}

#[cfg(test)]
mod tests {
    fn zone(more: &str) -> Vec<String> {
        let text = format!("name = \"shop\"\ndomain = \"shop.example\"\n{more}");
        let config = astraler_manifest::parse("astraler.toml", &text).unwrap();
        let domain = config.domain.parse().unwrap();
        let listening = ["127.0.0.1".parse().unwrap(), "0.0.0.0".parse().unwrap()];
        let mut lines: Vec<String> = super::zone(&config, &domain, &listening)
            .records
            .iter()
            .map(ToString::to_string)
            .collect();
        lines.sort();
        lines
    }

    #[test]
    fn the_smallest_manifest_has_a_zone() {
        assert_eq!(
            zone(""),
            [
                "*.preview.shop.example. 300 IN A 127.0.0.1",
                "app.shop.example. 300 IN A 127.0.0.1",
                "ns1.shop.example. 300 IN A 127.0.0.1",
                "shop.example. 300 IN A 127.0.0.1",
                "shop.example. 300 IN CAA 0 issue \"letsencrypt.org\"",
                "shop.example. 300 IN NS ns1.shop.example.",
                "staging.shop.example. 300 IN A 127.0.0.1",
            ]
        );
    }

    #[test]
    fn what_the_manifest_says_takes_the_place_of_what_is_usual() {
        let lines = zone(
            "environments.production.hosts = [\"www.shop.example\", \"shop.other\"]\n\
             environments.preview.hosts = [\"pr-{number}.try.shop.example\"]\n\
             [edge.dns]\naddresses = [\"192.0.2.1\", \"2001:db8::1\"]\nttl_s = 60\ncaa_issuers = []\n\
             name_servers = [\"ns.elsewhere.example\", \"ns9.shop.example\"]\n\
             records = [\"@ ALIAS app\", \"staging CNAME app\", \"@ CAA 0 issue \\\"other.example\\\"\", \"app AAAA ::1\"]\n",
        );
        assert_eq!(
            lines,
            [
                "*.preview.shop.example. 60 IN A 192.0.2.1",
                "*.preview.shop.example. 60 IN AAAA 2001:db8::1",
                "*.try.shop.example. 60 IN A 192.0.2.1",
                "*.try.shop.example. 60 IN AAAA 2001:db8::1",
                "app.shop.example. 60 IN AAAA ::1",
                "ns9.shop.example. 60 IN A 192.0.2.1",
                "ns9.shop.example. 60 IN AAAA 2001:db8::1",
                "shop.example. 60 IN ALIAS app.shop.example.",
                "shop.example. 60 IN CAA 0 issue \"other.example\"",
                "shop.example. 60 IN NS ns.elsewhere.example.",
                "shop.example. 60 IN NS ns9.shop.example.",
                "staging.shop.example. 60 IN CNAME app.shop.example.",
                "www.shop.example. 60 IN A 192.0.2.1",
                "www.shop.example. 60 IN AAAA 2001:db8::1",
            ]
        );
    }
}
