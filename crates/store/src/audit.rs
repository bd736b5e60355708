//! The audit chain: who did what to what, each entry holding the hash of the one before.
//!
//! The hash of an entry is SHA-256 over `astraler-audit-1`, the sequence number and the time (8 bytes each, big
//! endian), then actor, action, subject and detail (each behind its length in 8 bytes), then the 32 bytes of the
//! previous hash (zeros for the first). Anybody can recompute it.
//!
//! The chain shows any change or loss before its end. It cannot show by itself that its end was cut off, or that
//! all of it was written anew: for that, its head is exported to where this machine cannot change it, and
//! compared ([`Store::audit_verify_against`]).

use crate::database::{Fault, at_most, integer, json, natural};
use crate::{MAX_ROWS, Store, StoreError};
use rusqlite::{OptionalExtension, Row, Transaction, params};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

const DOMAIN: &[u8] = b"astraler-audit-1";
const MAX_WORD: usize = 1 << 10;
const MAX_DETAIL: usize = 64 << 10;

/// One entry.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AuditEntry {
    /// 1 for the first, then one more each.
    pub seq: u64,
    /// When, in milliseconds since the Unix epoch, by the caller's clock.
    pub time_ms: u64,
    /// Who: `local:1000`, `token:ci`, `daemon`…
    pub actor: String,
    /// What was done: `secret.read`, `deploy`…
    pub action: String,
    /// To what.
    pub subject: String,
    /// More about it. Never a secret.
    pub detail: Value,
    /// Hash of the entry before, in hex.
    pub previous: String,
    /// Hash of this entry, in hex.
    pub hash: String,
}

/// The end of the chain at some time: what is exported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditHead {
    /// Number of entries up to and including this one; 0 for the empty chain.
    pub seq: u64,
    /// Its hash in hex; 64 zeros for the empty chain.
    pub hash: String,
}

/// A chain that holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditReport {
    /// How many entries were checked.
    pub entries: u64,
    /// The last of them.
    pub head: AuditHead,
}

/// Which entries to list; all by default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditFilter {
    /// Of this actor only.
    pub actor: Option<String>,
    /// Of this action only.
    pub action: Option<String>,
    /// About this subject only.
    pub subject: Option<String>,
    /// At or after this time only.
    pub since_ms: Option<u64>,
    /// Before this entry only: pass the last `seq` of a page to get the next.
    pub before_seq: Option<u64>,
}

