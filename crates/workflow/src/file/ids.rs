//! Ids of jobs and steps: what one may be, and those that are made where the file gives none.

use std::collections::HashSet;

const MAX_LENGTH: usize = 100;
/// Most ids that are tried for one name.
const MAX_ATTEMPTS: usize = 1000;

/// Ids of one scope, which differ by more than case.
#[derive(Default)]
pub(crate) struct Ids {
    taken: HashSet<String>,
}

impl Ids {
    /// Takes an id of the file, or says what is wrong with it.
    pub(crate) fn take(&mut self, id: &str) -> Result<(), String> {
        let mut all = id.bytes();
        let first = all.next();
        let legal = first.is_some_and(|c| c.is_ascii_alphabetic() || c == b'_')
            && all.all(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b'-');
        if !legal || id.len() >= MAX_LENGTH {
            return Err(format!(
                "The identifier '{id}' is invalid. IDs may only contain alphanumeric characters, '_', and '-'. \
                 IDs must start with a letter or '_' and and must be less than {MAX_LENGTH} characters."
            ));
        }
        if id.starts_with("__") {
            return Err(format!(
                "The identifier '{id}' is invalid. IDs starting with '__' are reserved."
            ));
        }
        if !self.taken.insert(id.to_ascii_lowercase()) {
            return Err(format!(
                "The identifier '{id}' may not be used more than once within the same scope."
            ));
        }
        Ok(())
    }

    /// A new id from a name: what may not stand in one becomes `_`, and a number makes it unique. None where
    /// all numbers are taken.
    pub(crate) fn make(&mut self, name: &str) -> Option<String> {
        let legal: String = name
            .encode_utf16()
            .map(|unit| match u8::try_from(unit) {
                Ok(c) if c.is_ascii_alphanumeric() || c == b'_' || c == b'-' => char::from(c),
                _ => '_',
            })
            .collect();
        (1..MAX_ATTEMPTS).find_map(|attempt| {
            let suffix = if attempt == 1 {
                String::new()
            } else {
                format!("_{attempt}")
            };
            let length = legal.len().min(MAX_LENGTH - suffix.len());
            let id = format!("{}{suffix}", &legal[..length]);
            self.taken.insert(id.to_ascii_lowercase()).then_some(id)
        })
    }
}
