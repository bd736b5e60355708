//! The PROXY protocol, versions 1 and 2, as HAProxy's `proxy-protocol.txt` specifies it: a load balancer in front says
//! who the client is, before the client's first byte. Pure but for `read`: bytes in, verdict out.
//!
//! It is read from networks that were named, and nothing else is accepted from there: a missing or malformed header ends
//! the connection. From elsewhere it is no request.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Both versions are known after so many bytes.
const SHORTEST: usize = 8;
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const V2_HEAD: usize = 16;
/// Addresses and additions (TLVs) of version 2; the specification allows 64 KiB, and senders use a few hundred bytes.
const MAX_V2: usize = 4 << 10;
/// The longest line of version 1 (section 2.1).
const MAX_V1: usize = 107;
const TLV_CRC32C: u8 = 3;

/// Not the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(&'static str);

/// What the bytes so far are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// So many more are needed; they belong to the header.
    More(usize),
    /// A whole header: the client, unless the proxy speaks for itself (a health check) or does not know.
    Whole(Option<SocketAddr>),
}

/// Judges the start of a connection.
///
/// # Errors
/// See [`Malformed`].
pub fn parse(bytes: &[u8]) -> Result<Step, Malformed> {
    let start = &bytes[..bytes.len().min(SHORTEST)];
    let v1 = b"PROXY ";
    let v1_so_far = start.len().min(v1.len());
    if start[..v1_so_far] != v1[..v1_so_far] && *start != SIGNATURE[..start.len()] {
        return Err(Malformed("the connection does not begin with the PROXY protocol"));
    }
    if bytes.len() < SHORTEST {
        return Ok(Step::More(SHORTEST - bytes.len()));
    }
    if bytes.starts_with(v1) {
        parse_v1(bytes)
    } else {
        parse_v2(bytes)
    }
}

/// Reads a header and not a byte more.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Option<SocketAddr>> {
    let mut bytes = Vec::with_capacity(64);
    loop {
        match parse(&bytes).map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidData, error))? {
            Step::Whole(client) => return Ok(client),
            Step::More(count) => {
                let have = bytes.len();
                bytes.resize(have + count, 0);
                stream.read_exact(&mut bytes[have..]).await?;
            }
        }
    }
}

fn parse_v1(bytes: &[u8]) -> Result<Step, Malformed> {
    let bad = Malformed("the line of the PROXY protocol is malformed");
    let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else {
        return if bytes.len() < MAX_V1 {
            Ok(Step::More(1))
        } else {
            Err(bad)
        };
    };
    if end + 1 != bytes.len() || end >= MAX_V1 {
        return Err(bad);
    }
    let line = bytes.strip_suffix(b"\r\n").ok_or(bad)?;
    let line = std::str::from_utf8(line).map_err(|_| bad)?;
    let mut words = line.split(' ').skip(1);
    let family = words.next().ok_or(bad)?;
    if family == "UNKNOWN" {
        return Ok(Step::Whole(None));
    }
    let mut next = || words.next().ok_or(bad);
    let (source, target) = (next()?, next()?);
    let (source_port, target_port) = (port(next()?).ok_or(bad)?, port(next()?).ok_or(bad)?);
    let address: IpAddr = match family {
        "TCP4" => {
            target.parse::<Ipv4Addr>().map_err(|_| bad)?;
            source.parse::<Ipv4Addr>().map_err(|_| bad)?.into()
        }
        "TCP6" => {
            target.parse::<Ipv6Addr>().map_err(|_| bad)?;
            source.parse::<Ipv6Addr>().map_err(|_| bad)?.into()
        }
        _ => return Err(bad),
    };
    let _ = target_port;
    if words.next().is_some() {
        return Err(bad);
    }
    Ok(Step::Whole(Some(SocketAddr::new(address, source_port))))
}

/// Decimal, without leading zeros.
fn port(text: &str) -> Option<u16> {
    let canonical = text == "0" || !text.starts_with('0');
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (canonical && digits).then(|| text.parse().ok())?
}

