//! The cache (RFC 9111), between the checks and the workers.
//!
//! What may be stored and used is decided by [`astraler_http_cache`], a crate without I/O; here are storage, streams,
//! who waits for whom, and purges.
//!
//! - [`lookup`] answers what is fresh without waiting for anything: one shard's lock, no copy of the content. It comes
//!   before sleeping workers are woken.
//! - [`fetch`](fetch::serve) does the rest: waits for an equal request that is on its way ([`flight`]), asks the worker,
//!   and tees what may be stored ([`fill`]).
//! - A response belongs to a deployment. After a switch, what an older deployment answered is used only after the new
//!   one has confirmed it (304), so nobody has to purge, and what did not change is not sent again.
//! - Ages are counted by a steady clock, and by the wall clock where that says more: see [`entry::Entry::time`].

mod ask;
mod behind;
mod disk;
mod entry;
mod fetch;
mod fill;
mod flight;
mod memory;
mod parts;
mod pump;
mod purge;
mod respond;
mod rules;

use crate::body::Body;
use crate::checks::Checked;
use crate::fault::Fault;
use crate::record::Access;
use crate::run::Edge;
use crate::serve::Client;
use crate::upstream::Effort;
use crate::waf::Inspection;
use astraler_http_cache::{Asked, Consult, Forward, Grant, Key, PassOn, Reuse, Target, decide};
use astraler_model::{CacheBounds, CacheStanding, Purge, Purged, WorkerRoute};
use disk::Disk;
use entry::{Lineage, Now};
use flight::Flights;
use http::Response;
use http::header::HeaderMap;
use http::request::Parts;
use memory::{Found, Memory};
use purge::Purges;
use respond::Told;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[doc(hidden)]
pub use disk::read_file;
pub(crate) use fetch::serve;
pub(crate) use respond::Word;
pub(crate) use rules::Rules;

/// Responses that are renewed behind clients' backs at once.
const MAX_BEHIND: usize = 64;

/// Things that one purge may name: as many as Cloudflare's largest plan allows.
const MAX_PURGE: usize = 500;

/// The cache of one edge.
#[derive(Debug)]
pub(crate) struct Cache {
    memory: Memory,
    flights: Arc<Flights>,
    purges: Arc<Purges>,
    disk: Option<Arc<Disk>>,
    max_object: AtomicU64,
    /// Bytes of content on their way into the memory tier.
    filling: AtomicU64,
    behind: Arc<tokio::sync::Semaphore>,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    hits: AtomicU64,
    stale: AtomicU64,
    revalidated: AtomicU64,
    misses: AtomicU64,
    collapsed: AtomicU64,
    bypassed: AtomicU64,
    stored: AtomicU64,
}

impl Counters {
    fn count(&self, word: Word) {
        let counter = match word {
            Word::Hit => &self.hits,
            Word::Stale | Word::Updating => {
                self.hits.fetch_add(1, Ordering::Relaxed);
                &self.stale
            }
            Word::Revalidated => &self.revalidated,
            Word::Miss | Word::Expired => &self.misses,
            Word::Bypass | Word::Dynamic => &self.bypassed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// A request for a worker, on its way through.
pub(crate) struct Call<'a> {
    pub(crate) edge: &'a Arc<Edge>,
    pub(crate) client: &'a Client,
    pub(crate) checked: &'a Checked,
    pub(crate) worker: &'a WorkerRoute,
    /// Looks at what the worker answers.
    pub(crate) inspection: Option<&'a Inspection>,
}

impl Call<'_> {
    /// An answer of the worker, once the firewall has nothing against it.
    async fn inspected(&self, response: Response<Body>) -> Result<Response<Body>, Fault> {
        match self.inspection {
            Some(inspection) => Box::pin(inspection.look_at(response, &self.edge.inspecting)).await,
            None => Ok(response),
        }
    }
}

/// One that is for the cache.
struct Cached<'a> {
    call: &'a Call<'a>,
    edge: &'a Arc<Edge>,
    request_id: &'a str,
    /// For early hints of what the client waits for.
    interim: &'a crate::client::Interim,
    effort: &'a Effort,
    rules: &'a Arc<Rules>,
    key: &'a Key,
}

/// What [`lookup`] found.
pub(crate) enum Lookup {
    /// This site has no cache.
    Off,
    /// The request is none of the cache's.
    Pass(Forward),
    /// The answer.
    Answer(Response<Body>),
    /// The worker, or one who asks it already, has to be asked.
    Fetch(Key),
}

impl Cache {
    /// With a folder, what is worth it is on disk too.
    pub(crate) fn new(bounds: &CacheBounds, folder: Option<PathBuf>) -> std::io::Result<Self> {
        let purges = Arc::new(Purges::new(1));
        let disk = folder
            .map(|folder| Disk::open(folder, bounds.disk_bytes, purges.clone()))
            .transpose()?;
        Ok(Self {
            memory: Memory::new(bounds.memory_bytes),
            flights: Arc::default(),
            purges,
            disk,
            max_object: AtomicU64::new(bounds.max_object_bytes),
            filling: AtomicU64::new(0),
            behind: Arc::new(tokio::sync::Semaphore::new(MAX_BEHIND)),
            counters: Counters::default(),
        })
    }

