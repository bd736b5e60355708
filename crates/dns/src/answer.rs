//! What a zone answers (RFC 1034 section 4.3.2, RFC 4592 for wildcards, RFC 4035 section 3.1 for proofs).

use crate::query::{kind, rcode};
use crate::zone::{Node, Set, Zone};

/// CNAMEs that are followed.
const MAX_CHAIN: usize = 8;
/// Servers of one answer whose addresses are added.
const MAX_TARGETS: usize = 16;
/// Of these, the first that is there stands for all (RFC 8482 section 4.1).
const FOR_ANY: [u16; 4] = [kind::CNAME, kind::A, kind::AAAA, kind::MX];

/// An answer, as references into the zone.
#[derive(Debug)]
pub(crate) struct Answer<'z> {
    pub(crate) rcode: u16,
    pub(crate) authoritative: bool,
    pub(crate) answer: Vec<Entry<'z>>,
    pub(crate) authority: Vec<Entry<'z>>,
    pub(crate) additional: Vec<Entry<'z>>,
    /// Without the additional section it would be of no use: the glue of a referral.
    pub(crate) needs_additional: bool,
    pub(crate) nature: Nature,
    /// The name is in the zone as it was asked for, so that there are not more such answers than names.
    pub(crate) is_exact: bool,
}

/// Answers of one nature to one network are equal for response rate limiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Nature {
    /// Records.
    Found,
    /// The name is there, the type is not.
    NoData,
    /// The name is not there: whatever the name, it is the same answer.
    NoName,
    /// Somebody else's.
    Referral,
    /// An error.
    Error,
}

/// A set of records in a section.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry<'z> {
    /// None is the name of the question: also what a wildcard stands for.
    pub(crate) owner: Option<&'z [u8]>,
    pub(crate) set: &'z Set,
    pub(crate) records: bool,
    pub(crate) signature: bool,
}

/// Answers a question about a name that is at or below the zone's apex.
pub(crate) fn answer<'z>(zone: &'z Zone, name: &[u8], wanted: u16, dnssec: bool) -> Answer<'z> {
    let mut lookup = Lookup {
        zone,
        wanted,
        dnssec: dnssec && zone.is_signed(),
        answer: Answer {
            rcode: rcode::NOERROR,
            authoritative: true,
            answer: Vec::new(),
            authority: Vec::new(),
            additional: Vec::new(),
            needs_additional: false,
            nature: Nature::Found,
            is_exact: true,
        },
    };
    let mut next = lookup.name(name, None);
    for _ in 0..MAX_CHAIN {
        let Some(target) = next.filter(|target| is_in(zone, target)) else {
            break;
        };
        let been_there = |entry: &Entry<'_>| entry.set.kind == kind::CNAME && entry.owner == Some(target);
        if name == target || lookup.answer.answer.iter().any(been_there) {
            break;
        }
        next = lookup.name(target, Some(target));
    }
    if lookup.answer.nature == Nature::Found {
        lookup.additional();
    }
    lookup.answer
}

fn is_in(zone: &Zone, name: &[u8]) -> bool {
    let origin = zone.origin.wire();
    let mut rest = name;
    while rest.len() > origin.len() {
        rest = rest.get(1 + usize::from(rest[0])..).unwrap_or_default();
    }
    rest == origin
}

struct Lookup<'z> {
    zone: &'z Zone,
    wanted: u16,
    dnssec: bool,
    answer: Answer<'z>,
}

impl<'z> Lookup<'z> {
    /// One name, from the apex down. Gives where the answer goes on: the target of a CNAME.
    fn name(&mut self, name: &[u8], owner: Option<&'z [u8]>) -> Option<&'z [u8]> {
        let mut starts = [0_u8; 128];
        let mut labels = 0;
        let mut at = 0;
        while name.len() - at > self.zone.origin.wire().len() {
            starts[labels] = at as u8;
            labels += 1;
            at += 1 + usize::from(name[at]);
        }
        let mut encloser = self.zone.node(self.zone.origin.wire())?;
        for (below, start) in starts[..labels].iter().enumerate().rev() {
            let Some(node) = self.zone.node(&name[usize::from(*start)..]) else {
                return self.absent(name, owner, encloser);
            };
            // What the parent says about a delegation is the parent's to answer (RFC 4035 section 3.1.4.1).
            let is_parents = below == 0 && self.wanted == kind::DS;
            if node.is_cut && !is_parents {
                self.referral(node);
                return None;
            }
            encloser = node;
        }
        self.at(encloser, owner, None)
    }

    /// The name is not there; its closest encloser is. A wildcard just below that stands for it (RFC 4592 section 3.3).
    fn absent(&mut self, name: &[u8], owner: Option<&'z [u8]>, encloser: &'z Node) -> Option<&'z [u8]> {
        self.answer.is_exact = false;
        let wildcard = encloser.name.child(b"*");
        if let Some(node) = wildcard
            .as_ref()
            .and_then(|wildcard| self.zone.node(wildcard.wire()))
        {
            return self.at(node, owner, Some(name));
        }
        self.answer.rcode = rcode::NXDOMAIN;
        self.answer.nature = Nature::NoName;
        self.start_of_authority();
        self.deny(name);
        if let Some(wildcard) = wildcard {
            self.deny(wildcard.wire());
        }
        None
    }

