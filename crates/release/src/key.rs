//! From what a release was built: sources, lock files, tools. Two builds of one key need only one release.

use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// SHA-256 over what a build reads, so that the same tree need not be built and tested twice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

/// What a key is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyInput {
    /// Id of the git tree.
    pub tree: String,
    /// Lock files that decide what is installed: path → SHA-256 of the content, in hex. They are in the tree too where
    /// they are committed; here they count also where they are not.
    pub locks: BTreeMap<String, String>,
    /// The tools: name → version.
    pub tools: BTreeMap<String, String>,
}

/// A text is not a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a key has 64 hex digits")]
pub struct ParseKeyError;

impl Key {
    /// The key of an input. Every part counts with its length, so that none can be mistaken for another.
    pub fn of(input: &KeyInput) -> Self {
        let mut hash = Sha256::new();
        let mut part = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        part(b"astraler release key 1");
        part(input.tree.as_bytes());
        for map in [&input.locks, &input.tools] {
            part(&(map.len() as u64).to_be_bytes());
            for (name, value) in map {
                part(name.as_bytes());
                part(value.as_bytes());
            }
        }
        Self(hex::encode(hash.finalize()))
    }

    /// 64 hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for Key {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        if crate::is_hex64(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseKeyError)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn every_part_counts_and_no_part_is_mistaken_for_another() {
        let inputs = [
            KeyInput::default(),
            KeyInput {
                tree: "a".into(),
                ..KeyInput::default()
            },
            KeyInput {
                locks: map(&[("a", "b")]),
                ..KeyInput::default()
            },
            KeyInput {
                tools: map(&[("a", "b")]),
                ..KeyInput::default()
            },
            KeyInput {
                tools: map(&[("ab", "")]),
                ..KeyInput::default()
            },
            KeyInput {
                locks: map(&[("a", "b"), ("c", "d")]),
                ..KeyInput::default()
            },
            KeyInput {
                locks: map(&[("a", "b")]),
                tools: map(&[("c", "d")]),
                ..KeyInput::default()
            },
        ];
        let keys: std::collections::BTreeSet<Key> = inputs.iter().map(Key::of).collect();
        assert_eq!(keys.len(), inputs.len());
        for key in keys {
            assert_eq!(key.to_string().parse(), Ok(key));
        }
        assert_eq!("../x".parse::<Key>(), Err(ParseKeyError));
    }
}
