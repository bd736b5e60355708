//! Answers on the wire.

use crate::answer::{Answer, Entry, Nature};
use crate::query::{CLASS_IN, HEADER, Head, Query, kind, rcode};

/// What fits into one UDP packet on every path (RFC 9715): no answer is larger.
pub(crate) const MAX_UDP: usize = 1232;
/// Without EDNS (RFC 1035 section 4.2.1).
const PLAIN_UDP: usize = 512;
/// A message over TCP.
pub(crate) const MAX_TCP: usize = 65_535;

const FLAG_ANSWER: u16 = 0x8000;
const FLAG_AUTHORITATIVE: u16 = 0x0400;
const FLAG_TRUNCATED: u16 = 0x0200;
const FLAG_RECURSION_DESIRED: u16 = 0x0100;
const FLAG_CHECKING_DISABLED: u16 = 0x0010;
const POINTER: u16 = 0xc000;
/// Pointers reach so far.
const MAX_POINTER: usize = 0x3fff;

/// An answer as bytes, for whoever asks the same question again: without what is the asker's own (id, flags, case of the
/// name, OPT, TSIG).
#[derive(Debug, Clone)]
pub(crate) struct Body {
    pub(crate) rcode: u16,
    pub(crate) nature: Nature,
    pub(crate) is_exact: bool,
    authoritative: bool,
    /// Records in each section.
    counts: [u16; 3],
    /// Everything after the question.
    bytes: Box<[u8]>,
    /// Where the additional section begins in `bytes`.
    additional_at: usize,
    needs_additional: bool,
}

impl Body {
    /// Of an answer to a question about `name`.
    pub(crate) fn of(answer: &Answer<'_>, name: &[u8]) -> Self {
        let mut writer = Writer {
            bytes: Vec::with_capacity(512),
            question: name,
        };
        let first = writer.section(&answer.answer);
        let second = writer.section(&answer.authority);
        let additional_at = writer.bytes.len();
        let third = writer.section(&answer.additional);
        Self {
            rcode: answer.rcode,
            nature: answer.nature,
            is_exact: answer.is_exact,
            authoritative: answer.authoritative,
            counts: [first, second, third],
            bytes: writer.bytes.into(),
            additional_at,
            needs_additional: answer.needs_additional,
        }
    }

