//! A stored response with its content, as memory holds it.

use astraler_http_cache::{Key, Stored};
use astraler_model::Environment;
use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Instant, SystemTime};

/// What an entry costs beside its text and content: itself, its places in map and queue, tables.
const BASE_WEIGHT: u64 = 900;
/// What a header field costs beside its text.
const FIELD_WEIGHT: u64 = 80;
/// Uses beyond these make no difference to eviction.
const MOST_USES: u8 = 3;

/// `Cache-Tag` values, in lower case; purges compare in lower case too, as Cloudflare does.
pub(super) const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");
/// Of one response; more are not looked at (Cloudflare takes 1,000 of 1,024 bytes and 16 KB in all).
const MAX_TAGS: usize = 1000;

/// Now, by both clocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub(super) wall: SystemTime,
    pub(super) steady: Instant,
}

impl Now {
    pub(super) fn get() -> Self {
        Self {
            wall: SystemTime::now(),
            steady: Instant::now(),
        }
    }
}

/// Where a response comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lineage {
    pub(super) environment: Environment,
    pub(super) deployment: Arc<str>,
}

/// Some bytes of a representation.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) first: u64,
    pub(super) bytes: Bytes,
}

impl Piece {
    /// The byte after its last.
    pub(super) fn end(&self) -> u64 {
        self.first + self.bytes.len() as u64
    }
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) stored: Stored,
    pub(super) body: Bytes,
    /// In order and apart, where not all of the content is there: then there is nothing in `body`.
    pub(super) pieces: Box<[Piece]>,
    pub(super) lineage: Lineage,
    pub(super) tags: Box<[Box<str>]>,
    /// What had been purged when its request was sent: see [`super::purge`].
    pub(super) epoch: u64,
    /// A moment by both clocks, not before the one from which its age counts.
    pub(super) anchor: Now,
    pub(super) weight: u64,
    uses: AtomicU8,
    /// For the eviction queues.
    pub(super) in_main: AtomicBool,
    pub(super) gone: AtomicBool,
    /// It went to make room, for no other reason.
    pub(super) evicted: AtomicBool,
}

/// What [`Entry::new`] needs besides the response.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub(super) key: Key,
    pub(super) lineage: Lineage,
    pub(super) tags: Box<[Box<str>]>,
    pub(super) epoch: u64,
}

impl Entry {
    pub(super) fn new(origin: Origin, mut stored: Stored, body: Bytes, anchor: Now) -> Self {
        stored.headers = owned(&stored.headers);
        let fields: u64 = stored
            .headers
            .iter()
            .map(|(name, value)| (name.as_str().len() + value.len()) as u64 + FIELD_WEIGHT)
            .sum();
        let variant: usize = stored
            .variant
            .request_fields()
            .map(|(_, value)| value.len())
            .sum();
        let tags: usize = origin.tags.iter().map(|tag| tag.len() + 24).sum();
        let text = (2 * origin.key.as_str().len() + variant + tags) as u64;
        Self {
            weight: BASE_WEIGHT + fields + text + body.len() as u64,
            key: origin.key,
            stored,
            body,
            pieces: Box::default(),
            lineage: origin.lineage,
            tags: origin.tags,
            epoch: origin.epoch,
            anchor,
            uses: AtomicU8::new(0),
            in_main: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            evicted: AtomicBool::new(false),
        }
    }

    /// Of which there are parts.
    pub(super) fn partial(origin: Origin, stored: Stored, pieces: Vec<Piece>, anchor: Now) -> Self {
        let mut entry = Self::new(origin, stored, Bytes::new(), anchor);
        let bytes: u64 = pieces
            .iter()
            .map(|piece| piece.bytes.len() as u64 + FIELD_WEIGHT)
            .sum();
        entry.weight += bytes;
        entry.pieces = pieces.into();
        entry
    }

    pub(super) fn is_partial(&self) -> bool {
        !self.pieces.is_empty()
    }

    /// The same content with newer fields.
    pub(super) fn freshened(
        &self,
        stored: Stored,
        lineage: Lineage,
        tags: Option<Box<[Box<str>]>>,
        epoch: u64,
    ) -> Self {
        let origin = Origin {
            key: self.key.clone(),
            lineage,
            tags: tags.unwrap_or_else(|| self.tags.clone()),
            epoch,
        };
        match self.is_partial() {
            true => Self::partial(origin, stored, self.pieces.to_vec(), Now::get()),
            false => Self::new(origin, stored, self.body.clone(), Now::get()),
        }
    }

    /// The time to judge it by. A clock that is set back must not make it young again, and one that stood still while
    /// the machine slept neither: the later of both counts.
    pub(super) fn time(&self, now: Now) -> SystemTime {
        let lived = now.steady.saturating_duration_since(self.anchor.steady);
        self.anchor
            .wall
            .checked_add(lived)
            .map_or(now.wall, |steady| steady.max(now.wall))
    }

    /// Replaced, purged or void: not to be kept anywhere.
    pub(super) fn is_void(&self) -> bool {
        self.gone.load(Ordering::Acquire) && !self.evicted.load(Ordering::Acquire)
    }

    pub(super) fn used(&self) {
        let uses = self.uses.load(Ordering::Relaxed);
        if uses < MOST_USES {
            self.uses.store(uses + 1, Ordering::Relaxed);
        }
    }

    /// Takes a use off; whether there was one.
    pub(super) fn spend_use(&self) -> bool {
        let uses = self.uses.load(Ordering::Relaxed);
        self.uses.store(uses.saturating_sub(1), Ordering::Relaxed);
        uses > 0
    }
}

/// The same fields in memory of their own: as they came, each would keep the whole buffer that it was read into.
fn owned(headers: &HeaderMap) -> HeaderMap {
    let mut own = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            own.append(name.clone(), value);
        }
    }
    own
}

/// Takes the tags out of a response: they are for caches, not for clients. `None` where there is no such field.
pub(super) fn take_tags(headers: &mut HeaderMap) -> Option<Box<[Box<str>]>> {
    if !headers.contains_key(&CACHE_TAG) {
        return None;
    }
    let tags = headers
        .get_all(&CACHE_TAG)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(|tag| tag.trim().to_ascii_lowercase())
        .filter(|tag| !tag.is_empty())
        .take(MAX_TAGS)
        .map(String::into_boxed_str)
        .collect();
    headers.remove(&CACHE_TAG);
    Some(tags)
}
