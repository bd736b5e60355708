//! Domain names, in wire form.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Bytes of a name on the wire (RFC 1035 section 3.1).
const MAX_NAME: usize = 255;
const MAX_LABEL: usize = 63;

/// An absolute domain name, in lower case: labels with their lengths, as on the wire, with the empty label at the end.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct DnsName(Box<[u8]>);

/// The text is no domain name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DnsNameError {
    /// Two dots in a row, or one at the beginning.
    #[error("`{0}` has an empty label")]
    EmptyLabel(String),
    /// A label is too long.
    #[error("a label of `{0}` has more than 63 bytes")]
    LongLabel(String),
    /// All of it is too long.
    #[error("`{0}` has more than 255 bytes")]
    Long(String),
    /// Letters beyond ASCII.
    #[error("`{0}` has letters beyond ASCII: write its form that begins with xn--")]
    NotAscii(String),
    /// A backslash without three digits up to 255, or without a character.
    #[error("`{0}` has a backslash that escapes nothing")]
    Escape(String),
    /// A character that no host name has and that is not escaped.
    #[error("`{name}` has a {character:?}")]
    Character {
        /// The name.
        name: String,
        /// The character.
        character: char,
    },
}

impl DnsName {
    /// The root.
    pub fn root() -> Self {
        Self(Box::from([0]))
    }

    /// Reads a name in zone-file form: `@` is the origin, and without a dot at the end the origin is added.
    ///
    /// # Errors
    /// The text is no name, or the whole is too long.
    pub fn parse(text: &str, origin: &Self) -> Result<Self, DnsNameError> {
        if text == "@" {
            return Ok(origin.clone());
        }
        let (mut wire, absolute) = labels(text)?;
        if absolute {
            wire.push(0);
        } else {
            wire.extend_from_slice(&origin.0);
        }
        if wire.len() > MAX_NAME {
            return Err(DnsNameError::Long(text.to_owned()));
        }
        Ok(Self(wire.into()))
    }

    /// From wire form without compression. Letters become lower case. Nothing may follow.
    pub fn from_wire(wire: &[u8]) -> Option<Self> {
        let mut at = 0;
        loop {
            let length = usize::from(*wire.get(at)?);
            match length {
                0 => break,
                1..=MAX_LABEL => at += 1 + length,
                _ => return None,
            }
        }
        if at + 1 != wire.len() || wire.len() > MAX_NAME {
            return None;
        }
        // Lengths are at most 63, below the letters.
        Some(Self(wire.to_ascii_lowercase().into()))
    }

    /// As on the wire.
    pub fn wire(&self) -> &[u8] {
        &self.0
    }

    /// Whether it is the root.
    pub fn is_root(&self) -> bool {
        self.0.len() == 1
    }

    /// Its labels from the left, without the empty one.
    pub fn labels(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        let mut found = Vec::with_capacity(8);
        let mut rest = &self.0[..];
        while let Some((&length, tail)) = rest.split_first()
            && length > 0
        {
            let (label, after) = tail.split_at(usize::from(length));
            found.push(label);
            rest = after;
        }
        found.into_iter()
    }

    /// Without its first label; none for the root.
    pub fn parent(&self) -> Option<Self> {
        let length = usize::from(*self.0.first()?);
        (length > 0).then(|| Self(self.0[1 + length..].into()))
    }

    /// Whether it is `ancestor` or below it.
    pub fn is_at_or_below(&self, ancestor: &Self) -> bool {
        let mut rest = &self.0[..];
        while rest.len() > ancestor.0.len() {
            rest = &rest[1 + usize::from(rest[0])..];
        }
        rest == &ancestor.0[..]
    }

    /// With a label before it; none when that is too long.
    pub fn child(&self, label: &[u8]) -> Option<Self> {
        let length = u8::try_from(label.len())
            .ok()
            .filter(|length| (1..=63).contains(length))?;
        let wire = [&[length], label, &self.0].concat().to_ascii_lowercase();
        (wire.len() <= MAX_NAME).then(|| Self(wire.into()))
    }

    /// As people write host names: without the dot at the end.
    pub fn host(&self) -> String {
        let text = self.to_string();
        text.strip_suffix('.').map(str::to_owned).unwrap_or(text)
    }
}

