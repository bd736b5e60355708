//! Reads a query. Everything here is hostile input: every length is checked, nothing is allocated, and what a query
//! has no use for is an error.

use std::fmt;

/// Bytes of a message's head (RFC 1035 section 4.1.1).
pub(crate) const HEADER: usize = 12;
const MAX_NAME: usize = 255;
/// Labels of a name: 127 of one byte each, and the root.
const MAX_LABELS: usize = 128;

/// Record types and classes that a query may name.
pub(crate) mod kind {
    pub(crate) const A: u16 = 1;
    pub(crate) const NS: u16 = 2;
    pub(crate) const CNAME: u16 = 5;
    pub(crate) const SOA: u16 = 6;
    pub(crate) const PTR: u16 = 12;
    pub(crate) const MX: u16 = 15;
    pub(crate) const AAAA: u16 = 28;
    pub(crate) const SRV: u16 = 33;
    pub(crate) const OPT: u16 = 41;
    pub(crate) const DS: u16 = 43;
    pub(crate) const RRSIG: u16 = 46;
    pub(crate) const NSEC: u16 = 47;
    pub(crate) const DNSKEY: u16 = 48;
    pub(crate) const CDS: u16 = 59;
    pub(crate) const CDNSKEY: u16 = 60;
    pub(crate) const TSIG: u16 = 250;
    pub(crate) const IXFR: u16 = 251;
    pub(crate) const AXFR: u16 = 252;
    pub(crate) const ANY: u16 = 255;
}

pub(crate) const CLASS_IN: u16 = 1;
pub(crate) const CLASS_ANY: u16 = 255;
const OPCODE_QUERY: u8 = 0;
const OPTION_COOKIE: u16 = 10;

/// Response codes (RFC 1035, RFC 2136, RFC 6891).
pub(crate) mod rcode {
    pub(crate) const NOERROR: u16 = 0;
    pub(crate) const FORMERR: u16 = 1;
    pub(crate) const NXDOMAIN: u16 = 3;
    pub(crate) const NOTIMP: u16 = 4;
    pub(crate) const REFUSED: u16 = 5;
    pub(crate) const NOTAUTH: u16 = 9;
    pub(crate) const BADVERS: u16 = 16;
}

/// A name as it was asked for, in lower case.
#[derive(Clone)]
pub(crate) struct QueryName {
    wire: [u8; MAX_NAME],
    length: u8,
    starts: [u8; MAX_LABELS],
    labels: u8,
}

/// A query that can be answered.
#[derive(Debug, Clone)]
pub(crate) struct Query<'m> {
    pub(crate) head: Head,
    /// The question as it came, for the answer's.
    pub(crate) question: &'m [u8],
    pub(crate) name: QueryName,
    pub(crate) kind: u16,
    pub(crate) class: u16,
    pub(crate) edns: Option<Edns<'m>>,
    pub(crate) signed: Option<Signed<'m>>,
}

/// The first bytes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) id: u16,
    pub(crate) opcode: u8,
    pub(crate) recursion_desired: bool,
    pub(crate) checking_disabled: bool,
}

/// The OPT record (RFC 6891).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Edns<'m> {
    pub(crate) payload: u16,
    pub(crate) version: u8,
    pub(crate) dnssec_ok: bool,
    /// A cookie (RFC 7873): 8 bytes, or 16 to 40.
    pub(crate) cookie: Option<&'m [u8]>,
}

/// The TSIG record (RFC 8945), not verified yet.
#[derive(Debug, Clone)]
pub(crate) struct Signed<'m> {
    /// Where it begins: what is before it was signed.
    pub(crate) at: usize,
    pub(crate) key: QueryName,
    pub(crate) algorithm: QueryName,
    /// Seconds since the epoch.
    pub(crate) time: u64,
    pub(crate) fudge: u16,
    pub(crate) mac: &'m [u8],
    pub(crate) original_id: u16,
    pub(crate) error: u16,
    pub(crate) other: &'m [u8],
}

