//! The disk tier: what outlives memory and process, one file for each response, in a folder of its own.
//!
//! A thread owns the folder (a lock says so) and does all that writes; requests read, on the runtime's blocking threads.
//! Only names and sizes are in memory. What a file holds is believed after its checksum, its key and the purges have
//! been compared with it. The cache never takes the last of a disk: what the databases need is more.

mod file;
mod ledger;

use super::entry::{Entry, Now};
use super::purge::Purges;
use astraler_http_cache::{Key, Settings};
use astraler_model::{DiskStanding, Environment, PurgeWhat};
use bytes::Bytes;
use ledger::{Ledger, Rule};
use sha2::{Digest, Sha256};
use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

/// What is fresh for less is not worth a file.
const MIN_LIFETIME: Duration = Duration::from_secs(30);
/// Responses that wait to be written.
const MAX_QUEUE: usize = 1024;
const MAX_QUEUE_BYTES: u64 = 64 << 20;
/// Variants of one URL that are read for a request.
const MAX_READ: usize = 16;
/// Left free for others: so much, or a twentieth where the disk is small.
const RESERVE_BYTES: u64 = 1 << 30;
/// Between tries to become the owner: the edge before this one may be draining.
const LOCK_PAUSE: Duration = Duration::from_millis(200);
/// URLs remembered until the folder is ours; with one more, nothing in it counts.
const MAX_EARLY: usize = 10_000;
/// How long a purge waits for the folder's owner to be this one.
const READY_PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Disk {
    folder: PathBuf,
    index: Mutex<Index>,
    jobs: SyncSender<Job>,
    queued: AtomicU64,
    max: AtomicU64,
    ledger: Mutex<Option<Ledger>>,
    opened: Condvar,
    /// Until the folder is ours: URLs of which it holds nothing that still counts.
    early: Mutex<Early>,
    /// Clocks at the start, so that a clock that is set back later makes nothing young.
    began: Now,
    /// Files are from a later time than the clock's.
    clock_is_behind: AtomicBool,
    hits: AtomicU64,
    written: AtomicU64,
    not_written: AtomicU64,
    corrupted: AtomicU64,
    told: AtomicBool,
}

#[derive(Debug, Default)]
struct Index {
    urls: HashMap<u128, Vec<Item>>,
    order: VecDeque<(u128, u64)>,
    bytes: u64,
    entries: u64,
}

#[derive(Debug, Default)]
struct Early {
    over: bool,
    outdated: HashSet<u128>,
    all: bool,
}

#[derive(Debug, Clone, Copy)]
struct Item {
    variant: u64,
    bytes: u64,
    used: bool,
}

#[derive(Debug)]
enum Job {
    Store(Arc<Entry>),
    Sweep,
}

/// Which file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Name {
    url: u128,
    variant: u64,
}

impl Name {
    fn of(entry: &Entry) -> Self {
        let mut hash = Sha256::new();
        hash.update(entry.key.as_str());
        for (name, value) in entry.stored.variant.request_fields() {
            hash.update(b"\n");
            hash.update(name.as_str());
            hash.update(b":");
            hash.update(value);
        }
        let hash = hash.finalize();
        Self {
            url: hash_of(entry.key.url()),
            variant: hash
                .iter()
                .take(8)
                .fold(0, |sum, &byte| sum << 8 | u64::from(byte)),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (url, variant) = text.split_once('-')?;
        let sound = url.len() == 32 && variant.len() == 16;
        sound.then_some(())?;
        Some(Self {
            url: u128::from_str_radix(url, 16).ok()?,
            variant: u64::from_str_radix(variant, 16).ok()?,
        })
    }

    fn path(self, folder: &Path) -> PathBuf {
        let name = format!("{:032x}-{:016x}", self.url, self.variant);
        folder.join("entries").join(&name[..2]).join(name)
    }
}

fn hash_of(url: &str) -> u128 {
    let hash = Sha256::digest(url);
    hash.iter()
        .take(16)
        .fold(0, |sum, &byte| sum << 8 | u128::from(byte))
}

impl Disk {
    /// Starts the thread; until it owns the folder and has looked through it, nothing is found or kept.
    pub(super) fn open(folder: PathBuf, max: u64, purges: Arc<Purges>) -> io::Result<Arc<Self>> {
        let (jobs, queue) = sync_channel(MAX_QUEUE);
        let disk = Arc::new(Self {
            folder,
            index: Mutex::default(),
            jobs,
            queued: AtomicU64::new(0),
            max: AtomicU64::new(max),
            ledger: Mutex::new(None),
            opened: Condvar::new(),
            early: Mutex::default(),
            began: Now::get(),
            clock_is_behind: AtomicBool::new(false),
            hits: AtomicU64::new(0),
            written: AtomicU64::new(0),
            not_written: AtomicU64::new(0),
            corrupted: AtomicU64::new(0),
            told: AtomicBool::new(false),
        });
        let weak = Arc::downgrade(&disk);
        std::thread::Builder::new()
            .name("cache-disk".to_owned())
            .spawn(move || own(&weak, &queue, &purges))?;
        Ok(disk)
    }

