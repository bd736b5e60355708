//! The documents of an image: configuration, manifest, index, layout.

use crate::{directory_name, limits};
use oci_spec::OciSpecError;
use oci_spec::image::{
    ANNOTATION_REF_NAME, ANNOTATION_TITLE, Arch, ConfigBuilder, Descriptor, HistoryBuilder,
    ImageConfiguration, ImageConfigurationBuilder, ImageIndex, ImageManifest, ImageManifestBuilder,
    MediaType, Os, RootFsBuilder, Sha256Digest,
};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::str::FromStr;

/// Where the files of a release are in the image.
pub(crate) const ROOT: &str = "release";
/// The description of the release, the only file of the last layer.
pub(crate) const RELEASE_JSON: &str = "release.json";
/// Keys of a release, on its entry in the index: 64 hex digits each, with spaces between.
pub(crate) const ANNOTATION_KEYS: &str = "dev.astraler.release.keys";
/// The content of `oci-layout`.
pub(crate) const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// A layer that was written.
#[derive(Debug)]
pub(crate) struct Layer {
    /// What is in it.
    pub(crate) name: &'static str,
    /// SHA-256 of the blob, in hex.
    pub(crate) blob: String,
    /// Bytes of the blob.
    pub(crate) size: u64,
    /// SHA-256 of the tar inside, in hex.
    pub(crate) diff_id: String,
}

/// Compact JSON with every object sorted by key: equal values have equal bytes.
pub(crate) fn canonical(value: &impl Serialize) -> Vec<u8> {
    // Neither fails for the types of this crate: their keys are texts.
    let mut value = serde_json::to_value(value).unwrap_or_default();
    value.sort_all_objects();
    serde_json::to_vec(&value).unwrap_or_default()
}

/// SHA-256 in hex.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The image's own configuration. Nothing in it tells when, where or on what machine it was written: a release holds
/// no machine code, and the platform is a constant because readers ask for one.
pub(crate) fn configuration(layers: &[Layer]) -> Result<ImageConfiguration, OciSpecError> {
    let history = layers
        .iter()
        .map(|layer| {
            HistoryBuilder::default()
                .created(EPOCH)
                .created_by(format!("{CREATED_BY}{}", layer.name))
                .build()
        })
        .collect::<Result<Vec<_>, _>>()?;
    let diff_ids: Vec<String> = layers
        .iter()
        .map(|layer| format!("sha256:{}", layer.diff_id))
        .collect();
    ImageConfigurationBuilder::default()
        .created(EPOCH)
        .architecture(Arch::Amd64)
        .os(Os::Linux)
        .config(ConfigBuilder::default().working_dir(format!("/{ROOT}")).build()?)
        .rootfs(
            RootFsBuilder::default()
                .typ("layers")
                .diff_ids(diff_ids)
                .build()?,
        )
        .history(history)
        .build()
}

/// What each layer holds, for people, in front of its name.
const CREATED_BY: &str = "astraler release: ";

/// A release has no time of its own.
const EPOCH: &str = "1970-01-01T00:00:00Z";

/// The manifest, whose digest names the release.
pub(crate) fn manifest(
    application: &str,
    configuration: &[u8],
    layers: &[Layer],
) -> Result<ImageManifest, OciSpecError> {
    let config = descriptor(
        MediaType::ImageConfig,
        &sha256(configuration),
        configuration.len() as u64,
    )?;
    let layers = layers
        .iter()
        .map(|layer| descriptor(MediaType::ImageLayerGzip, &layer.blob, layer.size))
        .collect::<Result<Vec<_>, _>>()?;
    ImageManifestBuilder::default()
        .schema_version(2u32)
        .media_type(MediaType::ImageManifest)
        .config(config)
        .layers(layers)
        .annotations([(ANNOTATION_TITLE.to_owned(), application.to_owned())])
        .build()
}

