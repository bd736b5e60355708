//! The memory tier: by URL, bounded in bytes, with S3-FIFO eviction ("FIFO queues are all you need for cache eviction",
//! SOSP 2023): what is asked for once passes through a small queue and disturbs nothing, what comes back stays.
//!
//! Own code rather than a library: entries are found by URL and there by variant, purged by host, prefix and tag, and
//! the bound changes while it runs; a general map with eviction knows none of these.

use super::entry::Entry;
use astraler_http_cache::{Asked, Key, Stored, choose};
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

const SHARDS: usize = 64;
/// Variants of one URL: one more makes the oldest go.
const MAX_VARIANTS: usize = 64;
/// The part of a shard that new entries pass through, in percent.
const SMALL_PERCENT: u64 = 10;
/// Least number of evicted keys that a shard remembers.
const MIN_GHOSTS: usize = 256;

#[derive(Debug)]
pub(super) struct Memory {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    max: AtomicU64,
    used: AtomicU64,
    entries: AtomicU64,
    evicted: AtomicU64,
    /// Where room is made next.
    next: AtomicUsize,
}

#[derive(Debug, Default)]
struct Shard {
    urls: HashMap<Box<str>, Vec<Arc<Entry>>>,
    small: VecDeque<Weak<Entry>>,
    main: VecDeque<Weak<Entry>>,
    small_bytes: u64,
    bytes: u64,
    live: usize,
    ghosts: VecDeque<u64>,
    ghost_set: HashSet<u64>,
}

/// What is stored under a key.
#[derive(Debug)]
pub(super) enum Found {
    /// Nothing with this URL.
    Nothing,
    /// Others, none for this request.
    OtherVariants,
    /// This one.
    Entry(Arc<Entry>),
}

