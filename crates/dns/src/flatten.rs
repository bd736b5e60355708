//! Aliases: what the addresses of another name are, said as our own (often called CNAME flattening). A CNAME at the
//! apex, which DNS does not allow, is one too.

use astraler_model::{DnsData, DnsName, DnsRecord};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Aliases of aliases and CNAMEs that are followed.
const MAX_STEPS: usize = 8;

/// What names outside of the zone were found to have, and how long that holds.
pub type Addresses = BTreeMap<DnsName, (Vec<IpAddr>, u32)>;

/// Names outside of the zone whose addresses must be found.
pub fn outside(origin: &DnsName, records: &[DnsRecord]) -> BTreeSet<DnsName> {
    let aliases = records.iter().filter_map(|record| alias(origin, record));
    aliases
        .filter_map(|target| match follow(origin, records, target.clone()) {
            Found::Outside(name, _) => Some(name),
            _ => None,
        })
        .collect()
}

/// Records with each alias replaced by addresses: those of names in the zone as they stand, others as they were found.
/// An alias whose addresses are not known has none.
pub fn flatten(origin: &DnsName, records: &[DnsRecord], found: &Addresses) -> Vec<DnsRecord> {
    let mut flat = Vec::with_capacity(records.len());
    for record in records {
        let Some(target) = alias(origin, record) else {
            flat.push(record.clone());
            continue;
        };
        let addresses = match follow(origin, records, target.clone()) {
            Found::Inside(addresses) => addresses,
            Found::Outside(name, ttl) => {
                let known = found.get(&name);
                known.map_or_else(Vec::new, |(addresses, known)| {
                    addresses
                        .iter()
                        .map(|address| (*address, ttl.min(*known)))
                        .collect()
                })
            }
            Found::Nothing => Vec::new(),
        };
        flat.extend(addresses.into_iter().map(|(address, ttl_s)| DnsRecord {
            name: record.name.clone(),
            ttl_s: ttl_s.min(record.ttl_s),
            data: match address {
                IpAddr::V4(address) => DnsData::A(address),
                IpAddr::V6(address) => DnsData::Aaaa(address),
            },
        }));
    }
    flat
}

enum Found {
    Inside(Vec<(IpAddr, u32)>),
    /// With the shortest TTL of the way there.
    Outside(DnsName, u32),
    Nothing,
}

fn alias<'r>(origin: &DnsName, record: &'r DnsRecord) -> Option<&'r DnsName> {
    match &record.data {
        DnsData::Alias(target) => Some(target),
        DnsData::Cname(target) if record.name == *origin => Some(target),
        _ => None,
    }
}

fn follow(origin: &DnsName, records: &[DnsRecord], mut name: DnsName) -> Found {
    let mut shortest = u32::MAX;
    for _ in 0..MAX_STEPS {
        if !name.is_at_or_below(origin) {
            return Found::Outside(name, shortest);
        }
        let mut addresses = Vec::new();
        let mut next = None;
        for record in records.iter().filter(|record| record.name == name) {
            match &record.data {
                DnsData::A(address) => addresses.push((IpAddr::from(*address), record.ttl_s.min(shortest))),
                DnsData::Aaaa(address) => {
                    addresses.push((IpAddr::from(*address), record.ttl_s.min(shortest)));
                }
                DnsData::Cname(target) | DnsData::Alias(target) => {
                    next = Some((target.clone(), record.ttl_s));
                }
                _ => {}
            }
        }
        match next {
            _ if !addresses.is_empty() => return Found::Inside(addresses),
            Some((target, ttl)) => {
                shortest = shortest.min(ttl);
                name = target;
            }
            None => return Found::Nothing,
        }
    }
    Found::Nothing
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(lines: &[&str]) -> (DnsName, Vec<DnsRecord>) {
        let origin: DnsName = "shop.example".parse().unwrap();
        let records = lines
            .iter()
            .map(|line| DnsRecord::parse(line, &origin, 300).unwrap())
            .collect();
        (origin, records)
    }

    fn shown(records: &[DnsRecord]) -> Vec<String> {
        records.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_alias_of_a_name_of_ours_has_its_addresses() {
        let (origin, records) = records(&[
            "@ 600 CNAME www",
            "www 200 CNAME app",
            "app A 192.0.2.1",
            "app AAAA 2001:db8::1",
            "w ALIAS @",
        ]);
        assert_eq!(
            shown(&flatten(&origin, &records, &Addresses::new())),
            [
                "shop.example. 200 IN A 192.0.2.1",
                "shop.example. 200 IN AAAA 2001:db8::1",
                "www.shop.example. 200 IN CNAME app.shop.example.",
                "app.shop.example. 300 IN A 192.0.2.1",
                "app.shop.example. 300 IN AAAA 2001:db8::1",
                "w.shop.example. 200 IN A 192.0.2.1",
                "w.shop.example. 200 IN AAAA 2001:db8::1",
            ]
        );
        assert!(outside(&origin, &records).is_empty());
    }

    #[test]
    fn an_outside_name_is_asked_for_and_answered_when_it_is_known() {
        let (origin, records) = records(&["@ ALIAS www", "www CNAME lb.example.net."]);
        let name: DnsName = "lb.example.net".parse().unwrap();
        assert!(outside(&origin, &records).into_iter().eq([name.clone()]));
        assert_eq!(flatten(&origin, &records, &Addresses::new()).len(), 1);
        let found = Addresses::from([(name, (vec!["192.0.2.9".parse().unwrap()], 60))]);
        assert_eq!(
            shown(&flatten(&origin, &records, &found))[0],
            "shop.example. 60 IN A 192.0.2.9"
        );
    }

    #[test]
    fn a_loop_ends() {
        let (origin, records) = records(&["a ALIAS b", "b ALIAS a", "c CNAME c", "@ ALIAS c"]);
        assert_eq!(flatten(&origin, &records, &Addresses::new()).len(), 1);
    }
}
