//! The parts of a request target.

use std::borrow::Cow;

use crate::transform::{Transformation, apply};

/// `REQUEST_URI`: path and query, without scheme and host where they are written.
pub(super) fn relative(target: &[u8]) -> &[u8] {
    let Some(scheme) = memchr::memmem::find(target, b"://") else {
        return target;
    };
    let is_scheme = target[..scheme]
        .iter()
        .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte));
    if scheme == 0 || !is_scheme {
        return target;
    }
    let rest = &target[scheme + 3..];
    match rest.iter().position(|byte| matches!(byte, b'/' | b'?')) {
        Some(at) => &rest[at..],
        None => b"/",
    }
}

/// `QUERY_STRING`: what is behind the first `?`.
pub(super) fn query(target: &[u8]) -> &[u8] {
    match memchr::memchr(b'?', target) {
        Some(at) => &target[at + 1..],
        None => &[],
    }
}

/// `REQUEST_FILENAME`: the path, decoded once.
pub(super) fn path(target: &[u8]) -> Cow<'_, [u8]> {
    let relative = relative(target);
    let end = memchr::memchr(b'?', relative).unwrap_or(relative.len());
    let path = &relative[..end];
    if memchr::memchr(b'%', path).is_none() {
        return Cow::Borrowed(path);
    }
    // A plus is no space in a path.
    let mut decoded = Vec::with_capacity(path.len());
    let mut out = Vec::new();
    for (index, piece) in path.split(|byte| *byte == b'+').enumerate() {
        if index > 0 {
            decoded.push(b'+');
        }
        if apply(Transformation::UrlDecode, piece, &mut out) {
            decoded.extend_from_slice(&out);
        } else {
            decoded.extend_from_slice(piece);
        }
    }
    Cow::Owned(decoded)
}

/// `REQUEST_BASENAME`: what is behind the path's last slash.
pub(super) fn basename(path: &[u8]) -> &[u8] {
    match memchr::memrchr2(b'/', b'\\', path) {
        Some(at) => &path[at + 1..],
        None => path,
    }
}

/// `SERVER_NAME`: the host of a `Host` header, without its port.
pub(super) fn host_name(host: &[u8]) -> &[u8] {
    let end = match host.first() {
        Some(b'[') => memchr::memchr(b']', host).map(|at| at + 1),
        _ => memchr::memrchr(b':', host),
    };
    &host[..end.unwrap_or(host.len())]
}
