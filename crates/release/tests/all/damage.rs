//! What was changed on disk is found, and named.

use crate::support::{files, input, releases, write};
use astraler_release::{Damage, ExportError, OpenError, Release, Releases, VerifyError};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

fn built(folder: &Path) -> (Releases, Release) {
    let releases = releases(folder);
    let release = releases.build(&input(folder)).unwrap();
    (releases, release)
}

/// Changes one byte in the middle, or makes an empty file not empty.
fn change(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    match bytes.get_mut(middle) {
        Some(byte) => *byte ^= 1,
        None => bytes.push(0),
    }
    write(path, &bytes);
}

#[test]
fn every_changed_file_and_blob_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (releases, release) = built(folder.path());
    let mut tried = 0;
    for (path, bytes) in files(releases.folder()) {
        if !path.starts_with("sha256-") && !path.starts_with("blobs/") {
            continue;
        }
        let path = releases.folder().join(path);
        change(&path);
        let error = releases.verify(&release.digest).unwrap_err();
        let said = error.to_string();
        assert!(
            said.contains(path.to_str().unwrap()),
            "{}: {said}",
            path.display()
        );
        assert!(said.contains("has been changed"), "{said}");
        fs::remove_file(&path).unwrap();
        let said = releases.verify(&release.digest).unwrap_err().to_string();
        assert!(
            said.contains(path.to_str().unwrap()) && said.contains("is missing"),
            "{said}"
        );
        write(&path, &bytes);
        releases.verify(&release.digest).unwrap();
        tried += 1;
    }
    assert!(tried >= 13, "{tried} files and blobs");
}

#[test]
fn an_unpacked_file_is_named_with_the_layer_that_holds_the_original() {
    let folder = tempfile::tempdir().unwrap();
    let (releases, release) = built(folder.path());
    let file = release.directory.join("assets/index.html");
    change(&file);
    match releases.verify(&release.digest) {
        Err(VerifyError::File {
            path,
            damage: Damage::Changed,
            blob,
            ..
        }) => {
            assert_eq!(path, file);
            let hex = blob.strip_prefix("sha256:").unwrap();
            assert!(releases.folder().join("blobs/sha256").join(hex).exists());
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_was_added_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let (releases, release) = built(folder.path());
    let added = |path: PathBuf| match releases.verify(&release.digest) {
        Err(VerifyError::Added { path: found, .. }) => assert_eq!(found, path),
        other => panic!("{}: {other:?}", path.display()),
    };
    let file = release.directory.join("assets/css/evil.js");
    write(&file, b"evil");
    added(file.clone());
    fs::remove_file(file).unwrap();
    let empty = release.directory.join("assets/empty-folder");
    fs::create_dir(&empty).unwrap();
    added(empty.clone());
    fs::remove_dir(empty).unwrap();
    let link = release.directory.join("workers/link");
    symlink("/etc/passwd", &link).unwrap();
    added(link.clone());
    fs::remove_file(link).unwrap();
    // The same bytes, but behind a link.
    let file = release.directory.join("assets/index.html");
    let elsewhere = folder.path().join("index.html");
    fs::rename(&file, &elsewhere).unwrap();
    symlink(&elsewhere, &file).unwrap();
    let error = releases.verify(&release.digest).unwrap_err();
    assert!(matches!(error, VerifyError::File { .. }), "{error}");
}

#[test]
fn a_changed_document_is_found_before_it_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let (releases, release) = built(folder.path());
    let hex = release.digest.strip_prefix("sha256:").unwrap();
    let manifest = releases.folder().join("blobs/sha256").join(hex);
    let whole = fs::read(&manifest).unwrap();
    let text = String::from_utf8(whole.clone()).unwrap();
    // Still a manifest, and of another image.
    let other = text.replace(
        r#""org.opencontainers.image.title":"shop""#,
        r#""org.opencontainers.image.title":"evil""#,
    );
    assert_ne!(other, text);
    write(&manifest, other.as_bytes());
    match releases.open(&release.digest) {
        Err(OpenError::Blob { path, .. }) => assert_eq!(path, manifest),
        other => panic!("{other:?}"),
    }
    write(&manifest, &whole);
    // The unpacked description is not what is believed.
    let json = release.directory.join("release.json");
    let text = fs::read_to_string(&json).unwrap();
    write(&json, text.replace("shop.example", "evil.example").as_bytes());
    let opened = releases.open(&release.digest).unwrap();
    assert_eq!(opened.manifest.configuration["config"]["domain"], "shop.example");
    assert!(releases.verify(&release.digest).is_err());
    assert!(matches!(
        releases.open(&format!("sha256:{}", "0".repeat(64))),
        Err(OpenError::Unknown { .. })
    ));
    assert!(matches!(
        releases.open("../../etc"),
        Err(OpenError::Unknown { .. })
    ));
}

#[test]
fn a_damaged_release_is_not_exported_and_the_next_build_heals_it() {
    let folder = tempfile::tempdir().unwrap();
    let (releases, release) = built(folder.path());
    let before = files(releases.folder());
    for (path, _) in before.iter().filter(|(path, _)| path.starts_with("blobs/")) {
        change(&releases.folder().join(path));
        assert!(
            releases.export(&release.digest, std::io::sink()).is_err(),
            "{path}"
        );
        // A killed process' leftovers are swept without touching what is still referred to.
        Releases::prepare(releases.folder()).unwrap();
        releases.build(&input(folder.path())).unwrap();
        assert_eq!(files(releases.folder()), before, "{path}");
    }
    let gzip = |bytes: &[u8]| bytes.starts_with(&[0x1f, 0x8b]);
    let (layer, _) = before.iter().find(|(_, bytes)| gzip(bytes)).unwrap();
    change(&releases.folder().join(layer));
    match releases.export(&release.digest, std::io::sink()) {
        Err(ExportError::Changed { path, .. }) => assert!(path.ends_with(layer)),
        other => panic!("{other:?}"),
    }
    releases.build(&input(folder.path())).unwrap();
    fs::remove_dir_all(&release.directory).unwrap();
    assert!(matches!(
        releases.open(&release.digest),
        Err(OpenError::Folder { .. })
    ));
    releases.build(&input(folder.path())).unwrap();
    releases.verify(&release.digest).unwrap();
}

#[test]
fn an_unpacked_folder_is_restored_from_its_blobs_and_only_from_whole_ones() {
    let folder = tempfile::tempdir().unwrap();
    let (releases, release) = built(folder.path());
    let before = files(releases.folder());
    change(&release.directory.join("assets/index.html"));
    write(&release.directory.join("assets/evil.js"), b"evil");
    assert_eq!(releases.restore(&release.digest).unwrap(), release);
    assert_eq!(files(releases.folder()), before);
    fs::remove_dir_all(&release.directory).unwrap();
    symlink("/nowhere", &release.directory).unwrap();
    assert_eq!(releases.restore(&release.digest).unwrap(), release);
    assert_eq!(files(releases.folder()), before);
    for path in before.keys().filter(|path| path.starts_with("blobs/")) {
        let blob = releases.folder().join(path);
        change(&blob);
        let error = releases.restore(&release.digest).unwrap_err().to_string();
        assert!(error.contains(blob.to_str().unwrap()), "{error}");
        write(&blob, &before[path]);
    }
    assert_eq!(files(releases.folder()), before);
}
