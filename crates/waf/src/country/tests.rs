use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Countries, Place};
use crate::network::Networks;

/// Writes a database: a tree of the networks, and a record for each.
struct Writer {
    record_bits: usize,
    version: u16,
    /// Each with what it leads to, for either bit; a record is a number beyond all nodes.
    nodes: Vec<[Option<Leads>; 2]>,
    records: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Leads {
    Node(usize),
    Record(usize),
}

fn text(text: &str) -> Vec<u8> {
    assert!(text.len() < 29);
    [&[2 << 5 | text.len() as u8], text.as_bytes()].concat()
}

fn map(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut out = vec![7 << 5 | members.len() as u8];
    for (name, value) in members {
        out.extend(text(name));
        out.extend(value);
    }
    out
}

fn number(kind: u8, value: u32) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    let bytes = &bytes[bytes.iter().position(|byte| *byte != 0).unwrap_or(4)..];
    let mut out = match kind {
        1..=7 => vec![kind << 5 | bytes.len() as u8],
        more => vec![bytes.len() as u8, more - 7],
    };
    out.extend(bytes);
    out
}

impl Writer {
    fn new(record_bits: usize, version: u16) -> Self {
        Self {
            record_bits,
            version,
            nodes: vec![[None; 2]],
            records: Vec::new(),
        }
    }

    fn add(&mut self, network: &str, bits: usize, record: Vec<u8>) {
        let address: IpAddr = network.parse().unwrap();
        let (mut number, mut length) = match address {
            IpAddr::V4(address) => (u128::from(u32::from(address)) << 96, bits),
            IpAddr::V6(address) => (u128::from(address), bits),
        };
        if self.version == 6 && address.is_ipv4() {
            number >>= 96;
            length += 96;
        }
        let at = self.records.len();
        self.records.extend(record);
        let mut node = 0;
        for bit in 0..length {
            let side = usize::from(number >> (127 - bit) & 1 == 1);
            if bit + 1 == length {
                self.nodes[node][side] = Some(Leads::Record(at));
                break;
            }
            node = match self.nodes[node][side] {
                Some(Leads::Node(next)) => next,
                _ => {
                    self.nodes.push([None; 2]);
                    self.nodes[node][side] = Some(Leads::Node(self.nodes.len() - 1));
                    self.nodes.len() - 1
                }
            };
        }
    }

    fn file(&self) -> Vec<u8> {
        let count = self.nodes.len();
        let mut out = Vec::new();
        for node in &self.nodes {
            let [left, right] = node.map(|side| match side {
                None => count as u32,
                Some(Leads::Node(next)) => next as u32,
                Some(Leads::Record(at)) => (count + 16 + at) as u32,
            });
            let (l, r) = (left.to_be_bytes(), right.to_be_bytes());
            match self.record_bits {
                24 => out.extend([&l[1..], &r[1..]].concat()),
                28 => out.extend([&l[1..], &[l[0] << 4 | r[0]], &r[1..]].concat()),
                _ => out.extend([l, r].concat()),
            }
        }
        out.extend([0; 16]);
        out.extend(&self.records);
        out.extend(b"\xab\xcd\xefMaxMind.com");
        out.extend(map(&[
            ("binary_format_major_version", number(5, 2)),
            ("binary_format_minor_version", number(5, 0)),
            ("build_epoch", number(9, 1_800_000_000)),
            ("database_type", text("Test")),
            ("description", map(&[("en", text("of a test"))])),
            ("languages", [vec![1, 4], text("en")].concat()),
            ("is_of_a_test", vec![1, 7]),
            ("ip_version", number(5, self.version.into())),
            ("node_count", number(6, count as u32)),
            ("record_size", number(5, self.record_bits as u32)),
        ]));
        out
    }
}

fn country(code: &str) -> Vec<u8> {
    map(&[
        ("continent", map(&[("code", text("EU"))])),
        (
            "country",
            map(&[("geoname_id", number(6, 2_658_434)), ("iso_code", text(code))]),
        ),
    ])
}

fn of<'c>(countries: &'c Countries, address: &str) -> Option<&'c str> {
    countries.of(address.parse().unwrap())
}

#[test]
fn addresses_have_countries_in_every_size_of_records() {
    for bits in [24, 28, 32] {
        let mut writer = Writer::new(bits, 6);
        writer.add("192.0.2.0", 24, country("CH"));
        writer.add("198.51.100.0", 25, map(&[("country", text("FR"))]));
        writer.add("2001:db8::", 32, map(&[("country_code", text("IS"))]));
        writer.add(
            "2001:db9::",
            32,
            map(&[("registered_country", map(&[("iso_code", text("NZ"))]))]),
        );
        // What is no code is none.
        writer.add("2001:dba::", 32, map(&[("country", text("<x>"))]));
        // A record that points at another one's text.
        let at = writer.records.len() as u8;
        writer.records.extend(text("JP"));
        writer.add("203.0.113.0", 24, map(&[("country", vec![1 << 5, at])]));
        let countries = Countries::new(writer.file()).unwrap();
        for (address, code) in [
            ("192.0.2.1", Some("CH")),
            ("192.0.2.255", Some("CH")),
            ("::ffff:192.0.2.7", Some("CH")),
            ("192.0.3.0", None),
            ("198.51.100.127", Some("FR")),
            ("198.51.100.128", None),
            ("203.0.113.9", Some("JP")),
            ("2001:db8:1::1", Some("IS")),
            ("2001:db9::", Some("NZ")),
            ("2001:dba::", None),
            ("::1", None),
            ("ff02::1", None),
        ] {
            assert_eq!(of(&countries, address), code, "{bits} {address}");
        }
        let mut writer = Writer::new(bits, 4);
        writer.add("192.0.2.0", 24, country("CH"));
        let countries = Countries::new(writer.file()).unwrap();
        assert_eq!(of(&countries, "192.0.2.200"), Some("CH"));
        assert_eq!(of(&countries, "2001:db8::1"), None);
    }
}

