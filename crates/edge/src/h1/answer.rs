//! Answers as bytes: status line, fields, framing, chunks, trailers.

use super::Asked;

use crate::body::{Body, BoxError};
use crate::out::{Out, announced, content_length, field, fields, size_of_fields};
use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap};
use http::response::Parts;
use http::{Response, StatusCode};
use http_body::{Body as _, Frame};
use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

/// How the body of an answer is delimited (RFC 9112 section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    None,
    /// So many bytes are still to come.
    Length(u64),
    Chunked,
    UntilClose,
}

/// An answer whose head has been put into the queue.
#[derive(Debug)]
pub(super) struct Answer {
    framing: Framing,
    trailers: bool,
    /// Nothing more is to be asked of the body.
    pub(super) done: bool,
    /// The connection can be used again after it.
    pub(super) persistent: bool,
}

/// The body ended before its time.
#[derive(Debug)]
pub(super) struct Short;

impl Answer {
    /// Puts the head into the queue.
    pub(super) fn begin(out: &mut Out, asked: Asked, may_persist: bool, parts: &Parts, body: &Body) -> Self {
        let announced = announced(&parts.headers);
        let framing = if asked.head || has_no_body(parts.status) {
            Framing::None
        } else if let Some(length) = announced.or_else(|| body.size_hint().exact()) {
            Framing::Length(length)
        } else if asked.http_10 {
            Framing::UntilClose
        } else {
            Framing::Chunked
        };
        let persistent = may_persist && framing != Framing::UntilClose && !says_close(&parts.headers);
        out.write(1024 + size_of_fields(&parts.headers), |block| {
            status_line(block, parts.status);
            fields(block, &parts.headers);
            match framing {
                // What a GET would have said, where that is known (RFC 9110 section 8.6).
                Framing::None if parts.status != StatusCode::NO_CONTENT => {
                    if let Some(length) = announced {
                        content_length(block, length);
                    }
                }
                Framing::Length(length) => content_length(block, length),
                Framing::Chunked => block.extend_from_slice(b"transfer-encoding: chunked\r\n"),
                Framing::None | Framing::UntilClose => {}
            }
            if !persistent {
                block.extend_from_slice(b"connection: close\r\n");
            } else if asked.http_10 {
                block.extend_from_slice(b"connection: keep-alive\r\n");
            }
            if !parts.headers.contains_key(header::DATE) {
                date(block);
            }
            block.extend_from_slice(b"\r\n");
        });
        Self {
            framing,
            trailers: asked.takes_trailers,
            done: matches!(framing, Framing::None | Framing::Length(0)),
            persistent,
        }
    }

    /// Puts the next frame of the body into the queue, or its end.
    pub(super) fn frame(
        &mut self,
        out: &mut Out,
        frame: Option<Result<Frame<Bytes>, BoxError>>,
    ) -> Result<(), Short> {
        let trailers = match frame {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    self.data(out, data);
                    return Ok(());
                }
                Err(frame) => frame.into_trailers().ok(),
            },
            Some(Err(_)) => return Err(Short),
            None => None,
        };
        match self.framing {
            Framing::Length(left) if left > 0 => return Err(Short),
            Framing::Chunked => {
                out.last_chunk(trailers.filter(|_| self.trailers).as_ref());
            }
            _ => {}
        }
        self.done = true;
        Ok(())
    }

    fn data(&mut self, out: &mut Out, mut data: Bytes) {
        match &mut self.framing {
            Framing::None => {}
            Framing::Length(left) => {
                // More than was announced would be taken for the next answer.
                data.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= data.len() as u64;
                self.done = *left == 0;
                out.push(data);
            }
            Framing::Chunked => out.chunk(data),
            Framing::UntilClose => out.push(data),
        }
    }
}

/// 103 Early Hints (RFC 8297) and its like.
pub(super) fn interim(out: &mut Out, status: StatusCode, headers: &HeaderMap) {
    out.write(64 + size_of_fields(headers), |block| {
        status_line(block, status);
        fields(block, headers);
        block.extend_from_slice(b"\r\n");
    });
}

/// 101, with the fields that say to what.
pub(super) fn switching(out: &mut Out, response: &Response<Body>) {
    out.write(256 + size_of_fields(response.headers()), |block| {
        status_line(block, response.status());
        for (name, value) in response.headers() {
            field(block, name, value);
        }
        date(block);
        block.extend_from_slice(b"\r\n");
    });
}

fn has_no_body(status: StatusCode) -> bool {
    status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

fn says_close(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONNECTION)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"))
}

fn status_line(block: &mut BytesMut, status: StatusCode) {
    if status == StatusCode::OK {
        block.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    block.extend_from_slice(b"HTTP/1.1 ");
    block.extend_from_slice(status.as_str().as_bytes());
    block.extend_from_slice(b" ");
    block.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    block.extend_from_slice(b"\r\n");
}

fn date(block: &mut BytesMut) {
    thread_local! {
        /// The second, and the line that says it.
        static DATE: RefCell<(u64, String)> = RefCell::default();
    }
    let now = SystemTime::now();
    let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    DATE.with_borrow_mut(|(of, line)| {
        if *of != second {
            *of = second;
            *line = format!("date: {}\r\n", httpdate::fmt_http_date(now));
        }
        block.extend_from_slice(line.as_bytes());
    });
}