    pub(super) fn resize(&self, max: u64) {
        self.max.store(max, Ordering::Relaxed);
        let _ = self.jobs.try_send(Job::Sweep);
    }

    pub(super) fn standing(&self) -> Option<DiskStanding> {
        let ready = self
            .ledger
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some();
        let index = self.index();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ready.then(|| DiskStanding {
            entries: index.entries,
            bytes: index.bytes,
            max_bytes: count(&self.max),
            hits: count(&self.hits),
            written: count(&self.written),
            not_written: count(&self.not_written),
            corrupted: count(&self.corrupted),
        })
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is worth to read for this key.
    pub(super) fn may_have(&self, key: &Key) -> bool {
        // The index is filled before it is known what of it does not count.
        let early = self.early.lock().unwrap_or_else(PoisonError::into_inner);
        let index = self.index();
        early.over && index.entries > 0 && index.urls.contains_key(&hash_of(key.url()))
    }

    /// All that is stored under a key. Blocks.
    pub(super) fn read(&self, key: &Key, settings: &Settings, purges: &Purges) -> Vec<Entry> {
        let url = hash_of(key.url());
        let names: Vec<Name> = match self.index().urls.get_mut(&url) {
            Some(items) => items
                .iter_mut()
                .take(MAX_READ)
                .map(|item| {
                    item.used = true;
                    Name {
                        url,
                        variant: item.variant,
                    }
                })
                .collect(),
            None => return Vec::new(),
        };
        let steady = self.began.wall.checked_add(self.began.steady.elapsed());
        let mut now = Now::get();
        now.wall = steady.map_or(now.wall, |steady| steady.max(now.wall));
        let mut found = Vec::new();
        for name in names {
            let read = fs::read(name.path(&self.folder)).map(Bytes::from);
            match read.ok().map(|bytes| file::read(&bytes, settings, now)) {
                Some(Some(mut entry)) => {
                    if purges.ruled_out((&entry).into()) {
                        self.remove(name);
                    } else if entry.key == *key {
                        entry.stored.contradicted = self.clock_is_behind.load(Ordering::Relaxed);
                        self.hits.fetch_add(1, Ordering::Relaxed);
                        found.push(entry);
                    }
                }
                Some(None) => {
                    self.corrupted.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(file = %name.path(&self.folder).display(), "a damaged file of the cache was dropped");
                    self.remove(name);
                }
                // Evicted meanwhile.
                None => self.remove(name),
            }
        }
        found
    }

    /// What memory has stored: the older file goes at once, the new one comes when the thread gets to it.
    pub(super) fn offer(&self, entry: &Arc<Entry>) {
        // Parts are for memory alone.
        if self.max.load(Ordering::Relaxed) == 0 || entry.is_partial() {
            return;
        }
        if self.is_early(hash_of(entry.key.url())) {
            return;
        }
        let bytes = entry.body.len() as u64;
        let worth = entry.stored.policy.lifetime >= MIN_LIFETIME
            && !entry.stored.policy.always_validate
            && !entry.stored.contradicted;
        let name = Name::of(entry);
        if worth {
            // Before the thread can have written the new one.
            let older = self.index().take(name);
            let queued = self.queued.fetch_add(bytes, Ordering::Relaxed) + bytes;
            if queued <= MAX_QUEUE_BYTES && self.jobs.try_send(Job::Store(entry.clone())).is_ok() {
                return;
            }
            self.queued.fetch_sub(bytes, Ordering::Relaxed);
            self.not_written.fetch_add(1, Ordering::Relaxed);
            if older {
                let _ = fs::remove_file(name.path(&self.folder));
            }
            return;
        }
        self.remove_if_there(name);
    }

    pub(super) fn forget(&self, entry: &Entry) {
        if self.is_early(hash_of(entry.key.url())) {
            return;
        }
        self.remove_if_there(Name::of(entry));
    }

    /// Everything with this URL.
    pub(super) fn forget_url(&self, url: &str) {
        let url = hash_of(url);
        if !self.is_early(url) {
            self.remove_url(url);
        }
    }

    fn remove_url(&self, url: u128) {
        let names: Vec<Name> = {
            let index = self.index();
            let items = index.urls.get(&url).into_iter().flatten();
            items
                .map(|item| Name {
                    url,
                    variant: item.variant,
                })
                .collect()
        };
        for name in names {
            self.remove(name);
        }
    }

    /// Purges with their numbers, on disk when this returns. Blocks.
    pub(super) fn purge(
        &self,
        environment: Option<Environment>,
        numbered: Vec<(u64, PurgeWhat)>,
    ) -> io::Result<()> {
        let guard = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .opened
            .wait_timeout_while(guard, READY_PATIENCE, |ledger| ledger.is_none());
        let (mut guard, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let ledger = guard.as_mut().ok_or_else(|| {
            io::Error::other("the folder of the cache belongs to another edge, or cannot be used")
        })?;
        let rules: Vec<Rule> = numbered
            .into_iter()
            .map(|(number, what)| Rule {
                number,
                environment,
                what,
            })
            .collect();
        let appended = ledger.append(&rules);
        drop(guard);
        if let Err(error) = appended {
            // A full disk must not keep what shall go.
            tracing::warn!(%error, "a purge cannot be written down; all files of the cache go instead");
            return self.clear();
        }
        let _ = self.jobs.try_send(Job::Sweep);
        Ok(())
    }

    fn clear(&self) -> io::Result<()> {
        *self.index() = Index::default();
        let entries = self.folder.join("entries");
        fs::remove_dir_all(&entries)?;
        fs::create_dir_all(&entries)?;
        File::open(&self.folder)?.sync_all()
    }

    /// Whether the folder is not ours yet; what it holds of this URL will not count.
    fn is_early(&self, url: u128) -> bool {
        let mut early = self.early.lock().unwrap_or_else(PoisonError::into_inner);
        if early.over {
            return false;
        }
        if early.outdated.len() < MAX_EARLY {
            early.outdated.insert(url);
        } else {
            early.all = true;
        }
        true
    }

    fn remove_if_there(&self, name: Name) {
        let there = self.index().take(name);
        if there {
            let _ = fs::remove_file(name.path(&self.folder));
        }
    }

    fn remove(&self, name: Name) {
        self.index().take(name);
        let _ = fs::remove_file(name.path(&self.folder));
    }
}

impl Index {
    fn put(&mut self, name: Name, bytes: u64) {
        self.take(name);
        self.urls.entry(name.url).or_default().push(Item {
            variant: name.variant,
            bytes,
            used: false,
        });
        self.order.push_back((name.url, name.variant));
        self.bytes += bytes;
        self.entries += 1;
        if self.order.len() as u64 > 2 * self.entries + 64 {
            let urls = &self.urls;
            self.order.retain(|(url, variant)| {
                let items = urls.get(url);
                items.is_some_and(|items| items.iter().any(|item| item.variant == *variant))
            });
        }
    }

    fn take(&mut self, name: Name) -> bool {
        let Some(items) = self.urls.get_mut(&name.url) else {
            return false;
        };
        let Some(at) = items.iter().position(|item| item.variant == name.variant) else {
            return false;
        };
        let item = items.swap_remove(at);
        if items.is_empty() {
            self.urls.remove(&name.url);
        }
        self.bytes -= item.bytes;
        self.entries -= 1;
        true
    }

    /// The one to evict: the oldest that was not read since it was last passed over.
    fn oldest(&mut self) -> Option<Name> {
        while let Some((url, variant)) = self.order.pop_front() {
            let items = self.urls.get_mut(&url);
            let item = items.and_then(|items| items.iter_mut().find(|item| item.variant == variant));
            let Some(item) = item else {
                continue;
            };
            if item.used {
                item.used = false;
                self.order.push_back((url, variant));
                continue;
            }
            return Some(Name { url, variant });
        }
        None
    }
}

/// The thread.
fn own(disk: &Weak<Disk>, queue: &Receiver<Job>, purges: &Purges) {
    let Some(lock) = begin(disk, purges) else {
        return;
    };
    loop {
        let job = queue.recv_timeout(Duration::from_secs(1));
        // Gone with the cache that it belongs to.
        let Some(disk) = disk.upgrade() else {
            return;
        };
        match job {
            Ok(Job::Store(entry)) => {
                disk.queued.fetch_sub(entry.body.len() as u64, Ordering::Relaxed);
                store(&disk, &entry);
            }
            Ok(Job::Sweep) => sweep(&disk, purges),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    drop(lock);
}

/// Becomes the owner of the folder and looks through it.
fn begin(disk: &Weak<Disk>, purges: &Purges) -> Option<File> {
    let mut told = false;
    loop {
        let disk = disk.upgrade()?;
        match take_over(&disk, purges) {
            Ok(Some(lock)) => return Some(lock),
            Ok(None) => {}
            Err(error) => {
                if !told {
                    told = true;
                    let folder = disk.folder.display();
                    tracing::warn!(%folder, %error, "the cache's folder cannot be used; memory alone is");
                }
            }
        }
        drop(disk);
        std::thread::park_timeout(LOCK_PAUSE);
    }
}

fn take_over(disk: &Disk, purges: &Purges) -> io::Result<Option<File>> {
    fs::create_dir_all(disk.folder.join("entries"))?;
    let lock = File::create(disk.folder.join("lock"))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => return Ok(None),
        Err(fs::TryLockError::Error(error)) => return Err(error),
    }
    let (ledger, rules) = Ledger::open(disk.folder.join("purges"))?;
    purges.begin_at(ledger.first());
    for rule in rules {
        purges.restore(rule.environment, rule.what, rule.number);
    }
    let _ = fs::remove_dir_all(disk.folder.join("unfinished"));
    fs::create_dir_all(disk.folder.join("unfinished"))?;
    let mut latest = SystemTime::UNIX_EPOCH;
    for folder in fs::read_dir(disk.folder.join("entries"))? {
        for entry in fs::read_dir(folder?.path())? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str().and_then(Name::parse) else {
                continue;
            };
            let metadata = entry.metadata()?;
            latest = latest.max(metadata.modified().unwrap_or(latest));
            disk.index().put(name, metadata.len());
        }
    }
    let now = SystemTime::now();
    disk.clock_is_behind
        .store(latest > now + Duration::from_secs(5), Ordering::Relaxed);
    {
        let mut early = disk.early.lock().unwrap_or_else(PoisonError::into_inner);
        early.over = true;
        for url in std::mem::take(&mut early.outdated) {
            disk.remove_url(url);
        }
        if early.all {
            disk.clear()?;
        }
    }
    *disk.ledger.lock().unwrap_or_else(PoisonError::into_inner) = Some(ledger);
    disk.opened.notify_all();
    let _ = disk.jobs.try_send(Job::Sweep);
    Ok(Some(lock))
}

fn store(disk: &Disk, entry: &Arc<Entry>) {
    // Replaced, or purged, before it was written. What only made room in memory is welcome here.
    if entry.is_void() {
        return;
    }
    match write(disk, entry) {
        Ok(()) => {
            disk.written.fetch_add(1, Ordering::Relaxed);
            disk.told.store(false, Ordering::Relaxed);
        }
        Err(error) => {
            disk.not_written.fetch_add(1, Ordering::Relaxed);
            disk.remove_if_there(Name::of(entry));
            if !disk.told.swap(true, Ordering::Relaxed) {
                let folder = disk.folder.display();
                tracing::warn!(%folder, %error, "responses cannot be kept on disk; memory alone is used");
            }
        }
    }
    make_room(disk);
}

fn write(disk: &Disk, entry: &Entry) -> io::Result<()> {
    let head = file::write_head(entry).ok_or_else(|| io::Error::other("a head that cannot be written"))?;
    let bytes = (head.len() + entry.body.len()) as u64;
    if bytes > disk.max.load(Ordering::Relaxed) / 4 {
        return Ok(());
    }
    let space = rustix::fs::statvfs(&disk.folder).map_err(io::Error::from)?;
    let (free, all) = (space.f_bavail * space.f_frsize, space.f_blocks * space.f_frsize);
    if free < bytes + RESERVE_BYTES.min(all / 20) {
        return Err(io::Error::from(io::ErrorKind::StorageFull));
    }
    let name = Name::of(entry);
    let beside = disk.folder.join("unfinished").join("next");
    let path = name.path(&disk.folder);
    let written = (|| {
        let mut file = File::create(&beside)?;
        file.write_all(&head)?;
        file.write_all(&entry.body)?;
        drop(file);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::rename(&beside, &path)
    })();
    if let Err(error) = written {
        let _ = fs::remove_file(&beside);
        return Err(error);
    }
    disk.index().put(name, bytes);
    // Taken out of memory while it was being written: whoever did that did not find the file.
    if entry.is_void() {
        disk.remove(name);
    }
    Ok(())
}

fn make_room(disk: &Disk) {
    let max = disk.max.load(Ordering::Relaxed);
    loop {
        let oldest = {
            let mut index = disk.index();
            if index.bytes <= max {
                return;
            }
            index.oldest()
        };
        match oldest {
            Some(name) => disk.remove(name),
            None => return,
        }
    }
}

/// Looks through all files for what was purged; after that, the purges need not be remembered.
fn sweep(disk: &Disk, purges: &Purges) {
    make_room(disk);
    let up_to = purges.up_to();
    if !purges.any() {
        return;
    }
    let begun = Instant::now();
    let names: Vec<Name> = {
        let index = disk.index();
        let each = index.urls.iter();
        each.flat_map(|(url, items)| {
            items.iter().map(|item| Name {
                url: *url,
                variant: item.variant,
            })
        })
        .collect()
    };
    let mut removed = 0;
    for name in names {
        let void = match head(&name.path(&disk.folder)) {
            Ok(Some(head)) => head.subject().is_none_or(|subject| purges.ruled_out(subject)),
            Ok(None) => true,
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        };
        if void {
            removed += 1;
            disk.remove(name);
        }
    }
    let kept = purges.forget(up_to);
    let mut ledger = disk.ledger.lock().unwrap_or_else(PoisonError::into_inner);
    let rules: Vec<Rule> = kept
        .into_iter()
        .map(|(environment, what, number)| Rule {
            number,
            environment,
            what,
        })
        .collect();
    if let Some(ledger) = ledger.as_mut()
        && let Err(error) = ledger.keep(&rules)
    {
        tracing::warn!(%error, "the cache's list of purges cannot be shortened");
    }
    let took_ms = begun.elapsed().as_millis();
    tracing::debug!(removed, took_ms, "purged files are gone");
}

fn head(path: &Path) -> io::Result<Option<file::Head>> {
    let mut file = File::open(path)?;
    let mut prefix = [0; file::PREFIX];
    file.read_exact(&mut prefix)?;
    let Some((length, _)) = file::lengths(&prefix) else {
        return Ok(None);
    };
    let mut bytes = vec![0; length];
    file.read_exact(&mut bytes)?;
    Ok(file::Head::parse(&bytes))
}

/// For the fuzzer: reads a file's bytes, whatever they are.
#[doc(hidden)]
pub fn read_file(bytes: &[u8]) -> bool {
    file::read(&Bytes::copy_from_slice(bytes), &Settings::default(), Now::get()).is_some()
}
