//! DNS: names, records and zones as the manifest writes them and the DNS server serves them.

mod name;
mod record;
mod text;

pub use name::{DnsName, DnsNameError};
pub use record::{DnsData, DnsRecord};
pub use text::{DnsRecordError, type_number};

use crate::Network;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;

/// All that the DNS server needs to know. Holds no secret: keys are in files that only the edge may read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DnsSnapshot {
    /// Grows with every publication.
    pub version: u64,
    /// The zones it is authoritative for.
    pub zones: Vec<DnsZone>,
    /// Who may transfer them.
    #[serde(default)]
    pub transfer_keys: Vec<TransferKey>,
    /// How often equal answers are given.
    #[serde(default)]
    pub rate: ResponseRate,
}

/// One zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsZone {
    /// Its apex.
    pub origin: DnsName,
    /// Grows with each change (RFC 1982).
    pub serial: u32,
    /// The primary name server, for the SOA record.
    pub primary: DnsName,
    /// Mailbox of who answers for the zone, as a name, for the SOA record.
    pub contact: DnsName,
    /// How long resolvers remember that a name or type is not there (RFC 2308).
    pub negative_ttl_s: u32,
    /// Everything but the SOA record and what signing adds.
    pub records: Vec<DnsRecord>,
    /// The key that signs it (PKCS #8, ECDSA P-256); unsigned without one.
    #[serde(default)]
    pub signing_key: Option<PathBuf>,
    /// Told about each new serial (RFC 1996).
    #[serde(default)]
    pub notify: Vec<SocketAddr>,
}

/// A key of a secondary (RFC 8945).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferKey {
    /// Its name; both sides have the same.
    pub name: DnsName,
    /// File with the key in Base64.
    pub file: PathBuf,
}

/// Response rate limiting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponseRate {
    /// Equal answers to one network in a second; 0 is no limit.
    pub per_s: u32,
    /// Networks without a limit.
    #[serde(default)]
    pub exempt: Vec<Network>,
}

impl Default for ResponseRate {
    fn default() -> Self {
        Self {
            per_s: 20,
            exempt: Vec::new(),
        }
    }
}
