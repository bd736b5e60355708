//! Pull requests: there is no forge here, a push says which it belongs to.

use crate::database::{at_most, integer, natural};
use crate::{MAX_ROWS, Store, StoreError};
use rusqlite::{OptionalExtension, Row, params};
use serde::Serialize;

const MAX_BRANCH: usize = 512;

/// A pull request that a push has named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PullRequest {
    /// Its number.
    pub number: u32,
    /// The branch that it brings.
    pub branch: String,
    /// The branch that it goes to.
    pub base: String,
    /// The newest commit of its branch that was pushed.
    pub head: String,
    /// When it was opened, in milliseconds since the Unix epoch.
    pub opened_ms: u64,
    /// When it ended.
    pub closed_ms: Option<u64>,
}

const COLUMNS: &str = "number, branch, base, head, opened_ms, closed_ms";

impl Store {
    /// Opens a pull request, opens it again, or notes its newest commit.
    pub fn pull_request_open(
        &self,
        number: u32,
        branch: &str,
        base: &str,
        head: &str,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let now = integer("a time", now_ms)?;
        for (what, text) in [("a branch's name", branch), ("a branch's name", base)] {
            at_most(what, text.as_bytes(), MAX_BRANCH)?;
        }
        self.write("open a pull request", |t| {
            let sql =
                "INSERT INTO pull_request (number, branch, base, head, opened_ms) VALUES (?1, ?2, ?3, ?4, ?5)
                       ON CONFLICT (number) DO UPDATE SET branch = ?2, base = ?3, head = ?4, closed_ms = NULL,
                         opened_ms = CASE WHEN closed_ms IS NULL THEN opened_ms ELSE ?5 END";
            t.prepare_cached(sql)?
                .execute(params![number, branch, base, head, now])?;
            Ok(())
        })
    }

    /// Ends a pull request; says whether it was open.
    pub fn pull_request_close(&self, number: u32, now_ms: u64) -> Result<bool, StoreError> {
        let now = integer("a time", now_ms)?;
        self.write("close a pull request", |t| {
            let sql = "UPDATE pull_request SET closed_ms = ?2 WHERE number = ?1 AND closed_ms IS NULL";
            Ok(t.prepare_cached(sql)?.execute(params![number, now])? > 0)
        })
    }

    /// One pull request.
    pub fn pull_request(&self, number: u32) -> Result<Option<PullRequest>, StoreError> {
        self.read("read a pull request", |t| {
            let sql = format!("SELECT {COLUMNS} FROM pull_request WHERE number = ?");
            let found = t
                .prepare_cached(&sql)?
                .query_row([number], pull_request)
                .optional()?;
            Ok(found.map(checked).transpose()?)
        })
    }

    /// The newest pull requests, those that ended too; at most 1,000.
    pub fn pull_requests(&self) -> Result<Vec<PullRequest>, StoreError> {
        self.read("list pull requests", |t| {
            let sql = format!("SELECT {COLUMNS} FROM pull_request ORDER BY number DESC LIMIT ?");
            let mut statement = t.prepare_cached(&sql)?;
            let rows = statement
                .query_map([MAX_ROWS], pull_request)?
                .collect::<Result<Vec<_>, _>>()?;
            Ok(rows.into_iter().map(checked).collect::<Result<_, _>>()?)
        })
    }
}

type Times = (i64, Option<i64>);

fn pull_request(row: &Row<'_>) -> rusqlite::Result<(PullRequest, Times)> {
    let found = PullRequest {
        number: row.get(0)?,
        branch: row.get(1)?,
        base: row.get(2)?,
        head: row.get(3)?,
        opened_ms: 0,
        closed_ms: None,
    };
    Ok((found, (row.get(4)?, row.get(5)?)))
}

fn checked((found, (opened, closed)): (PullRequest, Times)) -> Result<PullRequest, StoreError> {
    Ok(PullRequest {
        opened_ms: natural("a time", opened)?,
        closed_ms: closed.map(|ms| natural("a time", ms)).transpose()?,
        ..found
    })
}
