//! Descriptors on tokio's reactor.

use std::io;
use std::os::fd::OwnedFd;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Wakes when the descriptor is readable.
pub(crate) fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    #[expect(
        unsafe_code,
        reason = "tokio asks that the descriptor be the same and open for as long as it is registered"
    )]
    // SAFETY: an `OwnedFd` has one descriptor, which stays open until it is dropped, after `AsyncFd` deregistered it.
    let registered = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    registered.map_err(io::Error::from)
}
