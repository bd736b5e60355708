//! One spelling for each path (RFC 3986 section 6.2.2), so that a route, a worker and a file mean the same thing.

use std::borrow::Cow;

/// Brings the path of a target to its one spelling: unreserved characters decoded, other escapes in upper case, dot
/// segments removed, never above the root; `\` and what URIs do not allow raw is escaped. Escaped slashes and
/// backslashes stay escaped: they are no separators.
///
/// `None` for a path that has none: an escape that is not two hex digits, or NUL.
pub fn normalise(path: &str) -> Option<Cow<'_, str>> {
    if !path.starts_with('/') {
        return None;
    }
    let has_dots = || path.as_bytes().windows(2).any(|pair| pair == b"/.");
    if path.bytes().all(is_plain) && !has_dots() {
        return Some(Cow::Borrowed(path));
    }
    let spelled = respell(path.as_bytes())?;
    let mut out: Vec<&str> = Vec::new();
    let mut segments = spelled[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." if last => out.push(""),
            "." => {}
            ".." => {
                out.pop();
                if last {
                    out.push("");
                }
            }
            _ => out.push(segment),
        }
    }
    Some(Cow::Owned(format!("/{}", out.join("/"))))
}

fn respell(path: &[u8]) -> Option<String> {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(path.len() + 16);
    let escape = |out: &mut String, byte: u8| {
        out.push('%');
        out.push(HEX[usize::from(byte >> 4)] as char);
        out.push(HEX[usize::from(byte & 15)] as char);
    };
    let mut at = 0;
    while at < path.len() {
        match path[at] {
            b'%' => {
                let digit = |offset: usize| path.get(at + offset).and_then(|&b| (b as char).to_digit(16));
                let byte = u8::try_from(digit(1)? << 4 | digit(2)?).ok()?;
                match byte {
                    0 => return None,
                    _ if is_unreserved(byte) => out.push(byte as char),
                    _ => escape(&mut out, byte),
                }
                at += 3;
            }
            0 => return None,
            byte => {
                if is_plain(byte) {
                    out.push(byte as char);
                } else {
                    escape(&mut out, byte);
                }
                at += 1;
            }
        }
    }
    Some(out)
}

/// RFC 3986 section 2.3.
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// `pchar` without escapes, and `/` (RFC 3986 section 3.3): nearly every byte of every path, so it is looked up.
fn is_plain(byte: u8) -> bool {
    const PLAIN: [bool; 256] = {
        let mut plain = [false; 256];
        let mut byte = 0;
        while byte < 128_u8 {
            plain[byte as usize] = is_unreserved(byte)
                || matches!(
                    byte,
                    b'!' | b'$'
                        | b'&'
                        | b'\''
                        | b'('
                        | b')'
                        | b'*'
                        | b'+'
                        | b','
                        | b';'
                        | b'='
                        | b':'
                        | b'@'
                        | b'/'
                );
            byte += 1;
        }
        plain
    };
    PLAIN[usize::from(byte)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_path_has_one_spelling() {
        for (path, spelled) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/%61pi/x", "/api/x"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/b/.", "/a/b/"),
            ("/../../etc/passwd", "/etc/passwd"),
            ("/%2e%2e/x", "/x"),
            ("/a/.%2E/x", "/x"),
            ("/a%2f..%2fb", "/a%2F..%2Fb"),
            ("/a%5c..\\b", "/a%5C..%5Cb"),
            ("/a//b", "/a//b"),
            ("//../x", "/x"),
            ("/a|b{}", "/a%7Cb%7B%7D"),
            ("/%252e", "/%252e"),
            ("/...", "/..."),
            ("/.well-known/x", "/.well-known/x"),
        ] {
            assert_eq!(normalise(path).as_deref(), Some(spelled), "{path}");
        }
        for path in ["", "a", "/%", "/%4", "/%zz", "/%00", "/a%0"] {
            assert_eq!(normalise(path), None, "{path}");
        }
    }

    proptest! {
        #[test]
        fn it_is_idempotent_and_never_climbs(path in "/([a.%/\\\\2eEfF5cC~ ]|\\PC){0,30}") {
            if let Some(once) = normalise(&path) {
                prop_assert!(once.starts_with('/'));
                prop_assert!(once.split('/').all(|segment| segment != ".." && segment != "."), "{}", once);
                let twice = normalise(&once);
                prop_assert_eq!(twice.as_deref(), Some(&*once));
            }
        }
    }
}
