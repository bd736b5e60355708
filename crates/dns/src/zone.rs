//! A zone, ready to be asked: names in canonical order, sets with their signatures, the chain of what is not there.

use crate::flatten;
use crate::query::kind;
use crate::sign::{self, KeyError, Signer, SigningKey};
use astraler_model::{DnsName, DnsRecord, DnsZone};
use std::collections::{BTreeMap, HashMap};

/// How often secondaries look whether there is a new serial, how soon again, and when they give up (seconds).
const REFRESH_S: u32 = 3_600;
const RETRY_S: u32 = 600;
const EXPIRE_S: u32 = 14 * 86_400;
/// A DNSKEY record lives so long.
const KEY_TTL_S: u32 = 3_600;

/// A zone cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ZoneError {
    /// A record of somebody else's name.
    #[error("{name} is not in the zone {origin}")]
    Outside {
        /// Whose record it is.
        name: DnsName,
        /// The zone.
        origin: DnsName,
    },
    /// RFC 1034 section 3.6.2.
    #[error("{name} has a CNAME record and others")]
    Cname {
        /// Whose records they are.
        name: DnsName,
    },
    /// There is nobody to ask.
    #[error("the zone {origin} has no NS record")]
    NoServer {
        /// The zone.
        origin: DnsName,
    },
    /// It cannot be signed.
    #[error("the zone {origin} cannot be signed")]
    Sign {
        /// The zone.
        origin: DnsName,
        /// Why.
        source: KeyError,
    },
}

/// One zone. Immutable: a new version is a new zone.
#[derive(Debug)]
pub struct Zone {
    pub(crate) origin: DnsName,
    pub(crate) serial: u32,
    /// In canonical order.
    pub(crate) nodes: Vec<Node>,
    index: HashMap<Box<[u8]>, u32>,
    /// Nodes with an NSEC record, in canonical order; empty when unsigned.
    chain: Vec<u32>,
    /// Number of records without signatures and proofs.
    pub(crate) records: usize,
}

/// What is at one name.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: DnsName,
    order: Box<[u8]>,
    /// By type. None at a name that only has names below it.
    pub(crate) sets: Vec<Set>,
    /// A delegation: what is below belongs to somebody else.
    pub(crate) is_cut: bool,
    /// Below a delegation: addresses of its servers.
    pub(crate) is_glue: bool,
}

/// The records of one type at a name.
#[derive(Debug)]
pub(crate) struct Set {
    pub(crate) kind: u16,
    pub(crate) ttl: u32,
    pub(crate) data: Vec<Box<[u8]>>,
    /// Data of its RRSIG record.
    pub(crate) signature: Option<Box<[u8]>>,
}

impl Node {
    pub(crate) fn set(&self, kind: u16) -> Option<&Set> {
        self.sets.iter().find(|set| set.kind == kind)
    }
}

impl Zone {
    /// Builds and signs. `now` is in seconds since the epoch.
    ///
    /// # Errors
    /// The records contradict each other, or the key cannot be used.
    pub fn build(zone: &DnsZone, key: Option<&SigningKey>, now: u32) -> Result<Self, ZoneError> {
        let origin = &zone.origin;
        // Signatures are part of the zone: with new ones the serial grows.
        let serial = match key {
            Some(_) => newer(zone.serial, sign::period(now)),
            None => zone.serial,
        };
        let records = flatten::flatten(origin, &zone.records, &flatten::Addresses::new());
        let mut names = collect(origin, &records)?;
        let apex = names.entry(order(origin)).or_insert_with(|| Draft::of(origin));
        if !apex.sets.contains_key(&kind::NS) {
            return Err(ZoneError::NoServer {
                origin: origin.clone(),
            });
        }
        apex.add(kind::SOA, zone.negative_ttl_s, soa(zone, serial));
        if let Some(key) = key {
            apex.add(kind::DNSKEY, KEY_TTL_S, key.dnskey());
            // For parents that look by themselves (RFC 7344).
            apex.add(kind::CDS, KEY_TTL_S, key.ds(origin));
            apex.add(kind::CDNSKEY, KEY_TTL_S, key.dnskey());
        }
        empty_non_terminals(origin, &mut names);
        let mut nodes = nodes(origin, names);
        let chain = match key {
            Some(key) => sign_all(zone, key, now, &mut nodes).map_err(|source| ZoneError::Sign {
                origin: origin.clone(),
                source,
            })?,
            None => Vec::new(),
        };
        let index = nodes
            .iter()
            .zip(0..)
            .map(|(node, at)| (node.name.wire().into(), at));
        Ok(Self {
            origin: origin.clone(),
            serial,
            index: index.collect(),
            chain,
            records: records.len() + 1,
            nodes,
        })
    }

