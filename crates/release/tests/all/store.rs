//! What a folder of releases does.

use crate::support::{input, names, releases, write};
use astraler_release::{BuildError, Key, KeyInput, Releases, ResolveError, StoreError};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

fn key(tree: &str) -> Key {
    Key::of(&KeyInput {
        tree: tree.into(),
        ..KeyInput::default()
    })
}

#[test]
fn every_user_can_read_an_unpacked_release() {
    let folder = tempfile::tempdir().unwrap();
    let releases = releases(folder.path());
    let release = releases.build(&input(folder.path())).unwrap();
    let mode = |path: &str| {
        let path = release.directory.join(path);
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
    assert_eq!(mode(""), 0o755);
    assert_eq!(mode("assets/css"), 0o755);
    assert_eq!(mode("assets/css/a.css"), 0o644);
    assert_eq!(mode("release.json"), 0o644);
}

#[test]
fn what_cannot_be_in_a_release_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (input, releases) = (input(folder.path()), releases(folder.path()));
    symlink("/etc/passwd", folder.path().join("public/passwd")).unwrap();
    let error = releases.build(&input).unwrap_err();
    assert!(error.to_string().contains("symbolic link"), "{error}");
    fs::remove_file(folder.path().join("public/passwd")).unwrap();
    let mut elsewhere = input.clone();
    elsewhere.copies[1].1 = "../assets".into();
    assert!(matches!(releases.build(&elsewhere), Err(BuildError::Manifest(_))));
    let mut missing = input.clone();
    missing.copies[0].0 = folder.path().join("none");
    assert!(matches!(releases.build(&missing), Err(BuildError::Read { .. })));
    let mut twice = input.clone();
    twice.copies.push(twice.copies[1].clone());
    assert!(matches!(releases.build(&twice), Err(BuildError::Refused { .. })));
    let mut unknown = input;
    unknown.copies.remove(0);
    assert!(matches!(releases.build(&unknown), Err(BuildError::Manifest(_))));
    assert_eq!(names(releases.folder()), ["blobs", "oci-layout"]);
    assert_eq!(names(&releases.folder().join("blobs/sha256")), [""; 0]);
}

#[test]
fn a_key_finds_its_release_and_does_not_change_it() {
    let folder = tempfile::tempdir().unwrap();
    let (input, releases) = (input(folder.path()), releases(folder.path()));
    let one = releases.build(&input).unwrap().digest;
    write(&folder.path().join("public/css/a.css"), b"h2 {}");
    let two = releases.build(&input).unwrap().digest;
    assert_eq!(releases.find_by_key(&key("a")).unwrap(), None);
    releases.set_key(&one, &key("a")).unwrap();
    releases.set_key(&one, &key("b")).unwrap();
    releases.set_key(&two, &key("c")).unwrap();
    for (tree, digest) in [("a", &one), ("b", &one), ("c", &two)] {
        assert_eq!(releases.find_by_key(&key(tree)).unwrap().as_ref(), Some(digest));
    }
    releases.set_key(&two, &key("a")).unwrap();
    assert_eq!(releases.find_by_key(&key("a")).unwrap(), Some(two.clone()));
    assert_eq!(releases.find_by_key(&key("b")).unwrap(), Some(one.clone()));
    releases.verify(&one).unwrap();
    // Building the second again keeps its keys.
    releases.build(&input).unwrap();
    assert_eq!(releases.find_by_key(&key("c")).unwrap(), Some(two));
    for number in 0..100 {
        releases.set_key(&one, &key(&format!("n{number}"))).unwrap();
    }
    let stored = releases.list().unwrap();
    let stored = stored.iter().find(|stored| stored.digest == one).unwrap();
    assert_eq!(stored.keys.len(), astraler_release::limits::KEYS);
    assert_eq!(releases.find_by_key(&key("b")).unwrap(), None, "the oldest went");
    assert!(matches!(
        releases.set_key("sha256:none", &key("d")),
        Err(StoreError::Unknown { .. })
    ));
}

