//! `astraler release`: through the daemon while it runs, so that its permissions hold; else from the folder itself.

use crate::cli::{Arguments, ReleaseCommand};
use crate::failure::{Failure, Kind, Outcome};
use crate::place::Place;
use crate::progress::line;
use crate::table;
use astraler_control::{
    AdminClient, ClientError, DAMAGED, ReleaseError, ReleaseSummary, Verified, describe_release,
    verify_release,
};
use astraler_release::{Description, ExportError, Releases};
use serde_json::json;
use std::io::{self, BufWriter, Write};
use std::path::Path;

const IMPORT_PIECE_BYTES: usize = 64 << 10;

/// Where releases are read.
enum Source {
    Daemon(AdminClient),
    Folder(Releases),
}

/// A release that is not whole, and why.
struct Damaged {
    digest: String,
    failure: Failure,
}

pub(super) fn run(arguments: &Arguments, command: &ReleaseCommand) -> Outcome {
    super::block_on(async {
        let source = Source::find(arguments).await?;
        match command {
            ReleaseCommand::List(json) => list(&source.list().await?, json.json),
            ReleaseCommand::Show { digest, json } => {
                let description = source.show(checked(digest)?).await?;
                if json.json {
                    return Ok(table::print_json(&description)?);
                }
                show(&description);
                Ok(())
            }
            ReleaseCommand::Verify { digest, json } => {
                let digests = match digest {
                    Some(digest) => vec![checked(digest)?.to_owned()],
                    None => {
                        let all = source.list().await?;
                        all.into_iter().map(|release| release.stored.digest).collect()
                    }
                };
                verify(&source, digests, json.json).await
            }
            ReleaseCommand::Import { file, json } => {
                let digest = source.import(file).await?;
                if json.json {
                    return Ok(table::print_json(&json!({ "digest": digest, "file": file }))?);
                }
                line(&format!("{} → {digest}", file.display()));
                Ok(())
            }
            ReleaseCommand::Export { digest, file, json } => {
                let digest = source.show(checked(digest)?).await?.stored.digest;
                let size = source.export(&digest, file).await?;
                if json.json {
                    let report = json!({ "digest": digest, "file": file, "size_bytes": size });
                    return Ok(table::print_json(&report)?);
                }
                line(&format!("{digest} → {} ({})", file.display(), table::size(size)));
                Ok(())
            }
        }
    })
}

fn list(releases: &[ReleaseSummary], json: bool) -> Outcome {
    if json {
        return Ok(table::print_json(&releases)?);
    }
    let rows = releases.iter().map(|release| {
        let stored = &release.stored;
        let environments = release.environments.as_ref();
        vec![
            short(&stored.digest).to_owned(),
            stored.application.clone(),
            time(stored.stored_at_ms),
            stored.size_bytes.map_or_else(|| "damaged".into(), table::size),
            environments.map_or_else(|| "-".into(), |names| names.join(" ")),
        ]
    });
    table::print(&["release", "application", "stored", "size", "runs in"], rows);
    Ok(())
}

fn show(description: &Description) {
    let (stored, release) = (&description.stored, &description.release);
    let bytes = release.files.values().map(|file| file.size).sum();
    let mut rows = vec![
        vec!["digest".to_owned(), stored.digest.clone()],
        vec!["application".into(), stored.application.clone()],
        vec!["stored".into(), time(stored.stored_at_ms)],
        vec![
            "files".into(),
            format!("{} ({})", release.files.len(), table::size(bytes)),
        ],
    ];
    rows.extend(release.workers.iter().map(|(name, worker)| {
        let modules = worker.modules.len();
        let date = &worker.compatibility_date;
        vec![format!("worker {name}"), format!("{modules} modules, {date}")]
    }));
    rows.extend(description.layers.iter().map(|layer| {
        let size = table::size(layer.size_bytes);
        vec![
            format!("layer {}", layer.holds),
            format!("{} ({size})", layer.digest),
        ]
    }));
    rows.extend(stored.keys.iter().map(|key| vec!["key".into(), key.clone()]));
    table::print(&["what", "value"], rows);
}

/// All are checked, also behind one that is damaged.
async fn verify(source: &Source, digests: Vec<String>, json: bool) -> Outcome {
    let mut reports = Vec::new();
    let mut damaged: Vec<Damaged> = Vec::new();
    for digest in digests {
        match source.verify(&digest).await {
            Ok(verified) => {
                if !json {
                    line(&format!("{} whole, {} files", verified.digest, verified.files));
                }
                reports.push(json!({ "digest": verified.digest, "ok": true, "files": verified.files }));
            }
            Err(failure) if failure.kind == Kind::Damaged => {
                reports.push(json!({ "digest": digest, "ok": false, "message": failure.message }));
                damaged.push(Damaged { digest, failure });
            }
            Err(failure) => return Err(failure),
        }
    }
    if json {
        table::print_json(&reports)?;
    }
    let Some(first) = damaged.first() else {
        return Ok(());
    };
    let details = damaged.iter().flat_map(|one| {
        let all = std::iter::once(&one.failure.message).chain(&one.failure.details);
        all.cloned().collect::<Vec<_>>()
    });
    let message = match damaged.len() {
        1 => format!("release {} is not what it was", short(&first.digest)),
        many => format!("{many} releases are not what they were"),
    };
    Err(Failure::new(Kind::Damaged, message)
        .details(details.collect())
        .hint(DAMAGED_HINT))
}

