//! Whether what was restored is whole: canary rows, every row read, every table and index checked.

use crate::access::Access;
use crate::binaries::Binaries;
use crate::database::{DatabaseError, Session};
use crate::golden::{GoldenError, SAID_BYTES, program};
use std::path::Path;
use std::process::Stdio;
use tokio::io::AsyncReadExt;

/// A row by which a restore is recognised: it is there exactly in what was restored to after its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canary {
    /// When it was written, by the server's clock, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Tells it from every other.
    pub word: String,
}

/// What was looked at in a database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checked {
    /// Tables, with their TOAST tables.
    pub tables: u64,
    /// B-trees, of which each entry is compared with its table.
    pub indexes: u64,
}

/// Writes a canary into the cluster's own database, and forgets old ones.
pub async fn write_canary(admin: &Access, word: &str, forget_before_ms: u64) -> Result<(), DatabaseError> {
    const STEP: &str = "writing a canary";
    let server = Session::open(admin).await?;
    let table = "SET client_min_messages = warning;
                 CREATE SCHEMA IF NOT EXISTS astraler;
                 CREATE TABLE IF NOT EXISTS astraler.canary (
                   at timestamptz NOT NULL DEFAULT clock_timestamp(), word text PRIMARY KEY)";
    server.run(STEP, table).await?;
    let forget = format!("DELETE FROM astraler.canary WHERE at < to_timestamp({forget_before_ms} / 1000.0)");
    server.run(STEP, &forget).await?;
    let write = "INSERT INTO astraler.canary (word) VALUES ($1) RETURNING word";
    server.ask(STEP, write, &[word]).await?;
    Ok(())
}

/// The canaries that are there, oldest first.
pub async fn canaries(admin: &Access) -> Result<Vec<Canary>, DatabaseError> {
    const STEP: &str = "reading canaries";
    let server = Session::open(admin).await?;
    let table = server
        .ask(STEP, "SELECT to_regclass('astraler.canary')::text", &[])
        .await?;
    if table.is_none() {
        return Ok(vec![]);
    }
    let all =
        "SELECT coalesce(string_agg(floor(extract(epoch FROM at) * 1000)::bigint || ' ' || word, chr(10)
                 ORDER BY at), '') FROM astraler.canary";
    let found = server.ask(STEP, all, &[]).await?.unwrap_or_default();
    let canary = |line: &str| {
        let (at, word) = line.split_once(' ')?;
        Some(Canary {
            at_ms: at.parse().ok()?,
            word: word.to_owned(),
        })
    };
    Ok(found.lines().filter_map(canary).collect())
}

/// Reads every row of a database, as a dump does; returns the bytes.
pub async fn read_through(
    access: &Access,
    binaries: &Binaries,
    password_file: &Path,
) -> Result<u64, GoldenError> {
    let path = binaries.directory.join("pg_dump");
    let failed = |source| GoldenError::Program {
        program: path.clone(),
        source,
    };
    let mut child = program(&path, access, password_file)
        .args(["--format=custom", "--compress=0", "--dbname", &access.database])
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let (Some(mut out), Some(mut err)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(failed(std::io::Error::other("its output is not there")));
    };
    let mut said = Vec::new();
    let words = async {
        (&mut err)
            .take(SAID_BYTES as u64)
            .read_to_end(&mut said)
            .await
            .ok();
        tokio::io::copy(&mut err, &mut tokio::io::sink()).await.ok();
    };
    let mut sink = tokio::io::sink();
    let (bytes, ()) = tokio::join!(tokio::io::copy(&mut out, &mut sink), words);
    let bytes = bytes.map_err(failed)?;
    let status = child.wait().await.map_err(failed)?;
    match status.success() {
        true => Ok(bytes),
        false => Err(GoldenError::Failed {
            program: "pg_dump",
            status: status.to_string(),
            said: String::from_utf8_lossy(&said).trim().to_owned(),
        }),
    }
}

/// Checks every table and every B-tree with PostgreSQL's own `amcheck`, which is made in the database; nothing where the
/// server has none. The first fault is the error. <https://www.postgresql.org/docs/current/amcheck.html>
pub async fn check_database(access: &Access) -> Result<Option<Checked>, DatabaseError> {
    const STEP: &str = "checking tables and indexes";
    let server = Session::open(access).await?;
    let there = "SELECT name::text FROM pg_available_extensions WHERE name = 'amcheck'";
    if server.ask(STEP, there, &[]).await?.is_none() {
        return Ok(None);
    }
    server.run(STEP, "CREATE EXTENSION IF NOT EXISTS amcheck").await?;
    let indexes = "SELECT count(bt_index_check(c.oid, true)::text)::text
                   FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
                   WHERE a.amname = 'btree' AND c.relpersistence = 'p' AND i.indisready AND i.indisvalid";
    let indexes = server.ask(STEP, indexes, &[]).await?;
    // The first statement fails at a fault; this function returns faults: one of them becomes an error too.
    let tables = "SELECT count(*)::text FROM pg_class c JOIN pg_am a ON a.oid = c.relam
                  WHERE a.amname = 'heap' AND c.relkind IN ('r', 'm', 't') AND c.relpersistence = 'p'";
    let tables = server.ask(STEP, tables, &[]).await?;
    let faults = "DO $$ DECLARE fault text; BEGIN
                    SELECT c.oid::regclass || ', block ' || v.blkno || ': ' || v.msg INTO fault
                    FROM (SELECT c.oid FROM pg_class c JOIN pg_am a ON a.oid = c.relam
                          WHERE a.amname = 'heap' AND c.relkind IN ('r', 'm', 't') AND c.relpersistence = 'p'
                          OFFSET 0) c, LATERAL verify_heapam(c.oid, on_error_stop => true) v LIMIT 1;
                    IF fault IS NOT NULL THEN RAISE EXCEPTION '%', fault; END IF;
                  END $$";
    server.run(STEP, faults).await?;
    let count = |text: Option<String>| text.and_then(|text| text.parse().ok()).unwrap_or(0);
    Ok(Some(Checked {
        tables: count(tables),
        indexes: count(indexes),
    }))
}
