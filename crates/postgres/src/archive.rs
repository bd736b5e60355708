//! What continuous archiving asks of a running server.

use crate::access::Access;
use crate::database::{DatabaseError, Session};

/// The cluster's own identifier, made by `initdb`: its log bears it.
pub async fn system_identifier(admin: &Access) -> Result<String, DatabaseError> {
    const STEP: &str = "reading the cluster's identifier";
    let server = Session::open(admin).await?;
    let found = server
        .ask(
            STEP,
            "SELECT system_identifier::text FROM pg_control_system()",
            &[],
        )
        .await?;
    Ok(found.unwrap_or_default())
}

/// Writes a commit and ends the segment that it is in; returns that segment's name. Once it is archived, everything
/// that was committed before this call is.
pub async fn end_segment(admin: &Access) -> Result<String, DatabaseError> {
    const STEP: &str = "ending a segment of the log";
    let server = Session::open(admin).await?;
    // A transaction with an id writes a commit with its time: a restore to this moment needs one to stop at.
    server.run(STEP, "SELECT txid_current()").await?;
    let found = server
        .ask(STEP, "SELECT pg_walfile_name(pg_switch_wal())", &[])
        .await?;
    Ok(found.unwrap_or_default())
}

/// The last segment that `archive_command` took, and why it failed last, if it has not succeeded since.
pub async fn archiver(admin: &Access) -> Result<(Option<String>, Option<String>), DatabaseError> {
    const STEP: &str = "asking the archiver";
    let server = Session::open(admin).await?;
    let taken = server
        .ask(STEP, "SELECT last_archived_wal FROM pg_stat_archiver", &[])
        .await?;
    let failing = server
        .ask(
            STEP,
            "SELECT last_failed_wal FROM pg_stat_archiver
             WHERE last_failed_time > coalesce(last_archived_time, '-infinity')",
            &[],
        )
        .await?;
    Ok((taken, failing))
}

/// Every database that is somebody's: without templates and without `postgres`.
pub async fn database_names(admin: &Access) -> Result<Vec<String>, DatabaseError> {
    const STEP: &str = "listing databases";
    let server = Session::open(admin).await?;
    let found = server
        .ask(
            STEP,
            "SELECT coalesce(string_agg(datname, chr(10) ORDER BY datname), '') FROM pg_database
             WHERE datallowconn AND NOT datistemplate AND datname <> 'postgres'",
            &[],
        )
        .await?;
    Ok(found.unwrap_or_default().lines().map(str::to_owned).collect())
}
