//! Listening sockets: bound once, held for as long as the unit is wanted, taken back from a living unit by a successor.

use super::table::Socket;
use crate::activation::FIRST_FD;
use crate::file;
use crate::port::{Holder, holder};
use crate::supervisor::SupervisorError;
use astraler_model::{Identity, ListenAddress, Listener, UnitName, UnitSpec};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags};
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Bytes of packets that wait in a UDP socket.
const UDP_BUFFER: usize = 4 << 20;

/// A socket that `keep` holds.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) address: ListenAddress,
    pub(super) fd: OwnedFd,
    pub(super) inode: u64,
}

impl Held {
    pub(super) fn record(&self) -> Socket {
        Socket {
            address: self.address.clone(),
            inode: self.inode,
        }
    }

    /// Closes it, and deletes its file.
    pub(super) fn close(self) {
        if let ListenAddress::Unix { path, .. } = &self.address {
            let _ = fs::remove_file(path);
        }
    }
}

/// Binds and listens. `held` are the sockets that the unit has: those at the same address divide its connections.
pub(super) fn bind(spec: &UnitSpec, listener: &Listener, held: &[Held]) -> Result<Held, SupervisorError> {
    let unit = &spec.name;
    let bound = match &listener.address {
        ListenAddress::Tcp(address) | ListenAddress::TcpShare { address, .. } => {
            bind_tcp(*address, listener.backlog, held)
        }
        ListenAddress::Udp { address, share } => bind_udp(*address, *share),
        ListenAddress::Unix { path, mode, group } => {
            bind_unix(path, *mode, *group, spec.identity.as_ref(), listener.backlog)
        }
    };
    let fd = bound.map_err(|error| {
        if error.kind() == io::ErrorKind::AddrInUse {
            let holder = holder_of(&listener.address);
            return SupervisorError::PortTaken {
                unit: unit.clone(),
                address: listener.address.clone(),
                holder,
            };
        }
        let operation = format!("listen on {}", crate::supervisor::show(&listener.address));
        failed(unit, &operation, &error)
    })?;
    let inode = inode(&fd).map_err(|error| failed(unit, "look at its socket", &error))?;
    Ok(Held {
        address: listener.address.clone(),
        fd,
        inode,
    })
}

/// Takes the recorded sockets back from the process that still has them, or one below it.
pub(super) fn take_back(unit: &UnitName, pid: u32, sockets: &[Socket]) -> Vec<Held> {
    let mut missing: Vec<&Socket> = sockets.iter().collect();
    let mut found = Vec::new();
    let mut pids = crate::process::descendants(pid);
    pids.extend(crate::process::in_session(pid));
    for pid in pids {
        if missing.is_empty() {
            break;
        }
        let open = crate::process::socket_inodes(pid);
        missing.retain(|socket| {
            // Those that it was given come first: they are where keep put them, unless it moved them.
            let at = open
                .iter()
                .filter(|(fd, _)| *fd >= FIRST_FD)
                .find(|(_, inode)| *inode == socket.inode);
            let Some(fd) = at.and_then(|(fd, _)| take(pid, *fd, socket).ok()) else {
                return true;
            };
            found.push(Held {
                address: socket.address.clone(),
                fd,
                inode: socket.inode,
            });
            false
        });
    }
    for socket in missing {
        let address = crate::supervisor::show(&socket.address);
        tracing::warn!(%unit, address, "a listening socket cannot be taken back: it is bound anew at the next start");
    }
    found
}

fn take(pid: u32, fd: i32, socket: &Socket) -> io::Result<OwnedFd> {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(io::ErrorKind::NotFound)?;
    let process = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    let fd = rustix::process::pidfd_getfd(&process, fd, PidfdGetfdFlags::empty())?;
    let is_of_its_kind = match socket.address {
        ListenAddress::Udp { .. } => sockopt::socket_type(&fd)? == SocketType::DGRAM,
        ListenAddress::Tcp(_) | ListenAddress::TcpShare { .. } | ListenAddress::Unix { .. } => {
            sockopt::socket_acceptconn(&fd)?
        }
    };
    let same = inode(&fd)? == socket.inode && is_of_its_kind;
    if same {
        Ok(fd)
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
}

fn inode(fd: &OwnedFd) -> io::Result<u64> {
    Ok(rustix::fs::fstat(fd)?.st_ino)
}

fn family(address: SocketAddr) -> AddressFamily {
    if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    }
}

