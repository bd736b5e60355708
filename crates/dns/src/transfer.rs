//! Zone transfers (RFC 5936): the whole zone in as many messages as it takes, each signed.

use crate::query::{HEADER, Query, kind};
use crate::tsig::{self, Session};
use crate::write::{self, Body, Frame};
use crate::zone::Zone;
use std::sync::Arc;

/// Bytes of records in one message: below the 16,384 that compression pointers reach, as common secondaries like it.
const PER_MESSAGE: usize = 16 << 10;

/// A transfer that is under way. It keeps the version of the zone that it began with.
#[derive(Debug)]
pub(crate) struct Transfer {
    zone: Arc<Zone>,
    /// Next record: node, set, record within the set with the signature as the last.
    at: (usize, usize, usize),
    stage: Stage,
}

#[derive(Debug, PartialEq)]
enum Stage {
    First,
    Middle,
    Done,
}

impl Transfer {
    pub(crate) fn new(zone: Arc<Zone>) -> Self {
        Self {
            zone,
            at: (0, 0, 0),
            stage: Stage::First,
        }
    }

    /// Writes the next message; false when there was none left.
    pub(crate) fn next(
        &mut self,
        query: &Query<'_>,
        session: &mut Session<'_>,
        now: u64,
        out: &mut Vec<u8>,
    ) -> bool {
        if self.stage == Stage::Done {
            return false;
        }
        let frame = Frame {
            head: query.head,
            // The first message repeats the question, the others need not (RFC 5936 section 2.2.1).
            question: (self.stage == Stage::First).then_some(query.question),
            opt: None,
            limit: write::MAX_TCP,
            reserve: tsig::RESERVE,
            truncate: false,
        };
        write::message(&Body::transfer(), &frame, out);
        let mut count: u16 = 0;
        if self.stage == Stage::First {
            count += self.start_of_authority(out);
            self.stage = Stage::Middle;
        }
        while out.len() < PER_MESSAGE && count < u16::MAX {
            if !self.record(out) {
                count += self.start_of_authority(out);
                self.stage = Stage::Done;
                break;
            }
            count += 1;
        }
        out[HEADER - 6..HEADER - 4].copy_from_slice(&count.to_be_bytes());
        session.sign(now, out);
        true
    }

    /// The SOA record, which is the first and the last.
    fn start_of_authority(&self, out: &mut Vec<u8>) -> u16 {
        let apex = self.zone.node(self.zone.origin.wire());
        let found = apex
            .and_then(|apex| apex.set(kind::SOA))
            .and_then(|set| Some((set, set.data.first()?)));
        found.map_or(0, |(set, data)| {
            write::record(self.zone.origin.wire(), kind::SOA, set.ttl, data, out);
            1
        })
    }

    /// The next record but SOA; false at the end.
    fn record(&mut self, out: &mut Vec<u8>) -> bool {
        while let Some(node) = self.zone.nodes.get(self.at.0) {
            while let Some(set) = node.sets.get(self.at.1) {
                let (owner, index) = (node.name.wire(), self.at.2);
                self.at.2 += 1;
                if let Some(data) = set.data.get(index).filter(|_| set.kind != kind::SOA) {
                    write::record(owner, set.kind, set.ttl, data, out);
                    return true;
                }
                if index < set.data.len() {
                    continue;
                }
                self.at = (self.at.0, self.at.1 + 1, 0);
                if let Some(signature) = &set.signature {
                    write::record(owner, kind::RRSIG, set.ttl, signature, out);
                    return true;
                }
            }
            self.at = (self.at.0 + 1, 0, 0);
        }
        false
    }
}
