//! White space, and what shells pass over.

use super::scan::{Bytes, is_space};

/// NO-BREAK SPACE in Latin-1.
const NO_BREAK: u8 = 0xa0;

pub(super) fn compress(input: &[u8], out: &mut Vec<u8>) -> bool {
    let mut before = false;
    let mut clean = 0;
    for byte in input {
        let space = is_space(*byte);
        if space && (before || *byte != b' ') {
            break;
        }
        before = space;
        clean += 1;
    }
    if clean == input.len() {
        return false;
    }
    out.extend_from_slice(&input[..clean]);
    for byte in &input[clean..] {
        let space = is_space(*byte);
        if !space {
            out.push(*byte);
        } else if !before {
            out.push(b' ');
        }
        before = space;
    }
    true
}

/// NO-BREAK SPACE goes too, as Latin-1 and as UTF-8 says it.
pub(super) fn remove(input: &[u8], out: &mut Vec<u8>) -> bool {
    let goes = |byte: &u8| is_space(*byte) || *byte == NO_BREAK;
    let Some(first) = input.iter().position(goes) else {
        return false;
    };
    let first = first - usize::from(first > 0 && input[first] == NO_BREAK && input[first - 1] == 0xc2);
    out.extend_from_slice(&input[..first]);
    let mut rest = input[first..].iter().peekable();
    while let Some(byte) = rest.next() {
        let pair = *byte == 0xc2 && rest.peek() == Some(&&NO_BREAK);
        if !pair && !goes(byte) {
            out.push(*byte);
        }
    }
    true
}

pub(super) fn trim(input: &[u8], out: &mut Vec<u8>, left: bool, right: bool) -> bool {
    let mut kept = input;
    while left
        && let [first, rest @ ..] = kept
        && is_space(*first)
    {
        kept = rest;
    }
    while right
        && let [rest @ .., last] = kept
        && is_space(*last)
    {
        kept = rest;
    }
    if kept.len() == input.len() {
        return false;
    }
    out.extend_from_slice(kept);
    true
}

/// Quotes, carets and backslashes go; white space, commas and semicolons become one space, and none before `/` and `(`.
pub(super) fn cmd_line(input: &[u8], out: &mut Vec<u8>) -> bool {
    const CHANGED: Bytes = Bytes::of(b"\"'\\^,;\t\r\n").and_uppercase();
    let clean = input.iter().enumerate().position(|(at, byte)| {
        CHANGED.has(*byte) || *byte == b' ' && matches!(input.get(at + 1), Some(b' ' | b'/' | b'('))
    });
    let Some(clean) = clean else { return false };
    out.extend_from_slice(&input[..clean]);
    let mut space = out.last() == Some(&b' ');
    for byte in &input[clean..] {
        match byte {
            b'"' | b'\'' | b'\\' | b'^' => {}
            b' ' | b',' | b';' | b'\t' | b'\r' | b'\n' => {
                if !space {
                    out.push(b' ');
                    space = true;
                }
            }
            b'/' | b'(' => {
                if space {
                    out.pop();
                }
                space = false;
                out.push(*byte);
            }
            other => {
                out.push(other.to_ascii_lowercase());
                space = false;
            }
        }
    }
    true
}
