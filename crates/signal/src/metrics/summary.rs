//! Numbers of a span of time, by environment.

use super::schema::{cell, state};
use super::{Cell, Metrics, MetricsError, State};
use rusqlite::params;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An environment in a span of time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Its name; `none` for requests whose host no environment has.
    pub environment: String,
    /// Requests that ended.
    pub requests: u64,
    /// Those answered with 400 to 499.
    pub client_errors: u64,
    /// Those answered with 500 or above.
    pub errors: u64,
    /// Those that took longer than 500 ms.
    pub slow: u64,
    /// Share of requests that failed; none without requests.
    pub error_percent: Option<f64>,
    /// Latency below which half of them lie, in microseconds.
    pub p50_us: Option<u64>,
    /// The same of 95 of a hundred.
    pub p95_us: Option<u64>,
    /// The same of 99 of a hundred.
    pub p99_us: Option<u64>,
    /// Probes of its health path.
    pub probes: u64,
    /// Those that were answered as they should.
    pub probes_up: u64,
    /// Share of them.
    pub uptime_percent: Option<f64>,
    /// Whether it is up now: down is three failed probes in a row.
    pub up: Option<bool>,
    /// Its database connections.
    pub connections: Option<Connections>,
}

/// Connections of an environment's pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connections {
    /// In use when it was last looked.
    pub active: u64,
    /// The most at once in the span of time.
    pub most: u64,
    /// How many there may be.
    pub limit: u64,
}

impl Metrics {
    /// The numbers from one time to another, of one environment or of all. Minutes for three days, hours before that:
    /// what began before the first whole one is not in it.
    pub fn summary(
        &self,
        environment: Option<&str>,
        since_ms: i64,
        until_ms: i64,
    ) -> Result<Vec<Summary>, MetricsError> {
        let mut cells: BTreeMap<String, Cell> = BTreeMap::new();
        let mut states: BTreeMap<String, State> = BTreeMap::new();
        for span in ["minute", "hour"] {
            let mut statement = self.database.prepare_cached(&format!(
                "SELECT environment, requests, client_errors, errors, slow, latency FROM requests_{span}
                 WHERE at >= ?1 AND at < ?2 AND (?3 IS NULL OR environment = ?3)"
            ))?;
            let mut rows = statement.query(params![since_ms, until_ms, environment])?;
            while let Some(row) = rows.next()? {
                let name: String = row.get(0)?;
                cells.entry(name).or_default().merge(&cell(row, 1)?);
            }
            let mut statement = self.database.prepare_cached(&format!(
                "SELECT environment, probes, up, active, size FROM state_{span}
                 WHERE at >= ?1 AND at < ?2 AND (?3 IS NULL OR environment = ?3)"
            ))?;
            let mut rows = statement.query(params![since_ms, until_ms, environment])?;
            while let Some(row) = rows.next()? {
                let name: String = row.get(0)?;
                states.entry(name).or_default().merge(state(row, 1)?);
            }
        }
        let mut names: Vec<String> = cells.keys().chain(states.keys()).cloned().collect();
        names.sort();
        names.dedup();
        Ok(names
            .into_iter()
            .map(|name| {
                let cell = cells.remove(&name).unwrap_or_default();
                let state = states.get(&name).copied().unwrap_or_default();
                self.one(name, &cell, state)
            })
            .collect())
    }

    fn one(&self, environment: String, cell: &Cell, state: State) -> Summary {
        let now = self.now.get(&environment).copied().unwrap_or_default();
        Summary {
            requests: cell.requests,
            client_errors: cell.client_errors,
            errors: cell.errors,
            slow: cell.slow,
            error_percent: percent(cell.errors, cell.requests),
            p50_us: cell.latency.quantile_us(0.5),
            p95_us: cell.latency.quantile_us(0.95),
            p99_us: cell.latency.quantile_us(0.99),
            probes: state.probes,
            probes_up: state.up,
            uptime_percent: percent(state.up, state.probes),
            up: now.is_up(),
            connections: (state.size > 0).then_some(Connections {
                active: now.active,
                most: state.active,
                limit: state.size,
            }),
            environment,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share of counts")]
fn percent(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| 100.0 * part as f64 / whole as f64)
}