#[test]
fn a_file_that_lies_is_an_error_or_knows_nothing() {
    let mut writer = Writer::new(28, 6);
    writer.add("192.0.2.0", 24, country("CH"));
    // A pointer that leads to itself.
    let at = writer.records.len() as u8;
    writer.add("198.51.100.0", 24, vec![1 << 5, at]);
    let file = writer.file();
    let countries = Countries::new(file.clone()).unwrap();
    assert_eq!(of(&countries, "198.51.100.1"), None);
    for length in 0..file.len() {
        if let Ok(countries) = Countries::new(file[..length].to_vec()) {
            assert_eq!(of(&countries, "192.0.2.1"), None, "{length}");
        }
    }
    assert!(Countries::new(b"GIF89a".to_vec()).is_err());
    // Every byte, changed in some ways: it may know anything, and never more than a code.
    let mut codes = BTreeMap::new();
    for place in 0..file.len() {
        for change in [1, 0x10, 0x80, 0xff] {
            let mut other = file.clone();
            other[place] ^= change;
            if let Ok(countries) = Countries::new(other) {
                for address in ["192.0.2.1", "198.51.100.1", "2001:db8::1"] {
                    let code = of(&countries, address).map(str::to_owned);
                    assert!(code.as_ref().is_none_or(|code| code.len() == 2));
                    *codes.entry(code).or_insert(0) += 1;
                }
            }
        }
    }
    assert!(codes.len() > 2, "{codes:?}");
}

fn degrees(value: f64) -> Vec<u8> {
    [&[3 << 5 | 8][..], &value.to_be_bytes()].concat()
}

fn array(members: &[Vec<u8>]) -> Vec<u8> {
    let mut out = vec![members.len() as u8, 4];
    out.extend(members.concat());
    out
}

#[test]
fn a_database_of_cities_says_where_an_address_is() {
    let named = |name: &str| map(&[("names", map(&[("en", text(name))]))]);
    let mut writer = Writer::new(28, 6);
    writer.add(
        "192.0.2.0",
        24,
        map(&[
            ("city", named("London")),
            ("continent", map(&[("code", text("EU"))])),
            ("country", map(&[("iso_code", text("GB"))])),
            (
                "location",
                map(&[
                    ("latitude", degrees(51.5085)),
                    ("longitude", degrees(-0.1257)),
                    ("metro_code", number(5, 635)),
                    ("time_zone", text("Europe/London")),
                ]),
            ),
            ("postal", map(&[("code", text("EC1A"))])),
            (
                "subdivisions",
                array(&[
                    map(&[
                        ("iso_code", text("ENG")),
                        ("names", map(&[("en", text("England"))])),
                    ]),
                    map(&[("iso_code", text("SWK"))]),
                ]),
            ),
        ]),
    );
    writer.add("198.51.100.0", 24, country("CH"));
    let countries = Countries::new(writer.file()).unwrap();
    let text = str::to_owned;
    assert_eq!(
        countries.place("192.0.2.9".parse().unwrap()),
        Place {
            continent: text("EU"),
            subdivisions: [text("GB-ENG"), text("GB-SWK")],
            region: text("England"),
            region_code: text("ENG"),
            city: text("London"),
            postal_code: text("EC1A"),
            metro_code: text("635"),
            latitude: text("51.50850"),
            longitude: text("-0.12570"),
            timezone: text("Europe/London"),
        }
    );
    assert_eq!(
        countries.place("198.51.100.1".parse().unwrap()),
        Place {
            continent: text("EU"),
            ..Place::default()
        }
    );
    assert_eq!(countries.place("203.0.113.1".parse().unwrap()), Place::default());
}

#[test]
fn addresses_have_networks() {
    let mut writer = Writer::new(24, 6);
    let organization = ("organization", text("Example Net"));
    writer.add(
        "192.0.2.0",
        24,
        map(&[
            ("autonomous_system_number", number(6, 4_200_000_001)),
            organization,
        ]),
    );
    writer.add("2001:db8::", 32, map(&[("asn", text("AS64500"))]));
    writer.add("198.51.100.0", 24, map(&[("asn", text("none"))]));
    let networks = Networks::new(writer.file()).unwrap();
    for (address, number) in [
        ("192.0.2.9", Some(4_200_000_001)),
        ("::ffff:192.0.2.9", Some(4_200_000_001)),
        ("2001:db8::1", Some(64_500)),
        ("198.51.100.1", None),
        ("203.0.113.1", None),
    ] {
        assert_eq!(networks.of(address.parse().unwrap()), number, "{address}");
    }
    assert!(Networks::new(b"GIF89a".to_vec()).is_err());
}
