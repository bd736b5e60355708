//! Parts of responses (206): kept in memory as they come, put together, and whole once nothing is missing (RFC 9111
//! sections 3.3 and 3.4).
//!
//! A part is stored when its client has read it to its end; nobody waits for it, and nobody reads ahead. What is there of
//! a representation is one entry, with the variants, purges and eviction of all others. It answers requests for bytes that
//! it has, and for those alone.

use super::ask::{Came, Got, forwarded};
use super::entry::{Entry, Now, Origin, Piece};
use super::memory::Found;
use super::respond::{Told, Word};
use super::{Cache, Cached};
use crate::body::{Body, BoxError};
use astraler_http_cache::{
    Answer, Asked, Forward, Part, Settings, Times, admit_part, answer, same_representation,
};
use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode};
use http_body::{Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

/// Of one representation; one more is not kept.
const MAX_PIECES: usize = 512;

/// Passes a 206 on, and keeps what passes.
pub(super) fn pass(call: &Cached<'_>, part: Part, came: Came, response: Response<Body>) -> Got {
    let cache = &call.edge.cache;
    let length = part.last - part.first + 1;
    let freshness = part.stored.freshness(came.anchor.wall);
    let word = match came.why {
        Forward::UriMiss | Forward::VaryMiss | Forward::Miss | Forward::Partial => Word::Miss,
        _ => Word::Expired,
    };
    let fits = length <= cache.max_object.load(Ordering::Relaxed);
    let told = Told {
        word,
        outcome: forwarded(came.why, None, fits),
        ttl: fits.then_some(freshness.ttl),
        detail: (!fits).then_some("too-large"),
    };
    if !fits {
        return Got::Pass(response, told);
    }
    let reserved = cache.filling.fetch_add(length, Ordering::Relaxed) + length;
    let keeping = Keeping {
        cache: cache.clone(),
        part,
        origin: came.origin,
        anchor: came.anchor,
        reserved: length,
        bytes: (reserved <= (cache.memory.max() / 2)).then(BytesMut::new),
    };
    let (parts, inner) = response.into_parts();
    let body = Body::new(Kept { inner, keeping });
    Got::Pass(Response::from_parts(parts, body), told)
}

/// What is there of a representation from its first byte on.
pub(super) struct Beginning {
    of: Arc<Entry>,
    bytes: Bytes,
}

/// For a request for the whole, of which the beginning is there.
pub(super) fn beginning(call: &Cached<'_>, asked: &Asked<'_>) -> Option<Beginning> {
    let Found::Entry(of) = call.edge.cache.memory.find(call.key, asked) else {
        return None;
    };
    let ours = of.is_partial() && of.lineage.deployment == call.rules.deployment;
    let plain = *asked.method == Method::GET && !asked.headers.contains_key(header::RANGE);
    let mut end = 0;
    for piece in of.pieces.iter().filter(|_| ours && plain) {
        if piece.first == end {
            end = piece.end();
        }
    }
    let bytes = of.part(0, end.checked_sub(1)?)?;
    Some(Beginning { of, bytes })
}

impl Beginning {
    /// Makes a request for the whole one for what is missing, if that is of the same representation (RFC 9110 section
    /// 13.1.5).
    pub(super) fn ask_for_the_rest(&self, headers: &mut HeaderMap) {
        let range = HeaderValue::try_from(format!("bytes={}-", self.bytes.len()));
        if let (Ok(range), Some(tag)) = (range, self.of.stored.etag()) {
            headers.insert(header::RANGE, range);
            headers.insert(header::IF_RANGE, tag.clone());
        }
    }

    /// The whole, of what is there and its rest; `None` where that is not the rest.
    pub(super) fn with_the_rest(
        self,
        response: Response<Body>,
        times: Times,
        settings: &Settings,
    ) -> Option<Response<Body>> {
        let mut headers = HeaderMap::new();
        self.ask_for_the_rest(&mut headers);
        let asked = Asked::new(&Method::GET, &headers, settings);
        let part = admit_part(&asked, response.status(), response.headers(), times, settings).ok()?;
        let length = self.of.stored.length?;
        let fits = part.first == self.bytes.len() as u64 && part.last + 1 == length;
        if !fits || !same_representation(&self.of.stored, &part.stored) {
            return None;
        }
        let (mut parts, rest) = response.into_parts();
        parts.status = StatusCode::OK;
        parts.headers.remove(header::CONTENT_RANGE);
        parts
            .headers
            .insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        let whole = Joined {
            first: Some(self.bytes),
            rest,
        };
        Some(Response::from_parts(parts, Body::new(whole)))
    }
}

/// Content in two pieces.
struct Joined {
    first: Option<Bytes>,
    rest: Body,
}

impl http_body::Body for Joined {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(Ok(Frame::data(first)))),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }
}

/// A part on its way to its client.
struct Kept {
    inner: Body,
    keeping: Keeping,
}

struct Keeping {
    cache: Arc<Cache>,
    part: Part,
    origin: Origin,
    anchor: Now,
    reserved: u64,
    /// What has passed; `None` where it is not kept, or was.
    bytes: Option<BytesMut>,
}

