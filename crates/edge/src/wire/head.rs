//! A request head, byte for byte. Pure: bytes in, verdict out.
//!
//! hyper's parser is lenient by design (bare LF, leading empty lines, duplicate Host, several Content-Length) and
//! forgets what the bytes were. Everything that two HTTP parsers could read differently is refused here, before hyper
//! sees it. Sections are of RFC 9112 where not said otherwise.

use crate::Limits;
use crate::fault::{Fault, Kind};

/// How the body behind a head is delimited (section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// No body: the next byte belongs to the next request.
    Empty,
    /// So many bytes, never 0.
    Length(u64),
    /// Chunks.
    Chunked,
    /// No body, and a WebSocket handshake: what follows depends on the answer.
    Upgrade,
}

/// Finds the end of a head (the byte after the empty line) in `bytes`, of which the first `seen` were scanned before.
/// A CR without LF, an LF without CR and NUL are refused wherever they stand (sections 2.2 and 5).
pub fn find_end(bytes: &[u8], seen: usize) -> Result<Option<usize>, Fault> {
    // A line end may straddle the border of two reads.
    for at in memchr::memchr3_iter(
        b'\r',
        b'\n',
        0,
        bytes.get(seen.saturating_sub(1)..).unwrap_or_default(),
    ) {
        let at = at + seen.saturating_sub(1);
        match bytes[at] {
            b'\n' if at == 0 || bytes[at - 1] != b'\r' => {
                return Err(Kind::Malformed.because("line ends in a bare LF"));
            }
            b'\n' if at >= 3 && bytes[at - 3..at] == *b"\r\n\r" => return Ok(Some(at + 1)),
            b'\r' if bytes.get(at + 1).is_some_and(|&next| next != b'\n') => {
                return Err(Kind::Malformed.because("CR without LF"));
            }
            0 => return Err(Kind::Malformed.because("NUL in the head")),
            _ => {}
        }
    }
    Ok(None)
}

/// Judges a whole head: request line, fields, empty line.
pub fn inspect(head: &[u8], limits: &Limits) -> Result<Framing, Fault> {
    let lines = head
        .strip_suffix(b"\r\n\r\n")
        .ok_or(Kind::Malformed.because("head without an empty line"))?;
    let (request_line, fields) = match memchr::memmem::find(lines, b"\r\n") {
        Some(end) => (&lines[..end], &lines[end + 2..]),
        None => (lines, &lines[..0]),
    };
    let line = request_line_of(request_line, limits)?;
    let framing = framing_of(fields, &line, limits)?;
    agree_with_parser(head, limits)?;
    Ok(framing)
}

struct RequestLine {
    get: bool,
    http_11: bool,
}

fn request_line_of(line: &[u8], limits: &Limits) -> Result<RequestLine, Fault> {
    let mut parts = line.split(|&b| b == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Kind::Malformed.because("request line is not `method target version` with single spaces"));
    };
    if method.is_empty() || method.len() > 32 || !method.iter().all(|&b| is_token(b)) {
        return Err(Kind::Malformed.because("invalid method"));
    }
    let http_11 = match version {
        b"HTTP/1.1" => true,
        b"HTTP/1.0" => false,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(Kind::VersionNotSupported.because("this listener speaks HTTP/1.1"));
        }
        _ => return Err(Kind::Malformed.because("invalid HTTP version")),
    };
    if target.len() > limits.max_uri_bytes {
        return Err(Kind::UriTooLong.because("request target too long"));
    }
    match method {
        b"CONNECT" => return Err(Kind::MethodNotAllowed.because("CONNECT is not served")),
        b"TRACE" => return Err(Kind::MethodNotAllowed.because("TRACE is not served")),
        _ => {}
    }
    // `#` would be cut off silently by the URI parser, `<` and `>` never belong in a URI (RFC 3986 section 2).
    if target.is_empty()
        || !target
            .iter()
            .all(|&b| (0x21..=0x7e).contains(&b) && !matches!(b, b'#' | b'<' | b'>'))
    {
        return Err(Kind::Malformed.because("invalid character in the request target"));
    }
    if target == b"*" && method != b"OPTIONS" {
        return Err(Kind::Malformed.because("`*` is a target for OPTIONS only"));
    }
    if http::Uri::try_from(target).is_err() {
        return Err(Kind::Malformed.because("invalid request target"));
    }
    Ok(RequestLine {
        get: method == b"GET",
        http_11,
    })
}

