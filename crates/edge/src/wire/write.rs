//! The way out: answers, and the end of a connection.

use super::{SCRATCH, State, Wire};
use crate::fault::Kind;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// What is read and thrown away after the last answer, so that the client gets to read it (RFC 9112 section 9.6).
const LINGER_BYTES: usize = 256 << 10;
const LINGER: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Linger {
    until: Instant,
    bytes: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// After the last answer: the unread rest of what the client sent is read and dropped for a moment, because closing
    /// a socket with unread bytes resets the connection, and the client may lose the answer.
    fn linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let linger = self.linger.get_or_insert_with(|| Linger {
            until: Instant::now() + LINGER,
            bytes: 0,
        });
        let until = linger.until;
        loop {
            let read = SCRATCH.with_borrow_mut(|scratch| {
                let mut buffer = ReadBuf::new(scratch);
                match Pin::new(&mut self.socket).poll_read(cx, &mut buffer) {
                    Poll::Ready(Ok(())) => Poll::Ready(buffer.filled().len()),
                    Poll::Ready(Err(_)) => Poll::Ready(0),
                    Poll::Pending => Poll::Pending,
                }
            });
            match (read, &mut self.linger) {
                (Poll::Ready(0), _) | (_, None) => return Poll::Ready(()),
                (Poll::Ready(n), Some(linger)) => {
                    linger.bytes += n;
                    if linger.bytes > LINGER_BYTES {
                        return Poll::Ready(());
                    }
                }
                (Poll::Pending, _) => return self.read_deadline.poll(cx, until),
            }
        }
    }

    /// A client that reads nothing of its answer does not hold it for ever.
    fn wrote(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if result.is_ready() {
            self.last_activity = Instant::now();
            self.write_deadline.clear();
            return result;
        }
        if matches!(self.state, State::Tunnel) {
            return Poll::Pending;
        }
        let limit = crate::config::ms(self.limits.body_idle_timeout_ms);
        ready!(self.write_deadline.poll_from_now(cx, limit));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            Kind::ClientGone.because("the client reads nothing of its answer"),
        )))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.socket).poll_write(cx, data);
        self.wrote(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.socket).poll_write_vectored(cx, data);
        self.wrote(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.asleep {
            return Poll::Ready(Ok(()));
        }
        if this.linger.is_none() {
            ready!(Pin::new(&mut this.socket).poll_shutdown(cx))?;
            let unread = match this.state {
                State::Tunnel | State::Ended => false,
                State::Head | State::Upgrade => !this.pending.is_empty(),
                State::Length(_) | State::Chunked(_) | State::Refused | State::Broken(_) => true,
            };
            if !unread {
                return Poll::Ready(Ok(()));
            }
        }
        this.linger(cx).map(Ok)
    }
}
