//! Alerts: the book, the outbox of their notices, and those that are over. Their words are the caller's JSON.

use crate::database::{Fault, at_most, integer, json};
use crate::{MAX_ROWS, Store, StoreError};
use rusqlite::{OptionalExtension, Row, Transaction, params};
use serde_json::Value;

const MAX_BOOK: usize = 8 << 20;
const MAX_BODY: usize = 4 << 20;
/// Deliveries that have ended, and alerts that are over, are kept for as many.
const KEPT: u32 = 1_000;

/// A delivery as it is to be kept.
#[derive(Debug, Clone, PartialEq)]
pub struct AlertDelivery {
    /// Its number.
    pub number: u64,
    /// Whether nothing more happens to it.
    pub done: bool,
    /// What it is.
    pub body: Value,
}

/// What one look at the alerts changes, all of it or nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AlertChange<'a> {
    /// The book as it is now.
    pub book: &'a Value,
    /// What is to be said from now on.
    pub deliveries: &'a [AlertDelivery],
    /// Alerts that are over, by number.
    pub ended: &'a [(u64, Value)],
}

impl Store {
    /// Keeps a change. Old deliveries and alerts that have ended go.
    pub fn alerts_change(&self, change: &AlertChange<'_>, now_ms: u64) -> Result<(), StoreError> {
        let book = change.book.to_string();
        at_most("the book of alerts", book.as_bytes(), MAX_BOOK)?;
        let now = integer("a time", now_ms)?;
        self.write("keep what alerts led to", |t| {
            let sql = "INSERT INTO alert_book (id, body, changed_ms) VALUES (1, ?1, ?2)
                       ON CONFLICT (id) DO UPDATE SET body = ?1, changed_ms = ?2";
            t.prepare_cached(sql)?.execute(params![book, now])?;
            for delivery in change.deliveries {
                put(t, delivery, now)?;
            }
            let sql = "INSERT OR REPLACE INTO alert_history (number, body, ended_ms) VALUES (?, ?, ?)";
            for (number, body) in change.ended {
                let body = body.to_string();
                at_most("an alert", body.as_bytes(), MAX_BODY)?;
                t.prepare_cached(sql)?
                    .execute(params![integer("a number", *number)?, body, now])?;
            }
            if !change.ended.is_empty() {
                let sql = "DELETE FROM alert_history WHERE number NOT IN
                           (SELECT number FROM alert_history ORDER BY number DESC LIMIT ?)";
                t.prepare_cached(sql)?.execute([KEPT])?;
            }
            let sql = "DELETE FROM alert_delivery WHERE done = 1 AND number NOT IN
                       (SELECT number FROM alert_delivery WHERE done = 1 ORDER BY number DESC LIMIT ?)";
            t.prepare_cached(sql)?.execute([KEPT])?;
            Ok(())
        })
    }

    /// Keeps how a delivery stands.
    pub fn alert_delivery_put(&self, delivery: &AlertDelivery, now_ms: u64) -> Result<(), StoreError> {
        let now = integer("a time", now_ms)?;
        self.write("keep how a notice stands", |t| put(t, delivery, now))
    }

    /// The book, when there is one.
    pub fn alert_book(&self) -> Result<Option<Value>, StoreError> {
        self.read("read the book of alerts", |t| {
            let sql = "SELECT body FROM alert_book WHERE id = 1";
            let body: Option<String> = t
                .prepare_cached(sql)?
                .query_row((), |row| row.get(0))
                .optional()?;
            Ok(body.map(|body| json("the book of alerts", &body)).transpose()?)
        })
    }

    /// Deliveries that have not ended, the oldest first; at most 1,000, the others come when those have ended.
    pub fn alert_deliveries_open(&self) -> Result<Vec<Value>, StoreError> {
        let sql = "SELECT body FROM alert_delivery WHERE done = 0 ORDER BY number LIMIT ?";
        self.read("read notices on their way", |t| bodies(t, sql, MAX_ROWS))
    }

    /// Deliveries, the newest first.
    pub fn alert_deliveries(&self, limit: u32) -> Result<Vec<Value>, StoreError> {
        let sql = "SELECT body FROM alert_delivery ORDER BY number DESC LIMIT ?";
        self.read("read notices", |t| bodies(t, sql, limit.min(MAX_ROWS)))
    }

    /// Alerts that are over, the newest first.
    pub fn alert_history(&self, limit: u32) -> Result<Vec<Value>, StoreError> {
        let sql = "SELECT body FROM alert_history ORDER BY number DESC LIMIT ?";
        self.read("read alerts that are over", |t| {
            bodies(t, sql, limit.min(MAX_ROWS))
        })
    }
}

fn put(t: &Transaction<'_>, delivery: &AlertDelivery, now: i64) -> Result<(), Fault> {
    let body = delivery.body.to_string();
    at_most("a notice", body.as_bytes(), MAX_BODY)?;
    let sql = "INSERT INTO alert_delivery (number, done, body, changed_ms) VALUES (?1, ?2, ?3, ?4)
               ON CONFLICT (number) DO UPDATE SET done = ?2, body = ?3, changed_ms = ?4";
    let number = integer("a number", delivery.number)?;
    t.prepare_cached(sql)?
        .execute(params![number, delivery.done, body, now])?;
    Ok(())
}

fn bodies(t: &Transaction<'_>, sql: &str, limit: u32) -> Result<Vec<Value>, Fault> {
    let text = |row: &Row<'_>| row.get::<_, String>(0);
    let rows: Vec<String> = t
        .prepare_cached(sql)?
        .query_map([limit], text)?
        .collect::<Result<_, _>>()?;
    let values = rows.iter().map(|body| json("a row of alerts", body));
    Ok(values.collect::<Result<_, _>>()?)
}
