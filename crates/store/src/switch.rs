//! What an operator has switched on for an environment while it serves: maintenance, the mode under attack. They are
//! state, not configuration, and outlive deployments.

use crate::environment::parse;
use crate::{MAX_ROWS, Store, StoreError};
use astraler_model::Environment;
use rusqlite::params;

/// The kinds of switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SwitchKind {
    /// Closed to all but a few.
    Maintenance,
    /// Limits are tightened.
    Attack,
}

impl SwitchKind {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Maintenance => "maintenance",
            Self::Attack => "attack",
        }
    }
}

/// A switch that is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwitchRecord {
    /// Of which environment.
    pub environment: Environment,
    /// What it does.
    pub kind: SwitchKind,
    /// How, as JSON.
    pub detail: String,
}

impl Store {
    /// Switches something on, or changes how it is on.
    pub fn switch_on(
        &self,
        environment: Environment,
        kind: SwitchKind,
        detail: &str,
    ) -> Result<(), StoreError> {
        self.write("switch something on", |t| {
            let sql = "INSERT INTO environment_switch (environment, kind, detail) VALUES (?1, ?2, ?3)
                       ON CONFLICT (environment, kind) DO UPDATE SET detail = ?3";
            t.prepare_cached(sql)?
                .execute(params![environment.to_string(), kind.name(), detail])?;
            Ok(())
        })
    }

    /// Switches it off. Returns whether it was on.
    pub fn switch_off(&self, environment: Environment, kind: SwitchKind) -> Result<bool, StoreError> {
        self.write("switch something off", |t| {
            let sql = "DELETE FROM environment_switch WHERE environment = ? AND kind = ?";
            let rows = t
                .prepare_cached(sql)?
                .execute(params![environment.to_string(), kind.name()])?;
            Ok(rows > 0)
        })
    }

    /// All that is on; at most 1,000.
    pub fn switches(&self) -> Result<Vec<SwitchRecord>, StoreError> {
        self.read("read what is switched on", |t| {
            let sql = "SELECT environment, kind, detail FROM environment_switch
                       ORDER BY environment, kind LIMIT ?";
            let mut statement = t.prepare_cached(sql)?;
            let mut rows = statement.query([MAX_ROWS])?;
            let mut records = Vec::new();
            while let Some(row) = rows.next()? {
                let (name, kind): (String, String) = (row.get(0)?, row.get(1)?);
                records.push(SwitchRecord {
                    environment: parse(&name)?,
                    kind: match kind.as_str() {
                        "maintenance" => SwitchKind::Maintenance,
                        _ => SwitchKind::Attack,
                    },
                    detail: row.get(2)?,
                });
            }
            Ok(records)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_is_on_until_it_is_switched_off_or_its_environment_goes() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("control.db")).unwrap();
        let (staging, preview) = (Environment::Staging, Environment::Preview(7));
        assert!(!store.switch_off(staging, SwitchKind::Attack).unwrap());
        store.switch_on(staging, SwitchKind::Attack, "{}").unwrap();
        store
            .switch_on(staging, SwitchKind::Attack, r#"{"a":1}"#)
            .unwrap();
        store.switch_on(preview, SwitchKind::Maintenance, "{}").unwrap();
        let on = store.switches().unwrap();
        assert_eq!(on.len(), 2);
        assert_eq!(
            (on[1].environment, on[1].kind, on[1].detail.as_str()),
            (staging, SwitchKind::Attack, r#"{"a":1}"#)
        );
        store.environment_remove(preview).unwrap();
        assert!(store.switch_off(staging, SwitchKind::Attack).unwrap());
        assert_eq!(store.switches().unwrap(), []);
    }
}
