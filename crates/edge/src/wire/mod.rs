//! Limits: what of a client's bytes hyper may see, and until when.
//!
//! # Why this cannot fall out of step with hyper
//!
//! `Wire` sits between the socket and hyper and does the framing itself. It hands hyper one whole head at a time, only
//! after [`head::inspect`] has passed it, and then exactly the bytes of that request's body, counted by the one
//! Content-Length or followed chunk by chunk ([`chunk`]). The next head is looked for where that count ends, and nowhere
//! else. What passes leaves hyper no choice: one Content-Length of digits, or one `chunked`, or neither; CRLF only; one
//! parser (httparse) agrees on the length of each head before hyper, which uses the same parser, reads it. So both
//! walk through the same borders, also with pipelining.
//!
//! A head that does not pass is replaced by a harmless one, `GET / HTTP/1.1` that closes, and its number on the
//! connection is noted with the fault. hyper calls the service once for each head, in order; `serve` counts
//! the calls, meets the number and answers the fault. No byte of the client follows a refused head.
//!
//! After a WebSocket handshake nothing is handed on until the service has decided: the bytes that follow are another
//! request, or the tunnel's.
//!
//! # Naps
//!
//! hyper holds two buffers of 8 KiB for each connection. One that was idle for half a second is told that the stream
//! has ended, which is how hyper lets go of it; `accept` takes the wire back, waits without buffers, and starts
//! hyper anew with the next request. The client sees nothing of it.
//!
//! # Deadlines
//!
//! They run here, because here it is known what is awaited: the next request (idle), the rest of a head (from its first
//! byte, whatever dribbles in), the rest of a body (a pause, and an average rate). They run only while hyper wants bytes
//! and there are none, so a client is not blamed for a slow worker.

pub mod chunk;
pub(crate) mod deadline;
pub mod head;
mod write;

use crate::config::Limits;
use crate::fault::{Fault, Kind};
use bytes::{Buf, BytesMut};
use deadline::Deadline;
use futures_util::task::AtomicWaker;
use head::Framing;
use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// One read from a socket takes at most so much.
const READ_BYTES: usize = 16 << 10;
/// After so long without a request a connection gives its buffers back.
const NAP_AFTER: Duration = Duration::from_millis(500);
/// Head that stands in for a refused one.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";
const STAND_IN_HEAD: &[u8] = b"HEAD / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";

/// A refused head: which one on its connection, why, and the start of what it was, for the access log.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) number: u64,
    pub(crate) fault: Fault,
    pub(crate) first_line: String,
}

/// What [`Wire`] and the service tell each other about one connection.
#[derive(Debug, Default)]
pub(crate) struct Link {
    refused: OnceLock<Refusal>,
    /// Requests whose answer is complete: as long as there are fewer than heads, the connection is not idle.
    pub(crate) answered: AtomicU64,
    upgrade: AtomicU8,
    decided: AtomicWaker,
}

const UNDECIDED: u8 = 0;
const NEXT_REQUEST: u8 = 1;
const TUNNEL: u8 = 2;

impl Link {
    /// The refusal, if it is of this request.
    pub(crate) fn refusal(&self, number: u64) -> Option<&Refusal> {
        self.refused.get().filter(|refusal| refusal.number == number)
    }

    /// The answer to a WebSocket handshake: whether the bytes that follow are a tunnel's.
    pub(crate) fn decide(&self, tunnel: bool) {
        self.upgrade
            .store(if tunnel { TUNNEL } else { NEXT_REQUEST }, Ordering::Release);
        self.decided.wake();
    }
}

/// The client's side of a connection, as hyper may see it.
#[derive(Debug)]
pub(crate) struct Wire<S> {
    socket: S,
    link: Arc<Link>,
    limits: Arc<Limits>,
    state: State,
    /// Read from the socket, not judged yet.
    pending: BytesMut,
    /// How much of `pending` was scanned for the end of a head.
    scanned: usize,
    /// Judged, for hyper.
    passed: BytesMut,
    /// Heads handed to hyper.
    heads: u64,
    head_since: Option<Instant>,
    last_activity: Instant,
    read_deadline: Deadline,
    write_deadline: Deadline,
    body_wait: BodyWait,
    linger: Option<write::Linger>,
    /// hyper was told that the stream has ended, because there was nothing to do.
    asleep: bool,
}

#[derive(Debug)]
enum State {
    Head,
    Length(u64),
    Chunked(chunk::Chunked),
    Upgrade,
    Tunnel,
    /// Nothing more is handed on; the answer to a refused head is being written.
    Refused,
    /// The client is gone, or the connection is not to be used any more.
    Ended,
    /// A body turned out to be wrong.
    Broken(Fault),
}

/// How long we have waited for the bytes of one body, and how many came.
#[derive(Debug, Default)]
struct BodyWait {
    since: Option<Instant>,
    total: Duration,
    bytes: u64,
}

