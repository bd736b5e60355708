//! Reading an object's bytes, a piece at a time, off the executor, checking them on the way.

use crate::StoreError;
use crate::blob::{BlobId, Blobs, Hold};
use crate::hash::{Crc, crc32c};
use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use std::collections::VecDeque;
use std::fs::File;
use std::future::Future;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::task::JoinHandle;

/// Bytes read at one time.
const READ_BYTES: u64 = 256 << 10;

/// One blob of an object.
pub(crate) struct Segment {
    pub(crate) blob: BlobId,
    pub(crate) size: u64,
    pub(crate) crc32c: u32,
    pub(crate) inlined: bool,
    pub(crate) data: Option<Bytes>,
}

impl Segment {
    /// Its file, if it has one.
    pub(crate) fn file(&self) -> Option<BlobId> {
        (!self.inlined).then_some(self.blob)
    }
}

/// The bytes of an object: a stream of pieces of 256 KiB at most. It reads a piece only when it is asked for one. A
/// blob that has changed on the disk ends it with an error instead of its last piece.
pub struct ObjectBody {
    state: State,
    remaining: u64,
}

enum State {
    Idle(Box<Reader>),
    Busy(JoinHandle<(Box<Reader>, io::Result<Option<Bytes>>)>),
    Ended,
}

struct Reader {
    blobs: Arc<Blobs>,
    key: String,
    /// What is still to be read: the segment and the bytes of it.
    queue: VecDeque<(Segment, Range<u64>)>,
    open: Option<OpenBlob>,
    _hold: Hold,
}

struct OpenBlob {
    file: File,
    left: u64,
    /// Only when the whole blob is read: the running checksum and what it must be.
    check: Option<(Crc, u32)>,
}

impl ObjectBody {
    /// Opens the first blob at once, so that a missing or short one is an error before the answer begins.
    pub(crate) fn open(
        blobs: &Arc<Blobs>,
        key: &str,
        segments: Vec<Segment>,
        range: Range<u64>,
        hold: Hold,
    ) -> Result<Self, StoreError> {
        let mut at = 0;
        let mut queue = VecDeque::new();
        for segment in segments {
            let start = range.start.clamp(at, at + segment.size) - at;
            let end = range.end.clamp(at, at + segment.size) - at;
            at += segment.size;
            if start < end {
                queue.push_back((segment, start..end));
            }
        }
        let found: u64 = queue.iter().map(|(_, bytes)| bytes.end - bytes.start).sum();
        let mut reader = Reader {
            blobs: Arc::clone(blobs),
            key: key.to_owned(),
            queue,
            open: None,
            _hold: hold,
        };
        if found != range.end - range.start {
            return Err(reader.corrupt("the index names too few blobs".into()));
        }
        if reader.queue.front().is_some_and(|(segment, _)| !segment.inlined) {
            reader.open_next()?;
        }
        Ok(Self {
            state: State::Idle(Box::new(reader)),
            remaining: found,
        })
    }

    /// Bytes still to come.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Reads all of it into memory.
    pub async fn collect(mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(usize::try_from(self.remaining).unwrap_or(0));
        while let Some(piece) = futures_util::StreamExt::next(&mut self).await {
            bytes.extend_from_slice(&piece?);
        }
        Ok(bytes)
    }
}

impl std::fmt::Debug for ObjectBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObjectBody")
            .field("remaining", &self.remaining)
            .finish_non_exhaustive()
    }
}

