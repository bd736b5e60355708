//! Which country an address belongs to: a reader for databases in MaxMind's format (version 2), such as GeoLite2 Country
//! and DB-IP Country Lite.
//!
//! Such a file is a binary tree over the bits of addresses, whose leaves point at records. Nothing of it is trusted:
//! every offset is checked, and records are walked to a bounded depth.

use std::net::IpAddr;

use thiserror::Error;

/// What stands before the metadata, which are the last thing in the file.
const MARKER: &[u8] = b"\xab\xcd\xefMaxMind.com";
/// The metadata begin no earlier than this before the end.
const METADATA_BYTES: usize = 128 << 10;
/// Zeros between the tree and the records.
const SEPARATOR: usize = 16;
/// How deep a record may nest, and how many pointers may follow each other.
const DEPTH: usize = 16;
/// How many fields of a record are looked at.
const FIELDS: usize = 4096;

/// A database of countries.
#[derive(Debug)]
pub struct Countries {
    file: Vec<u8>,
    nodes: usize,
    record_bits: usize,
    is_v6: bool,
    /// Where addresses of IPv4 begin in the tree.
    v4: usize,
}

/// A file is no database of countries.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("this is no database in MaxMind's format (GeoLite2 Country, DB-IP Country Lite): {0}")]
pub struct CountriesError(&'static str);

impl Countries {
    /// Takes the bytes of a `.mmdb` file.
    pub fn new(file: Vec<u8>) -> Result<Self, CountriesError> {
        let from = file.len().saturating_sub(METADATA_BYTES);
        let marker =
            memchr::memmem::rfind(&file[from..], MARKER).ok_or(CountriesError("it has no metadata"))?;
        let metadata = Records(&file[from + marker + MARKER.len()..]);
        let number = |name: &str| {
            let value = metadata.member(0, name).map(|at| metadata.number(at));
            value.flatten().and_then(|value| usize::try_from(value).ok())
        };
        let (Some(nodes), Some(record_bits), Some(version)) =
            (number("node_count"), number("record_size"), number("ip_version"))
        else {
            return Err(CountriesError("its metadata are not complete"));
        };
        if number("binary_format_major_version") != Some(2)
            || ![24, 28, 32].contains(&record_bits)
            || ![4, 6].contains(&version)
        {
            return Err(CountriesError("its version is another one"));
        }
        let tree = nodes.checked_mul(record_bits / 4);
        if tree.is_none_or(|tree| tree.saturating_add(SEPARATOR) > from + marker) {
            return Err(CountriesError("it is cut"));
        }
        let mut countries = Self {
            file,
            nodes,
            record_bits,
            is_v6: version == 6,
            v4: 0,
        };
        if countries.is_v6 {
            // Addresses of IPv4 are those behind 96 zeros.
            countries.v4 = (0..96).fold(0, |node, _| countries.step(node, false));
        }
        Ok(countries)
    }

    /// The ISO code of an address' country, `CH`; none where the database has none.
    pub fn of(&self, address: IpAddr) -> Option<&str> {
        let (mut node, bits, count) = match address.to_canonical() {
            IpAddr::V4(address) => (self.v4, u128::from(u32::from(address)) << 96, 32),
            IpAddr::V6(address) if self.is_v6 => (0, u128::from(address), 128),
            IpAddr::V6(_) => return None,
        };
        for bit in 0..count {
            if node >= self.nodes {
                break;
            }
            node = self.step(node, bits >> (127 - bit) & 1 == 1);
        }
        // Exactly so many says that there is nothing.
        let record = node.checked_sub(self.nodes)?.checked_sub(SEPARATOR)?;
        let records = Records(self.file.get(self.nodes * self.record_bits / 4 + SEPARATOR..)?);
        let code = ["country", "registered_country"]
            .iter()
            .find_map(|name| records.member(records.member(record, name)?, "iso_code"))
            .or_else(|| records.member(record, "country_code"))
            .or_else(|| records.member(record, "country"))?;
        let code = std::str::from_utf8(records.text(code)?).ok()?;
        let is_code = code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase());
        is_code.then_some(code)
    }

    /// One bit further: another node, or a record behind them all.
    fn step(&self, node: usize, right: bool) -> usize {
        if node >= self.nodes {
            return node;
        }
        let length = self.record_bits / 4;
        let Some(bytes) = self.file.get(node * length..(node + 1) * length) else {
            return self.nodes;
        };
        let whole = |bytes: &[u8]| bytes.iter().fold(0, |all, byte| all << 8 | usize::from(*byte));
        let half = length / 2;
        match (self.record_bits, right) {
            // The byte in the middle has four bits of each.
            (28, false) => usize::from(bytes[3] >> 4) << 24 | whole(&bytes[..3]),
            (28, true) => usize::from(bytes[3] & 15) << 24 | whole(&bytes[4..]),
            (_, false) => whole(&bytes[..half]),
            (_, true) => whole(&bytes[half..]),
        }
    }
}

