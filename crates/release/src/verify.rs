//! Opening and verifying a release.

use crate::manifest::ReleaseManifest;
use crate::{Release, directory_name};
use sha2::{Digest, Sha256};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A release cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is not there.
    #[error("there is no release {digest}")]
    Missing {
        /// Which.
        digest: String,
        /// What the system said.
        source: io::Error,
    },
    /// Its description is not what its name says.
    #[error("release {digest} has been changed: its description does not match its digest")]
    Changed {
        /// Which.
        digest: String,
    },
    /// Its description is of another version.
    #[error("release {digest} is not of this version")]
    Format {
        /// Which.
        digest: String,
        /// Where reading it failed.
        source: serde_json::Error,
    },
}

/// A release is not whole.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A file is missing or cannot be read.
    #[error("{path} cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not what it was.
    #[error("{path} has been changed since the release was built")]
    Changed {
        /// The file.
        path: PathBuf,
    },
}

/// Opens a release and checks its description against its digest; [`verify`] checks the files.
pub fn open(releases: &Path, digest: &str) -> Result<Release, OpenError> {
    let directory = releases.join(directory_name(digest));
    let bytes = fs::read(directory.join("release.json")).map_err(|source| OpenError::Missing {
        digest: digest.to_owned(),
        source,
    })?;
    if format!("sha256:{}", hex::encode(Sha256::digest(&bytes))) != digest {
        return Err(OpenError::Changed {
            digest: digest.to_owned(),
        });
    }
    let manifest: ReleaseManifest = serde_json::from_slice(&bytes).map_err(|source| OpenError::Format {
        digest: digest.to_owned(),
        source,
    })?;
    Ok(Release {
        digest: digest.to_owned(),
        directory,
        manifest,
    })
}

/// Checks every file's hash; names the first that is not what it was.
pub fn verify(release: &Release) -> Result<(), VerifyError> {
    let check = |path: PathBuf, sha256: &str| {
        let mut file = fs::File::open(&path).map_err(|source| VerifyError::Read {
            path: path.clone(),
            source,
        })?;
        let mut hash = Sha256::new();
        io::copy(&mut file, &mut hash).map_err(|source| VerifyError::Read {
            path: path.clone(),
            source,
        })?;
        if hex::encode(hash.finalize()) == sha256 {
            Ok(())
        } else {
            Err(VerifyError::Changed { path })
        }
    };
    let own = hex::encode(Sha256::digest(release.manifest.canonical()));
    check(release.directory.join("release.json"), &own)?;
    for (name, entry) in &release.manifest.files {
        check(release.directory.join(name), &entry.sha256)?;
    }
    Ok(())
}