impl Memory {
    pub(super) fn new(max: u64) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            max: AtomicU64::new(max),
            used: AtomicU64::new(0),
            entries: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
            next: AtomicUsize::new(0),
        }
    }

    pub(super) fn max(&self) -> u64 {
        self.max.load(Ordering::Relaxed)
    }

    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    pub(super) fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    pub(super) fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    /// A new bound; what is too much goes at once.
    pub(super) fn resize(&self, max: u64) {
        self.max.store(max, Ordering::Relaxed);
        self.make_room(None);
    }

    /// The one to answer a request with, be it fresh or not.
    pub(super) fn find(&self, key: &Key, asked: &Asked<'_>) -> Found {
        let shard = self.shard(self.place(key.url()));
        let Some(entries) = shard.urls.get(key.url()) else {
            return Found::Nothing;
        };
        let chosen = match &entries[..] {
            // Mostly there is one.
            [one] => (one.key == *key && one.stored.variant.matches(asked.headers)).then_some(one),
            several => {
                let candidates = || several.iter().filter(|entry| entry.key == *key);
                choose(candidates().map(|entry| &entry.stored), asked).and_then(|chosen| {
                    candidates().find(|entry| std::ptr::eq::<Stored>(&entry.stored, chosen))
                })
            }
        };
        match chosen {
            Some(entry) => Found::Entry(entry.clone()),
            None => Found::OtherVariants,
        }
    }

    /// All under one key.
    pub(super) fn variants(&self, key: &Key) -> Vec<Arc<Entry>> {
        let shard = self.shard(self.place(key.url()));
        let entries = shard.urls.get(key.url()).into_iter().flatten();
        entries.filter(|entry| entry.key == *key).cloned().collect()
    }

    /// Stores a response in the place of the one that answered the same requests.
    pub(super) fn insert(&self, entry: &Arc<Entry>) {
        let place = self.place(entry.key.url());
        let ghost = self.hasher.hash_one(entry.key.as_str());
        {
            let mut shard = self.shard(place);
            let same = |old: &Arc<Entry>| old.key == entry.key && old.stored.variant == entry.stored.variant;
            let slot = shard.urls.get(entry.key.url());
            let old = slot.and_then(|slot| slot.iter().find(|old| same(old))).cloned();
            let crowded = slot.filter(|slot| slot.len() >= MAX_VARIANTS && old.is_none());
            let old = old.or_else(|| crowded.and_then(|slot| slot.first()).cloned());
            let proven = old.is_some_and(|old| {
                self.take_out(&mut shard, &old);
                old.in_main.load(Ordering::Relaxed)
            });
            self.put_in(&mut shard, entry.clone(), ghost, proven);
        }
        self.make_room(Some(entry));
    }

    /// Stores what was read from disk, unless there is something newer.
    pub(super) fn insert_if_new(&self, entry: &Arc<Entry>) {
        let same = |old: &Arc<Entry>| old.stored.variant == entry.stored.variant;
        if !self.variants(&entry.key).iter().any(same) {
            self.insert(entry);
        }
    }

    /// Stores a freshened response if the one that it was made of is still there.
    pub(super) fn replace(&self, old: &Arc<Entry>, new: &Arc<Entry>) {
        let place = self.place(old.key.url());
        let ghost = self.hasher.hash_one(old.key.as_str());
        {
            let mut shard = self.shard(place);
            if !self.take_out(&mut shard, old) {
                return;
            }
            self.put_in(
                &mut shard,
                new.clone(),
                ghost,
                old.in_main.load(Ordering::Relaxed),
            );
        }
        self.make_room(Some(new));
    }

    pub(super) fn remove(&self, entry: &Arc<Entry>) {
        let mut shard = self.shard(self.place(entry.key.url()));
        self.take_out(&mut shard, entry);
    }

    /// Everything with this URL; how many there were.
    pub(super) fn remove_url(&self, url: &str) -> u64 {
        let mut shard = self.shard(self.place(url));
        let all = shard.urls.get(url).cloned().unwrap_or_default();
        for entry in &all {
            self.take_out(&mut shard, entry);
        }
        all.len() as u64
    }

    /// Everything that is meant; how many there were. Shard by shard, so that hits go on.
    pub(super) fn remove_where(&self, meant: &dyn Fn(&Entry) -> bool) -> u64 {
        let mut removed = 0;
        for place in 0..SHARDS {
            let mut shard = self.shard(place);
            let all: Vec<_> = shard
                .urls
                .values()
                .flatten()
                .filter(|entry| meant(entry))
                .cloned()
                .collect();
            for entry in &all {
                self.take_out(&mut shard, entry);
            }
            removed += all.len() as u64;
        }
        removed
    }

    fn place(&self, url: &str) -> usize {
        self.hasher.hash_one(url) as usize % SHARDS
    }

    fn shard(&self, place: usize) -> MutexGuard<'_, Shard> {
        self.shards[place].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put_in(&self, shard: &mut Shard, entry: Arc<Entry>, ghost: u64, proven: bool) {
        self.used.fetch_add(entry.weight, Ordering::Relaxed);
        self.entries.fetch_add(1, Ordering::Relaxed);
        shard.put_in(entry, ghost, proven);
    }

    /// False where it is not there any more.
    fn take_out(&self, shard: &mut Shard, entry: &Arc<Entry>) -> bool {
        let there = shard.take_out(entry);
        if there {
            self.used.fetch_sub(entry.weight, Ordering::Relaxed);
            self.entries.fetch_sub(1, Ordering::Relaxed);
        }
        there
    }

    /// Evicts until what is there fits, one of each shard in turn: the bound holds for all of them together. What was
    /// just stored is the last to go.
    fn make_room(&self, newest: Option<&Arc<Entry>>) {
        for spared in [newest, None] {
            let mut idle = 0;
            while idle < SHARDS && self.used() > self.max() {
                let mut shard = self.shard(self.next.fetch_add(1, Ordering::Relaxed) % SHARDS);
                let Some(entry) = shard.candidate() else {
                    idle += 1;
                    continue;
                };
                if spared.is_some_and(|spared| Arc::ptr_eq(spared, &entry)) {
                    shard.put_back(&entry);
                    idle += 1;
                    continue;
                }
                idle = 0;
                entry.evicted.store(true, Ordering::Release);
                self.take_out(&mut shard, &entry);
                if !entry.in_main.load(Ordering::Relaxed) {
                    shard.remember(self.hasher.hash_one(entry.key.as_str()));
                }
                self.evicted.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Shard {
    /// `proven`: the one in whose place it comes had been asked for again.
    fn put_in(&mut self, entry: Arc<Entry>, ghost: u64, proven: bool) {
        self.bytes += entry.weight;
        self.live += 1;
        if self.ghost_set.remove(&ghost) || proven {
            entry.in_main.store(true, Ordering::Relaxed);
            self.main.push_back(Arc::downgrade(&entry));
        } else {
            self.small_bytes += entry.weight;
            self.small.push_back(Arc::downgrade(&entry));
        }
        match self.urls.get_mut(entry.key.url()) {
            Some(slot) => slot.push(entry),
            None => drop(self.urls.insert(entry.key.url().into(), vec![entry])),
        }
        // What was replaced leaves its place in a queue behind.
        if self.small.len() + self.main.len() > 2 * self.live + 64 {
            let there = |entry: &Weak<Entry>| {
                entry
                    .upgrade()
                    .is_some_and(|entry| !entry.gone.load(Ordering::Relaxed))
            };
            self.small.retain(there);
            self.main.retain(there);
        }
    }

    fn take_out(&mut self, entry: &Arc<Entry>) -> bool {
        let Some(slot) = self.urls.get_mut(entry.key.url()) else {
            return false;
        };
        let Some(at) = slot.iter().position(|other| Arc::ptr_eq(other, entry)) else {
            return false;
        };
        slot.remove(at);
        if slot.is_empty() {
            self.urls.remove(entry.key.url());
        }
        entry.gone.store(true, Ordering::Release);
        self.bytes -= entry.weight;
        self.live -= 1;
        if !entry.in_main.load(Ordering::Relaxed) {
            self.small_bytes -= entry.weight;
        }
        true
    }

    /// The one to evict. Each turn takes a place out of a queue or a use off an entry, so there is an end.
    fn candidate(&mut self) -> Option<Arc<Entry>> {
        loop {
            let from_small = self.small_bytes * 100 > self.bytes * SMALL_PERCENT || self.main.is_empty();
            let queue = if from_small {
                &mut self.small
            } else {
                &mut self.main
            };
            // Empty only where both are: what is live in the small one is in its bytes.
            let entry = queue.pop_front()?;
            let Some(entry) = entry
                .upgrade()
                .filter(|entry| !entry.gone.load(Ordering::Relaxed))
            else {
                continue;
            };
            if !entry.spend_use() {
                return Some(entry);
            }
            if from_small {
                self.small_bytes -= entry.weight;
                entry.in_main.store(true, Ordering::Relaxed);
            }
            self.main.push_back(Arc::downgrade(&entry));
        }
    }

    /// A candidate that is spared.
    fn put_back(&mut self, entry: &Arc<Entry>) {
        let queue = if entry.in_main.load(Ordering::Relaxed) {
            &mut self.main
        } else {
            &mut self.small
        };
        queue.push_back(Arc::downgrade(entry));
    }

    fn remember(&mut self, ghost: u64) {
        if self.ghost_set.insert(ghost) {
            self.ghosts.push_back(ghost);
        }
        while self.ghosts.len() > MIN_GHOSTS.max(self.live) {
            if let Some(oldest) = self.ghosts.pop_front() {
                self.ghost_set.remove(&oldest);
            }
        }
    }
}
