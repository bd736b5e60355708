//! Between the socket and h2: floods are noticed, a head must arrive in time, and a client must read what we write.

use super::frames::Frames;
use crate::config::{Limits, ms};
use crate::deadline::Deadline;
use crate::fault::Kind;
use crate::pace::Pace;
use bytes::BytesMut;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// The client's side of a connection, as h2 may see it.
#[derive(Debug)]
pub(super) struct Guard<S> {
    io: S,
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

impl<S: AsyncWrite + Unpin> AsyncWrite for Guard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(cx, data);
        self.wrote(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write_vectored(cx, data);
        self.wrote(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    /// Called when all is written: what comes next is waited for anew.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.io).poll_flush(cx);
        if result.is_ready() {
            self.write_pace = Pace::default();
            return result;
        }
        self.wrote(cx, Poll::Pending).map_ok(|_| ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
