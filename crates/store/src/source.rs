//! From which git trees a release was built, as the runs that built it tell.

use crate::database::{at_most, integer, natural};
use crate::{MAX_ROWS, Store, StoreError};
use rusqlite::params;

/// A digest, and the id of a git tree.
const MAX_ID: usize = 128;

impl Store {
    /// Writes down that a run built a release from a tree. Said again, the first run stays.
    pub fn release_source_add(
        &self,
        release: &str,
        tree: &str,
        run: u64,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        at_most("a release's digest", release.as_bytes(), MAX_ID)?;
        at_most("the id of a tree", tree.as_bytes(), MAX_ID)?;
        let (run, now) = (integer("a run", run)?, integer("a time", now_ms)?);
        self.write("write down from what a release was built", |t| {
            let sql = "INSERT INTO release_source (release, tree, run, created_ms) VALUES (?, ?, ?, ?)
                       ON CONFLICT DO NOTHING";
            t.prepare_cached(sql)?.execute(params![release, tree, run, now])?;
            Ok(())
        })
    }

    /// The trees that a release was built from, the one that was known last first, each with the run that said so; at
    /// most 1,000.
    pub fn release_trees(&self, release: &str) -> Result<Vec<(String, u64)>, StoreError> {
        self.read("read from what a release was built", |t| {
            let sql = "SELECT tree, run FROM release_source WHERE release = ?
                       ORDER BY created_ms DESC, run DESC, tree LIMIT ?";
            let rows = t
                .prepare_cached(sql)?
                .query_map(params![release, MAX_ROWS], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<Result<Vec<(String, i64)>, _>>()?;
            let checked = rows
                .into_iter()
                .map(|(tree, run)| Ok((tree, natural("a run", run)?)));
            Ok(checked.collect::<Result<_, StoreError>>()?)
        })
    }
}
