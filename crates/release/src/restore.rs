//! Putting back what was changed in an unpacked folder, from the blobs.

use crate::store::{Releases, StoreError};
use crate::{ImportError, Release, VerifyError};

/// A release cannot be put back.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Its blobs are damaged too.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// Its blobs are whole, and cannot be unpacked.
    #[error("release {digest} cannot be unpacked")]
    Unpack {
        /// Which release.
        digest: String,
        /// Why.
        source: ImportError,
    },
    /// The folder cannot be changed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Releases {
    /// Unpacks a release anew, and puts it in the place of what was changed in one step. Its blobs must be whole;
    /// where they are not, only building or importing it again helps.
    pub fn restore(&self, digest: &str) -> Result<Release, RestoreError> {
        let documents = self.documents(digest).map_err(VerifyError::from)?;
        self.check_layers(digest, &documents)?;
        let partial = self.stage()?;
        let manifest = self
            .unpack(&partial, &self.blobs(), &documents.image, &documents.diff_ids)
            .map_err(|source| RestoreError::Unpack {
                digest: digest.to_owned(),
                source,
            })?;
        self.replace_tree(&partial, digest)?;
        Ok(Release {
            digest: digest.to_owned(),
            directory: self.unpacked(digest),
            manifest,
        })
    }
}
