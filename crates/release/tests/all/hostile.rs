//! Import: what is whole comes in as it was, all else is refused and leaves nothing.

use crate::forge::{self, Image, file, header, sha256};
use crate::support::{export, files, input, releases, write};
use astraler_release::{ImportError, Releases};
use serde_json::{Value, json};
use std::path::Path;
use tar::EntryType;

/// A folder that needs no disk, where there is one.
pub(crate) fn in_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

struct Target {
    folder: tempfile::TempDir,
    releases: Releases,
}

impl Target {
    fn new() -> Self {
        let folder = in_memory();
        let releases = releases(folder.path());
        Self { folder, releases }
    }

    /// The archive is refused with these words, and leaves nothing.
    fn refuses(&self, what: &str, archive: &[u8], words: &str) {
        let before = files(self.folder.path());
        let error = match self.releases.import(archive) {
            Err(error) => error,
            Ok(release) => panic!("{what}: imported as {}", release.digest),
        };
        let said = chain(&error);
        assert!(said.contains(words), "{what}: {said}");
        assert_eq!(files(self.folder.path()), before, "{what}");
        let left = std::fs::read_dir(self.releases.folder()).unwrap().count();
        assert_eq!(left, 2, "{what} leaves a folder");
    }
}

fn chain(error: &ImportError) -> String {
    let mut said = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        said.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    said
}

#[test]
fn what_is_exported_comes_in_as_it_was() {
    let (from, to) = (in_memory(), in_memory());
    let (one, two) = (releases(from.path()), releases(to.path()));
    let built = one.build(&input(from.path())).unwrap();
    let archive = export(&one, &built.digest);
    let imported = two.import(archive.as_slice()).unwrap();
    assert_eq!(
        (&imported.digest, &imported.manifest),
        (&built.digest, &built.manifest)
    );
    assert_eq!(files(one.folder()), files(two.folder()));
    assert_eq!(two.verify(&built.digest).unwrap(), imported);
    assert_eq!(export(&two, &built.digest), archive);
    // Again, and over a damaged one.
    write(&imported.directory.join("assets/index.html"), b"evil");
    two.import(archive.as_slice()).unwrap();
    assert_eq!(files(one.folder()), files(two.folder()));
}

#[test]
fn what_the_forge_puts_together_without_a_change_comes_in() {
    let target = Target::new();
    let image = Image::whole();
    let release = target.releases.import(image.pack().as_slice()).unwrap();
    assert_eq!(release.manifest.files.len(), 6);
    target.releases.verify(&release.digest).unwrap();
    let mut described = image;
    described.describe();
    let other = target.releases.import(described.pack().as_slice()).unwrap();
    assert_eq!(other.manifest, release.manifest);
}

#[test]
fn strange_entries_of_the_archive_are_refused() {
    let target = Target::new();
    let hex = "0".repeat(64);
    let blob = format!("blobs/sha256/{hex}");
    for (what, kind, name, words) in [
        (
            "a symbolic link",
            EntryType::Symlink,
            "blobs/sha256/x",
            "it is a link",
        ),
        ("a hard link", EntryType::Link, &blob, "it is a link"),
        ("a device", EntryType::Char, &blob, "it is a device"),
        ("a pipe", EntryType::Fifo, "x", "it is a device"),
        ("a sparse file", EntryType::GNUSparse, &blob, "neither a file"),
        ("an extended header", EntryType::XHeader, "x", "neither a file"),
        ("a global header", EntryType::XGlobalHeader, "x", "neither a file"),
        ("a long link", EntryType::GNULongLink, "x", "neither a file"),
        ("a name outside", EntryType::Regular, "../x", "no such entry"),
        (
            "an absolute name",
            EntryType::Regular,
            "/etc/passwd",
            "no such entry",
        ),
        (
            "a blob outside",
            EntryType::Regular,
            "blobs/sha256/../../x",
            "no such entry",
        ),
        (
            "a name of ours",
            EntryType::Regular,
            "sha256-x/release.json",
            "no such entry",
        ),
        (
            "another algorithm",
            EntryType::Regular,
            "blobs/sha512/00",
            "no such entry",
        ),
        (
            "an upper-case digest",
            EntryType::Regular,
            &blob.replace('0', "A"),
            "no such entry",
        ),
        (
            "an unknown folder",
            EntryType::Directory,
            "blobs/sha512/",
            "no such entry",
        ),
        (
            "a file as folder",
            EntryType::Directory,
            "index.json",
            "no such entry",
        ),
        ("a second index", EntryType::Regular, "index.json", "twice"),
        (
            "a control character",
            EntryType::Regular,
            "a\u{1b}[2J",
            "\\u{1b}[2J",
        ),
    ] {
        let mut image = Image::whole();
        image.extra.push((header(kind, name.as_bytes(), 0), vec![]));
        target.refuses(what, &image.pack(), words);
    }
    let mut image = Image::whole();
    image
        .extra
        .push((header(EntryType::Regular, b"a\xff", 0), vec![]));
    target.refuses("a name that is not UTF-8", &image.pack(), "UTF-8");
    let mut image = Image::whole();
    image
        .extra
        .push((header(EntryType::Directory, b"blobs/", 512), vec![0; 512]));
    target.refuses("a folder with bytes", &image.pack(), "no bytes");
    for (size, words) in [(1 << 30, "too long"), (100, "nothing follows")] {
        let mut image = Image::whole();
        let long = header(EntryType::GNULongName, b"././@LongLink", size);
        image.extra.push((long, vec![b'a'; 100]));
        target.refuses("a long name", &image.pack(), words);
    }
    let mut image = Image::whole();
    let long = header(EntryType::GNULongName, b"././@LongLink", 3);
    image
        .extra
        .extend([(long.clone(), b"ab\0".to_vec()), (long, b"ab\0".to_vec())]);
    target.refuses("two long names", &image.pack(), "follows another");
    let mut image = Image::whole();
    image.extra = vec![(header(EntryType::Directory, b"blobs/", 0), vec![]); 1000];
    target.refuses("a thousand entries", &image.pack(), "larger than");
}