fn framing_of(fields: &[u8], line: &RequestLine, limits: &Limits) -> Result<Framing, Fault> {
    let mut length: Option<u64> = None;
    let mut chunked = false;
    let mut connection_upgrade = false;
    let mut websocket = 0_u32;
    let mut count = 0;
    for field in Lines(fields) {
        count += 1;
        if count > limits.max_headers {
            return Err(Kind::HeadTooLarge.because("too many header fields"));
        }
        let (name, value) = field_of(field)?;
        if is_framing_alias(name) {
            return Err(Kind::Malformed.because("a field name that some servers take for a framing field"));
        }
        if name.eq_ignore_ascii_case(b"content-length") {
            let valid = (1..=18).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
            let parsed = std::str::from_utf8(value)
                .ok()
                .and_then(|text| text.parse().ok())
                .filter(|_| valid);
            let parsed = parsed.ok_or(Kind::Malformed.because("invalid Content-Length"))?;
            if length.replace(parsed).is_some() {
                return Err(Kind::Malformed.because("more than one Content-Length"));
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Kind::Malformed.because("Transfer-Encoding other than a single `chunked`"));
            }
            chunked = true;
        } else if name.eq_ignore_ascii_case(b"connection") {
            connection_upgrade |= value
                .split(|&b| b == b',')
                .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade"));
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            websocket += if value.eq_ignore_ascii_case(b"websocket") {
                1
            } else {
                2
            };
        }
    }
    match (length, chunked) {
        (Some(_), true) => Err(Kind::Malformed.because("both Content-Length and Transfer-Encoding")),
        (None, true) if !line.http_11 => Err(Kind::Malformed.because("Transfer-Encoding in HTTP/1.0")),
        (None, true) => Ok(Framing::Chunked),
        (Some(length), false) if length > 0 => Ok(Framing::Length(length)),
        _ if line.get && line.http_11 && connection_upgrade && websocket == 1 => Ok(Framing::Upgrade),
        _ => Ok(Framing::Empty),
    }
}

/// Splits `name: value` (section 5): no space before the colon, no folding, no control character.
fn field_of(field: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    if matches!(field.first(), Some(b' ' | b'\t')) {
        return Err(Kind::Malformed.because("folded header field"));
    }
    let colon = memchr::memchr(b':', field).ok_or(Kind::Malformed.because("header field without a colon"))?;
    let name = &field[..colon];
    if name.is_empty() || !name.iter().all(|&b| is_token(b)) {
        return Err(Kind::Malformed.because("invalid header field name"));
    }
    let value = field[colon + 1..].trim_ascii();
    if !value.iter().all(|&b| is_field_byte(b)) {
        return Err(Kind::Malformed.because("control character in a header field"));
    }
    Ok((name, value))
}

/// The bytes are also what hyper's parser says they are: one complete head, of the same length. With this, whatever
/// passes is parsed by hyper without an error, and hyper's answer to errors is never needed.
fn agree_with_parser(head: &[u8], limits: &Limits) -> Result<(), Fault> {
    const INLINE: usize = 100;
    let mut inline = [httparse::EMPTY_HEADER; INLINE];
    let mut heap = Vec::new();
    let headers = if limits.max_headers <= INLINE {
        &mut inline[..]
    } else {
        heap.resize(limits.max_headers, httparse::EMPTY_HEADER);
        &mut heap[..]
    };
    match httparse::Request::new(headers).parse(head) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => Ok(()),
        _ => Err(Kind::Malformed.because("invalid request head")),
    }
}

pub(crate) fn is_framing_alias(name: &[u8]) -> bool {
    name.contains(&b'_')
        && [&b"content-length"[..], b"transfer-encoding", b"host"]
            .iter()
            .any(|real| {
                real.len() == name.len()
                    && real
                        .iter()
                        .zip(name)
                        .all(|(&r, &n)| r == n.to_ascii_lowercase() || (r == b'-' && n == b'_'))
            })
}

/// RFC 9110 section 5.6.2.
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// RFC 9110 section 5.5: visible, space, tab, and bytes above 127.
pub(crate) fn is_field_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// Lines between CRLFs; nothing at all for an empty slice.
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let (line, rest) = match memchr::memmem::find(self.0, b"\r\n") {
            Some(end) => (&self.0[..end], &self.0[end + 2..]),
            None => (self.0, &self.0[..0]),
        };
        self.0 = rest;
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_end_is_found_however_the_bytes_are_cut() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        for cut in 0..head.len() {
            assert_eq!(find_end(&head[..cut], 0), Ok(None), "cut at {cut}");
            assert_eq!(find_end(head, cut), Ok(Some(head.len())), "resumed at {cut}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_what_passes_is_strict(bytes in proptest::collection::vec(any::<u8>(), 0..200), seen in 0_usize..200) {
            let _ = find_end(&bytes, seen.min(bytes.len()));
            let _ = inspect(&bytes, &Limits::default());
        }

        #[test]
        fn a_mutated_head_never_passes_with_a_bare_line_end(at in 0_usize..58, byte in prop_oneof![Just(b'\r'), Just(b'\n'), Just(0_u8)]) {
            let mut head = b"POST /a?b HTTP/1.1\r\nHost: example\r\nContent-Length: 12\r\n\r\n".to_vec();
            prop_assume!(at < head.len() && head[at] != byte);
            head[at] = byte;
            let verdict = find_end(&head, 0).map(|end| end.map(|end| inspect(&head[..end], &Limits::default())));
            prop_assert!(!matches!(verdict, Ok(Some(Ok(_)))), "{:?}", String::from_utf8_lossy(&head));
        }
    }
}
