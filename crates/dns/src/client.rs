//! Asks a server: our own, whether it says what it should; a resolver, for the addresses behind an alias; a secondary,
//! to fetch what is new. Answers are as hostile as queries: every length is checked, and pointers only go back.

use crate::query::{CLASS_IN, HEADER, kind};
use astraler_model::DnsName;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

/// Records of an answer that are read.
const MAX_RECORDS: usize = 512;
/// Pointers of one name.
const MAX_POINTERS: usize = 16;
const TRIES: u32 = 3;
const OPCODE_NOTIFY: u16 = 4;
const FLAG_TRUNCATED: u16 = 0x0200;

/// A question could not be answered.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The server cannot be reached, or says nothing.
    #[error("the server {server} does not answer")]
    Silent {
        /// Whom we asked.
        server: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// It sent something else than an answer.
    #[error("the server {server} sent no valid answer")]
    Invalid {
        /// Whom we asked.
        server: SocketAddr,
    },
    /// It answered with an error.
    #[error("the server {server} answers with code {rcode}")]
    Refused {
        /// Whom we asked.
        server: SocketAddr,
        /// Such as 2 (SERVFAIL) or 5 (REFUSED).
        rcode: u16,
    },
}

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// 0 or 3: the name is not there.
    pub rcode: u16,
    /// Its answer section.
    pub answers: Vec<Answered>,
}

/// A record of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// Whose it is.
    pub name: DnsName,
    /// Number of its type.
    pub kind: u16,
    /// How long it may be kept.
    pub ttl_s: u32,
    /// Its data, without compression, in lower case where it is a name.
    pub data: Vec<u8>,
}

/// Asks one question, over UDP and where that does not suffice over TCP. NXDOMAIN is an answer, other codes are errors.
///
/// # Errors
/// See [`AskError`].
pub async fn ask(
    server: SocketAddr,
    name: &DnsName,
    wanted: u16,
    patience: Duration,
) -> Result<Reply, AskError> {
    let id: u16 = rand::random();
    let query = question(id, 0, name, wanted);
    let silent = |source| AskError::Silent { server, source };
    let mut answer = udp(server, &query, patience).await.map_err(silent)?;
    if flags(&answer) & FLAG_TRUNCATED != 0 {
        answer = tokio::time::timeout(patience, tcp(server, &query))
            .await
            .map_err(|_| silent(io::ErrorKind::TimedOut.into()))?
            .map_err(silent)?;
    }
    valid(server, &answer, &query)
}

/// [`ask`] over TCP alone, where nobody limits how often.
///
/// # Errors
/// See [`AskError`].
pub async fn ask_over_tcp(
    server: SocketAddr,
    name: &DnsName,
    wanted: u16,
    patience: Duration,
) -> Result<Reply, AskError> {
    let query = question(rand::random(), 0, name, wanted);
    let silent = |source| AskError::Silent { server, source };
    let answer = tokio::time::timeout(patience, tcp(server, &query))
        .await
        .map_err(|_| silent(io::ErrorKind::TimedOut.into()))?
        .map_err(silent)?;
    valid(server, &answer, &query)
}

fn valid(server: SocketAddr, answer: &[u8], query: &[u8]) -> Result<Reply, AskError> {
    let reply = read(answer, query).ok_or(AskError::Invalid { server })?;
    match reply.rcode {
        0 | 3 => Ok(reply),
        rcode => Err(AskError::Refused { server, rcode }),
    }
}