fn parse_v2(bytes: &[u8]) -> Result<Step, Malformed> {
    if bytes.len() < V2_HEAD {
        let known = bytes.len().min(SIGNATURE.len());
        if bytes[..known] != SIGNATURE[..known] {
            return Err(Malformed("the signature of the PROXY protocol is malformed"));
        }
        return Ok(Step::More(V2_HEAD - bytes.len()));
    }
    if bytes[..SIGNATURE.len()] != SIGNATURE {
        return Err(Malformed("the signature of the PROXY protocol is malformed"));
    }
    let (version_and_command, family) = (bytes[12], bytes[13]);
    let length = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    let local = match version_and_command {
        0x20 => true,
        0x21 => false,
        _ => return Err(Malformed("the PROXY protocol has another version or command")),
    };
    if length > MAX_V2 {
        return Err(Malformed("the header of the PROXY protocol is too long"));
    }
    let whole = V2_HEAD + length;
    if bytes.len() < whole {
        return Ok(Step::More(whole - bytes.len()));
    }
    if bytes.len() > whole {
        return Err(Malformed("bytes behind the header of the PROXY protocol"));
    }
    if local {
        // Whatever follows is to be skipped (section 2.2).
        return Ok(Step::Whole(None));
    }
    let rest = &bytes[V2_HEAD..];
    let (client, additions) = addresses(family, rest)?;
    follow_additions(bytes, whole - additions.len(), additions)?;
    Ok(Step::Whole(client))
}

fn addresses(family: u8, rest: &[u8]) -> Result<(Option<SocketAddr>, &[u8]), Malformed> {
    let short = Malformed("the addresses of the PROXY protocol are cut short");
    match family {
        0x00 => Ok((None, rest)),
        0x11 => {
            let (block, rest) = rest.split_at_checked(12).ok_or(short)?;
            let address = Ipv4Addr::new(block[0], block[1], block[2], block[3]);
            let port = u16::from_be_bytes([block[8], block[9]]);
            Ok((Some(SocketAddr::new(address.into(), port)), rest))
        }
        0x21 => {
            let (block, rest) = rest.split_at_checked(36).ok_or(short)?;
            let mut address = [0; 16];
            address.copy_from_slice(&block[..16]);
            let port = u16::from_be_bytes([block[32], block[33]]);
            Ok((Some(SocketAddr::new(Ipv6Addr::from(address).into(), port)), rest))
        }
        _ => Err(Malformed("the PROXY protocol speaks of something other than TCP")),
    }
}