    /// What a node says; `instead_of` is the name that is not there, when it is a wildcard's.
    fn at(&mut self, node: &'z Node, owner: Option<&'z [u8]>, instead_of: Option<&[u8]>) -> Option<&'z [u8]> {
        let any = || {
            let usual = FOR_ANY.iter().find_map(|kind| node.set(*kind));
            usual.or_else(|| node.sets.iter().find(|set| set.kind != kind::NSEC))
        };
        let found = match self.wanted {
            kind::ANY => any(),
            kind::RRSIG => any().filter(|set| set.signature.is_some()),
            wanted => node.set(wanted).or_else(|| node.set(kind::CNAME)),
        };
        let Some(set) = found else {
            self.answer.nature = Nature::NoData;
            self.start_of_authority();
            match node.set(kind::NSEC) {
                Some(proof) => self.proof(node, proof),
                // Only names below it: the proof is of the one before, whose next name is below this one.
                None => self.deny(node.name.wire()),
            }
            if let Some(name) = instead_of {
                self.deny(name);
            }
            return None;
        };
        self.answer.answer.push(Entry {
            owner,
            set,
            records: self.wanted != kind::RRSIG,
            signature: self.dnssec || self.wanted == kind::RRSIG,
        });
        if let Some(name) = instead_of {
            self.deny(name);
        }
        let goes_on =
            set.kind == kind::CNAME && ![kind::CNAME, kind::ANY, kind::RRSIG].contains(&self.wanted);
        goes_on
            .then(|| set.data.first().map(|target| &**target))
            .flatten()
    }

    fn referral(&mut self, cut: &'z Node) {
        let Some(servers) = cut.set(kind::NS) else {
            return;
        };
        self.answer.authoritative = !self.answer.answer.is_empty();
        self.answer.nature = Nature::Referral;
        // It is found at every name below.
        self.answer.is_exact = false;
        self.push_authority(cut, servers, false);
        match cut.set(kind::DS) {
            Some(signer) if self.dnssec => self.push_authority(cut, signer, true),
            Some(_) => {}
            None => {
                if let Some(proof) = cut.set(kind::NSEC) {
                    self.proof(cut, proof);
                }
            }
        }
        for server in &servers.data {
            let before = self.answer.additional.len();
            self.addresses(server);
            let is_glue = self
                .zone
                .node(server)
                .is_some_and(|node| node.is_glue || node.is_cut);
            self.answer.needs_additional |= is_glue && self.answer.additional.len() > before;
        }
    }

    fn start_of_authority(&mut self) {
        if let Some(apex) = self.zone.node(self.zone.origin.wire())
            && let Some(soa) = apex.set(kind::SOA)
        {
            self.push_authority(apex, soa, self.dnssec);
        }
    }

    /// Proves that a name is not there.
    fn deny(&mut self, name: &[u8]) {
        if self.dnssec
            && let Some(node) = self.zone.denial(name)
            && let Some(proof) = node.set(kind::NSEC)
        {
            self.proof(node, proof);
        }
    }

    fn proof(&mut self, node: &'z Node, proof: &'z Set) {
        let given = self
            .answer
            .authority
            .iter()
            .any(|entry| std::ptr::eq(entry.set, proof));
        if self.dnssec && !given {
            self.push_authority(node, proof, true);
        }
    }

    fn push_authority(&mut self, node: &'z Node, set: &'z Set, signature: bool) {
        self.answer.authority.push(Entry {
            owner: Some(node.name.wire()),
            set,
            records: true,
            signature,
        });
    }

    /// Addresses of names that the answer mentions, so that nobody has to ask for them.
    fn additional(&mut self) {
        let Some(last) = self.answer.answer.last().copied() else {
            return;
        };
        let before_name = match last.set.kind {
            kind::NS => 0,
            kind::MX => 2,
            kind::SRV => 6,
            _ => return,
        };
        for data in last.set.data.iter().take(MAX_TARGETS) {
            self.addresses(data.get(before_name..).unwrap_or_default());
        }
    }

    fn addresses(&mut self, name: &'z [u8]) {
        if let Some(node) = self.zone.node(name) {
            let sets = [kind::A, kind::AAAA]
                .into_iter()
                .filter_map(|kind| node.set(kind));
            self.answer.additional.extend(sets.map(|set| Entry {
                owner: Some(name),
                set,
                records: true,
                signature: self.dnssec,
            }));
        }
    }
}
