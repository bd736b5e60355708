//! The one loop that writes: reads on in the logs, flushes, forgets. It runs on a thread of its own and knows no clock but
//! the one it is given.

use crate::errors::{Errors, ErrorsError};
use crate::metrics::{Metrics, MetricsError};
use crate::source;
use crate::store::{Store, StoreError};
use crate::stream::{STREAMS, Stream};
use astraler_host::lock::{FileLock, LockError};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const TICK: Duration = Duration::from_secs(1);
/// Between two tries to be the only one: a predecessor is about to end.
const LOCK_PAUSE: Duration = Duration::from_millis(200);
/// What waits longer than this becomes a segment, however little it is.
const FLUSH_AFTER: Duration = Duration::from_mins(15);
const TIDY_EVERY: Duration = Duration::from_hours(1);
/// Between looks at the space that is used.
const MEASURE_EVERY: Duration = Duration::from_secs(30);
/// After an error.
const PAUSE: Duration = Duration::from_secs(5);

/// Where things lie.
#[derive(Debug, Clone)]
pub struct KeeperConfig {
    /// The stores.
    pub folder: PathBuf,
    /// The logs.
    pub logs: PathBuf,
}

/// What the keeper is told, again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// How long records are kept.
    pub retention: Retention,
    /// Requests that take longer are slow.
    pub slow_ms: u64,
    /// By deployment: the folder in which each worker's bundle and its map lie, in a folder of the worker's name.
    pub bundles: BTreeMap<String, PathBuf>,
}

/// How long records are kept, and in how much space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// Days of access records.
    pub access_days: u32,
    /// Days of what workers wrote.
    pub application_days: u32,
    /// Days of errors.
    pub error_days: u32,
    /// Space of all of them. When it is used up, the oldest records of the largest stream go: a flood of one takes
    /// nothing from the others.
    pub max_bytes: u64,
}

impl Retention {
    fn days(&self, stream: Stream) -> u32 {
        match stream {
            Stream::Access => self.access_days,
            Stream::Application => self.application_days,
            Stream::Error => self.error_days,
        }
    }
}

