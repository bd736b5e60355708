//! Marks on environments: protected, being destroyed. They are state, not configuration.

use crate::database::Fault;
use crate::environment::parse;
use crate::{MAX_ROWS, Store, StoreError};
use astraler_model::Environment;
use rusqlite::{OptionalExtension, Transaction, params};
use serde::Serialize;

/// The marks of one environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EnvironmentMark {
    /// Which.
    pub environment: Environment,
    /// Its data takes two steps to destroy.
    pub protected: bool,
    /// Its destruction was begun and has not ended.
    pub destroying: bool,
}

impl Store {
    /// Protects an environment's data, or ends its protection. Refused while the environment is being destroyed.
    /// Returns whether that changed anything.
    pub fn mark_protected(&self, environment: Environment, protected: bool) -> Result<bool, StoreError> {
        let operation = "mark an environment as protected";
        let name = environment.to_string();
        self.write(operation, |t| {
            if protected && marks(t, &name)?.is_some_and(|(_, destroying)| destroying) {
                let reason = format!("{name} is being destroyed");
                return Err(StoreError::Refused { operation, reason }.into());
            }
            let sql = "INSERT INTO environment_mark (name, protected) VALUES (?1, ?2)
                       ON CONFLICT (name) DO UPDATE SET protected = ?2 WHERE protected != ?2";
            Ok(t.prepare_cached(sql)?.execute(params![name, protected])? > 0)
        })
    }

    /// Writes down that the destruction of an environment begins: from here on it is wanted by nobody. Refused while
    /// it is protected.
    pub fn mark_destroying(&self, environment: Environment) -> Result<bool, StoreError> {
        let operation = "begin to destroy an environment";
        let name = environment.to_string();
        self.write(operation, |t| {
            if marks(t, &name)?.is_some_and(|(protected, _)| protected) {
                let reason = format!("{name} is protected");
                return Err(StoreError::Refused { operation, reason }.into());
            }
            let sql = "INSERT INTO environment_mark (name, protected, destroying) VALUES (?1, 0, 1)
                       ON CONFLICT (name) DO UPDATE SET destroying = 1 WHERE destroying = 0";
            let changed = t.prepare_cached(sql)?.execute([&name])? > 0;
            // What is to go must not be brought back meanwhile.
            t.prepare_cached("UPDATE environment SET desired = 'down' WHERE name = ?")?
                .execute([&name])?;
            Ok(changed)
        })
    }

    /// Every environment with a mark, by name; at most 1,000.
    pub fn marks(&self) -> Result<Vec<EnvironmentMark>, StoreError> {
        self.read("read the marks of environments", |t| {
            let sql = "SELECT name, protected, destroying FROM environment_mark ORDER BY name LIMIT ?";
            let mut statement = t.prepare_cached(sql)?;
            let mut rows = statement.query([MAX_ROWS])?;
            let mut marks = Vec::new();
            while let Some(row) = rows.next()? {
                let name: String = row.get(0)?;
                marks.push(EnvironmentMark {
                    environment: parse(&name)?,
                    protected: row.get(1)?,
                    destroying: row.get(2)?,
                });
            }
            Ok(marks)
        })
    }
}

fn marks(t: &Transaction<'_>, name: &str) -> Result<Option<(bool, bool)>, Fault> {
    let sql = "SELECT protected, destroying FROM environment_mark WHERE name = ?";
    Ok(t.prepare_cached(sql)?
        .query_row([name], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?)
}
