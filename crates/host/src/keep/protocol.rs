//! The control socket: one line of JSON for the request, one for the answer, then the connection ends.

use crate::supervisor::{Started, SupervisorError};
use astraler_model::{UnitName, UnitSpec, UnitStatus};
use serde::{Deserialize, Serialize};
use std::io;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};

/// The longest request, in bytes.
pub(super) const MAX_REQUEST: u64 = 1 << 20;
/// The longest answer, in bytes.
pub(super) const MAX_ANSWER: u64 = 8 << 20;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "do")]
pub(super) enum Request {
    Start { spec: Box<UnitSpec> },
    Replace { spec: Box<UnitSpec> },
    Restart { name: UnitName },
    Stop { name: UnitName },
    Remove { name: UnitName },
    List,
    Shutdown,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    Started(Started),
    Status(UnitStatus),
    Units(Vec<UnitStatus>),
    Done,
    Error(SupervisorError),
}

/// Reads one line of at most `limit` bytes; `None` when the peer closed without one.
pub(super) async fn read_line(stream: impl AsyncRead + Unpin, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    BufReader::new(stream.take(limit))
        .read_until(b'\n', &mut line)
        .await?;
    match line.pop() {
        Some(b'\n') => Ok(Some(line)),
        None => Ok(None),
        Some(_) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the line is cut off or too long",
        )),
    }
}

pub(super) fn to_line(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}