    /// Its apex.
    pub fn origin(&self) -> &DnsName {
        &self.origin
    }

    /// As its SOA record says.
    pub fn serial(&self) -> u32 {
        self.serial
    }

    pub(crate) fn node(&self, name: &[u8]) -> Option<&Node> {
        self.index.get(name).and_then(|at| self.nodes.get(*at as usize))
    }

    pub(crate) fn is_signed(&self) -> bool {
        !self.chain.is_empty()
    }

    /// The node whose NSEC record is of this name, or says that it is not there: the last one that is not after it.
    pub(crate) fn denial(&self, name: &[u8]) -> Option<&Node> {
        let wanted = order_of_wire(name);
        let node = |at: &u32| self.nodes.get(*at as usize);
        let after = self
            .chain
            .partition_point(|at| node(at).is_some_and(|node| *node.order <= *wanted));
        self.chain.get(after.checked_sub(1)?).and_then(node)
    }
}

/// The later of two serials (RFC 1982).
pub(crate) fn newer(one: u32, other: u32) -> u32 {
    if (other.wrapping_sub(one) as i32) > 0 {
        other
    } else {
        one
    }
}

/// Bytes that compare as names do in canonical order (RFC 4034 section 6.1): labels from the right, each ended by a
/// zero, with zeros and ones inside of labels escaped so that they stay above it.
fn order(name: &DnsName) -> Box<[u8]> {
    order_of_wire(name.wire())
}

fn order_of_wire(wire: &[u8]) -> Box<[u8]> {
    let mut starts = [0_u8; 128];
    let mut count = 0;
    let mut at = 0;
    while let Some(&length) = wire.get(at)
        && length > 0
        && count < starts.len()
    {
        starts[count] = at as u8;
        count += 1;
        at += 1 + usize::from(length);
    }
    let mut bytes = Vec::with_capacity(wire.len() + 8);
    for start in starts[..count].iter().rev().map(|start| usize::from(*start)) {
        let length = usize::from(wire[start]);
        for &byte in &wire[start + 1..start + 1 + length] {
            match byte {
                0 | 1 => bytes.extend([1, byte + 1]),
                _ => bytes.push(byte),
            }
        }
        bytes.push(0);
    }
    bytes.into()
}

/// Of one record.
type Data = Box<[u8]>;

struct Draft {
    name: DnsName,
    /// By type: the TTL and the data.
    sets: BTreeMap<u16, (u32, Vec<Data>)>,
}

impl Draft {
    fn of(name: &DnsName) -> Self {
        Self {
            name: name.clone(),
            sets: BTreeMap::new(),
        }
    }

    /// All records of a set have one TTL (RFC 2181 section 5.2): the shortest.
    fn add(&mut self, kind: u16, ttl: u32, data: Vec<u8>) {
        let (present, all) = self.sets.entry(kind).or_insert_with(|| (ttl, Vec::new()));
        *present = ttl.min(*present);
        if !all.iter().any(|other| **other == *data) {
            all.push(data.into());
        }
    }
}

type Drafts = BTreeMap<Box<[u8]>, Draft>;

fn collect(origin: &DnsName, records: &[DnsRecord]) -> Result<Drafts, ZoneError> {
    let mut names = Drafts::new();
    for record in records {
        if !record.name.is_at_or_below(origin) {
            return Err(ZoneError::Outside {
                name: record.name.clone(),
                origin: origin.clone(),
            });
        }
        if let Some((kind, data)) = record.data.kind().zip(record.data.wire()) {
            let draft = names.entry(order(&record.name));
            draft
                .or_insert_with(|| Draft::of(&record.name))
                .add(kind, record.ttl_s, data);
        }
    }
    let torn = names.values().find(|draft| {
        let cname = draft.sets.get(&kind::CNAME);
        cname.is_some_and(|(_, targets)| targets.len() > 1 || draft.sets.len() > 1)
    });
    match torn {
        Some(draft) => Err(ZoneError::Cname {
            name: draft.name.clone(),
        }),
        None => Ok(names),
    }
}

fn soa(zone: &DnsZone, serial: u32) -> Vec<u8> {
    let numbers = [serial, REFRESH_S, RETRY_S, EXPIRE_S, zone.negative_ttl_s];
    let mut data = [zone.primary.wire(), zone.contact.wire()].concat();
    data.extend(numbers.iter().flat_map(|number| number.to_be_bytes()));
    data
}

