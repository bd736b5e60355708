//! Who the client is: the other end of the connection, or, where that is a proxy that the environment trusts, whom the
//! proxy names. A field is believed only as far as its writer is trusted, so it is read from the right: each entry was
//! written by the hop after it, and the first entry that is no trusted proxy is the client. What stands left of it is
//! the client's own word, and counts for nothing.

use crate::client::Scheme;
use astraler_model::{ClientIpHeader, Network, any_contains};
use http::header::HeaderMap;
use std::net::{IpAddr, SocketAddr};

/// A longer chain is believed up to here.
const MAX_HOPS: usize = 64;

/// The client's address, never in IPv4-mapped form.
pub(crate) fn address(
    headers: &HeaderMap,
    peer: IpAddr,
    trusted: &[Network],
    header: ClientIpHeader,
) -> IpAddr {
    let peer = peer.to_canonical();
    if trusted.is_empty() || !any_contains(trusted, peer) {
        return peer;
    }
    match header {
        ClientIpHeader::XForwardedFor => walk(peer, trusted, &forwarded_for(headers)),
        ClientIpHeader::Forwarded => walk(peer, trusted, &forwarded(headers)),
        ClientIpHeader::CfConnectingIp => {
            let mut all = headers.get_all("cf-connecting-ip").iter();
            match (all.next(), all.next()) {
                (Some(value), None) => value.to_str().ok().and_then(|text| text.trim().parse().ok()),
                _ => None,
            }
            .map_or(peer, |address: IpAddr| address.to_canonical())
        }
    }
}

/// The scheme that a trusted proxy was asked by: the last that was written.
pub(crate) fn scheme(headers: &HeaderMap) -> Option<Scheme> {
    let value = headers.get_all("x-forwarded-proto").iter().next_back()?;
    match value.to_str().ok()?.rsplit(',').next()?.trim() {
        "https" => Some(Scheme::Https),
        "http" => Some(Scheme::Http),
        _ => None,
    }
}

/// From the right, over trusted proxies. `None` is an entry that names no address.
fn walk(peer: IpAddr, trusted: &[Network], chain: &[Option<IpAddr>]) -> IpAddr {
    let mut client = peer;
    for hop in chain.iter().rev().take(MAX_HOPS) {
        match hop {
            Some(address) => client = address.to_canonical(),
            None => break,
        }
        if !any_contains(trusted, client) {
            break;
        }
    }
    client
}

/// Entries of `X-Forwarded-For`, over all its lines.
fn forwarded_for(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    headers
        .get_all("x-forwarded-for")
        .iter()
        .flat_map(|value| {
            let entries: Vec<_> = match value.to_str() {
                Ok(text) => text.split(',').map(|entry| node(entry.trim())).collect(),
                Err(_) => vec![None],
            };
            entries
        })
        .collect()
}

/// The `for` parameters of `Forwarded`, over all its lines. One line that does not follow the grammar voids them all: it
/// is not known any more which of its words the proxy wrote.
fn forwarded(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    let mut chain = Vec::new();
    for value in headers.get_all("forwarded") {
        match value.to_str().ok().and_then(elements) {
            Some(mut entries) => chain.append(&mut entries),
            None => return Vec::new(),
        }
    }
    chain
}

/// One line of RFC 7239 section 4: `for=192.0.2.60;proto=http, for="[2001:db8::17]:4711"`.
fn elements(text: &str) -> Option<Vec<Option<IpAddr>>> {
    let mut entries = Vec::new();
    let mut current: Option<Option<IpAddr>> = None;
    let mut rest = text.trim();
    loop {
        let (name, after) = rest.split_once('=')?;
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => unquoted(quoted)?,
            None => {
                let end = after.find([',', ';']).unwrap_or(after.len());
                let (value, after) = after.split_at(end);
                (value.trim_end().to_owned(), after)
            }
        };
        if name.trim().eq_ignore_ascii_case("for") {
            // A second `for` in one element is nobody's address.
            current = Some(if current.is_some() { None } else { node(&value) });
        } else if name.trim().is_empty() || name.contains([',', ';', '"']) {
            return None;
        }
        let after = after.trim_start();
        match after.as_bytes().first() {
            None => {
                entries.push(current.flatten());
                return Some(entries);
            }
            Some(b';') => {}
            Some(b',') => entries.push(current.take().flatten()),
            Some(_) => return None,
        }
        rest = after[1..].trim_start();
    }
}

/// The text of a quoted string whose opening quote is gone, and what follows it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

