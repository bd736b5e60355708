//! Resource records.

use super::DnsName;
use super::text;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// One record. Written and read in zone-file form (RFC 1035 section 5.1), with absolute names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct DnsRecord {
    /// Whose it is.
    pub name: DnsName,
    /// How long resolvers may keep it.
    pub ttl_s: u32,
    /// What it says.
    pub data: DnsData,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum DnsData {
    /// An IPv4 address.
    A(Ipv4Addr),
    /// An IPv6 address.
    Aaaa(Ipv6Addr),
    /// Everything about this name is at another one.
    Cname(DnsName),
    /// The addresses are those of another name: a CNAME that the server resolves itself. It never leaves the server.
    Alias(DnsName),
    /// A name server of this name and what is below.
    Ns(DnsName),
    /// A name for an address.
    Ptr(DnsName),
    /// A mail server.
    Mx {
        /// Lower is tried first.
        preference: u16,
        /// Its name; the root takes no mail (RFC 7505).
        exchange: DnsName,
    },
    /// Text, in pieces of up to 255 bytes.
    Txt(Vec<Box<[u8]>>),
    /// Where a service is (RFC 2782).
    Srv {
        /// Lower is tried first.
        priority: u16,
        /// Share among equal priorities.
        weight: u16,
        /// Port.
        port: u16,
        /// Its name.
        target: DnsName,
    },
    /// Who may issue certificates (RFC 8659).
    Caa {
        /// 128: an issuer that does not know the tag must not issue.
        flags: u8,
        /// `issue`, `issuewild`, `iodef`, …
        tag: String,
        /// Its value.
        value: Box<[u8]>,
    },
    /// Any other type, as its bytes (RFC 3597).
    Other {
        /// Its number.
        kind: u16,
        /// Its data.
        data: Box<[u8]>,
    },
}

/// Numbers of record types (RFC 1035 and those that came later).
pub(super) mod kind {
    pub(crate) const A: u16 = 1;
    pub(crate) const NS: u16 = 2;
    pub(crate) const CNAME: u16 = 5;
    pub(crate) const PTR: u16 = 12;
    pub(crate) const MX: u16 = 15;
    pub(crate) const TXT: u16 = 16;
    pub(crate) const AAAA: u16 = 28;
    pub(crate) const SRV: u16 = 33;
    pub(crate) const DS: u16 = 43;
    pub(crate) const SSHFP: u16 = 44;
    pub(crate) const TLSA: u16 = 52;
    pub(crate) const SMIMEA: u16 = 53;
    pub(crate) const CAA: u16 = 257;
}

impl DnsRecord {
    /// Reads one line of a zone file: `NAME [TTL] [IN] TYPE DATA`.
    ///
    /// # Errors
    /// What is wrong with it, and what to write instead.
    pub fn parse(line: &str, origin: &DnsName, default_ttl_s: u32) -> Result<Self, text::DnsRecordError> {
        text::parse(line, origin, default_ttl_s)
    }
}

impl DnsData {
    /// The number of its type; none for an alias, which is not on the wire.
    pub fn kind(&self) -> Option<u16> {
        Some(match self {
            Self::A(_) => kind::A,
            Self::Aaaa(_) => kind::AAAA,
            Self::Cname(_) => kind::CNAME,
            Self::Alias(_) => return None,
            Self::Ns(_) => kind::NS,
            Self::Ptr(_) => kind::PTR,
            Self::Mx { .. } => kind::MX,
            Self::Txt(_) => kind::TXT,
            Self::Srv { .. } => kind::SRV,
            Self::Caa { .. } => kind::CAA,
            Self::Other { kind, .. } => *kind,
        })
    }

    /// Its data on the wire, without compression; none for an alias.
    pub fn wire(&self) -> Option<Vec<u8>> {
        Some(match self {
            Self::A(address) => address.octets().to_vec(),
            Self::Aaaa(address) => address.octets().to_vec(),
            Self::Alias(_) => return None,
            Self::Cname(name) | Self::Ns(name) | Self::Ptr(name) => name.wire().to_vec(),
            Self::Mx { preference, exchange } => [&preference.to_be_bytes(), exchange.wire()].concat(),
            Self::Txt(pieces) => {
                let piece =
                    |piece: &[u8]| [&[piece.len().min(255) as u8], &piece[..piece.len().min(255)]].concat();
                pieces.iter().flat_map(|bytes| piece(bytes)).collect()
            }
            Self::Srv {
                priority,
                weight,
                port,
                target,
            } => [
                &priority.to_be_bytes(),
                &weight.to_be_bytes(),
                &port.to_be_bytes(),
                target.wire(),
            ]
            .concat(),
            Self::Caa { flags, tag, value } => {
                [&[*flags, tag.len().min(255) as u8], tag.as_bytes(), value].concat()
            }
            Self::Other { data, .. } => data.to_vec(),
        })
    }

    /// The word for its type.
    pub fn type_name(&self) -> String {
        match self.kind() {
            Some(kind) => text::type_name(kind),
            None => "ALIAS".to_owned(),
        }
    }
}

impl fmt::Display for DnsData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::A(address) => write!(f, "A {address}"),
            Self::Aaaa(address) => write!(f, "AAAA {address}"),
            Self::Cname(name) => write!(f, "CNAME {name}"),
            Self::Alias(name) => write!(f, "ALIAS {name}"),
            Self::Ns(name) => write!(f, "NS {name}"),
            Self::Ptr(name) => write!(f, "PTR {name}"),
            Self::Mx { preference, exchange } => write!(f, "MX {preference} {exchange}"),
            Self::Txt(pieces) => {
                f.write_str("TXT")?;
                pieces
                    .iter()
                    .try_for_each(|piece| write!(f, " {}", text::quoted(piece)))
            }
            Self::Srv {
                priority,
                weight,
                port,
                target,
            } => write!(f, "SRV {priority} {weight} {port} {target}"),
            Self::Caa { flags, tag, value } => write!(f, "CAA {flags} {tag} {}", text::quoted(value)),
            Self::Other { kind, data } => text::write_other(f, *kind, data),
        }
    }
}

impl fmt::Display for DnsRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} IN {}", self.name, self.ttl_s, self.data)
    }
}

impl From<DnsRecord> for String {
    fn from(record: DnsRecord) -> Self {
        record.to_string()
    }
}

impl TryFrom<String> for DnsRecord {
    type Error = text::DnsRecordError;

    fn try_from(line: String) -> Result<Self, text::DnsRecordError> {
        Self::parse(&line, &DnsName::root(), 300)
    }
}
