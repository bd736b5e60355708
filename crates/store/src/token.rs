//! Tokens: the hash, what its bearer may do, until when. The token itself is never here.

use crate::database::{at_most, integer, json, natural};
use crate::{MAX_ROWS, Store, StoreError};
use astraler_model::Scope;
use rusqlite::{OptionalExtension, Row, params};
use serde::Serialize;

const MAX_NAME: usize = 128;
const MAX_SCOPES: usize = 16 << 10;
const COLUMNS: &str = "id, kind, name, hash, scopes, created_ms, expires_ms, used_ms, revoked_ms";

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenKind {
    /// Made by a person, under a name of its own.
    Named,
    /// Given to the owner's own tools for a short while.
    Session,
    /// Given to one job of a run until it ends.
    Job,
}

/// A token about to be kept.
#[derive(Debug, Clone, PartialEq)]
pub struct NewToken<'a> {
    /// The public part of the token, by which it is found.
    pub id: &'a str,
    /// What it is for.
    pub kind: TokenKind,
    /// The bearer, as the audit chain names it.
    pub name: &'a str,
    /// SHA-256 of the whole token.
    pub hash: [u8; 32],
    /// What its bearer may do.
    pub scopes: &'a [Scope],
    /// When it ends by itself, in milliseconds since the Unix epoch. Never, for named ones, when absent.
    pub expires_ms: Option<u64>,
}

/// A token as it is known.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Token {
    /// The public part of the token.
    pub id: String,
    /// What it is for.
    pub kind: TokenKind,
    /// The bearer.
    pub name: String,
    /// SHA-256 of the whole token; compare it in constant time.
    #[serde(skip)]
    pub hash: [u8; 32],
    /// What its bearer may do.
    pub scopes: Vec<Scope>,
    /// When it was made.
    pub created_ms: u64,
    /// When it ends by itself.
    pub expires_ms: Option<u64>,
    /// When it was last accepted, to the minute.
    pub used_ms: Option<u64>,
    /// When it was revoked.
    pub revoked_ms: Option<u64>,
}

impl Token {
    /// Whether it is accepted at this time.
    pub fn holds(&self, now_ms: u64) -> bool {
        self.revoked_ms.is_none() && self.expires_ms.is_none_or(|end| now_ms < end)
    }
}

impl Store {
    /// Keeps a token. A named one is refused while another of its name holds. At most 1,000 named ones are kept.
    pub fn token_create(&self, new: &NewToken<'_>, now_ms: u64) -> Result<(), StoreError> {
        let operation = "keep a token";
        at_most("a token's name", new.name.as_bytes(), MAX_NAME)?;
        let scopes = serde_json::to_string(new.scopes).unwrap_or_default();
        at_most("a token's scopes", scopes.as_bytes(), MAX_SCOPES)?;
        let now = integer("a time", now_ms)?;
        let expires = new.expires_ms.map(|end| integer("a time", end)).transpose()?;
        self.write(operation, |t| {
            if new.kind == TokenKind::Named {
                // A name whose token has ended is free again.
                let sql = "UPDATE token SET revoked_ms = ?2
                           WHERE kind = 'named' AND name = ?1 AND revoked_ms IS NULL AND expires_ms <= ?2";
                t.prepare_cached(sql)?.execute(params![new.name, now])?;
                let sql = "SELECT count(*), coalesce(sum(name = ?1), 0) FROM token
                           WHERE kind = 'named' AND revoked_ms IS NULL";
                let (all, same): (u32, u32) = t
                    .prepare_cached(sql)?
                    .query_row([new.name], |row| Ok((row.get(0)?, row.get(1)?)))?;
                let reason = if same > 0 {
                    Some(format!("there is one of the name `{}` already", new.name))
                } else if all >= MAX_ROWS {
                    Some(format!("there are {all} already"))
                } else {
                    None
                };
                if let Some(reason) = reason {
                    return Err(StoreError::Refused { operation, reason }.into());
                }
            }
            let sql = "INSERT INTO token (id, kind, name, hash, scopes, created_ms, expires_ms)
                       VALUES (?, ?, ?, ?, ?, ?, ?)";
            t.prepare_cached(sql)?.execute(params![
                new.id,
                new.kind.name(),
                new.name,
                new.hash,
                scopes,
                now,
                expires
            ])?;
            Ok(())
        })
    }

    /// The token of a public part, whether it still holds or not.
    pub fn token(&self, id: &str) -> Result<Option<Token>, StoreError> {
        self.read("read a token", |t| {
            let sql = format!("SELECT {COLUMNS} FROM token WHERE id = ?");
            let found = t.prepare_cached(&sql)?.query_row([id], raw).optional()?;
            Ok(found.map(Raw::checked).transpose()?)
        })
    }

