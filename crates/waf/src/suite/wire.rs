//! The server that a request of the suite meets before any rule: it reads HTTP/1.1 strictly and answers 400 to what is
//! none, as servers in front of the rules do.

/// A request, read.
#[derive(Debug)]
pub(super) struct Read<'b> {
    pub(super) method: &'b [u8],
    pub(super) target: &'b [u8],
    pub(super) protocol: &'b [u8],
    pub(super) headers: Vec<(&'b [u8], &'b [u8])>,
    pub(super) body: Vec<u8>,
}

/// Reads a request; an error is what the server would answer 400 to.
pub(super) fn read(bytes: &[u8]) -> Result<Read<'_>, &'static str> {
    let end = memchr::memmem::find(bytes, b"\r\n\r\n").ok_or("the head has no end")?;
    let (head, body) = (&bytes[..end], &bytes[end + 4..]);
    let mut lines = head
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let line = lines.next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(protocol), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err("the request line is not three words");
    };
    if method.is_empty() || !method.iter().all(|byte| is_token(*byte)) {
        return Err("the method is none");
    }
    if !matches!(protocol, b"HTTP/1.1" | b"HTTP/1.0") {
        return Err("the version is none");
    }
    check_target(method, target)?;
    let mut headers: Vec<(&[u8], &[u8])> = Vec::new();
    for line in lines {
        let colon = memchr::memchr(b':', line).ok_or("a header has no colon")?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
            return Err("a header's name is none");
        }
        if value.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n')) {
            return Err("a header's value has a line end");
        }
        headers.push((name, value));
    }
    let header = |wanted: &str| {
        headers
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(wanted.as_bytes()))
            .map(|(_, value)| *value)
    };
    if protocol == b"HTTP/1.1" && header("host").is_none_or(<[u8]>::is_empty) {
        return Err("HTTP/1.1 without Host");
    }
    let is_chunked = header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case(b"chunked"));
    let length =
        header("content-length").and_then(|length| std::str::from_utf8(length).ok()?.parse::<usize>().ok());
    let body = if is_chunked {
        // RFC 9112: a length beside chunks means nothing, and is not passed on.
        headers.retain(|(name, _)| !name.eq_ignore_ascii_case(b"content-length"));
        chunks(body)
    } else {
        body[..body.len().min(length.unwrap_or(0))].to_vec()
    };
    Ok(Read {
        method,
        target,
        protocol,
        headers,
        body,
    })
}

/// Reads what there is of a request that [`read`] refuses; none where there is no request line of three words.
pub(super) fn read_loosely(bytes: &[u8]) -> Option<Read<'_>> {
    let end = memchr::memmem::find(bytes, b"\r\n\r\n").unwrap_or(bytes.len());
    let (head, body) = (&bytes[..end], bytes.get(end + 4..).unwrap_or_default());
    let mut lines = head
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let line = lines.next()?;
    // A target may hold spaces.
    let first = memchr::memchr(b' ', line)?;
    let last = memchr::memrchr(b' ', line).filter(|last| *last > first)?;
    let headers = lines
        .filter_map(|line| {
            let colon = memchr::memchr(b':', line)?;
            Some((line[..colon].trim_ascii(), line[colon + 1..].trim_ascii()))
        })
        .collect();
    Some(Read {
        method: &line[..first],
        target: &line[first + 1..last],
        protocol: &line[last + 1..],
        headers,
        body: body.to_vec(),
    })
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn check_target(method: &[u8], target: &[u8]) -> Result<(), &'static str> {
    if target.contains(&b'#') {
        return Err("the target has a fragment");
    }
    if method == b"CONNECT" {
        return match memchr::memrchr(b':', target) {
            Some(at) if target[at + 1..].iter().all(u8::is_ascii_digit) => Ok(()),
            _ => Err("CONNECT needs a port"),
        };
    }
    match target.first() {
        Some(b'/') => Ok(()),
        Some(b'*') if target.len() == 1 => Ok(()),
        Some(_) if memchr::memmem::find(target, b"://").is_some() => Ok(()),
        _ => Err("the target is none"),
    }
}

fn chunks(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = memchr::memmem::find(body, b"\r\n") {
        let digits = std::str::from_utf8(&body[..end]).unwrap_or("0");
        let length = usize::from_str_radix(digits.trim(), 16).unwrap_or(0);
        let from = end + 2;
        let to = from.saturating_add(length).min(body.len());
        if length == 0 {
            break;
        }
        whole.extend_from_slice(&body[from..to]);
        body = body.get(to + 2..).unwrap_or_default();
    }
    whole
}
