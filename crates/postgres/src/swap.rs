//! A database takes the place of another under the same name, in one transaction.

use crate::access::Access;
use crate::binaries::Binaries;
use crate::database::{DatabaseError, LOCK, Session, identifier};
use crate::golden::{GoldenError, end_sessions, has_database, pipe};
use std::path::Path;
use std::time::Duration;

/// How often a swap is tried: each waits five seconds for sessions to end (`CountOtherDBBackends` in PostgreSQL).
const TRIES: u32 = 6;

/// Name of a database's copy until it takes over.
pub fn recovering(database: &str) -> String {
    format!("{database}_recovering")
}

/// Name of the database that was there before.
pub fn before(database: &str) -> String {
    format!("{database}_before")
}

/// Copies one database out of another server, with its owners and rights, to [`recovering`]. Roles must be there.
/// Killed at any point, the next call begins anew. `password_file` serves both servers.
pub async fn copy_aside(
    from: &Access,
    into: &Access,
    binaries: &Binaries,
    database: &str,
    owner: &str,
    service: &str,
    password_file: &Path,
) -> Result<(), GoldenError> {
    const STEP: &str = "copying what was restored";
    let server = Session::open(into).await?;
    let aside = recovering(database);
    let name = identifier(&aside);
    server
        .run(STEP, &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
        .await?;
    server
        .run(
            STEP,
            &format!(
                "CREATE DATABASE {name} OWNER {} TEMPLATE template0 ENCODING 'UTF8'",
                identifier(owner)
            ),
        )
        .await?;
    server
        .run(
            STEP,
            &format!(
                "REVOKE ALL ON DATABASE {name} FROM PUBLIC; GRANT CONNECT ON DATABASE {name} TO {}",
                identifier(service)
            ),
        )
        .await?;
    let dump = ["--format=custom", "--compress=0", "--dbname", database];
    let restore = ["--exit-on-error", "--dbname", &aside];
    pipe(binaries, password_file, (from, &dump), (into, &restore)).await?;
    // Without statistics the first queries would be planned blindly.
    let inside = Session::open(&Access {
        database: aside,
        ..into.clone()
    })
    .await?;
    inside.run(STEP, "ANALYZE").await?;
    Ok(())
}

/// Removes a copy that will not take over.
pub async fn drop_aside(admin: &Access, database: &str) -> Result<(), DatabaseError> {
    let aside = identifier(&recovering(database));
    Session::open(admin)
        .await?
        .run(
            "removing a copy",
            &format!("DROP DATABASE IF EXISTS {aside} WITH (FORCE)"),
        )
        .await
}

/// Puts the copy into the database's place; what was there stays as [`before`], closed. Does nothing when the copy has
/// taken over already. Sessions are ended; new ones wait for the swap.
pub async fn swap_in(admin: &Access, database: &str) -> Result<bool, DatabaseError> {
    const STEP: &str = "swapping the restored database in";
    let server = Session::open(admin).await?;
    server
        .run(STEP, &format!("SELECT pg_advisory_lock({LOCK})"))
        .await?;
    let (aside, old) = (recovering(database), before(database));
    if !has_database(&server, &aside).await? {
        return Ok(false);
    }
    if has_database(&server, database).await? {
        server
            .run(
                STEP,
                &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", identifier(&old)),
            )
            .await?;
    }
    let mut swap = String::from("BEGIN;");
    if has_database(&server, database).await? {
        swap.push_str(&format!(
            "ALTER DATABASE {} RENAME TO {};",
            identifier(database),
            identifier(&old)
        ));
    }
    swap.push_str(&format!(
        "ALTER DATABASE {} RENAME TO {}; COMMIT",
        identifier(&aside),
        identifier(database)
    ));
    let ender = Session::open(admin).await?;
    end_sessions(&ender, &aside).await?;
    let mut tries = 0;
    loop {
        tries += 1;
        // The renaming keeps new sessions out while it waits for the old ones, which are ended from beside.
        let ended = async {
            for _ in 0..TRIES {
                tokio::time::sleep(Duration::from_millis(20)).await;
                end_sessions(&ender, database).await?;
            }
            std::future::pending::<Result<(), DatabaseError>>().await
        };
        let renamed = tokio::select! {
            renamed = server.run(STEP, &swap) => renamed,
            failed = ended => failed,
        };
        match renamed {
            Ok(()) => break,
            Err(error) if tries >= TRIES => return Err(error),
            Err(_) => server.run(STEP, "ROLLBACK").await?,
        }
    }
    if has_database(&server, &old).await? {
        server
            .run(
                STEP,
                &format!("ALTER DATABASE {} WITH ALLOW_CONNECTIONS false", identifier(&old)),
            )
            .await?;
    }
    Ok(true)
}