/// No query, or none that is answered as such.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unanswerable {
    /// Nothing is sent: too short to be a message, or an answer (RFC 1035 has no answer to an answer).
    Silent,
    /// An error is sent, with the question when it could be read.
    Error {
        head: Head,
        rcode: u16,
        question: Option<usize>,
    },
}

impl QueryName {
    /// As on the wire, in lower case.
    pub(crate) fn wire(&self) -> &[u8] {
        &self.wire[..usize::from(self.length)]
    }

    /// From the whole name to the root: each without the label before.
    pub(crate) fn suffixes(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.starts()
            .iter()
            .map(|start| &self.wire()[usize::from(*start)..])
    }

    /// Where each label begins; the last is the root's.
    pub(crate) fn starts(&self) -> &[u8] {
        &self.starts[..usize::from(self.labels)]
    }

    /// Whether a name on the wire is this one or ends with it is the caller's to know; this reads one from a message.
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let mut name = Self {
            wire: [0; MAX_NAME],
            length: 0,
            starts: [0; MAX_LABELS],
            labels: 0,
        };
        let mut at = 0_usize;
        loop {
            let length = reader.u8()?;
            // A pointer (0xc0 and above) has nothing to point at here.
            if length > 63
                || at + 1 + usize::from(length) > MAX_NAME
                || usize::from(name.labels) == MAX_LABELS
            {
                return None;
            }
            name.starts[usize::from(name.labels)] = at as u8;
            name.labels += 1;
            name.wire[at] = length;
            at += 1;
            if length == 0 {
                name.length = at as u8;
                return Some(name);
            }
            let label = reader.bytes(usize::from(length))?;
            let end = at + usize::from(length);
            name.wire[at..end].copy_from_slice(label);
            name.wire[at..end].make_ascii_lowercase();
            at = end;
        }
    }
}

impl fmt::Debug for QueryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match astraler_model::DnsName::from_wire(self.wire()) {
            Some(name) => write!(f, "{name}"),
            None => f.write_str("?"),
        }
    }
}

/// Reads a message.
pub(crate) fn read(message: &[u8]) -> Result<Query<'_>, Unanswerable> {
    let mut reader = Reader { message, at: 0 };
    let (head, counts) = head(&mut reader).ok_or(Unanswerable::Silent)?;
    let error = |rcode, question| Unanswerable::Error {
        head,
        rcode,
        question,
    };
    if head.opcode != OPCODE_QUERY {
        return Err(error(rcode::NOTIMP, None));
    }
    let [questions, answers, authorities, additionals] = counts;
    if questions != 1 {
        return Err(error(rcode::FORMERR, None));
    }
    let (name, kind, class) = question(&mut reader).ok_or(error(rcode::FORMERR, None))?;
    let end = reader.at;
    let malformed = error(rcode::FORMERR, Some(end));
    // A secondary that asks for what has changed says what it has (RFC 1995).
    let allowed = u16::from(kind == self::kind::IXFR);
    if answers != 0 || authorities > allowed || additionals > MAX_ADDITIONALS {
        return Err(malformed);
    }
    for _ in 0..authorities {
        record(&mut reader).ok_or(malformed)?;
    }
    let (mut edns, mut signed) = (None, None);
    for index in 0..additionals {
        let at = reader.at;
        let record = record(&mut reader).ok_or(malformed)?;
        match record.kind {
            self::kind::OPT if edns.is_none() => edns = Some(opt(&record).ok_or(malformed)?),
            self::kind::OPT => return Err(malformed),
            // It is the last one, or it is none (RFC 8945 section 5.1).
            self::kind::TSIG if index + 1 == additionals => {
                signed = Some(tsig(at, &record).ok_or(malformed)?);
            }
            self::kind::TSIG => return Err(malformed),
            _ => {}
        }
    }
    if reader.at != message.len() {
        return Err(malformed);
    }
    Ok(Query {
        head,
        question: &message[HEADER..end],
        name,
        kind,
        class,
        edns,
        signed,
    })
}

/// OPT, TSIG, and room for what somebody invents.
const MAX_ADDITIONALS: u16 = 4;

