//! Letters, NUL bytes, the eighth bit.

use memchr::memchr;

pub(super) fn lowercase(input: &[u8], out: &mut Vec<u8>) -> bool {
    if !any(input, |byte| byte.is_ascii_uppercase()) {
        return false;
    }
    out.extend_from_slice(input);
    out.make_ascii_lowercase();
    true
}

pub(super) fn uppercase(input: &[u8], out: &mut Vec<u8>) -> bool {
    if !any(input, |byte| byte.is_ascii_lowercase()) {
        return false;
    }
    out.extend_from_slice(input);
    out.make_ascii_uppercase();
    true
}

pub(super) fn remove_nulls(input: &[u8], out: &mut Vec<u8>) -> bool {
    let Some(first) = memchr(0, input) else {
        return false;
    };
    out.extend_from_slice(&input[..first]);
    out.extend(input[first..].iter().filter(|byte| **byte != 0));
    true
}

pub(super) fn replace_nulls(input: &[u8], out: &mut Vec<u8>) -> bool {
    if memchr(0, input).is_none() {
        return false;
    }
    out.extend(input.iter().map(|byte| if *byte == 0 { b' ' } else { *byte }));
    true
}

#[derive(Clone, Copy)]
pub(super) enum Parity {
    Even,
    Odd,
    Zero,
}

pub(super) fn parity(input: &[u8], out: &mut Vec<u8>, parity: Parity) -> bool {
    out.extend(input.iter().map(|byte| {
        let odd = byte.count_ones() % 2 == 1;
        let high = match parity {
            Parity::Even => odd,
            Parity::Odd => !odd,
            Parity::Zero => false,
        };
        byte & 0x7f | u8::from(high) << 7
    }));
    out != input
}

/// Whether any byte is of a kind; in blocks without a branch inside, which the compiler makes wide instructions of.
fn any(input: &[u8], is: impl Fn(&u8) -> bool) -> bool {
    input
        .chunks(64)
        .any(|block| block.iter().fold(false, |found, byte| found | is(byte)))
}