/// Every name between the apex and a name with records is there too (RFC 4592 section 2.2.2).
fn empty_non_terminals(origin: &DnsName, names: &mut Drafts) {
    let all: Vec<DnsName> = names.values().map(|draft| draft.name.clone()).collect();
    for name in all {
        let mut above = name.parent();
        while let Some(name) = above.filter(|name| name.is_at_or_below(origin)) {
            names.entry(order(&name)).or_insert_with(|| Draft::of(&name));
            above = name.parent();
        }
    }
}

fn nodes(origin: &DnsName, names: Drafts) -> Vec<Node> {
    let mut cut: Option<DnsName> = None;
    let mut nodes = Vec::with_capacity(names.len());
    // In canonical order what is below a name follows it.
    for (order, draft) in names {
        let is_glue = cut.as_ref().is_some_and(|cut| draft.name.is_at_or_below(cut));
        let is_cut = !is_glue && draft.name != *origin && draft.sets.contains_key(&kind::NS);
        if is_cut {
            cut = Some(draft.name.clone());
        }
        let sets = draft.sets.into_iter().map(|(kind, (ttl, mut data))| {
            data.sort();
            Set {
                kind,
                ttl,
                data,
                signature: None,
            }
        });
        nodes.push(Node {
            name: draft.name,
            order,
            sets: sets.collect(),
            is_cut,
            is_glue,
        });
    }
    nodes
}

/// Adds proofs and signatures; gives the chain of proofs.
fn sign_all(zone: &DnsZone, key: &SigningKey, now: u32, nodes: &mut [Node]) -> Result<Vec<u32>, KeyError> {
    let signer = Signer::new(key, zone.origin.clone(), now);
    let ours = |node: &Node| !node.is_glue && !node.sets.is_empty();
    let chain: Vec<u32> = nodes
        .iter()
        .zip(0..)
        .filter(|(node, _)| ours(node))
        .map(|(_, at)| at)
        .collect();
    let names: Vec<DnsName> = chain.iter().map(|at| nodes[*at as usize].name.clone()).collect();
    let next = names.iter().cycle().skip(1);
    for (at, next) in chain.iter().zip(next) {
        let node = &mut nodes[*at as usize];
        // At a delegation only these are ours (RFC 4035 section 2.3).
        let is_cut = node.is_cut;
        let belongs = |kind: u16| !is_cut || [kind::NS, kind::DS].contains(&kind);
        let mut kinds: Vec<u16> = node
            .sets
            .iter()
            .map(|set| set.kind)
            .filter(|kind| belongs(*kind))
            .collect();
        kinds.extend([kind::RRSIG, kind::NSEC]);
        kinds.sort_unstable();
        node.sets.push(Set {
            kind: kind::NSEC,
            ttl: zone.negative_ttl_s,
            data: vec![sign::nsec(next, &kinds).into()],
            signature: None,
        });
        for set in &mut node.sets {
            let signed = !is_cut || [kind::DS, kind::NSEC].contains(&set.kind);
            if signed {
                let data = set.data.iter().map(AsRef::as_ref);
                set.signature = Some(signer.signature(&node.name, set.kind, set.ttl, data)?.into());
            }
        }
    }
    Ok(chain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_the_order_of_the_rfc() {
        // RFC 4034 section 6.1.
        let names = [
            "example",
            "a.example",
            "yljkjljk.a.example",
            "Z.a.example",
            "zABC.a.EXAMPLE",
            "z.example",
            "\\001.z.example",
            "*.z.example",
            "\\200.z.example",
        ];
        let orders: Vec<_> = names.iter().map(|name| order(&name.parse().unwrap())).collect();
        assert!(orders.is_sorted(), "{orders:?}");
        let zero = [
            "\\000.z.example",
            "\\000\\000.z.example",
            "\\000\\001.z.example",
            "\\001.z.example",
        ];
        let orders: Vec<_> = zero.iter().map(|name| order(&name.parse().unwrap())).collect();
        assert!(orders.is_sorted(), "{orders:?}");
    }

    #[test]
    fn serials_go_round() {
        assert_eq!(newer(1, 2), 2);
        assert_eq!(newer(2, 1), 2);
        assert_eq!(newer(u32::MAX, 3), 3);
        assert_eq!(newer(3, u32::MAX), 3);
    }
}
