//! `SecUnicodeMapFile`: what characters look like in a code page of one byte.

use thiserror::Error;

/// The best-fit bytes of one code page, from a file in ModSecurity's format.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnicodeMap(Vec<(u16, u8)>);

/// Why a map cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MapError {
    /// The file has no such code page.
    #[error("the file has no code page {0}")]
    NoCodePage(u32),
    /// An entry is not of the form `HHHH:HH`.
    #[error("line {line}: expected entries like '00a1:21', found '{entry}'")]
    Entry {
        /// Counted from 1.
        line: usize,
        /// What stands there.
        entry: String,
    },
}

impl UnicodeMap {
    /// The map of `code_page` in `file`. Each code page there is a line with its number, and a line with its entries.
    pub fn parse(file: &str, code_page: u32) -> Result<UnicodeMap, MapError> {
        let mut entries = Vec::new();
        let mut wanted = false;
        for (number, line) in file.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut words = line.split_ascii_whitespace().peekable();
            let first = words.peek().copied().unwrap_or_default();
            if !first.contains(':') {
                wanted = first.parse() == Ok(code_page);
                continue;
            }
            if !wanted {
                continue;
            }
            for word in words {
                let entry = word.split_once(':').and_then(|(code, byte)| {
                    Some((
                        u16::from_str_radix(code, 16).ok()?,
                        u8::from_str_radix(byte, 16).ok()?,
                    ))
                });
                let Some(entry) = entry else {
                    return Err(MapError::Entry {
                        line: number + 1,
                        entry: word.into(),
                    });
                };
                entries.push(entry);
            }
        }
        if entries.is_empty() {
            return Err(MapError::NoCodePage(code_page));
        }
        entries.sort_unstable();
        entries.dedup_by_key(|(code, _)| *code);
        Ok(UnicodeMap(entries))
    }

    /// The byte of a character.
    pub fn get(&self, code: u16) -> Option<u8> {
        let place = self.0.binary_search_by_key(&code, |(code, _)| *code).ok()?;
        Some(self.0[place].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str =
        "(comment)\n\n1252 (ANSI - Latin I)\n0100:41 0101:61\n\n20127 (US-ASCII)\n00c0:41 00a1:21\n";

    #[test]
    fn one_code_page_is_taken() {
        let map = UnicodeMap::parse(FILE, 20127).unwrap();
        assert_eq!(
            (map.get(0xc0), map.get(0xa1), map.get(0x100)),
            (Some(b'A'), Some(b'!'), None)
        );
        assert_eq!(UnicodeMap::parse(FILE, 7), Err(MapError::NoCodePage(7)));
        let error = UnicodeMap::parse("7\n0041:41 zz:1\n", 7).unwrap_err();
        assert_eq!(
            error.to_string(),
            "line 2: expected entries like '00a1:21', found 'zz:1'"
        );
    }
}
