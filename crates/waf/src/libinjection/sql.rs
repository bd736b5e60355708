//! `@detectSQLi`.

use std::borrow::Cow;

use libinjectionrs::sqli::{TokenType, sqli_data};
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
    let mut input = Cow::Borrowed(input);
    capitalize_into(&mut input);
    name_functions(&mut input);
    tame(&mut input);
    let mut state = SqliState::new(&input, SqliFlags::FLAG_NONE);
    state.detect().then_some(Fingerprint(state.fingerprint))
}

/// Whether the input is one word or one number: no single token is an attack (tests ask the port for each kind). Names of
/// JSON arguments are such words, dots and all, unless what is before the first dot means something to SQL.
pub(super) fn is_one_token(input: &[u8]) -> bool {
    match input {
        [] => true,
        [b'0'..=b'9', ..] => {
            let whole = input.iter().take_while(|byte| byte.is_ascii_digit()).count();
            match &input[whole..] {
                [b'.', part @ ..] => part.iter().all(u8::is_ascii_digit),
                rest => rest.is_empty(),
            }
        }
        [b'a'..=b'z' | b'A'..=b'Z' | b'_', ..] => {
            let word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.');
            input.iter().all(word)
                && memchr::memchr(b'.', input).is_none_or(|dot| {
                    let first = std::str::from_utf8(&input[..dot]).unwrap_or_default();
                    sqli_data::lookup_word(first) == TokenType::Bareword
                })
        }
        _ => false,
    }
}

/// The port knows `x INTO OUTFILE 'y'` in capitals only. Case has no other meaning to it.
fn capitalize_into(input: &mut Cow<'_, [u8]>) {
    const INTO: &[u8] = b"INTO";
    let mut at = 0;
    while let Some(found) = memchr::memchr2(b'i', b'I', &input[at..]) {
        at += found;
        let Some(word) = input.get(at..at + INTO.len()) else {
            break;
        };
        if word.eq_ignore_ascii_case(INTO) && word != INTO {
            input.to_mut()[at..at + INTO.len()].copy_from_slice(INTO);
        }
        at += 1;
    }
}

/// Words that are functions before a parenthesis; to C also behind `@` and `@@`, which the port takes for a part of the
/// name.
const FUNCTIONS: [&[u8]; 11] = [
    b"user_id",
    b"user_name",
    b"database",
    b"password",
    b"user",
    b"current_user",
    b"current_date",
    b"current_time",
    b"current_timestamp",
    b"localtime",
    b"localtimestamp",
];

/// Writes such a variable as one that needs no `@`. `user` with arguments is a word: a function of that name has none.
fn name_functions(input: &mut Cow<'_, [u8]>) {
    const VARIABLE: &[u8] = b"current_time";
    const WORD: &[u8] = b"user";
    let mut named: Vec<u8> = Vec::new();
    // What is in `named` by now.
    let mut taken = 0;
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'@', &input[at..]) {
        let start = at + found;
        let signs = input[start..]
            .iter()
            .take(2)
            .take_while(|byte| **byte == b'@')
            .count();
        at = start + signs;
        let is_letter = |byte: &&u8| byte.is_ascii_alphabetic() || **byte == b'_';
        let length = input[at..].iter().take_while(is_letter).count();
        let (name, behind) = input[at..].split_at(length);
        if !FUNCTIONS.iter().any(|known| name.eq_ignore_ascii_case(known)) {
            continue;
        }
        let mut behind = behind.iter().filter(|byte| !matches!(byte, 0..=b' ' | 0xa0));
        if behind.next() != Some(&b'(') {
            continue;
        }
        let has_arguments = behind.next() != Some(&b')');
        named.extend_from_slice(&input[taken..start]);
        // What is before it is no part of its name; a space behind `--` would begin a comment.
        if start > 0 && (input[start - 1] == b'@' || !DELIMITERS.contains(&input[start - 1])) {
            named.push(b' ');
        }
        named.extend_from_slice(match name.eq_ignore_ascii_case(WORD) && has_arguments {
            true => WORD,
            false => VARIABLE,
        });
        at += length;
        taken = at;
    }
    if taken > 0 {
        named.extend_from_slice(&input[taken..]);
        *input = Cow::Owned(named);
    }
}

/// So many dots and backticks in a stretch without delimiters are looked at.
const DOTS: usize = 16;

/// What ends a word.
const DELIMITERS: &[u8] = b" []{}<>:\\?=@!#~+-*/&|^%(),';\t\n\x0b\x0c\r\"\xa0\0";

/// At each dot and backtick within a word, C and the port look up what is before it, and read the whole word again where
/// that is a keyword: quadratic time (20 KB of `` `or`or `` took two seconds). Beyond [`DOTS`] in one stretch they become a
/// letter to them. Fewer than that are in any statement that a database takes.
fn tame(input: &mut Cow<'_, [u8]>) {
    let mut seen = 0;
    let mut from = 0;
    let mut at = 0;
    while let Some(found) = memchr::memchr2(b'.', b'`', &input[at..]) {
        at += found;
        if input[from..at].iter().any(|byte| DELIMITERS.contains(byte)) {
            seen = 0;
        }
        seen += 1;
        if seen > DOTS {
            input.to_mut()[at] = b'_';
        }
        at += 1;
        from = at;
    }
}