fn head(reader: &mut Reader<'_>) -> Option<(Head, [u16; 4])> {
    let id = reader.u16()?;
    let flags = reader.u16()?;
    let counts = [reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?];
    if flags & 0x8000 != 0 {
        return None;
    }
    let head = Head {
        id,
        opcode: (flags >> 11) as u8 & 0xf,
        recursion_desired: flags & 0x0100 != 0,
        checking_disabled: flags & 0x0010 != 0,
    };
    Some((head, counts))
}

fn question(reader: &mut Reader<'_>) -> Option<(QueryName, u16, u16)> {
    Some((QueryName::read(reader)?, reader.u16()?, reader.u16()?))
}

struct Record<'m> {
    name: QueryName,
    kind: u16,
    class: u16,
    ttl: u32,
    data: &'m [u8],
}

/// Names of records may be compressed in general; those of OPT and TSIG, which are the only ones we read, are not.
fn record<'m>(reader: &mut Reader<'m>) -> Option<Record<'m>> {
    let start = reader.at;
    let name = match QueryName::read(reader) {
        Some(name) => name,
        None => {
            reader.at = start;
            skip_name(reader)?;
            QueryName {
                wire: [0; MAX_NAME],
                length: 1,
                starts: [0; MAX_LABELS],
                labels: 1,
            }
        }
    };
    let (kind, class) = (reader.u16()?, reader.u16()?);
    let ttl = u32::from(reader.u16()?) << 16 | u32::from(reader.u16()?);
    let length = reader.u16()?;
    let data = reader.bytes(usize::from(length))?;
    Some(Record {
        name,
        kind,
        class,
        ttl,
        data,
    })
}

/// Past a name that ends in a pointer; where it points is nobody's concern.
fn skip_name(reader: &mut Reader<'_>) -> Option<()> {
    let mut taken = 0;
    loop {
        let length = reader.u8()?;
        match length {
            0 => return Some(()),
            0xc0.. => return reader.u8().map(drop),
            1..=63 => {
                taken += 1 + usize::from(length);
                if taken >= MAX_NAME {
                    return None;
                }
                reader.bytes(usize::from(length))?;
            }
            _ => return None,
        }
    }
}

fn opt<'m>(record: &Record<'m>) -> Option<Edns<'m>> {
    if record.name.wire() != [0] {
        return None;
    }
    let mut cookie = None;
    let mut options = Reader {
        message: record.data,
        at: 0,
    };
    while options.at < record.data.len() {
        let (code, length) = (options.u16()?, options.u16()?);
        let value = options.bytes(usize::from(length))?;
        if code == OPTION_COOKIE {
            // RFC 7873 section 5.2.2.
            let valid = value.len() == 8 || (16..=40).contains(&value.len());
            valid.then_some(())?;
            cookie = cookie.or(Some(value));
        }
    }
    Some(Edns {
        payload: record.class,
        version: (record.ttl >> 16) as u8,
        dnssec_ok: record.ttl & 0x8000 != 0,
        cookie,
    })
}

fn tsig<'m>(at: usize, record: &Record<'m>) -> Option<Signed<'m>> {
    if record.class != CLASS_ANY || record.ttl != 0 {
        return None;
    }
    let mut data = Reader {
        message: record.data,
        at: 0,
    };
    let algorithm = QueryName::read(&mut data)?;
    let time = u64::from(data.u16()?) << 32 | u64::from(data.u16()?) << 16 | u64::from(data.u16()?);
    let fudge = data.u16()?;
    let length = data.u16()?;
    let mac = data.bytes(usize::from(length))?;
    let (original_id, error) = (data.u16()?, data.u16()?);
    let length = data.u16()?;
    let other = data.bytes(usize::from(length))?;
    (data.at == record.data.len()).then_some(())?;
    Some(Signed {
        at,
        key: record.name.clone(),
        algorithm,
        time,
        fudge,
        mac,
        original_id,
        error,
        other,
    })
}

struct Reader<'m> {
    message: &'m [u8],
    at: usize,
}

impl<'m> Reader<'m> {
    fn bytes(&mut self, length: usize) -> Option<&'m [u8]> {
        let found = self.message.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(found)
    }

    fn u8(&mut self) -> Option<u8> {
        self.bytes(1).map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.bytes(2)
            .map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }
}
