//! Digests, hexadecimal digits, the length.

use std::io::Write as _;

use md5::Md5;
use sha1::{Digest as _, Sha1};

pub(super) fn md5(input: &[u8], out: &mut Vec<u8>) -> bool {
    out.extend_from_slice(&Md5::digest(input));
    true
}

pub(super) fn sha1(input: &[u8], out: &mut Vec<u8>) -> bool {
    out.extend_from_slice(&Sha1::digest(input));
    true
}

pub(super) fn length(input: &[u8], out: &mut Vec<u8>) -> bool {
    // Writing into a vector does not fail.
    let _ = write!(out, "{}", input.len());
    out != input
}

pub(super) fn hex_encode(input: &[u8], out: &mut Vec<u8>) -> bool {
    out.resize(input.len() * 2, 0);
    hex::encode_to_slice(input, out).is_ok() && !input.is_empty()
}

/// Pairs of digits. What is no digit counts as its distance from one: the C code of all engines does the same arithmetic,
/// and rules for what was "decoded" so must see the same bytes.
pub(super) fn hex_decode(input: &[u8], out: &mut Vec<u8>) -> bool {
    let digit = |byte: u8| match byte {
        b'A'.. => (byte & 0xdf).wrapping_sub(b'A').wrapping_add(10),
        _ => byte.wrapping_sub(b'0'),
    };
    out.extend(
        input
            .chunks_exact(2)
            .map(|pair| digit(pair[0]).wrapping_mul(16).wrapping_add(digit(pair[1]))),
    );
    !input.is_empty()
}
