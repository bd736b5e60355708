//! Counts of windows, for those who look every other second: by environment, minute and deployment, without histograms
//! and routes, so that a look over three days reads some thousand small rows.

use super::schema::{natural, number};
use super::{Metrics, MetricsError, minute};
use astraler_model::Window;
use rusqlite::{Connection, Transaction, params};
use std::collections::BTreeMap;

/// Between two probes or looks at a pool more time than this is time in which nobody looked.
const MAX_GAP_S: u64 = 15;
/// What the first look stands for.
const FIRST_S: u64 = 5;
/// Counted apart between two writes; the rest counts as nobody's.
const MAX_PENDING: usize = 1_000;

pub(super) const TABLES: &str = "
CREATE TABLE IF NOT EXISTS count_minute (
  environment TEXT NOT NULL, at INTEGER NOT NULL, deployment TEXT NOT NULL, requests INTEGER NOT NULL,
  errors INTEGER NOT NULL, slow INTEGER NOT NULL, PRIMARY KEY (environment, at, deployment)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS look_minute (
  environment TEXT NOT NULL, at INTEGER NOT NULL, up_s INTEGER NOT NULL, down_s INTEGER NOT NULL,
  pool_s INTEGER NOT NULL, pool_permille INTEGER NOT NULL, PRIMARY KEY (environment, at)) STRICT, WITHOUT ROWID;
";

/// A question about windows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// Of which environment.
    pub environment: String,
    /// Of one deployment only; then nothing is said of probes and connections.
    pub deployment: Option<String>,
    /// How long.
    pub seconds: Vec<u64>,
    /// Where the windows end.
    pub until_ms: i64,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    requests: u64,
    errors: u64,
    slow: u64,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    up_s: u64,
    down_s: u64,
    pool_s: u64,
    pool_permille: u64,
}

impl Default for Look {
    fn default() -> Self {
        Self {
            up_s: 0,
            down_s: 0,
            pool_s: 0,
            // The least of nothing.
            pool_permille: 1_000,
        }
    }
}

/// What was not written yet.
#[derive(Debug, Default)]
pub(super) struct Pending {
    tallies: BTreeMap<(String, i64, String), Tally>,
    looks: BTreeMap<(String, i64), Look>,
    probed: BTreeMap<String, i64>,
    pooled: BTreeMap<String, i64>,
}

impl Pending {
    pub(super) fn count(
        &mut self,
        environment: &str,
        at: i64,
        deployment: Option<&str>,
        failed: bool,
        slow: bool,
    ) {
        let full = self.tallies.len() >= MAX_PENDING;
        let deployment = deployment.filter(|_| !full).unwrap_or_default();
        let key = (environment.to_owned(), at, deployment.to_owned());
        let tally = self.tallies.entry(key).or_default();
        tally.requests += 1;
        tally.errors += u64::from(failed);
        tally.slow += u64::from(slow);
    }

    /// A probe stands for the time since the one before.
    pub(super) fn probed(&mut self, environment: &str, at_ms: i64, up: bool) {
        let seconds = since(&mut self.probed, environment, at_ms);
        let look = self.look(environment, at_ms);
        if up {
            look.up_s += seconds;
        } else {
            look.down_s += seconds;
        }
    }

    pub(super) fn connected(&mut self, environment: &str, at_ms: i64, active: u64, size: u64) {
        let Some(permille) = active.saturating_mul(1_000).checked_div(size) else {
            return;
        };
        let seconds = since(&mut self.pooled, environment, at_ms);
        let look = self.look(environment, at_ms);
        look.pool_s += seconds;
        look.pool_permille = look.pool_permille.min(permille);
    }

    pub(super) fn only_probed(&mut self, asked: impl Fn(&str) -> bool) {
        self.probed.retain(|name, _| asked(name));
    }

    pub(super) fn only_connected(&mut self, pools: impl Fn(&str) -> bool) {
        self.pooled.retain(|name, _| pools(name));
    }

