//! Where backups go: S3 and what speaks it (R2, MinIO…), Google Cloud Storage, Azure, or a folder.

mod body;
mod vendors;

use crate::credentials::{self, CredentialsError};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt, WriteMultipart};
use sha2::{Digest, Sha256};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

/// A part of an upload. A destination takes 10,000 of them: 80 GiB, after compression.
const PART_BYTES: usize = 8 << 20;
/// Parts on their way at once; so many are in memory.
const PARTS_AT_ONCE: usize = 2;
/// Objects that a listing may return: a month of log at one segment every half minute.
const MAX_LISTED: usize = 200_000;
/// The beginning of an object that is kept while it is written.
const HEAD_BYTES: usize = 64 << 10;

/// Where backups go, as a manifest says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestinationConfig {
    /// `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix` or `file:///folder`.
    pub url: String,
    /// Address of an S3 service that is not Amazon's.
    pub endpoint: Option<String>,
    /// File with `NAME=value` lines, as the vendor's own tools name them (`AWS_ACCESS_KEY_ID`…).
    pub credentials_file: Option<PathBuf>,
}

/// A place for backups. Cloning is cheap.
#[derive(Clone)]
pub struct Destination {
    store: Arc<dyn ObjectStore>,
    prefix: String,
    url: String,
    folder: Option<PathBuf>,
}

/// The destination cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DestinationError {
    /// Its URL says nothing that we know.
    #[error(
        "`{url}` is no destination: s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or file:///folder"
    )]
    Url {
        /// As written.
        url: String,
    },
    /// Its credentials cannot be read.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// It cannot be set up.
    #[error("the destination {url} cannot be set up")]
    Setup {
        /// Its URL.
        url: String,
        /// Why.
        #[source]
        source: Box<object_store::Error>,
    },
    /// It knows us not, or allows it not.
    #[error(
        "the destination {url} refuses the credentials while {operation} `{key}`: look at its credentials file"
    )]
    Denied {
        /// Its URL.
        url: String,
        /// What was being done.
        operation: &'static str,
        /// To what.
        key: String,
        /// Its words.
        #[source]
        source: Box<object_store::Error>,
    },
    /// It has no such object.
    #[error("`{key}` is not at the destination {url}")]
    Missing {
        /// Its URL.
        url: String,
        /// Which.
        key: String,
    },
    /// It does not answer, or with an error.
    #[error("the destination {url} failed while {operation} `{key}`")]
    Failed {
        /// Its URL.
        url: String,
        /// What was being done.
        operation: &'static str,
        /// To what.
        key: String,
        /// Why.
        #[source]
        source: Box<object_store::Error>,
    },
    /// An object is not what it was when it was written.
    #[error("`{key}` at {url} was changed: {reason}")]
    Damaged {
        /// Its URL.
        url: String,
        /// Which.
        key: String,
        /// How that shows.
        reason: String,
    },
    /// A file of ours cannot be read or written.
    #[error("{} cannot be used", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Destination")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// An object at the destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Below the destination's prefix.
    pub(crate) key: String,
    pub(crate) bytes: u64,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
    /// Its first bytes, where it was written as it came.
    pub(crate) head: Vec<u8>,
}

impl Destination {
    /// Reads the credentials; asks nobody. Everything is kept below `name`, the platform's.
    pub fn open(config: &DestinationConfig, name: &str) -> Result<Self, DestinationError> {
        let url = config.url.trim_end_matches('/').to_owned();
        let values = match &config.credentials_file {
            Some(path) => credentials::read(path)?,
            None => vec![],
        };
        let unknown = || DestinationError::Url { url: url.clone() };
        let (scheme, rest) = url.split_once("://").ok_or_else(unknown)?;
        let (bucket, path) = rest.split_once('/').unwrap_or((rest, ""));
        let setup = |source| DestinationError::Setup {
            url: url.clone(),
            source: Box::new(source),
        };
        if scheme != "file" && bucket.is_empty() {
            return Err(unknown());
        }
        let mut folder = None;
        let mut below = path.to_owned();
        let store: Arc<dyn ObjectStore> = match scheme {
            "s3" => Arc::new(vendors::s3(bucket, config.endpoint.as_deref(), &values).map_err(setup)?),
            "gs" => Arc::new(vendors::google(bucket, &values).map_err(setup)?),
            "az" => Arc::new(vendors::azure(bucket, &values).map_err(setup)?),
            "file" if rest.starts_with('/') => {
                let path = PathBuf::from(rest);
                let local = LocalFileSystem::new_with_prefix(&path).map_err(setup)?;
                folder = Some(path);
                below = String::new();
                Arc::new(local.with_fsync(true))
            }
            _ => return Err(unknown()),
        };
        let prefix = match below.is_empty() {
            true => name.to_owned(),
            false => format!("{below}/{name}"),
        };
        Ok(Self {
            store,
            prefix,
            url,
            folder,
        })
    }

