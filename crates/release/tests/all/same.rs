//! The same input gives the same bytes, wherever and whenever it is built.

use crate::support::{export, files, input, input_of, names, releases, write};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// The digest of the support's input. It changes only when the format is changed on purpose, or when the compressor's
/// output changes with its version: then every release gets a new digest once, and the change log says so.
const GOLDEN: &str = "sha256:7a742a1df39e2b4d36f46a3335b5bbff74839a19b98eb4c11b03ce363396a398";

#[test]
fn the_digest_of_one_input_is_this_one() {
    let folder = tempfile::tempdir().unwrap();
    let release = releases(folder.path()).build(&input(folder.path())).unwrap();
    assert_eq!(release.digest, GOLDEN);
}

/// Copies with other times, modes and order of creation.
fn copy_differently(from: &Path, to: &Path) {
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    for (path, bytes) in files(from).into_iter().rev() {
        let target = to.join(path);
        write(&target, &bytes);
        fs::set_permissions(&target, fs::Permissions::from_mode(0o700)).unwrap();
        let file = fs::File::options().write(true).open(&target).unwrap();
        file.set_modified(long_ago).unwrap();
    }
}

#[test]
fn two_copies_with_other_times_and_modes_give_the_same_blobs() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let input = input(one.path());
    copy_differently(one.path(), two.path());
    let (first, second) = (releases(one.path()), releases(two.path()));
    let mut other = input_of(two.path());
    other.copies.reverse();
    let built = first.build(&input).unwrap();
    assert_eq!(second.build(&other).unwrap().digest, built.digest);
    assert_eq!(files(first.folder()), files(second.folder()));
    assert_eq!(export(&first, &built.digest), export(&second, &built.digest));
}

#[test]
fn building_again_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (input, releases) = (input(folder.path()), releases(folder.path()));
    let first = releases.build(&input).unwrap();
    let before = files(releases.folder());
    assert_eq!(releases.build(&input).unwrap(), first);
    assert_eq!(files(releases.folder()), before);
    assert_eq!(releases.open(&first.digest).unwrap(), first);
    assert!(first.manifest.has_assets() && first.manifest.has_migrations());
    let directory = first.digest.replace(':', "-");
    assert_eq!(
        names(releases.folder()),
        ["blobs", "index.json", "oci-layout", directory.as_str()],
        "nothing temporary stays"
    );
}

#[test]
fn one_changed_byte_makes_another_release() {
    let folder = tempfile::tempdir().unwrap();
    let (input, releases) = (input(folder.path()), releases(folder.path()));
    let first = releases.build(&input).unwrap();
    write(&folder.path().join("public/css/a.css"), b"h2 {}");
    let second = releases.build(&input).unwrap();
    let mut configured = input.clone();
    configured.configuration["config"]["domain"] = "other.example".into();
    let third = releases.build(&configured).unwrap();
    assert_ne!(first.digest, second.digest);
    assert_ne!(second.digest, third.digest);
    for release in [&first, &second, &third] {
        assert_eq!(&releases.verify(&release.digest).unwrap(), release);
    }
}
