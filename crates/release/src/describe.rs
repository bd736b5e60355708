//! What there is to see of a release.

use crate::store::{Releases, Stored};
use crate::{OpenError, ReleaseManifest};

/// A release in every detail.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Description {
    /// As a list shows it.
    #[serde(flatten)]
    pub stored: Stored,
    /// The image's layers in order.
    pub layers: Vec<LayerDescription>,
    /// What it holds.
    pub release: ReleaseManifest,
}

/// One layer of an image.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LayerDescription {
    /// Digest of the blob.
    pub digest: String,
    /// Its bytes.
    pub size_bytes: u64,
    /// What is in it, in a word.
    pub holds: String,
}

impl Releases {
    /// Describes a release; its documents are checked against the digest, as [`Releases::open`] does.
    pub fn describe(&self, digest: &str) -> Result<Description, OpenError> {
        let documents = self.documents(digest)?;
        let (release, _) = self.release_manifest(digest, &documents)?;
        let stored = self.list()?.into_iter().find(|stored| stored.digest == digest);
        let mut history = documents.history.into_iter();
        let layers = documents.image.layers().iter().map(|layer| LayerDescription {
            digest: layer.digest().to_string(),
            size_bytes: layer.size(),
            holds: history.next().unwrap_or_default(),
        });
        Ok(Description {
            layers: layers.collect(),
            stored: stored.ok_or_else(|| OpenError::Unknown {
                digest: digest.to_owned(),
            })?,
            release,
        })
    }
}
