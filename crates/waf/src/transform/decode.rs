//! URL encoding, and SQL's hexadecimal literals.

use memchr::{memchr, memchr2, memmem};

use super::UnicodeMap;
use super::scan::{hex, hex_pair, hex_quad, low_byte};

/// `%HH`, and `+` for a space. What begins with `%` and is no escape stays, and is counted.
pub(crate) fn url_decode(input: &[u8], out: &mut Vec<u8>, invalid: &mut usize) -> bool {
    let Some(mut at) = memchr2(b'%', b'+', input) else {
        return false;
    };
    let mut changed = false;
    let mut copied = 0;
    loop {
        out.extend_from_slice(&input[copied..at]);
        copied = at + 1;
        if input[at] == b'+' {
            out.push(b' ');
            changed = true;
        } else if let Some(byte) = hex_pair(&input[at + 1..]) {
            out.push(byte);
            copied = at + 3;
            changed = true;
        } else {
            out.push(b'%');
            *invalid += 1;
        }
        match memchr2(b'%', b'+', &input[copied..]) {
            Some(next) => at = copied + next,
            None => break,
        }
    }
    out.extend_from_slice(&input[copied..]);
    changed
}

/// As [`url_decode`], and `%uHHHH`.
pub(super) fn url_decode_uni(input: &[u8], out: &mut Vec<u8>, map: Option<&UnicodeMap>) -> bool {
    let Some(mut at) = memchr2(b'%', b'+', input) else {
        return false;
    };
    let mut changed = false;
    let mut copied = 0;
    loop {
        out.extend_from_slice(&input[copied..at]);
        copied = at + 1;
        let rest = &input[copied..];
        if input[at] == b'+' {
            out.push(b' ');
            changed = true;
        } else if let [b'u' | b'U', digits @ ..] = rest
            && let Some(code) = hex_quad(digits)
        {
            out.push(
                map.and_then(|map| map.get(code))
                    .unwrap_or_else(|| low_byte(code)),
            );
            copied = at + 6;
            changed = true;
        } else if let Some(byte) = hex_pair(rest) {
            out.push(byte);
            copied = at + 3;
            changed = true;
        } else {
            out.push(b'%');
        }
        match memchr2(b'%', b'+', &input[copied..]) {
            Some(next) => at = copied + next,
            None => break,
        }
    }
    out.extend_from_slice(&input[copied..]);
    changed
}

/// All but letters, digits and `*`; a space becomes `+`.
pub(super) fn url_encode(input: &[u8], out: &mut Vec<u8>) -> bool {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'*';
    let Some(first) = input.iter().position(|byte| !plain(byte)) else {
        return false;
    };
    out.extend_from_slice(&input[..first]);
    for byte in &input[first..] {
        match byte {
            b' ' => out.push(b'+'),
            byte if plain(byte) => out.push(*byte),
            byte => out.extend_from_slice(&[
                b'%',
                DIGITS[usize::from(byte >> 4)],
                DIGITS[usize::from(byte & 15)],
            ]),
        }
    }
    true
}

/// `0x414243`, wherever it stands.
pub(super) fn sql_hex(input: &[u8], out: &mut Vec<u8>) -> bool {
    // `0x` is rare, and so is either half of it alone not.
    if memmem::find(input, b"0x").is_none() && memmem::find(input, b"0X").is_none() {
        return false;
    }
    let mut changed = false;
    let mut copied = 0;
    let mut at = 0;
    while let Some(next) = memchr(b'0', &input[at..]) {
        at += next;
        if !matches!(input.get(at + 1), Some(b'x' | b'X')) || hex_pair(&input[at + 2..]).is_none() {
            at += 1;
            continue;
        }
        out.extend_from_slice(&input[copied..at]);
        changed = true;
        at += 2;
        while let [high, low, ..] = input[at..]
            && let (Some(high), Some(low)) = (hex(high), hex(low))
        {
            out.push(high << 4 | low);
            at += 2;
        }
        copied = at;
    }
    out.extend_from_slice(&input[copied..]);
    changed
}
