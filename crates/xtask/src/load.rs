//! A constant load of requests, each on a connection that is kept alive, and what became of them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Failures that are remembered one by one; all are counted.
const MAX_REMEMBERED: usize = 50_000;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// What is asked for, how often.
pub(crate) struct Wanted {
    /// Port of the edge.
    pub(crate) port: u16,
    /// The `Host` of each request.
    pub(crate) host: &'static str,
    /// Asked for in turn.
    pub(crate) paths: Vec<String>,
    /// Connections: so many that one slow answer holds the others up little.
    pub(crate) clients: u32,
    /// Of all clients together.
    pub(crate) requests_per_s: u32,
}

/// A request that was not answered with 200.
#[derive(Debug, Clone)]
pub(crate) struct Failed {
    /// When it was sent.
    pub(crate) at: Instant,
    /// What happened.
    pub(crate) why: String,
}

/// A load that runs until [`Load::stop`].
pub(crate) struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    wanted: Wanted,
    over: AtomicBool,
    sent: AtomicU64,
    failed: AtomicU64,
    remembered: Mutex<Vec<Failed>>,
}

impl Load {
    /// One thread for each connection.
    pub(crate) fn start(wanted: Wanted) -> Self {
        let shared = Arc::new(Shared {
            wanted,
            over: AtomicBool::new(false),
            sent: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            remembered: Mutex::default(),
        });
        let threads = (0..shared.wanted.clients)
            .map(|number| {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || shared.client(number))
            })
            .collect();
        Self { shared, threads }
    }

    /// Ends it, and waits for the last answers.
    pub(crate) fn stop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                eprintln!("a client of the load broke");
            }
        }
    }

    /// Requests so far.
    pub(crate) fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// Those of them that were not answered with 200.
    pub(crate) fn failed(&self) -> u64 {
        self.shared.failed.load(Ordering::Relaxed)
    }

    /// Each of those, in the order of their failing.
    pub(crate) fn failures(&self) -> Vec<Failed> {
        let remembered = self.shared.remembered.lock();
        remembered.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Shared {
    /// One connection, kept alive, at its share of the rate.
    fn client(&self, number: u32) {
        let every = Duration::from_secs(1) * self.wanted.clients / self.wanted.requests_per_s;
        let mut connection = None;
        // Not all at the same moment.
        let mut next = Instant::now() + every * number / self.wanted.clients;
        let first = usize::try_from(number).unwrap_or(0) % self.wanted.paths.len().max(1);
        for path in self.wanted.paths.iter().cycle().skip(first) {
            #[expect(clippy::disallowed_methods, reason = "there is no executor to block")]
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
            next += every;
            if self.over.load(Ordering::Relaxed) {
                return;
            }
            self.sent.fetch_add(1, Ordering::Relaxed);
            let at = Instant::now();
            if let Err(why) = exchange(&mut connection, self.wanted.port, self.wanted.host, path) {
                self.failed.fetch_add(1, Ordering::Relaxed);
                let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
                if remembered.len() < MAX_REMEMBERED {
                    remembered.push(Failed { at, why });
                }
                connection = None;
            }
        }
    }
}

fn exchange(
    connection: &mut Option<BufReader<TcpStream>>,
    port: u16,
    host: &str,
    path: &str,
) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{path}: {error}");
    let reader = match connection {
        Some(reader) => reader,
        None => {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map_err(failed)?;
            stream.set_read_timeout(Some(ANSWER_TIMEOUT)).map_err(failed)?;
            connection.insert(BufReader::new(stream))
        }
    };
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    reader.get_mut().write_all(request.as_bytes()).map_err(failed)?;
    let mut line = String::new();
    reader.read_line(&mut line).map_err(failed)?;
    if !line.starts_with("HTTP/1.1 200") {
        return Err(format!("{path} answered {:?}", line.trim_end()));
    }
    let (mut length, mut chunked) = (0, false);
    loop {
        line.clear();
        reader.read_line(&mut line).map_err(failed)?;
        let field = line.trim().to_ascii_lowercase();
        if field.is_empty() {
            break;
        }
        if let Some(value) = field.strip_prefix("content-length:") {
            length = value
                .trim()
                .parse()
                .map_err(|_| format!("{path}: {line:?} is no length"))?;
        }
        chunked |= field == "transfer-encoding: chunked";
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).map_err(failed)?;
    while chunked {
        line.clear();
        reader.read_line(&mut line).map_err(failed)?;
        let size = usize::from_str_radix(line.trim(), 16)
            .map_err(|_| format!("{path}: {line:?} begins no chunk"))?;
        let mut chunk = vec![0; size + 2];
        reader.read_exact(&mut chunk).map_err(failed)?;
        chunked = size > 0;
    }
    Ok(())
}
