//! Text written byte by byte, where `fmt` would cost more than the rest of a request's fields: numbers, addresses, JSON.

use bytes::BufMut;
use std::net::IpAddr;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// A number in decimal.
pub(crate) fn decimal(out: &mut impl BufMut, mut number: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.put_slice(&digits[at..]);
}

/// A number in hexadecimal, without leading zeros.
pub(crate) fn hexadecimal(out: &mut impl BufMut, number: u64) {
    let digits = (u64::BITS - number.leading_zeros()).div_ceil(4).max(1) as usize;
    out.put_slice(&hex_digits(u128::from(number))[32 - digits..]);
}

/// All digits of a number in hexadecimal.
pub(crate) fn hex_digits(number: u128) -> [u8; 32] {
    let mut digits = [0; 32];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(number.to_be_bytes()) {
        pair[0] = HEX[usize::from(byte >> 4)];
        pair[1] = HEX[usize::from(byte & 15)];
    }
    digits
}

/// An address as its type shows it.
pub(crate) fn address(out: &mut impl BufMut, address: IpAddr) {
    let IpAddr::V4(v4) = address else {
        out.put_slice(address.to_string().as_bytes());
        return;
    };
    for (place, octet) in v4.octets().into_iter().enumerate() {
        if place > 0 {
            out.put_u8(b'.');
        }
        decimal(out, u64::from(octet));
    }
}

/// The inside of a JSON string (RFC 8259 section 7).
pub(crate) fn json(out: &mut Vec<u8>, text: &str) {
    let must_be_escaped = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    // Without a branch in it, so that it goes by whole registers; nearly all text is written as it is.
    let plain = !text.bytes().fold(false, |any, byte| any | must_be_escaped(byte));
    if plain {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..0x20 => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
            _ => out.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_longest_address_is_whole() {
        let longest: IpAddr = "1111:2222:3333:4444:5555:6666:7777:8888".parse().unwrap();
        assert_eq!(written(|out| address(out, longest)), longest.to_string());
    }

    proptest! {
        #[test]
        fn numbers_and_addresses_read_as_their_types_show_them(number: u64, wide: u128, ip: IpAddr) {
            prop_assert_eq!(written(|out| decimal(out, number)), number.to_string());
            prop_assert_eq!(written(|out| hexadecimal(out, number)), format!("{number:x}"));
            prop_assert_eq!(hex_digits(wide).to_vec(), format!("{wide:032x}").into_bytes());
            prop_assert_eq!(written(|out| address(out, ip)), ip.to_string());
        }

        #[test]
        fn json_is_what_another_writer_makes_of_it_to_a_reader(text in "(\\PC|[\u{0}-\u{24}\\\\]){0,40}") {
            let line = written(|out| { out.push(b'"'); json(out, &text); out.push(b'"'); });
            prop_assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text);
        }
    }
}
