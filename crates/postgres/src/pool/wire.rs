//! Messages as bytes (PostgreSQL manual, 55.7), and a socket with a buffer each way.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::io;
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Above this, a buffer takes no more: the side that fills it waits.
pub(super) const HIGH: usize = 64 << 10;

/// The length PostgreSQL itself allows a message.
const MAX_MESSAGE: usize = (1 << 30) - 1;

/// The bytes are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid message: {0}")]
pub(super) struct Malformed(pub(super) &'static str);

/// Tag and whole length (tag and length field included) of the message at the front; `None` until its first
/// five bytes are there.
pub(super) fn head(buffer: &[u8]) -> Result<Option<(u8, usize)>, Malformed> {
    let Some((&[tag, a, b, c, d], _)) = buffer.split_first_chunk::<5>() else {
        return Ok(None);
    };
    match u32::from_be_bytes([a, b, c, d]) as usize {
        length @ 4..=MAX_MESSAGE => Ok(Some((tag, length + 1))),
        _ => Err(Malformed("its length is out of range")),
    }
}

/// The text up to the next zero byte, and what follows it.
pub(super) fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

/// Writes a message: its length is filled in.
pub(super) fn message(tag: u8, out: &mut BytesMut, body: impl FnOnce(&mut BytesMut)) {
    out.put_u8(tag);
    let start = out.len();
    out.put_u32(0);
    body(out);
    let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// Writes a text and its zero byte; a zero inside of it would end it and is left out.
pub(super) fn put_text(text: &[u8], out: &mut BytesMut) {
    out.extend(text.iter().filter(|byte| **byte != 0));
    out.put_u8(0);
}

/// An error as a client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ErrorResponse {
    pub(super) fatal: bool,
    pub(super) code: String,
    pub(super) message: String,
    pub(super) hint: Option<&'static str>,
}

impl ErrorResponse {
    pub(super) fn new(fatal: bool, code: &str, message: impl Into<String>) -> Self {
        Self {
            fatal,
            code: code.into(),
            message: message.into(),
            hint: None,
        }
    }

    pub(super) fn hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }

    pub(super) fn write(&self, out: &mut BytesMut) {
        let severity: &[u8] = if self.fatal { b"FATAL" } else { b"ERROR" };
        message(b'E', out, |out| {
            let fields: [(u8, &[u8]); 4] = [
                (b'S', severity),
                (b'V', severity),
                (b'C', self.code.as_bytes()),
                (b'M', self.message.as_bytes()),
            ];
            for (field, value) in fields
                .into_iter()
                .chain(self.hint.map(|hint| (b'H', hint.as_bytes())))
            {
                out.put_u8(field);
                put_text(value, out);
            }
            out.put_u8(0);
        });
    }

    /// Reads the body of an ErrorResponse.
    pub(super) fn read(mut body: &[u8]) -> Self {
        let mut error = Self::new(false, "XX000", "the server gave no reason");
        while let Some((field, rest)) = body.split_first() {
            let Some((value, rest)) = text(rest) else { break };
            let value = String::from_utf8_lossy(value);
            match field {
                b'V' => error.fatal = value != "ERROR",
                b'C' => error.code = value.into_owned(),
                b'M' => error.message = value.into_owned(),
                _ => {}
            }
            body = rest;
        }
        error
    }
}

/// ReadyForQuery outside of a transaction.
pub(super) fn ready_for_query(out: &mut BytesMut) {
    out.put_slice(b"Z\0\0\0\x05I");
}

/// A socket with what was read and not used yet, and what is to be written.
#[derive(Debug)]
pub(super) struct Pipe {
    stream: UnixStream,
    pub(super) incoming: BytesMut,
    pub(super) out: BytesMut,
    /// Bytes that `incoming` may hold.
    pub(super) limit: usize,
}

impl Pipe {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            incoming: BytesMut::new(),
            out: BytesMut::new(),
            limit: HIGH,
        }
    }

    /// Waits until bytes can be read (when `read`, and when there is room) or waiting bytes can be written.
    pub(super) async fn ready(&self, read: bool) -> io::Result<()> {
        let read = read && self.incoming.len() < self.limit;
        let interest = match (read, self.out.is_empty()) {
            (true, true) => Interest::READABLE,
            (true, false) => Interest::READABLE | Interest::WRITABLE,
            (false, false) => Interest::WRITABLE,
            (false, true) => return std::future::pending().await,
        };
        self.stream.ready(interest).await.map(drop)
    }

    /// Reads what is there, up to the limit. An end of the stream is an error of kind `UnexpectedEof`, but only
    /// when nothing came before it: last words are heard first.
    pub(super) fn fill(&mut self) -> io::Result<()> {
        let before = self.incoming.len();
        while self.incoming.len() < self.limit {
            self.incoming.reserve(8 << 10);
            match self.stream.try_read_buf(&mut self.incoming) {
                Ok(0) if self.incoming.len() > before => break,
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) if self.incoming.len() > before => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes what can be written now; says whether anything was.
    pub(super) fn flush(&mut self) -> io::Result<bool> {
        let mut progress = false;
        while !self.out.is_empty() {
            match self.stream.try_write(&self.out) {
                Ok(written) => self.out.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(progress),
                Err(error) => return Err(error),
            }
            progress = true;
        }
        Ok(progress)
    }

    /// Writes everything.
    pub(super) async fn flush_all(&mut self) -> io::Result<()> {
        loop {
            self.flush()?;
            if self.out.is_empty() {
                return Ok(());
            }
            self.ready(false).await?;
        }
    }

    /// Whether the peer has neither ended nor said anything: what a healthy idle server does.
    pub(super) fn is_silent(&self) -> bool {
        let nothing_yet =
            |result: io::Result<usize>| result.is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock);
        self.incoming.is_empty() && self.out.is_empty() && nothing_yet(self.stream.try_read(&mut [0]))
    }

    /// So many bytes, flushing first.
    pub(super) async fn exactly(&mut self, count: usize) -> io::Result<Bytes> {
        self.flush_all().await?;
        self.limit = self.limit.max(count);
        while self.incoming.len() < count {
            self.ready(true).await?;
            self.fill()?;
        }
        self.limit = HIGH;
        Ok(self.incoming.split_to(count).freeze())
    }

    /// One whole message of at most [`HIGH`] bytes, flushing first: for conversations, not for results.
    pub(super) async fn conversation(&mut self) -> io::Result<(u8, Bytes)> {
        let first = self.exactly(5).await?;
        let malformed = |error: Malformed| io::Error::new(io::ErrorKind::InvalidData, error);
        let (tag, length) = head(&first).map_err(malformed)?.unwrap_or((0, 5));
        if length > HIGH {
            return Err(malformed(Malformed("it is too long for its kind")));
        }
        Ok((tag, self.exactly(length - 5).await?))
    }

    /// Says something as a last word, if the peer still takes it.
    pub(super) fn last_word(&mut self, word: &[u8]) {
        // The connection ends either way.
        let _ = self.stream.try_write(word);
    }

    /// [`Pipe::shrink`], unless the limit was raised for a message that is half there.
    pub(super) fn shrink_unless_partial(&mut self) {
        let limit = self.limit;
        self.shrink();
        self.limit = limit;
    }

    /// Gives memory back while nothing happens.
    pub(super) fn shrink(&mut self) {
        if self.incoming.is_empty() {
            self.incoming = BytesMut::new();
        }
        if self.out.is_empty() {
            self.out = BytesMut::new();
        }
        self.limit = HIGH;
    }
}
