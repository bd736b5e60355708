//! RESP2 and RESP3, bounded (<https://redis.io/docs/latest/develop/reference/protocol-spec/>).

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// A reply.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `+`: a short text.
    Simple(Bytes),
    /// `-`: an error.
    Error(Bytes),
    /// `:`.
    Integer(i64),
    /// `$`: bytes.
    Bulk(Bytes),
    /// `$-1`, `*-1` or `_`.
    Null,
    /// `*`.
    Array(Vec<Value>),
    /// `#`.
    Boolean(bool),
    /// `,`: the number as it was written.
    Double(Bytes),
    /// `(`: the number as it was written.
    BigNumber(Bytes),
    /// `!`: an error with any bytes.
    BulkError(Bytes),
    /// `=`: text with a three-letter format.
    Verbatim {
        /// `txt` or `mkd`.
        format: [u8; 3],
        /// The text.
        text: Bytes,
    },
    /// `%`: keys and values in turns.
    Map(Vec<Value>),
    /// `~`.
    Set(Vec<Value>),
    /// `>`: sent without being asked for.
    Push(Vec<Value>),
}

/// What a single reply may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the whole reply.
    pub bytes: usize,
    /// Elements of all arrays together.
    pub elements: usize,
    /// Arrays within arrays.
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: 64 << 20,
            elements: 1 << 20,
            depth: 32,
        }
    }
}

/// The bytes are no RESP, or too many.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RespError {
    /// Not the protocol.
    #[error("the reply is not RESP: {0}")]
    Malformed(&'static str),
    /// Beyond the limits.
    #[error("the reply has more than {limit} {what}")]
    TooLarge {
        /// Bytes, elements, levels.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
}

/// Longest line: numbers, simple strings, errors.
const MAX_LINE: usize = 64 << 10;

/// Reads replies from bytes that arrive in pieces. What has been read is not read again, however the pieces
/// are cut.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    open: Vec<Open>,
    bytes: usize,
    elements: usize,
}

#[derive(Debug)]
struct Open {
    kind: u8,
    missing: usize,
    items: Vec<Value>,
}

enum Token {
    Value(Value),
    Open(u8, usize),
}

