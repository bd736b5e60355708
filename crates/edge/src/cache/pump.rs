//! Storing while it streams: a task for each answer that may be stored.

use super::ask::{Came, Got, forwarded};
use super::entry::{Entry, Now, Origin};
use super::fill::{BROKEN_OFF, Filling};
use super::flight::{Flight, Lead};
use super::respond::{Told, Word};
use super::{Cache, Rules};
use crate::body::Body;
use crate::fault::find;
use crate::run::Edge;
use astraler_http_cache::{Forward, Key, Stored, received_age};
use http::Response;
use http_body_util::BodyExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Content on its way into the memory tier, all together, is at least allowed this.
const MIN_FILLING_BYTES: u64 = 32 << 20;

/// A response whose content is on its way.
#[derive(Debug)]
pub(super) struct Fill {
    pub(super) origin: Origin,
    /// Its length is not said before all has arrived.
    pub(super) stored: Stored,
    /// What its head says of the length.
    pub(super) length: Option<u64>,
    pub(super) filling: Arc<Filling>,
    pub(super) anchor: Now,
}

/// Starts to store an answer: a task of its own reads it.
pub(super) fn start(
    edge: &Arc<Edge>,
    stored: Stored,
    came: Came,
    response: Response<Body>,
    length: Option<u64>,
    lead: Option<Lead>,
) -> Got {
    let (parts, body) = response.into_parts();
    let freshness = stored.freshness(came.anchor.wall);
    let told = Told {
        word: match came.why {
            Forward::UriMiss | Forward::VaryMiss | Forward::Miss | Forward::Partial => Word::Miss,
            _ => Word::Expired,
        },
        outcome: forwarded(came.why, None, true),
        ttl: Some(freshness.ttl),
        detail: None,
    };
    let fill = Arc::new(Fill {
        origin: came.origin,
        stored,
        length,
        filling: Arc::default(),
        anchor: came.anchor,
    });
    let lead = match lead {
        // Of no use to those who wait: they would have to validate it at once.
        Some(lead) if freshness.ttl <= 0 => {
            edge.cache.flights.go_alone(lead.key());
            lead.publish(Flight::NotShared);
            None
        }
        Some(lead) => {
            lead.publish(Flight::Fill(fill.clone()));
            Some(lead)
        }
        None => None,
    };
    let pump = pump(edge.cache.clone(), body, fill.clone(), lead);
    let aborting = edge.aborting.clone();
    edge.tasks
        .spawn(async move { aborting.run_until_cancelled(pump).await });
    Got::Fill {
        fill,
        status: parts.status,
        age: received_age(&parts.headers),
        headers: parts.headers,
        told,
    }
}

/// Reads an answer to its end, whoever of those who wanted it is still there, and stores it.
async fn pump(cache: Arc<Cache>, mut body: Body, fill: Arc<Fill>, mut lead: Option<Lead>) {
    let filling = fill.filling.clone();
    let _ended = EndsFilling(&filling);
    let mut reserved = Reserved {
        cache: &cache,
        bytes: 0,
    };
    let mut storing = true;
    let mut bytes = 0;
    let end = loop {
        let frame = match body.frame().await {
            None => break Ok(None),
            Some(Err(error)) => break Err(find(&*error).unwrap_or(BROKEN_OFF)),
            Some(Ok(frame)) => frame,
        };
        let chunk = match frame.into_data() {
            Ok(chunk) => chunk,
            Err(frame) => break Ok(frame.into_trailers().ok()),
        };
        bytes += chunk.len() as u64;
        if storing
            && !(bytes <= cache.max_object.load(Ordering::Relaxed) && reserved.more(chunk.len() as u64))
        {
            storing = false;
            // The next ones for a while go by themselves: shared, each would have to wait for the slowest.
            if let Some(lead) = lead.take() {
                cache.flights.go_alone(lead.key());
            }
            filling.pass_on();
        }
        // Stored before the last byte is out: who has read it may ask again.
        if storing && fill.length == Some(bytes) {
            let whole = filling.content(&chunk);
            cache.store(&fill, whole);
            storing = false;
            filling.push(chunk);
            continue;
        }
        filling.push(chunk);
        if !storing && fill.length != Some(bytes) && !filling.ready_for_more().await {
            return;
        }
    };
    if storing && end.is_ok() {
        cache.store(&fill, filling.content(&[]));
    }
    drop(lead);
    filling.end(end);
}

/// Ends what readers wait for, whatever happens to the task.
struct EndsFilling<'a>(&'a Filling);

impl Drop for EndsFilling<'_> {
    fn drop(&mut self) {
        self.0.end_if_open(BROKEN_OFF);
    }
}

/// A share of the bytes that may be on their way at once.
struct Reserved<'a> {
    cache: &'a Cache,
    bytes: u64,
}

impl Reserved<'_> {
    fn more(&mut self, bytes: u64) -> bool {
        self.bytes += bytes;
        let all = self.cache.filling.fetch_add(bytes, Ordering::Relaxed) + bytes;
        all <= (self.cache.memory.max() / 2).max(MIN_FILLING_BYTES)
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.cache.filling.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Cache {
    /// A response whose content is complete, unless a purge has come since it was asked for.
    fn store(&self, fill: &Fill, content: bytes::Bytes) {
        let Ok(stored) = fill.stored.clone().complete(content.len() as u64) else {
            return;
        };
        self.keep(&Arc::new(Entry::new(
            fill.origin.clone(),
            stored,
            content,
            fill.anchor,
        )));
    }

    /// Keeps what was just made of an answer.
    pub(super) fn keep(&self, entry: &Arc<Entry>) {
        if self.purges.void((&**entry).into()) {
            return;
        }
        self.counters.stored.fetch_add(1, Ordering::Relaxed);
        self.memory.insert(entry);
        // One that came in between found nothing to remove.
        if self.purges.void((&**entry).into()) {
            return self.forget(entry);
        }
        if let Some(disk) = &self.disk {
            disk.offer(entry);
        }
    }

    pub(super) fn store_in_place(&self, old: &Arc<Entry>, new: &Arc<Entry>) {
        if self.purges.void((&**new).into()) {
            return self.forget(old);
        }
        self.memory.replace(old, new);
        if self.purges.void((&**new).into()) {
            return self.forget(new);
        }
        if let Some(disk) = &self.disk {
            disk.offer(new);
        }
    }

    pub(super) fn forget(&self, entry: &Arc<Entry>) {
        self.memory.remove(entry);
        if let Some(disk) = &self.disk {
            disk.forget(entry);
        }
    }

    /// Brings what is on disk under a key into memory; whether there was anything.
    pub(super) async fn recall(self: &Arc<Self>, key: &Key, rules: &Arc<Rules>) -> bool {
        let Some(disk) = self.disk.clone().filter(|disk| disk.may_have(key)) else {
            return false;
        };
        let (cache, key, rules) = (self.clone(), key.clone(), rules.clone());
        let read = tokio::task::spawn_blocking(move || {
            let found = disk.read(&key, &rules.settings, &cache.purges);
            let any = !found.is_empty();
            for entry in found {
                let entry = Arc::new(entry);
                cache.memory.insert_if_new(&entry);
                if cache.purges.void((&*entry).into()) {
                    cache.forget(&entry);
                }
            }
            any
        });
        read.await.unwrap_or(false)
    }

    /// All that is stored with this URL, and what is on its way.
    pub(super) fn forget_url(&self, url: &str) {
        self.purges.invalidate_url(url);
        self.memory.remove_url(url);
        if let Some(disk) = &self.disk {
            disk.forget_url(url);
        }
    }
}
