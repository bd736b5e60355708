//! PostgreSQL's own programs, whose output goes to the destination as it comes.

use crate::archive::is_segment;
use crate::destination::{Destination, DestinationError, Written};
use crate::set::{BackupSet, Kind, SetError, SetObject, StoredSet, seal};
use astraler_postgres::{Access, Binaries};
use std::io::Read;
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
/// Of a base's beginning so much is looked at, unpacked.
const LABEL_BYTES: u64 = 4 << 10;
const TAR_BLOCK: usize = 512;
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
    /// A base without a label is none.
    #[error("pg_basebackup wrote no label that says from where its log begins")]
    NoLabel,
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
    ]);
    let key = format!("{}/{BASE_OBJECT}", set.folder());
    let written = stream(destination, &key, command, "pg_basebackup").await?;
    let start = label(&written.head).as_deref().and_then(first_segment);
    set.wal_start = Some(start.ok_or(BackupError::NoLabel)?);
    set.system = Some(request.system.to_owned());
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
    let written = stream(destination, &key, command, "pg_dump").await?;
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
) -> Result<Written, BackupError> {
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
        Ok(written) => Ok(written),
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

/// The first file of a base is its label.
fn label(head: &[u8]) -> Option<String> {
    let mut unpacked = Vec::new();
    let mut begin = flate2::read::GzDecoder::new(head).take(LABEL_BYTES);
    // The head ends in the middle of the stream: what comes out before that is enough.
    begin.read_to_end(&mut unpacked).ok();
    let name = unpacked.get(..100)?.split(|byte| *byte == 0).next()?;
    let text = unpacked.get(TAR_BLOCK..)?;
    (name == b"backup_label").then(|| String::from_utf8_lossy(text).into_owned())
}

/// `START WAL LOCATION: 0/2000028 (file 000000010000000000000002)`.
fn first_segment(label: &str) -> Option<String> {
    let (_, rest) = label.split_once("START WAL LOCATION: ")?;
    let (_, rest) = rest.lines().next()?.split_once("(file ")?;
    let (segment, _) = rest.split_once(')')?;
    is_segment(segment).then(|| segment.to_owned())
}

fn last_words(said: &str) -> String {
    let said = said.trim();
    said[said.ceil_char_boundary(said.len().saturating_sub(SHOWN_BYTES))..].to_owned()
}

/// A backup happens when it happens: its times are those of the machine, as the server's are.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_segment_is_in_the_label_that_a_base_begins_with() {
        let text =
            "START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\nCHECKPOINT LOCATION: 0/2000060\n";
        let packed = |name: &str| {
            let mut block = [0; TAR_BLOCK];
            block[..name.len()].copy_from_slice(name.as_bytes());
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            for piece in [&block[..], text.as_bytes(), &[7; 100_000]] {
                std::io::Write::write_all(&mut encoder, piece).unwrap();
            }
            encoder.finish().unwrap()
        };
        let whole = packed("backup_label");
        let segment = |head: &[u8]| label(head).as_deref().and_then(first_segment);
        let found = Some("000000010000000000000002".to_owned());
        assert_eq!(segment(&whole), found);
        assert_eq!(segment(&whole[..whole.len() / 2]), found, "the head of a stream");
        assert_eq!(segment(&packed("PG_VERSION")), None);
        assert_eq!(segment(b"no gzip"), None);
        assert_eq!(first_segment("START WAL LOCATION: 0/2000028 (file ../x)"), None);
    }
}
