//! The access log: each thread puts its lines into a shelf of its own, and one thread takes what all shelves hold,
//! writes it, rotates, and never holds a request up. Under load it is woken by nobody: it looks again after a moment.

use crate::config::AccessLogConfig;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

/// Lines of one thread that may wait for the writer, in bytes: some 6000 requests.
const SHELF_BYTES: usize = 4 << 20;
/// A shelf that grew beyond this in a burst gives its memory back.
const KEPT_BYTES: usize = 256 << 10;
/// After lines were written, more are waited for so long: one write for many. After a pause a line goes at once.
const GATHER: Duration = Duration::from_millis(20);
/// How long the writer sleeps with nothing to write.
const IDLE: Duration = Duration::from_secs(1);
/// How long the end of the edge waits for the last records.
const FINISH: Duration = Duration::from_secs(3);

/// Where the requests of one thread put their records. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct AccessLog {
    shelf: Arc<Shelf>,
}

#[derive(Debug)]
struct Shelf {
    lines: Mutex<Vec<u8>>,
    shared: Arc<Shared>,
}

/// What all threads and the writer share.
#[derive(Debug, Default)]
struct Shared {
    shelves: Mutex<Vec<Arc<Shelf>>>,
    dropped: AtomicU64,
    /// The writer has found all shelves empty.
    asleep: AtomicBool,
    ending: AtomicBool,
    writer: OnceLock<Thread>,
}

/// The thread that writes.
#[derive(Debug)]
pub(crate) struct Writer {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

impl AccessLog {
    fn new(shared: &Arc<Shared>) -> Self {
        let shelf = Arc::new(Shelf {
            lines: Mutex::default(),
            shared: shared.clone(),
        });
        lock(&shared.shelves).push(shelf.clone());
        Self { shelf }
    }

    /// A shelf for another thread.
    pub(crate) fn of_a_thread(&self) -> Self {
        Self::new(&self.shelf.shared)
    }

