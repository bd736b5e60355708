//! Numbers by environment, route and minute, made while records are written: counts, errors, a histogram of latency;
//! probes and database connections. They lie in SQLite beside the position up to which the log had been counted, in one
//! transaction: each request counts once, whoever is killed when.

mod exposition;
mod schema;
mod summary;
mod windows;

pub use exposition::EXPOSITION_TYPE;
pub use summary::{Connections, Summary};
pub use windows::Asked;

use crate::histogram::Histogram;
use crate::source::{self, Position};
use crate::store::{Counts, lines};
use crate::stream::{Stream, time_ms};
use rusqlite::{Connection, OptionalExtension, params};
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Bytes of the log that are read at once.
const CHUNK: usize = 1 << 20;
const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// Minutes are kept so long; after that they are added up to hours.
const MINUTES_KEPT: i64 = 3 * DAY;
const HOURS_KEPT: i64 = 90 * DAY;
/// Environments and routes that have a name of their own; the rest is `other`.
const MAX_ENVIRONMENTS: usize = 64;
const MAX_ROUTES: usize = 50;
/// A request that takes longer is slow: by default the threshold of the rule for p95, counted exactly.
pub(crate) const SLOW_US: u64 = 500_000;
const OTHER: &str = "other";
/// Of requests whose host no environment has.
const NONE: &str = "none";
/// As which the probe asks.
pub const PROBE_AGENT: &str = "astraler-probe";

/// The numbers cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The database.
    #[error("the database of metrics cannot be used")]
    Database(#[from] rusqlite::Error),
    /// The access log.
    #[error("cannot read {path}", path = path.display())]
    Log {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// What a line must say to be counted.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Line<'a> {
    #[serde(borrow)]
    ts: Cow<'a, str>,
    #[serde(borrow)]
    environment: Option<Cow<'a, str>>,
    #[serde(borrow)]
    deployment: Option<Cow<'a, str>>,
    #[serde(borrow)]
    route: Cow<'a, str>,
    status: u16,
    duration_us: u64,
    #[serde(borrow)]
    client_ip: Cow<'a, str>,
    #[serde(borrow)]
    user_agent: Option<Cow<'a, str>>,
    #[serde(borrow)]
    error: Option<Cow<'a, str>>,
}

/// What is counted of requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) requests: u64,
    pub(crate) client_errors: u64,
    pub(crate) errors: u64,
    pub(crate) slow: u64,
    pub(crate) latency: Histogram,
}

impl Cell {
    fn add(&mut self, status: u16, duration_us: u64) {
        self.requests += 1;
        self.client_errors += u64::from((400..500).contains(&status));
        self.errors += u64::from(status >= 500);
        self.slow += u64::from(duration_us > SLOW_US);
        self.latency.add(duration_us);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.client_errors += other.client_errors;
        self.errors += other.errors;
        self.slow += other.slow;
        self.latency.merge(&other.latency);
    }
}

/// What is known of an environment in a minute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) probes: u64,
    pub(crate) up: u64,
    /// The most database connections that were in use at once.
    pub(crate) active: u64,
    /// How many there may be.
    pub(crate) size: u64,
}

impl State {
    pub(crate) fn merge(&mut self, other: Self) {
        self.probes += other.probes;
        self.up += other.up;
        self.active = self.active.max(other.active);
        if other.size > 0 {
            self.size = other.size;
        }
    }
}