    fn look(&mut self, environment: &str, at_ms: i64) -> &mut Look {
        self.looks
            .entry((environment.to_owned(), minute(at_ms)))
            .or_default()
    }

    pub(super) fn write(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let mut count = transaction.prepare_cached(
            "INSERT INTO count_minute VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT DO UPDATE SET requests = requests + ?4, errors = errors + ?5, slow = slow + ?6",
        )?;
        for ((environment, at, deployment), tally) in &self.tallies {
            let Tally {
                requests,
                errors,
                slow,
            } = *tally;
            let counts = (number(requests), number(errors), number(slow));
            count.execute(params![environment, at, deployment, counts.0, counts.1, counts.2])?;
        }
        let mut look = transaction.prepare_cached(
            "INSERT INTO look_minute VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT DO UPDATE SET up_s = up_s + ?3, down_s = down_s + ?4, pool_s = pool_s + ?5,
               pool_permille = min(pool_permille, ?6)",
        )?;
        for ((environment, at), seen) in &self.looks {
            look.execute(params![
                environment,
                at,
                number(seen.up_s),
                number(seen.down_s),
                number(seen.pool_s),
                number(seen.pool_permille),
            ])?;
        }
        Ok(())
    }

    /// What was written need not be written again.
    pub(super) fn written(&mut self) {
        self.tallies.clear();
        self.looks.clear();
    }
}

/// Seconds since somebody looked last, by the wall clock: one that jumps counts as one look.
fn since(last: &mut BTreeMap<String, i64>, environment: &str, at_ms: i64) -> u64 {
    match last.insert(environment.to_owned(), at_ms) {
        Some(before) => u64::try_from((at_ms - before) / 1_000).map_or(0, |passed| passed.min(MAX_GAP_S)),
        None => FIRST_S,
    }
}

pub(super) fn forget(database: &Connection, before: i64) -> rusqlite::Result<()> {
    for table in ["count_minute", "look_minute"] {
        database.execute(&format!("DELETE FROM {table} WHERE at < ?1"), params![before])?;
    }
    Ok(())
}

impl Metrics {
    /// The counts of windows that end at one time.
    pub fn windows(&self, asked: &Asked) -> Result<Vec<Window>, MetricsError> {
        let (environment, until) = (&asked.environment, asked.until_ms);
        let mut counts = self.database.prepare_cached(
            "SELECT coalesce(sum(requests), 0), coalesce(sum(errors), 0), coalesce(sum(slow), 0) FROM count_minute
             WHERE environment = ?1 AND at >= ?2 AND at < ?3 AND (?4 IS NULL OR deployment = ?4)",
        )?;
        let mut looks = self.database.prepare_cached(
            "SELECT coalesce(sum(up_s), 0), coalesce(sum(down_s), 0), coalesce(sum(pool_s), 0),
               coalesce(min(CASE WHEN pool_s > 0 THEN pool_permille END), 0)
             FROM look_minute WHERE environment = ?1 AND at >= ?2 AND at < ?3",
        )?;
        let mut found = Vec::new();
        for seconds in &asked.seconds {
            let length_ms = i64::try_from(seconds.saturating_mul(1_000)).unwrap_or(i64::MAX);
            // The minute in which it begins is in it.
            let since = minute(until.saturating_sub(length_ms).max(0));
            let (requests, errors, slow) = counts
                .query_row(params![environment, since, until, asked.deployment], |row| {
                    Ok((natural(row, 0)?, natural(row, 1)?, natural(row, 2)?))
                })?;
            let mut window = Window {
                seconds: *seconds,
                requests,
                errors,
                slow,
                ..Window::default()
            };
            if asked.deployment.is_none() {
                (
                    window.up_s,
                    window.down_s,
                    window.pool_s,
                    window.pool_least_permille,
                ) = looks.query_row(params![environment, since, until], |row| {
                    Ok((
                        natural(row, 0)?,
                        natural(row, 1)?,
                        natural(row, 2)?,
                        natural(row, 3)?,
                    ))
                })?;
            }
            found.push(window);
        }
        Ok(found)
    }
}
