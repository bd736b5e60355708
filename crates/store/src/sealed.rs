//! Sealed secrets and the wrapped keys of their scopes: ciphertexts only.

use crate::database::{Fault, at_most, integer, natural};
use crate::{MAX_ROWS, Store, StoreError};
use rusqlite::{OptionalExtension, Transaction, params};
use serde::Serialize;

const MAX_NAME: usize = 256;
/// 1 MiB of text and its envelope.
const MAX_CIPHERTEXT: usize = (1 << 20) + 1024;

/// One version of a secret, sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedRecord {
    /// The environment, or `platform`.
    pub scope: String,
    /// The secret's name.
    pub name: String,
    /// 1 or more.
    pub version: u64,
    /// What only the vault opens.
    pub ciphertext: Vec<u8>,
    /// When it was stored, in milliseconds since the Unix epoch.
    pub created_ms: u64,
}

/// That a version of a secret exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SealedVersion {
    /// The environment, or `platform`.
    pub scope: String,
    /// The secret's name.
    pub name: String,
    /// 1 or more.
    pub version: u64,
    /// When it was stored, in milliseconds since the Unix epoch.
    pub created_ms: u64,
}

/// A version of a secret under its scope's new key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrapped {
    /// The secret's name.
    pub name: String,
    /// Its version.
    pub version: u64,
    /// The new ciphertext.
    pub ciphertext: Vec<u8>,
}

impl Store {
    /// Stores one version of a secret. A version that exists is never overwritten: rotating a secret makes a new
    /// version.
    pub fn sealed_put(
        &self,
        scope: &str,
        name: &str,
        version: u64,
        ciphertext: &[u8],
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let operation = "store a sealed secret";
        check(scope, name, ciphertext)?;
        let (number, now) = (integer("a version", version)?, integer("a time", now_ms)?);
        self.write(operation, |t| {
            let sql =
                "INSERT INTO sealed (scope, name, version, ciphertext, created_ms) VALUES (?, ?, ?, ?, ?)
                       ON CONFLICT DO NOTHING";
            match t
                .prepare_cached(sql)?
                .execute(params![scope, name, number, ciphertext, now])?
            {
                0 => {
                    let reason = format!("`{name}` of `{scope}` has a version {version} already");
                    Err(StoreError::Refused { operation, reason }.into())
                }
                _ => Ok(()),
            }
        })
    }