/// The numbers, and what was not written yet.
#[derive(Debug)]
pub struct Metrics {
    database: Connection,
    log: PathBuf,
    position: Option<Position>,
    /// The position as it stands in the database.
    committed: Option<Position>,
    cells: BTreeMap<(i64, String, String), Cell>,
    states: BTreeMap<(i64, String), State>,
    pending: windows::Pending,
    slow_us: u64,
    known: BTreeMap<String, BTreeSet<String>>,
    /// What the probe and the pool said last.
    now: BTreeMap<String, Now>,
    stores: BTreeMap<Stream, (Counts, u64)>,
    edge_dropped: u64,
    replicated: BTreeMap<String, (u64, u64)>,
    gaps: u64,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Now {
    failures: u32,
    probed: bool,
    active: u64,
    size: u64,
}

/// So many probes must fail one after the other before an environment is down.
const FAILURES: u32 = 3;

impl Now {
    pub(crate) fn is_up(self) -> Option<bool> {
        self.probed.then_some(self.failures < FAILURES)
    }
}

impl Metrics {
    /// Opens the numbers in a folder; `logs` is where the edge's log lies. The caller sees to it that it is the only one.
    pub fn open(folder: &Path, logs: &Path) -> Result<Self, MetricsError> {
        let database = schema::open(&folder.join("metrics.db"))?;
        let position: Option<String> = database
            .query_row("SELECT position FROM source WHERE name = 'access'", [], |row| {
                row.get(0)
            })
            .optional()?;
        let position: Option<Position> = position.and_then(|text| serde_json::from_str(&text).ok());
        let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let pairs: Vec<(String, String)> = database
            .prepare("SELECT environment, route FROM total")?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        for (environment, route) in pairs {
            known.entry(environment).or_default().insert(route);
        }
        Ok(Self {
            database,
            log: logs.join("edge/access.log"),
            committed: position.clone(),
            position,
            cells: BTreeMap::new(),
            states: BTreeMap::new(),
            pending: windows::Pending::default(),
            slow_us: SLOW_US,
            known,
            now: BTreeMap::new(),
            stores: BTreeMap::new(),
            edge_dropped: 0,
            replicated: BTreeMap::new(),
            gaps: 0,
        })
    }

    /// From now on requests that take longer are slow in [`Metrics::windows`]: the threshold of the rule.
    pub fn slow_from(&mut self, ms: u64) {
        self.slow_us = ms.saturating_mul(1_000);
    }

    /// Counts what the log has, and writes it.
    pub fn tick(&mut self) -> Result<(), MetricsError> {
        loop {
            let chunk = source::read(&self.log, self.position.as_ref(), CHUNK).map_err(|source| {
                MetricsError::Log {
                    path: self.log.clone(),
                    source,
                }
            })?;
            self.gaps += u64::from(chunk.lost);
            if self.position.as_ref() == Some(&chunk.position) {
                break;
            }
            for line in lines(&chunk.bytes) {
                self.count(line);
            }
            self.position = Some(chunk.position);
        }
        self.commit()
    }

    /// The answer to a probe.
    pub fn probed(&mut self, environment: &str, at_ms: i64, up: bool) {
        let state = self
            .states
            .entry((minute(at_ms), environment.to_owned()))
            .or_default();
        state.probes += 1;
        state.up += u64::from(up);
        self.pending.probed(environment, at_ms, up);
        let now = self.now.entry(environment.to_owned()).or_default();
        now.probed = true;
        now.failures = if up { 0 } else { now.failures.saturating_add(1) };
    }

    /// Whether a failed probe is to be looked at again soon.
    pub fn in_doubt(&self, environment: &str) -> bool {
        self.now.get(environment).is_some_and(|now| now.failures > 0)
    }

    /// Database connections in use, and how many there may be.
    pub fn connected(&mut self, environment: &str, at_ms: i64, active: u64, size: u64) {
        let state = self
            .states
            .entry((minute(at_ms), environment.to_owned()))
            .or_default();
        state.active = state.active.max(active);
        state.size = size;
        self.pending.connected(environment, at_ms, active, size);
        let now = self.now.entry(environment.to_owned()).or_default();
        (now.active, now.size) = (active, size);
    }

    /// What waits to be sent to the second location: objects, and the oldest one's time in milliseconds, by environment.
    pub fn replicated(&mut self, waiting: BTreeMap<String, (u64, u64)>) {
        self.replicated = waiting;
    }

    /// Records that the edge could not write.
    pub fn edge_dropped(&mut self, records: u64) {
        self.edge_dropped = records;
    }

    /// Forgets what the probe said of environments that it does not ask any more.
    pub fn only_probed(&mut self, asked: &BTreeSet<String>) {
        for (_, now) in self.now.iter_mut().filter(|(name, _)| !asked.contains(*name)) {
            (now.probed, now.failures) = (false, 0);
        }
        self.pending.only_probed(|name| asked.contains(name));
        self.now.retain(|_, now| now.probed || now.size > 0);
    }