    /// Of a message that records are added to.
    pub(crate) fn transfer() -> Self {
        Self {
            authoritative: true,
            ..Self::error(rcode::NOERROR)
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Nothing but a code.
    pub(crate) fn error(rcode: u16) -> Self {
        Self {
            rcode,
            nature: Nature::Error,
            is_exact: false,
            authoritative: false,
            counts: [0; 3],
            bytes: Box::from([]),
            additional_at: 0,
            needs_additional: false,
        }
    }
}

/// What is the asker's own in an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'q> {
    pub(crate) head: Head,
    pub(crate) question: Option<&'q [u8]>,
    pub(crate) opt: Option<Opt<'q>>,
    /// Longest message.
    pub(crate) limit: usize,
    /// Bytes of a signature that comes after.
    pub(crate) reserve: usize,
    /// Only a question and "ask over TCP".
    pub(crate) truncate: bool,
}

/// The OPT record of an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opt<'q> {
    pub(crate) dnssec_ok: bool,
    /// Client's and server's.
    pub(crate) cookie: Option<(&'q [u8], [u8; 16])>,
}

/// How large an answer to this query may be over UDP.
pub(crate) fn udp_limit(query: &Query<'_>) -> usize {
    match query.edns {
        Some(edns) => usize::from(edns.payload).clamp(PLAIN_UDP, MAX_UDP),
        None => PLAIN_UDP,
    }
}

/// Writes a whole message; says whether it was truncated.
pub(crate) fn message(body: &Body, frame: &Frame<'_>, out: &mut Vec<u8>) -> bool {
    out.clear();
    let question = frame.question.unwrap_or_default();
    let opt_bytes = frame.opt.map_or(0, |opt| 11 + opt.cookie.map_or(0, |_| 4 + 24));
    let room = frame
        .limit
        .saturating_sub(HEADER + question.len() + opt_bytes + frame.reserve);
    let whole = body.bytes.len() <= room;
    let essential = body.additional_at <= room && !body.needs_additional;
    let (bytes, counts, truncated) = match () {
        () if frame.truncate => (&[][..], [0; 3], true),
        () if whole => (&body.bytes[..], body.counts, false),
        () if essential => (
            &body.bytes[..body.additional_at],
            [body.counts[0], body.counts[1], 0],
            false,
        ),
        () => (&[][..], [0; 3], true),
    };
    let mut flags = FLAG_ANSWER | u16::from(frame.head.opcode) << 11 | (body.rcode & 0xf);
    for (set, flag) in [
        (body.authoritative, FLAG_AUTHORITATIVE),
        (truncated, FLAG_TRUNCATED),
        (frame.head.recursion_desired, FLAG_RECURSION_DESIRED),
        (frame.head.checking_disabled, FLAG_CHECKING_DISABLED),
    ] {
        flags |= if set { flag } else { 0 };
    }
    let additional = counts[2] + u16::from(frame.opt.is_some());
    let questions = u16::from(frame.question.is_some());
    for number in [frame.head.id, flags, questions, counts[0], counts[1], additional] {
        out.extend(number.to_be_bytes());
    }
    out.extend(question);
    out.extend(bytes);
    if let Some(opt) = frame.opt {
        write_opt(opt, body.rcode, out);
    }
    truncated
}

fn write_opt(opt: Opt<'_>, rcode: u16, out: &mut Vec<u8>) {
    out.push(0);
    out.extend(kind::OPT.to_be_bytes());
    out.extend((MAX_UDP as u16).to_be_bytes());
    out.extend([(rcode >> 4) as u8, 0]);
    out.extend((u16::from(opt.dnssec_ok) << 15).to_be_bytes());
    match opt.cookie {
        Some((client, server)) => {
            let length = client.len() + server.len();
            out.extend((4 + length as u16).to_be_bytes());
            out.extend(10_u16.to_be_bytes());
            out.extend((length as u16).to_be_bytes());
            out.extend(client);
            out.extend(server);
        }
        None => out.extend([0, 0]),
    }
}

/// One more record was added at the end.
pub(crate) fn count_additional(out: &mut [u8]) {
    if let Some([high, low]) = out.get_mut(10..12) {
        let count = u16::from_be_bytes([*high, *low]).saturating_add(1);
        [*high, *low] = count.to_be_bytes();
    }
}

/// A record with its whole name, for transfers.
pub(crate) fn record(owner: &[u8], kind: u16, ttl: u32, data: &[u8], out: &mut Vec<u8>) {
    out.extend(owner);
    fixed(kind, ttl, data, out);
}

fn fixed(kind: u16, ttl: u32, data: &[u8], out: &mut Vec<u8>) {
    out.extend(kind.to_be_bytes());
    out.extend(CLASS_IN.to_be_bytes());
    out.extend(ttl.to_be_bytes());
    out.extend((data.len() as u16).to_be_bytes());
    out.extend(data);
}

struct Writer<'n> {
    bytes: Vec<u8>,
    /// Its name is what other names are compressed with: all have at least the zone's in common with it.
    question: &'n [u8],
}

impl Writer<'_> {
    fn section(&mut self, entries: &[Entry<'_>]) -> u16 {
        let mut count = 0;
        for entry in entries {
            let owner = entry.owner.unwrap_or(self.question);
            if entry.records {
                for data in &entry.set.data {
                    self.name(owner);
                    fixed(entry.set.kind, entry.set.ttl, data, &mut self.bytes);
                    count += 1;
                }
            }
            if let Some(signature) = entry.set.signature.as_ref().filter(|_| entry.signature) {
                self.name(owner);
                fixed(kind::RRSIG, entry.set.ttl, signature, &mut self.bytes);
                count += 1;
            }
        }
        count
    }

    /// Labels that the question's name does not have, and a pointer to the rest.
    fn name(&mut self, name: &[u8]) {
        let mut rest = name;
        while rest.len() > 1 {
            let pointer = self.suffix_of_question(rest).filter(|at| *at <= MAX_POINTER);
            if let Some(at) = pointer {
                self.bytes.extend((POINTER | at as u16).to_be_bytes());
                return;
            }
            let (label, after) = rest.split_at((1 + usize::from(rest[0])).min(rest.len()));
            self.bytes.extend(label);
            rest = after;
        }
        self.bytes.push(0);
    }

    /// Where in the message the question's name has this end.
    fn suffix_of_question(&self, suffix: &[u8]) -> Option<usize> {
        let wanted = self.question.len().checked_sub(suffix.len())?;
        if &self.question[wanted..] != suffix {
            return None;
        }
        let mut at = 0;
        while at < wanted {
            at += 1 + usize::from(self.question[at]);
        }
        (at == wanted).then_some(HEADER + at)
    }
}

/// An error to what could not be read as a query.
pub(crate) fn refusal(head: Head, code: u16, question: Option<&[u8]>, out: &mut Vec<u8>) {
    debug_assert!(code != rcode::NOERROR);
    let frame = Frame {
        head,
        question,
        opt: None,
        limit: PLAIN_UDP,
        reserve: 0,
        truncate: false,
    };
    message(&Body::error(code), &frame, out);
}