/// Addresses of a name as a resolver finds them, and for how long that holds.
///
/// # Errors
/// It does not answer, or with an error.
pub async fn addresses(
    resolver: SocketAddr,
    name: &DnsName,
    patience: Duration,
) -> Result<(Vec<IpAddr>, u32), AskError> {
    let mut found = Vec::new();
    let mut ttl_s = u32::MAX;
    for wanted in [kind::A, kind::AAAA] {
        let reply = ask(resolver, name, wanted, patience).await?;
        for record in &reply.answers {
            let address = match (record.kind, &record.data[..]) {
                (kind::A, &[a, b, c, d]) => Some(IpAddr::V4(Ipv4Addr::new(a, b, c, d))),
                (kind::AAAA, data) => <[u8; 16]>::try_from(data)
                    .ok()
                    .map(|octets| Ipv6Addr::from(octets).into()),
                // The way there holds no longer than its shortest step.
                (kind::CNAME, _) => None,
                _ => continue,
            };
            ttl_s = ttl_s.min(record.ttl_s);
            found.extend(address);
        }
    }
    Ok((found, ttl_s))
}

/// The serial that a server has of a zone, over TCP.
///
/// # Errors
/// It does not answer, or has no such zone.
pub async fn serial(server: SocketAddr, zone: &DnsName, patience: Duration) -> Result<u32, AskError> {
    let reply = ask_over_tcp(server, zone, kind::SOA, patience).await?;
    let soa = reply.answers.iter().find(|record| record.kind == kind::SOA);
    let serial = soa.and_then(|soa| {
        let before = soa.data.len().checked_sub(20)?;
        soa.data
            .get(before..)?
            .first_chunk::<4>()
            .map(|bytes| u32::from_be_bytes(*bytes))
    });
    serial.ok_or(AskError::Invalid { server })
}

/// Tells a secondary that a zone has changed (RFC 1996). It has heard it when this succeeds.
///
/// # Errors
/// It does not answer.
pub async fn notify(server: SocketAddr, zone: &DnsName, patience: Duration) -> Result<(), AskError> {
    let message = question(rand::random(), OPCODE_NOTIFY << 11 | 0x0400, zone, kind::SOA);
    let answered = udp(server, &message, patience).await;
    answered
        .map(drop)
        .map_err(|source| AskError::Silent { server, source })
}

fn question(id: u16, flags: u16, name: &DnsName, wanted: u16) -> Vec<u8> {
    // Asked to recurse: our own server does not, a resolver must.
    let flags = if flags == 0 { 0x0100 } else { flags };
    let mut message = Vec::with_capacity(HEADER + name.wire().len() + 15);
    for number in [id, flags, 1, 0, 0, 0] {
        message.extend(number.to_be_bytes());
    }
    message.extend(name.wire());
    message.extend(wanted.to_be_bytes());
    message.extend(CLASS_IN.to_be_bytes());
    message
}

