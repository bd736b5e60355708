//! TXT records that prove to a certificate authority whose a name is (RFC 8555 section 8.4).

use astraler_model::{DnsData, DnsName, DnsRecord};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// They live as long as it takes to look at them.
const TTL_S: u32 = 1;
const MOST: usize = 1_000;

/// There are too many.
#[derive(Debug, thiserror::Error)]
#[error("there are {MOST} challenges already")]
pub struct TooMany;

/// By their name.
#[derive(Debug, Default)]
pub struct Proofs(Mutex<BTreeMap<DnsName, BTreeSet<String>>>);

/// The name under which the proof about a host is looked for. A wildcard's is that of the name below it.
pub fn proof_name(host: &str) -> Option<DnsName> {
    let host = host.strip_prefix("*.").unwrap_or(host);
    host.parse::<DnsName>().ok()?.child(b"_acme-challenge")
}

impl Proofs {
    /// One more.
    ///
    /// # Errors
    /// There are too many.
    pub fn add(&self, name: DnsName, value: &str) -> Result<(), TooMany> {
        let mut proofs = self.lock();
        if proofs.values().map(BTreeSet::len).sum::<usize>() >= MOST {
            return Err(TooMany);
        }
        proofs.entry(name).or_default().insert(value.to_owned());
        Ok(())
    }

    /// One less.
    pub fn remove(&self, name: &DnsName, value: &str) {
        let mut proofs = self.lock();
        if let Some(values) = proofs.get_mut(name) {
            values.remove(value);
            if values.is_empty() {
                proofs.remove(name);
            }
        }
    }

    /// Those in a zone.
    pub fn records(&self, origin: &DnsName) -> Vec<DnsRecord> {
        let proofs = self.lock();
        let ours = proofs.iter().filter(|(name, _)| name.is_at_or_below(origin));
        ours.flat_map(|(name, values)| values.iter().map(move |value| (name, value)))
            .map(|(name, value)| DnsRecord {
                name: name.clone(),
                ttl_s: TTL_S,
                data: DnsData::Txt(vec![value.as_bytes().into()]),
            })
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<DnsName, BTreeSet<String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_looked_for_below_its_host() {
        let name = |host| proof_name(host).unwrap().to_string();
        assert_eq!(name("app.shop.example"), "_acme-challenge.app.shop.example.");
        assert_eq!(
            name("*.preview.shop.example"),
            "_acme-challenge.preview.shop.example."
        );
        assert_eq!(proof_name("a..b"), None);
    }
}
