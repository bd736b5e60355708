//! Addresses of the names outside that aliases lead to: asked for when the time has come, and kept while nobody answers.

use crate::client;
use crate::flatten::{self, Addresses};
use astraler_model::{DnsData, DnsName, DnsRecord, DnsZone};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long the addresses behind an alias hold, whatever their TTL says.
const ALIAS_S: std::ops::RangeInclusive<u32> = 30..=3_600;
/// A resolver has so long to answer, and is asked again so soon when it does not.
const PATIENCE: Duration = Duration::from_secs(6);
const AGAIN: Duration = Duration::from_secs(30);
/// Names that are asked for.
const MAX_ALIASES: usize = 64;

/// What was found.
#[derive(Debug, Default)]
pub struct Aliases {
    found: Mutex<BTreeMap<DnsName, Known>>,
}

#[derive(Debug, Clone)]
struct Known {
    addresses: Vec<IpAddr>,
    ttl_s: u32,
    due: Instant,
}

impl Aliases {
    /// Records with addresses in the place of aliases: as they were found last, also by a process before this one, whose
    /// zone was `before`.
    pub fn flatten(
        &self,
        origin: &DnsName,
        records: &[DnsRecord],
        before: Option<&DnsZone>,
    ) -> Vec<DnsRecord> {
        flatten::flatten(origin, records, &self.found(origin, records, before))
    }

    fn found(&self, origin: &DnsName, records: &[DnsRecord], before: Option<&DnsZone>) -> Addresses {
        let known = self.lock();
        let mut found: Addresses = known
            .iter()
            .map(|(name, known)| (name.clone(), (known.addresses.clone(), known.ttl_s)))
            .collect();
        for record in records {
            for target in flatten::outside(origin, std::slice::from_ref(record)) {
                found.entry(target).or_insert_with(|| {
                    let same = before
                        .into_iter()
                        .flat_map(|zone| &zone.records)
                        .filter(|other| other.name == record.name);
                    let addresses = same.filter_map(|other| match other.data {
                        DnsData::A(address) => Some(IpAddr::from(address)),
                        DnsData::Aaaa(address) => Some(IpAddr::from(address)),
                        _ => None,
                    });
                    (addresses.collect(), *ALIAS_S.start())
                });
            }
        }
        found
    }

    /// Asks for what is due; says when the next is, if any. What cannot be found stays as it was.
    pub async fn ask(
        &self,
        resolver: SocketAddr,
        origin: &DnsName,
        records: &[DnsRecord],
    ) -> Option<Duration> {
        let names: BTreeSet<DnsName> = flatten::outside(origin, records)
            .into_iter()
            .take(MAX_ALIASES)
            .collect();
        self.lock().retain(|name, _| names.contains(name));
        let mut next: Option<Duration> = None;
        let mut soonest = |then: Duration| next = Some(next.map_or(then, |next| next.min(then)));
        for name in names {
            let now = Instant::now();
            let due = self.lock().get(&name).map(|known| known.due);
            if let Some(due) = due.filter(|due| *due > now) {
                soonest(due - now);
                continue;
            }
            let asked = client::addresses(resolver, &name, PATIENCE).await;
            let mut found = self.lock();
            match asked {
                Ok((addresses, ttl_s)) if !addresses.is_empty() => {
                    let ttl_s = ttl_s.clamp(*ALIAS_S.start(), *ALIAS_S.end());
                    let holds = Duration::from_secs(ttl_s.into());
                    let due = now + holds;
                    found.insert(
                        name,
                        Known {
                            addresses,
                            ttl_s,
                            due,
                        },
                    );
                    soonest(holds);
                }
                failed => {
                    let error = failed.err().map(|error| error.to_string());
                    let error = error.unwrap_or_else(|| "it has no address".to_owned());
                    tracing::warn!(%name, error, "the addresses behind an alias stay as they were");
                    if let Some(known) = found.get_mut(&name) {
                        known.due = now + AGAIN;
                    }
                    soonest(AGAIN);
                }
            }
        }
        next
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<DnsName, Known>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
