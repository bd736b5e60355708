//! For programs that run as units: the listening sockets they are given (as sd_listen_fds(3)) and how they say that
//! they are ready.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};

/// The first descriptor that is passed, as SD_LISTEN_FDS_START.
pub const FIRST_FD: RawFd = 3;
/// More listeners than this are refused, in a spec and here.
pub const MAX_LISTENERS: usize = 256;

/// The listening sockets that this process was given, by name.
#[derive(Debug, Default)]
pub struct Listeners {
    by_name: BTreeMap<String, OwnedFd>,
}

/// The sockets this process was given cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ActivationError {
    /// No socket of this name was passed.
    #[error("no listening socket named `{name}` was passed; passed were: {passed}")]
    Missing {
        /// The name asked for.
        name: String,
        /// The names that are there.
        passed: String,
    },
    /// The variables contradict themselves.
    #[error("LISTEN_FDS and LISTEN_FDNAMES are not valid: {reason}")]
    Environment {
        /// What is wrong.
        reason: String,
    },
    /// The sockets were taken before, by another call in this process.
    #[error("the listening sockets were taken already")]
    Taken,
    /// The descriptor is no listening socket of that kind.
    #[error("the descriptor of `{name}` is not {expected}")]
    Kind {
        /// Its name.
        name: String,
        /// What it should be.
        expected: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Takes the listening sockets passed to this process. Without `LISTEN_PID` of this very process there are none; a parent
/// that starts it directly, and cannot know that number, says `LISTEN_PPID`, its own (see [`crate::succession`]).
/// Succeeds once: a descriptor has one owner. They are closed on exec, so that children do not inherit them.
pub fn listeners() -> Result<Listeners, ActivationError> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let variable = |name: &str| std::env::var(name).ok();
    let is = |name: &str, id: u32| variable(name).and_then(|pid| pid.parse().ok()) == Some(id);
    if !is("LISTEN_PID", std::process::id()) && !is("LISTEN_PPID", std::os::unix::process::parent_id()) {
        return Ok(Listeners::default());
    }
    let invalid = |reason: String| ActivationError::Environment { reason };
    let count: usize = variable("LISTEN_FDS")
        .and_then(|count| count.parse().ok())
        .ok_or_else(|| invalid("LISTEN_FDS is not a number".into()))?;
    let names = variable("LISTEN_FDNAMES").unwrap_or_default();
    let names: Vec<&str> = names.split(':').filter(|name| !name.is_empty()).collect();
    if count > MAX_LISTENERS || names.len() != count {
        return Err(invalid(format!("{count} sockets with {} names", names.len())));
    }
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Err(ActivationError::Taken);
    }
    let mut by_name = BTreeMap::new();
    for (name, raw) in names.into_iter().zip(FIRST_FD..) {
        let fd = own(raw);
        rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)
            .map_err(|errno| invalid(format!("descriptor {raw}: {errno}")))?;
        by_name.insert(name.to_owned(), fd);
    }
    Ok(Listeners { by_name })
}

impl Listeners {
    /// The names that are there.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// Takes a TCP socket; nonblocking, as tokio wants it.
    pub fn take_tcp(&mut self, name: &str) -> Result<TcpListener, ActivationError> {
        let fd = self.take(name)?;
        let listener = TcpListener::from(fd);
        listener
            .local_addr()
            .and_then(|_| listener.set_nonblocking(true))
            .map_err(|source| kind(name, "a TCP socket", source))?;
        Ok(listener)
    }

    /// Takes a UDP socket; nonblocking, as tokio wants it.
    pub fn take_udp(&mut self, name: &str) -> Result<UdpSocket, ActivationError> {
        let fd = self.take(name)?;
        let wrong = |source: io::Error| kind(name, "a UDP socket", source);
        let found = rustix::net::sockopt::socket_type(&fd).map_err(|errno| wrong(errno.into()))?;
        if found != rustix::net::SocketType::DGRAM {
            return Err(wrong(io::ErrorKind::InvalidInput.into()));
        }
        let socket = UdpSocket::from(fd);
        socket
            .local_addr()
            .and_then(|_| socket.set_nonblocking(true))
            .map_err(wrong)?;
        Ok(socket)
    }

    /// Takes a Unix socket; nonblocking, as tokio wants it.
    pub fn take_unix(&mut self, name: &str) -> Result<UnixListener, ActivationError> {
        let fd = self.take(name)?;
        let listener = UnixListener::from(fd);
        listener
            .local_addr()
            .and_then(|_| listener.set_nonblocking(true))
            .map_err(|source| kind(name, "a Unix socket", source))?;
        Ok(listener)
    }

    fn take(&mut self, name: &str) -> Result<OwnedFd, ActivationError> {
        let passed = || self.by_name.keys().cloned().collect::<Vec<_>>().join(", ");
        match self.by_name.contains_key(name) {
            false => Err(ActivationError::Missing {
                name: name.to_owned(),
                passed: passed(),
            }),
            true => self.by_name.remove(name).ok_or(ActivationError::Taken),
        }
    }
}

fn kind(name: &str, expected: &'static str, source: io::Error) -> ActivationError {
    ActivationError::Kind {
        name: name.to_owned(),
        expected,
        source,
    }
}

/// Says that this process is ready. Without `READY_FD` (run by hand) and when said already, nothing happens.
pub fn notify_ready() -> io::Result<()> {
    static TOLD: AtomicBool = AtomicBool::new(false);
    let Some(raw) = std::env::var("READY_FD")
        .ok()
        .and_then(|fd| fd.parse::<RawFd>().ok())
    else {
        return Ok(());
    };
    if raw < FIRST_FD || TOLD.swap(true, Ordering::SeqCst) {
        return Ok(());
    }
    std::fs::File::from(own(raw)).write_all(b"ready\n")
}

pub(crate) fn own(raw: RawFd) -> OwnedFd {
    #[expect(
        unsafe_code,
        reason = "the launcher put this descriptor here for us, and each caller sees to it that it happens once"
    )]
    // SAFETY: `raw` was opened by the launcher before exec, is owned by no other value, and is taken once.
    unsafe {
        OwnedFd::from_raw_fd(raw)
    }
}
