//! Numbers and addresses as texts.

/// Writes a number in decimal digits.
pub(super) fn number(value: i64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

/// Where a client is sent, as a field of the answer may carry it: what is in a macro comes from the client. Control bytes,
/// line ends above all, are left out; what has no place in an address is escaped.
pub(super) fn location(text: &[u8]) -> String {
    let mut location = String::with_capacity(text.len());
    for byte in text.trim_ascii() {
        match byte {
            0..=0x1f | 0x7f => {}
            b' ' | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | 0x80.. => {
                location.push('%');
                location.push_str(&hex::encode_upper([*byte]));
            }
            byte => location.push(char::from(*byte)),
        }
    }
    location
}

/// A number of things as a number of rules.
pub(super) fn count(things: usize) -> i64 {
    i64::try_from(things).unwrap_or(i64::MAX)
}
