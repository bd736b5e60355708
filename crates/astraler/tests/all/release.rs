//! `astraler release`, with the platform up and without.

use crate::support::{eventually, small};
use astraler_testkit::Platform;
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

#[test]
fn releases_are_shown_checked_and_exported_and_a_changed_one_is_named() {
    let platform = small();
    let none = platform.run(&["release", "list", "--json"]).unwrap().ok().json();
    assert_eq!(none, serde_json::json!([]), "before the first `up`");
    platform.up(&[]).unwrap().ok();
    let list = platform.run(&["release", "list", "--json"]).unwrap().ok().json();
    let digest = list[0]["digest"].as_str().unwrap().to_owned();
    let short = &digest["sha256:".len()..][..12];
    assert_eq!(list.as_array().unwrap().len(), 1);
    assert_eq!(list[0]["environments"], serde_json::json!(["development"]));
    let table = platform.run(&["release", "list"]).unwrap().ok().out;
    assert!(table.contains(short) && table.contains("development"), "{table}");
    assert!(table.contains(" KiB"), "{table}");

    let shown = platform
        .run(&["release", "show", short, "--json"])
        .unwrap()
        .ok()
        .json();
    assert_eq!(shown["digest"], digest.as_str());
    assert_eq!(
        shown["release"]["configuration"]["config"]["name"],
        list[0]["application"]
    );
    let table = platform.run(&["release", "show", short]).unwrap().ok().out;
    assert!(
        table.contains(&digest) && table.contains("layer assets"),
        "{table}"
    );

    let archive = platform.application().join("release.tar");
    let file = archive.to_str().unwrap();
    let exported = platform
        .run(&["release", "export", short, file, "--json"])
        .unwrap()
        .ok()
        .json();
    assert_eq!(exported["size_bytes"], std::fs::metadata(&archive).unwrap().len());
    assert_eq!(
        skopeo_digest(&archive),
        digest,
        "what skopeo reads is what we name"
    );

    let verified = platform
        .run(&["release", "verify", "--json"])
        .unwrap()
        .ok()
        .json();
    assert_eq!(verified[0]["ok"], true);
    for (text, words) in [
        ("ffff0000ffff", "no release"),
        ("xyz", "not a digest"),
        ("../status", "not a digest"),
    ] {
        let finished = platform.run(&["release", "show", text]).unwrap().failed_with(1);
        assert!(finished.err.contains(words), "{text}: {}", finished.err);
    }

    let folder = platform.state().join("releases").join(digest.replace(':', "-"));
    let page = folder.join("assets/index.html");
    let whole = std::fs::read(&page).unwrap();
    let changed = [&whole[..], b"<script src=//evil.example></script>"].concat();
    replace(&page, &changed);
    let layer = shown["layers"]
        .as_array()
        .unwrap()
        .iter()
        .find(|layer| layer["holds"] == "assets")
        .unwrap();
    let is_named = |what: &str| {
        for arguments in [
            &["release", "verify"][..],
            &["release", "verify", short],
            &["release", "export", short, file],
        ] {
            let said = platform.run(arguments).unwrap().failed_with(8).err;
            assert!(said.contains(page.to_str().unwrap()), "{what}: {said}");
            assert!(said.contains(layer["digest"].as_str().unwrap()), "{what}: {said}");
            assert!(said.contains("hint: "), "{what}: {said}");
        }
        let report = platform
            .run(&["release", "verify", "--json"])
            .unwrap()
            .failed_with(8)
            .json();
        assert_eq!(report[0]["ok"], false, "{what}: {report}");
    };
    is_named("while the platform is up");
    platform.run(&["down"]).unwrap().ok();
    is_named("while it is down");
    let list = platform.run(&["release", "list", "--json"]).unwrap().ok().json();
    assert_eq!(list[0]["digest"], digest.as_str());
    assert!(
        list[0].get("environments").is_none(),
        "nobody knows what would run"
    );
    // The next build puts it back.
    platform.up(&[]).unwrap().ok();
    assert_eq!(std::fs::read(&page).unwrap(), whole);
    platform.run(&["release", "verify", short]).unwrap().ok();
    platform.run(&["down"]).unwrap().ok();
    assert_eq!(platform.processes(), []);
}

