//! Between the socket and h2: floods are noticed, a head must arrive in time, a client must read what we write, and
//! small frames of several answers leave together.
//!
//! h2 flushes after every frame with data in it. What is small is gathered here instead, and leaves when the connection's
//! task has nothing more to do ([`Shared::poll_flush_gathered`]): answers that are made in one go are one write, and one
//! record of TLS.

use super::frames::Frames;
use crate::config::{Limits, ms};
use crate::deadline::Deadline;
use crate::fault::Kind;
use crate::pace::Pace;
use bytes::{Buf, BytesMut};
use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// So much is gathered before it leaves: two records of TLS.
const GATHER_BYTES: usize = 32 << 10;

thread_local! {
    /// What the last one gathered into, and needs no more.
    static SPARE: RefCell<BytesMut> = RefCell::default();
}

/// A guard that the task of its connection reaches, too.
#[derive(Debug)]
pub(super) struct Shared<S>(Arc<Mutex<Guard<S>>>);

impl<S> Clone for Shared<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S> Shared<S> {
    pub(super) fn new(guard: Guard<S>) -> Self {
        Self(Arc::new(Mutex::new(guard)))
    }

    fn lock(&self) -> MutexGuard<'_, Guard<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on small writes are gathered, and [`Self::poll_flush_gathered`] is called when there is nothing to add.
    pub(super) fn gather(&self) {
        self.lock().gathers = true;
    }
}

impl<S: AsyncWrite + Unpin> Shared<S> {
    /// Sends what was gathered.
    pub(super) fn poll_flush_gathered(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut guard = self.lock();
        if guard.unflushed {
            return guard.flush_all(cx);
        }
        Poll::Ready(Ok(()))
    }
}

/// The client's side of a connection, as h2 may see it.
#[derive(Debug)]
pub(super) struct Guard<S> {
    io: S,
    gathers: bool,
    gathered: BytesMut,
    /// Something was written that was not flushed.
    unflushed: bool,
    /// Read before it was known that this is HTTP/2.
    already: BytesMut,
    frames: Frames,
    limits: Arc<Limits>,
    flooded: Arc<AtomicBool>,
    head_since: Option<Instant>,
    read_deadline: Deadline,
    write_pace: Pace,
    write_deadline: Deadline,
}

impl<S> Guard<S> {
    /// `flooded` is set when the client should be told to calm down; nothing more of it is read then.
    pub(super) fn new(io: S, already: BytesMut, limits: Arc<Limits>, flooded: Arc<AtomicBool>) -> Self {
        Self {
            io,
            gathers: false,
            gathered: BytesMut::new(),
            unflushed: false,
            already,
            frames: Frames::default(),
            limits,
            flooded,
            head_since: Some(Instant::now()),
            read_deadline: Deadline::default(),
            write_pace: Pace::default(),
            write_deadline: Deadline::default(),
        }
    }

    fn saw(&mut self, bytes: &[u8]) {
        let now = Instant::now();
        if self.frames.follow(bytes, now).is_err() {
            self.flooded.store(true, Ordering::Relaxed);
        }
        if self.frames.in_head() {
            self.head_since.get_or_insert(now);
        } else {
            self.head_since = None;
        }
    }

    fn wrote(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match result {
            Poll::Ready(Ok(bytes)) => {
                self.frames.pay(bytes as u64);
                self.write_pace.moved(bytes as u64, Instant::now());
                Poll::Ready(Ok(bytes))
            }
            Poll::Ready(error) => Poll::Ready(error),
            Poll::Pending => {
                let until = self.write_pace.deadline(&self.limits, Instant::now());
                ready!(self.write_deadline.poll(cx, until));
                Poll::Ready(Err(late("the client reads nothing of its answers")))
            }
        }
    }
}

fn late(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, Kind::ClientGone.because(why))
}

impl<S: AsyncRead + Unpin> AsyncRead for Guard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.flooded.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        if !this.already.is_empty() {
            let count = this.already.len().min(buf.remaining());
            let piece = this.already.split_to(count);
            this.saw(&piece);
            buf.put_slice(&piece);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        match Pin::new(&mut this.io).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {
                this.saw(&buf.filled()[before..]);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(error) => Poll::Ready(error),
            Poll::Pending => {
                let Some(since) = this.head_since else {
                    return Poll::Pending;
                };
                let until = since + ms(this.limits.header_timeout_ms);
                ready!(this.read_deadline.poll(cx, until));
                Poll::Ready(Err(late("the request head did not arrive in time")))
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> Guard<S> {
    /// Takes all of it where it is small; else what was gathered goes first, with as much of it as the socket takes.
    fn write(&mut self, cx: &mut Context<'_>, data: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let length: usize = data.iter().map(|piece| piece.len()).sum();
        self.unflushed = true;
        if self.gathers && self.gathered.len() + length <= GATHER_BYTES {
            if self.gathered.capacity() == 0 {
                self.gathered = SPARE.take();
                self.gathered.reserve(GATHER_BYTES);
            }
            for piece in data {
                self.gathered.extend_from_slice(piece);
            }
            return Poll::Ready(Ok(length));
        }
        loop {
            let before = self.gathered.len();
            let mut slices = [IoSlice::new(&[]); 8];
            let pieces = std::iter::once(&self.gathered[..]).chain(data.iter().map(|piece| &**piece));
            let mut count = 0;
            for (slice, piece) in slices.iter_mut().zip(pieces.filter(|piece| !piece.is_empty())) {
                *slice = IoSlice::new(piece);
                count += 1;
            }
            let result = Pin::new(&mut self.io).poll_write_vectored(cx, &slices[..count]);
            let written = ready!(self.wrote(cx, result))?;
            if written > before || before == 0 {
                self.let_go(before);
                return Poll::Ready(Ok(written - before));
            }
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.let_go(written);
        }
    }

    fn flush_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.gathered.is_empty() {
            let result = Pin::new(&mut self.io).poll_write(cx, &self.gathered);
            match ready!(self.wrote(cx, result))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.let_go(written),
            }
        }
        let result = Pin::new(&mut self.io).poll_flush(cx);
        if result.is_ready() {
            // What comes next is waited for anew.
            self.write_pace = Pace::default();
            self.unflushed = false;
            return result;
        }
        self.wrote(cx, Poll::Pending).map_ok(|_| ())
    }

    /// So much of what was gathered has left. A connection that has nothing to say holds no memory for it.
    fn let_go(&mut self, bytes: usize) {
        self.gathered.advance(bytes);
        if self.gathered.is_empty() {
            let mut spare = std::mem::take(&mut self.gathered);
            spare.clear();
            SPARE.set(spare);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Shared<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.lock()).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Shared<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.lock().write(cx, &[IoSlice::new(data)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.lock().write(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What is gathered waits for more.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut guard = self.lock();
        match guard.gathers {
            true => Poll::Ready(Ok(())),
            false => guard.flush_all(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut guard = self.lock();
        ready!(guard.flush_all(cx))?;
        Pin::new(&mut guard.io).poll_shutdown(cx)
    }
}
