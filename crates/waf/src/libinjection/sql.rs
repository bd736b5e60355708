//! `@detectSQLi`.

use std::borrow::Cow;

use libinjectionrs::{SqliFlags, SqliState};

/// The shape of an attack, as SQL tokens: `s&1c`. At most five of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 8]);

impl Fingerprint {
    /// As text.
    pub fn as_str(&self) -> &str {
        let length = self.0.iter().position(|byte| *byte == 0).unwrap_or(self.0.len());
        std::str::from_utf8(&self.0[..length]).unwrap_or_default()
    }
}

/// The fingerprint, if it is one of an attack.
pub fn sqli(input: &[u8]) -> Option<Fingerprint> {
    if is_one_token(input) {
        return None;
    }
    let input = with_into(input);
    let mut state = SqliState::new(&input, SqliFlags::FLAG_NONE);
    state.detect().then_some(Fingerprint(state.fingerprint))
}

/// Whether the input is one word or one number: no single token is an attack (a test asks the port for each kind).
fn is_one_token(input: &[u8]) -> bool {
    match input {
        [] => true,
        [b'0'..=b'9', ..] => input.iter().all(u8::is_ascii_digit),
        [b'a'..=b'z' | b'A'..=b'Z' | b'_', ..] => input
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_'),
        _ => false,
    }
}

/// The port knows `x INTO OUTFILE 'y'` in capitals only. Case has no other meaning to it.
fn with_into(input: &[u8]) -> Cow<'_, [u8]> {
    const INTO: &[u8] = b"INTO";
    let mut copy: Option<Vec<u8>> = None;
    let mut at = 0;
    while let Some(found) = memchr::memchr2(b'i', b'I', &input[at..]) {
        at += found;
        let Some(word) = input.get(at..at + INTO.len()) else {
            break;
        };
        if word.eq_ignore_ascii_case(INTO) && word != INTO {
            copy.get_or_insert_with(|| input.to_vec())[at..at + INTO.len()].copy_from_slice(INTO);
        }
        at += 1;
    }
    copy.map_or(Cow::Borrowed(input), Cow::Owned)
}
