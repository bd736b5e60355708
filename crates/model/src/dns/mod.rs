//! DNS: names, records and zones as the manifest writes them and the DNS server serves them.

mod name;
mod record;
mod text;

pub use name::{DnsName, DnsNameError};
pub use record::{DnsData, DnsRecord};
pub use text::{DnsRecordError, type_number};

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

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

/// Addresses with a common prefix, in CIDR form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// The text is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no network: expected an address with a prefix length, such as 192.0.2.0/24 or 2001:db8::/32"
)]
pub struct NetworkError(String);

impl Network {
    /// Whether an address is in it. An IPv4 address in IPv6 form is that IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                mask4(network, self.bits) == mask4(address, self.bits)
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                mask6(network, self.bits) == mask6(address, self.bits)
            }
            _ => false,
        }
    }
}

fn mask4(address: Ipv4Addr, bits: u8) -> u32 {
    address.to_bits() & u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0)
}

fn mask6(address: Ipv6Addr, bits: u8) -> u128 {
    address.to_bits() & u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0)
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let error = || NetworkError(text.to_owned());
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| error())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) if bits.bytes().all(|b| b.is_ascii_digit()) => bits.parse().map_err(|_| error())?,
            Some(_) => return Err(error()),
            None => longest,
        };
        if bits > longest {
            return Err(error());
        }
        Ok(Self { address, bits })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

impl TryFrom<String> for Network {
    type Error = NetworkError;

    fn try_from(text: String) -> Result<Self, NetworkError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_its_addresses_and_no_others() {
        for (network, inside, outside) in [
            ("192.0.2.0/24", "192.0.2.255", "192.0.3.0"),
            ("0.0.0.0/0", "203.0.113.9", "::1"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("2001:db8::/56", "2001:db8:0:ff::1", "2001:db8:0:100::1"),
            ("::/0", "2001:db8::1", "192.0.2.1"),
            ("192.0.2.0/24", "::ffff:192.0.2.1", "::ffff:192.0.3.1"),
        ] {
            let parsed: Network = network.parse().unwrap();
            assert!(parsed.contains(inside.parse().unwrap()), "{network} {inside}");
            assert!(!parsed.contains(outside.parse().unwrap()), "{network} {outside}");
            assert_eq!(parsed.to_string().parse::<Network>().unwrap(), parsed);
        }
        for text in [
            "",
            "192.0.2.0/33",
            "192.0.2.0/",
            "192.0.2.0/+8",
            "::/129",
            "example/8",
        ] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }
}
