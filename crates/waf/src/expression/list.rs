//! Sets that values may be in: written out, or by name.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use thiserror::Error;

/// The lists that expressions may name.
#[derive(Debug, Clone, Default)]
pub struct Lists(BTreeMap<String, Arc<List>>);

/// Values of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum List {
    /// Addresses and networks.
    Ip(IpSet),
    /// Strings.
    Text(Vec<Box<[u8]>>),
    /// Numbers, from and to.
    Int(Vec<(i64, i64)>),
}

/// What a list holds, where its items are read from text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListKind {
    /// Addresses, networks and ranges.
    Ip,
    /// Host names; they are compared in lower case, as `http.host` has them.
    Hostname,
    /// Strings as they stand.
    Text,
    /// Numbers (`200`) and ranges (`400..499`).
    Number,
    /// Numbers of autonomous systems (`64500`, `AS64500`).
    Asn,
}

impl ListKind {
    fn one(self) -> &'static str {
        match self {
            Self::Ip => "IP address, network or range",
            Self::Hostname => "host name",
            Self::Text => "text",
            Self::Number => "number or range",
            Self::Asn => "number of an autonomous system",
        }
    }
}

/// Why a list cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("'{item}' is no {}", .kind.one())]
pub struct ListError {
    /// The first item that is none.
    pub item: String,
    /// Of what it is none.
    pub kind: ListKind,
}

impl Lists {
    /// Adds a list, or takes the place of one.
    pub fn insert(&mut self, name: impl Into<String>, list: List) {
        self.0.insert(name.into(), Arc::new(list));
    }

    pub(super) fn get(&self, name: &str) -> Option<Arc<List>> {
        self.0.get(name).cloned()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl List {
    /// Addresses (`192.0.2.1`), networks (`2001:db8::/32`) and ranges (`192.0.2.1..192.0.2.9`).
    pub fn ips<'i>(items: impl IntoIterator<Item = &'i str>) -> Result<List, ListError> {
        let ranges: Result<Vec<_>, _> = items
            .into_iter()
            .map(|item| ip_range(item.trim()).ok_or_else(|| ListError::of(ListKind::Ip, item)))
            .collect();
        Ok(List::Ip(IpSet::new(ranges?)))
    }

    /// Items as they are written.
    pub fn read<'i>(kind: ListKind, items: impl IntoIterator<Item = &'i str>) -> Result<List, ListError> {
        let items = items.into_iter();
        match kind {
            ListKind::Ip => List::ips(items),
            ListKind::Text => Ok(List::texts(items)),
            ListKind::Hostname => {
                let names: Result<Vec<String>, ListError> = items
                    .map(|item| host_name(item).ok_or_else(|| ListError::of(kind, item)))
                    .collect();
                Ok(List::texts(names?))
            }
            ListKind::Number => {
                let ranges: Result<Vec<_>, ListError> = items
                    .map(|item| int_range(item.trim()).ok_or_else(|| ListError::of(kind, item)))
                    .collect();
                Ok(List::ints(ranges?))
            }
            ListKind::Asn => {
                let numbers: Result<Vec<_>, ListError> = items
                    .map(|item| as_number(item.trim()).ok_or_else(|| ListError::of(kind, item)))
                    .collect();
                Ok(List::ints(numbers?.into_iter().map(|number| (number, number))))
            }
        }
    }

    /// Strings.
    pub fn texts(items: impl IntoIterator<Item = impl Into<Vec<u8>>>) -> List {
        let mut texts: Vec<Box<[u8]>> = items.into_iter().map(|item| item.into().into()).collect();
        texts.sort_unstable();
        texts.dedup();
        List::Text(texts)
    }

    /// Numbers.
    pub fn ints(items: impl IntoIterator<Item = (i64, i64)>) -> List {
        let mut ranges: Vec<_> = items.into_iter().collect();
        merge(&mut ranges, |end| end.saturating_add(1));
        List::Int(ranges)
    }

    pub(super) fn has_text(&self, text: &[u8]) -> bool {
        matches!(self, List::Text(texts) if texts.binary_search_by(|known| (**known).cmp(text)).is_ok())
    }

    pub(super) fn has_int(&self, int: i64) -> bool {
        matches!(self, List::Int(ranges) if within(ranges, int))
    }

    pub(super) fn has_ip(&self, ip: IpAddr) -> bool {
        matches!(self, List::Ip(set) if set.has(ip))
    }
}

impl ListError {
    fn of(kind: ListKind, item: &str) -> Self {
        Self {
            item: item.to_owned(),
            kind,
        }
    }
}

/// As `http.host` says it: in lower case, without a dot at the end.
fn host_name(item: &str) -> Option<String> {
    let name = item.trim().trim_end_matches('.').to_ascii_lowercase();
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    (name.len() <= 253 && name.split('.').all(is_label)).then_some(name)
}

fn as_number(item: &str) -> Option<i64> {
    let digits = item.strip_prefix("AS").unwrap_or(item);
    digits.parse::<u32>().ok().map(i64::from)
}

/// A number or a range, from and to.
fn int_range(item: &str) -> Option<(i64, i64)> {
    let (first, last) = item.split_once("..").unwrap_or((item, item));
    let range: (i64, i64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (range.0 <= range.1).then_some(range)
}

/// Ranges of addresses, sorted and apart from each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IpSet {
    four: Vec<(u32, u32)>,
    six: Vec<(u128, u128)>,
}