    /// Its URL, without a secret.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The folder, where it is one.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Whether it is a folder on the same device as `path`.
    pub fn shares_device_with(&self, path: &Path) -> std::io::Result<bool> {
        use std::os::unix::fs::MetadataExt;
        match &self.folder {
            None => Ok(false),
            Some(folder) => Ok(std::fs::metadata(folder)?.dev() == std::fs::metadata(path)?.dev()),
        }
    }

    fn key(&self, key: &str) -> Key {
        Key::from(format!("{}/{key}", self.prefix))
    }

    fn failed(
        &self,
        operation: &'static str,
        key: &str,
    ) -> impl FnOnce(object_store::Error) -> DestinationError {
        let (url, key) = (self.url.clone(), key.to_owned());
        move |source| match source {
            object_store::Error::NotFound { .. } => DestinationError::Missing { url, key },
            object_store::Error::Unauthenticated { .. } | object_store::Error::PermissionDenied { .. } => {
                let source = Box::new(source);
                DestinationError::Denied {
                    url,
                    operation,
                    key,
                    source,
                }
            }
            source => {
                let source = Box::new(source);
                DestinationError::Failed {
                    url,
                    operation,
                    key,
                    source,
                }
            }
        }
    }

    /// Writes a small object whole.
    pub(crate) async fn put(&self, key: &str, bytes: Bytes) -> Result<Written, DestinationError> {
        let written = Written {
            bytes: bytes.len() as u64,
            sha256: hex::encode(Sha256::digest(&bytes)),
            head: vec![],
        };
        let put = self.store.put(&self.key(key), bytes.into()).await;
        put.map_err(self.failed("writing", key))?;
        Ok(written)
    }

    /// Writes an object as it comes. Nothing is there before its end; a failure leaves nothing.
    pub(crate) async fn put_stream(
        &self,
        key: &str,
        mut from: impl AsyncRead + Unpin,
    ) -> Result<Written, DestinationError> {
        let begun = self.store.put_multipart(&self.key(key)).await;
        let upload = begun.map_err(self.failed("writing", key))?;
        let mut writer = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        let copied = self.copy(key, &mut from, &mut writer).await;
        match copied {
            Ok(written) => {
                writer.finish().await.map_err(self.failed("writing", key))?;
                Ok(written)
            }
            Err(error) => {
                // What the destination cannot forget now goes with its own rule for unfinished uploads.
                writer.abort().await.ok();
                Err(error)
            }
        }
    }

    async fn copy(
        &self,
        key: &str,
        from: &mut (impl AsyncRead + Unpin),
        writer: &mut WriteMultipart,
    ) -> Result<Written, DestinationError> {
        let mut hasher = Sha256::new();
        let mut bytes = 0;
        let mut head = Vec::new();
        let mut buffer = vec![0; 256 << 10];
        loop {
            let read = from
                .read(&mut buffer)
                .await
                .map_err(|source| DestinationError::File {
                    path: key.into(),
                    source,
                })?;
            if read == 0 {
                break;
            }
            hasher.update(&buffer[..read]);
            bytes += read as u64;
            let missing = HEAD_BYTES - head.len();
            head.extend_from_slice(&buffer[..read.min(missing)]);
            writer
                .wait_for_capacity(PARTS_AT_ONCE)
                .await
                .map_err(self.failed("writing", key))?;
            writer.write(&buffer[..read]);
        }
        Ok(Written {
            bytes,
            sha256: hex::encode(hasher.finalize()),
            head,
        })
    }

