//! Ports: who holds one, which is free, and the table that keeps them the same from start to start.

use crate::file::{self, FileError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};

/// How many ports are tried before giving up.
const TRIES: u16 = 1000;

/// A process that listens on a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// Its command, as `ps` shows it, cut to 200 bytes.
    pub command: String,
}

/// No port could be found or remembered.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// None is free in the range that was tried.
    #[error("no free port in the {TRIES} from {from} on")]
    NoneFree {
        /// The first that was tried.
        from: SocketAddr,
    },
    /// The table cannot be read.
    #[error("the port table {path} cannot be read; delete it to allocate anew", path = path.display())]
    Table {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The table cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The process that listens on this address, or on every address with this port. `None` when nobody does, or when
/// it belongs to another user and cannot be seen.
pub fn holder(address: SocketAddr) -> Option<Holder> {
    holder_among(address, listening(&["/proc/net/tcp", "/proc/net/tcp6"], LISTENS))
}

/// [`holder`] of a UDP port.
pub fn udp_holder(address: SocketAddr) -> Option<Holder> {
    holder_among(address, listening(&["/proc/net/udp", "/proc/net/udp6"], RECEIVES))
}

fn holder_among(address: SocketAddr, sockets: Vec<(SocketAddr, u64)>) -> Option<Holder> {
    let inodes: Vec<u64> = sockets
        .into_iter()
        .filter(|(found, _)| found.port() == address.port() && overlap(found.ip(), address.ip()))
        .map(|(_, inode)| inode)
        .collect();
    if inodes.is_empty() {
        return None;
    }
    let own = std::process::id();
    let holders = crate::process::pids().filter(|pid| {
        crate::process::socket_inodes(*pid)
            .iter()
            .any(|(_, inode)| inodes.contains(inode))
    });
    // A supervisor holds the sockets of its units: the unit is the better answer.
    let pid = holders.max_by_key(|pid| *pid != own)?;
    Some(Holder {
        pid,
        command: crate::process::command(pid)?,
    })
}

/// Nobody receives there over UDP: tried by binding.
pub fn is_free_udp(address: SocketAddr) -> bool {
    UdpSocket::bind(address).is_ok()
}

/// Nobody listens there: tried by binding.
pub fn is_free(address: SocketAddr) -> bool {
    // std sets SO_REUSEADDR, so that connections in TIME_WAIT do not count.
    TcpListener::bind(address).is_ok()
}

/// The first free port from this one on, at the same address. Start below 32768: above it the kernel takes ports for
/// outgoing connections (`net.ipv4.ip_local_port_range`), and one that is free now may be taken at the next start.
pub fn next_free(from: SocketAddr) -> Result<SocketAddr, PortError> {
    let mut address = from;
    for offset in 0..TRIES {
        let Some(port) = from.port().checked_add(offset) else {
            break;
        };
        address.set_port(port);
        if port != 0 && is_free(address) {
            return Ok(address);
        }
    }
    Err(PortError::NoneFree { from })
}

/// Which port belongs to which name, kept in a JSON file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PortTable {
    ports: BTreeMap<String, u16>,
}

