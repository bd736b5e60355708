//! The tables, and adding to their rows.

use super::{Cell, State, windows};
use crate::histogram::Histogram;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use std::path::Path;
use std::time::Duration;

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS source (name TEXT PRIMARY KEY, position TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS requests_minute (
  at INTEGER NOT NULL, environment TEXT NOT NULL, route TEXT NOT NULL, requests INTEGER NOT NULL,
  client_errors INTEGER NOT NULL, errors INTEGER NOT NULL, slow INTEGER NOT NULL, latency BLOB NOT NULL,
  PRIMARY KEY (at, environment, route)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS requests_hour (
  at INTEGER NOT NULL, environment TEXT NOT NULL, route TEXT NOT NULL, requests INTEGER NOT NULL,
  client_errors INTEGER NOT NULL, errors INTEGER NOT NULL, slow INTEGER NOT NULL, latency BLOB NOT NULL,
  PRIMARY KEY (at, environment, route)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS total (
  environment TEXT NOT NULL, route TEXT NOT NULL, requests INTEGER NOT NULL, client_errors INTEGER NOT NULL,
  errors INTEGER NOT NULL, slow INTEGER NOT NULL, latency BLOB NOT NULL,
  PRIMARY KEY (environment, route)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS state_minute (
  at INTEGER NOT NULL, environment TEXT NOT NULL, probes INTEGER NOT NULL, up INTEGER NOT NULL,
  active INTEGER NOT NULL, size INTEGER NOT NULL, PRIMARY KEY (at, environment)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS state_hour (
  at INTEGER NOT NULL, environment TEXT NOT NULL, probes INTEGER NOT NULL, up INTEGER NOT NULL,
  active INTEGER NOT NULL, size INTEGER NOT NULL, PRIMARY KEY (at, environment)) STRICT, WITHOUT ROWID;
";

pub(super) fn open(path: &Path) -> rusqlite::Result<Connection> {
    let database = Connection::open(path)?;
    database.busy_timeout(Duration::from_secs(5))?;
    // A loss of power takes the last seconds and the position with them: they are counted again.
    database
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -512;")?;
    database.execute_batch(TABLES)?;
    database.execute_batch(windows::TABLES)?;
    Ok(database)
}

/// Columns: requests, client_errors, errors, slow, latency, beginning at `first`.
pub(super) fn cell(row: &Row<'_>, first: usize) -> rusqlite::Result<Cell> {
    let number = |index: usize| natural(row, first + index);
    let latency: Vec<u8> = row.get(first + 4)?;
    Ok(Cell {
        requests: number(0)?,
        client_errors: number(1)?,
        errors: number(2)?,
        slow: number(3)?,
        latency: Histogram::decode(&latency),
    })
}

/// Columns: probes, up, active, size, beginning at `first`.
pub(super) fn state(row: &Row<'_>, first: usize) -> rusqlite::Result<State> {
    let number = |index: usize| natural(row, first + index);
    Ok(State {
        probes: number(0)?,
        up: number(1)?,
        active: number(2)?,
        size: number(3)?,
    })
}

pub(super) fn add_cell(
    transaction: &Transaction<'_>,
    table: &str,
    at: i64,
    environment: &str,
    route: &str,
    cell: &Cell,
) -> rusqlite::Result<()> {
    let mut sum = transaction
        .prepare_cached(&format!(
            "SELECT requests, client_errors, errors, slow, latency FROM {table}
             WHERE at = ?1 AND environment = ?2 AND route = ?3"
        ))?
        .query_row(params![at, environment, route], |row| self::cell(row, 0))
        .optional()?
        .unwrap_or_default();
    sum.merge(cell);
    transaction
        .prepare_cached(&format!(
            "INSERT OR REPLACE INTO {table} VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
        ))?
        .execute(params![
            at,
            environment,
            route,
            number(sum.requests),
            number(sum.client_errors),
            number(sum.errors),
            number(sum.slow),
            sum.latency.encode(),
        ])?;
    Ok(())
}

pub(super) fn add_total(
    transaction: &Transaction<'_>,
    environment: &str,
    route: &str,
    cell: &Cell,
) -> rusqlite::Result<()> {
    let mut sum = transaction
        .prepare_cached(
            "SELECT requests, client_errors, errors, slow, latency FROM total
             WHERE environment = ?1 AND route = ?2",
        )?
        .query_row(params![environment, route], |row| self::cell(row, 0))
        .optional()?
        .unwrap_or_default();
    sum.merge(cell);
    transaction
        .prepare_cached("INSERT OR REPLACE INTO total VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?
        .execute(params![
            environment,
            route,
            number(sum.requests),
            number(sum.client_errors),
            number(sum.errors),
            number(sum.slow),
            sum.latency.encode(),
        ])?;
    Ok(())
}

pub(super) fn add_state(
    transaction: &Transaction<'_>,
    table: &str,
    at: i64,
    environment: &str,
    state: State,
) -> rusqlite::Result<()> {
    let mut sum = transaction
        .prepare_cached(&format!(
            "SELECT probes, up, active, size FROM {table} WHERE at = ?1 AND environment = ?2"
        ))?
        .query_row(params![at, environment], |row| self::state(row, 0))
        .optional()?
        .unwrap_or_default();
    sum.merge(state);
    transaction
        .prepare_cached(&format!(
            "INSERT OR REPLACE INTO {table} VALUES (?1, ?2, ?3, ?4, ?5, ?6)"
        ))?
        .execute(params![
            at,
            environment,
            number(sum.probes),
            number(sum.up),
            number(sum.active),
            number(sum.size),
        ])?;
    Ok(())
}

/// Moves minutes before a time into the hours that they are part of.
pub(super) fn add_up(transaction: &Transaction<'_>, before: i64, hour: i64) -> rusqlite::Result<()> {
    let cells: Vec<(i64, String, String, Cell)> = transaction
        .prepare(
            "SELECT at, environment, route, requests, client_errors, errors, slow, latency
             FROM requests_minute WHERE at < ?1",
        )?
        .query_map(params![before], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, cell(row, 3)?))
        })?
        .collect::<Result<_, _>>()?;
    for (at, environment, route, cell) in &cells {
        let at = at.div_euclid(hour) * hour;
        add_cell(transaction, "requests_hour", at, environment, route, cell)?;
    }
    let states: Vec<(i64, String, State)> = transaction
        .prepare("SELECT at, environment, probes, up, active, size FROM state_minute WHERE at < ?1")?
        .query_map(params![before], |row| {
            Ok((row.get(0)?, row.get(1)?, state(row, 2)?))
        })?
        .collect::<Result<_, _>>()?;
    for (at, environment, state) in &states {
        let at = at.div_euclid(hour) * hour;
        add_state(transaction, "state_hour", at, environment, *state)?;
    }
    for table in ["requests_minute", "state_minute"] {
        transaction.execute(&format!("DELETE FROM {table} WHERE at < ?1"), params![before])?;
    }
    Ok(())
}

pub(super) fn natural(row: &Row<'_>, index: usize) -> rusqlite::Result<u64> {
    let number: i64 = row.get(index)?;
    Ok(u64::try_from(number).unwrap_or(0))
}

pub(super) fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
