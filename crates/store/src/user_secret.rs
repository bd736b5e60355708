//! The user's secrets: that they exist, since when, by whom, and who may have them. Values are sealed beside them, under
//! [`sealed_name`], so that one rotation of a scope's key takes all of its secrets along.

use crate::database::{at_most, integer, natural};
use crate::{MAX_ROWS, Store, StoreError};
use rusqlite::{OptionalExtension, Transaction, params};
use serde::Serialize;

const PREFIX: &str = "user/";
const MAX_NAME: usize = 128;
const MAX_SERVICE: usize = 128;
/// Of one scope.
const MAX_SECRETS: u32 = 200;
/// Versions of one secret that its history remembers.
const HISTORY: u32 = 100;

/// Under which name the value of a secret is sealed: no generated credential has one like it.
pub fn sealed_name(name: &str) -> String {
    format!("{PREFIX}{name}")
}

/// Whether a value that is sealed under this name is a user's secret.
pub fn is_user_secret(sealed_name: &str) -> bool {
    sealed_name.starts_with(PREFIX)
}

/// A secret of the user's as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UserSecret {
    /// Its name.
    pub name: String,
    /// The newest version.
    pub version: u64,
    /// Who set it.
    pub actor: String,
    /// When, in milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// Services that may have it, by name.
    pub grants: Vec<String>,
}

/// One version in a secret's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UserSecretVersion {
    /// 1 or more.
    pub version: u64,
    /// Who made it.
    pub actor: String,
    /// The secret was removed with this.
    pub removed: bool,
    /// Whether its value is still there.
    pub sealed: bool,
    /// When, in milliseconds since the Unix epoch.
    pub created_ms: u64,
}

/// A version about to be stored.
#[derive(Debug, Clone, Copy)]
pub struct NewUserSecret<'a> {
    /// The environment's scope.
    pub scope: &'a str,
    /// The secret's name.
    pub name: &'a str,
    /// What [`Store::user_secret_next`] said.
    pub version: u64,
    /// What only the vault opens.
    pub ciphertext: &'a [u8],
    /// Who sets it.
    pub actor: &'a str,
}

impl Store {
    /// The number of a secret's next version. Numbers are never used twice, not after a removal either.
    pub fn user_secret_next(&self, scope: &str, name: &str) -> Result<u64, StoreError> {
        self.read("read a secret's versions", |t| Ok(newest(t, scope, name)? + 1))
    }

    /// Stores a version with its value. At most 200 secrets in a scope; of names that differ by case alone, one.
    pub fn user_secret_put(&self, new: &NewUserSecret<'_>, now_ms: u64) -> Result<(), StoreError> {
        let operation = "store a secret";
        at_most("a secret's name", new.name.as_bytes(), MAX_NAME)?;
        let (version, now) = (integer("a version", new.version)?, integer("a time", now_ms)?);
        self.write(operation, |t| {
            let refused = |reason| Err(StoreError::Refused { operation, reason }.into());
            let expected = newest(t, new.scope, new.name)? + 1;
            if new.version != expected {
                return refused(format!("version {expected} of `{}` was to come", new.name));
            }
            let present = names(t, new.scope)?;
            if !present.iter().any(|name| name == new.name) {
                let same = present.iter().find(|name| name.eq_ignore_ascii_case(new.name));
                if let Some(same) = same {
                    return refused(format!("`{same}` is there, and differs from it by case alone"));
                }
                if present.len() >= MAX_SECRETS as usize {
                    return refused(format!("there are {MAX_SECRETS} already"));
                }
            }
            t.prepare_cached(
                "INSERT INTO sealed (scope, name, version, ciphertext, created_ms) VALUES (?, ?, ?, ?, ?)",
            )?
            .execute(params![
                new.scope,
                sealed_name(new.name),
                version,
                new.ciphertext,
                now
            ])?;
            append(t, new.scope, new.name, version, new.actor, false, now)
        })
    }

