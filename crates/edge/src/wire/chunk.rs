//! Follows a chunked body byte by byte (RFC 9112 section 7.1) without changing it, and refuses what parsers disagree
//! about: bare LF, white space around the size, sizes that overflow, folded trailers, control characters.

use super::head::{is_field_byte, is_token};
use crate::fault::{Fault, Kind};

/// More would be refused by nobody's client.
const MAX_SIZE_DIGITS: u8 = 15;
/// All chunk extensions of a body together; below hyper's own limit of 16 KiB, so that ours speaks first.
const MAX_EXTENSION_BYTES: u32 = 8 << 10;
/// All trailer fields together; below hyper's own limit of 16 KiB.
const MAX_TRAILER_BYTES: u32 = 8 << 10;
/// Trailer fields; below hyper's own limit of 100.
const MAX_TRAILERS: u32 = 64;

/// Where in a chunked body the next byte stands.
#[derive(Debug, Clone)]
pub struct Chunked {
    state: State,
    remaining: u64,
    extension_bytes: u32,
    trailer_bytes: u32,
    trailers: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size(u8),
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    LineStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
}

impl Default for Chunked {
    fn default() -> Self {
        Self {
            state: State::Size(0),
            remaining: 0,
            extension_bytes: 0,
            trailer_bytes: 0,
            trailers: 0,
        }
    }
}

impl Chunked {
    /// Takes bytes; says how many belong to this body. [`Chunked::is_done`] tells whether it ended with them.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let mut at = 0;
        while at < bytes.len() && self.state != State::Done {
            if self.state == State::Data {
                let here = usize::try_from(self.remaining)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len() - at);
                at += here;
                self.remaining -= here as u64;
                if self.remaining == 0 {
                    self.state = State::DataCr;
                }
            } else {
                self.state = self.step(bytes[at])?;
                at += 1;
            }
        }
        Ok(at)
    }

    /// The last byte of the body has been seen.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    fn step(&mut self, byte: u8) -> Result<State, Fault> {
        match (self.state, byte) {
            (State::Size(digits), _) if byte.is_ascii_hexdigit() => {
                if digits == MAX_SIZE_DIGITS {
                    return Err(Kind::Malformed.because("chunk size too large"));
                }
                let value = (byte as char).to_digit(16).unwrap_or_default();
                self.remaining = self.remaining << 4 | u64::from(value);
                Ok(State::Size(digits + 1))
            }
            (State::Size(1..), b'\r') => Ok(State::SizeLf),
            (State::Size(1..), b';') => Ok(State::Extension),
            (State::Extension, b'\r') => Ok(State::SizeLf),
            (State::Extension, _) if is_field_byte(byte) => {
                self.extension_bytes += 1;
                if self.extension_bytes > MAX_EXTENSION_BYTES {
                    return Err(Kind::HeadTooLarge.because("chunk extensions too large"));
                }
                Ok(State::Extension)
            }
            (State::SizeLf, b'\n') if self.remaining == 0 => Ok(State::LineStart),
            (State::SizeLf, b'\n') => Ok(State::Data),
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::Size(0)),
            (State::LineStart, b'\r') => Ok(State::EndLf),
            (State::LineStart, _) if is_token(byte) => {
                self.trailers += 1;
                if self.trailers > MAX_TRAILERS {
                    return Err(Kind::HeadTooLarge.because("too many trailer fields"));
                }
                self.trailer(State::TrailerName)
            }
            (State::TrailerName, b':') => self.trailer(State::TrailerValue),
            (State::TrailerName, _) if is_token(byte) => self.trailer(State::TrailerName),
            (State::TrailerValue, b'\r') => Ok(State::TrailerLf),
            (State::TrailerValue, _) if is_field_byte(byte) => self.trailer(State::TrailerValue),
            (State::TrailerLf, b'\n') => Ok(State::LineStart),
            (State::EndLf, b'\n') => Ok(State::Done),
            _ => Err(Kind::Malformed.because("invalid chunked body")),
        }
    }

    fn trailer(&mut self, next: State) -> Result<State, Fault> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > MAX_TRAILER_BYTES {
            return Err(Kind::HeadTooLarge.because("trailer fields too large"));
        }
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(body: &[u8]) -> Result<(usize, bool), Fault> {
        let mut chunked = Chunked::default();
        let used = chunked.advance(body)?;
        Ok((used, chunked.is_done()))
    }

    #[test]
    fn it_ends_where_the_body_ends() {
        assert_eq!(whole(b"5\r\nhello\r\n0\r\n\r\nGET /"), Ok((15, true)));
        assert_eq!(whole(b"5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\nGET /"), Ok((25, true)));
        assert_eq!(whole(b"5\r\nhel"), Ok((6, false)));
    }

    #[test]
    fn what_parsers_disagree_about_is_refused() {
        for body in [
            "\r\n",
            "5\nhello",
            "5 \r\nhello",
            " 5\r\nhello",
            "5\r\nhelloX",
            "5\r\nhello\n",
            "0x5\r\n",
            "-5\r\n",
            "+5\r\n",
            "g\r\n",
            "1000000000000000\r\n",
            "5;a\nb\r\nhello",
            "5;a\rb\r\n",
            "0\r\n X: y\r\n",
            "0\r\nX : y\r\n",
            "0\r\nX: y\n",
            "0\r\nX: \0\r\n",
            "0\r\n: y\r\n",
            "0\r\nX\r\n",
        ] {
            assert!(whole(body.as_bytes()).is_err(), "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..6), cut in 1_usize..17) {
            let mut body = Vec::new();
            for chunk in &chunks {
                body.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
                body.extend_from_slice(chunk);
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(b"0\r\n\r\n");
            let length = body.len();
            body.extend_from_slice(b"next");
            let (mut chunked, mut used) = (Chunked::default(), 0);
            for piece in body.chunks(cut) {
                used += chunked.advance(piece).unwrap();
            }
            prop_assert!(chunked.is_done());
            prop_assert_eq!(used, length);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = whole(&bytes);
        }
    }
}
