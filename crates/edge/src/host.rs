//! Host names as routes know them: lower-case, no port, no trailing dot, IPv6 in brackets.

use std::fmt;
use std::net::Ipv6Addr;
use std::sync::Arc;

/// A valid host name or address (RFC 9110 section 7.2, RFC 3986 section 3.2.2, without percent-encoding, which no host
/// of ours needs).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostName(Arc<str>);

impl HostName {
    /// Reads the value of a Host field or an authority: `host [":" port]`. `None` when it is no host.
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() || text.len() > 262 {
            return None;
        }
        let (host, port) = if text.starts_with('[') {
            let end = text.find(']')?;
            let (host, rest) = text.split_at(end + 1);
            (
                host,
                if rest.is_empty() {
                    None
                } else {
                    Some(rest.strip_prefix(':')?)
                },
            )
        } else {
            match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            }
        };
        if let Some(port) = port {
            let valid = port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
            if !valid || (!port.is_empty() && port.parse::<u16>().is_err()) {
                return None;
            }
        }
        if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            return address
                .parse::<Ipv6Addr>()
                .ok()
                .map(|address| Self(format!("[{address}]").into()));
        }
        let name = host.strip_suffix('.').unwrap_or(host);
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        (name.len() <= 253 && name.split('.').all(label)).then(|| {
            match name.bytes().any(|b| b.is_ascii_uppercase()) {
                true => Self(name.to_ascii_lowercase().into()),
                false => Self(name.into()),
            }
        })
    }

    /// As routes name it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hosts_are_read_as_routes_name_them() {
        for (text, host) in [
            ("localhost", "localhost"),
            ("LocalHost:3000", "localhost"),
            ("app.localhost.", "app.localhost"),
            ("app.localhost.:80", "app.localhost"),
            ("127.0.0.1:3000", "127.0.0.1"),
            ("[::1]:3000", "[::1]"),
            ("[0:0:0:0:0:0:0:1]", "[::1]"),
            ("a:", "a"),
        ] {
            assert_eq!(
                HostName::parse(text).map(|h| h.0).as_deref(),
                Some(host),
                "{text}"
            );
        }
        for text in [
            "", ".", "a..b", ".a", "a b", "a/b", "a@b", "a:b", "a:65536", "a:1:2", "[::1", "[zz]", "[::1]x",
            "::1", "a%41", "a,b", "a\\b", "a?b", "a#b", "ä", "a..",
        ] {
            assert_eq!(HostName::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_reading_is_idempotent(text in ".{0,40}") {
            if let Some(host) = HostName::parse(&text) {
                prop_assert_eq!(HostName::parse(host.as_str()), Some(host.clone()));
            }
        }

        #[test]
        fn case_port_and_final_dot_do_not_matter(name in "[a-z0-9]{1,10}(\\.[a-z0-9-]{1,10}){0,3}", port in 0_u16..) {
            let host = HostName::parse(&name).unwrap();
            prop_assert_eq!(HostName::parse(&format!("{}.:{port}", name.to_uppercase())), Some(host));
        }
    }
}