    /// Named tokens, by name, those that ended too; at most 1,000.
    pub fn tokens(&self) -> Result<Vec<Token>, StoreError> {
        self.read("list tokens", |t| {
            let sql = format!(
                "SELECT {COLUMNS} FROM token WHERE kind = 'named' ORDER BY revoked_ms IS NOT NULL, name LIMIT ?"
            );
            let rows = t
                .prepare_cached(&sql)?
                .query_map([MAX_ROWS], raw)?
                .collect::<Result<Vec<_>, _>>()?;
            Ok(rows.into_iter().map(Raw::checked).collect::<Result<_, _>>()?)
        })
    }

    /// Notes that a token was accepted.
    pub fn token_used(&self, id: &str, now_ms: u64) -> Result<(), StoreError> {
        let now = integer("a time", now_ms)?;
        self.write("note the use of a token", |t| {
            t.prepare_cached("UPDATE token SET used_ms = ?2 WHERE id = ?1")?
                .execute(params![id, now])?;
            Ok(())
        })
    }

    /// Ends the named token of a name. Returns whether there was one that held.
    pub fn token_revoke(&self, name: &str, now_ms: u64) -> Result<bool, StoreError> {
        let now = integer("a time", now_ms)?;
        self.write("revoke a token", |t| {
            let sql = "UPDATE token SET revoked_ms = ?2
                       WHERE kind = 'named' AND name = ?1 AND revoked_ms IS NULL";
            Ok(t.prepare_cached(sql)?.execute(params![name, now])? > 0)
        })
    }

    /// Forgets one token: a job's that has ended.
    pub fn token_remove(&self, id: &str) -> Result<(), StoreError> {
        self.write("forget a token", |t| {
            t.prepare_cached("DELETE FROM token WHERE id = ?")?
                .execute([id])?;
            Ok(())
        })
    }

    /// Forgets every job's token whose name begins with `prefix`: those of a run that has ended.
    pub fn job_tokens_remove(&self, prefix: &str) -> Result<(), StoreError> {
        self.write("forget the tokens of jobs", |t| {
            let sql = "DELETE FROM token WHERE kind = 'job' AND substr(name, 1, length(?1)) = ?1";
            t.prepare_cached(sql)?.execute([prefix])?;
            Ok(())
        })
    }

    /// Forgets the tokens of sessions and jobs that have ended, and named ones that ended before `before_ms`.
    pub fn tokens_prune(&self, now_ms: u64, before_ms: u64) -> Result<u64, StoreError> {
        let (now, before) = (integer("a time", now_ms)?, integer("a time", before_ms)?);
        self.write("forget ended tokens", |t| {
            let sql = "DELETE FROM token WHERE (kind <> 'named' AND expires_ms <= ?1)
                       OR (kind = 'named' AND revoked_ms < ?2)";
            Ok(t.prepare_cached(sql)?.execute(params![now, before])? as u64)
        })
    }
}

impl TokenKind {
    fn name(self) -> &'static str {
        match self {
            Self::Named => "named",
            Self::Session => "session",
            Self::Job => "job",
        }
    }
}

/// A row before it is believed.
struct Raw {
    id: String,
    kind: String,
    name: String,
    hash: [u8; 32],
    scopes: String,
    times: [Option<i64>; 4],
}

fn raw(row: &Row<'_>) -> Result<Raw, rusqlite::Error> {
    Ok(Raw {
        id: row.get(0)?,
        kind: row.get(1)?,
        name: row.get(2)?,
        hash: row.get(3)?,
        scopes: row.get(4)?,
        times: [row.get(5)?, row.get(6)?, row.get(7)?, row.get(8)?],
    })
}

impl Raw {
    fn checked(self) -> Result<Token, StoreError> {
        let scopes = serde_json::from_value(json("the scopes of a token", &self.scopes)?);
        let time = |time: Option<i64>| time.map(|time| natural("a time", time)).transpose();
        let [created, expires, used, revoked] = self.times;
        Ok(Token {
            id: self.id,
            kind: match self.kind.as_str() {
                "named" => TokenKind::Named,
                "session" => TokenKind::Session,
                _ => TokenKind::Job,
            },
            name: self.name,
            hash: self.hash,
            scopes: scopes.map_err(|error: serde_json::Error| StoreError::Damaged {
                what: "the scopes of a token",
                reason: error.to_string(),
            })?,
            created_ms: time(created)?.unwrap_or_default(),
            expires_ms: time(expires)?,
            used_ms: time(used)?,
            revoked_ms: time(revoked)?,
        })
    }
}