impl PortTable {
    /// Reads the table; one that is not there is empty.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, PortError> {
        let path = path.as_ref();
        let unreadable = |source: io::Error| PortError::Table {
            path: path.to_owned(),
            source,
        };
        match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| unreadable(error.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(unreadable(error)),
        }
    }

    /// Writes the table, durably, readable by all.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), PortError> {
        let bytes = serde_json::to_vec_pretty(self).map_err(|error| PortError::Table {
            path: path.as_ref().to_owned(),
            source: error.into(),
        })?;
        Ok(file::replace(path, &bytes, 0o644)?)
    }

    /// The port of this name, if it has one.
    pub fn get(&self, name: &str) -> Option<u16> {
        self.ports.get(name).copied()
    }

    /// The port that this name has already, or else the first one from `preferred` on that is free and belongs to no
    /// other name. Call [`PortTable::save`] afterwards.
    pub fn get_or_allocate(&mut self, name: &str, preferred: SocketAddr) -> Result<u16, PortError> {
        if let Some(port) = self.get(name) {
            return Ok(port);
        }
        let mut from = preferred;
        loop {
            let found = next_free(from)?;
            if !self.ports.values().any(|port| *port == found.port()) {
                self.ports.insert(name.to_owned(), found.port());
                return Ok(found.port());
            }
            let next = found
                .port()
                .checked_add(1)
                .ok_or(PortError::NoneFree { from: preferred })?;
            from.set_port(next);
        }
    }

    /// Gives a name this port, or another one than before.
    pub fn set(&mut self, name: &str, port: u16) {
        self.ports.insert(name.to_owned(), port);
    }

    /// Takes the port from a name.
    pub fn release(&mut self, name: &str) {
        self.ports.remove(name);
    }

    /// All names and ports.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u16)> {
        self.ports.iter().map(|(name, port)| (name.as_str(), *port))
    }
}

fn overlap(a: IpAddr, b: IpAddr) -> bool {
    a == b || a.is_unspecified() || b.is_unspecified()
}

/// State of a TCP socket that listens, and of a UDP socket that is bound.
const LISTENS: &str = "0A";
const RECEIVES: &str = "07";

/// Every socket in this state with its inode, from proc_net(5).
fn listening(tables: &[&str], state: &str) -> Vec<(SocketAddr, u64)> {
    let mut found = Vec::new();
    for path in tables {
        let Ok(text) = fs::read_to_string(path) else {
            continue;
        };
        found.extend(
            text.lines()
                .skip(1)
                .filter_map(|line| listening_line(line, state)),
        );
    }
    found
}

fn listening_line(line: &str, state: &str) -> Option<(SocketAddr, u64)> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    if fields.get(3) != Some(&state) {
        return None;
    }
    let (ip, port) = fields.get(1)?.split_once(':')?;
    let address = SocketAddr::new(kernel_ip(ip)?, u16::from_str_radix(port, 16).ok()?);
    Some((address, fields.get(9)?.parse().ok()?))
}

/// The kernel prints addresses as 32-bit words in the machine's byte order.
fn kernel_ip(hex: &str) -> Option<IpAddr> {
    let word = |index: usize| {
        let digits = hex.get(index * 8..index * 8 + 8)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    match hex.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(0)?))),
        32 => {
            let mut bytes = [0u8; 16];
            for (index, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(index)?);
            }
            Some(IpAddr::V6(Ipv6Addr::from(bytes)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_holder_on_both_families() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let address = listener.local_addr().unwrap();
            let found = holder(address).unwrap();
            assert_eq!(found.pid, std::process::id());
            assert!(!found.command.is_empty());
            assert!(!is_free(address));
            assert_ne!(next_free(address).unwrap().port(), address.port());
        }
    }

    #[test]
    fn names_the_holder_of_a_udp_port() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        assert_eq!(udp_holder(address).unwrap().pid, std::process::id());
        assert!(!is_free_udp(address));
        drop(socket);
        assert!(is_free_udp(address));
    }

    #[test]
    fn the_table_remembers_and_gives_no_port_twice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ports.json");
        let base = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut table = PortTable::load(&path).unwrap();
        let a = table.get_or_allocate("a", base).unwrap();
        let b = table.get_or_allocate("b", base).unwrap();
        assert_ne!(a, b);
        table.save(&path).unwrap();
        let mut again = PortTable::load(&path).unwrap();
        let _held = TcpListener::bind(("127.0.0.1", a)).unwrap();
        assert_eq!(
            again.get_or_allocate("a", base).unwrap(),
            a,
            "a port stays with its name even while in use"
        );
        file::replace(&path, b"[", 0o600).unwrap();
        assert!(
            PortTable::load(&path)
                .unwrap_err()
                .to_string()
                .contains("ports.json")
        );
    }
}
