//! A process that stands alone hands its listening sockets to a successor: the same program anew, perhaps another
//! version of it. No connection is refused in between, because the sockets never close.

use crate::activation::{FIRST_FD, MAX_LISTENERS};
use command_fds::{CommandFdExt, FdMapping};
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

/// Why there is no successor. The sockets are still ours.
#[derive(Debug, thiserror::Error)]
pub enum SuccessionError {
    /// It could not be started.
    #[error("cannot start the successor")]
    Start(#[from] io::Error),
    /// It ended before it was ready.
    #[error("the successor ended before it was ready ({status}); its own words say why")]
    Ended {
        /// How.
        status: ExitStatus,
    },
    /// It did not get ready in time, and was ended.
    #[error("the successor was not ready within {} s", .after.as_secs())]
    Late {
        /// How long it had.
        after: Duration,
    },
}

/// Starts `program` with the sockets, by name, and returns when it has said that it is ready: see
/// [`crate::activation`] for its side.
///
/// # Errors
/// See [`SuccessionError`]; nothing of the successor is left then.
pub async fn start(
    program: &Path,
    arguments: &[OsString],
    sockets: Vec<(String, OwnedFd)>,
    patience: Duration,
) -> Result<Child, SuccessionError> {
    if sockets.len() > MAX_LISTENERS {
        let too_many = format!("{} sockets, at most {MAX_LISTENERS}", sockets.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, too_many).into());
    }
    let (ready, told) = io::pipe()?;
    rustix::io::ioctl_fionbio(&ready, true).map_err(io::Error::from)?;
    let names: Vec<&str> = sockets.iter().map(|(name, _)| name.as_str()).collect();
    let ready_fd = FIRST_FD + i32::try_from(sockets.len()).unwrap_or(0);
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("LISTEN_PPID", std::process::id().to_string())
        .env("LISTEN_FDS", sockets.len().to_string())
        .env("LISTEN_FDNAMES", names.join(":"))
        .env("READY_FD", ready_fd.to_string())
        .env_remove("LISTEN_PID")
        .stdin(Stdio::null());
    let mut mappings: Vec<FdMapping> = sockets
        .into_iter()
        .zip(FIRST_FD..)
        .map(|((_, parent_fd), child_fd)| FdMapping { parent_fd, child_fd })
        .collect();
    mappings.push(FdMapping {
        parent_fd: told.into(),
        child_fd: ready_fd,
    });
    command.fd_mappings(mappings).map_err(io::Error::other)?;
    let child = command.spawn()?;
    // Our copies of what it was given close here.
    drop(command);

    let mut line = [0; 16];
    let said = match pipe::Receiver::from_owned_fd(ready.into()) {
        Ok(mut ready) => tokio::time::timeout(patience, async { ready.read(&mut line).await }).await,
        Err(error) => Ok(Err(error)),
    };
    match said {
        Ok(Ok(1..)) => Ok(child),
        Ok(Ok(0)) => Err(SuccessionError::Ended { status: end(child)? }),
        Ok(Err(error)) => {
            end(child)?;
            Err(error.into())
        }
        Err(_) => {
            end(child)?;
            Err(SuccessionError::Late { after: patience })
        }
    }
}

/// What closed its end has ended, or is made to.
fn end(mut child: Child) -> io::Result<ExitStatus> {
    match child.try_wait()? {
        Some(status) => Ok(status),
        None => {
            child.kill()?;
            child.wait()
        }
    }
}
