//! PostgreSQL's own programs, whose output goes to the destination as it comes.

use crate::destination::{Destination, DestinationError, Written};
use crate::set::{BackupSet, Kind, SetError, SetObject, StoredSet, seal};
use astraler_postgres::{Access, Binaries};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};
use tokio::io::AsyncReadExt;
use tokio::process::Command;

/// Longest backup of one cluster or database.
const LIMIT: Duration = Duration::from_secs(12 * 3600);
/// Words of a program that are kept.
const SAID_BYTES: u64 = 64 << 10;
/// Words of a failed program that are shown.
const SHOWN_BYTES: usize = 1_000;
const BASE_OBJECT: &str = "base.tar.gz";
const DUMP_OBJECT: &str = "dump.pgc";

/// A base backup that is asked for.
#[derive(Debug, Clone)]
pub struct BaseRequest<'a> {
    /// The cluster's name.
    pub cluster: &'a str,
    /// Its identifier, as `pg_control_system()` says it.
    pub system: &'a str,
    /// The superuser's way in.
    pub access: &'a Access,
    /// Programs of its version.
    pub binaries: &'a Binaries,
    /// Read by the programs: see `PGPASSFILE`.
    pub password_file: &'a Path,
}

/// A dump that is asked for.
#[derive(Debug, Clone)]
pub struct DumpRequest<'a> {
    /// The superuser's way into the database.
    pub access: &'a Access,
    /// Programs of its version.
    pub binaries: &'a Binaries,
    /// Read by the programs: see `PGPASSFILE`.
    pub password_file: &'a Path,
}

/// A backup was not made. What it had written is no set.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A program is not there, or cannot be run.
    #[error("cannot run {}", program.display())]
    Program {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It failed.
    #[error("{program} failed ({status}): {said}")]
    Failed {
        /// Its name.
        program: String,
        /// How it ended.
        status: String,
        /// Its last words.
        said: String,
    },
    /// It took too long.
    #[error("{program} took longer than {} h", LIMIT.as_secs() / 3600)]
    Slow {
        /// Its name.
        program: String,
    },
    /// Its words are not those that we know.
    #[error("pg_basebackup did not say from where its log begins: {said}")]
    NoStart {
        /// What it said.
        said: String,
    },
    /// The destination.
    #[error(transparent)]
    Set(#[from] SetError),
}

impl From<DestinationError> for BackupError {
    fn from(error: DestinationError) -> Self {
        Self::Set(error.into())
    }
}

/// Copies a cluster's files while it serves. It waits until the log that the copy needs is archived: without
/// `archive_command` it never ends.
pub async fn base_backup(
    destination: &Destination,
    request: &BaseRequest<'_>,
) -> Result<StoredSet, BackupError> {
    let started_ms = now_ms();
    let mut set = BackupSet::new(Kind::Base, request.cluster, &request.binaries.version, started_ms);
    let mut command = program(
        request.binaries,
        "pg_basebackup",
        request.access,
        request.password_file,
    );
    command.args([
        "--pgdata=-",
        "--format=tar",
        "--wal-method=none",
        "--gzip",
        "--compress=1",
        "--checkpoint=fast",
        "--verbose",
    ]);
    let key = format!("{}/{BASE_OBJECT}", set.folder());
    let (written, said) = stream(destination, &key, command, "pg_basebackup").await?;
    let Some((timeline, lsn)) = start_point(&said) else {
        return Err(BackupError::NoStart {
            said: last_words(&said),
        });
    };
    let segment_bytes = segment_size(request).await?;
    set.system = Some(request.system.to_owned());
    set.wal_start = Some(segment_name(timeline, lsn, segment_bytes));
    finish(destination, set, BASE_OBJECT, written).await
}

/// Dumps one database, in one snapshot of it.
pub async fn dump(destination: &Destination, request: &DumpRequest<'_>) -> Result<StoredSet, BackupError> {
    let database = &request.access.database;
    let set = BackupSet::new(Kind::Dump, database, &request.binaries.version, now_ms());
    let mut command = program(request.binaries, "pg_dump", request.access, request.password_file);
    command.args([
        "--format=custom",
        "--compress=1",
        "--lock-wait-timeout=60s",
        "--dbname",
        database,
    ]);
    let key = format!("{}/{DUMP_OBJECT}", set.folder());
    let (written, _) = stream(destination, &key, command, "pg_dump").await?;
    finish(destination, set, DUMP_OBJECT, written).await
}

async fn finish(
    destination: &Destination,
    mut set: BackupSet,
    name: &str,
    written: Written,
) -> Result<StoredSet, BackupError> {
    set.ended_ms = now_ms();
    set.objects.push(SetObject {
        name: name.to_owned(),
        bytes: written.bytes,
        sha256: written.sha256,
    });
    Ok(seal(destination, set).await?)
}

/// Runs a program whose standard output is the object. A program that fails has written none.
async fn stream(
    destination: &Destination,
    key: &str,
    mut command: Command,
    name: &str,
) -> Result<(Written, String), BackupError> {
    let failed = |program: PathBuf| move |source| BackupError::Program { program, source };
    let path = PathBuf::from(command.as_std().get_program());
    let mut child = command.spawn().map_err(failed(path.clone()))?;
    let (Some(out), Some(mut err)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(failed(path)(std::io::Error::other("its output is not there")));
    };
    let words = async {
        let mut said = Vec::new();
        (&mut err).take(SAID_BYTES).read_to_end(&mut said).await.ok();
        // What is beyond is read too: a full pipe would stop the program.
        tokio::io::copy(&mut err, &mut tokio::io::sink()).await.ok();
        String::from_utf8_lossy(&said).into_owned()
    };
    // The object comes into being only when the program has ended well.
    let whole = Whole {
        out,
        child: Some(child),
        name: name.to_owned(),
    };
    let work = async { tokio::join!(whole.put(destination, key), words) };
    let (written, said) = tokio::time::timeout(LIMIT, work)
        .await
        .map_err(|_| BackupError::Slow {
            program: name.to_owned(),
        })?;
    match written {
        Ok(written) => Ok((written, said)),
        Err(Ended::Program(status)) => Err(BackupError::Failed {
            program: name.to_owned(),
            status,
            said: last_words(&said),
        }),
        Err(Ended::Destination(error)) => Err(error.into()),
    }
}

struct Whole {
    out: tokio::process::ChildStdout,
    child: Option<tokio::process::Child>,
    name: String,
}

enum Ended {
    Program(String),
    Destination(DestinationError),
}

impl Whole {
    async fn put(mut self, destination: &Destination, key: &str) -> Result<Written, Ended> {
        let (give, status) = tokio::sync::oneshot::channel();
        let child = self.child.take();
        let reader = Checked {
            out: self.out,
            end: Some(Box::pin(async move {
                let mut child = child?;
                let status = child.wait().await.ok()?;
                let bad = (!status.success()).then(|| status.to_string());
                give.send(bad.clone()).ok();
                bad
            })),
            name: self.name,
        };
        match destination.put_stream(key, reader).await {
            Ok(written) => Ok(written),
            Err(error) => match status.await {
                Ok(Some(status)) => Err(Ended::Program(status)),
                _ => Err(Ended::Destination(error)),
            },
        }
    }
}

/// A program's output that ends with an error when the program does.
struct Checked {
    out: tokio::process::ChildStdout,
    end: Option<std::pin::Pin<Box<dyn Future<Output = Option<String>> + Send>>>,
    name: String,
}

impl tokio::io::AsyncRead for Checked {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        use std::task::{Poll, ready};
        let before = buffer.filled().len();
        ready!(std::pin::Pin::new(&mut self.out).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            return Poll::Ready(Ok(()));
        }
        let Some(end) = &mut self.end else {
            return Poll::Ready(Ok(()));
        };
        let bad = ready!(end.as_mut().poll(cx));
        self.end = None;
        match bad {
            Some(status) => Poll::Ready(Err(std::io::Error::other(format!(
                "{} failed: {status}",
                self.name
            )))),
            None => Poll::Ready(Ok(())),
        }
    }
}