impl Decoder {
    /// A decoder between two replies.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            open: vec![],
            bytes: 0,
            elements: 0,
        }
    }

    /// The next whole reply, or `None` when more bytes are needed. After an error, the stream is lost.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Value>, RespError> {
        loop {
            let before = buffer.len();
            let Some(token) = self.token(buffer)? else {
                return Ok(None);
            };
            self.bytes += before - buffer.len();
            self.within("bytes", self.bytes, self.limits.bytes)?;
            let mut value = match token {
                Token::Open(kind, 0) => close(kind, vec![]),
                Token::Open(kind, missing) => {
                    self.within("levels", self.open.len() + 1, self.limits.depth)?;
                    self.elements = self.elements.saturating_add(missing);
                    self.within("elements", self.elements, self.limits.elements)?;
                    // The count is only a promise: memory follows what arrives.
                    self.open.push(Open {
                        kind,
                        missing,
                        items: Vec::with_capacity(missing.min(1_024)),
                    });
                    continue;
                }
                Token::Value(value) => value,
            };
            loop {
                let Some(open) = self.open.last_mut() else {
                    (self.bytes, self.elements) = (0, 0);
                    return Ok(Some(value));
                };
                open.items.push(value);
                open.missing -= 1;
                if open.missing > 0 {
                    break;
                }
                let Some(done) = self.open.pop() else { break };
                value = close(done.kind, done.items);
            }
        }
    }

    fn within(&self, what: &'static str, count: usize, limit: usize) -> Result<(), RespError> {
        if count > limit {
            Err(RespError::TooLarge { what, limit })
        } else {
            Ok(())
        }
    }

    /// One line with what belongs to it; takes nothing from the buffer unless it is complete.
    fn token(&self, buffer: &mut BytesMut) -> Result<Option<Token>, RespError> {
        let Some(end) = memchr::memchr(b'\n', &buffer[..buffer.len().min(MAX_LINE)]) else {
            return if buffer.len() < MAX_LINE {
                Ok(None)
            } else {
                Err(RespError::TooLarge {
                    what: "bytes in a line",
                    limit: MAX_LINE,
                })
            };
        };
        if end < 2 || buffer[end - 1] != b'\r' {
            return Err(RespError::Malformed("a line does not end with CR LF"));
        }
        let kind = buffer[0];
        let line = &buffer[1..end - 1];
        let value = match kind {
            b'$' | b'!' | b'=' => return self.bulk(kind, end + 1, buffer),
            b'*' | b'~' | b'>' | b'%' => {
                if line == b"-1" {
                    Value::Null
                } else {
                    let count: usize = number(line)?;
                    let count = if kind == b'%' {
                        count.saturating_mul(2)
                    } else {
                        count
                    };
                    buffer.advance(end + 1);
                    return Ok(Some(Token::Open(kind, count)));
                }
            }
            b':' => Value::Integer(number(line)?),
            b'_' => Value::Null,
            b'#' => Value::Boolean(match line {
                b"t" => true,
                b"f" => false,
                _ => return Err(RespError::Malformed("a truth value is neither t nor f")),
            }),
            b'+' | b'-' | b',' | b'(' => {
                let mut line = buffer.split_to(end + 1).freeze();
                line.advance(1);
                line.truncate(line.len() - 2);
                return Ok(Some(Token::Value(match kind {
                    b'+' => Value::Simple(line),
                    b'-' => Value::Error(line),
                    b',' => Value::Double(line),
                    _ => Value::BigNumber(line),
                })));
            }
            _ => return Err(RespError::Malformed("an unknown type")),
        };
        buffer.advance(end + 1);
        Ok(Some(Token::Value(value)))
    }

    fn bulk(&self, kind: u8, header: usize, buffer: &mut BytesMut) -> Result<Option<Token>, RespError> {
        let line = &buffer[1..header - 2];
        if line == b"-1" {
            buffer.advance(header);
            return Ok(Some(Token::Value(Value::Null)));
        }
        let length: usize = number(line)?;
        self.within("bytes", self.bytes.saturating_add(length), self.limits.bytes)?;
        let whole = header + length + 2;
        if buffer.len() < whole {
            buffer.reserve(whole.saturating_sub(buffer.len()).min(1 << 20));
            return Ok(None);
        }
        if &buffer[whole - 2..whole] != b"\r\n" {
            return Err(RespError::Malformed("a bulk string does not end with CR LF"));
        }
        let mut bytes = buffer.split_to(whole).freeze();
        bytes.advance(header);
        bytes.truncate(length);
        Ok(Some(Token::Value(match kind {
            b'$' => Value::Bulk(bytes),
            b'!' => Value::BulkError(bytes),
            _ => {
                let Some((&[a, b, c, b':'], _)) = bytes.split_first_chunk::<4>() else {
                    return Err(RespError::Malformed("a verbatim string has no format"));
                };
                bytes.advance(4);
                Value::Verbatim {
                    format: [a, b, c],
                    text: bytes,
                }
            }
        })))
    }
}

fn number<T: std::str::FromStr>(line: &[u8]) -> Result<T, RespError> {
    std::str::from_utf8(line)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(RespError::Malformed("a number is not one"))
}

fn close(kind: u8, items: Vec<Value>) -> Value {
    match kind {
        b'%' => Value::Map(items),
        b'~' => Value::Set(items),
        b'>' => Value::Push(items),
        _ => Value::Array(items),
    }
}

/// Writes one command as an array of bulk strings.
pub fn encode_command<A: AsRef<[u8]>>(arguments: &[A], out: &mut BytesMut) {
    header(b'*', arguments.len(), out);
    for argument in arguments {
        bulk(argument.as_ref(), out);
    }
}

/// Writes a reply as RESP2: what RESP3 has more is written as RESP2 servers would.
pub fn encode_resp2(value: &Value, out: &mut BytesMut) {
    match value {
        Value::Simple(text) => line(b'+', text, out),
        Value::Error(text) | Value::BulkError(text) => line(b'-', text, out),
        Value::Integer(number) => line(b':', number.to_string().as_bytes(), out),
        Value::Bulk(bytes) | Value::Double(bytes) | Value::BigNumber(bytes) => bulk(bytes, out),
        Value::Verbatim { text, .. } => bulk(text, out),
        Value::Null => out.put_slice(b"$-1\r\n"),
        Value::Boolean(truth) => line(b':', if *truth { b"1" } else { b"0" }, out),
        Value::Array(items) | Value::Map(items) | Value::Set(items) | Value::Push(items) => {
            header(b'*', items.len(), out);
            // As deep as the decoder's limit.
            items.iter().for_each(|item| encode_resp2(item, out));
        }
    }
}

