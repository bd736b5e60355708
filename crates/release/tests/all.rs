//! Releases on a real file system.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it should be"
)]

use astraler_release::{Input, VerifyError, build, open, verify};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

fn write(path: &Path, contents: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::File::create(path).unwrap().write_all(contents).unwrap();
}

fn input(folder: &Path) -> Input {
    write(&folder.join("public/index.html"), b"<h1>hello</h1>");
    write(&folder.join("public/css/a.css"), b"h1 {}");
    write(&folder.join("migrations/0001_a.sql"), b"SELECT 1;");
    Input {
        application: "shop".into(),
        copies: vec![
            (folder.join("public"), "assets".into()),
            (folder.join("migrations"), "migrations".into()),
        ],
        workers: BTreeMap::new(),
    }
}

#[test]
fn the_same_input_gives_the_same_release() {
    let folder = tempfile::tempdir().unwrap();
    let input = input(folder.path());
    let first = build(&input, &folder.path().join("a")).unwrap();
    let second = build(&input, &folder.path().join("b")).unwrap();
    assert_eq!(first.digest, second.digest);
    assert_eq!(
        build(&input, &folder.path().join("a")).unwrap(),
        first,
        "building again changes nothing"
    );
    assert!(first.manifest.has_assets() && first.manifest.has_migrations());
    assert_eq!(open(&folder.path().join("a"), &first.digest).unwrap(), first);
    let left: Vec<_> = fs::read_dir(folder.path().join("a"))
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert_eq!(left.len(), 1, "nothing temporary stays: {left:?}");
}

#[test]
fn one_changed_byte_makes_another_release() {
    let folder = tempfile::tempdir().unwrap();
    let input = input(folder.path());
    let first = build(&input, &folder.path().join("releases")).unwrap();
    write(&folder.path().join("public/css/a.css"), b"h2 {}");
    let second = build(&input, &folder.path().join("releases")).unwrap();
    assert_ne!(first.digest, second.digest);
    verify(&first).unwrap();
    verify(&second).unwrap();
}

#[test]
fn a_changed_file_is_named_and_the_next_build_heals_it() {
    let folder = tempfile::tempdir().unwrap();
    let input = input(folder.path());
    let release = build(&input, &folder.path().join("releases")).unwrap();
    let file = release.directory.join("assets/index.html");
    write(&file, b"<h1>evil</h1>!");
    match verify(&release) {
        Err(VerifyError::Changed { path }) => assert_eq!(path, file),
        other => panic!("not found: {other:?}"),
    }
    build(&input, &folder.path().join("releases")).unwrap();
    verify(&release).unwrap();
}

#[test]
fn what_a_killed_build_left_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let input = input(folder.path());
    let left = folder.path().join("releases/.partial-1");
    write(&left.join("assets/half"), b"h");
    build(&input, &folder.path().join("releases")).unwrap();
    assert!(!left.exists());
}

#[test]
fn a_symbolic_link_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let input = input(folder.path());
    std::os::unix::fs::symlink("/etc/passwd", folder.path().join("public/passwd")).unwrap();
    let error = build(&input, &folder.path().join("releases")).unwrap_err();
    assert!(error.to_string().contains("symbolic link"), "{error}");
}
