//! The sockets of an edge that stands alone: bound here, or passed by a predecessor.

use crate::failure::{Failure, Kind, Outcome};
use astraler_host::activation::Listeners;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::num::NonZero;
use std::os::fd::OwnedFd;

/// Kinds of sockets, as their names begin.
pub(super) const HTTP: &str = "http-";
pub(super) const HTTPS: &str = "https-";
const QUIC: &str = "quic-";
/// DNS: TCP at each address, and UDP for each thread that answers.
pub(super) const DNS: &str = "dns-tcp-";
const DNS_UDP: &str = "dns-udp-";
/// Connections that may wait in the queue of a socket.
const BACKLOG: i32 = 1024;
/// More threads do not get a queue of their own: a socket of each address is passed to a successor.
const MAX_SHARDS: usize = 16;
const MAX_DNS_SHARDS: usize = 4;

/// Kept here too, so that a successor can get them.
pub(super) struct Sockets {
    tcp: Vec<(String, TcpListener)>,
    /// One on each address of https, which belongs to one thread with all of its HTTP/3; and those for DNS.
    udp: Vec<(String, UdpSocket)>,
}

/// Those that a predecessor passed, or new ones. Each thread of the edge gets a queue of its own (`SO_REUSEPORT`).
pub(super) fn open(addresses: &[(&str, SocketAddr)], inherited: &mut Listeners) -> Outcome<Sockets> {
    let names: Vec<String> = inherited.names().map(str::to_owned).collect();
    let (mut tcp, mut udp) = (Vec::new(), Vec::new());
    for name in names {
        if name.starts_with(QUIC) || name.starts_with(DNS_UDP) {
            udp.push((name.clone(), inherited.take_udp(&name)?));
        } else {
            tcp.push((name.clone(), inherited.take_tcp(&name)?));
        }
    }
    if !tcp.is_empty() {
        return Ok(Sockets { tcp, udp });
    }
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    for (kind, address) in addresses {
        if *kind == DNS {
            drop(UdpSocket::bind(address).map_err(|error| taken_dns(*address, &error))?);
            for _ in 0..processors.min(MAX_DNS_SHARDS) {
                let socket = bind_udp(*address).map_err(|error| taken_dns(*address, &error))?;
                udp.push((format!("{DNS_UDP}{:02}", udp.len()), socket));
            }
            let socket = TcpListener::bind(address).map_err(|error| taken_dns(*address, &error))?;
            tcp.push((format!("{DNS}{:02}", tcp.len()), socket));
            continue;
        }
        // Without it a second process could take half of the connections of the first.
        drop(TcpListener::bind(address).map_err(|error| taken(*address, &error))?);
        let mut address = *address;
        for _ in 0..processors.min(MAX_SHARDS) {
            let socket = bind(address).map_err(|error| taken(address, &error))?;
            address = socket.local_addr()?;
            tcp.push((format!("{kind}{:02}", tcp.len()), socket));
        }
        if *kind == HTTPS {
            let socket = UdpSocket::bind(address).map_err(|error| taken(address, &error))?;
            socket.set_nonblocking(true)?;
            udp.push((format!("{QUIC}{:02}", udp.len()), socket));
        }
    }
    Ok(Sockets { tcp, udp })
}

impl Sockets {
    pub(super) fn tcp(&self, kind: &str) -> io::Result<Vec<TcpListener>> {
        self.of(kind).map(TcpListener::try_clone).collect()
    }

    pub(super) fn quic(&self) -> io::Result<Vec<UdpSocket>> {
        self.udp(QUIC)
    }

    pub(super) fn dns_udp(&self) -> io::Result<Vec<UdpSocket>> {
        self.udp(DNS_UDP)
    }

    fn udp(&self, kind: &str) -> io::Result<Vec<UdpSocket>> {
        let named = self.udp.iter().filter(|(name, _)| name.starts_with(kind));
        named.map(|(_, socket)| socket.try_clone()).collect()
    }

    /// Addresses of https.
    pub(super) fn https(&self) -> Vec<SocketAddr> {
        self.addresses(HTTPS)
    }

    /// Addresses of a kind.
    pub(super) fn addresses(&self, kind: &str) -> Vec<SocketAddr> {
        let mut addresses: Vec<SocketAddr> = self
            .of(kind)
            .filter_map(|socket| socket.local_addr().ok())
            .collect();
        addresses.dedup();
        addresses
    }

    pub(super) fn for_successor(&self) -> io::Result<Vec<(String, OwnedFd)>> {
        let tcp = self
            .tcp
            .iter()
            .map(|(name, socket)| Ok((name.clone(), socket.try_clone()?.into())));
        let udp = self
            .udp
            .iter()
            .map(|(name, socket)| Ok((name.clone(), socket.try_clone()?.into())));
        tcp.chain(udp).collect()
    }

    pub(super) fn urls(&self) -> Vec<String> {
        let url = |(name, socket): &(String, TcpListener)| {
            let scheme = match name {
                name if name.starts_with(HTTPS) => "https",
                name if name.starts_with(DNS) => "dns",
                _ => "http",
            };
            Some(format!("{scheme}://{}", socket.local_addr().ok()?))
        };
        let mut all: Vec<String> = self.tcp.iter().filter_map(url).collect();
        all.dedup();
        all
    }

    fn of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a TcpListener> {
        let named = self.tcp.iter().filter(move |(name, _)| name.starts_with(kind));
        named.map(|(_, socket)| socket)
    }
}

fn taken_dns(address: SocketAddr, error: &io::Error) -> Failure {
    Failure::new(Kind::Port, format!("cannot listen on {address} for DNS: {error}"))
        .hint("say another edge.dns.port or edge.listen_addresses, or stop what listens there")
}

fn taken(address: SocketAddr, error: &io::Error) -> Failure {
    Failure::new(Kind::Port, format!("cannot listen on {address}: {error}"))
        .hint("say --listen ADDRESS:PORT, or stop what listens there")
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = open_socket(address, SocketType::STREAM)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

fn bind_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    Ok(UdpSocket::from(open_socket(address, SocketType::DGRAM)?))
}

fn open_socket(address: SocketAddr, kind: SocketType) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    Ok(socket)
}
