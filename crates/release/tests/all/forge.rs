//! Archives with every digest right and one thing wrong.

use crate::support::{export, input, releases};
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use tar::{EntryType, Header};

/// An image, taken apart. What a test changes here is put together again with the right digests and sizes.
#[derive(Clone)]
pub(crate) struct Image {
    /// The tars of the layers, the description's last.
    pub(crate) layers: Vec<Vec<u8>>,
    /// The description.
    pub(crate) release: Value,
    pub(crate) config: Value,
    pub(crate) manifest: Value,
    pub(crate) index: Value,
    pub(crate) layout: Value,
    /// Entries of the archive besides.
    pub(crate) extra: Vec<(Header, Vec<u8>)>,
    /// Bytes behind each compressed layer.
    pub(crate) behind_layers: Vec<u8>,
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

pub(crate) fn header(kind: EntryType, name: &[u8], size: usize) -> Header {
    let mut header = Header::new_gnu();
    // Unchecked: the library's own way to set a name refuses some of those that are wanted here.
    header.as_mut_bytes()[..name.len().min(100)].copy_from_slice(&name[..name.len().min(100)]);
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(size as u64);
    header.set_cksum();
    header
}

pub(crate) fn append(tar: &mut Vec<u8>, header: &Header, content: &[u8]) {
    tar.extend_from_slice(header.as_bytes());
    tar.extend_from_slice(content);
    tar.resize(tar.len().next_multiple_of(512), 0);
}

pub(crate) fn file(tar: &mut Vec<u8>, name: &str, content: &[u8]) {
    append(
        tar,
        &header(EntryType::Regular, name.as_bytes(), content.len()),
        content,
    );
}

pub(crate) fn end(tar: &mut Vec<u8>) {
    tar.resize(tar.len() + 1024, 0);
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

fn entries(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (entry.path().unwrap().to_str().unwrap().to_owned(), bytes)
    });
    entries.collect()
}

impl Image {
    /// Two files, one long-named, one worker, one migration.
    pub(crate) fn whole() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let releases = releases(folder.path());
        let release = releases.build(&input(folder.path())).unwrap();
        let entries = entries(&export(&releases, &release.digest));
        let blob =
            |digest: &Value| &entries[&format!("blobs/{}", digest.as_str().unwrap().replace(':', "/"))];
        let index: Value = serde_json::from_slice(&entries["index.json"]).unwrap();
        let manifest: Value = serde_json::from_slice(blob(&index["manifests"][0]["digest"])).unwrap();
        let config = serde_json::from_slice(blob(&manifest["config"]["digest"])).unwrap();
        let layers = manifest["layers"].as_array().unwrap().iter().map(|layer| {
            let mut tar = Vec::new();
            flate2::read::GzDecoder::new(blob(&layer["digest"]).as_slice())
                .read_to_end(&mut tar)
                .unwrap();
            tar
        });
        Self {
            layers: layers.collect(),
            release: serde_json::to_value(&release.manifest).unwrap(),
            config,
            manifest,
            index,
            layout: serde_json::from_slice(&entries["oci-layout"]).unwrap(),
            extra: vec![],
            behind_layers: vec![],
        }
    }

    /// Writes the description into the last layer again.
    pub(crate) fn describe(&mut self) {
        let json = serde_json::to_vec(&self.release).unwrap();
        let mut tar = Vec::new();
        file(&mut tar, "release/release.json", &json);
        end(&mut tar);
        *self.layers.last_mut().unwrap() = tar;
    }

    /// Another layer before the description.
    pub(crate) fn add_layer(&mut self, tar: Vec<u8>) {
        let last = self.layers.len() - 1;
        self.layers.insert(last, tar);
    }

    /// Makes a file known to the description.
    pub(crate) fn know(&mut self, path: &str, content: &[u8]) {
        self.release["files"][path] = json!({ "sha256": sha256(content), "size": content.len() });
        self.describe();
    }

    /// The archive, with every digest and size as it must be.
    pub(crate) fn pack(&self) -> Vec<u8> {
        self.pack_with(|_, _| {})
    }

    /// The archive; `change` may touch the manifest and the blobs after their digests were set.
    pub(crate) fn pack_with(
        &self,
        change: impl FnOnce(&mut Value, &mut BTreeMap<String, Vec<u8>>),
    ) -> Vec<u8> {
        let mut blobs = BTreeMap::new();
        let mut add = |bytes: Vec<u8>, media_type: &str| {
            let hex = sha256(&bytes);
            let descriptor = json!({
                "mediaType": media_type, "digest": format!("sha256:{hex}"), "size": bytes.len(),
            });
            blobs.insert(hex, bytes);
            descriptor
        };
        let mut config = self.config.clone();
        let mut manifest = self.manifest.clone();
        let diff_ids = self.layers.iter().map(|tar| format!("sha256:{}", sha256(tar)));
        config["rootfs"]["diff_ids"] = diff_ids.collect();
        let layers = self.layers.iter().map(|tar| {
            let blob = [gzip(tar), self.behind_layers.clone()].concat();
            add(blob, "application/vnd.oci.image.layer.v1.tar+gzip")
        });
        manifest["layers"] = layers.collect();
        manifest["config"] = add(
            serde_json::to_vec(&config).unwrap(),
            "application/vnd.oci.image.config.v1+json",
        );
        change(&mut manifest, &mut blobs);
        let bytes = serde_json::to_vec(&manifest).unwrap();
        let mut index = self.index.clone();
        for entry in index["manifests"].as_array_mut().unwrap() {
            entry["digest"] = format!("sha256:{}", sha256(&bytes)).into();
            entry["size"] = bytes.len().into();
        }
        blobs.insert(sha256(&bytes), bytes);
        let mut tar = Vec::new();
        file(&mut tar, "oci-layout", &serde_json::to_vec(&self.layout).unwrap());
        file(&mut tar, "index.json", &serde_json::to_vec(&index).unwrap());
        for (hex, bytes) in &blobs {
            file(&mut tar, &format!("blobs/sha256/{hex}"), bytes);
        }
        for (header, content) in &self.extra {
            append(&mut tar, header, content);
        }
        end(&mut tar);
        tar
    }
}
