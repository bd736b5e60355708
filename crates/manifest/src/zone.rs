//! The zone that `[edge.dns]` means, from the names that lead here. Pure.

use crate::config::Dns;
use crate::dns::mailbox;
use astraler_model::{DnsData, DnsName, DnsRecord, DnsZone, ResponseRate};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The zone of `domain`, in which `hosts`, the domain itself and its own name servers lead to `addresses`; aliases as they
/// are written. Its serial is 0, and it has no key yet.
pub fn zone(dns: &Dns, domain: &DnsName, hosts: BTreeSet<DnsName>, addresses: &[IpAddr]) -> DnsZone {
    let server = name_servers(dns, domain).into_iter().next();
    let contact = dns.contact.as_deref().and_then(mailbox);
    let notify = dns.secondaries.iter().flat_map(|secondary| &secondary.notify);
    DnsZone {
        serial: 0,
        primary: server.unwrap_or_else(|| domain.clone()),
        contact: contact
            .or_else(|| domain.child(b"hostmaster"))
            .unwrap_or_else(|| domain.clone()),
        negative_ttl_s: dns.negative_ttl_s,
        records: records(dns, domain, hosts, addresses),
        signing_key: None,
        notify: notify.map(|server| server.0).collect(),
        origin: domain.clone(),
    }
}

/// How often equal answers are given.
pub fn response_rate(dns: &Dns) -> ResponseRate {
    ResponseRate {
        per_s: dns.response_rate_per_s,
        exempt: dns.rate_exempt.clone(),
    }
}

/// Where the world reaches this machine: as the manifest says, or where it listens.
pub fn addresses(dns: &Dns, listening: &[IpAddr]) -> Vec<IpAddr> {
    match dns.addresses.is_empty() {
        false => dns.addresses.clone(),
        true => listening
            .iter()
            .copied()
            .filter(|address| !address.is_unspecified())
            .collect(),
    }
}

/// Names of the zone's servers.
fn name_servers(dns: &Dns, domain: &DnsName) -> Vec<DnsName> {
    let named: Vec<DnsName> = dns
        .name_servers
        .iter()
        .filter_map(|name| name.parse().ok())
        .collect();
    match named.is_empty() {
        false => named,
        true => domain.child(b"ns1").into_iter().collect(),
    }
}

/// Everything but the SOA record.
fn records(
    dns: &Dns,
    domain: &DnsName,
    mut hosts: BTreeSet<DnsName>,
    addresses: &[IpAddr],
) -> Vec<DnsRecord> {
    let own = dns.records(domain);
    let servers = name_servers(dns, domain);
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
        for server in &servers {
            add(domain, DnsData::Ns(server.clone()));
        }
    }
    hosts.insert(domain.clone());
    hosts.extend(servers);
    for name in hosts.iter().filter(|host| host.is_at_or_below(domain)) {
        if has(name, &is_address) {
            continue;
        }
        for address in addresses {
            add(name, of_address(*address));
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

/// Beside addresses: what makes another record at a name superfluous.
fn is_address(data: &DnsData) -> bool {
    matches!(
        data,
        DnsData::A(_) | DnsData::Aaaa(_) | DnsData::Cname(_) | DnsData::Alias(_)
    )
}

fn of_address(address: IpAddr) -> DnsData {
    match address {
        IpAddr::V4(address) => DnsData::A(address),
        IpAddr::V6(address) => DnsData::Aaaa(address),
    }
}
