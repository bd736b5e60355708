//! Deployments that were found to be bad while they served. The verdict is written down before anything is done about it:
//! whoever is killed in between goes on from there.

use crate::database::{cut, integer, natural};
use crate::{DeploymentId, MAX_ROWS, Store, StoreError};
use rusqlite::params;

const MAX_WHY: usize = 2_000;

/// A deployment that was found to be bad.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadDeployment {
    /// Which.
    pub deployment: DeploymentId,
    /// What was found.
    pub why: String,
    /// Whether people were told what was done about it.
    pub told: bool,
    /// When it was found.
    pub found_ms: u64,
}

impl Store {
    /// Writes down that a deployment is bad. Returns whether that is new; the first finding stays.
    pub fn deployment_condemn(&self, id: DeploymentId, why: &str, now_ms: u64) -> Result<bool, StoreError> {
        let now = integer("a time", now_ms)?;
        self.write("condemn a deployment", |t| {
            let sql = "INSERT INTO deployment_bad (deployment, why, found_ms) VALUES (?, ?, ?) ON CONFLICT DO NOTHING";
            let changed = t
                .prepare_cached(sql)?
                .execute(params![id.0, cut(why, MAX_WHY), now])?;
            Ok(changed > 0)
        })
    }

    /// Writes down that people were told.
    pub fn deployment_told(&self, id: DeploymentId) -> Result<(), StoreError> {
        self.write("note that a bad deployment was told of", |t| {
            t.prepare_cached("UPDATE deployment_bad SET told = 1 WHERE deployment = ?")?
                .execute([id.0])?;
            Ok(())
        })
    }

    /// Bad deployments, the newest first; they go with their deployment's record.
    pub fn deployments_bad(&self) -> Result<Vec<BadDeployment>, StoreError> {
        self.read("list bad deployments", |t| {
            let sql =
                "SELECT deployment, why, told, found_ms FROM deployment_bad ORDER BY deployment DESC LIMIT ?";
            let mut statement = t.prepare_cached(sql)?;
            let mut rows = statement.query([MAX_ROWS])?;
            let mut all = Vec::new();
            while let Some(row) = rows.next()? {
                all.push(BadDeployment {
                    deployment: DeploymentId(row.get(0)?),
                    why: row.get(1)?,
                    told: row.get(2)?,
                    found_ms: natural("a time", row.get(3)?)?,
                });
            }
            Ok(all)
        })
    }
}