impl Keeping {
    fn passed(&mut self, data: &Bytes) {
        let length = self.part.last - self.part.first + 1;
        let Some(bytes) = &mut self.bytes else { return };
        bytes.extend_from_slice(data);
        match (bytes.len() as u64).cmp(&length) {
            std::cmp::Ordering::Less => {}
            // More than its head said is not what its head said.
            std::cmp::Ordering::Greater => self.bytes = None,
            // Stored before the last byte is out: who has read it may ask again.
            std::cmp::Ordering::Equal => {
                if let Some(bytes) = self.bytes.take() {
                    let piece = Piece {
                        first: self.part.first,
                        bytes: bytes.freeze(),
                    };
                    self.cache
                        .store_part(&self.part, &self.origin, self.anchor, &piece);
                }
            }
        }
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        self.cache.filling.fetch_sub(self.reserved, Ordering::Relaxed);
    }
}

impl http_body::Body for Kept {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.keeping.passed(data);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Cache {
    /// Puts a part to those that are there. Of two that come at once one may be lost; it comes again.
    fn store_part(&self, part: &Part, origin: &Origin, anchor: Now, piece: &Piece) {
        let old = self
            .memory
            .variants(&origin.key)
            .into_iter()
            .find(|entry| entry.stored.variant == part.stored.variant);
        if old
            .as_ref()
            .is_some_and(|old| !old.is_partial() && !old.is_void())
        {
            // The whole came meanwhile.
            return;
        }
        let belongs = |old: &&Arc<Entry>| {
            old.lineage == origin.lineage && same_representation(&old.stored, &part.stored)
        };
        let mut pieces = old
            .as_ref()
            .filter(belongs)
            .map_or_else(Vec::new, |old| old.pieces.to_vec());
        add(&mut pieces, piece);
        let held: u64 = pieces.iter().map(|piece| piece.bytes.len() as u64).sum();
        if pieces.len() > MAX_PIECES || held > self.max_object.load(Ordering::Relaxed) {
            return;
        }
        let mut stored = part.stored.clone();
        let entry = if stored.length == Some(held) {
            let mut content = BytesMut::with_capacity(usize::try_from(held).unwrap_or_default());
            for piece in &pieces {
                content.extend_from_slice(&piece.bytes);
            }
            stored.length = None;
            let Ok(stored) = stored.complete(held) else { return };
            Entry::new(origin.clone(), stored, content.freeze(), anchor)
        } else {
            Entry::partial(origin.clone(), stored, pieces, anchor)
        };
        self.keep(&Arc::new(entry));
    }
}

/// Adds what is not there yet; pieces stay in order and apart.
fn add(pieces: &mut Vec<Piece>, piece: &Piece) {
    let (start, end) = (piece.first, piece.end());
    let mut first = start;
    let mut gaps = Vec::new();
    for there in pieces
        .iter()
        .filter(|there| there.end() > start && there.first < end)
    {
        if there.first > first {
            gaps.push((first, there.first));
        }
        first = there.end();
    }
    if first < end {
        gaps.push((first, end));
    }
    let at = |position: u64| usize::try_from(position - piece.first).unwrap_or(usize::MAX);
    for (first, end) in gaps {
        let bytes = match (first, end) == (piece.first, piece.end()) {
            true => piece.bytes.clone(),
            // In memory of its own: else the rest would stay, too.
            false => Bytes::copy_from_slice(&piece.bytes[at(first)..at(end)]),
        };
        pieces.push(Piece { first, bytes });
    }
    pieces.sort_unstable_by_key(|piece| piece.first);
}

impl Entry {
    /// Whether it can answer this request: a whole response any, one of which there are parts for what is there.
    pub(super) fn can_answer(&self, asked: &Asked<'_>) -> bool {
        !self.is_partial()
            || *asked.method == Method::GET
                && match answer(asked, &self.stored) {
                    Answer::Part { first, last } => self.part(first, last).is_some(),
                    Answer::Unsatisfiable | Answer::NotModified => true,
                    Answer::Whole => false,
                }
    }

    /// These bytes, both ends included, where all of them are there.
    pub(super) fn part(&self, first: u64, last: u64) -> Option<Bytes> {
        if !self.is_partial() {
            return Some(slice(&self.body, first, last));
        }
        let mut found = BytesMut::new();
        let mut next = first;
        for piece in self.pieces.iter().filter(|piece| piece.end() > first) {
            if piece.first > next {
                return None;
            }
            let end = piece.end().min(last + 1);
            let bytes = slice(&piece.bytes, next - piece.first, end - 1 - piece.first);
            if next == first && end > last {
                return Some(bytes);
            }
            found.extend_from_slice(&bytes);
            next = end;
            if next > last {
                return Some(found.freeze());
            }
        }
        None
    }
}

fn slice(bytes: &Bytes, first: u64, last: u64) -> Bytes {
    let at = |position| usize::try_from(position).unwrap_or(usize::MAX).min(bytes.len());
    let end = at(last.saturating_add(1));
    bytes.slice(at(first).min(end)..end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever comes in whatever order: pieces are in order and apart, and hold what was said of their places.
        #[test]
        fn pieces_are_what_came(parts in proptest::collection::vec((0_u8..60, 1_u8..20), 1..20)) {
            let mut pieces = Vec::new();
            let mut there = std::collections::BTreeSet::new();
            for (first, length) in parts {
                let bytes: Vec<u8> = (first..first + length).collect();
                there.extend(bytes.iter().copied());
                add(&mut pieces, &Piece { first: u64::from(first), bytes: bytes.into() });
            }
            let mut end = 0;
            let mut found = Vec::new();
            for piece in &pieces {
                prop_assert!(piece.first >= end && !piece.bytes.is_empty());
                prop_assert_eq!(u64::from(piece.bytes[0]), piece.first);
                end = piece.end();
                found.extend_from_slice(&piece.bytes);
            }
            prop_assert_eq!(found, there.into_iter().collect::<Vec<_>>());
        }
    }
}
