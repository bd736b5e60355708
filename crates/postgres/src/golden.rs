//! The golden copy: a database of which others are copied. Nobody may connect to it, so that a copy never waits for a
//! session (`CREATE DATABASE … TEMPLATE` needs its source to itself); it is replaced whole.
//!
//! <https://www.postgresql.org/docs/current/sql-createdatabase.html>,
//! <https://www.postgresql.org/docs/current/manage-ag-templatedbs.html>

use crate::access::Access;
use crate::binaries::Binaries;
use crate::database::{Changes, DatabaseError, DatabaseSpec, LOCK, Session, identifier};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// What a golden copy is made of, and where.
#[derive(Clone)]
pub struct GoldenSpec {
    /// The database that is copied.
    pub source: String,
    /// Name of the copy; also of the role that owns what is in it.
    pub golden: String,
    /// That role's password.
    pub password: String,
    /// Makes the data fit for others: SQL, run as that role.
    pub mask: Option<String>,
}

/// A golden copy could not be made.
#[derive(Debug, thiserror::Error)]
pub enum GoldenError {
    /// A statement failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The server cannot be reached.
    #[error(transparent)]
    Access(#[from] crate::access::AccessError),
    /// A program is not there, or cannot be run.
    #[error("cannot run {}", program.display())]
    Program {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A program failed.
    #[error("{program} failed ({status}): {said}")]
    Failed {
        /// Its name.
        program: &'static str,
        /// How it ended.
        status: String,
        /// Its last words.
        said: String,
    },
    /// It took too long.
    #[error("the copy of database `{database}` took longer than {} min", COPY_LIMIT.as_secs() / 60)]
    Slow {
        /// The database.
        database: String,
    },
    /// The masking script failed: the copy before stays in use.
    #[error("the masking script failed: {message}")]
    Mask {
        /// What the server says.
        message: String,
    },
}

/// A dump and its restore may take so long.
const COPY_LIMIT: Duration = Duration::from_secs(30 * 60);

/// Words of a failed program that are kept.
pub(crate) const SAID_BYTES: usize = 2_000;

/// Under this size writing pages to the log costs less than the checkpoints of a copy of files.
const SMALL_DATABASE_BYTES: i64 = 24 << 20;

/// Makes a new copy of the source, masks it, and puts it in the place of the golden one. The source is read in one
/// snapshot by `pg_dump`: who uses it notices nothing. Killed at any point, the copy before stays in use.
///
/// `password_file` is read by the programs (`PGPASSFILE`, see
/// <https://www.postgresql.org/docs/current/libpq-pgpass.html>).
pub async fn refresh_golden(
    admin: &Access,
    binaries: &Binaries,
    spec: &GoldenSpec,
    password_file: &Path,
) -> Result<(), GoldenError> {
    const STEP: &str = "making the golden copy";
    let server = Session::open(admin).await?;
    let (golden, next, old) = (
        spec.golden.clone(),
        format!("{}_next", spec.golden),
        format!("{}_old", spec.golden),
    );
    let role = identifier(&golden);
    crate::database::ensure_role(&server, &golden, &spec.password, 2, &mut Changes::default()).await?;
    for left in [&next, &old] {
        drop_template(&server, left).await?;
    }
    let database = identifier(&next);
    server
        .run(
            STEP,
            &format!("CREATE DATABASE {database} TEMPLATE template0 ENCODING 'UTF8'"),
        )
        .await?;
    server
        .run(
            STEP,
            &format!("REVOKE ALL ON DATABASE {database} FROM PUBLIC; GRANT CREATE, CONNECT ON DATABASE {database} TO {role}"),
        )
        .await?;
    let inside = Session::open(&Access {
        database: next.clone(),
        ..admin.clone()
    })
    .await?;
    inside
        .run(STEP, &format!("ALTER SCHEMA public OWNER TO {role}"))
        .await?;
    let copied = copy_rows(admin, binaries, spec, &next, password_file);
    tokio::time::timeout(COPY_LIMIT, copied)
        .await
        .map_err(|_| GoldenError::Slow {
            database: spec.source.clone(),
        })??;
    if let Some(mask) = &spec.mask {
        // As the role that owns the rows and nothing else: the script is the application's own.
        let owner = Session::open(&admin.with(&next, &golden, &spec.password)).await?;
        owner.client.batch_execute(mask).await.map_err(|error| {
            let message = error
                .as_db_error()
                .map_or_else(|| error.to_string(), |error| error.message().to_owned());
            GoldenError::Mask { message }
        })?;
    }
    drop(inside);
    server
        .run(
            STEP,
            &format!("ALTER DATABASE {database} WITH ALLOW_CONNECTIONS false IS_TEMPLATE true"),
        )
        .await?;
    // Our own session inside may need a moment to end, and a database in use cannot be renamed.
    end_sessions(&server, &next).await?;
    let present = has_database(&server, &golden).await?;
    let mut swap = String::from("BEGIN;");
    if present {
        swap.push_str(&format!("ALTER DATABASE {role} RENAME TO {};", identifier(&old)));
    }
    swap.push_str(&format!("ALTER DATABASE {database} RENAME TO {role}; COMMIT"));
    server.run("swapping the golden copy", &swap).await?;
    drop_template(&server, &old).await?;
    Ok(())
}

/// Removes the golden copy and its role, and what a refresh that was killed has left.
pub async fn drop_golden(admin: &Access, golden: &str) -> Result<(), DatabaseError> {
    let server = Session::open(admin).await?;
    for name in [
        format!("{golden}_next"),
        format!("{golden}_old"),
        golden.to_owned(),
    ] {
        drop_template(&server, &name).await?;
    }
    let role = identifier(golden);
    server
        .run(
            "dropping the golden copy's role",
            &format!("DROP ROLE IF EXISTS {role}"),
        )
        .await
}

/// Whether there is a golden copy.
pub async fn golden_exists(admin: &Access, golden: &str) -> Result<bool, DatabaseError> {
    has_database(&Session::open(admin).await?, golden).await
}

/// Makes the environment's database a copy of the golden one, unless it is there. Returns its size in bytes when it was
/// made. Killed at any point, the next call begins anew.
pub async fn copy_golden(
    admin: &Access,
    binaries: &Binaries,
    golden: &str,
    spec: &DatabaseSpec,
) -> Result<Option<u64>, DatabaseError> {
    const STEP: &str = "copying the golden database";
    let server = Session::open(admin).await?;
    let name = spec.environment.identifier();
    if has_database(&server, &name).await? || !has_database(&server, golden).await? {
        return Ok(None);
    }
    let copying = crate::database::copying(spec.environment);
    server
        .run(STEP, &format!("SELECT pg_advisory_lock({LOCK})"))
        .await?;
    crate::database::ensure_owner(&server, spec).await?;
    server
        .run(STEP, &format!("SELECT pg_advisory_unlock({LOCK})"))
        .await?;
    server
        .run(
            STEP,
            &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", identifier(&copying)),
        )
        .await?;
    let bytes = server
        .ask(STEP, "SELECT pg_database_size($1::name)::text", &[golden])
        .await?
        .and_then(|bytes| bytes.parse::<i64>().ok())
        .unwrap_or_default();
    if binaries.major >= 18 && clones(&server).await? {
        // Blocks are shared until they change; where the file system cannot, the server says so at the copy.
        server.run(STEP, "SET file_copy_method = clone").await.ok();
    }
    let strategy = match binaries.major {
        ..15 => "",
        _ if bytes < SMALL_DATABASE_BYTES => " STRATEGY WAL_LOG",
        _ => " STRATEGY FILE_COPY",
    };
    let create = format!(
        "CREATE DATABASE {} OWNER {} TEMPLATE {}{strategy}",
        identifier(&copying),
        identifier(&spec.owner),
        identifier(golden)
    );
    if server.run(STEP, &create).await.is_err() {
        server.run(STEP, "RESET ALL").await?;
        server.run(STEP, &create).await?;
    }
    let inside = Session::open(&Access {
        database: copying.clone(),
        ..admin.clone()
    })
    .await?;
    // It reassigns what is in this database, and what is shared by all: the role owns nothing of the latter.
    inside
        .run(
            STEP,
            &format!(
                "REASSIGN OWNED BY {} TO {}",
                identifier(golden),
                identifier(&spec.owner)
            ),
        )
        .await?;
    drop(inside);
    end_sessions(&server, &copying).await?;
    server
        .run(
            STEP,
            &format!(
                "ALTER DATABASE {} RENAME TO {}",
                identifier(&copying),
                identifier(&name)
            ),
        )
        .await?;
    Ok(Some(u64::try_from(bytes).unwrap_or_default()))
}

/// Whether the server knows the setting.
async fn clones(server: &Session) -> Result<bool, DatabaseError> {
    exists(
        server,
        "SELECT 1::text FROM pg_settings WHERE name = $1",
        "file_copy_method",
    )
    .await
}

pub(crate) async fn has_database(server: &Session, name: &str) -> Result<bool, DatabaseError> {
    exists(server, "SELECT 1::text FROM pg_database WHERE datname = $1", name).await
}

async fn exists(server: &Session, sql: &str, name: &str) -> Result<bool, DatabaseError> {
    Ok(server.ask("looking for a name", sql, &[name]).await?.is_some())
}

async fn drop_template(server: &Session, name: &str) -> Result<(), DatabaseError> {
    const STEP: &str = "removing an old golden copy";
    if !has_database(server, name).await? {
        return Ok(());
    }
    let database = identifier(name);
    server
        .run(STEP, &format!("ALTER DATABASE {database} WITH IS_TEMPLATE false"))
        .await?;
    server
        .run(STEP, &format!("DROP DATABASE {database} WITH (FORCE)"))
        .await
}

/// Ends every session in a database and waits until it has none, for two seconds at most: what comes then says why not.
pub(crate) async fn end_sessions(server: &Session, name: &str) -> Result<(), DatabaseError> {
    const STEP: &str = "ending sessions";
    for _ in 0..200 {
        let left = server
            .ask(
                STEP,
                "SELECT count(pg_terminate_backend(pid))::text FROM pg_stat_activity WHERE datname = $1",
                &[name],
            )
            .await?;
        if left.as_deref() == Some("0") {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// `pg_dump` into `pg_restore`: owners and rights stay behind, the golden role owns all.
async fn copy_rows(
    admin: &Access,
    binaries: &Binaries,
    spec: &GoldenSpec,
    into: &str,
    password_file: &Path,
) -> Result<(), GoldenError> {
    let dump = [
        "--format=custom",
        "--compress=0",
        "--no-owner",
        "--no-acl",
        "--lock-wait-timeout=30s",
        "--dbname",
        &spec.source,
    ];
    let restore = [
        "--no-owner",
        "--no-acl",
        "--exit-on-error",
        "--role",
        &spec.golden,
        "--dbname",
        into,
    ];
    pipe(binaries, password_file, (admin, &dump), (admin, &restore)).await
}

/// `pg_dump` of one server into `pg_restore` of another, or of the same.
pub(crate) async fn pipe(
    binaries: &Binaries,
    password_file: &Path,
    (from, dump_arguments): (&Access, &[&str]),
    (into, restore_arguments): (&Access, &[&str]),
) -> Result<(), GoldenError> {
    let dump_program = binaries.directory.join("pg_dump");
    let restore_program = binaries.directory.join("pg_restore");
    let mut dump = program(&dump_program, from, password_file)
        .args(dump_arguments)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|source| GoldenError::Program {
            program: dump_program.clone(),
            source,
        })?;
    let failed = |source| GoldenError::Program {
        program: restore_program.clone(),
        source,
    };
    let pipe: Stdio = match dump.stdout.take() {
        Some(pipe) => pipe.try_into().map_err(failed)?,
        None => Stdio::null(),
    };
    let restore = program(&restore_program, into, password_file)
        .args(restore_arguments)
        .stdin(pipe)
        .stdout(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let (dumped, restored) = tokio::join!(dump.wait_with_output(), restore.wait_with_output());
    for (name, output, path) in [
        ("pg_dump", dumped, &dump_program),
        ("pg_restore", restored, &restore_program),
    ] {
        let output = output.map_err(|source| GoldenError::Program {
            program: path.clone(),
            source,
        })?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            let from = said.ceil_char_boundary(said.len().saturating_sub(SAID_BYTES));
            return Err(GoldenError::Failed {
                program: name,
                status: output.status.to_string(),
                said: said[from..].to_owned(),
            });
        }
    }
    Ok(())
}

pub(crate) fn program(path: &Path, admin: &Access, password_file: &Path) -> Command {
    let mut command = Command::new(path);
    command
        .env_clear()
        .env("PGPASSFILE", password_file)
        .env("PATH", "/usr/bin:/bin")
        .arg("--host")
        .arg(&admin.socket_directory)
        .args(["--port", &admin.port.to_string()])
        .args(["--username", &admin.user])
        .arg("--no-password")
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}
