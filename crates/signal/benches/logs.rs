//! What records cost: `cargo xtask bench logs [--hour N]`.
//!
//! Three figures: the processor's time that storing 5,000 records a second takes, and that none is missing; bytes of a
//! record on disk; seconds of a question to N records (18 million: one hour at that rate). The records are as the edge
//! writes them, with two random 128-bit ids, 40 user agents, random addresses and timings.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a bench ends where something is not as it should be, and prints what it found"
)]

use astraler_signal::{Filter, KeeperConfig, Query, Reader, Retention, Shared, Store, Stream, Told, keep};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const RATE: u64 = 5_000;
/// How the edge rotates.
const FILE_BYTES: u64 = 64 << 20;
const KEEP_FILES: u32 = 4;
/// 2026-11-27T12:00:00Z.
const NOON: i64 = 1_795_780_800_000;
const MAX_CPU_PERCENT: f64 = 10.0;
const MAX_BYTES: f64 = 80.0;
const MAX_SECONDS: f64 = 3.0;

fn main() {
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    let mut hour = 18_000_000;
    let mut seconds = 60;
    while let Some(word) = words.next() {
        let value = words.next().and_then(|value| value.parse().ok());
        match (word.as_str(), value) {
            ("--hour", Some(value)) => hour = value,
            ("--seconds", Some(value)) => seconds = value,
            _ => panic!("Usage: logs [--hour RECORDS] [--seconds SECONDS]"),
        }
    }
    let cpu = storing(seconds);
    let (bytes, slowest) = questions(hour);
    assert!(
        cpu <= MAX_CPU_PERCENT,
        "storing takes {cpu:.1} % of a core, more than {MAX_CPU_PERCENT}"
    );
    assert!(
        bytes <= MAX_BYTES,
        "a record takes {bytes:.1} bytes, more than {MAX_BYTES}"
    );
    assert!(
        slowest <= MAX_SECONDS,
        "a question took {slowest:.2} s, more than {MAX_SECONDS}"
    );
}

/// Writes at the rate while the keeper runs; percent of a core that the keeper's thread took.
fn storing(seconds: u64) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let config = KeeperConfig {
        folder: folder.path().join("signal"),
        logs: folder.path().join("logs"),
    };
    let mut log = Log::new(&config.logs);
    let told = || Told {
        retention: Retention {
            access_days: 3,
            application_days: 7,
            error_days: 90,
            max_bytes: 10 << 30,
        },
        slow_ms: 500,
        bundles: BTreeMap::new(),
    };
    let (stop, stopped) = mpsc::channel::<()>();
    let keeper = config.clone();
    let thread = std::thread::spawn(move || {
        let before = thread_cpu();
        keep(&keeper, &Shared::default(), told, || NOON, &stopped).unwrap();
        thread_cpu() - before
    });
    let begun = Instant::now();
    let mut written = 0;
    while written < seconds * RATE {
        log.write(written, written + RATE / 10);
        written += RATE / 10;
        let due = begun + Duration::from_secs_f64(written as f64 / RATE as f64);
        wait(due.saturating_duration_since(Instant::now()));
    }
    let took = begun.elapsed().as_secs_f64();
    drop(stop);
    let cpu = thread.join().unwrap().as_secs_f64();
    let found = count(&config.folder, &config.logs, &Query::default());
    let stored = Store::open(Stream::Access, &config.folder, &config.logs).unwrap();
    println!(
        "stored     {written} records in {took:.1} s, {} bytes wait in the log",
        stored.waiting().unwrap()
    );
    assert_eq!(found, written, "records are missing");
    assert_eq!(stored.counts(), astraler_signal::Counts::default());
    let percent = 100.0 * cpu / took;
    println!(
        "cpu        {percent:.1} % of one core (goal: less than {MAX_CPU_PERCENT} %); {found} records found, none dropped"
    );
    percent
}

