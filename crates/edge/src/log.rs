//! The access log: a bounded queue, and one thread that writes, rotates and never holds a request up.

use crate::config::AccessLogConfig;
use crate::record::Record;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Records that may wait for the writer; at about 700 bytes each.
const QUEUE: usize = 8192;
/// What is written is on its way to the disk after so long, at the latest; after a pause it goes at once.
const FLUSH_EVERY: Duration = Duration::from_millis(200);

/// How long the writer sleeps with nothing to write.
const IDLE: Duration = Duration::from_secs(1);

/// How long the end of the edge waits for the last records.
const FINISH: Duration = Duration::from_secs(3);

/// Where requests put their records. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct AccessLog {
    queue: SyncSender<Option<Box<Record>>>,
    dropped: Arc<AtomicU64>,
}

/// The thread that writes.
#[derive(Debug)]
pub(crate) struct Writer {
    log: AccessLog,
    thread: JoinHandle<()>,
}

impl AccessLog {
    /// Takes a record, or counts it as dropped.
    pub(crate) fn write(&self, record: Record) {
        if self.queue.try_send(Some(Box::new(record))).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// Opens the log and starts its writer.
pub(crate) fn open(config: AccessLogConfig) -> io::Result<(AccessLog, Writer)> {
    let file = LogFile::open(config)?;
    let (queue, records) = sync_channel(QUEUE);
    let dropped = Arc::new(AtomicU64::new(0));
    let lost = dropped.clone();
    let thread = std::thread::Builder::new()
        .name("access-log".to_owned())
        .spawn(move || write_all(file, &records, &lost))?;
    let log = AccessLog { queue, dropped };
    Ok((log.clone(), Writer { log, thread }))
}

impl Writer {
    /// Writes what is queued, then ends; a disk that hangs is not waited for longer than [`FINISH`].
    pub(crate) async fn finish(self) {
        let deadline = tokio::time::Instant::now() + FINISH;
        let mut told = false;
        while !self.thread.is_finished() && tokio::time::Instant::now() < deadline {
            told = told || self.log.queue.try_send(None).is_ok();
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        if !self.thread.is_finished() {
            tracing::error!("the access log cannot be written; the last records are lost");
        }
    }
}

fn write_all(mut file: LogFile, records: &Receiver<Option<Box<Record>>>, dropped: &AtomicU64) {
    let mut line = Vec::with_capacity(1024);
    let mut healthy = true;
    let mut next_flush = Instant::now();
    let mut unflushed = false;
    loop {
        let wait = if unflushed {
            next_flush.saturating_duration_since(Instant::now())
        } else {
            IDLE
        };
        let mut result = match records.recv_timeout(wait) {
            Ok(Some(record)) => {
                unflushed = true;
                line.clear();
                match serde_json::to_writer(&mut line, &*record) {
                    Ok(()) => {
                        line.push(b'\n');
                        file.append(&line)
                    }
                    Err(error) => Err(error.into()),
                }
            }
            Ok(None) | Err(RecvTimeoutError::Disconnected) => {
                let _ = file.out.flush();
                return;
            }
            Err(RecvTimeoutError::Timeout) => Ok(()),
        };
        if unflushed && Instant::now() >= next_flush {
            unflushed = false;
            result = result.and(file.out.flush());
            next_flush = Instant::now() + FLUSH_EVERY;
        }
        match result {
            Ok(()) => healthy = true,
            Err(error) => {
                dropped.fetch_add(1, Ordering::Relaxed);
                if healthy {
                    tracing::error!(path = %file.config.path.display(), %error, "cannot write the access log; records are dropped");
                }
                healthy = false;
            }
        }
    }
}

struct LogFile {
    config: AccessLogConfig,
    out: BufWriter<File>,
    bytes: u64,
}

impl LogFile {
    fn open(config: AccessLogConfig) -> io::Result<Self> {
        let file = open_append(&config.path)?;
        let bytes = file.metadata()?.len();
        Ok(Self {
            config,
            out: BufWriter::with_capacity(64 << 10, file),
            bytes,
        })
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        if self.bytes > 0 && self.bytes + line.len() as u64 > self.config.max_file_bytes {
            self.rotate()?;
        }
        self.out.write_all(line)?;
        self.bytes += line.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.out.flush()?;
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
        self.out = BufWriter::with_capacity(64 << 10, open_append(&self.config.path)?);
        self.bytes = 0;
        Ok(())
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
