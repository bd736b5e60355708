//! `@validateByteRange`, `@validateUrlEncoding`, `@validateUtf8Encoding`: what a value may be made of.

use super::need::ByteSet;

/// Reads `32-126,9,10`.
pub(crate) fn range(text: &str) -> Result<ByteSet, String> {
    let mut set = ByteSet::default();
    for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        let (low, high) = item.split_once('-').unwrap_or((item, item));
        match (low.trim().parse::<u8>(), high.trim().parse::<u8>()) {
            (Ok(low), Ok(high)) if low <= high => set = set.join(&ByteSet::range(low, high)),
            _ => return Err(format!("{item} is neither a byte nor a range of bytes")),
        }
    }
    Ok(set)
}

/// Whether a `%` is there that no two hexadecimal digits follow.
pub(crate) fn bad_escape(text: &[u8]) -> bool {
    memchr::memchr_iter(b'%', text).any(|at| {
        !text
            .get(at + 1..at + 3)
            .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

/// Whether `word` is in `text` with no word character beside it.
pub(crate) fn contains_word(text: &[u8], word: &[u8]) -> bool {
    let is_word = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
    if word.is_empty() {
        return true;
    }
    memchr::memmem::find_iter(text, word).any(|at| {
        let before = at.checked_sub(1).and_then(|at| text.get(at));
        !is_word(before) && !is_word(text.get(at + word.len()))
    })
}

/// The number that a value begins with; none is 0, as C's `atoi` has it.
pub(crate) fn number(text: &[u8]) -> i64 {
    let text = text.trim_ascii_start();
    let (negative, digits) = match text.first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let value = digits
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .fold(0i64, |value, digit| {
            value.saturating_mul(10).saturating_add(i64::from(digit - b'0'))
        });
    if negative { -value } else { value }
}