    /// Forgets the connections of environments that have no pool any more.
    pub fn only_connected(&mut self, pools: &BTreeSet<String>) {
        for (_, now) in self.now.iter_mut().filter(|(name, _)| !pools.contains(*name)) {
            (now.active, now.size) = (0, 0);
        }
        self.pending.only_connected(|name| pools.contains(name));
        self.now.retain(|_, now| now.probed || now.size > 0);
    }

    pub(crate) fn stored(&mut self, stream: Stream, counts: Counts, bytes: u64) {
        self.stores.insert(stream, (counts, bytes));
    }

    fn count(&mut self, line: &[u8]) {
        let Ok(line) = serde_json::from_slice::<Line<'_>>(line) else {
            return;
        };
        let Some(begun) = time_ms(&line.ts) else { return };
        // The probe's own questions are no requests; nobody else asks from this machine under its name.
        let probe = line.user_agent.as_deref() == Some(PROBE_AGENT);
        if probe && matches!(line.client_ip.as_ref(), "127.0.0.1" | "::1") {
            return;
        }
        // What an operator has closed does not fail.
        if line.error.as_deref() == Some("maintenance") {
            return;
        }
        let ended = begun.saturating_add(i64::try_from(line.duration_us / 1_000).unwrap_or(0));
        let (environment, route) = self.named(line.environment.as_deref().unwrap_or(NONE), &line.route);
        let (at, slow) = (minute(ended), line.duration_us > self.slow_us);
        self.pending.count(
            &environment,
            at,
            line.deployment.as_deref(),
            line.status >= 500,
            slow,
        );
        self.cells
            .entry((at, environment, route))
            .or_default()
            .add(line.status, line.duration_us);
    }

    /// Under which names it counts: their number is bounded.
    fn named(&mut self, environment: &str, route: &str) -> (String, String) {
        let environment = if self.known.contains_key(environment) || self.known.len() < MAX_ENVIRONMENTS {
            environment
        } else {
            OTHER
        };
        let routes = self.known.entry(environment.to_owned()).or_default();
        let route = if routes.contains(route) || routes.len() < MAX_ROUTES {
            route
        } else {
            OTHER
        };
        routes.insert(route.to_owned());
        (environment.to_owned(), route.to_owned())
    }

    fn commit(&mut self) -> Result<(), MetricsError> {
        if self.position == self.committed && self.states.is_empty() {
            return Ok(());
        }
        let transaction = self.database.transaction()?;
        for ((at, environment, route), cell) in &self.cells {
            schema::add_cell(&transaction, "requests_minute", *at, environment, route, cell)?;
            schema::add_total(&transaction, environment, route, cell)?;
        }
        for ((at, environment), state) in &self.states {
            schema::add_state(&transaction, "state_minute", *at, environment, *state)?;
        }
        self.pending.write(&transaction)?;
        let position = serde_json::to_string(&self.position).unwrap_or_default();
        transaction.execute(
            "INSERT INTO source (name, position) VALUES ('access', ?1)
             ON CONFLICT (name) DO UPDATE SET position = excluded.position",
            params![position],
        )?;
        transaction.commit()?;
        self.cells.clear();
        self.states.clear();
        self.pending.written();
        self.committed.clone_from(&self.position);
        Ok(())
    }

    /// Adds old minutes up to hours, and forgets old hours and environments of which nothing was heard for a week.
    pub fn forget(&mut self, now_ms: i64) -> Result<(), MetricsError> {
        // Whole hours only: one that is half there would be added to later, which is as good but slower.
        let before = (now_ms - MINUTES_KEPT).div_euclid(HOUR) * HOUR;
        let transaction = self.database.transaction()?;
        schema::add_up(&transaction, before, HOUR)?;
        windows::forget(&transaction, now_ms - MINUTES_KEPT - HOUR)?;
        for table in ["requests_hour", "state_hour"] {
            transaction.execute(
                &format!("DELETE FROM {table} WHERE at < ?1"),
                params![now_ms - HOURS_KEPT],
            )?;
        }
        transaction.execute(
            "DELETE FROM total WHERE environment NOT IN (
               SELECT environment FROM requests_minute UNION SELECT environment FROM requests_hour WHERE at >= ?1)",
            params![now_ms - 7 * DAY],
        )?;
        transaction.commit()?;
        Ok(())
    }
}

fn minute(ms: i64) -> i64 {
    ms.div_euclid(MINUTE) * MINUTE
}
