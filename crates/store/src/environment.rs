//! Which environments are wanted.

use crate::database::{integer, natural};
use crate::{MAX_ROWS, Store, StoreError};
use astraler_model::Environment;
use rusqlite::params;
use serde::Serialize;

/// What is wanted of an environment. Whether it is so is for the reconciler to find out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Desired {
    /// It serves.
    Up,
    /// It is stopped; its data stays.
    Down,
}

/// An environment as it is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EnvironmentRecord {
    /// Which.
    pub environment: Environment,
    /// What is wanted.
    pub desired: Desired,
    /// Since when that is wanted, in milliseconds since the Unix epoch.
    pub changed_ms: u64,
    /// Its workers and its Redis are stopped until somebody asks for it.
    pub asleep: bool,
    /// When it was last asked for, as far as that was recorded.
    pub active_ms: Option<u64>,
}

impl Store {
    /// Says what is wanted of an environment; it is made known by that. Returns whether that changed anything.
    pub fn environment_set(
        &self,
        environment: Environment,
        desired: Desired,
        now_ms: u64,
    ) -> Result<bool, StoreError> {
        let now = integer("a time", now_ms)?;
        self.write("set what is wanted of an environment", |t| {
            let sql = "INSERT INTO environment (name, desired, changed_ms) VALUES (?1, ?2, ?3)
                       ON CONFLICT (name) DO UPDATE SET desired = ?2, changed_ms = ?3 WHERE desired != ?2";
            // Whoever asks for it anew ends its destruction, wherever that stood.
            if desired == Desired::Up {
                t.prepare_cached("UPDATE environment_mark SET destroying = 0 WHERE name = ?")?
                    .execute([environment.to_string()])?;
            }
            Ok(t.prepare_cached(sql)?
                .execute(params![environment.to_string(), desired.name(), now])?
                > 0)
        })
    }

    /// Records that an environment sleeps or is awake. Returns whether that changed anything.
    pub fn environment_sleep(&self, environment: Environment, asleep: bool) -> Result<bool, StoreError> {
        self.write("record that an environment sleeps", |t| {
            let sql = "UPDATE environment SET asleep = ?2 WHERE name = ?1 AND asleep != ?2";
            Ok(t.prepare_cached(sql)?
                .execute(params![environment.to_string(), asleep])?
                > 0)
        })
    }

    /// Records when an environment was last asked for; it never goes back.
    pub fn environment_active(&self, environment: Environment, at_ms: u64) -> Result<(), StoreError> {
        let at = integer("a time", at_ms)?;
        self.write("record when an environment was asked for", |t| {
            let sql = "UPDATE environment SET active_ms = max(coalesce(active_ms, 0), ?2) WHERE name = ?1";
            t.prepare_cached(sql)?
                .execute(params![environment.to_string(), at])?;
            Ok(())
        })
    }

    /// Every known environment, by name; at most 1,000.
    pub fn environments(&self) -> Result<Vec<EnvironmentRecord>, StoreError> {
        self.read("read environments", |t| {
            let mut statement = t.prepare_cached(
                "SELECT name, desired, changed_ms, asleep, active_ms FROM environment ORDER BY name LIMIT ?",
            )?;
            let mut rows = statement.query([MAX_ROWS])?;
            let mut records = Vec::new();
            while let Some(row) = rows.next()? {
                let (name, desired): (String, String) = (row.get(0)?, row.get(1)?);
                records.push(EnvironmentRecord {
                    environment: parse(&name)?,
                    desired: if desired == "up" {
                        Desired::Up
                    } else {
                        Desired::Down
                    },
                    changed_ms: natural("a time", row.get(2)?)?,
                    asleep: row.get(3)?,
                    active_ms: row
                        .get::<_, Option<i64>>(4)?
                        .map(|ms| natural("a time", ms))
                        .transpose()?,
                });
            }
            Ok(records)
        })
    }

    /// Forgets an environment (a preview whose pull request was closed) with its deployments and marks. Refused while
    /// one of them starts, serves or drains, and while it is protected. Returns whether it was known.
    pub fn environment_remove(&self, environment: Environment) -> Result<bool, StoreError> {
        let operation = "forget an environment";
        let name = environment.to_string();
        self.write(operation, |t| {
            let sql = "SELECT count(*) FROM deployment
                       WHERE environment = ? AND state IN ('starting', 'live', 'draining')";
            let active: u32 = t.prepare_cached(sql)?.query_row([&name], |row| row.get(0))?;
            if active > 0 {
                let reason = format!("{name} has {active} deployment(s) that start, serve or drain");
                return Err(StoreError::Refused { operation, reason }.into());
            }
            let sql = "SELECT count(*) FROM environment_mark WHERE name = ? AND protected";
            let protected: u32 = t.prepare_cached(sql)?.query_row([&name], |row| row.get(0))?;
            if protected > 0 {
                let reason = format!("{name} is protected");
                return Err(StoreError::Refused { operation, reason }.into());
            }
            t.prepare_cached("DELETE FROM environment_mark WHERE name = ?")?
                .execute([&name])?;
            t.prepare_cached("DELETE FROM environment_switch WHERE environment = ?")?
                .execute([&name])?;
            t.prepare_cached("DELETE FROM deployment WHERE environment = ?")?
                .execute([&name])?;
            Ok(t.prepare_cached("DELETE FROM environment WHERE name = ?")?
                .execute([&name])?
                > 0)
        })
    }
}

pub(crate) fn parse(name: &str) -> Result<Environment, StoreError> {
    name.parse().map_err(
        |error: astraler_model::ParseEnvironmentError| StoreError::Damaged {
            what: "an environment's name",
            reason: error.to_string(),
        },
    )
}

impl Desired {
    /// `up` or `down`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}