fn program(binaries: &Binaries, name: &str, access: &Access, password_file: &Path) -> Command {
    let mut command = Command::new(binaries.directory.join(name));
    command
        .env_clear()
        .env("PGPASSFILE", password_file)
        .env("PATH", "/usr/bin:/bin")
        .env("LC_ALL", "C")
        .arg("--host")
        .arg(&access.socket_directory)
        .args(["--port", &access.port.to_string()])
        .args(["--username", &access.user])
        .arg("--no-password")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// `write-ahead log start point: 0/2000028 on timeline 1`.
fn start_point(said: &str) -> Option<(u32, u64)> {
    let rest = said
        .split("write-ahead log start point: ")
        .nth(1)?
        .lines()
        .next()?;
    let (lsn, timeline) = rest.split_once(" on timeline ")?;
    let (high, low) = lsn.split_once('/')?;
    let lsn = (u64::from_str_radix(high, 16).ok()? << 32) | u64::from_str_radix(low, 16).ok()?;
    Some((timeline.trim().parse().ok()?, lsn))
}

fn segment_name(timeline: u32, lsn: u64, segment_bytes: u64) -> String {
    let number = lsn / segment_bytes;
    let each = 0x1_0000_0000 / segment_bytes;
    format!("{timeline:08X}{:08X}{:08X}", number / each, number % each)
}

async fn segment_size(request: &BaseRequest<'_>) -> Result<u64, BackupError> {
    let asked = astraler_postgres::wal_segment_bytes(request.access).await;
    asked.map_err(|error| BackupError::Failed {
        program: "the server".into(),
        status: "asked for wal_segment_size".into(),
        said: error.to_string(),
    })
}

fn last_words(said: &str) -> String {
    let said = said.trim();
    said[said.ceil_char_boundary(said.len().saturating_sub(SHOWN_BYTES))..].to_owned()
}

/// A backup happens when it happens: its times are those of the machine, as the server's are.
fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_segment_follows_from_what_pg_basebackup_says() {
        let said = "pg_basebackup: initiating base backup, waiting for checkpoint to complete\n\
                    pg_basebackup: checkpoint completed\n\
                    pg_basebackup: write-ahead log start point: 1/FE000028 on timeline 3\n";
        let (timeline, lsn) = start_point(said).unwrap();
        assert_eq!(segment_name(timeline, lsn, 16 << 20), "0000000300000001000000FE");
        assert_eq!(segment_name(1, 0x200_0028, 16 << 20), "000000010000000000000002");
        assert_eq!(
            segment_name(1, 0x1_4000_0000, 1 << 30),
            "000000010000000100000001"
        );
        assert_eq!(start_point("nothing"), None);
    }
}
