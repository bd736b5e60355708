//! HTML's entities: numbers, and the five names that filters are deceived with.

use memchr::memchr;

use super::scan::hex;

const NAMES: [(&[u8], u8); 5] = [
    (b"quot", b'"'),
    (b"amp", b'&'),
    (b"lt", b'<'),
    (b"gt", b'>'),
    (b"nbsp", 0xa0),
];

/// The semicolon may be missing, as browsers let it.
pub(super) fn decode(input: &[u8], out: &mut Vec<u8>) -> bool {
    let Some(mut at) = memchr(b'&', input) else {
        return false;
    };
    let mut changed = false;
    let mut copied = 0;
    loop {
        out.extend_from_slice(&input[copied..at]);
        copied = at + 1;
        match entity(&input[at + 1..]) {
            Some((byte, used)) => {
                out.push(byte);
                copied += used;
                copied += usize::from(input.get(copied) == Some(&b';'));
                changed = true;
            }
            None => out.push(b'&'),
        }
        match memchr(b'&', &input[copied..]) {
            Some(next) => at = copied + next,
            None => break,
        }
    }
    out.extend_from_slice(&input[copied..]);
    changed
}

/// What follows `&`: its byte, and how long it is without a semicolon.
fn entity(text: &[u8]) -> Option<(u8, usize)> {
    match text {
        [b'#', b'x' | b'X', digits @ ..] => number(digits, 16).map(|(byte, used)| (byte, used + 2)),
        [b'#', digits @ ..] => number(digits, 10).map(|(byte, used)| (byte, used + 1)),
        _ => {
            let length = text
                .iter()
                .take_while(|byte| byte.is_ascii_alphanumeric())
                .count();
            let name = &text[..length];
            let (_, byte) = NAMES.iter().find(|(known, _)| name.eq_ignore_ascii_case(known))?;
            Some((*byte, length))
        }
    }
}

/// The low byte of a number; one that is too large for C is the largest.
fn number(digits: &[u8], radix: u8) -> Option<(u8, usize)> {
    let length = digits
        .iter()
        .take_while(|byte| hex(**byte).is_some_and(|value| value < radix))
        .count();
    let value = digits[..length].iter().fold(0i64, |value, digit| {
        value
            .saturating_mul(i64::from(radix))
            .saturating_add(i64::from(hex(*digit).unwrap_or(0)))
    });
    (length > 0).then_some(((value & 0xff) as u8, length))
}
