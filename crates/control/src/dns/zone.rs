//! The zone that a manifest means. Pure.

use astraler_manifest::Config;
use astraler_model::{DnsData, DnsName, DnsRecord, Environment};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Beside addresses: what makes another record at a name superfluous.
fn is_address(data: &DnsData) -> bool {
    matches!(
        data,
        DnsData::A(_) | DnsData::Aaaa(_) | DnsData::Cname(_) | DnsData::Alias(_)
    )
}

/// Where the world reaches the platform: as the manifest says, or where it listens.
pub(super) fn addresses(config: &Config, listening: &[IpAddr]) -> Vec<IpAddr> {
    match config.edge.dns.addresses.is_empty() {
        false => config.edge.dns.addresses.clone(),
        true => listening
            .iter()
            .copied()
            .filter(|address| !address.is_unspecified())
            .collect(),
    }
}

/// Names of the zone's servers.
pub(super) fn name_servers(config: &Config, domain: &DnsName) -> Vec<DnsName> {
    let named: Vec<DnsName> = config
        .edge
        .dns
        .name_servers
        .iter()
        .filter_map(|name| name.parse().ok())
        .collect();
    match named.is_empty() {
        false => named,
        true => domain.child(b"ns1").into_iter().collect(),
    }
}

/// Everything but the SOA record; aliases as they are written.
pub(super) fn records(config: &Config, domain: &DnsName, listening: &[IpAddr]) -> Vec<DnsRecord> {
    let dns = &config.edge.dns;
    let own = dns.records(domain);
    let addresses = addresses(config, listening);
    let mut records = Vec::new();
    let mut add = |name: &DnsName, data: DnsData| {
        records.push(DnsRecord {
            name: name.clone(),
            ttl_s: dns.ttl_s,
            data,
        });
    };
    let has = |name: &DnsName, of: &dyn Fn(&DnsData) -> bool| {
        own.iter().any(|record| record.name == *name && of(&record.data))
    };
    if !has(domain, &|data| matches!(data, DnsData::Ns(_))) {
        for server in name_servers(config, domain) {
            add(domain, DnsData::Ns(server));
        }
    }
    for name in hosts(config, domain) {
        if has(&name, &is_address) {
            continue;
        }
        for address in &addresses {
            add(&name, of_address(*address));
        }
    }
    if !has(domain, &|data| matches!(data, DnsData::Caa { .. })) {
        for issuer in &dns.caa_issuers {
            let value = issuer.as_bytes().into();
            let tag = "issue".to_owned();
            add(domain, DnsData::Caa { flags: 0, tag, value });
        }
    }
    records.extend(own);
    records
}

/// Names that lead to the platform: the apex, the hosts of the environments, every preview, the zone's own servers.
fn hosts(config: &Config, domain: &DnsName) -> BTreeSet<DnsName> {
    let mut hosts = BTreeSet::from([domain.clone()]);
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
    hosts.extend(name_servers(config, domain));
    hosts.retain(|host| host.is_at_or_below(domain));
    hosts
}

pub(super) fn of_address(address: IpAddr) -> DnsData {
    match address {
        IpAddr::V4(address) => DnsData::A(address),
        IpAddr::V6(address) => DnsData::Aaaa(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(more: &str) -> Vec<String> {
        let text = format!("name = \"shop\"\ndomain = \"shop.example\"\n{more}");
        let config = astraler_manifest::parse("astraler.toml", &text).unwrap();
        let domain = config.domain.parse().unwrap();
        let listening = ["127.0.0.1".parse().unwrap(), "0.0.0.0".parse().unwrap()];
        let mut lines: Vec<String> = records(&config, &domain, &listening)
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