    /// One version of a secret; the newest when none is given.
    pub fn sealed_get(
        &self,
        scope: &str,
        name: &str,
        version: Option<u64>,
    ) -> Result<Option<SealedRecord>, StoreError> {
        let number = version.map(|version| integer("a version", version)).transpose()?;
        self.read("read a sealed secret", |t| {
            let sql = "SELECT version, ciphertext, created_ms FROM sealed
                       WHERE scope = ?1 AND name = ?2 AND (?3 IS NULL OR version = ?3)
                       ORDER BY version DESC LIMIT 1";
            let row: Option<(i64, Vec<u8>, i64)> = t
                .prepare_cached(sql)?
                .query_row(params![scope, name, number], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
                })
                .optional()?;
            let record = row.map(|(version, ciphertext, created)| {
                Ok::<_, StoreError>(SealedRecord {
                    scope: scope.into(),
                    name: name.into(),
                    version: natural("a version", version)?,
                    ciphertext,
                    created_ms: natural("a time", created)?,
                })
            });
            Ok(record.transpose()?)
        })
    }

    /// Which versions of which secrets exist, of one scope or of all, by scope, name and version; at most
    /// 1,000 after `after` (scope, name, version), so that a longer list is read page by page.
    pub fn sealed_list(
        &self,
        scope: Option<&str>,
        after: Option<&SealedVersion>,
    ) -> Result<Vec<SealedVersion>, StoreError> {
        let from = after.map(|a| {
            Ok::<_, StoreError>((
                a.scope.as_str(),
                a.name.as_str(),
                integer("a version", a.version)?,
            ))
        });
        let (a, b, c) = from.transpose()?.unwrap_or(("", "", 0));
        self.read("list sealed secrets", |t| {
            let sql = "SELECT scope, name, version, created_ms FROM sealed
                       WHERE (?1 IS NULL OR scope = ?1) AND (scope, name, version) > (?2, ?3, ?4)
                       ORDER BY scope, name, version LIMIT ?5";
            let mut statement = t.prepare_cached(sql)?;
            let mut rows = statement.query(params![scope, a, b, c, MAX_ROWS])?;
            let mut all = Vec::new();
            while let Some(row) = rows.next()? {
                all.push(SealedVersion {
                    scope: row.get(0)?,
                    name: row.get(1)?,
                    version: natural("a version", row.get(2)?)?,
                    created_ms: natural("a time", row.get(3)?)?,
                });
            }
            Ok(all)
        })
    }

    /// Deletes every version of a secret older than `version`; returns how many went.
    pub fn sealed_prune(&self, scope: &str, name: &str, version: u64) -> Result<u64, StoreError> {
        let number = integer("a version", version)?;
        self.write("delete old versions of a secret", |t| {
            let sql = "DELETE FROM sealed WHERE scope = ? AND name = ? AND version < ?";
            Ok(t.prepare_cached(sql)?.execute(params![scope, name, number])? as u64)
        })
    }

    /// Deletes a scope's key and every secret in it: without the key nothing opens them any more. Returns how
    /// many versions went.
    pub fn scope_remove(&self, scope: &str) -> Result<u64, StoreError> {
        self.write("delete a scope's secrets", |t| {
            let gone = t
                .prepare_cached("DELETE FROM sealed WHERE scope = ?")?
                .execute([scope])?;
            t.prepare_cached("DELETE FROM scope_key WHERE scope = ?")?
                .execute([scope])?;
            crate::user_secret::forget(t, scope)?;
            Ok(gone as u64)
        })
    }

    /// Stores the wrapped key of a scope that has none yet.
    pub fn scope_key_put(&self, scope: &str, ciphertext: &[u8], now_ms: u64) -> Result<(), StoreError> {
        let operation = "store the key of a scope";
        check(scope, scope, ciphertext)?;
        let now = integer("a time", now_ms)?;
        self.write(operation, |t| {
            let sql = "INSERT INTO scope_key (scope, ciphertext, created_ms) VALUES (?, ?, ?) ON CONFLICT DO NOTHING";
            match t.prepare_cached(sql)?.execute(params![scope, ciphertext, now])? {
                0 => {
                    let reason = format!("`{scope}` has a key already, and its secrets are under it");
                    Err(StoreError::Refused { operation, reason }.into())
                }
                _ => Ok(()),
            }
        })
    }

    /// Every scope with its wrapped key, by name; at most 1,000.
    pub fn scope_keys(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.read("read the keys of scopes", |t| {
            let mut statement =
                t.prepare_cached("SELECT scope, ciphertext FROM scope_key ORDER BY scope LIMIT ?")?;
            let rows = statement.query_map([MAX_ROWS], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(rows.collect::<Result<Vec<_>, _>>()?)
        })
    }

    /// Rotates the root key: every scope's key under the new one, all or none. Refused unless each scope is there.
    pub fn scope_keys_rewrap(&self, rewrapped: &[(String, Vec<u8>)]) -> Result<(), StoreError> {
        let operation = "rotate the root key";
        self.write(operation, |t| {
            for (scope, ciphertext) in rewrapped {
                check(scope, scope, ciphertext)?;
                let changed = t
                    .prepare_cached("UPDATE scope_key SET ciphertext = ?2 WHERE scope = ?1")?
                    .execute(params![scope, ciphertext])?;
                if changed == 0 {
                    return Err(StoreError::NotFound {
                        what: format!("key of `{scope}`"),
                    }
                    .into());
                }
            }
            let all = count(t, "SELECT count(*) FROM scope_key WHERE ?1 = ''", "")?;
            complete(
                operation,
                rewrapped.iter().map(|(scope, _)| (scope.as_str(), 0)),
                all,
            )
        })
    }

    /// Rotates the key of a scope: the new wrapped key and every version of every secret under it, all or none.
    /// Refused unless each version is there.
    pub fn scope_key_rotate(
        &self,
        scope: &str,
        ciphertext: &[u8],
        rewrapped: &[Rewrapped],
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let operation = "rotate the key of a scope";
        check(scope, scope, ciphertext)?;
        let now = integer("a time", now_ms)?;
        self.write(operation, |t| {
            let sql = "UPDATE scope_key SET ciphertext = ?2, created_ms = ?3 WHERE scope = ?1";
            if t.prepare_cached(sql)?.execute(params![scope, ciphertext, now])? == 0 {
                return Err(StoreError::NotFound {
                    what: format!("key of `{scope}`"),
                }
                .into());
            }
            let sql = "UPDATE sealed SET ciphertext = ?4 WHERE scope = ?1 AND name = ?2 AND version = ?3";
            let mut update = t.prepare_cached(sql)?;
            for Rewrapped {
                name,
                version,
                ciphertext,
            } in rewrapped
            {
                check(scope, name, ciphertext)?;
                if update.execute(params![scope, name, integer("a version", *version)?, ciphertext])? == 0 {
                    let what = format!("version {version} of `{name}` in `{scope}`");
                    return Err(StoreError::NotFound { what }.into());
                }
            }
            let all = count(t, "SELECT count(*) FROM sealed WHERE scope = ?1", scope)?;
            complete(
                operation,
                rewrapped.iter().map(|r| (r.name.as_str(), r.version)),
                all,
            )
        })
    }
}

fn check(scope: &str, name: &str, ciphertext: &[u8]) -> Result<(), StoreError> {
    at_most("a scope", scope.as_bytes(), MAX_NAME)?;
    at_most("a secret's name", name.as_bytes(), MAX_NAME)?;
    at_most("a ciphertext", ciphertext, MAX_CIPHERTEXT)
}

fn count(t: &Transaction<'_>, sql: &str, scope: &str) -> Result<u64, Fault> {
    Ok(natural(
        "a count",
        t.prepare_cached(sql)?.query_row([scope], |row| row.get(0))?,
    )?)
}

/// Each of `all` rows was named exactly once: one left under an old key could never be opened again.
fn complete<'a>(
    operation: &'static str,
    named: impl Iterator<Item = (&'a str, u64)>,
    all: u64,
) -> Result<(), Fault> {
    let named: std::collections::BTreeSet<_> = named.collect();
    if named.len() as u64 == all {
        return Ok(());
    }
    let reason = format!(
        "{} of {all} were given under the new key; all must be",
        named.len()
    );
    Err(StoreError::Refused { operation, reason }.into())
}