/// Why a chain was not found whole.
#[derive(Debug, thiserror::Error)]
pub enum AuditVerifyError {
    /// It was changed.
    #[error("the audit chain is broken at entry {seq}: {reason}")]
    Broken {
        /// The first entry that does not fit.
        seq: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// It could not be read.
    #[error("the audit chain could not be read")]
    Store(#[from] StoreError),
}

impl Store {
    /// Appends an entry: on disk when this returns, so that what it speaks of can be released after it. Actor,
    /// action and subject have at most 1 KiB each, the detail 64 KiB.
    pub fn audit(
        &self,
        actor: &str,
        action: &str,
        subject: &str,
        detail: &Value,
        now_ms: u64,
    ) -> Result<AuditEntry, StoreError> {
        for (what, word) in [("an actor", actor), ("an action", action), ("a subject", subject)] {
            at_most(what, word.as_bytes(), MAX_WORD)?;
        }
        let text = detail.to_string();
        at_most("the detail of an audit entry", text.as_bytes(), MAX_DETAIL)?;
        let time = integer("a time", now_ms)?;
        self.write("append to the audit chain", |t| {
            let (last, previous) = head(t)?;
            let seq = last + 1;
            let words = [actor, action, subject, &text].map(str::as_bytes);
            let hash = hash(seq, time, words, &previous);
            let sql = "INSERT INTO audit (seq, time_ms, actor, action, subject, detail, previous, hash)
                       VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
            t.prepare_cached(sql)?
                .execute(params![seq, time, actor, action, subject, text, previous, hash])?;
            Ok(AuditEntry {
                seq: natural("a sequence number", seq)?,
                time_ms: now_ms,
                actor: actor.into(),
                action: action.into(),
                subject: subject.into(),
                detail: detail.clone(),
                previous: hex::encode(previous),
                hash: hex::encode(hash),
            })
        })
    }

    /// The end of the chain, to be exported.
    pub fn audit_head(&self) -> Result<AuditHead, StoreError> {
        self.read("read the head of the audit chain", |t| {
            let (seq, hash) = head(t)?;
            Ok(AuditHead {
                seq: natural("a sequence number", seq)?,
                hash: hex::encode(hash),
            })
        })
    }

    /// Recomputes the whole chain. It reads beside the writer: others can append meanwhile.
    pub fn audit_verify(&self) -> Result<AuditReport, AuditVerifyError> {
        self.verify(None)
    }

    /// As [`Store::audit_verify`], and the chain must contain the head that was exported before: finds an end
    /// that was cut off, and a chain that was written anew.
    pub fn audit_verify_against(&self, exported: &AuditHead) -> Result<AuditReport, AuditVerifyError> {
        self.verify(Some(exported))
    }

    /// Entries that match, newest first.
    pub fn audit_list(&self, filter: &AuditFilter, limit: u32) -> Result<Vec<AuditEntry>, StoreError> {
        let since = filter.since_ms.map(|ms| integer("a time", ms)).transpose()?;
        let before = filter
            .before_seq
            .map(|seq| integer("a sequence number", seq))
            .transpose()?;
        self.read("list audit entries", |t| {
            let sql = "SELECT seq, time_ms, actor, action, subject, detail, previous, hash FROM audit
                       WHERE (?1 IS NULL OR actor = ?1) AND (?2 IS NULL OR action = ?2)
                         AND (?3 IS NULL OR subject = ?3) AND (?4 IS NULL OR time_ms >= ?4)
                         AND seq < coalesce(?5, 9223372036854775807)
                       ORDER BY seq DESC LIMIT ?6";
            let mut statement = t.prepare_cached(sql)?;
            let mut rows = statement.query(params![
                filter.actor,
                filter.action,
                filter.subject,
                since,
                before,
                limit.min(MAX_ROWS)
            ])?;
            let mut entries = Vec::new();
            while let Some(row) = rows.next()? {
                entries.push(entry(row)?);
            }
            Ok(entries)
        })
    }

    fn verify(&self, exported: Option<&AuditHead>) -> Result<AuditReport, AuditVerifyError> {
        let broken = |seq: u64, reason| Ok(Err(AuditVerifyError::Broken { seq, reason }));
        let checked = self.read_aside("verify the audit chain", |t| {
            let sql =
                "SELECT seq, time_ms, actor, action, subject, detail, previous, hash FROM audit ORDER BY seq";
            let mut statement = t.prepare(sql)?;
            let mut rows = statement.query(())?;
            let (mut entries, mut last) = (0u64, [0; 32]);
            let matches = |seq: u64, hash: &[u8; 32]| match exported {
                Some(head) if head.seq == seq => head.hash == hex::encode(hash),
                _ => true,
            };
            if !matches(0, &last) {
                return broken(0, "the exported head is not that of an empty chain");
            }
            while let Some(row) = rows.next()? {
                // Bytes, not texts: what was changed need not be UTF-8 any more.
                let seq: i64 = row.get(0)?;
                let expected = entries + 1;
                if u64::try_from(seq) != Ok(expected) {
                    return broken(expected, "it is missing");
                }
                let mut words: [&[u8]; 4] = [&[]; 4];
                for (index, word) in words.iter_mut().enumerate() {
                    *word = bytes(row, index + 2)?;
                }
                if bytes(row, 6)? != last {
                    return broken(expected, "it does not follow the entry before it");
                }
                let hash = hash(seq, row.get(1)?, words, &last);
                if bytes(row, 7)? != hash {
                    return broken(expected, "its content does not match its hash");
                }
                if !matches(expected, &hash) {
                    return broken(
                        expected,
                        "the exported head has another hash: the chain was written anew",
                    );
                }
                (entries, last) = (expected, hash);
            }
            if exported.is_some_and(|head| head.seq > entries) {
                return broken(
                    entries + 1,
                    "it is missing, and the exported head says that it was there",
                );
            }
            Ok(Ok(AuditReport {
                entries,
                head: AuditHead {
                    seq: entries,
                    hash: hex::encode(last),
                },
            }))
        });
        checked?
    }
}

fn head(t: &Transaction<'_>) -> Result<(i64, [u8; 32]), Fault> {
    let mut statement = t.prepare_cached("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1")?;
    Ok(statement
        .query_row((), |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?
        .unwrap_or_default())
}

fn hash(seq: i64, time: i64, words: [&[u8]; 4], previous: &[u8; 32]) -> [u8; 32] {
    let mut hasher = Sha256::new_with_prefix(DOMAIN);
    hasher.update(seq.to_be_bytes());
    hasher.update(time.to_be_bytes());
    for word in words {
        hasher.update((word.len() as u64).to_be_bytes());
        hasher.update(word);
    }
    hasher.update(previous);
    hasher.finalize().into()
}

fn bytes<'r>(row: &'r Row<'_>, index: usize) -> Result<&'r [u8], Fault> {
    Ok(row.get_ref(index)?.as_bytes().map_err(rusqlite::Error::from)?)
}

fn entry(row: &Row<'_>) -> Result<AuditEntry, Fault> {
    let detail: String = row.get(5)?;
    Ok(AuditEntry {
        seq: natural("a sequence number", row.get(0)?)?,
        time_ms: natural("a time", row.get(1)?)?,
        actor: row.get(2)?,
        action: row.get(3)?,
        subject: row.get(4)?,
        detail: json("an audit entry's detail", &detail)?,
        previous: hex::encode(bytes(row, 6)?),
        hash: hex::encode(bytes(row, 7)?),
    })
}

impl fmt::Display for AuditHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.hash)
    }
}

impl FromStr for AuditHead {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = "expected what `astraler audit head` prints: a number, a colon and 64 hex digits";
        let (seq, hash) = text.trim().split_once(':').ok_or(expected)?;
        let seq = seq.parse().map_err(|_| expected)?;
        if hash.len() != 64
            || !hash
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        {
            return Err(expected);
        }
        Ok(Self {
            seq,
            hash: hash.into(),
        })
    }
}