    /// Removes a secret with its grants: no later deployment has it. Its values stay until [`Store::user_secret_wipe`].
    /// Returns whether there was one.
    pub fn user_secret_remove(
        &self,
        scope: &str,
        name: &str,
        actor: &str,
        now_ms: u64,
    ) -> Result<bool, StoreError> {
        let now = integer("a time", now_ms)?;
        self.write("remove a secret", |t| {
            if !names(t, scope)?.iter().any(|present| present == name) {
                return Ok(false);
            }
            t.prepare_cached("DELETE FROM secret_grant WHERE scope = ? AND name = ?")?
                .execute([scope, name])?;
            let version = integer("a version", newest(t, scope, name)? + 1)?;
            append(t, scope, name, version, actor, true, now)?;
            Ok(true)
        })
    }

    /// The secrets of a scope, by name.
    pub fn user_secrets(&self, scope: &str) -> Result<Vec<UserSecret>, StoreError> {
        self.read("list secrets", |t| {
            let sql = "SELECT name, version, actor, created_ms,
                         (SELECT group_concat(service, ' ' ORDER BY service) FROM secret_grant AS g
                          WHERE g.scope = v.scope AND g.name = v.name)
                       FROM secret_version AS v
                       WHERE scope = ?1 AND NOT removed AND version =
                         (SELECT max(version) FROM secret_version AS w WHERE w.scope = v.scope AND w.name = v.name)
                       ORDER BY name LIMIT ?2";
            let mut statement = t.prepare_cached(sql)?;
            let mut rows = statement.query(params![scope, MAX_ROWS])?;
            let mut all = Vec::new();
            while let Some(row) = rows.next()? {
                let grants: Option<String> = row.get(4)?;
                all.push(UserSecret {
                    name: row.get(0)?,
                    version: natural("a version", row.get(1)?)?,
                    actor: row.get(2)?,
                    created_ms: natural("a time", row.get(3)?)?,
                    grants: grants
                        .iter()
                        .flat_map(|all| all.split(' '))
                        .map(str::to_owned)
                        .collect(),
                });
            }
            Ok(all)
        })
    }

    /// Versions of a secret, newest first, also of one that was removed.
    pub fn user_secret_history(&self, scope: &str, name: &str) -> Result<Vec<UserSecretVersion>, StoreError> {
        self.read("read a secret's history", |t| {
            let sql = "SELECT version, actor, removed, created_ms,
                         EXISTS (SELECT 1 FROM sealed AS s WHERE s.scope = v.scope AND s.name = ?3 AND s.version = v.version)
                       FROM secret_version AS v WHERE scope = ?1 AND name = ?2 ORDER BY version DESC LIMIT ?4";
            let mut statement = t.prepare_cached(sql)?;
            let mut rows = statement.query(params![scope, name, sealed_name(name), MAX_ROWS])?;
            let mut all = Vec::new();
            while let Some(row) = rows.next()? {
                all.push(UserSecretVersion {
                    version: natural("a version", row.get(0)?)?,
                    actor: row.get(1)?,
                    removed: row.get(2)?,
                    created_ms: natural("a time", row.get(3)?)?,
                    sealed: row.get(4)?,
                });
            }
            Ok(all)
        })
    }

    /// Lets a service have a secret. Returns whether that is new; an error when there is no such secret.
    pub fn user_secret_grant(
        &self,
        scope: &str,
        name: &str,
        service: &str,
        actor: &str,
        now_ms: u64,
    ) -> Result<bool, StoreError> {
        at_most("a service", service.as_bytes(), MAX_SERVICE)?;
        let now = integer("a time", now_ms)?;
        self.write("grant a secret", |t| {
            if !names(t, scope)?.iter().any(|present| present == name) {
                return Err(StoreError::NotFound {
                    what: format!("secret `{name}` in {scope}"),
                }
                .into());
            }
            let sql =
                "INSERT INTO secret_grant (scope, name, service, actor, created_ms) VALUES (?, ?, ?, ?, ?)
                       ON CONFLICT DO NOTHING";
            Ok(t.prepare_cached(sql)?
                .execute(params![scope, name, service, actor, now])?
                > 0)
        })
    }

    /// Takes a grant back. Returns whether there was one.
    pub fn user_secret_revoke(&self, scope: &str, name: &str, service: &str) -> Result<bool, StoreError> {
        self.write("revoke a secret", |t| {
            let sql = "DELETE FROM secret_grant WHERE scope = ? AND name = ? AND service = ?";
            Ok(t.prepare_cached(sql)?.execute([scope, name, service])? > 0)
        })
    }