/// An address, with or without a port.
fn node(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address);
    }
    if let Ok(socket) = text.parse::<SocketAddr>() {
        return Some(socket.ip());
    }
    text.strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .and_then(|text| text.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    fn fields(fields: &[(&str, &str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_bytes(name.as_bytes()).unwrap(),
                    HeaderValue::from_str(value).unwrap(),
                )
            })
            .collect()
    }

    fn ask(peer: &str, header: ClientIpHeader, sent: &[(&str, &str)]) -> String {
        let trusted = [
            "10.0.0.0/8".parse().unwrap(),
            "2001:db8:ffff::/48".parse().unwrap(),
        ];
        address(&fields(sent), peer.parse().unwrap(), &trusted, header).to_string()
    }

    #[test]
    fn a_stranger_is_believed_nothing() {
        let all = [
            ("x-forwarded-for", "1.1.1.1"),
            ("forwarded", "for=1.1.1.1"),
            ("cf-connecting-ip", "1.1.1.1"),
        ];
        for header in [
            ClientIpHeader::XForwardedFor,
            ClientIpHeader::Forwarded,
            ClientIpHeader::CfConnectingIp,
        ] {
            assert_eq!(ask("192.0.2.1", header, &all), "192.0.2.1");
            assert_eq!(ask("::ffff:192.0.2.1", header, &all), "192.0.2.1");
            assert_eq!(ask("10.0.0.1", header, &all), "1.1.1.1");
            assert_eq!(ask("::ffff:10.0.0.1", header, &all), "1.1.1.1");
            assert_eq!(ask("10.0.0.1", header, &[]), "10.0.0.1");
        }
    }

    #[test]
    fn a_chain_is_read_from_the_right() {
        for (value, client) in [
            // What the client wrote itself stands on the left.
            ("1.1.1.1, 192.0.2.9", "192.0.2.9"),
            ("10.9.9.9, 192.0.2.9", "192.0.2.9"),
            ("192.0.2.9, 10.0.0.7, 10.0.0.8", "192.0.2.9"),
            ("10.0.0.7,10.0.0.8", "10.0.0.7"),
            ("192.0.2.9:5555", "192.0.2.9"),
            ("[2001:db8::9]:5555, 10.1.1.1", "2001:db8::9"),
            ("2001:db8::9", "2001:db8::9"),
            ("::ffff:192.0.2.9", "192.0.2.9"),
            // Whoever wrote this is the last that is known.
            ("1.1.1.1, unknown", "10.0.0.1"),
            ("1.1.1.1, unknown, 10.0.0.8", "10.0.0.8"),
            ("", "10.0.0.1"),
            ("1.1.1.1,", "10.0.0.1"),
        ] {
            let sent = [("x-forwarded-for", value)];
            assert_eq!(
                ask("10.0.0.1", ClientIpHeader::XForwardedFor, &sent),
                client,
                "{value}"
            );
        }
        // Two lines are one list: the later line was appended.
        let sent = [("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "192.0.2.9")];
        assert_eq!(ask("10.0.0.1", ClientIpHeader::XForwardedFor, &sent), "192.0.2.9");
    }

    #[test]
    fn forwarded_is_read_by_its_grammar() {
        for (value, client) in [
            ("for=192.0.2.9", "192.0.2.9"),
            ("For=\"192.0.2.9:80\";proto=https", "192.0.2.9"),
            ("for=1.1.1.1, for=192.0.2.9;by=10.0.0.1", "192.0.2.9"),
            ("for=\"[2001:db8::9]:4711\"", "2001:db8::9"),
            ("proto=http;for=\"\\192.0.2.9\"", "192.0.2.9"),
            ("for=1.1.1.1, for=_hidden", "10.0.0.1"),
            ("for=1.1.1.1, proto=http", "10.0.0.1"),
            ("for=1.1.1.1;for=2.2.2.2", "10.0.0.1"),
            // A quote that the client opened must not swallow what the proxy appended.
            ("for=\"1.1.1.1, for=192.0.2.9", "10.0.0.1"),
            ("for=1.1.1.1 for=192.0.2.9", "10.0.0.1"),
            ("nonsense", "10.0.0.1"),
            ("", "10.0.0.1"),
        ] {
            let sent = [("forwarded", value)];
            assert_eq!(
                ask("10.0.0.1", ClientIpHeader::Forwarded, &sent),
                client,
                "{value}"
            );
        }
    }

    #[test]
    fn one_address_is_one_address() {
        for (value, client) in [
            ("192.0.2.9", "192.0.2.9"),
            ("2001:db8::9", "2001:db8::9"),
            ("192.0.2.9, 1.1.1.1", "10.0.0.1"),
            ("x", "10.0.0.1"),
        ] {
            let sent = [("cf-connecting-ip", value)];
            assert_eq!(ask("10.0.0.1", ClientIpHeader::CfConnectingIp, &sent), client);
        }
        let twice = [("cf-connecting-ip", "1.1.1.1"), ("cf-connecting-ip", "192.0.2.9")];
        assert_eq!(
            ask("10.0.0.1", ClientIpHeader::CfConnectingIp, &twice),
            "10.0.0.1"
        );
    }

    proptest! {
        #[test]
        fn nothing_that_a_client_prepends_changes_who_it_is(forged in "[ -~]{0,60}") {
            // Behind a proxy that appends: the client's own text comes first.
            let value = format!("{forged}, 192.0.2.9");
            prop_assert_eq!(ask("10.0.0.1", ClientIpHeader::XForwardedFor, &[("x-forwarded-for", &value)]), "192.0.2.9");
        }

        #[test]
        fn a_prepended_forwarded_never_makes_another_client(forged in "[ -~]{0,60}") {
            let value = format!("{forged}, for=192.0.2.9");
            let client = ask("10.0.0.1", ClientIpHeader::Forwarded, &[("forwarded", &value)]);
            prop_assert!(client == "192.0.2.9" || client == "10.0.0.1", "{} {}", value, client);
        }
    }
}