    /// Objects below a folder, by key.
    pub(crate) async fn list(&self, below: &str) -> Result<Vec<Listed>, DestinationError> {
        let prefix = self.key(below);
        let cut = self.prefix.len() + 1;
        let mut all: Vec<Listed> = self
            .store
            .list(Some(&prefix))
            .take(MAX_LISTED)
            .map_ok(|found| Listed {
                key: found.location.as_ref().get(cut..).unwrap_or_default().to_owned(),
                bytes: found.size,
            })
            .try_collect()
            .await
            .map_err(self.failed("listing", below))?;
        all.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(all)
    }

    /// Names of the folders right below the prefix.
    pub(crate) async fn folders(&self) -> Result<Vec<String>, DestinationError> {
        let prefix = Key::from(self.prefix.trim_end_matches('/'));
        let below = self
            .store
            .list_with_delimiter(Some(&prefix))
            .await
            .map_err(self.failed("listing", ""))?;
        let names = below.common_prefixes.iter();
        Ok(names
            .filter_map(|path| path.filename().map(str::to_owned))
            .collect())
    }

    /// Reads an object that must not be larger than `limit`.
    pub(crate) async fn read(&self, key: &str, limit: u64) -> Result<Bytes, DestinationError> {
        let found = self
            .store
            .get(&self.key(key))
            .await
            .map_err(self.failed("reading", key))?;
        if found.meta.size > limit {
            return Err(self.damaged(
                key,
                format!("{} bytes, where at most {limit} can be", found.meta.size),
            ));
        }
        found.bytes().await.map_err(self.failed("reading", key))
    }

    /// Reads an object to its end and compares it with what was written; into a file, where one is named. The file is
    /// there, and on disk, only when that is so.
    pub(crate) async fn fetch(
        &self,
        key: &str,
        sha256: &str,
        into: Option<&Path>,
    ) -> Result<u64, DestinationError> {
        let file_error = |source| DestinationError::File {
            path: into.map(Path::to_owned).unwrap_or_default(),
            source,
        };
        let partial = into.map(|path| path.with_extension("partial"));
        let mut file = match &partial {
            Some(path) => Some(tokio::fs::File::create(path).await.map_err(file_error)?),
            None => None,
        };
        let got = self
            .store
            .get(&self.key(key))
            .await
            .map_err(self.failed("reading", key))?;
        let mut stream = got.into_stream();
        let mut hasher = Sha256::new();
        let mut bytes = 0;
        while let Some(piece) = stream.next().await {
            let piece = piece.map_err(self.failed("reading", key))?;
            hasher.update(&piece);
            bytes += piece.len() as u64;
            if let Some(file) = &mut file {
                file.write_all(&piece).await.map_err(file_error)?;
            }
        }
        let found = hex::encode(hasher.finalize());
        if found != sha256 {
            if let Some(path) = &partial {
                tokio::fs::remove_file(path).await.ok();
            }
            return Err(self.damaged(key, format!("its SHA-256 is {found}, it was {sha256}")));
        }
        if let (Some(mut file), Some(partial), Some(path)) = (file, partial, into) {
            file.flush().await.map_err(file_error)?;
            file.sync_data().await.map_err(file_error)?;
            tokio::fs::rename(&partial, path).await.map_err(file_error)?;
        }
        Ok(bytes)
    }

    /// Deletes objects; one that is gone already is no failure.
    pub(crate) async fn delete(&self, keys: &[String]) -> Result<(), DestinationError> {
        let wanted: Vec<object_store::Result<Key>> = keys.iter().map(|key| Ok(self.key(key))).collect();
        let mut deleted = self
            .store
            .delete_stream(futures_util::stream::iter(wanted).boxed());
        while let Some(gone) = deleted.next().await {
            match gone {
                Err(error) if !matches!(error, object_store::Error::NotFound { .. }) => {
                    let key = keys.first().map(String::as_str).unwrap_or_default();
                    return Err(self.failed("deleting", key)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub(crate) fn damaged(&self, key: &str, reason: String) -> DestinationError {
        DestinationError::Damaged {
            url: self.url.clone(),
            key: key.to_owned(),
            reason,
        }
    }
}