/// Values one behind the other, each after a byte or more that say its type and size.
#[derive(Clone, Copy)]
struct Records<'f>(&'f [u8]);

/// What stands at a place.
struct Field {
    kind: u8,
    /// Bytes, or members of a map or an array.
    size: usize,
    /// Where its content begins.
    at: usize,
}

const POINTER: u8 = 1;
const TEXT: u8 = 2;
const MAP: u8 = 7;
const ARRAY: u8 = 11;
const BOOLEAN: u8 = 14;

impl<'f> Records<'f> {
    fn byte(self, at: usize) -> Option<usize> {
        self.0.get(at).map(|byte| usize::from(*byte))
    }

    fn head(self, at: usize) -> Option<Field> {
        let control = self.byte(at)?;
        let mut at = at + 1;
        let mut kind = control >> 5;
        if kind == usize::from(POINTER) {
            return Some(Field {
                kind: POINTER,
                size: control & 31,
                at,
            });
        }
        if kind == 0 {
            kind = self.byte(at)? + 7;
            at += 1;
        }
        let mut size = control & 31;
        if size >= 29 {
            let more = size - 28;
            let bytes = self.0.get(at..at + more)?;
            let base = [29, 285, 65_821][more - 1];
            size = bytes.iter().fold(0, |all, byte| all << 8 | usize::from(*byte)) + base;
            at += more;
        }
        Some(Field {
            kind: u8::try_from(kind).ok()?,
            size,
            at,
        })
    }

    /// Where a pointer leads, and what follows it.
    fn pointer(self, field: &Field) -> Option<(usize, usize)> {
        let length = (field.size >> 3) + 1;
        let bytes = self.0.get(field.at..field.at + length)?;
        let high = if length == 4 { 0 } else { field.size & 7 };
        let value = bytes.iter().fold(high, |all, byte| all << 8 | usize::from(*byte));
        let base = [0, 2048, 526_336, 0][length - 1];
        Some((value + base, field.at + length))
    }

    /// The field itself, behind pointers.
    fn field(self, mut at: usize) -> Option<Field> {
        for _ in 0..DEPTH {
            let field = self.head(at)?;
            if field.kind != POINTER {
                return Some(field);
            }
            at = self.pointer(&field)?.0;
        }
        None
    }

    fn text(self, at: usize) -> Option<&'f [u8]> {
        let field = self.field(at)?;
        (field.kind == TEXT).then(|| self.0.get(field.at..field.at.checked_add(field.size)?))?
    }

    fn number(self, at: usize) -> Option<u64> {
        let field = self.field(at)?;
        // Of 16, 32 and 64 bits.
        let is_number = matches!(field.kind, 5 | 6 | 9) && field.size <= 8;
        let bytes = is_number.then(|| self.0.get(field.at..field.at + field.size))??;
        Some(bytes.iter().fold(0, |all, byte| all << 8 | u64::from(*byte)))
    }

    /// Where the value of a map's member is.
    fn member(self, at: usize, name: &str) -> Option<usize> {
        let map = self.field(at)?;
        if map.kind != MAP {
            return None;
        }
        let mut at = map.at;
        let mut left = FIELDS;
        for _ in 0..map.size {
            let key = self.text(at)?;
            let value = self.behind(at, 0, &mut left)?;
            if key == name.as_bytes() {
                return Some(value);
            }
            at = self.behind(value, 0, &mut left)?;
        }
        None
    }

    /// What follows a field with all that is in it.
    fn behind(self, at: usize, depth: usize, left: &mut usize) -> Option<usize> {
        *left = left.checked_sub(1)?;
        let field = self.head(at)?;
        let inner = match field.kind {
            POINTER => return self.pointer(&field).map(|(_, behind)| behind),
            BOOLEAN => return Some(field.at),
            MAP => field.size.checked_mul(2)?,
            ARRAY => field.size,
            _ => return field.at.checked_add(field.size),
        };
        if depth == DEPTH {
            return None;
        }
        let mut at = field.at;
        for _ in 0..inner {
            at = self.behind(at, depth + 1, left)?;
        }
        Some(at)
    }
}

#[cfg(test)]
mod tests;
