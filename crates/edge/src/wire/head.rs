//! A message head, byte for byte. Pure: bytes in, verdict out.
//!
//! Everything that two HTTP parsers could read differently is refused here: bare LF, leading spaces, duplicate framing,
//! folded fields, names that some servers take for framing fields. What passes is built in the same walk. Sections are
//! of RFC 9112 where not said otherwise.

use crate::Limits;
use crate::fault::{Fault, Kind};
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Uri, Version};

/// How the body behind a request's head is delimited (section 6.3).
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

/// A request's head that passed.
#[derive(Debug)]
pub struct RequestHead {
    /// The method, never CONNECT or TRACE.
    pub method: Method,
    /// The target, in whatever form it came.
    pub uri: Uri,
    /// 1.0 or 1.1.
    pub version: Version,
    /// The fields.
    pub headers: HeaderMap,
    /// What follows.
    pub framing: Framing,
    /// The client wants another answer on this connection (section 9.3).
    pub persistent: bool,
    /// The client waits with its body for a go-ahead (RFC 9110 section 10.1.1).
    pub expects_continue: bool,
    /// The client takes trailers (RFC 9110 section 10.1.4).
    pub takes_trailers: bool,
}

/// How the body behind an answer's head is delimited, when the request allows one at all (section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerFraming {
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
    /// Everything until the connection ends: whether it is whole nobody can say.
    UntilClose,
}