/// Fills a store with records of one hour and asks.
fn questions(records: u64) -> (f64, f64) {
    let folder = tempfile::tempdir().unwrap();
    let (signal, logs) = (folder.path().join("signal"), folder.path().join("logs"));
    let mut log = Log::new(&logs);
    let mut store = Store::open(Stream::Access, &signal, &logs).unwrap();
    let begun = Instant::now();
    let mut written = 0;
    while written < records {
        let next = (written + 65_536).min(records);
        log.write(written, next);
        written = next;
        while store.flush().unwrap() {}
    }
    let bytes = store.bytes().unwrap() as f64 / records as f64;
    println!(
        "filled     {records} records in {:.0} s",
        begun.elapsed().as_secs_f64()
    );
    println!("size       {bytes:.1} bytes a record (goal: at most {MAX_BYTES})");
    let filter = |text: &str| Query {
        filter: Some(Filter::parse(text, Stream::Access).unwrap()),
        ..Query::default()
    };
    let reader = Reader::new(Stream::Access, &signal, &logs);
    let mut slowest: f64 = 0.0;
    let mut timed = |what: &str, ask: &dyn Fn() -> String| {
        let mut times: Vec<f64> = Vec::new();
        let mut answer = String::new();
        for _ in 0..3 {
            let begun = Instant::now();
            answer = ask();
            times.push(begun.elapsed().as_secs_f64());
        }
        times.sort_by(f64::total_cmp);
        slowest = slowest.max(times[1]);
        println!(
            "{what:<62} {:.2} s median, {:.2} s worst of 3   {answer}",
            times[1], times[2]
        );
    };
    let whole = filter(r#"status>=500 and path~"/api""#);
    timed(
        r#"--where 'status>=500 and path~"/api"' -n 0, all matches"#,
        &|| {
            let mut found = 0;
            reader
                .each(&whole, |_| {
                    found += 1;
                    true
                })
                .unwrap();
            format!("{found} records")
        },
    );
    let grep = Query {
        grep: Some("nowhere-to-be-found".to_owned()),
        ..Query::default()
    };
    timed("--grep TEXT that no record has, through all texts", &|| {
        format!("{} records", reader.last(&grep, 100).unwrap().len())
    });
    let path = filter(r#"path~"nowhere-to-be-found""#);
    timed("--where 'path~TEXT' that no record has", &|| {
        format!("{} records", reader.last(&path, 100).unwrap().len())
    });
    timed("--by-minute: records, errors, percentiles", &|| {
        format!("{} minutes", reader.minutes(&Query::default()).unwrap().len())
    });
    let last = reader.last(&Query::default(), 1).unwrap();
    let id = filter(&format!("id={}", last[0].text("request_id")));
    timed("--where 'id=ID'", &|| {
        format!("{} record", reader.last(&id, 100).unwrap().len())
    });
    let errors = filter("status>=500");
    timed("--where 'status>=500', the last 100", &|| {
        format!("{} records", reader.last(&errors, 100).unwrap().len())
    });
    (bytes, slowest)
}

fn count(folder: &Path, logs: &Path, query: &Query) -> u64 {
    let minutes = Reader::new(Stream::Access, folder, logs).minutes(query).unwrap();
    minutes.values().map(|minute| minute.records).sum()
}

/// The edge's log.
struct Log {
    path: PathBuf,
    file: File,
    bytes: u64,
    random: u64,
    lines: String,
}

impl Log {
    fn new(logs: &Path) -> Self {
        let folder = logs.join("edge");
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("access.log");
        Self {
            file: File::create(&path).unwrap(),
            path,
            bytes: 0,
            random: 0x9e37_79b9_7f4a_7c15,
            lines: String::new(),
        }
    }

    fn write(&mut self, from: u64, to: u64) {
        let mut lines = std::mem::take(&mut self.lines);
        lines.clear();
        for number in from..to {
            self.line(&mut lines, number);
        }
        self.lines = lines;
        if self.bytes + self.lines.len() as u64 > FILE_BYTES {
            self.rotate();
        }
        self.file.write_all(self.lines.as_bytes()).unwrap();
        self.bytes += self.lines.len() as u64;
    }

    fn rotate(&mut self) {
        let numbered = |number: u32| match number {
            0 => self.path.clone(),
            number => PathBuf::from(format!("{}.{number}", self.path.display())),
        };
        for number in (0..KEEP_FILES).rev() {
            std::fs::rename(numbered(number), numbered(number + 1)).ok();
        }
        self.file = File::create(&self.path).unwrap();
        self.bytes = 0;
    }

    fn line(&mut self, out: &mut String, number: u64) {
        let ms = NOON + i64::try_from(number * 1_000 / RATE).unwrap();
        let time = jiff::Timestamp::from_millisecond(ms).unwrap();
        let (id, item) = (self.id(), self.id());
        let (a, b, c) = (self.next(), self.next(), self.next());
        let status = match a % 1_000 {
            0..=4 => 500,
            5..=44 => 404,
            _ => 200,
        };
        let resource = ["orders", "items", "users", "carts", "sessions"][usize::try_from(b % 5).unwrap()];
        // Most answers are quick; one in a hundred takes a second.
        let duration = 800 + c % 40_000 + if b.is_multiple_of(100) { 1_000_000 } else { 0 };
        let method = if a.is_multiple_of(4) { "POST" } else { "GET" };
        writeln!(
            out,
            r#"{{"ts":"{time:.3}","request_id":"{id}","environment":"production","deployment":"d-12","host":"app.example.com","method":"{method}","path":"/api/{resource}/{item}","query":null,"status":{status},"bytes_in":{},"bytes_out":{},"duration_us":{duration},"upstream_us":{},"client_ip":"{}.{}.{}.{}","user_agent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{}.0.0.0 Safari/537.36","referer":null,"route":"worker:api","protocol":"HTTP/1.1","upgraded":false,"error":null,"error_reason":null,"blame":null}}"#,
            if method == "POST" { b % 900 } else { 0 },
            200 + a % 5_000,
            duration - 300 - a % 300,
            1 + a % 223,
            b % 256,
            c % 256,
            (a >> 20) % 256,
            100 + c % 40,
        )
        .unwrap();
    }

    fn id(&mut self) -> String {
        let (high, low) = (self.next(), self.next());
        format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            high >> 32,
            high >> 16 & 0xffff,
            high & 0xffff,
            low >> 48,
            low & 0xffff_ffff_ffff
        )
    }

    /// Xorshift64* (Vigna 2016): the same records in each run.
    fn next(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// Time of the processor that this thread took, from the kernel.
fn thread_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let nanos = text.split(' ').next().unwrap().parse().unwrap();
    Duration::from_nanos(nanos)
}

fn wait(time: Duration) {
    let (_never, nothing) = mpsc::channel::<()>();
    nothing.recv_timeout(time).ok();
}
