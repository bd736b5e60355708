//! Backslashes, in CSS, JavaScript and C.

use memchr::memchr;

use super::scan::{hex, hex_pair, hex_quad, is_space, low_byte};

/// A backslash with up to six digits and a space, a backslash at the end of a line, or one before any character.
pub(super) fn css(input: &[u8], out: &mut Vec<u8>) -> bool {
    backslashes(input, out, |rest, out| {
        let digits = rest
            .iter()
            .take(6)
            .take_while(|byte| hex(**byte).is_some())
            .count();
        if digits == 0 {
            return match rest.first() {
                // The line goes on: neither is there.
                Some(b'\n') => 1,
                Some(byte) => {
                    out.push(*byte);
                    1
                }
                None => 0,
            };
        }
        let code = rest[..digits]
            .iter()
            .fold(0u32, |code, byte| code << 4 | u32::from(hex(*byte).unwrap_or(0)));
        // Of 16 bits the full-width forms are known; of more, or of three digits, only the low byte is kept.
        out.push(match u16::try_from(code) {
            Ok(code) if digits >= 4 => low_byte(code),
            _ => (code & 0xff) as u8,
        });
        digits + usize::from(rest.get(digits).is_some_and(|byte| is_space(*byte)))
    })
}

/// `\uHHHH`, `\xHH`, `\OOO`, `\n` and its like.
pub(super) fn javascript(input: &[u8], out: &mut Vec<u8>) -> bool {
    backslashes(input, out, |rest, out| match rest {
        [] => {
            out.push(b'\\');
            0
        }
        [b'u', digits @ ..] if hex_quad(digits).is_some() => {
            out.extend(hex_quad(digits).map(low_byte));
            5
        }
        [b'x', digits @ ..] if hex_pair(digits).is_some() => {
            out.extend(hex_pair(digits));
            3
        }
        [b'0'..=b'7', ..] => octal(rest, out, true),
        [byte, ..] => {
            out.push(match byte {
                b'a' => 7,
                b'b' => 8,
                b'f' => 12,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'v' => 11,
                other => *other,
            });
            1
        }
    })
}

/// `\n` and its like, `\xHH`, `\OOO`.
pub(super) fn ansi_c(input: &[u8], out: &mut Vec<u8>) -> bool {
    backslashes(input, out, |rest, out| match rest {
        [] => {
            out.push(b'\\');
            0
        }
        [b'x' | b'X', digits @ ..] if hex_pair(digits).is_some() => {
            out.extend(hex_pair(digits));
            3
        }
        [b'0'..=b'7', ..] => octal(rest, out, false),
        [byte, ..] => {
            out.push(match byte {
                b'a' => 7,
                b'b' => 8,
                b'f' => 12,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'v' => 11,
                other => *other,
            });
            1
        }
    })
}

/// Up to three octal digits, as one byte. JavaScript takes two of three when three would be more than a byte.
fn octal(rest: &[u8], out: &mut Vec<u8>, within_byte: bool) -> usize {
    let mut digits = rest
        .iter()
        .take(3)
        .take_while(|byte| matches!(byte, b'0'..=b'7'))
        .count();
    if within_byte && digits == 3 && rest[0] > b'3' {
        digits = 2;
    }
    let value = rest[..digits]
        .iter()
        .fold(0u32, |value, digit| value << 3 | u32::from(digit - b'0'));
    out.push((value & 0xff) as u8);
    digits
}

/// Copies what is between backslashes; `after` gets what follows one, and says how much of it was used.
fn backslashes(input: &[u8], out: &mut Vec<u8>, after: impl Fn(&[u8], &mut Vec<u8>) -> usize) -> bool {
    let Some(mut at) = memchr(b'\\', input) else {
        return false;
    };
    let mut copied = 0;
    loop {
        out.extend_from_slice(&input[copied..at]);
        copied = at + 1 + after(&input[at + 1..], out);
        match memchr(b'\\', &input[copied..]) {
            Some(next) => at = copied + next,
            None => break,
        }
    }
    out.extend_from_slice(&input[copied..]);
    out != input
}