#[test]
fn sizes_and_digests_are_held() {
    let target = Target::new();
    let image = Image::whole();
    let hex = sha256(b"surplus");
    let blob = |content: &[u8]| {
        let mut image = image.clone();
        let name = format!("blobs/sha256/{hex}");
        let header = header(EntryType::Regular, name.as_bytes(), content.len());
        image.extra.push((header, content.to_vec()));
        image
    };
    target.refuses("a blob with another name", &blob(b"other").pack(), "this digest");
    target.refuses("a blob too many", &blob(b"surplus").pack(), "no document names");
    let mut twice = blob(b"surplus");
    twice.extra.push(twice.extra[0].clone());
    target.refuses("a blob twice", &twice.pack(), "twice");
    let mut many = image.clone();
    for number in 0..20u8 {
        let content = [number];
        let name = format!("blobs/sha256/{}", sha256(&content));
        let header = header(EntryType::Regular, name.as_bytes(), 1);
        many.extra.push((header, content.to_vec()));
    }
    target.refuses("many blobs", &many.pack(), "fewer blobs");
    let mut large = image.clone();
    let name = format!("blobs/sha256/{hex}");
    large
        .extra
        .push((header(EntryType::Regular, name.as_bytes(), 7 << 30), vec![]));
    target.refuses(
        "a blob that is longer than the archive",
        &large.pack(),
        "cannot be read",
    );
    let mut large = image.clone();
    large
        .extra
        .push((header(EntryType::Regular, b"oci-layout2", 0), vec![]));
    target.refuses("another document", &large.pack(), "no such entry");

    type Change = fn(&mut Value, &mut std::collections::BTreeMap<String, Vec<u8>>);
    let manifests: [(&str, Change, &str); 12] = [
        (
            "a layer's size",
            |m, _| m["layers"][0]["size"] = 1.into(),
            "its size",
        ),
        (
            "the configuration's size",
            |m, _| m["config"]["size"] = 1.into(),
            "its size",
        ),
        (
            "a missing layer",
            |m, _| m["layers"][0]["digest"] = format!("sha256:{}", "0".repeat(64)).into(),
            "does not hold this blob",
        ),
        (
            "a digest that is a path",
            |m, _| m["layers"][0]["digest"] = "sha256:../../../../etc/passwd".into(),
            "not the manifest",
        ),
        (
            "another algorithm",
            |m, _| m["layers"][0]["digest"] = format!("sha512:{}", "0".repeat(128)).into(),
            "not a SHA-256",
        ),
        (
            "a layer that is not compressed",
            |m, _| m["layers"][0]["mediaType"] = "application/vnd.oci.image.layer.v1.tar".into(),
            "gzip",
        ),
        (
            "Docker's layer",
            |m, _| m["layers"][0]["mediaType"] = "application/vnd.docker.image.rootfs.diff.tar.gzip".into(),
            "gzip",
        ),
        (
            "an artifact",
            |m, _| m["config"]["mediaType"] = "application/vnd.oci.empty.v1+json".into(),
            "configuration",
        ),
        ("no layers", |m, _| m["layers"] = json!([]), "no layer"),
        (
            "layers without end",
            |m, _| m["layers"] = vec![m["layers"][0].clone(); 1000].into(),
            "too many",
        ),
        (
            "one layer twice",
            |m, _| {
                let layer = m["layers"][0].clone();
                m["layers"].as_array_mut().unwrap().insert(0, layer);
            },
            "one blob twice",
        ),
        (
            "another schema",
            |m, _| m["schemaVersion"] = 1.into(),
            "schema version",
        ),
    ];
    for (what, change, words) in manifests {
        target.refuses(what, &image.pack_with(change), words);
    }
    type Tamper = fn(&mut Image);
    let tampered: [(&str, Tamper, &str); 9] = [
        (
            "two images",
            |i| {
                let entry = i.index["manifests"][0].clone();
                i.index["manifests"].as_array_mut().unwrap().push(entry);
            },
            "exactly one",
        ),
        ("no image", |i| i.index["manifests"] = json!([]), "exactly one"),
        (
            "an index of indexes",
            |i| {
                i.index["manifests"][0]["mediaType"] = "application/vnd.oci.image.index.v1+json".into();
            },
            "not an image",
        ),
        ("no index", |i| i.index = json!({ "manifests": [] }), "index.json"),
        (
            "another layout",
            |i| i.layout = json!({ "imageLayoutVersion": "2.0.0" }),
            "another version",
        ),
        ("no layout", |i| i.layout = json!(1), "oci-layout"),
        (
            "a configuration that is none",
            |i| i.config["os"] = json!({}),
            "not the configuration",
        ),
        (
            "another version",
            |i| {
                i.release["format_version"] = 3.into();
                i.describe();
            },
            "version 3",
        ),
        (
            "no description",
            |i| {
                i.release = json!({});
                i.describe();
            },
            "not the description",
        ),
    ];
    for (what, change, words) in tampered {
        let mut image = image.clone();
        change(&mut image);
        target.refuses(what, &image.pack(), words);
    }
    let other = image.pack_with(|manifest, blobs| {
        let config = manifest["config"]["digest"]
            .as_str()
            .unwrap()
            .replace("sha256:", "");
        let mut value: Value = serde_json::from_slice(&blobs[&config]).unwrap();
        value["rootfs"]["diff_ids"][0] = format!("sha256:{}", "0".repeat(64)).into();
        let bytes = serde_json::to_vec(&value).unwrap();
        blobs.remove(&config);
        manifest["config"]["digest"] = format!("sha256:{}", sha256(&bytes)).into();
        manifest["config"]["size"] = bytes.len().into();
        blobs.insert(sha256(&bytes), bytes);
    });
    target.refuses(
        "another hash of a layer's tar",
        &other,
        "not what the image's configuration says",
    );
}

