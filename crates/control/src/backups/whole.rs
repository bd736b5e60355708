//! What belongs to no cluster: what the control plane knows, secrets, releases. Each is put together in files of the daemon's
//! own first, which go when the set is at the destination, or with the next try.

use super::Protected;
use super::make::MakeError;
use super::subjects::recipient;
use crate::platform::Platform;
use crate::repository::{Repository, RepositoryError};
use astraler_recovery::{Destination, Kind, StoredSet, file_set};
use astraler_secrets::{RecoveryKeyError, RootKey, RootKeyError};
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What is sealed or copied is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WholeError {
    #[error("the control plane's database cannot be copied")]
    Store(#[from] astraler_store::StoreError),
    #[error(transparent)]
    RootKey(#[from] RootKeyError),
    #[error(transparent)]
    Recovery(#[from] RecoveryKeyError),
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    #[error("the release cannot be written down")]
    Release(#[from] astraler_release::ExportError),
    #[error("no such release is here: {0}")]
    NoRelease(String),
    #[error("backups.recovery_recipient names no recovery key")]
    NoRecipient,
    #[error("{} cannot be used", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the work was cut short")]
    Cut,
}

/// Makes one set of a kind that is not a cluster's.
pub(super) async fn make(
    platform: &Platform,
    one: &Protected,
    destination: &Destination,
    kind: Kind,
    subject: &str,
) -> Result<StoredSet, MakeError> {
    let folder = Folder::prepare(platform.installation.layout.backup_work())?;
    let path = folder.0.clone();
    let layout = platform.installation.layout.clone();
    let files = match kind {
        Kind::Release => {
            let releases = platform.releases.clone();
            let name = subject.to_owned();
            aside(move || release(&releases, &name, &path)).await?
        }
        Kind::Secrets => {
            let recipient = recipient(one).ok_or(WholeError::NoRecipient)?;
            let store = std::sync::Arc::clone(&platform.store);
            aside(move || {
                let copy = path.join("control.sqlite");
                store.copy_to(&copy)?;
                let root = RootKey::load(&layout.root_key())?;
                let sealed = path.join("root.key.age");
                written(&sealed, &recipient.seal_root_key(&root)?)?;
                let database = path.join("control.sqlite.age");
                let mut from = File::open(&copy).map_err(unusable(&copy))?;
                recipient.seal(&mut from, created(&database)?)?;
                Ok(vec![("root.key.age", sealed), ("control.sqlite.age", database)])
            })
            .await?
        }
        _ => {
            let store = std::sync::Arc::clone(&platform.store);
            let repository = layout.repository(&platform.installation.application);
            aside(move || {
                let copy = path.join("control.sqlite");
                store.copy_to(&copy)?;
                let mut files = vec![("control.sqlite", copy)];
                let bundle = path.join("repository.bundle");
                if Repository::new(repository).bundle(&bundle)? {
                    files.push(("repository.bundle", bundle));
                }
                Ok(files)
            })
            .await?
        }
    };
    let named: Vec<(&str, &Path)> = files.iter().map(|(name, path)| (*name, path.as_path())).collect();
    let set = file_set(destination, kind, subject, &named).await;
    drop(folder);
    set.map_err(|error| MakeError::Backup(error.into()))
}

type Files = Vec<(&'static str, PathBuf)>;

async fn aside(
    work: impl FnOnce() -> Result<Files, WholeError> + Send + 'static,
) -> Result<Files, WholeError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| WholeError::Cut)?
}

fn release(releases: &astraler_release::Releases, name: &str, folder: &Path) -> Result<Files, WholeError> {
    let digest = name.replacen('-', ":", 1);
    if !astraler_release::is_digest(&digest) {
        return Err(WholeError::NoRelease(name.to_owned()));
    }
    let path = folder.join("release.tar");
    releases.export(&digest, io::BufWriter::new(created(&path)?))?;
    Ok(vec![("release.tar", path)])
}

fn created(path: &Path) -> Result<File, WholeError> {
    File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(unusable(path))
}

fn written(path: &Path, bytes: &[u8]) -> Result<(), WholeError> {
    io::Write::write_all(&mut created(path)?, bytes).map_err(unusable(path))
}

fn unusable(path: &Path) -> impl FnOnce(io::Error) -> WholeError {
    move |source| WholeError::File {
        path: path.to_owned(),
        source,
    }
}

/// A folder that is empty at first, and goes.
struct Folder(PathBuf);

impl Folder {
    fn prepare(path: PathBuf) -> Result<Self, WholeError> {
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unusable(&path)(error)),
            _ => {}
        }
        std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700)
            .create(&path)
            .map_err(unusable(&path))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}