/// Labels in wire form without the last, empty one; and whether there was a dot at the end.
fn labels(text: &str) -> Result<(Vec<u8>, bool), DnsNameError> {
    if text == "." {
        return Ok((Vec::new(), true));
    }
    let owned = || text.to_owned();
    if !text.is_ascii() {
        return Err(DnsNameError::NotAscii(owned()));
    }
    let mut wire = Vec::with_capacity(text.len() + 2);
    let mut label = Vec::with_capacity(MAX_LABEL);
    let mut absolute = false;
    let mut bytes = text.bytes().peekable();
    while let Some(byte) = bytes.next() {
        let literal = match byte {
            b'.' => {
                end_label(&mut wire, &mut label, text)?;
                absolute = bytes.peek().is_none();
                continue;
            }
            b'\\' => escaped(&mut bytes).ok_or_else(|| DnsNameError::Escape(owned()))?,
            b'-' | b'_' | b'*' | b'/' | b'+' | b'=' => byte,
            _ if byte.is_ascii_alphanumeric() => byte.to_ascii_lowercase(),
            _ => {
                return Err(DnsNameError::Character {
                    name: owned(),
                    character: byte.into(),
                });
            }
        };
        label.push(literal.to_ascii_lowercase());
        if wire.len() + label.len() > MAX_NAME {
            return Err(DnsNameError::Long(owned()));
        }
    }
    if !absolute {
        end_label(&mut wire, &mut label, text)?;
    }
    Ok((wire, absolute))
}

fn end_label(wire: &mut Vec<u8>, label: &mut Vec<u8>, text: &str) -> Result<(), DnsNameError> {
    match label.len() {
        0 => Err(DnsNameError::EmptyLabel(text.to_owned())),
        length @ 1..=MAX_LABEL => {
            wire.push(length as u8);
            wire.append(label);
            Ok(())
        }
        _ => Err(DnsNameError::LongLabel(text.to_owned())),
    }
}

/// What follows a backslash: three digits, or any other character as it is (RFC 1035 section 5.1).
pub(super) fn escaped(bytes: &mut impl Iterator<Item = u8>) -> Option<u8> {
    let first = bytes.next()?;
    if !first.is_ascii_digit() {
        return Some(first);
    }
    let mut value = u32::from(first - b'0');
    for _ in 0..2 {
        let digit = bytes.next().filter(u8::is_ascii_digit)?;
        value = value * 10 + u32::from(digit - b'0');
    }
    u8::try_from(value).ok()
}

impl FromStr for DnsName {
    type Err = DnsNameError;

    /// The name is absolute, with or without the dot at the end.
    fn from_str(text: &str) -> Result<Self, DnsNameError> {
        Self::parse(text, &Self::root())
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.write_str(".");
        }
        for label in self.labels() {
            for &byte in label {
                match byte {
                    b'-' | b'_' | b'*' | b'/' | b'+' | b'=' => write!(f, "{}", char::from(byte))?,
                    _ if byte.is_ascii_alphanumeric() => write!(f, "{}", char::from(byte))?,
                    0x21..=0x7e => write!(f, "\\{}", char::from(byte))?,
                    _ => write!(f, "\\{byte:03}")?,
                }
            }
            f.write_str(".")?;
        }
        Ok(())
    }
}

impl fmt::Debug for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl From<DnsName> for String {
    fn from(name: DnsName) -> Self {
        name.to_string()
    }
}

impl TryFrom<String> for DnsName {
    type Error = DnsNameError;

    fn try_from(text: String) -> Result<Self, DnsNameError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_read_below_their_origin() {
        let origin: DnsName = "shop.example".parse().unwrap();
        for (text, full) in [
            ("@", "shop.example."),
            ("app", "app.shop.example."),
            ("APP", "app.shop.example."),
            ("app.shop.example.", "app.shop.example."),
            ("*.preview", "*.preview.shop.example."),
            ("_acme-challenge.app", "_acme-challenge.app.shop.example."),
            ("a\\.b", "a\\.b.shop.example."),
            ("\\007", "\\007.shop.example."),
            (".", "."),
        ] {
            assert_eq!(DnsName::parse(text, &origin).unwrap().to_string(), full, "{text}");
        }
        let long = "x".repeat(64);
        for text in [
            "", "a..b", ".a", "a b", "a\\", "a\\25", "a\\256", "ä", "a;b", "\"a\"", &long,
        ] {
            assert!(DnsName::parse(text, &origin).is_err(), "{text}");
        }
    }

    #[test]
    fn below_is_by_whole_labels() {
        let name = |text: &str| text.parse::<DnsName>().unwrap();
        assert!(name("a.shop.example").is_at_or_below(&name("shop.example")));
        assert!(name("shop.example").is_at_or_below(&name("shop.example")));
        assert!(name("shop.example").is_at_or_below(&DnsName::root()));
        assert!(!name("ashop.example").is_at_or_below(&name("shop.example")));
        assert!(!name("example").is_at_or_below(&name("shop.example")));
    }

    proptest! {
        #[test]
        fn any_name_is_written_as_it_is_read(labels in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..20), 0..8)) {
            let mut name = DnsName::root();
            for label in &labels {
                name = name.child(label).unwrap();
            }
            prop_assert_eq!(name.to_string().parse::<DnsName>().unwrap(), name.clone());
            prop_assert_eq!(DnsName::from_wire(name.wire()).unwrap(), name);
        }

        #[test]
        fn no_text_panics(text in ".{0,300}") {
            let _ = text.parse::<DnsName>();
        }

        #[test]
        fn no_bytes_panic(wire in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = DnsName::from_wire(&wire);
        }
    }
}
