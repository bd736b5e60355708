//! Looking for the first byte that matters.

/// A set of bytes.
pub(super) struct Bytes([bool; 256]);

impl Bytes {
    pub(super) const fn of(bytes: &[u8]) -> Bytes {
        let mut table = [false; 256];
        let mut at = 0;
        while at < bytes.len() {
            table[bytes[at] as usize] = true;
            at += 1;
        }
        Bytes(table)
    }

    pub(super) const fn and_uppercase(mut self) -> Bytes {
        let mut byte = b'A';
        while byte <= b'Z' {
            self.0[byte as usize] = true;
            byte += 1;
        }
        self
    }

    pub(super) fn has(&self, byte: u8) -> bool {
        self.0[byte as usize]
    }

    /// Where the first of them stands.
    pub(super) fn find(&self, text: &[u8]) -> Option<usize> {
        text.iter().position(|byte| self.has(*byte))
    }
}

/// C's `isspace`.
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

/// The value of a hexadecimal digit.
pub(super) fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// The value of the two hexadecimal digits at the beginning.
pub(super) fn hex_pair(text: &[u8]) -> Option<u8> {
    match text {
        [high, low, ..] => Some(hex(*high)? << 4 | hex(*low)?),
        _ => None,
    }
}

/// The value of the four hexadecimal digits at the beginning.
pub(super) fn hex_quad(text: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes([hex_pair(text)?, hex_pair(text.get(2..)?)?]))
}

/// What a character of 16 bits becomes where only one byte is left for it: its low byte; of the full-width forms
/// (U+FF01 to U+FF5E) the ASCII character that they are forms of.
pub(super) fn low_byte(code: u16) -> u8 {
    match code {
        0xff01..=0xff5e => (code & 0xff) as u8 + 0x20,
        _ => (code & 0xff) as u8,
    }
}