/// An image with one more layer, which holds what a test puts there.
fn with_layer(fill: impl FnOnce(&mut Vec<u8>)) -> Image {
    let mut image = Image::whole();
    let mut tar = Vec::new();
    fill(&mut tar);
    forge::end(&mut tar);
    image.add_layer(tar);
    image
}

#[test]
fn strange_entries_of_a_layer_are_refused() {
    let target = Target::new();
    for (what, kind, name, words) in [
        (
            "a link",
            EntryType::Symlink,
            "release/assets/link",
            "it is a link",
        ),
        (
            "a hard link",
            EntryType::Link,
            "release/assets/link",
            "it is a link",
        ),
        (
            "a device",
            EntryType::Block,
            "release/assets/null",
            "it is a device",
        ),
        (
            "a sparse file",
            EntryType::GNUSparse,
            "release/assets/a",
            "neither a file",
        ),
        ("an extended header", EntryType::XHeader, "x", "neither a file"),
        (
            "a path outside",
            EntryType::Regular,
            "release/../x",
            "does not know it",
        ),
        (
            "a path that leaves it",
            EntryType::Regular,
            "../x",
            "not in the folder",
        ),
        (
            "an absolute path",
            EntryType::Regular,
            "/etc/passwd",
            "not in the folder",
        ),
        (
            "another folder",
            EntryType::Regular,
            "etc/passwd",
            "not in the folder",
        ),
        (
            "a folder of nothing",
            EntryType::Directory,
            "release/assets/x",
            "no file of the release",
        ),
        (
            "a folder outside",
            EntryType::Directory,
            "release/../x",
            "no file of the release",
        ),
        (
            "a file twice",
            EntryType::Regular,
            "release/assets/empty",
            "twice",
        ),
        (
            "a whiteout",
            EntryType::Regular,
            "release/assets/.wh.empty",
            "does not know it",
        ),
        (
            "another description",
            EntryType::Regular,
            "release/release.json",
            "does not know it",
        ),
    ] {
        let image = with_layer(|tar| forge::append(tar, &header(kind, name.as_bytes(), 0), b""));
        target.refuses(what, &image.pack(), words);
    }
    let mut image = Image::whole();
    let mut tar = image.layers.pop().unwrap();
    tar.truncate(tar.len() - 1024);
    file(&mut tar, "release/other", b"");
    forge::end(&mut tar);
    image.layers.push(tar);
    target.refuses("a file beside the description", &image.pack(), "nothing else");
    let mut image = Image::whole();
    image.layers.swap(0, 1);
    let last = image.layers.len() - 1;
    image.layers.swap(0, last);
    target.refuses("the description elsewhere", &image.pack(), "the last layer");
}

