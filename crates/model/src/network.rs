//! Networks in CIDR form.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A network, as `192.0.2.0/24` or `2001:db8::/32`; an address alone is a network of one. An IPv4 address that an IPv6
/// socket reports in its mapped form (`::ffff:192.0.2.1`) is the IPv4 address, in networks and in what is asked of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// A text is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Not an address.
    #[error("\"{0}\" is no network: write an address or a CIDR such as 192.0.2.0/24 or 2001:db8::/32")]
    Malformed(String),
    /// A prefix longer than the address.
    #[error("\"{text}\" has a prefix of more than {most} bits")]
    Prefix {
        /// As it was written.
        text: String,
        /// Bits of an address of its family.
        most: u8,
    },
    /// Bits behind the prefix: one of the two is a mistake, and only the writer knows which.
    #[error(
        "\"{text}\" has bits set behind its prefix: write {network} for the network, or {address} for the one address"
    )]
    HostBits {
        /// As it was written.
        text: String,
        /// What it may have meant.
        network: Network,
        /// What else it may have meant.
        address: IpAddr,
    },
}

impl Network {
    /// Whether an address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let mask = mask_v4(self.prefix);
                own.to_bits() & mask == other.to_bits() & mask
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let mask = mask_v6(self.prefix);
                own.to_bits() & mask == other.to_bits() & mask
            }
            _ => false,
        }
    }
}

/// Whether one of them has the address.
pub fn any_contains(networks: &[Network], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(address))
}

fn mask_v4(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

fn mask_v6(prefix: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0)
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let malformed = || NetworkError::Malformed(text.to_owned());
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let written: IpAddr = address.parse().map_err(|_| malformed())?;
        let bits = match written {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        let prefix = match prefix {
            None => bits,
            Some(prefix) => {
                let digits = prefix.bytes().all(|byte| byte.is_ascii_digit());
                let leading = prefix.len() > 1 && prefix.starts_with('0');
                if !digits || leading || prefix.is_empty() || prefix.len() > 3 {
                    return Err(malformed());
                }
                prefix.parse::<u16>().map_err(|_| malformed())?
            }
        };
        if prefix > bits {
            return Err(NetworkError::Prefix {
                text: text.to_owned(),
                most: u8::try_from(bits).unwrap_or(128),
            });
        }
        // ::ffff:192.0.2.0/120 is 192.0.2.0/24.
        let (address, prefix) = match (written, written.to_canonical()) {
            (IpAddr::V6(_), canonical @ IpAddr::V4(_)) if prefix >= 96 => (canonical, prefix - 96),
            (written, _) => (written, prefix),
        };
        let prefix = u8::try_from(prefix).unwrap_or(128);
        let first = match address {
            IpAddr::V4(address) => IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask_v4(prefix))),
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask_v6(prefix))),
        };
        let network = Self {
            address: first,
            prefix,
        };
        if first != address {
            return Err(NetworkError::HostBits {
                text: text.to_owned(),
                network,
                address,
            });
        }
        Ok(network)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl TryFrom<String> for Network {
    type Error = NetworkError;

    fn try_from(text: String) -> Result<Self, NetworkError> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

impl schemars::JsonSchema for Network {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Network".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        String::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn networks_are_read_strictly() {
        for (text, reads) in [
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("2001:DB8:0::1", "2001:db8::1/128"),
            ("::/0", "::/0"),
            ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
            ("::ffff:192.0.2.1", "192.0.2.1/32"),
        ] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), reads, "{text}");
        }
        for text in [
            "",
            "/",
            "1.2.3/8",
            "1.2.3.4/",
            "1.2.3.4/-1",
            "1.2.3.4/+8",
            "1.2.3.4/032",
            "1.2.3.4/33",
            "::/129",
            "1.2.3.4/8/8",
            " 1.2.3.4",
            "01.2.3.4",
            "localhost",
            "1.2.3.4/1000",
            "[::1]",
            "fe80::1%eth0",
        ] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
        let error = "10.1.0.0/8".parse::<Network>().unwrap_err().to_string();
        assert!(
            error.contains("10.0.0.0/8") && error.contains("10.1.0.0 "),
            "{error}"
        );
    }

    #[test]
    fn a_mapped_address_is_the_address() {
        let network: Network = "192.0.2.0/24".parse().unwrap();
        assert!(network.contains("::ffff:192.0.2.9".parse().unwrap()));
        assert!(!network.contains("::ffff:192.0.3.9".parse().unwrap()));
        assert!(!network.contains("::192.0.2.9".parse().unwrap()));
        let everything: Network = "::/0".parse().unwrap();
        assert!(
            !everything.contains("192.0.2.9".parse().unwrap()),
            "another family"
        );
    }

    proptest! {
        #[test]
        fn a_network_has_what_its_prefix_says(bits in any::<u32>(), other in any::<u32>(), prefix in 0_u8..=32) {
            let first = Ipv4Addr::from_bits(bits & mask_v4(prefix));
            let network: Network = format!("{first}/{prefix}").parse().unwrap();
            let shift = 32 - u32::from(prefix);
            let same = shift == 32 || bits >> shift == other >> shift;
            prop_assert_eq!(network.contains(Ipv4Addr::from_bits(other).into()), same);
        }

        #[test]
        fn no_text_panics_and_reading_is_idempotent(text in "[0-9a-f.:/]{0,20}") {
            if let Ok(network) = text.parse::<Network>() {
                prop_assert_eq!(network.to_string().parse::<Network>().unwrap(), network);
            }
        }
    }
}
