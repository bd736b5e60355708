//! The field's own tools read what this crate writes, and this crate what they write. Nothing leaves the machine.

use crate::support::{export, files, input, names, releases};
use astraler_release::{Release, Releases, directory_name};
use serde_json::Value;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs a program; one that is not installed is named with what installs it.
fn run(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; `scripts/setup.sh --test` installs it"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    output.stdout
}

fn skopeo(arguments: &[&str]) -> Vec<u8> {
    run("skopeo", &[&["--insecure-policy"], arguments].concat())
}

fn built(folder: &Path) -> (Releases, Release, String) {
    let releases = releases(folder);
    let release = releases.build(&input(folder)).unwrap();
    // A second one beside it: the name tells them apart.
    let mut other = input(folder);
    other.copies.pop();
    releases.build(&other).unwrap();
    let name = directory_name(&release.digest);
    let reference = format!("oci:{}:{name}", releases.folder().display());
    (releases, release, reference)
}

#[test]
fn skopeo_reads_the_folder_and_sees_the_same_digest() {
    let folder = tempfile::tempdir().unwrap();
    let (releases, release, reference) = built(folder.path());
    let seen: Value = serde_json::from_slice(&skopeo(&["inspect", &reference])).unwrap();
    assert_eq!(seen["Digest"], release.digest.as_str());
    assert_eq!(
        (&seen["Os"], &seen["Architecture"]),
        (&"linux".into(), &"amd64".into())
    );
    assert_eq!(seen["Layers"].as_array().unwrap().len(), 4);
    let copy = folder.path().join("copy");
    skopeo(&["copy", &reference, &format!("dir:{}", copy.display())]);
    // Every blob came as it is; skopeo checks each against its digest.
    for (name, bytes) in files(&copy) {
        let hex = match name.as_str() {
            "version" => continue,
            "manifest.json" => release.digest.strip_prefix("sha256:").unwrap(),
            hex => hex,
        };
        let ours = releases.folder().join("blobs/sha256").join(hex);
        assert_eq!(bytes, std::fs::read(ours).unwrap(), "{name}");
    }
    assert_eq!(names(&copy).len(), 7);
}

#[test]
fn an_export_is_an_archive_for_skopeo_and_its_archive_is_imported() {
    let folder = tempfile::tempdir().unwrap();
    let (releases_here, release, reference) = built(folder.path());
    let ours = folder.path().join("ours.tar");
    astraler_host::file::replace(&ours, &export(&releases_here, &release.digest), 0o644).unwrap();
    let archive = format!("oci-archive:{}", ours.display());
    let seen: Value = serde_json::from_slice(&skopeo(&["inspect", &archive])).unwrap();
    assert_eq!(seen["Digest"], release.digest.as_str());
    let theirs = folder.path().join("theirs.tar");
    skopeo(&["copy", &reference, &format!("oci-archive:{}:x", theirs.display())]);
    let elsewhere = releases(&folder.path().join("elsewhere"));
    let imported = elsewhere.import(File::open(&theirs).unwrap()).unwrap();
    assert_eq!(
        (&imported.digest, &imported.manifest),
        (&release.digest, &release.manifest)
    );
    elsewhere.verify(&release.digest).unwrap();
}

#[test]
fn podman_loads_it_and_finds_the_files() {
    // It makes an image's name of the folder's, and that has lower-case letters only.
    let prefix = format!("podman-{}", std::process::id());
    let folder = tempfile::Builder::new()
        .prefix(&prefix)
        .rand_bytes(0)
        .tempdir()
        .unwrap();
    let (_, release, reference) = built(folder.path());
    // A place of its own: the user's images and containers are not touched.
    let place = |name: &str| folder.path().join(name).display().to_string();
    let (root, runroot, tmp) = (place("root"), place("runroot"), place("tmp"));
    let podman = |arguments: &[&str]| {
        let own = [
            "--root",
            &root,
            "--runroot",
            &runroot,
            "--tmpdir",
            &tmp,
            "--storage-driver",
            "vfs",
            "--cgroup-manager",
            "cgroupfs",
            "--events-backend",
            "none",
        ];
        let text = String::from_utf8(run("podman", &[&own[..], arguments].concat())).unwrap();
        text.trim().to_owned()
    };
    let image = podman(&["pull", "--quiet", &reference]);
    let seen: Value = serde_json::from_str(&podman(&["image", "inspect", &image])).unwrap();
    assert_eq!(seen[0]["Digest"], release.digest.as_str());
    assert_eq!(seen[0]["Config"]["WorkingDir"], "/release");
    // A container is made, not started: there is nothing in the image to run.
    let container = podman(&["create", &image, "/none"]);
    let exported = place("exported.tar");
    podman(&["export", "--output", &exported, &container]);
    let mut archive = tar::Archive::new(File::open(&exported).unwrap());
    let mut found = 0;
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_str().unwrap().to_owned();
        let Some(name) = path
            .strip_prefix("release/")
            .filter(|_| entry.header().entry_type().is_file())
        else {
            continue;
        };
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        assert_eq!(
            bytes,
            std::fs::read(release.directory.join(name)).unwrap(),
            "{name}"
        );
        found += 1;
    }
    assert_eq!(found, release.manifest.files.len() + 1);
    podman(&["rm", &container]);
    podman(&["rmi", &image]);
}