thread_local! {
    /// One buffer for each thread, not for each connection: an idle connection holds none.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into_boxed_slice());
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(crate) fn new(socket: S, link: Arc<Link>, limits: Arc<Limits>) -> Self {
        Self {
            socket,
            link,
            limits,
            state: State::Head,
            pending: BytesMut::new(),
            scanned: 0,
            passed: BytesMut::new(),
            heads: 0,
            head_since: None,
            last_activity: Instant::now(),
            read_deadline: Deadline::default(),
            write_deadline: Deadline::default(),
            body_wait: BodyWait::default(),
            linger: None,
            asleep: false,
        }
    }

    /// With what was read of it before.
    pub(crate) fn with(mut self, already: BytesMut) -> Self {
        self.pending = already;
        self
    }

    /// Whether hyper's end of this connection was only a nap.
    pub(crate) fn is_asleep(&self) -> bool {
        self.asleep
    }

    /// Waits for the next request while hyper is away. `false` when the client left or stayed idle for too long.
    pub(crate) async fn wake(&mut self) -> bool {
        if !self.pending.is_empty() {
            return true;
        }
        let deadline = self.last_activity + crate::config::ms(self.limits.idle_timeout_ms);
        let awake = std::future::poll_fn(|cx| match self.fill(cx) {
            Poll::Ready(read) => Poll::Ready(matches!(read, Ok(1..))),
            Poll::Pending => self.read_deadline.poll(cx, deadline).map(|()| false),
        });
        let awake = awake.await;
        self.asleep = false;
        if !awake {
            self.state = State::Ended;
        }
        awake
    }

    /// Moves one whole head from `pending` to `passed`, if there is one; or a stand-in for a refused one.
    fn take_head(&mut self) -> Result<bool, Fault> {
        // An empty line may itself arrive in two pieces.
        if self.scanned <= 1 {
            self.skip_empty_lines()?;
        }
        if self.pending.is_empty() {
            self.head_since = None;
            return Ok(false);
        }
        self.head_since.get_or_insert_with(Instant::now);
        let found = head::find_end(&self.pending, self.scanned)?;
        self.scanned = self.pending.len();
        let length = found.unwrap_or(self.pending.len());
        if length > self.limits.max_header_bytes {
            let in_target = memchr::memchr(b'\n', &self.pending[..self.limits.max_header_bytes]).is_none();
            return Err(if in_target {
                Kind::UriTooLong.because("request line too long")
            } else {
                Kind::HeadTooLarge.because("request head too large")
            });
        }
        if found.is_none() {
            return Ok(false);
        }
        let framing = head::inspect(&self.pending[..length], &self.limits)?;
        self.passed = self.pending.split_to(length);
        self.heads += 1;
        self.scanned = 0;
        self.head_since = None;
        self.body_wait = BodyWait::default();
        self.state = match framing {
            Framing::Empty => State::Head,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Chunked(chunk::Chunked::default()),
            Framing::Upgrade => {
                self.link.upgrade.store(UNDECIDED, Ordering::Release);
                State::Upgrade
            }
        };
        Ok(true)
    }

    /// A few empty lines before a request are ignored (RFC 9112 section 2.2); old clients send one after a POST.
    fn skip_empty_lines(&mut self) -> Result<(), Fault> {
        let mut skipped = 0;
        while self.pending.starts_with(b"\r\n") {
            self.pending.advance(2);
            self.scanned = 0;
            skipped += 1;
            if skipped > 4 {
                return Err(Kind::Malformed.because("empty lines instead of a request"));
            }
        }
        Ok(())
    }

    fn refuse(&mut self, fault: Fault) {
        let lines = self.pending[..].split(|&b| b == b'\r' || b == b'\n');
        let line = lines
            .into_iter()
            .find(|line| !line.is_empty())
            .unwrap_or_default();
        let first_line = String::from_utf8_lossy(&line[..line.len().min(512)]).into_owned();
        let stand_in = if self.pending.starts_with(b"HEAD ") {
            STAND_IN_HEAD
        } else {
            STAND_IN
        };
        let _ = self.link.refused.set(Refusal {
            number: self.heads,
            fault,
            first_line,
        });
        self.heads += 1;
        self.pending = BytesMut::new();
        self.passed = BytesMut::from(stand_in);
        self.state = State::Refused;
    }

    /// Says how many of `bytes` belong to the body; moves on to the next head after the last.
    fn follow_body(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (used, done) = match &mut self.state {
            State::Length(remaining) => {
                let used = usize::try_from(*remaining).unwrap_or(usize::MAX).min(bytes.len());
                *remaining -= used as u64;
                (used, *remaining == 0)
            }
            State::Chunked(chunked) => match chunked.advance(bytes) {
                Ok(used) => (used, chunked.is_done()),
                Err(fault) => return Err(self.break_with(fault)),
            },
            _ => (0, false),
        };
        self.body_wait.bytes += used as u64;
        if let Some(since) = self.body_wait.since.take() {
            self.body_wait.total += since.elapsed();
        }
        if done {
            self.state = State::Head;
            self.last_activity = Instant::now();
        }
        Ok(used)
    }

    fn break_with(&mut self, fault: Fault) -> io::Error {
        self.state = State::Broken(fault);
        self.pending = BytesMut::new();
        io::Error::new(io::ErrorKind::InvalidData, fault)
    }

    /// Reads into `pending`.
    fn fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Self { socket, pending, .. } = self;
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(socket).poll_read(cx, &mut buffer))?;
            pending.extend_from_slice(buffer.filled());
            Poll::Ready(Ok(buffer.filled().len()))
        })
    }

    /// Reads the body straight into hyper's buffer; what lies behind its end goes to `pending`.
    fn read_body(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let limit = scratch.len().min(buf.remaining());
            let mut buffer = ReadBuf::new(&mut scratch[..limit]);
            ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buffer))?;
            let filled = buffer.filled();
            if filled.is_empty() {
                self.state = State::Ended;
                return Poll::Ready(Ok(()));
            }
            let used = self.follow_body(filled)?;
            buf.put_slice(&filled[..used]);
            self.pending.extend_from_slice(&filled[used..]);
            Poll::Ready(Ok(()))
        })
    }

    /// Nothing to read just now. Ready when the client has had its time, or to begin a nap.
    fn wait_for_head(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(since) = self.head_since {
            let deadline = since + crate::config::ms(self.limits.header_timeout_ms);
            ready!(self.read_deadline.poll(cx, deadline));
            self.refuse(Kind::HeadTimeout.because("the request head did not arrive in time"));
            return Poll::Ready(());
        }
        if self.link.answered.load(Ordering::Acquire) < self.heads {
            self.last_activity = Instant::now();
        }
        let idle_timeout = crate::config::ms(self.limits.idle_timeout_ms);
        let nap = idle_timeout > NAP_AFTER;
        let patience = if nap { NAP_AFTER } else { idle_timeout };
        ready!(self.read_deadline.poll(cx, self.last_activity + patience));
        self.asleep = nap;
        self.state = if nap { State::Head } else { State::Ended };
        Poll::Ready(())
    }

    fn wait_for_body(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let wait = &mut self.body_wait;
        let since = *wait.since.get_or_insert_with(Instant::now);
        let pause = crate::config::ms(self.limits.body_idle_timeout_ms);
        let earned =
            Duration::from_millis(wait.bytes.saturating_mul(1000) / self.limits.body_min_bytes_per_s.max(1));
        let left = (pause + earned).saturating_sub(wait.total);
        self.read_deadline.poll(cx, since + left.min(pause))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if !this.passed.is_empty() {
                let count = this.passed.len().min(buf.remaining());
                buf.put_slice(&this.passed[..count]);
                this.passed.advance(count);
                if this.passed.is_empty() {
                    this.passed = BytesMut::new();
                }
                return Poll::Ready(Ok(()));
            }
            match &this.state {
                State::Head => match this.take_head() {
                    Err(fault) => this.refuse(fault),
                    Ok(true) => {}
                    Ok(false) => {
                        if this.pending.is_empty() {
                            this.pending = BytesMut::new();
                        }
                        match this.fill(cx) {
                            Poll::Ready(Ok(0)) => this.state = State::Ended,
                            Poll::Ready(Ok(_)) => {}
                            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                            Poll::Pending => {
                                ready!(this.wait_for_head(cx));
                                if this.asleep {
                                    return Poll::Ready(Ok(()));
                                }
                            }
                        }
                    }
                },
                State::Length(_) | State::Chunked(_) if !this.pending.is_empty() => {
                    let pending = std::mem::take(&mut this.pending);
                    let used = this.follow_body(&pending[..pending.len().min(buf.remaining())])?;
                    buf.put_slice(&pending[..used]);
                    this.pending = pending;
                    this.pending.advance(used);
                    return Poll::Ready(Ok(()));
                }
                State::Length(_) | State::Chunked(_) => match this.read_body(cx, buf) {
                    Poll::Ready(result) => return Poll::Ready(result),
                    Poll::Pending => {
                        ready!(this.wait_for_body(cx));
                        let fault = Kind::BodyTimeout.because("the request body did not arrive in time");
                        return Poll::Ready(Err(this.break_with(fault)));
                    }
                },
                State::Upgrade => {
                    this.link.decided.register(cx.waker());
                    match this.link.upgrade.load(Ordering::Acquire) {
                        TUNNEL => this.state = State::Tunnel,
                        NEXT_REQUEST => {
                            this.state = State::Head;
                            this.last_activity = Instant::now();
                        }
                        _ => return Poll::Pending,
                    }
                }
                State::Tunnel if !this.pending.is_empty() => {
                    let count = this.pending.len().min(buf.remaining());
                    buf.put_slice(&this.pending[..count]);
                    this.pending.advance(count);
                    return Poll::Ready(Ok(()));
                }
                State::Tunnel => return Pin::new(&mut this.socket).poll_read(cx, buf),
                State::Refused => return Poll::Pending,
                State::Ended => return Poll::Ready(Ok(())),
                State::Broken(fault) => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, *fault)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
