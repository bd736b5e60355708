//! Base64, as strictly or as loosely as rules ask for.

/// `=`, and what is no digit at all.
const PAD: u8 = 64;
const NONE: u8 = 255;

const VALUES: [u8; 256] = {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut values = [NONE; 256];
    let mut at = 0;
    while at < alphabet.len() {
        values[alphabet[at] as usize] = at as u8;
        at += 1;
    }
    values[b'=' as usize] = PAD;
    values
};

/// What is no Base64 stays as it is: later transformations of the same rule would otherwise see nothing of it. Padding may
/// be missing and lines may end, as the decoders of most languages let them.
pub(super) fn decode(input: &[u8], out: &mut Vec<u8>) -> bool {
    let text = input.trim_ascii_end();
    let padding = text
        .iter()
        .rev()
        .take(2)
        .take_while(|byte| **byte == b'=')
        .count();
    let text = &text[..text.len() - padding];
    let line_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let digit = |byte: &u8| VALUES[usize::from(*byte)] < PAD;
    if text.is_empty() || !text.iter().all(|byte| digit(byte) || line_end(byte)) {
        return false;
    }
    digits(
        text.iter()
            .map(|byte| VALUES[usize::from(*byte)])
            .filter(|value| *value < PAD),
        out,
    );
    out != input
}

/// Passing over what is no digit.
pub(super) fn decode_ext(input: &[u8], out: &mut Vec<u8>) -> bool {
    digits(
        input
            .iter()
            .map(|byte| VALUES[usize::from(*byte)])
            .filter(|value| *value < PAD),
        out,
    );
    out != input
}

pub(super) fn encode(input: &[u8], out: &mut Vec<u8>) -> bool {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let Some(length) = base64::encoded_len(input.len(), true) else {
        return false;
    };
    out.resize(length, 0);
    STANDARD.encode_slice(input, out).is_ok() && !input.is_empty()
}

fn digits(values: impl Iterator<Item = u8>, out: &mut Vec<u8>) {
    let mut bits = 0u32;
    let mut count = 0;
    for value in values {
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count & 0xff) as u8);
        }
    }
}
