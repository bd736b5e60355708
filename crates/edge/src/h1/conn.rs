//! The client's end of a connection: what has been read and not been used, and where in a message it stands.

use super::{HALF_CLOSED, Transport};
use crate::body::BoxError;
use crate::client::Rewound;
use crate::config::{Limits, ms};
use crate::deadline::Deadline;
use crate::fault::{Fault, Kind};
use crate::out::Out;
use crate::pace::Pace;
use crate::wire::chunk::{Chunked, Part};
use crate::wire::head::{self, Framing, RequestHead};
use bytes::{Buf, Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::ReadBuf;
use tokio::time::Instant;

/// One read of a head takes at most so much.
const READ_BYTES: usize = 16 << 10;
/// Blocks that bodies are read into; one piece of a body is at most so large.
const BLOCK_BYTES: usize = 64 << 10;
/// What a client may send ahead while its answer is in the making; more waits in the kernel.
const AHEAD_BYTES: usize = 16 << 10;
/// What is left of a request's body after its answer is read and dropped up to here, so that the connection can go on.
const DISCARD_BYTES: u64 = 64 << 10;
/// What is read and thrown away after the last answer, so that the client gets to read it (RFC 9112 section 9.6).
const LINGER_BYTES: u64 = 256 << 10;
const LINGER: Duration = Duration::from_secs(1);
const GO_AHEAD: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A connection, shared by the loop that owns it and the body of the request that it is at.
pub(super) struct Conn<S>(Mutex<Inner<S>>);

struct Inner<S> {
    /// `None` once it is a tunnel's.
    io: Option<S>,
    limits: Arc<Limits>,
    /// Read and not used.
    pending: BytesMut,
    /// How much of `pending` was scanned for the end of a head.
    scanned: usize,
    /// Empty lines before the next head, in however many pieces they came.
    skipped: u32,
    reading: Reading,
    /// Requests so far: a body reads only while its own is the last.
    number: u64,
    go_ahead: GoAhead,
    /// The client has ended its side.
    eof: bool,
    head_since: Option<Instant>,
    last_activity: Instant,
    /// Since when the client takes nothing of what is written.
    blocked_since: Option<Instant>,
    deadline: Deadline,
    body_pace: Pace,
    /// Until when, and how much so far.
    discarded: Option<(Instant, u64)>,
    shut_down: bool,
    refused: bool,
}

enum Reading {
    /// Between messages, or in a head.
    Head,
    Length(u64),
    Chunked(Chunked),
    /// A body turned out to be wrong.
    Broken(Fault),
}

/// 100 Continue.
enum GoAhead {
    /// Not awaited, or said, or too late.
    No,
    Awaited,
    /// So much is still to be written.
    Part(&'static [u8]),
}

/// What a connection brings next.
pub(super) enum Next {
    Request(Box<RequestHead>),
    /// Why, and the start of what came.
    Refused(Fault, String),
    /// The client left, or stayed idle for too long.
    Over,
}

thread_local! {
    /// One buffer for each thread, not for each connection: an idle connection holds none.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into_boxed_slice());
    /// Bodies are read into blocks that are used again when nobody holds a piece of them any more.
    static BLOCK: RefCell<BytesMut> = RefCell::default();
}

impl<S: Transport> Conn<S> {
    pub(super) fn new(io: S, already: BytesMut, limits: Arc<Limits>) -> Self {
        Self(Mutex::new(Inner {
            io: Some(io),
            limits,
            pending: already,
            scanned: 0,
            skipped: 0,
            reading: Reading::Head,
            number: 0,
            go_ahead: GoAhead::No,
            eof: false,
            head_since: None,
            last_activity: Instant::now(),
            blocked_since: None,
            deadline: Deadline::default(),
            body_pace: Pace::default(),
            discarded: None,
            shut_down: false,
            refused: false,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Inner<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next head.
    pub(super) fn poll_head(&self, cx: &mut Context<'_>) -> Poll<Next> {
        let inner = &mut *self.lock();
        loop {
            match inner.take_head() {
                Err(fault) => return Poll::Ready(inner.refuse(fault)),
                Ok(Some(head)) => return Poll::Ready(Next::Request(Box::new(head))),
                Ok(None) if inner.eof => return Poll::Ready(Next::Over),
                Ok(None) => {}
            }
            match inner.fill(cx) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(_) => return Poll::Ready(Next::Over),
                Poll::Pending => return inner.wait_for_head(cx),
            }
        }
    }

    /// When something was last done on it.
    pub(super) fn last_activity(&self) -> Instant {
        self.lock().last_activity
    }

    /// A part of a head is there.
    pub(super) fn has_begun(&self) -> bool {
        self.lock().head_since.is_some()
    }

    /// While the answer is in the making: ready when the client is gone for sure, or for too long.
    pub(super) fn poll_watch(&self, cx: &mut Context<'_>) -> Poll<()> {
        let inner = &mut *self.lock();
        // Whoever reads the body will notice.
        if !matches!(inner.reading, Reading::Head) {
            return Poll::Pending;
        }
        while !inner.eof && inner.pending.len() < AHEAD_BYTES {
            match ready!(inner.fill(cx)) {
                Ok(0) => {
                    inner.eof = true;
                    inner.last_activity = Instant::now();
                }
                Ok(_) => {}
                Err(_) => return Poll::Ready(()),
            }
        }
        match inner.eof {
            true => inner.deadline.poll(cx, inner.last_activity + HALF_CLOSED),
            false => Poll::Pending,
        }
    }

    /// The client had ended its side, and what was written to it since has come back as an error.
    pub(super) fn has_left(&self) -> bool {
        let inner = self.lock();
        inner.eof && inner.io.as_ref().is_none_or(S::is_broken)
    }

    /// The final answer begins: whether the connection can be used for another one after it.
    pub(super) fn begin_answer(&self) -> bool {
        let inner = &mut *self.lock();
        let awaited = matches!(inner.go_ahead, GoAhead::Awaited);
        if awaited {
            inner.go_ahead = GoAhead::No;
        }
        match inner.reading {
            Reading::Head => true,
            // Whether the body comes nobody can say.
            Reading::Length(_) | Reading::Chunked(_) if awaited || inner.eof => false,
            Reading::Length(left) => left <= DISCARD_BYTES,
            Reading::Chunked(_) => true,
            Reading::Broken(_) => false,
        }
    }

    /// Writes what waits, all of it.
    pub(super) fn poll_flush(&self, cx: &mut Context<'_>, out: &mut Out) -> Poll<io::Result<()>> {
        self.lock().poll_flush(cx, out)
    }

    /// After an answer: drops the rest of the request's body. `false` when that takes too long or too much.
    pub(super) fn poll_discard(&self, cx: &mut Context<'_>) -> Poll<bool> {
        let inner = &mut *self.lock();
        if !matches!(inner.reading, Reading::Head) {
            inner.last_activity = Instant::now();
        }
        let number = inner.number;
        loop {
            if matches!(inner.reading, Reading::Head) {
                inner.discarded = None;
                return Poll::Ready(true);
            }
            let (until, bytes) = *inner
                .discarded
                .get_or_insert_with(|| (Instant::now() + LINGER, 0));
            match inner.poll_body(cx, number) {
                Poll::Ready(Some(Ok(frame))) => {
                    let bytes = bytes + frame.data_ref().map_or(0, Bytes::len) as u64;
                    inner.discarded = Some((until, bytes));
                    if bytes > DISCARD_BYTES {
                        return Poll::Ready(false);
                    }
                }
                Poll::Ready(None) => {}
                Poll::Ready(Some(Err(_))) => return Poll::Ready(false),
                Poll::Pending => return inner.deadline.poll(cx, until).map(|()| false),
            }
        }
    }

    /// Ends the connection: the unread rest of what the client sent is read and dropped for a moment, because closing a
    /// socket with unread bytes resets the connection, and the client may lose the answer.
    pub(super) fn poll_farewell(&self, cx: &mut Context<'_>) -> Poll<()> {
        let inner = &mut *self.lock();
        if !inner.shut_down {
            if let Some(io) = &mut inner.io {
                // A failure here is the client's absence.
                let _ = ready!(Pin::new(io).poll_shutdown(cx));
            }
            inner.shut_down = true;
            inner.discarded = None;
        }
        let owed = inner.refused || !matches!(inner.reading, Reading::Head) || !inner.pending.is_empty();
        let (until, mut bytes) = *inner
            .discarded
            .get_or_insert_with(|| (Instant::now() + LINGER, 0));
        loop {
            inner.pending = BytesMut::new();
            match inner.fill(cx) {
                Poll::Ready(Ok(count @ 1..)) => {
                    bytes += count as u64;
                    inner.discarded = Some((until, bytes));
                    if bytes > LINGER_BYTES {
                        return Poll::Ready(());
                    }
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending if owed || bytes > 0 => return inner.deadline.poll(cx, until),
                Poll::Pending => return Poll::Ready(()),
            }
        }
    }

    /// What the client got must not look whole.
    pub(super) fn reset(&self) {
        if let Some(io) = &self.lock().io {
            io.reset();
        }
    }

    /// The connection, for a tunnel: what was read of it comes first.
    pub(super) fn take(&self) -> Option<Rewound<S>> {
        let inner = &mut *self.lock();
        let read = std::mem::take(&mut inner.pending).freeze();
        inner.io.take().map(|io| Rewound::new(read, io))
    }
}

impl<S: Transport> Inner<S> {
    /// Takes one whole head from `pending`, if there is one.
    fn take_head(&mut self) -> Result<Option<RequestHead>, Fault> {
        // An empty line may itself arrive in two pieces.
        if self.scanned <= 1 {
            self.skip_empty_lines()?;
        }
        if self.pending.is_empty() {
            self.pending = BytesMut::new();
            self.head_since = None;
            return Ok(None);
        }
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
            self.head_since.get_or_insert_with(Instant::now);
            return Ok(None);
        }
        let head = if length == self.pending.len() {
            let bytes = std::mem::take(&mut self.pending).freeze();
            head::parse(&bytes, &self.limits).inspect_err(|_| {
                // A refusal quotes it.
                self.pending = BytesMut::from(bytes);
            })?
        } else {
            let head = head::parse(&Bytes::copy_from_slice(&self.pending[..length]), &self.limits)?;
            self.pending.advance(length);
            head
        };
        self.number += 1;
        self.scanned = 0;
        self.skipped = 0;
        self.head_since = None;
        self.body_pace = Pace::default();
        self.reading = match head.framing {
            Framing::Empty | Framing::Upgrade => Reading::Head,
            Framing::Length(length) => Reading::Length(length),
            Framing::Chunked => Reading::Chunked(Chunked::default()),
        };
        self.go_ahead = match head.expects_continue && !matches!(self.reading, Reading::Head) {
            true => GoAhead::Awaited,
            false => GoAhead::No,
        };
        Ok(Some(head))
    }

    /// A few empty lines before a request are ignored (RFC 9112 section 2.2); old clients send one after a POST.
    fn skip_empty_lines(&mut self) -> Result<(), Fault> {
        while self.pending.starts_with(b"\r\n") {
            self.pending.advance(2);
            self.scanned = 0;
            self.skipped += 1;
            if self.skipped > 4 {
                return Err(Kind::Malformed.because("empty lines instead of a request"));
            }
        }
        Ok(())
    }

    fn refuse(&mut self, fault: Fault) -> Next {
        let line = self.pending[..]
            .split(|&b| b == b'\r' || b == b'\n')
            .find(|line| !line.is_empty())
            .unwrap_or_default();
        let first_line = String::from_utf8_lossy(&line[..line.len().min(512)]).into_owned();
        self.pending = BytesMut::new();
        self.refused = true;
        self.number += 1;
        Next::Refused(fault, first_line)
    }

    /// Reads into `pending`.
    fn fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Self { io, pending, .. } = self;
        let Some(io) = io else {
            return Poll::Ready(Ok(0));
        };
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(io).poll_read(cx, &mut buffer))?;
            pending.extend_from_slice(buffer.filled());
            Poll::Ready(Ok(buffer.filled().len()))
        })
    }

    /// Nothing to read just now. Ready when the client has had its time.
    fn wait_for_head(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        if let Some(since) = self.head_since {
            ready!(self.deadline.poll(cx, since + ms(self.limits.header_timeout_ms)));
            let late = Kind::HeadTimeout.because("the request head did not arrive in time");
            return Poll::Ready(self.refuse(late));
        }
        let idle = ms(self.limits.idle_timeout_ms);
        self.deadline
            .poll(cx, self.last_activity + idle)
            .map(|()| Next::Over)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>, out: &mut Out) -> Poll<io::Result<()>> {
        let Some(io) = &mut self.io else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let written = match &mut self.go_ahead {
            GoAhead::Part(rest) => write_static(io, cx, rest),
            _ => Poll::Ready(Ok(())),
        };
        let flushed = match written {
            Poll::Ready(Ok(())) => out.poll_write_all(Pin::new(&mut *io), cx),
            other => other.map_ok(|()| false),
        };
        match flushed {
            Poll::Ready(Ok(progress)) => {
                if progress {
                    self.blocked_since = None;
                    self.last_activity = Instant::now();
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            // A client that reads nothing of its answer does not hold it for ever.
            Poll::Pending => {
                if out.take_progress() {
                    self.blocked_since = None;
                }
                let since = *self.blocked_since.get_or_insert_with(Instant::now);
                let patience = ms(self.limits.body_idle_timeout_ms);
                ready!(self.deadline.poll(cx, since + patience));
                Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    Kind::ClientGone.because("the client reads nothing of its answer"),
                )))
            }
        }
    }

    /// The next piece of a request's body.
    fn poll_body(&mut self, cx: &mut Context<'_>, number: u64) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        if number != self.number {
            let over = Kind::ClientGone.because("the request is over");
            return Poll::Ready(Some(Err(over)));
        }
        if let Err(gone) = self.say_go_ahead(cx) {
            return Poll::Ready(Some(Err(self.break_with(gone))));
        }
        loop {
            match &mut self.reading {
                Reading::Head => return Poll::Ready(None),
                Reading::Broken(fault) => return Poll::Ready(Some(Err(*fault))),
                _ if self.pending.is_empty() => {}
                Reading::Length(left) => {
                    let here = usize::try_from(*left)
                        .unwrap_or(usize::MAX)
                        .min(self.pending.len());
                    *left -= here as u64;
                    let data = self.pending.split_to(here).freeze();
                    if *left == 0 {
                        self.body_is_read();
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Reading::Chunked(chunked) => match chunked.next(&self.pending) {
                    Ok(Part::Data { skip, length }) => {
                        self.pending.advance(skip);
                        let data = self.pending.split_to(length).freeze();
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                    Ok(Part::More) => self.pending = BytesMut::new(),
                    Ok(Part::End(used)) => {
                        let trailers = chunked.take_trailers();
                        self.pending.advance(used);
                        self.body_is_read();
                        return Poll::Ready(match trailers {
                            Ok(trailers) => trailers.map(|trailers| Ok(Frame::trailers(trailers))),
                            Err(fault) => Some(Err(self.break_with(fault))),
                        });
                    }
                    Err(fault) => return Poll::Ready(Some(Err(self.break_with(fault)))),
                },
            }
            match self.fill_body(cx) {
                Poll::Ready(Ok(count @ 1..)) => {
                    self.body_pace.moved(count as u64, Instant::now());
                }
                Poll::Ready(_) => {
                    self.eof = true;
                    let gone =
                        Kind::ClientGone.because("the client went away in the middle of the request body");
                    return Poll::Ready(Some(Err(self.break_with(gone))));
                }
                Poll::Pending => {
                    let until = self.body_pace.deadline(&self.limits, Instant::now());
                    ready!(self.deadline.poll(cx, until));
                    let late = Kind::BodyTimeout.because("the request body did not arrive in time");
                    return Poll::Ready(Some(Err(self.break_with(late))));
                }
            }
        }
    }

    /// The client waits for it with its body (RFC 9110 section 10.1.1): said when the body is first asked for.
    fn say_go_ahead(&mut self, cx: &mut Context<'_>) -> Result<(), Fault> {
        if matches!(self.go_ahead, GoAhead::Awaited) {
            self.go_ahead = GoAhead::Part(GO_AHEAD);
        }
        let (GoAhead::Part(rest), Some(io)) = (&mut self.go_ahead, &mut self.io) else {
            return Ok(());
        };
        match write_static(io, cx, rest) {
            Poll::Ready(Ok(())) => self.go_ahead = GoAhead::No,
            Poll::Ready(Err(_)) => return Err(Kind::ClientGone.because("the client went away")),
            Poll::Pending => {}
        }
        Ok(())
    }

    fn body_is_read(&mut self) {
        self.reading = Reading::Head;
        self.last_activity = Instant::now();
        // What is left is the start of a next request: it must not hold a whole block.
        self.pending = match self.pending.is_empty() {
            true => BytesMut::new(),
            false => BytesMut::from(&self.pending[..]),
        };
    }

    fn break_with(&mut self, fault: Fault) -> Fault {
        self.reading = Reading::Broken(fault);
        self.pending = BytesMut::new();
        fault
    }

    /// Reads into a block of the thread; `pending`, which is empty, becomes a piece of it.
    fn fill_body(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Self { io, pending, .. } = self;
        let Some(io) = io else {
            return Poll::Ready(Ok(0));
        };
        BLOCK.with_borrow_mut(|block| {
            if block.capacity() < READ_BYTES {
                block.reserve(BLOCK_BYTES);
            }
            let count = ready!(tokio_util::io::poll_read_buf(Pin::new(io), cx, block))?;
            *pending = block.split();
            Poll::Ready(Ok(count))
        })
    }
}

fn write_static<S: Transport>(
    io: &mut S,
    cx: &mut Context<'_>,
    rest: &mut &'static [u8],
) -> Poll<io::Result<()>> {
    while !rest.is_empty() {
        match ready!(Pin::new(&mut *io).poll_write(cx, rest))? {
            0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            count => *rest = &rest[count..],
        }
    }
    Pin::new(io).poll_flush(cx)
}

/// The body of the request that a connection is at.
pub(super) struct RequestBody<S> {
    conn: Arc<Conn<S>>,
    number: u64,
}

impl<S: Transport> RequestBody<S> {
    pub(super) fn of(conn: &Arc<Conn<S>>) -> Self {
        let number = conn.lock().number;
        Self {
            conn: conn.clone(),
            number,
        }
    }
}

impl<S: Transport> http_body::Body for RequestBody<S> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(self.conn.lock().poll_body(cx, self.number));
        Poll::Ready(frame.map(|frame| frame.map_err(|fault| Box::new(fault) as BoxError)))
    }

    fn is_end_stream(&self) -> bool {
        let inner = self.conn.lock();
        inner.number == self.number && matches!(inner.reading, Reading::Head)
    }

    fn size_hint(&self) -> SizeHint {
        match self.conn.lock().reading {
            Reading::Length(left) => SizeHint::with_exact(left),
            _ => SizeHint::default(),
        }
    }
}