#[test]
fn a_layer_is_what_the_description_says() {
    let target = Target::new();
    let known = |content: &[u8], really: &[u8]| {
        let mut image = with_layer(|tar| file(tar, "release/assets/known", really));
        image.know("assets/known", content);
        image.pack()
    };
    target.refuses("another size", &known(b"one", b"other"), "another size");
    target.refuses("another content", &known(b"one", b"two"), "another hash");
    let mut image = Image::whole();
    image.know("assets/known", b"one");
    target.refuses("a file that is nowhere", &image.pack(), "no layer holds it");
    for bad in [
        "../x",
        "/etc/passwd",
        "assets/../../x",
        "release.json",
        "assets/empty/x",
        "assets/a\u{7}",
    ] {
        let mut image = Image::whole();
        image.know(bad, b"one");
        target.refuses(bad, &image.pack(), "release.json is not in order");
    }
    let mut image = Image::whole();
    image.release["workers"]["api"]["modules"][0]["path"] = "/etc/passwd".into();
    image.describe();
    target.refuses("a module of the machine's", &image.pack(), "not in the release");
    let mut image = Image::whole();
    image.release["workers"]["../x"] = image.release["workers"]["api"].clone();
    image.describe();
    target.refuses("a worker's name", &image.pack(), "name of a worker");
}

#[test]
fn a_bomb_ends_early() {
    let target = Target::new();
    // A gigabyte of zeros in a megabyte, behind a header that announces it.
    let mut zeros = Vec::new();
    forge::append(
        &mut zeros,
        &header(EntryType::Regular, b"release/assets/known", 1 << 30),
        b"",
    );
    zeros.resize(1 << 26, 0);
    let mut image = Image::whole();
    image.add_layer(zeros.clone());
    image.know("assets/known", b"one");
    target.refuses("more than announced", &image.pack(), "another size");
    let mut image = Image::whole();
    image.release["files"]["assets/known"] = json!({ "sha256": "0".repeat(64), "size": 7u64 << 30 });
    image.describe();
    target.refuses("more than allowed", &image.pack(), "it holds more than");
    // Behind the end of the tar.
    let mut image = with_layer(|tar| file(tar, "release/assets/known", b"one"));
    image.know("assets/known", b"one");
    let layer = image.layers.len() - 2;
    image.layers[layer].resize(1 << 26, 0);
    target.refuses("an endless end", &image.pack(), "longer than it may be");
    let mut image = Image::whole();
    image.layers.last_mut().unwrap().resize(1 << 26, 0);
    target.releases.import(image.pack().as_slice()).unwrap_err();
    // Every entry is small, and there is no end of them.
    let image = with_layer(|tar| {
        for _ in 0..20_000 {
            forge::append(tar, &header(EntryType::Directory, b"release/assets/", 0), b"");
        }
    });
    target.refuses("many folders", &image.pack(), "larger than");
}

#[test]
fn nothing_hides_behind_a_layer() {
    let target = Target::new();
    for behind in [b"x".to_vec(), forge::gzip(b"another member")] {
        let mut image = Image::whole();
        image.behind_layers = behind;
        target.refuses("bytes behind a layer", &image.pack(), "follows its end");
    }
}

#[test]
fn an_archive_that_breaks_off_anywhere_is_refused() {
    let target = Target::new();
    let archive = Image::whole().pack();
    // Without the end mark, which nobody needs.
    let needed = archive.len() - 1024;
    let ends = (0..needed).step_by(509).chain([needed - 1, needed - 512]);
    for end in ends {
        target.refuses(&format!("the first {end} bytes"), &archive[..end], "refused");
    }
}

#[test]
fn a_changed_bit_is_refused_or_means_nothing() {
    let folder = in_memory();
    let releases = releases(folder.path());
    let archive = Image::whole().pack();
    let whole = releases.import(archive.as_slice()).unwrap();
    let (mut refused, mut came) = (0, 0);
    for index in (0..archive.len()).step_by(31) {
        let mut changed = archive.clone();
        changed[index] ^= 1 << (index % 8);
        match releases.import(changed.as_slice()) {
            Err(_) => refused += 1,
            // Padding, a time, the index's annotations: nothing that the digest covers.
            Ok(release) => {
                assert_eq!(release.digest, whole.digest, "byte {index}");
                came += 1;
            }
        }
    }
    assert!(refused > came, "{refused} refused, {came} came in");
    releases.verify(&whole.digest).unwrap();
    assert_eq!(releases.list().unwrap().len(), 1);
    assert_eq!(left_over(releases.folder()), 0);
}

fn left_over(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    let partial = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with('.'));
    partial.count()
}
