//! Which authority a name can have.

use std::net::{IpAddr, Ipv6Addr};

/// Top-level names that public DNS will never have: RFC 6761, RFC 6762 (`local`), RFC 8375 (`home.arpa`), and `internal`,
/// which ICANN has reserved for private use.
pub(crate) const PRIVATE: [&str; 6] = ["localhost", "test", "example", "internal", "local", "home.arpa"];
/// Reserved in public DNS for documents (RFC 6761 section 6.5): nobody can prove that they are his.
const DOCUMENTS: [&str; 3] = ["example.com", "example.net", "example.org"];

/// Networks that are nobody's alone: loopback, link-local, private (RFC 1918) and unique local ones (RFC 4193).
pub(crate) const NETWORKS_V4: [([u8; 4], u8); 5] = [
    ([127, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([172, 16, 0, 0], 12),
    ([192, 168, 0, 0], 16),
    ([169, 254, 0, 0], 16),
];
pub(crate) const NETWORKS_V6: [(Ipv6Addr, u8); 3] = [
    (Ipv6Addr::LOCALHOST, 128),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
];

/// Who can vouch for a host name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The local authority: nobody else has this name.
    Local,
    /// A public CA, which the owner of the name can convince.
    Public,
    /// Nobody: why.
    Nobody(&'static str),
}

/// Says it of a host as routes have it: lower case, IPv6 in brackets. A rule of thumb that errs on the side of asking
/// nobody: a public suffix list would know more, and be old.
pub fn classify(host: &str) -> Kind {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<IpAddr>() {
        return match is_private(address) {
            true => Kind::Local,
            false => Kind::Nobody("certificates for public addresses are not asked for"),
        };
    }
    let below = |suffix: &&str| {
        let rest = host.strip_suffix(*suffix);
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    if PRIVATE.iter().any(below) {
        return Kind::Local;
    }
    if DOCUMENTS.iter().any(below) || below(&"invalid") {
        return Kind::Nobody("the name is reserved for documents");
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let Some((_, last)) = host.rsplit_once('.') else {
        return Kind::Nobody("a name of one label is in no public DNS; use one below .internal or .test");
    };
    if !host.split('.').all(label) || last.bytes().all(|b| b.is_ascii_digit()) {
        return Kind::Nobody("it is no name of public DNS");
    }
    Kind::Public
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => NETWORKS_V4.iter().any(|(network, bits)| {
            let shift = 32 - u32::from(*bits);
            u32::from(address) >> shift == u32::from_be_bytes(*network) >> shift
        }),
        IpAddr::V6(address) => NETWORKS_V6.iter().any(|(network, bits)| {
            let shift = 128 - u32::from(*bits);
            u128::from(address) >> shift == u128::from(*network) >> shift
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_the_authority_that_can_know_it() {
        for local in [
            "localhost",
            "app.localhost",
            "pr-7.preview.localhost",
            "127.0.0.1",
            "[::1]",
            "10.1.2.3",
            "172.31.0.1",
            "192.168.1.1",
            "[fd00::1]",
            "app.shop.example",
            "shop.test",
            "db.internal",
            "printer.local",
            "nas.home.arpa",
        ] {
            assert_eq!(classify(local), Kind::Local, "{local}");
        }
        for public in [
            "shop.com",
            "app.shop.com",
            "xn--bcher-kva.de",
            "mylocalhost.com",
            "example.shop",
            "a.arpa",
        ] {
            assert_eq!(classify(public), Kind::Public, "{public}");
        }
        for nobody in [
            "8.8.8.8",
            "172.32.0.1",
            "[2001:db8::1]",
            "devbox",
            "app.example.com",
            "example.org",
            "x.invalid",
            "a_b.shop.com",
            "-a.shop.com",
            "a..com",
            "1.2.3",
            "",
        ] {
            assert!(matches!(classify(nobody), Kind::Nobody(_)), "{nobody}");
        }
    }
}