async fn udp(server: SocketAddr, query: &[u8], patience: Duration) -> io::Result<Vec<u8>> {
    let local: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // A port of its own for each question, so that an answer cannot be guessed.
    let socket = UdpSocket::bind((local, 0)).await?;
    socket.connect(server).await?;
    let mut packet = vec![0; 4_096];
    for _ in 0..TRIES {
        socket.send(query).await?;
        let received = tokio::time::timeout(patience / TRIES, async {
            loop {
                let length = socket.recv(&mut packet).await?;
                let same = length >= HEADER && packet[..2] == query[..2] && packet[2] & 0x80 != 0;
                if same {
                    return Ok::<_, io::Error>(length);
                }
            }
        });
        if let Ok(length) = received.await {
            packet.truncate(length?);
            return Ok(packet);
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

async fn tcp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(query.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    stream
        .write_all(&[&length.to_be_bytes()[..], query].concat())
        .await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; length.into()];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

fn flags(message: &[u8]) -> u16 {
    message
        .get(2..4)
        .map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
}

/// An answer to that question; none when it is something else.
fn read(message: &[u8], query: &[u8]) -> Option<Reply> {
    let is_answer = message.get(..2)? == query.get(..2)? && flags(message) & 0x8000 != 0;
    let asked = query.get(HEADER..)?;
    let end = HEADER + asked.len();
    let same = message.get(HEADER..end)?.eq_ignore_ascii_case(asked);
    (is_answer && same && message.get(4..6)? == [0, 1]).then_some(())?;
    let count = u16::from_be_bytes([*message.get(6)?, *message.get(7)?]);
    let mut at = end;
    let mut answers = Vec::new();
    for _ in 0..usize::from(count).min(MAX_RECORDS) {
        let (name, after) = read_name(message, at)?;
        let fixed = message.get(after..after + 10)?;
        let number = |at: usize| u16::from_be_bytes([fixed[at], fixed[at + 1]]);
        let (kind, ttl_s) = (number(0), u32::from(number(4)) << 16 | u32::from(number(6)));
        let begin = after + 10;
        at = begin + usize::from(number(8));
        message.get(begin..at)?;
        let data = read_data(message, kind, begin, at)?;
        answers.push(Answered {
            name,
            kind,
            ttl_s,
            data,
        });
    }
    Some(Reply {
        rcode: flags(message) & 0xf,
        answers,
    })
}

/// Data with its names in full: only types of RFC 1035 may have compressed ones.
fn read_data(message: &[u8], kind: u16, begin: usize, end: usize) -> Option<Vec<u8>> {
    let (before, names) = match kind {
        kind::NS | kind::CNAME | kind::PTR => (0, 1),
        kind::SOA => (0, 2),
        kind::MX => (2, 1),
        kind::SRV => (6, 1),
        _ => return message.get(begin..end).map(<[u8]>::to_vec),
    };
    let mut data = message.get(begin..begin + before)?.to_vec();
    let mut at = begin + before;
    for _ in 0..names {
        let (name, after) = read_name(message, at)?;
        data.extend(name.wire());
        at = after;
    }
    data.extend(message.get(at..end)?);
    Some(data)
}

/// A name and where it ends.
fn read_name(message: &[u8], begin: usize) -> Option<(DnsName, usize)> {
    let mut wire = Vec::with_capacity(64);
    let (mut at, mut end) = (begin, None);
    let mut pointers = 0;
    loop {
        let length = *message.get(at)?;
        match length {
            0 => {
                wire.push(0);
                return Some((DnsName::from_wire(&wire)?, end.unwrap_or(at + 1)));
            }
            1..=63 => {
                wire.extend(message.get(at..at + 1 + usize::from(length))?);
                at += 1 + usize::from(length);
                (wire.len() < 255).then_some(())?;
            }
            0xc0.. => {
                let target = usize::from(length & 0x3f) << 8 | usize::from(*message.get(at + 1)?);
                end = end.or(Some(at + 2));
                pointers += 1;
                (target < at && pointers <= MAX_POINTERS).then_some(())?;
                at = target;
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn asked() -> Vec<u8> {
        question(7, 0, &"a.b".parse().unwrap(), kind::A)
    }

    fn answered(records: &[u8], count: u8) -> Vec<u8> {
        let mut message = asked();
        message[2] = 0x84;
        message[7] = count;
        message.extend(records);
        message
    }

    #[test]
    fn names_are_followed_back_and_never_forward() {
        let cname = [0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 4, 1, b'C', 0xc0, 14];
        let reply = read(&answered(&cname, 1), &asked()).unwrap();
        assert_eq!(reply.answers[0].name.to_string(), "a.b.");
        assert_eq!(reply.answers[0].data, b"\x01c\x01b\x00");
        assert_eq!(reply.answers[0].ttl_s, 9);
        let to_itself = [0xc0, 21, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 1, 2, 3, 4];
        assert_eq!(read(&answered(&to_itself, 1), &asked()), None);
        assert_eq!(
            read(&answered(&cname, 2), &asked()),
            None,
            "a record that is not there"
        );
        let mut other = answered(&[], 0);
        other[13] = b'x';
        assert_eq!(read(&other, &asked()), None, "another question");
    }

    proptest! {
        #[test]
        fn no_answer_panics(tail in proptest::collection::vec(any::<u8>(), 0..200), count in 0_u8..6) {
            let _ = read(&answered(&tail, count), &asked());
            let _ = read(&tail, &asked());
        }
    }
}