    /// Deletes the values of a secret but those of the versions in `kept`; that they existed stays on record. Returns how
    /// many went.
    pub fn user_secret_wipe(&self, scope: &str, name: &str, kept: &[u64]) -> Result<u64, StoreError> {
        let kept = serde_json::to_string(kept).unwrap_or_default();
        self.write("delete old versions of a secret", |t| {
            let sql = "DELETE FROM sealed WHERE scope = ?1 AND name = ?2
                       AND version NOT IN (SELECT value FROM json_each(?3))";
            Ok(t.prepare_cached(sql)?
                .execute(params![scope, sealed_name(name), kept])? as u64)
        })
    }

    /// Secrets of which more values are there than one would be: (scope, name, whether it was removed, newest version).
    pub fn user_secrets_to_wipe(&self) -> Result<Vec<(String, String, bool, u64)>, StoreError> {
        self.read("look for old versions of secrets", |t| {
            let sql = "SELECT v.scope, v.name, v.removed, v.version FROM secret_version AS v
                       WHERE v.version = (SELECT max(version) FROM secret_version AS w WHERE w.scope = v.scope AND w.name = v.name)
                         AND EXISTS (SELECT 1 FROM sealed AS s
                                     WHERE s.scope = v.scope AND s.name = 'user/' || v.name AND s.version < v.version)
                       ORDER BY v.scope, v.name LIMIT ?1";
            let mut statement = t.prepare_cached(sql)?;
            let mut rows = statement.query([MAX_ROWS])?;
            let mut all = Vec::new();
            while let Some(row) = rows.next()? {
                all.push((
                    row.get(0)?,
                    row.get(1)?,
                    row.get(2)?,
                    natural("a version", row.get(3)?)?,
                ));
            }
            Ok(all)
        })
    }
}

/// Forgets the user's secrets of a scope, with their history and grants.
pub(crate) fn forget(t: &Transaction<'_>, scope: &str) -> Result<(), rusqlite::Error> {
    t.prepare_cached("DELETE FROM secret_version WHERE scope = ?")?
        .execute([scope])?;
    t.prepare_cached("DELETE FROM secret_grant WHERE scope = ?")?
        .execute([scope])?;
    Ok(())
}

/// The newest version's number; 0 when there is none.
fn newest(t: &Transaction<'_>, scope: &str, name: &str) -> Result<u64, crate::database::Fault> {
    let sql = "SELECT max(version) FROM secret_version WHERE scope = ? AND name = ?";
    let found: Option<i64> = t
        .prepare_cached(sql)?
        .query_row([scope, name], |row| row.get(0))
        .optional()?
        .flatten();
    Ok(natural("a version", found.unwrap_or(0))?)
}

/// Names of the secrets that a scope has.
fn names(t: &Transaction<'_>, scope: &str) -> Result<Vec<String>, rusqlite::Error> {
    let sql = "SELECT name FROM secret_version AS v WHERE scope = ?1 AND NOT removed AND version =
                 (SELECT max(version) FROM secret_version AS w WHERE w.scope = v.scope AND w.name = v.name)";
    t.prepare_cached(sql)?
        .query_map([scope], |row| row.get(0))?
        .collect()
}

fn append(
    t: &Transaction<'_>,
    scope: &str,
    name: &str,
    version: i64,
    actor: &str,
    removed: bool,
    now: i64,
) -> Result<(), crate::database::Fault> {
    let sql = "INSERT INTO secret_version (scope, name, version, actor, removed, created_ms) VALUES (?, ?, ?, ?, ?, ?)";
    t.prepare_cached(sql)?
        .execute(params![scope, name, version, actor, removed, now])?;
    let sql = "DELETE FROM secret_version WHERE scope = ?1 AND name = ?2 AND version <= ?3
               AND NOT EXISTS (SELECT 1 FROM sealed AS s
                               WHERE s.scope = ?1 AND s.name = ?4 AND s.version = secret_version.version)";
    t.prepare_cached(sql)?.execute(params![
        scope,
        name,
        version - i64::from(HISTORY),
        sealed_name(name)
    ])?;
    Ok(())
}