fn bind_udp(address: SocketAddr, share: u16) -> io::Result<OwnedFd> {
    let open = || {
        let fd = rustix::net::socket_with(family(address), SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        if address.is_ipv6() {
            sockopt::set_ipv6_v6only(&fd, true)?;
        }
        Ok::<_, Errno>(fd)
    };
    if share == 0 {
        // With SO_REUSEPORT another process of the same user would get a part of the packets, in silence.
        rustix::net::bind(&open()?, &address)?;
    }
    let fd = open()?;
    sockopt::set_socket_reuseport(&fd, true)?;
    // What arrives in a burst waits; the system's limit may be lower.
    let _ = sockopt::set_socket_recv_buffer_size(&fd, UDP_BUFFER);
    rustix::net::bind(&fd, &address)?;
    Ok(fd)
}

/// The first at an address is bound without SO_REUSEPORT, so that a process of the same user that listens there is
/// noticed; it gets the option when another one joins.
fn bind_tcp(address: SocketAddr, backlog: u32, held: &[Held]) -> io::Result<OwnedFd> {
    let mut is_one_of_several = false;
    for held in held {
        if let ListenAddress::Tcp(other) | ListenAddress::TcpShare { address: other, .. } = &held.address
            && *other == address
        {
            sockopt::set_socket_reuseport(&held.fd, true)?;
            is_one_of_several = true;
        }
    }
    let family = family(address);
    let fd = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&fd, true)?;
    sockopt::set_socket_reuseport(&fd, is_one_of_several)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&fd, true)?;
    }
    rustix::net::bind(&fd, &address)?;
    rustix::net::listen(&fd, i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(fd)
}

fn bind_unix(
    path: &Path,
    mode: u32,
    group: Option<u32>,
    identity: Option<&Identity>,
    backlog: u32,
) -> io::Result<OwnedFd> {
    if let Some(parent) = path.parent().filter(|parent| !parent.is_dir()) {
        file::make_dir(parent, 0o755, None, None).map_err(|error| error.source)?;
    }
    // A socket that somebody serves is not ours to replace; one that nobody serves is left over.
    if is_served(path)? {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    match fs::symlink_metadata(path) {
        Ok(found) if !std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()) => {
            let reason = "a file that is no socket is in its place";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, reason));
        }
        Ok(_) => fs::remove_file(path)?,
        Err(_) => {}
    }
    let fd = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // keep's umask is 077: until the mode is set, nobody else gets in.
    rustix::net::bind(&fd, &SocketAddrUnix::new(path)?)?;
    let owner = identity.map(|identity| identity.uid);
    let group = group.or(identity.map(|identity| identity.gid));
    if owner.is_some() || group.is_some() {
        std::os::unix::fs::lchown(path, owner, group)?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    rustix::net::listen(&fd, i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(fd)
}

/// Somebody listens on this Unix socket. Does not wait where its queue is full.
fn is_served(path: &Path) -> io::Result<bool> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    Ok(match rustix::net::connect(&probe, &SocketAddrUnix::new(path)?) {
        Ok(()) | Err(Errno::AGAIN | Errno::INPROGRESS) => true,
        Err(_) => false,
    })
}

fn holder_of(address: &ListenAddress) -> Option<Holder> {
    match address {
        ListenAddress::Tcp(address) | ListenAddress::TcpShare { address, .. } => holder(*address),
        ListenAddress::Udp { address, .. } => crate::port::udp_holder(*address),
        ListenAddress::Unix { path, .. } => {
            let table = fs::read_to_string("/proc/net/unix").ok()?;
            // Connections that wait in its queue have the same path.
            let inode = |line: &str| {
                let fields: Vec<&str> = line.split_ascii_whitespace().collect();
                (fields.get(7).copied() == path.to_str()).then(|| fields.get(6)?.parse::<u64>().ok())?
            };
            let inodes: Vec<u64> = table.lines().filter_map(inode).collect();
            let has = |pid: &u32| {
                crate::process::socket_inodes(*pid)
                    .iter()
                    .any(|(_, found)| inodes.contains(found))
            };
            let pid = crate::process::pids().find(has)?;
            Some(Holder {
                pid,
                command: crate::process::command(pid)?,
            })
        }
    }
}

fn failed(unit: &UnitName, operation: &str, error: &io::Error) -> SupervisorError {
    SupervisorError::Host {
        unit: unit.clone(),
        operation: operation.to_owned(),
        reason: error.to_string(),
    }
}