/// The stores cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// Nobody else may write.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The numbers cannot be opened.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The groups of errors cannot be opened.
    #[error(transparent)]
    Errors(#[from] ErrorsError),
    /// The folder of the stores.
    #[error(transparent)]
    File(#[from] astraler_host::file::FileError),
}

/// The numbers, for the keeper and for those who add to them or ask. There are none until a predecessor has ended.
#[derive(Debug, Clone, Default)]
pub struct Shared(Arc<Mutex<Option<Metrics>>>);

impl Shared {
    /// Does something with them; `None` while there are none. It may wait for the disk: not for an executor's thread.
    pub fn with<T>(&self, work: impl FnOnce(&mut Metrics) -> T) -> Option<T> {
        let mut metrics = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        metrics.as_mut().map(work)
    }
}

/// Keeps the stores until the sender of `stop` is gone. `told` is asked again and again, `now_ms` is the time of day.
/// A predecessor is waited for.
pub fn keep(
    config: &KeeperConfig,
    shared: &Shared,
    told: impl Fn() -> Told,
    now_ms: impl Fn() -> i64,
    stop: &Receiver<()>,
) -> Result<(), KeeperError> {
    astraler_host::file::make_dir(&config.folder, 0o750, None, None)?;
    let lock = config.folder.join("writer.lock");
    let _lock = loop {
        match FileLock::try_acquire(&lock, "keeping records") {
            Ok(lock) => break lock,
            Err(LockError::Held { .. }) if !stopped(stop, LOCK_PAUSE) => {}
            Err(LockError::Held { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    };
    let mut streams = Vec::new();
    for stream in STREAMS {
        streams.push(Kept {
            store: Store::open(stream, &config.folder, &config.logs)?,
            flushed: Instant::now(),
        });
    }
    let metrics = Metrics::open(&config.folder, &config.logs)?;
    *shared.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(metrics);
    let mut errors = Errors::open(&config.folder)?;
    let (mut tidied, mut measured) = (None::<Instant>, None::<Instant>);
    let mut pause = TICK;
    loop {
        if stopped(stop, pause) {
            return Ok(());
        }
        pause = TICK;
        let mut work = || -> Result<(), KeeperError> {
            // With a full disk the stores can still make room.
            let said = told();
            let count = |metrics: &mut Metrics| {
                metrics.slow_from(said.slow_ms);
                metrics.tick()
            };
            let counted = shared.with(count).transpose();
            let grouped = errors.tick(&config.logs, &said.bundles);
            source::sync(&config.logs.join("edge/access.log")).map_err(crate::store::at(&config.logs))?;
            for kept in &mut streams {
                kept.tick()?;
            }
            if tidied.is_none_or(|at| at.elapsed() >= TIDY_EVERY) {
                tidied = Some(Instant::now());
                for kept in &streams {
                    let days = told().retention.days(kept.store.stream());
                    kept.store.tidy(days, now_ms())?;
                }
                shared.with(|metrics| metrics.forget(now_ms())).transpose()?;
                errors.forget(told().retention.error_days, now_ms())?;
            }
            if measured.is_none_or(|at| at.elapsed() >= MEASURE_EVERY) {
                measured = Some(Instant::now());
                shrink(&mut streams, told().retention.max_bytes)?;
                for kept in &streams {
                    let (counts, bytes) = (kept.store.counts(), kept.store.bytes()?);
                    shared.with(|metrics| metrics.stored(kept.store.stream(), counts, bytes));
                }
            }
            counted?;
            grouped?;
            Ok(())
        };
        if let Err(error) = work() {
            let full = matches!(&error, KeeperError::Store(error) if error.is_disk_full());
            tracing::error!(error = chain(&error), "records cannot be kept; trying again");
            if full && let Err(error) = drop_from_largest(&mut streams) {
                tracing::error!(error = chain(&error), "the oldest records cannot be dropped");
            }
            pause = PAUSE;
        }
    }
}

struct Kept {
    store: Store,
    flushed: Instant,
}

impl Kept {
    fn tick(&mut self) -> Result<(), StoreError> {
        let waiting = self.store.waiting()?;
        if waiting == 0 {
            self.flushed = Instant::now();
        }
        if waiting >= enough(self.store.stream()) || self.flushed.elapsed() >= FLUSH_AFTER {
            while self.store.flush()? {}
            self.flushed = Instant::now();
        }
        Ok(())
    }
}

/// Bytes of logs that make a segment: well below what is kept of them before it is rotated away.
fn enough(stream: Stream) -> u64 {
    match stream {
        Stream::Access => 32 << 20,
        Stream::Application | Stream::Error => 4 << 20,
    }
}

fn shrink(streams: &mut [Kept], max_bytes: u64) -> Result<(), StoreError> {
    loop {
        let mut used = 0;
        for kept in streams.iter() {
            used += kept.store.bytes()?;
        }
        if used <= max_bytes || !drop_from_largest(streams)? {
            return Ok(());
        }
    }
}

fn drop_from_largest(streams: &mut [Kept]) -> Result<bool, StoreError> {
    let mut largest: Option<(u64, &mut Kept)> = None;
    for kept in streams {
        let bytes = kept.store.bytes()?;
        if largest.as_ref().is_none_or(|(most, _)| bytes > *most) {
            largest = Some((bytes, kept));
        }
    }
    match largest {
        Some((_, kept)) => kept.store.drop_oldest(),
        None => Ok(false),
    }
}

/// Waits so long; true when it is time to end.
fn stopped(stop: &Receiver<()>, wait: Duration) -> bool {
    !matches!(stop.recv_timeout(wait), Err(RecvTimeoutError::Timeout))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