fn header(kind: u8, length: usize, out: &mut BytesMut) {
    line(kind, length.to_string().as_bytes(), out);
}

fn line(kind: u8, text: &[u8], out: &mut BytesMut) {
    out.put_u8(kind);
    // A line break would end the line: errors from BulkError may hold one.
    out.extend(text.iter().map(|byte| {
        if matches!(byte, b'\r' | b'\n') {
            b' '
        } else {
            *byte
        }
    }));
    out.put_slice(b"\r\n");
}

fn bulk(bytes: &[u8], out: &mut BytesMut) {
    header(b'$', bytes.len(), out);
    out.put_slice(bytes);
    out.put_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn resp2() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            "[a-z ]{0,10}".prop_map(|s| Value::Simple(s.into())),
            "[A-Z ]{0,10}".prop_map(|s| Value::Error(s.into())),
            any::<i64>().prop_map(Value::Integer),
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(|b| Value::Bulk(b.into())),
            Just(Value::Null),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            proptest::collection::vec(inner, 0..6).prop_map(Value::Array)
        })
    }

    fn decode_all(bytes: &[u8], cut: usize) -> Result<Vec<Value>, RespError> {
        let mut decoder = Decoder::new(Limits {
            bytes: 4_096,
            elements: 256,
            depth: 8,
        });
        let (mut buffer, mut values) = (BytesMut::new(), vec![]);
        for piece in bytes.chunks(cut.max(1)) {
            buffer.extend_from_slice(piece);
            while let Some(value) = decoder.next(&mut buffer)? {
                values.push(value);
            }
        }
        Ok(values)
    }

    proptest! {
        #[test]
        fn replies_read_back_however_they_are_cut(values in proptest::collection::vec(resp2(), 1..4), cut in 1usize..50) {
            let mut bytes = BytesMut::new();
            values.iter().for_each(|value| encode_resp2(value, &mut bytes));
            prop_assume!(bytes.len() < 4_000);
            prop_assert_eq!(decode_all(&bytes, cut).unwrap(), values);
        }

        #[test]
        fn no_bytes_panic_and_cuts_do_not_matter(bytes in "[*$:+%~>!=_#,(0-9a-t\r\n-]{0,200}", cut in 1usize..20) {
            prop_assert_eq!(decode_all(bytes.as_bytes(), cut), decode_all(bytes.as_bytes(), 1));
        }

        #[test]
        fn no_binary_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_all(&bytes, 7);
        }
    }

    #[test]
    fn resp3_is_read() {
        let bytes = b"%1\r\n+a\r\n:1\r\n~1\r\n#t\r\n>1\r\n,1.5\r\n=5\r\ntxt:x\r\n!1\r\nE\r\n(12\r\n_\r\n*-1\r\n$-1\r\n*0\r\n";
        let values = decode_all(bytes, 3).unwrap();
        assert_eq!(values.len(), 10);
        assert_eq!(
            values[0],
            Value::Map(vec![Value::Simple("a".into()), Value::Integer(1)])
        );
        assert_eq!(
            values[3],
            Value::Verbatim {
                format: *b"txt",
                text: "x".into()
            }
        );
        assert_eq!(values[9], Value::Array(vec![]));
    }

    #[test]
    fn promises_beyond_the_limits_are_refused_before_memory_is_spent() {
        for (bytes, what) in [
            ("*99999999999\r\n", "elements"),
            ("$99999999999\r\n", "bytes"),
            (&"*1\r\n".repeat(9), "levels"),
        ] {
            let error = decode_all(bytes.as_bytes(), 100).unwrap_err();
            assert!(
                matches!(error, RespError::TooLarge { what: w, .. } if w == what),
                "{error}"
            );
        }
    }
}
