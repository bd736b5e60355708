//! UTF-8 to `%uHHHH`.

/// Every character that UTF-8 says in more than one byte.
///
/// Characters that are longer than they need be, and halves of surrogate pairs, are written too, and their first byte is
/// left behind them: a lenient reader behind us would read the character, and rules can see that something was wrong. A
/// first byte without its company goes; other bytes that are no UTF-8 stay.
pub(super) fn to_unicode(input: &[u8], out: &mut Vec<u8>) -> bool {
    let Some(first) = input.iter().position(|byte| !byte.is_ascii()) else {
        return false;
    };
    out.extend_from_slice(&input[..first]);
    let mut at = first;
    while let Some(byte) = input.get(at).copied() {
        let (more, bits, least) = match byte {
            0xc0..=0xdf => (1, byte & 0x1f, 0x80),
            0xe0..=0xef => (2, byte & 0x0f, 0x800),
            0xf0..=0xf7 => (3, byte & 0x07, 0x1_0000),
            _ => {
                out.push(byte);
                at += 1;
                continue;
            }
        };
        at += 1;
        let company = input
            .get(at..at + more)
            .filter(|bytes| bytes.iter().all(|byte| byte & 0xc0 == 0x80));
        let Some(company) = company else { continue };
        at += more;
        let code = company
            .iter()
            .fold(u32::from(bits), |code, byte| code << 6 | u32::from(byte & 0x3f));
        escape(code, out);
        if code < least || (0xd800..=0xdfff).contains(&code) || code > 0x10_ffff {
            out.push(byte);
        }
    }
    out != input
}

fn escape(code: u32, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(b"%u");
    let digits = match code {
        0..=0xffff => 4,
        0x1_0000..=0xf_ffff => 5,
        _ => 6,
    };
    out.extend(
        (0..digits)
            .rev()
            .map(|place| DIGITS[(code >> (4 * place) & 15) as usize]),
    );
}