/// Additions must fill the header exactly; a checksum among them must be right (section 2.2.4).
fn follow_additions(bytes: &[u8], from: usize, mut additions: &[u8]) -> Result<(), Malformed> {
    let bad = Malformed("the additions of the PROXY protocol are malformed");
    let mut at = from;
    while !additions.is_empty() {
        let [kind, high, low, ..] = *additions else {
            return Err(bad);
        };
        let end = 3 + usize::from(u16::from_be_bytes([high, low]));
        let value = additions.get(3..end).ok_or(bad)?;
        if kind == TLV_CRC32C {
            let said: [u8; 4] = value.try_into().map_err(|_| bad)?;
            let sum = crc32c::crc32c(&bytes[..at + 3]);
            let sum = crc32c::crc32c_append(sum, &[0; 4]);
            let sum = crc32c::crc32c_append(sum, &bytes[at + 7..]);
            if sum != u32::from_be_bytes(said) {
                return Err(Malformed("the checksum of the PROXY protocol is wrong"));
            }
        }
        additions = &additions[end..];
        at += end;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([command, family]);
        bytes.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
        bytes.extend(rest);
        bytes
    }

    const TCP4: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 1, 0x30, 0x39, 1, 187];

    #[test]
    fn clients_are_read_in_both_versions() {
        let mut tcp6 = [0; 36];
        tcp6[..4].copy_from_slice(&[0x20, 1, 0xd, 0xb8]);
        tcp6[15] = 9;
        tcp6[33] = 80;
        let with_addition = [&TCP4[..], &[0x04, 0, 2, 1, 2], &[0x01, 0, 0]].concat();
        for (bytes, client) in [
            (
                b"PROXY TCP4 192.0.2.7 198.51.100.1 12345 443\r\n".to_vec(),
                Some("192.0.2.7:12345"),
            ),
            (
                b"PROXY TCP6 2001:db8::9 ::1 80 443\r\n".to_vec(),
                Some("[2001:db8::9]:80"),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN a b c\r\n".to_vec(), None),
            (v2(0x21, 0x11, &TCP4), Some("192.0.2.7:12345")),
            (v2(0x21, 0x11, &with_addition), Some("192.0.2.7:12345")),
            (v2(0x21, 0x21, &tcp6), Some("[2001:db8::9]:80")),
            (v2(0x20, 0x00, &[]), None),
            (v2(0x20, 0x11, &TCP4), None),
            (v2(0x21, 0x00, &[]), None),
        ] {
            assert_eq!(
                parse(&bytes),
                Ok(Step::Whole(client.map(|client| client.parse().unwrap()))),
                "{bytes:?}"
            );
            // However it arrives, no byte behind it is asked for.
            let mut have = 0;
            while let Step::More(more) = parse(&bytes[..have]).unwrap() {
                have += more;
                assert!(have <= bytes.len(), "{bytes:?}");
            }
            assert_eq!(have, bytes.len());
        }
    }

    #[test]
    fn what_is_malformed_is_refused() {
        let long = v2(0x21, 0x11, &[0; 5000]);
        for bytes in [
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 198.51.100.1 12345\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 198.51.100.1 12345 443 x\r\n".to_vec(),
            b"PROXY TCP4  192.0.2.7 198.51.100.1 12345 443\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 198.51.100.1 012345 443\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 198.51.100.1 123456 443\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.007 198.51.100.1 1 443\r\n".to_vec(),
            b"PROXY TCP4 2001:db8::9 ::1 80 443\r\n".to_vec(),
            b"PROXY TCP6 192.0.2.7 198.51.100.1 1 443\r\n".to_vec(),
            b"PROXY UDP4 192.0.2.7 198.51.100.1 1 443\r\n".to_vec(),
            b"PROXY UNKNOWN\n".to_vec(),
            b"PROXY UNKNOWN\r\nx".to_vec(),
            [b"PROXY UNKNOWN ", &[b'x'; 100][..]].concat(),
            v2(0x11, 0x11, &TCP4),
            v2(0x22, 0x11, &TCP4),
            v2(0x21, 0x12, &TCP4),
            v2(0x21, 0x31, &[0; 216]),
            v2(0x21, 0x11, &TCP4[..11]),
            v2(0x21, 0x21, &TCP4),
            v2(0x21, 0x11, &[&TCP4[..], &[1]].concat()),
            v2(0x21, 0x11, &[&TCP4[..], &[1, 0, 9, 1]].concat()),
            v2(0x21, 0x11, &[&TCP4[..], &[3, 0, 4, 1, 2, 3, 4]].concat()),
            [&v2(0x20, 0, &[])[..], b"x"].concat(),
            long[..16].to_vec(),
        ] {
            assert!(parse(&bytes).is_err(), "{}", String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn a_right_checksum_passes() {
        let mut bytes = v2(
            0x21,
            0x11,
            &[&TCP4[..], &[3, 0, 4, 0, 0, 0, 0], &[4, 0, 0]].concat(),
        );
        let sum = crc32c::crc32c(&bytes).to_be_bytes();
        bytes[31..35].copy_from_slice(&sum);
        assert!(matches!(parse(&bytes), Ok(Step::Whole(Some(_)))));
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_more_is_bounded(bytes in proptest::collection::vec(any::<u8>(), 0..200), signed in any::<bool>()) {
            let bytes = if signed { [&SIGNATURE[..], &bytes].concat() } else { bytes };
            if let Ok(Step::More(more)) = parse(&bytes) {
                prop_assert!(more > 0 && bytes.len() + more <= V2_HEAD + MAX_V2);
            }
        }
    }
}