/// An answer's head that passed.
#[derive(Debug)]
pub struct AnswerHead {
    /// The status, 100 to 999.
    pub status: StatusCode,
    /// 1.0 or 1.1.
    pub version: Version,
    /// The fields.
    pub headers: HeaderMap,
    /// What follows.
    pub framing: AnswerFraming,
    /// The upstream takes another request on this connection.
    pub persistent: bool,
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

/// Reads a whole request head: request line, fields, empty line.
pub fn parse(head: &Bytes, limits: &Limits) -> Result<RequestHead, Fault> {
    let (line, mut fields) = first_line_of(head)?;
    let (method, uri, version) = request_line_of(head, line, limits)?;
    let mut seen = Seen::default();
    let mut expects_continue = false;
    let mut takes_trailers = false;
    let mut headers = HeaderMap::with_capacity(16);
    let mut count = 0;
    while let Some((name, value)) = next_field(head, &mut fields)? {
        count += 1;
        if count > limits.max_headers {
            return Err(Kind::HeadTooLarge.because("too many header fields"));
        }
        seen.field(&name, value.as_bytes())?;
        if name == header::EXPECT {
            expects_continue = value.as_bytes().eq_ignore_ascii_case(b"100-continue");
        } else if name == header::TE {
            takes_trailers |= tokens(value.as_bytes()).any(|token| {
                let name = token.split(|&b| b == b';').next().unwrap_or_default();
                name.trim_ascii().eq_ignore_ascii_case(b"trailers")
            });
        }
        append(&mut headers, name, value)?;
    }
    let http_11 = version == Version::HTTP_11;
    let framing = match (seen.length, seen.chunked) {
        (Some(_), true) => return Err(Kind::Malformed.because("both Content-Length and Transfer-Encoding")),
        (None, true) if !http_11 => return Err(Kind::Malformed.because("Transfer-Encoding in HTTP/1.0")),
        (None, true) => Framing::Chunked,
        (Some(length), false) if length > 0 => Framing::Length(length),
        _ if method == Method::GET && http_11 && seen.connection_upgrade && seen.websocket == 1 => {
            Framing::Upgrade
        }
        _ => Framing::Empty,
    };
    Ok(RequestHead {
        method,
        uri,
        version,
        headers,
        framing,
        persistent: !seen.close && (http_11 || seen.keep_alive),
        expects_continue: expects_continue && http_11,
        takes_trailers,
    })
}

/// Reads a whole head of an answer. Stricter than many clients: an upstream that frames its answers ambiguously is
/// broken or hostile.
pub fn parse_answer(head: &Bytes, limits: &Limits) -> Result<AnswerHead, Fault> {
    let wrong = Kind::UpstreamInvalid.because("the worker sent an invalid answer");
    let (line, mut fields) = first_line_of(head).map_err(|_| wrong)?;
    let (version, status) = status_line_of(&head[..line]).ok_or(wrong)?;
    let mut seen = Seen::default();
    let mut headers = HeaderMap::with_capacity(16);
    let mut count = 0;
    while let Some((name, value)) = next_field(head, &mut fields).map_err(|_| wrong)? {
        count += 1;
        if count > limits.max_headers.max(256) {
            return Err(Kind::UpstreamInvalid.because("the worker sent too many header fields"));
        }
        seen.field(&name, value.as_bytes()).map_err(|_| wrong)?;
        append(&mut headers, name, value).map_err(|_| wrong)?;
    }
    let http_11 = version == Version::HTTP_11;
    let framing = match (seen.length, seen.chunked) {
        (Some(_), true) => return Err(wrong),
        (None, true) if !http_11 => return Err(wrong),
        (None, true) => AnswerFraming::Chunked,
        (Some(length), false) => AnswerFraming::Length(length),
        (None, false) => AnswerFraming::UntilClose,
    };
    Ok(AnswerHead {
        status,
        version,
        headers,
        framing,
        persistent: !seen.close && (http_11 || seen.keep_alive),
    })
}

/// Reads trailer fields: lines with their CRLF, and nothing else.
pub(crate) fn parse_trailers(lines: &[u8]) -> Result<HeaderMap, Fault> {
    let lines = Bytes::copy_from_slice(lines);
    let mut rest = 0..lines.len();
    let mut headers = HeaderMap::new();
    while let Some((name, value)) = next_field(&lines, &mut rest)? {
        append(&mut headers, name, value)?;
    }
    Ok(headers)
}

/// Where the first line ends, and where the lines of fields stand, each with its CRLF.
fn first_line_of(head: &[u8]) -> Result<(usize, std::ops::Range<usize>), Fault> {
    if !head.ends_with(b"\r\n\r\n") {
        return Err(Kind::Malformed.because("head without an empty line"));
    }
    let end = memchr::memchr(b'\r', head).unwrap_or_default();
    let fields = (end + 2).min(head.len() - 2)..head.len() - 2;
    Ok((end, fields))
}

fn request_line_of(head: &Bytes, end: usize, limits: &Limits) -> Result<(Method, Uri, Version), Fault> {
    let line = &head[..end];
    let shape = Kind::Malformed.because("request line is not `method target version` with single spaces");
    let first = memchr::memchr(b' ', line).ok_or(shape)?;
    let second = first + 1 + memchr::memchr(b' ', &line[first + 1..]).ok_or(shape)?;
    let (method, target, version) = (&line[..first], &line[first + 1..second], &line[second + 1..]);
    if version.contains(&b' ') {
        return Err(shape);
    }
    let invalid = Kind::Malformed.because("invalid method");
    if method.len() > 32 {
        return Err(invalid);
    }
    let method = Method::from_bytes(method).map_err(|_| invalid)?;
    let version = match version {
        b"HTTP/1.1" => Version::HTTP_11,
        b"HTTP/1.0" => Version::HTTP_10,
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
        Method::CONNECT => return Err(Kind::MethodNotAllowed.because("CONNECT is not served")),
        Method::TRACE => return Err(Kind::MethodNotAllowed.because("TRACE is not served")),
        _ => {}
    }
    let written = match target_as_written(target)? {
        Written::AsUri => head.slice(first + 1..second),
        Written::Escaped(target) => target.into(),
    };
    if target == b"*" && method != Method::OPTIONS {
        return Err(Kind::Malformed.because("`*` is a target for OPTIONS only"));
    }
    let uri =
        Uri::from_maybe_shared(written).map_err(|_| Kind::Malformed.because("invalid request target"))?;
    Ok((method, uri, version))
}

enum Written {
    AsUri,
    Escaped(Vec<u8>),
}

/// What clients send raw and URIs do not allow is escaped, as browsers escape it (WHATWG URL, section 1.3). `#` would be
/// cut off silently by the URI parser, and control characters belong nowhere.
fn target_as_written(target: &[u8]) -> Result<Written, Fault> {
    let is_raw = |byte: &u8| matches!(byte, b'"' | b'<' | b'>' | 0x80..);
    let sound = |byte: &u8| (0x21..=0x7e).contains(byte) && *byte != b'#';
    if target.iter().all(|byte| sound(byte) && !is_raw(byte)) && !target.is_empty() {
        return Ok(Written::AsUri);
    }
    if target.is_empty() || !target.iter().all(|byte| sound(byte) || is_raw(byte)) {
        return Err(Kind::Malformed.because("invalid character in the request target"));
    }
    let mut escaped = Vec::with_capacity(target.len() + 16);
    for byte in target {
        if is_raw(byte) {
            escaped.extend_from_slice(format!("%{byte:02X}").as_bytes());
        } else {
            escaped.push(*byte);
        }
    }
    Ok(Written::Escaped(escaped))
}

/// `HTTP/1.1 200 reason`; the reason may be missing, with or without its space (section 4).
fn status_line_of(line: &[u8]) -> Option<(Version, StatusCode)> {
    let version = match line.get(..8)? {
        b"HTTP/1.1" => Version::HTTP_11,
        b"HTTP/1.0" => Version::HTTP_10,
        _ => return None,
    };
    let rest = line.get(8..)?.strip_prefix(b" ")?;
    let (status, reason) = rest.split_at_checked(3)?;
    let sound = reason.is_empty() || (reason[0] == b' ' && reason.iter().all(|&b| is_field_byte(b)));
    let status = StatusCode::from_bytes(status).ok().filter(|_| sound)?;
    Some((version, status))
}

/// What fields say about framing and the connection.
#[derive(Default)]
struct Seen {
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    connection_upgrade: bool,
    /// 1 when `Upgrade` is there once and says `websocket`.
    websocket: u32,
}

impl Seen {
    fn field(&mut self, name: &HeaderName, value: &[u8]) -> Result<(), Fault> {
        // None of those below begins with another letter, and neither do their aliases.
        if !matches!(name.as_str().as_bytes().first(), Some(b'c' | b'h' | b't' | b'u')) {
            return Ok(());
        }
        if *name == header::CONTENT_LENGTH {
            let valid = (1..=18).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
            let parsed = std::str::from_utf8(value)
                .ok()
                .and_then(|text| text.parse().ok())
                .filter(|_| valid);
            let parsed = parsed.ok_or(Kind::Malformed.because("invalid Content-Length"))?;
            if self.length.replace(parsed).is_some() {
                return Err(Kind::Malformed.because("more than one Content-Length"));
            }
        } else if *name == header::TRANSFER_ENCODING {
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Kind::Malformed.because("Transfer-Encoding other than a single `chunked`"));
            }
            self.chunked = true;
        } else if *name == header::CONNECTION {
            for token in tokens(value) {
                self.connection_upgrade |= token.eq_ignore_ascii_case(b"upgrade");
                self.close |= token.eq_ignore_ascii_case(b"close");
                self.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
            }
        } else if *name == header::UPGRADE {
            self.websocket += if value.eq_ignore_ascii_case(b"websocket") {
                1
            } else {
                2
            };
        } else if is_framing_alias(name.as_str().as_bytes()) {
            return Err(Kind::Malformed.because("a field name that some servers take for a framing field"));
        }
        Ok(())
    }
}

fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(<[u8]>::trim_ascii)
}

fn append(headers: &mut HeaderMap, name: HeaderName, value: HeaderValue) -> Result<(), Fault> {
    match headers.try_append(name, value) {
        Ok(_) => Ok(()),
        Err(_) => Err(Kind::HeadTooLarge.because("too many header fields")),
    }
}

/// Takes the next `name: value` (section 5): no space before the colon, no folding, no control character.
fn next_field(
    head: &Bytes,
    rest: &mut std::ops::Range<usize>,
) -> Result<Option<(HeaderName, HeaderValue)>, Fault> {
    if rest.start >= rest.end {
        return Ok(None);
    }
    let lines = &head[rest.clone()];
    let end = match memchr::memchr(b'\r', lines) {
        Some(end) if lines.get(end + 1) == Some(&b'\n') => end,
        _ => return Err(Kind::Malformed.because("header field without its line end")),
    };
    let field = &lines[..end];
    if matches!(field.first(), Some(b' ' | b'\t')) {
        return Err(Kind::Malformed.because("folded header field"));
    }
    let colon = memchr::memchr(b':', field).ok_or(Kind::Malformed.because("header field without a colon"))?;
    // Exactly the characters of a token (RFC 9110 section 5.6.2), which the type holds too.
    let name = HeaderName::from_bytes(&field[..colon])
        .map_err(|_| Kind::Malformed.because("invalid header field name"))?;
    // Spaces and tabs around it are none of the value; other white space is a control character.
    let is_space = |b: &u8| matches!(b, b' ' | b'\t');
    let mut value = colon + 1..field.len();
    while value.start < value.end && is_space(&field[value.start]) {
        value.start += 1;
    }
    while value.start < value.end && is_space(&field[value.end - 1]) {
        value.end -= 1;
    }
    let value = HeaderValue::from_maybe_shared(head.slice(rest.start + value.start..rest.start + value.end))
        .map_err(|_| Kind::Malformed.because("control character in a header field"))?;
    rest.start += end + 2;
    Ok(Some((name, value)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Another parser, of another hand: what passes here means the same to it.
    fn agrees(head: &[u8]) {
        let Ok(ours) = parse(&Bytes::copy_from_slice(head), &Limits::default()) else {
            return;
        };
        let mut fields = [httparse::EMPTY_HEADER; 200];
        let mut theirs = httparse::Request::new(&mut fields);
        let parsed = theirs.parse(head);
        assert_eq!(parsed, Ok(httparse::Status::Complete(head.len())), "{head:?}");
        assert_eq!(theirs.method, Some(ours.method.as_str()));
        assert_eq!(theirs.headers.len(), ours.headers.len(), "{head:?}");
        for field in theirs.headers.iter() {
            let mut values = ours.headers.get_all(field.name).iter();
            assert!(
                values.any(|value| value.as_bytes() == field.value),
                "{field:?} in {head:?}"
            );
        }
    }

    #[test]
    fn the_end_is_found_however_the_bytes_are_cut() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        for cut in 0..head.len() {
            assert_eq!(find_end(&head[..cut], 0), Ok(None), "cut at {cut}");
            assert_eq!(find_end(head, cut), Ok(Some(head.len())), "resumed at {cut}");
        }
    }

    #[test]
    fn an_answer_is_read_strictly() {
        let read = |text: &str| parse_answer(&Bytes::copy_from_slice(text.as_bytes()), &Limits::default());
        for (text, status, framing, persistent) in [
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n",
                200,
                AnswerFraming::Length(3),
                true,
            ),
            (
                "HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n",
                200,
                AnswerFraming::Chunked,
                true,
            ),
            (
                "HTTP/1.1 404 \r\nConnection: x, Close\r\n\r\n",
                404,
                AnswerFraming::UntilClose,
                false,
            ),
            ("HTTP/1.0 200 OK\r\n\r\n", 200, AnswerFraming::UntilClose, false),
            (
                "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
                200,
                AnswerFraming::Length(0),
                true,
            ),
            (
                "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
                103,
                AnswerFraming::UntilClose,
                true,
            ),
        ] {
            let head = read(text).unwrap();
            assert_eq!(
                (head.status.as_u16(), head.framing, head.persistent),
                (status, framing, persistent),
                "{text}"
            );
        }
        for text in [
            "SSH-2.0-x\r\n\r\n",
            "HTTP/2 200 OK\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 2000 OK\r\n\r\n",
            "HTTP/1.1 099 OK\r\n\r\n",
            "HTTP/1.1  200 OK\r\n\r\n",
            "HTTP/1.1 200 O\x01K\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
            "HTTP/1.1 200 OK\r\n a\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: \x0c\r\n\r\n",
        ] {
            assert!(read(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_passes_means_the_same_to_another_parser(
            target in "/[!-~]{0,12}",
            lines in proptest::collection::vec("[A-Za-z_\\-:\t \\x0c\\x0b]{1,9}[: ]{0,2}[ -~\t\\x0c\\x80-\\xff]{0,9}", 0..5),
        ) {
            agrees(format!("GET {target} HTTP/1.1\r\nHost: a\r\n{}\r\n", lines.iter().map(|line| format!("{line}\r\n")).collect::<String>()).as_bytes());
        }

        #[test]
        fn no_bytes_panic_and_what_passes_is_strict(bytes in proptest::collection::vec(any::<u8>(), 0..200), seen in 0_usize..200) {
            let _ = find_end(&bytes, seen.min(bytes.len()));
            let _ = parse(&Bytes::from(bytes.clone()), &Limits::default());
            let _ = parse_answer(&Bytes::from(bytes), &Limits::default());
        }

        #[test]
        fn a_mutated_head_never_passes_with_a_bare_line_end(at in 0_usize..58, byte in prop_oneof![Just(b'\r'), Just(b'\n'), Just(0_u8)]) {
            let mut head = b"POST /a?b HTTP/1.1\r\nHost: example\r\nContent-Length: 12\r\n\r\n".to_vec();
            prop_assume!(at < head.len() && head[at] != byte);
            head[at] = byte;
            let verdict = find_end(&head, 0).map(|end| end.map(|end| parse(&Bytes::copy_from_slice(&head[..end]), &Limits::default())));
            prop_assert!(!matches!(verdict, Ok(Some(Ok(_)))), "{:?}", String::from_utf8_lossy(&head));
        }
    }
}