    /// New bounds, at once.
    pub(crate) fn resize(&self, bounds: &CacheBounds) {
        self.max_object.store(bounds.max_object_bytes, Ordering::Relaxed);
        self.memory.resize(bounds.memory_bytes);
        if let Some(disk) = &self.disk {
            disk.resize(bounds.disk_bytes);
        }
    }

    pub(crate) fn standing(&self) -> CacheStanding {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        CacheStanding {
            entries: self.memory.entries(),
            bytes: self.memory.used(),
            memory_bytes: self.memory.max(),
            hits: count(&counters.hits),
            stale: count(&counters.stale),
            revalidated: count(&counters.revalidated),
            misses: count(&counters.misses),
            collapsed: count(&counters.collapsed),
            bypassed: count(&counters.bypassed),
            stored: count(&counters.stored),
            evicted: self.memory.evicted(),
            disk: self.disk.as_ref().and_then(|disk| disk.standing()),
        }
    }

    /// Forgets, and returns when nothing of it can come back; `None` where one of them cannot mean anything, or there
    /// are too many. Blocks.
    pub(crate) fn purge(&self, purge: &Purge) -> std::io::Result<Option<Purged>> {
        let what: Option<Vec<_>> = purge.what.iter().map(purge::spelled).collect();
        let Some(what) = what.filter(|what| what.len() <= MAX_PURGE) else {
            return Ok(None);
        };
        let numbered: Vec<_> = what
            .iter()
            .map(|what| (self.purges.add(purge.environment, what.clone()), what.clone()))
            .collect();
        let removed = self.memory.remove_where(&|entry| {
            purge
                .environment
                .is_none_or(|environment| environment == entry.lineage.environment)
                && what.iter().any(|what| purge::means(what, entry.into()))
        });
        if let Some(disk) = &self.disk {
            disk.purge(purge.environment, numbered)?;
        }
        Ok(Some(Purged { removed }))
    }
}

/// The key of a request.
fn key_of(
    client: &Client,
    checked: &Checked,
    path_and_query: &str,
    headers: &HeaderMap,
    rules: &Rules,
) -> Key {
    Key::of(&target_of(client, checked, path_and_query), headers, &rules.key)
}

fn target_of<'a>(client: &Client, checked: &'a Checked, path_and_query: &'a str) -> Target<'a> {
    Target {
        scheme: client.scheme.as_str(),
        authority: checked.authority(),
        path_and_query,
    }
}

/// Answers what can be answered at once. A GET with content is the worker's: what it means is not in the key.
pub(crate) fn lookup(
    call: &Call<'_>,
    rules: Option<&Arc<Rules>>,
    parts: &Parts,
    has_content: bool,
    access: &mut Access,
) -> Lookup {
    let Call {
        edge,
        client,
        checked,
        ..
    } = call;
    let Some(rules) = rules.filter(|_| edge.cache.memory.max() > 0) else {
        return Lookup::Off;
    };
    if parts.headers.contains_key(http::header::UPGRADE) || rules.bypasses(checked.path(), &parts.headers) {
        return Lookup::Pass(Forward::Bypass);
    }
    let asked = Asked::new(&parts.method, &parts.headers, &rules.settings);
    match asked.consult() {
        Consult::Lookup if has_content => return Lookup::Pass(Forward::Bypass),
        Consult::Lookup => {}
        Consult::PassOn(PassOn::Method) => return Lookup::Pass(Forward::Method),
        Consult::PassOn(_) => return Lookup::Pass(Forward::Bypass),
    }
    let key = key_of(client, checked, checked.target().as_str(), &parts.headers, rules);
    let Found::Entry(entry) = edge.cache.memory.find(&key, &asked) else {
        return Lookup::Fetch(key);
    };
    if entry.lineage.deployment != rules.deployment || !entry.can_answer(&asked) {
        return Lookup::Fetch(key);
    }
    let (freshness, word) = match decide(&asked, &entry.stored, entry.time(Now::get())) {
        Reuse::Fresh(freshness) => (freshness, Word::Hit),
        Reuse::Stale(freshness, Grant::MaxStale) => (freshness, Word::Stale),
        Reuse::Stale(freshness, Grant::WhileRevalidate) => {
            behind::behind(call, rules, parts, key, entry.clone());
            (freshness, Word::Updating)
        }
        Reuse::Validate(_) | Reuse::GatewayTimeout => return Lookup::Fetch(key),
    };
    entry.used();
    edge.cache.counters.count(word);
    access.cache(word);
    let told = Told::hit(word, freshness.ttl);
    Lookup::Answer(respond::from_entry(&asked, &entry, Some(freshness.age), told))
}

impl Rules {
    fn lineage(&self) -> Lineage {
        Lineage {
            environment: self.environment,
            deployment: self.deployment.clone(),
        }
    }
}
