//! What waits to be written: pieces, not copies, so that a head and the bytes of a body leave in one write.

use crate::text::{decimal, hexadecimal};
use bytes::{Buf, Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

/// Pieces of one write.
const PIECES: usize = 16;
/// Pieces that are no more than so much together are copied: that costs less than to tell the system of each.
const COPIED_BYTES: usize = 2 << 10;
/// No more is taken from a body while so much waits.
const HIGH_WATER: usize = 64 << 10;
/// Blocks that heads and chunk sizes are written into.
const BLOCK_BYTES: usize = 16 << 10;

thread_local! {
    /// Used again when what was written into it has left.
    static BLOCK: RefCell<BytesMut> = RefCell::default();
}

/// Pieces in their order.
#[derive(Debug, Default)]
pub(crate) struct Out {
    pieces: VecDeque<Bytes>,
    bytes: usize,
    progress: bool,
    /// Written, but perhaps no further than a buffer of the stream (TLS).
    unflushed: bool,
}

impl Out {
    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    pub(crate) fn has_room(&self) -> bool {
        self.bytes < HIGH_WATER && self.pieces.len() + 3 <= PIECES
    }

    pub(crate) fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.bytes += piece.len();
            self.pieces.push_back(piece);
        }
    }

    /// Text that is put together here.
    pub(crate) fn write(&mut self, expected: usize, text: impl FnOnce(&mut BytesMut)) {
        self.push(text_of(expected, text));
    }

    /// A chunk of a body (RFC 9112 section 7.1).
    pub(crate) fn chunk(&mut self, data: Bytes) {
        // A chunk of nothing would be the end.
        if data.is_empty() {
            return;
        }
        self.write(24, |block| {
            hexadecimal(block, data.len() as u64);
            block.extend_from_slice(b"\r\n");
        });
        self.push(data);
        self.push(Bytes::from_static(b"\r\n"));
    }

    /// The end of a chunked body, with trailers.
    pub(crate) fn last_chunk(&mut self, trailers: Option<&HeaderMap>) {
        let Some(trailers) = trailers.filter(|trailers| !trailers.is_empty()) else {
            return self.push(Bytes::from_static(b"0\r\n\r\n"));
        };
        self.write(16 + size_of_fields(trailers), |block| {
            block.extend_from_slice(b"0\r\n");
            fields(block, trailers);
            block.extend_from_slice(b"\r\n");
        });
    }

    /// Something was written since this was last asked.
    pub(crate) fn take_progress(&mut self) -> bool {
        std::mem::take(&mut self.progress)
    }

    /// Writes all of it, and says whether there was anything.
    pub(crate) fn poll_write_all<S: AsyncWrite>(
        &mut self,
        mut io: Pin<&mut S>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<bool>> {
        if self.pieces.is_empty() && !self.unflushed {
            return Poll::Ready(Ok(false));
        }
        while !self.pieces.is_empty() {
            let written = if self.pieces.len() > 1 && self.bytes <= COPIED_BYTES {
                let mut copied = [0; COPIED_BYTES];
                let mut count = 0;
                for piece in &self.pieces {
                    copied[count..count + piece.len()].copy_from_slice(piece);
                    count += piece.len();
                }
                ready!(io.as_mut().poll_write(cx, &copied[..count]))?
            } else if io.is_write_vectored() && self.pieces.len() > 1 {
                let mut slices = [IoSlice::new(&[]); PIECES];
                let mut count = 0;
                for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
                    *slice = IoSlice::new(piece);
                    count += 1;
                }
                ready!(io.as_mut().poll_write_vectored(cx, &slices[..count]))?
            } else {
                ready!(io.as_mut().poll_write(cx, &self.pieces[0]))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
        }
        ready!(io.poll_flush(cx))?;
        self.unflushed = false;
        self.progress = false;
        Poll::Ready(Ok(true))
    }

    fn advance(&mut self, mut count: usize) {
        self.progress = true;
        self.unflushed = true;
        self.bytes -= count;
        while let Some(first) = self.pieces.front_mut() {
            if count < first.len() {
                first.advance(count);
                return;
            }
            count -= first.len();
            self.pieces.pop_front();
        }
    }
}

/// Text in a block of the thread, as a piece of it.
pub(crate) fn text_of(expected: usize, text: impl FnOnce(&mut BytesMut)) -> Bytes {
    BLOCK.with_borrow_mut(|block| {
        block.clear();
        if block.capacity() < expected {
            block.reserve(BLOCK_BYTES.max(expected));
        }
        text(block);
        block.split().freeze()
    })
}

/// At least as many bytes as the fields take.
pub(crate) fn size_of_fields(headers: &HeaderMap) -> usize {
    headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum()
}

/// All fields but those that are about the connection: framing is the writer's.
pub(crate) fn fields(block: &mut BytesMut, headers: &HeaderMap) {
    for (name, value) in headers {
        if !matches!(
            *name,
            header::CONTENT_LENGTH | header::TRANSFER_ENCODING | header::CONNECTION
        ) {
            field(block, name, value);
        }
    }
}

pub(crate) fn field(block: &mut BytesMut, name: &HeaderName, value: &HeaderValue) {
    block.extend_from_slice(name.as_str().as_bytes());
    block.extend_from_slice(b": ");
    block.extend_from_slice(value.as_bytes());
    block.extend_from_slice(b"\r\n");
}

pub(crate) fn content_length(block: &mut BytesMut, length: u64) {
    block.extend_from_slice(b"content-length: ");
    decimal(block, length);
    block.extend_from_slice(b"\r\n");
}

/// What a message says of its length.
pub(crate) fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_leave_in_order_however_little_the_socket_takes() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (mut here, mut there) = tokio::io::duplex(3);
            let mut out = Out::default();
            out.write(4, |block| block.extend_from_slice(b"head"));
            out.push(Bytes::from_static(b"body of some length"));
            out.push(Bytes::new());
            out.push(Bytes::from_static(b"end"));
            let reader = tokio::spawn(async move {
                let mut all = Vec::new();
                tokio::io::AsyncReadExt::read_to_end(&mut there, &mut all)
                    .await
                    .unwrap();
                all
            });
            let wrote = std::future::poll_fn(|cx| out.poll_write_all(Pin::new(&mut here), cx)).await;
            assert!(wrote.unwrap() && out.is_empty());
            drop(here);
            assert_eq!(reader.await.unwrap(), b"headbody of some lengthend");
        });
    }
    /// A stream with a buffer, as of TLS: what was written leaves with a flush, which has to wait at first.
    #[derive(Default)]
    struct Buffered {
        inside: Vec<u8>,
        out: Vec<u8>,
        waits: u32,
    }

    impl AsyncWrite for Buffered {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
            self.inside.extend_from_slice(data);
            Poll::Ready(Ok(data.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            if self.waits < 3 {
                self.waits += 1;
                return Poll::Pending;
            }
            let inside = std::mem::take(&mut self.inside);
            self.out.extend(inside);
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn a_flush_that_had_to_wait_is_not_forgotten() {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut stream = Buffered::default();
        let mut out = Out::default();
        out.push(Bytes::from_static(b"last words"));
        for _ in 0..3 {
            assert!(out.poll_write_all(Pin::new(&mut stream), &mut cx).is_pending());
            // Asked for in between, by whoever watches that the client reads.
            out.take_progress();
        }
        let written = out.poll_write_all(Pin::new(&mut stream), &mut cx);
        assert!(matches!(written, Poll::Ready(Ok(true))));
        assert_eq!(stream.out, b"last words");
    }
}
