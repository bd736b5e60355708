//! Reads a chunked body (RFC 9112 section 7.1): says where data stands in what has arrived, keeps the trailers, and
//! refuses what parsers disagree about: bare LF, white space around the size, sizes that overflow, folded trailers,
//! control characters.

use super::head::{is_field_byte, is_token, parse_trailers};
use crate::fault::{Fault, Kind};
use http::HeaderMap;

/// More would be refused by nobody's client.
const MAX_SIZE_DIGITS: u8 = 15;
/// All chunk extensions of a body together.
const MAX_EXTENSION_BYTES: u32 = 8 << 10;
/// All trailer fields together.
const MAX_TRAILER_BYTES: usize = 8 << 10;
/// Trailer fields.
const MAX_TRAILERS: u32 = 64;

/// Where in a chunked body the next byte stands.
#[derive(Debug, Clone)]
pub struct Chunked {
    state: State,
    remaining: u64,
    extension_bytes: u32,
    trailers: u32,
    /// Lines of trailer fields, as they came.
    trailer_lines: Vec<u8>,
}

/// What comes next in a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// After so many bytes of framing, so many of data, never 0.
    Data {
        /// Bytes to skip.
        skip: usize,
        /// Bytes of the body.
        length: usize,
    },
    /// All of it was framing; more must come.
    More,
    /// The body ends after so many bytes.
    End(usize),
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
            trailers: 0,
            trailer_lines: Vec::new(),
        }
    }
}

impl Chunked {
    /// Takes bytes up to the end of the next data, or of the body. What it names is taken; the rest is to be given again.
    pub fn next(&mut self, bytes: &[u8]) -> Result<Part, Fault> {
        let mut at = 0;
        while at < bytes.len() && self.state != State::Done {
            if self.state == State::Data {
                let length = usize::try_from(self.remaining)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len() - at);
                self.remaining -= length as u64;
                if self.remaining == 0 {
                    self.state = State::DataCr;
                }
                return Ok(Part::Data { skip: at, length });
            }
            self.state = self.step(bytes[at])?;
            at += 1;
        }
        Ok(match self.state {
            State::Done => Part::End(at),
            _ => Part::More,
        })
    }

    /// The last byte of the body has been seen.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The trailer fields, once it is done; none when there were none.
    pub fn take_trailers(&mut self) -> Result<Option<HeaderMap>, Fault> {
        if self.trailer_lines.is_empty() {
            return Ok(None);
        }
        parse_trailers(&std::mem::take(&mut self.trailer_lines)).map(Some)
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
                self.trailer(byte, State::TrailerName)
            }
            (State::TrailerName, b':') => self.trailer(byte, State::TrailerValue),
            (State::TrailerName, _) if is_token(byte) => self.trailer(byte, State::TrailerName),
            (State::TrailerValue, b'\r') => self.trailer(byte, State::TrailerLf),
            (State::TrailerValue, _) if is_field_byte(byte) => self.trailer(byte, State::TrailerValue),
            (State::TrailerLf, b'\n') => self.trailer(byte, State::LineStart),
            (State::EndLf, b'\n') => Ok(State::Done),
            _ => Err(Kind::Malformed.because("invalid chunked body")),
        }
    }

    fn trailer(&mut self, byte: u8, next: State) -> Result<State, Fault> {
        if self.trailer_lines.len() >= MAX_TRAILER_BYTES {
            return Err(Kind::HeadTooLarge.because("trailer fields too large"));
        }
        self.trailer_lines.push(byte);
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Data, bytes used, whether it ended there.
    fn whole(body: &[u8]) -> Result<(Vec<u8>, usize, bool), Fault> {
        feed(&mut Chunked::default(), body)
    }

    fn feed(chunked: &mut Chunked, bytes: &[u8]) -> Result<(Vec<u8>, usize, bool), Fault> {
        let (mut data, mut at) = (Vec::new(), 0);
        loop {
            match chunked.next(&bytes[at..])? {
                Part::Data { skip, length } => {
                    data.extend_from_slice(&bytes[at + skip..at + skip + length]);
                    at += skip + length;
                }
                Part::More => return Ok((data, bytes.len(), false)),
                Part::End(used) => return Ok((data, at + used, true)),
            }
        }
    }

    #[test]
    fn it_ends_where_the_body_ends() {
        let hello = || b"hello".to_vec();
        assert_eq!(whole(b"5\r\nhello\r\n0\r\n\r\nGET /"), Ok((hello(), 15, true)));
        assert_eq!(
            whole(b"5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\nGET /"),
            Ok((hello(), 25, true))
        );
        assert_eq!(whole(b"5\r\nhel"), Ok((b"hel".to_vec(), 6, false)));
    }

    #[test]
    fn trailers_are_kept() {
        let mut chunked = Chunked::default();
        let body = b"0\r\nX-Sum: 42 \r\nx-sum:\t7\r\n\r\n";
        assert!(feed(&mut chunked, body).unwrap().2);
        let trailers = chunked.take_trailers().unwrap().unwrap();
        let values: Vec<_> = trailers.get_all("x-sum").iter().collect();
        assert_eq!(values, ["42", "7"]);
        assert!(chunked.take_trailers().unwrap().is_none());
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
            let (mut chunked, mut used, mut data) = (Chunked::default(), 0, Vec::new());
            for piece in body.chunks(cut) {
                let (here, taken, _) = feed(&mut chunked, piece).unwrap();
                data.extend(here);
                used += taken;
            }
            prop_assert!(chunked.is_done());
            prop_assert_eq!(used, length);
            prop_assert_eq!(data, chunks.concat());
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = whole(&bytes);
        }
    }
}
