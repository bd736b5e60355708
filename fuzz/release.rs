//! What the two targets of releases share: an image with right digests around any content, and a place to import into.
#![allow(dead_code, reason = "each target uses its part")]

use astraler_release::Releases;
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use tar::{EntryType, Header};

/// The description of a release with one page and one worker.
pub const JSON: &[u8] = br#"{"application":"a","configuration":{},"files":{"assets/a":{"sha256":"ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb","size":1},"workers/w/i.js":{"sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0}},"format_version":2,"workers":{"w":{"compatibility_date":"","compatibility_flags":[],"modules":[{"path":"workers/w/i.js"}]}}}"#;

/// The layer that goes with it.
pub fn layer() -> Vec<u8> {
    let mut tar = Vec::new();
    append(&mut tar, EntryType::Directory, "release/assets/", b"");
    append(&mut tar, EntryType::Regular, "release/assets/a", b"a");
    append(&mut tar, EntryType::Regular, "release/workers/w/i.js", b"");
    tar.resize(tar.len() + 1024, 0);
    tar
}

/// Description and layer as one input.
pub fn joined(json: &[u8], layer: &[u8]) -> Vec<u8> {
    let length = u16::try_from(json.len()).unwrap_or_default().to_be_bytes();
    [&length, json, layer].concat()
}

/// The reverse of [`joined`].
pub fn split(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = input.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

/// An archive of one image with a layer of files and the description.
pub fn archive(json: &[u8], layer: &[u8]) -> Vec<u8> {
    let mut last = Vec::new();
    append(&mut last, EntryType::Regular, "release/release.json", json);
    last.resize(last.len() + 1024, 0);
    let mut blobs = BTreeMap::new();
    let mut add = |bytes: Vec<u8>, kind: &str| {
        let digest = digest(&bytes);
        let media_type = format!("application/vnd.oci.image.{kind}");
        let descriptor = json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() });
        blobs.insert(digest.replace(':', "/"), bytes);
        descriptor
    };
    let layers: Vec<Value> = [layer, &last]
        .map(|tar| add(gzip(tar), "layer.v1.tar+gzip"))
        .into();
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": [digest(layer), digest(&last)] },
    });
    let config = add(config.to_string().into_bytes(), "config.v1+json");
    let manifest = json!({ "schemaVersion": 2, "config": config, "layers": layers });
    let manifest = add(manifest.to_string().into_bytes(), "manifest.v1+json");
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
    let mut tar = Vec::new();
    append(&mut tar, EntryType::Regular, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    append(&mut tar, EntryType::Regular, "index.json", index.to_string().as_bytes());
    for (name, bytes) in &blobs {
        append(&mut tar, EntryType::Regular, &format!("blobs/{name}"), bytes);
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

/// A folder of releases in memory.
pub struct Place {
    folder: tempfile::TempDir,
    releases: Releases,
}

impl Place {
    pub fn new() -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
        let releases = Releases::prepare(folder.path().join("releases")).expect("a folder of releases");
        Self { folder, releases }
    }

    /// What comes in is whole, can be exported and comes in again; what does not leaves nothing, here or beside.
    pub fn import(&self, archive: &[u8]) {
        if let Ok(release) = self.releases.import(archive) {
            assert_eq!(self.releases.verify(&release.digest).expect("whole"), release);
            let mut again = Vec::new();
            self.releases.export(&release.digest, &mut again).expect("exported");
            assert_eq!(self.releases.import(again.as_slice()).expect("imported again"), release);
            self.releases.remove(&release.digest).expect("removed");
        }
        let count = |path: &Path| fs::read_dir(path).expect("the folder").count();
        let root = self.releases.folder();
        assert_eq!(count(self.folder.path()), 1, "something is outside of the folder of releases");
        let index = usize::from(root.join("index.json").exists());
        assert_eq!(count(root), 2 + index, "something was left");
        assert_eq!(count(&root.join("blobs/sha256")), 0, "a blob was left");
    }
}

/// Writes a good input for the fuzzer to begin with.
pub fn seed(target: &str, bytes: &[u8]) {
    let folder = Path::new("fuzz/corpus").join(target);
    if fs::create_dir_all(&folder).is_ok() {
        fs::write(folder.join("whole"), bytes).ok();
    }
}

fn append(tar: &mut Vec<u8>, kind: EntryType, name: &str, content: &[u8]) {
    let mut header = Header::new_gnu();
    header.set_path(name).expect("a short name");
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(content.len() as u64);
    header.set_cksum();
    tar.extend_from_slice(header.as_bytes());
    tar.extend_from_slice(content);
    tar.resize(tar.len().next_multiple_of(512), 0);
}

fn digest(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(bytes).expect("in memory");
    gzip.finish().expect("in memory")
}