/// An entry of the index.
pub(crate) fn index_entry(application: &str, hex: &str, size: u64) -> Result<Descriptor, OciSpecError> {
    let mut entry = descriptor(MediaType::ImageManifest, hex, size)?;
    let name = directory_name(&format!("sha256:{hex}"));
    entry.set_annotations(Some(
        [
            (ANNOTATION_REF_NAME.to_owned(), name),
            (ANNOTATION_TITLE.to_owned(), application.to_owned()),
        ]
        .into(),
    ));
    Ok(entry)
}

/// An index of these entries.
pub(crate) fn index(entries: Vec<Descriptor>) -> ImageIndex {
    let mut index = ImageIndex::default();
    index.set_media_type(Some(MediaType::ImageIndex));
    index.set_manifests(entries);
    index
}

/// The hex digits of a descriptor's digest, which is a SHA-256.
pub(crate) fn hex_of(descriptor: &Descriptor) -> Result<&str, &'static str> {
    descriptor
        .as_digest_sha256()
        .filter(|hex| crate::is_hex64(hex))
        .ok_or("its digest is not a SHA-256")
}

/// Reads a manifest and checks its shape: an image of gzip layers, each described by digest and size.
pub(crate) fn parse_manifest(bytes: &[u8]) -> Result<ImageManifest, &'static str> {
    let manifest: ImageManifest =
        serde_json::from_slice(bytes).map_err(|_| "it is not the manifest of an image")?;
    if manifest.schema_version() != 2 {
        return Err("its schema version is not 2");
    }
    if !matches!(manifest.media_type(), None | Some(MediaType::ImageManifest)) {
        return Err("its media type is not that of an image's manifest");
    }
    if *manifest.config().media_type() != MediaType::ImageConfig {
        return Err("its configuration is not that of an image");
    }
    if manifest.layers().is_empty() || manifest.layers().len() > limits::LAYERS {
        return Err("it has no layer, or too many");
    }
    hex_of(manifest.config())?;
    if manifest.config().size() > limits::DOCUMENT_BYTES {
        return Err("its configuration is too large");
    }
    for layer in manifest.layers() {
        if *layer.media_type() != MediaType::ImageLayerGzip {
            return Err("a layer is not a gzip-compressed tar");
        }
        hex_of(layer)?;
        if layer.size() > limits::ARCHIVE_BYTES {
            return Err("a layer is too large");
        }
    }
    Ok(manifest)
}

/// Reads the configuration of an image: the hash of the tar in each layer, in hex.
pub(crate) fn parse_diff_ids(bytes: &[u8], layers: usize) -> Result<Vec<String>, &'static str> {
    let configuration: ImageConfiguration =
        serde_json::from_slice(bytes).map_err(|_| "it is not the configuration of an image")?;
    let diff_ids = configuration.rootfs().diff_ids();
    if diff_ids.len() != layers {
        return Err("it has another number of layers than its manifest");
    }
    diff_ids
        .iter()
        .map(|diff_id| {
            let hex = diff_id.strip_prefix("sha256:");
            let hex = hex.filter(|hex| crate::is_hex64(hex));
            hex.map(str::to_owned).ok_or("a layer's hash is not a SHA-256")
        })
        .collect()
}

/// What the configuration of an image says of each layer, in order; for people only.
pub(crate) fn parse_history(bytes: &[u8]) -> Vec<String> {
    let configuration: Option<ImageConfiguration> = serde_json::from_slice(bytes).ok();
    let history = configuration.and_then(|configuration| configuration.history().clone());
    let said = history.into_iter().flatten().map(|entry| {
        let text = entry.created_by().clone().unwrap_or_default();
        let name = text.strip_prefix(CREATED_BY).unwrap_or(&text);
        crate::manifest::shown(name)
    });
    said.collect()
}

fn descriptor(media_type: MediaType, hex: &str, size: u64) -> Result<Descriptor, OciSpecError> {
    Ok(Descriptor::new(media_type, size, Sha256Digest::from_str(hex)?))
}