#[test]
fn a_short_digest_names_one_release() {
    let folder = tempfile::tempdir().unwrap();
    let (input, releases) = (input(folder.path()), releases(folder.path()));
    let digest = releases.build(&input).unwrap().digest;
    let hex = digest.strip_prefix("sha256:").unwrap();
    for text in [&digest, hex, &hex[..12], &hex[..4], &digest[..11]] {
        assert_eq!(releases.resolve(text).unwrap(), digest, "{text}");
    }
    for text in ["", "abc", "sha256:", "../../x", &"0".repeat(65), "ABCDEF"] {
        let error = releases.resolve(text).unwrap_err();
        assert!(
            matches!(error, ResolveError::NotADigest { .. }),
            "{text}: {error}"
        );
    }
    let other = if hex.starts_with('0') { "1111" } else { "0000" };
    assert!(matches!(
        releases.resolve(other),
        Err(ResolveError::Unknown { .. })
    ));
    // Two that begin alike: the index is what counts.
    let index = releases.folder().join("index.json");
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&index).unwrap()).unwrap();
    let mut twin = json["manifests"][0].clone();
    let last = if hex.ends_with('0') { "1" } else { "0" };
    twin["digest"] = format!("{}{last}", &digest[..digest.len() - 1]).into();
    json["manifests"].as_array_mut().unwrap().push(twin);
    write(&index, &serde_json::to_vec(&json).unwrap());
    match releases.resolve(&hex[..12]) {
        Err(ResolveError::Ambiguous { count: 2, .. }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(releases.resolve(hex).unwrap(), digest);
}

#[test]
fn removing_keeps_what_others_share() {
    let folder = tempfile::tempdir().unwrap();
    let (input, releases) = (input(folder.path()), releases(folder.path()));
    let one = releases.build(&input).unwrap().digest;
    write(&folder.path().join("public/css/a.css"), b"h2 {}");
    let two = releases.build(&input).unwrap().digest;
    releases.remove(&one).unwrap();
    releases.verify(&two).unwrap();
    assert!(matches!(releases.remove(&one), Err(StoreError::Unknown { .. })));
    let digests: Vec<String> = releases
        .list()
        .unwrap()
        .into_iter()
        .map(|stored| stored.digest)
        .collect();
    assert_eq!(digests, [two.as_str()]);
    releases.remove(&two).unwrap();
    assert_eq!(names(releases.folder()), ["blobs", "index.json", "oci-layout"]);
    assert_eq!(names(&releases.folder().join("blobs/sha256")), [""; 0]);
}

#[test]
fn pruning_keeps_the_newest_and_what_is_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let (input, releases) = (input(folder.path()), releases(folder.path()));
    let digests: Vec<String> = (0..6)
        .map(|number| {
            write(&folder.path().join("public/number"), &[number]);
            releases.build(&input).unwrap().digest
        })
        .collect();
    let in_use = BTreeSet::from([digests[1].clone()]);
    assert_eq!(releases.prune(10, &in_use).unwrap(), [""; 0]);
    let gone = releases.prune(3, &in_use).unwrap();
    assert_eq!(gone, [digests[0].clone(), digests[2].clone()]);
    for kept in [1, 3, 4, 5] {
        releases.verify(&digests[kept]).unwrap();
    }
    assert_eq!(releases.prune(3, &in_use).unwrap(), [""; 0]);
    // What is built again is new again.
    write(&folder.path().join("public/number"), &[3]);
    releases.build(&input).unwrap();
    assert_eq!(
        releases.prune(1, &BTreeSet::new()).unwrap(),
        [&digests[1], &digests[4], &digests[5]].map(Clone::clone)
    );
    releases.verify(&digests[3]).unwrap();
}

#[test]
fn what_a_killed_process_left_is_removed_and_what_a_living_one_stages_stays() {
    let folder = tempfile::tempdir().unwrap();
    let releases = releases(folder.path());
    let release = releases.build(&input(folder.path())).unwrap();
    let root = releases.folder();
    write(&root.join(".partial-1-0/tree/assets/half"), b"h");
    write(&root.join(".index.json.1.0.tmp"), b"{");
    write(
        &root.join(format!("sha256-{}/release.json", "0".repeat(64))),
        b"{}",
    );
    write(&root.join(format!("blobs/sha256/{}", "0".repeat(64))), b"{}");
    write(&root.join(".partial-2-0/tree/assets/half"), b"h");
    let living = fs::File::open(root.join(".partial-2-0")).unwrap();
    rustix::fs::flock(&living, rustix::fs::FlockOperation::LockExclusive).unwrap();
    Releases::prepare(root).unwrap();
    let directory = release.digest.replace(':', "-");
    let expected = [".partial-2-0", "blobs", "index.json", "oci-layout", &directory];
    assert_eq!(names(root), expected);
    releases.verify(&release.digest).unwrap();
}

#[test]
fn a_broken_index_is_named_and_nothing_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let releases = releases(folder.path());
    let release = releases.build(&input(folder.path())).unwrap();
    let index = releases.folder().join("index.json");
    write(&index, b"{");
    match Releases::prepare(releases.folder()) {
        Err(StoreError::Index { path, .. }) => assert_eq!(path, index),
        other => panic!("{other:?}"),
    }
    assert!(release.directory.join("release.json").exists());
}

#[test]
fn a_description_says_what_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let (input, releases) = (input(folder.path()), releases(folder.path()));
    let release = releases.build(&input).unwrap();
    releases.set_key(&release.digest, &key("a")).unwrap();
    let described = releases.describe(&release.digest).unwrap();
    let holds: Vec<&str> = described
        .layers
        .iter()
        .map(|layer| layer.holds.as_str())
        .collect();
    assert_eq!(holds, ["migrations", "assets", "workers", "configuration"]);
    assert_eq!(described.release, release.manifest);
    assert_eq!(described.stored.application, "shop");
    assert_eq!(described.stored.keys, [key("a").to_string()]);
    let layers: u64 = described.layers.iter().map(|layer| layer.size_bytes).sum();
    assert!(described.stored.size_bytes.unwrap() > layers);
    assert!(described.stored.stored_at_ms.unwrap() > 1_700_000_000_000);
}