impl Stream for ObjectBody {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match std::mem::replace(&mut self.state, State::Ended) {
                State::Ended => return Poll::Ready(None),
                State::Idle(mut reader) => {
                    if let Some(piece) = reader.inlined() {
                        self.state = State::Idle(reader);
                        return Poll::Ready(Some(
                            piece.inspect(|piece| self.remaining -= piece.len() as u64),
                        ));
                    }
                    if reader.is_done() {
                        return Poll::Ready(None);
                    }
                    self.state = State::Busy(tokio::task::spawn_blocking(move || {
                        let piece = reader.next();
                        (reader, piece)
                    }));
                }
                State::Busy(mut task) => match Pin::new(&mut task).poll(context) {
                    Poll::Pending => {
                        self.state = State::Busy(task);
                        return Poll::Pending;
                    }
                    Poll::Ready(Ok((reader, Ok(Some(piece))))) => {
                        self.remaining -= piece.len() as u64;
                        self.state = State::Idle(reader);
                        return Poll::Ready(Some(Ok(piece)));
                    }
                    Poll::Ready(Ok((_, Ok(None)))) => return Poll::Ready(None),
                    Poll::Ready(Ok((_, Err(error)))) => return Poll::Ready(Some(Err(error))),
                    Poll::Ready(Err(_)) => {
                        return Poll::Ready(Some(Err(io::Error::other("the reader of a blob was stopped"))));
                    }
                },
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, None)
    }
}

impl Reader {
    fn is_done(&self) -> bool {
        self.open.is_none() && self.queue.is_empty()
    }

    fn corrupt(&self, what: String) -> StoreError {
        tracing::error!(key = %self.key, %what, "stored data is damaged");
        StoreError::Corrupt {
            key: self.key.clone(),
            what,
        }
    }

    /// The next piece when it lies in the index: no need to leave the executor.
    fn inlined(&mut self) -> Option<io::Result<Bytes>> {
        if self.open.is_some() || !self.queue.front()?.0.inlined {
            return None;
        }
        let (segment, bytes) = self.queue.pop_front()?;
        let data = segment.data.unwrap_or_default();
        if data.len() as u64 != segment.size || crc32c(&data) != segment.crc32c {
            self.queue.clear();
            return Some(Err(io::Error::other(
                self.corrupt("its bytes in the index have changed".into()),
            )));
        }
        let end = usize::try_from(bytes.end).unwrap_or(data.len());
        let start = usize::try_from(bytes.start).unwrap_or(end);
        Some(Ok(data.slice(start..end)))
    }

    fn open_next(&mut self) -> Result<(), StoreError> {
        let Some((segment, bytes)) = self.queue.pop_front() else {
            return Ok(());
        };
        let path = self.blobs.path(segment.blob);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(self.corrupt(format!("blob {} is missing", path.display())));
            }
            Err(error) => return Err(StoreError::io("open", &path)(error)),
        };
        let length = file.metadata().map_err(StoreError::io("measure", &path))?.len();
        if length != segment.size {
            let what = format!("blob {} has {length} of {} bytes", path.display(), segment.size);
            return Err(self.corrupt(what));
        }
        file.seek(SeekFrom::Start(bytes.start))
            .map_err(StoreError::io("seek in", &path))?;
        let whole = bytes == (0..segment.size);
        self.open = Some(OpenBlob {
            file,
            left: bytes.end - bytes.start,
            check: whole.then(|| (Crc::new(), segment.crc32c)),
        });
        Ok(())
    }

    fn next(&mut self) -> io::Result<Option<Bytes>> {
        if self.open.is_none() {
            if self.queue.is_empty() {
                return Ok(None);
            }
            self.open_next().map_err(io::Error::other)?;
        }
        let Some(open) = &mut self.open else {
            return Ok(None);
        };
        let size = usize::try_from(open.left.min(READ_BYTES)).unwrap_or(0);
        let mut piece = BytesMut::zeroed(size);
        open.file.read_exact(&mut piece)?;
        open.left -= size as u64;
        if let Some((crc, _)) = &mut open.check {
            crc.update(&piece);
        }
        if open.left == 0
            && let Some((crc, expected)) = self.open.take().and_then(|open| open.check)
            && crc.finish() != expected
        {
            return Err(io::Error::other(
                self.corrupt("a blob's bytes have changed".into()),
            ));
        }
        Ok(Some(piece.freeze()))
    }
}