impl IpSet {
    pub(super) fn new(ranges: Vec<(IpAddr, IpAddr)>) -> IpSet {
        let mut set = IpSet::default();
        for range in ranges {
            match range {
                (IpAddr::V4(first), IpAddr::V4(last)) => set.four.push((first.into(), last.into())),
                (IpAddr::V6(first), IpAddr::V6(last)) => set.six.push((first.into(), last.into())),
                // No reader of ranges lets families be mixed.
                _ => {}
            }
        }
        merge(&mut set.four, |end| end.saturating_add(1));
        merge(&mut set.six, |end| end.saturating_add(1));
        set
    }

    fn has(&self, ip: IpAddr) -> bool {
        match ip.to_canonical() {
            IpAddr::V4(four) => within(&self.four, u32::from(four)),
            IpAddr::V6(six) => within(&self.six, u128::from(six)),
        }
    }
}

/// An address, a network or a range, from and to.
pub(super) fn ip_range(item: &str) -> Option<(IpAddr, IpAddr)> {
    if let Some((first, last)) = item.split_once("..") {
        let range: (IpAddr, IpAddr) = (first.parse().ok()?, last.parse().ok()?);
        return (range.0.is_ipv4() == range.1.is_ipv4() && range.0 <= range.1).then_some(range);
    }
    let Some((address, bits)) = item.split_once('/') else {
        let address = item.parse().ok()?;
        return Some((address, address));
    };
    let bits: u32 = bits.parse().ok()?;
    match address.parse().ok()? {
        IpAddr::V4(address) if bits <= 32 => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            let first = u32::from(address) & mask;
            Some((Ipv4Addr::from(first).into(), Ipv4Addr::from(first | !mask).into()))
        }
        IpAddr::V6(address) if bits <= 128 => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            let first = u128::from(address) & mask;
            Some((Ipv6Addr::from(first).into(), Ipv6Addr::from(first | !mask).into()))
        }
        _ => None,
    }
}

/// Sorts ranges and joins those that touch.
fn merge<T: Ord + Copy>(ranges: &mut Vec<(T, T)>, next: impl Fn(T) -> T) {
    ranges.sort_unstable();
    ranges.dedup_by(|later, before| {
        let touch = later.0 <= next(before.1);
        if touch {
            before.1 = before.1.max(later.1);
        }
        touch
    });
}

fn within<T: Ord + Copy>(ranges: &[(T, T)], value: T) -> bool {
    let place = ranges.partition_point(|(first, _)| *first <= value);
    place > 0 && value <= ranges[place - 1].1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_networks_and_ranges() {
        let list = List::ips([
            "192.0.2.7/24",
            "198.51.100.1",
            "203.0.113.1..203.0.113.9",
            "2001:db8::/32",
            "0.0.0.0/32",
        ]);
        let list = list.unwrap();
        for (ip, wanted) in [
            ("192.0.2.0", true),
            ("192.0.2.255", true),
            ("192.0.3.0", false),
            ("198.51.100.1", true),
            ("198.51.100.2", false),
            ("203.0.113.5", true),
            ("203.0.113.10", false),
            ("2001:db8:ffff::1", true),
            ("2001:db9::", false),
            ("::ffff:192.0.2.1", true),
        ] {
            assert_eq!(list.has_ip(ip.parse().unwrap()), wanted, "{ip}");
        }
        assert!(
            List::ips(["0.0.0.0/0"])
                .unwrap()
                .has_ip("8.8.8.8".parse().unwrap())
        );
        for item in [
            "1.2.3",
            "1.2.3.4/33",
            "1.2.3.4..::1",
            "1.2.3.9..1.2.3.4",
            "::/129",
            "",
        ] {
            let error = List::ips([item]).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("'{item}' is no IP address, network or range")
            );
        }
    }

    #[test]
    fn numbers_and_strings() {
        let list = List::ints([(5, 10), (1, 1), (11, 12), (i64::MAX, i64::MAX)]);
        assert_eq!(list, List::Int(vec![(1, 1), (5, 12), (i64::MAX, i64::MAX)]));
        assert!(list.has_int(12) && list.has_int(i64::MAX) && !list.has_int(4) && !list.has_int(13));
        let list = List::texts(["b", "a", "b"]);
        assert!(list.has_text(b"a") && list.has_text(b"b") && !list.has_text(b"c") && !list.has_int(1));
    }

    #[test]
    fn items_are_read_as_their_kind_says() {
        let has = |kind, items: &[&str], text: &str| {
            List::read(kind, items.iter().copied())
                .unwrap()
                .has_text(text.as_bytes())
        };
        assert!(has(
            ListKind::Hostname,
            &["App.Example.", "b_c.example"],
            "app.example"
        ));
        assert!(has(ListKind::Text, &["App.Example"], "App.Example"));
        assert!(!has(ListKind::Text, &["App.Example"], "app.example"));
        let numbers = List::read(ListKind::Number, ["200", " 400 .. 499", "-1"]).unwrap();
        assert!(numbers.has_int(450) && numbers.has_int(-1) && !numbers.has_int(399));
        let systems = List::read(ListKind::Asn, ["64500", "AS4200000000"]).unwrap();
        assert!(systems.has_int(64_500) && systems.has_int(4_200_000_000) && !systems.has_int(64_501));
        for (kind, wrong, says) in [
            (ListKind::Asn, "4294967296", "autonomous system"),
            (ListKind::Asn, "64500..64511", "autonomous system"),
            (ListKind::Number, "9..1", "number or range"),
            (ListKind::Number, "a", "number or range"),
            (ListKind::Hostname, "*.example", "host name"),
            (ListKind::Hostname, "a..b", "host name"),
            (ListKind::Hostname, "", "host name"),
            (ListKind::Ip, "a", "IP address"),
        ] {
            let error = List::read(kind, [wrong]).unwrap_err().to_string();
            assert!(error.contains(says), "{wrong}: {error}");
        }
    }
}