    /// Takes a record, which adds its line without the end of it; or counts it as dropped.
    pub(crate) fn write(&self, record: impl FnOnce(&mut Vec<u8>)) {
        let shared = &self.shelf.shared;
        {
            let mut lines = lock(&self.shelf.lines);
            if lines.len() >= SHELF_BYTES {
                shared.dropped.fetch_add(1, Ordering::Relaxed);
                return;
            }
            record(&mut lines);
            lines.push(b'\n');
        }
        if shared.asleep.load(Ordering::SeqCst) {
            shared.wake();
        }
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.shelf.shared.dropped.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn wake(&self) {
        self.asleep.store(false, Ordering::SeqCst);
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }

    /// Moves what a shelf holds to `into`, which is empty; `false` when all shelves are empty.
    fn take(&self, into: &mut Vec<u8>) -> bool {
        let shelves = lock(&self.shelves);
        let full = |shelf: &&Arc<Shelf>| !lock(&shelf.lines).is_empty();
        let Some(shelf) = shelves.iter().find(full) else {
            return false;
        };
        std::mem::swap(&mut *lock(&shelf.lines), into);
        true
    }
}

/// Opens the log and starts its writer.
pub(crate) fn open(config: AccessLogConfig) -> io::Result<(AccessLog, Writer)> {
    let file = LogFile::open(config)?;
    let shared = Arc::new(Shared::default());
    let log = AccessLog::new(&shared);
    let of_thread = shared.clone();
    let thread = std::thread::Builder::new()
        .name("access-log".to_owned())
        .spawn(move || write_all(file, &of_thread))?;
    let _ = shared.writer.set(thread.thread().clone());
    Ok((log, Writer { shared, thread }))
}

impl Writer {
    /// Writes what is there, then ends; a disk that hangs is not waited for longer than [`FINISH`].
    pub(crate) async fn finish(self) {
        let deadline = tokio::time::Instant::now() + FINISH;
        self.shared.ending.store(true, Ordering::SeqCst);
        self.shared.wake();
        while !self.thread.is_finished() && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        if !self.thread.is_finished() {
            tracing::error!("the access log cannot be written; the last records are lost");
        }
    }
}

fn write_all(mut file: LogFile, shared: &Shared) {
    let mut lines = Vec::new();
    let mut healthy = true;
    loop {
        // Asked before the shelves are looked at: what is put there before the end is still written.
        let ending = shared.ending.load(Ordering::SeqCst);
        let mut wrote = false;
        while shared.take(&mut lines) {
            wrote = true;
            match file.append(&lines) {
                Ok(()) => healthy = true,
                Err((error, lost)) => {
                    shared.dropped.fetch_add(lost, Ordering::Relaxed);
                    if healthy {
                        tracing::error!(path = %file.config.path.display(), %error, "cannot write the access log; records are dropped");
                    }
                    healthy = false;
                }
            }
            lines.clear();
            lines.shrink_to(KEPT_BYTES);
        }
        if ending {
            return;
        }
        if wrote {
            shared.asleep.store(false, Ordering::SeqCst);
            std::thread::park_timeout(GATHER);
        } else if !shared.asleep.swap(true, Ordering::SeqCst) {
            // Looked at once more: a line may have come before its writer could see that we sleep.
        } else {
            std::thread::park_timeout(IDLE);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct LogFile {
    config: AccessLogConfig,
    file: File,
    bytes: u64,
}

impl LogFile {
    fn open(config: AccessLogConfig) -> io::Result<Self> {
        let file = open_append(&config.path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { config, file, bytes })
    }

    /// Writes whole lines, as many as fit into each file. An error comes with the lines that are lost.
    fn append(&mut self, mut lines: &[u8]) -> Result<(), (io::Error, u64)> {
        while !lines.is_empty() {
            let room = self.config.max_file_bytes.saturating_sub(self.bytes);
            let (piece, rest) = lines.split_at(whole_lines(lines, room, self.bytes == 0));
            let written = match piece.is_empty() {
                true => self.rotate(),
                false => self.file.write_all(piece),
            };
            written.map_err(|error| (error, memchr::memchr_iter(b'\n', lines).count() as u64))?;
            self.bytes += piece.len() as u64;
            lines = rest;
        }
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        if self.config.keep_files == 0 {
            std::fs::remove_file(&self.config.path)?;
        }
        for number in (0..self.config.keep_files).rev() {
            let from = numbered(&self.config.path, number);
            match std::fs::rename(&from, numbered(&self.config.path, number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.file = open_append(&self.config.path)?;
        self.bytes = 0;
        Ok(())
    }
}

/// Bytes of the lines that fit into `room`; one line at least when the file is empty.
fn whole_lines(lines: &[u8], room: u64, empty: bool) -> usize {
    let room = usize::try_from(room).unwrap_or(usize::MAX).min(lines.len());
    match memchr::memrchr(b'\n', &lines[..room]) {
        Some(end) => end + 1,
        None if empty => memchr::memchr(b'\n', lines).map_or(lines.len(), |end| end + 1),
        None => 0,
    }
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

/// Readable by the group: the daemon ingests it.
fn open_append(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o640)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_takes_whole_lines_only() {
        let lines = b"one\ntwo\nthree\n";
        for (room, empty, bytes) in [
            (100, true, 14),
            (14, false, 14),
            (13, false, 8),
            (7, false, 4),
            (3, false, 0),
            (3, true, 4),
        ] {
            assert_eq!(whole_lines(lines, room, empty), bytes, "{room} {empty}");
        }
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "threads of the test's own wait, no executor's"
    )]
    #[test]
    fn lines_of_all_threads_arrive_and_the_first_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let config = AccessLogConfig {
            path: path.clone(),
            max_file_bytes: 1 << 30,
            keep_files: 1,
        };
        let (log, writer) = open(config).unwrap();
        log.write(|line| line.extend_from_slice(b"first"));
        let begun = std::time::Instant::now();
        while std::fs::read(&path).unwrap() != b"first\n" {
            assert!(begun.elapsed() < Duration::from_secs(5));
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let log = log.of_a_thread();
                scope.spawn(move || {
                    for n in 0..2_000 {
                        log.write(|line| line.extend_from_slice(format!("[{thread},{n}]").as_bytes()));
                        if n % 97 == 0 {
                            std::thread::sleep(Duration::from_millis(1));
                        }
                    }
                });
            }
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(writer.finish());
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(log.dropped(), 0);
        assert_eq!(text.lines().count(), 8_001);
        for thread in 0..4 {
            let own: Vec<String> = text
                .lines()
                .filter(|line| line.starts_with(&format!("[{thread},")))
                .map(str::to_owned)
                .collect();
            let expected: Vec<String> = (0..2_000).map(|n| format!("[{thread},{n}]")).collect();
            assert_eq!(own, expected);
        }
    }
}
