//! `@ipMatch`: addresses and networks.

use std::net::{IpAddr, Ipv6Addr};

/// Networks, IPv4 ones mapped into IPv6.
#[derive(Debug, Clone, Default)]
pub(crate) struct Networks(Vec<(u128, u128)>);

impl Networks {
    /// Reads `10.0.0.0/8`, `::1`, `192.168.1.1`.
    pub(crate) fn add(&mut self, text: &str) -> Result<(), String> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let wrong = || format!("{text} is neither an address nor a network");
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most: u32 = if address.is_ipv4() { 32 } else { 128 };
        let bits: u32 = match bits {
            None => most,
            Some(bits) => bits.parse().map_err(|_| wrong())?,
        };
        if bits > most {
            return Err(wrong());
        }
        let host_bits = most - bits;
        let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
        self.0.push((number(address) & mask, mask));
        Ok(())
    }

    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let address = number(address);
        self.0.iter().any(|(network, mask)| address & mask == *network)
    }
}

fn number(address: IpAddr) -> u128 {
    let wide: Ipv6Addr = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    u128::from(wide)
}