const DAMAGED_HINT: &str =
    "build the same sources again, or import the release again: both put back what was changed";

impl Source {
    /// The daemon where it answers; the folder where the platform is not up, or was never.
    async fn find(arguments: &Arguments) -> Outcome<Self> {
        let place = Place::find(arguments)?;
        let client = AdminClient::new(place.layout.admin_socket());
        match client.releases().await {
            Err(ClientError::Connect { .. }) => Ok(Self::Folder(Releases::at(place.layout.releases()))),
            _ => Ok(Self::Daemon(client)),
        }
    }

    async fn list(&self) -> Outcome<Vec<ReleaseSummary>> {
        match self {
            Self::Daemon(client) => client.releases().await.map_err(|error| of_client(&error)),
            Self::Folder(releases) => {
                let stored = releases.list()?.into_iter();
                let summaries = stored.map(|stored| ReleaseSummary {
                    stored,
                    environments: None,
                });
                Ok(summaries.collect())
            }
        }
    }

    async fn show(&self, digest: &str) -> Outcome<Description> {
        match self {
            Self::Daemon(client) => client.release(digest).await.map_err(|error| of_client(&error)),
            Self::Folder(releases) => describe_release(releases, digest).map_err(|error| of_folder(&error)),
        }
    }

    async fn verify(&self, digest: &str) -> Outcome<Verified> {
        match self {
            Self::Daemon(client) => client
                .release_verify(digest)
                .await
                .map_err(|error| of_client(&error)),
            Self::Folder(releases) => verify_release(releases, digest).map_err(|error| of_folder(&error)),
        }
    }

    /// Sends an archive to the daemon, which alone writes where releases are.
    async fn import(&self, file: &Path) -> Outcome<String> {
        let Self::Daemon(client) = self else {
            return Err(Failure::new(Kind::NotUp, "the platform is not up")
                .hint("`astraler up`, then import: its daemon alone writes where releases are kept"));
        };
        let unreadable =
            |error: io::Error| Failure::of(&error).context(format!("{} cannot be read", file.display()));
        let archive = tokio::fs::File::open(file).await.map_err(unreadable)?;
        let pieces = tokio_util::io::ReaderStream::with_capacity(archive, IMPORT_PIECE_BYTES);
        client.upload(None, pieces).await.map_err(|error| match error {
            ClientError::Refused { .. } => {
                of_client(&error).hint("export it again, or build it again from its sources")
            }
            error => of_client(&error),
        })
    }

    /// Writes the archive beside its place, and gives it its name when it is whole and on disk.
    async fn export(&self, digest: &str, file: &Path) -> Outcome<u64> {
        let folder = match file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let unwritable = |error: &dyn std::error::Error| {
            Failure::of(error).context(format!("{} cannot be written", file.display()))
        };
        let mut temporary = tempfile::Builder::new()
            .prefix(".export-")
            .tempfile_in(folder)
            .map_err(|error| unwritable(&error))?;
        let mut writer = BufWriter::new(temporary.as_file_mut());
        match self {
            Self::Daemon(client) => client
                .release_archive(digest, |piece| writer.write_all(piece))
                .await
                .map_err(|error| of_client(&error))?,
            Self::Folder(releases) => {
                verify_release(releases, digest).map_err(|error| of_folder(&error))?;
                releases
                    .export(digest, &mut writer)
                    .map_err(|error: ExportError| Failure::of(&error))?;
            }
        }
        let finished: io::Result<u64> = writer.flush().and_then(|()| {
            let file = writer.get_ref();
            set_mode(file)?;
            file.sync_all()?;
            Ok(file.metadata()?.len())
        });
        let size = finished.map_err(|error| unwritable(&error))?;
        drop(writer);
        temporary
            .persist(file)
            .map_err(|error| unwritable(&error.error))?;
        astraler_host::file::sync_dir(folder)?;
        Ok(size)
    }
}

/// A temporary file is its owner's only; an archive is as readable as any other file here.
fn set_mode(file: &std::fs::File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

fn of_client(error: &ClientError) -> Failure {
    match error {
        ClientError::Refused { status, .. } if *status == DAMAGED => {
            Failure::of(error).kind(Kind::Damaged).hint(DAMAGED_HINT)
        }
        ClientError::Refused { status: 404, .. } => Failure::of(error).hint(LIST_HINT),
        _ => super::not_up(error),
    }
}

fn of_folder(error: &ReleaseError) -> Failure {
    if error.is_damage() {
        return Failure::of(error).kind(Kind::Damaged).hint(DAMAGED_HINT);
    }
    match error {
        ReleaseError::Resolve(_) => Failure::of(error).hint(LIST_HINT),
        _ => Failure::of(error),
    }
}

const LIST_HINT: &str = "`astraler release list` shows every release with its digest";

/// Before it becomes part of a request's path.
fn checked(digest: &str) -> Outcome<&str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'-');
    if !digest.is_empty() && digest.bytes().all(plain) {
        return Ok(digest);
    }
    let shown = digest.escape_debug();
    Err(Failure::new(Kind::General, format!("`{shown}` is not a digest")).hint(LIST_HINT))
}

fn short(digest: &str) -> &str {
    let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
    hex.get(..12).unwrap_or(hex)
}

fn time(ms: Option<u64>) -> String {
    ms.and_then(|ms| jiff::Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok())
        .map_or_else(|| "-".into(), |time| time.strftime("%F %T").to_string())
}