#[test]
fn the_same_application_in_another_folder_is_the_same_release() {
    let digest = || {
        let platform = small();
        platform.up(&[]).unwrap().ok();
        let list = platform.run(&["release", "list", "--json"]).unwrap().ok().json();
        platform.run(&["down"]).unwrap().ok();
        list[0]["digest"].as_str().unwrap().to_owned()
    };
    assert_eq!(digest(), digest());
}

fn replace(path: &Path, bytes: &[u8]) {
    astraler_host::file::replace(path, bytes, 0o644).unwrap();
}

fn skopeo_digest(archive: &Path) -> String {
    let output = Command::new("skopeo")
        .args([
            "--insecure-policy",
            "inspect",
            &format!("oci-archive:{}", archive.display()),
        ])
        .output()
        .expect("skopeo; `scripts/setup.sh --test` installs it");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap();
    seen["Digest"].as_str().unwrap().to_owned()
}

/// The digest that an environment runs.
fn running(platform: &Platform) -> String {
    let listed = platform.run(&["deployments", "-n", "1", "--json"]).unwrap().ok();
    listed.json()[0]["release"].as_str().unwrap().to_owned()
}

#[test]
fn old_releases_go_and_what_can_be_gone_back_to_stays() {
    let platform = small();
    let manifest = platform.application().join("astraler.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let (before, _) = text.split_once("GREETING = ").unwrap();
    let deploy = |version: u32| {
        let text = before.replacen("[environments.", "[release]\nkeep = 1\n[environments.", 1);
        replace(
            &manifest,
            format!("{text}GREETING = \"version {version}\"\n").as_bytes(),
        );
        platform.run(&["deploy", "--wait"]).unwrap().ok();
        running(&platform)
    };
    platform.up(&[]).unwrap().ok();
    let first = running(&platform);
    let archive = platform.application().join("first.tar");
    let archive = archive.to_str().unwrap();
    platform
        .run(&["release", "export", &first, archive])
        .unwrap()
        .ok();
    let middle: Vec<String> = (1..=4).map(deploy).collect();
    let list = || {
        let list = platform.run(&["release", "list", "--json"]).unwrap().ok().json();
        let all = list.as_array().unwrap().clone().into_iter();
        all.map(|release| release["digest"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(list().len(), 5, "somebody may be about to deploy what is young");

    platform.run(&["down"]).unwrap().ok();
    for digest in list() {
        let folder = platform.state().join("releases").join(digest.replace(':', "-"));
        let touched = Command::new("touch")
            .args(["-d", "1 hour ago"])
            .arg(&folder)
            .status();
        assert!(touched.unwrap().success());
    }
    platform.up(&[]).unwrap().ok();
    let last = deploy(5);
    eventually("the oldest goes", Duration::from_secs(20), || {
        !list().contains(&first)
    });
    assert_eq!(list(), [&middle[1..], &[last]].concat());
    platform.run(&["rollback"]).unwrap().ok();
    assert_eq!(running(&platform), middle[3]);

    let gone = platform.run(&["rollback", "--to", "d-1"]).unwrap().failed_with(1);
    assert!(gone.err.contains("there is no release"), "{}", gone.err);
    assert!(gone.err.contains("astraler release import"), "{}", gone.err);
    let imported = platform
        .run(&["release", "import", archive, "--json"])
        .unwrap()
        .ok();
    assert_eq!(imported.json()["digest"], first.as_str());
    platform.run(&["rollback", "--to", "d-1"]).unwrap().ok();
    assert_eq!(running(&platform), first);
    // What is not one is refused, and nothing of it stays.
    replace(Path::new(archive), b"no archive");
    let refused = platform
        .run(&["release", "import", archive])
        .unwrap()
        .failed_with(8);
    assert!(refused.err.contains("export it again"), "{}", refused.err);
    assert_eq!(list().len(), 5);
}
