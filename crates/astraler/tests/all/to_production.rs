//! The whole way: the starter from an empty folder to a preview, to staging and to production, by pushes alone.

use crate::git::{done, git};
use crate::support::{PROGRAM, eventually};
use astraler_testkit::Platform;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

fn empty(_: &Path) -> std::io::Result<()> {
    Ok(())
}

/// Pushes; what the pusher saw.
#[track_caller]
fn push(folder: &Path, arguments: &[&str]) -> String {
    let mut words = vec!["push", "astraler"];
    words.extend(arguments);
    let output = git(folder, &words);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "git {words:?}\n{said}");
    said
}

/// The release that an environment runs, and what it answers at its own address.
#[track_caller]
fn serves(platform: &Platform, environment: &str, host: &str) -> Value {
    let health = platform.request("GET", host, "/api/health", b"").unwrap();
    assert_eq!(health.status, 200, "{environment}: {}", health.text());
    for layer in ["database", "cache", "storage"] {
        assert_eq!(
            health.json()[layer],
            Value::Bool(true),
            "{environment}: {}",
            health.text()
        );
    }
    let all = platform
        .run(&["deployments", "--env", environment, "--json"])
        .unwrap()
        .ok()
        .json();
    all[0].clone()
}

#[test]
fn the_starter_goes_from_an_empty_folder_to_production_by_pushes_alone() {
    let place = Platform::new(PROGRAM, empty).unwrap();
    let folder = place.application().join("board");
    place
        .run(&["init", "--starter", folder.to_str().unwrap()])
        .unwrap()
        .ok();
    let platform = Platform::of(PROGRAM, &folder).unwrap();
    done(&folder, &["init", "--quiet", "--initial-branch=main"]);
    done(&folder, &["add", "."]);
    done(&folder, &["commit", "--quiet", "-m", "The starter"]);
    platform.up(&[]).unwrap().ok();

    // A feature, with a pull request: development at once, and a preview once its checks have passed.
    done(&folder, &["switch", "--quiet", "-c", "feature/title"]);
    let page = folder.join("web/index.html");
    let text = std::fs::read_to_string(&page).unwrap();
    let changed = text.replacen("<title>", "<title>Ours: ", 1);
    assert_ne!(text, changed);
    std::io::Write::write_all(&mut std::fs::File::create(&page).unwrap(), changed.as_bytes()).unwrap();
    done(&folder, &["commit", "--quiet", "-am", "The page is ours"]);
    let said = push(&folder, &["-o", "pr=1", "feature/title"]);
    assert!(
        said.contains("run 1: feature/title → development, success"),
        "{said}"
    );
    assert!(
        said.contains("run 2: feature/title (pull request 1) → pr-1, success"),
        "{said}"
    );
    assert!(said.contains("http://pr-1.preview.localhost:"), "{said}");
    let preview = serves(&platform, "pr-1", "pr-1.preview.localhost");
    let shown = platform
        .request("GET", "pr-1.preview.localhost", "/", b"")
        .unwrap();
    assert!(shown.text().contains("<title>Ours: "), "{}", shown.text());

    // Merged: staging, its end-to-end tests; the pull request and its preview end.
    let said = push(&folder, &["feature/title:develop"]);
    assert!(said.contains("run 3: develop → staging, success"), "{said}");
    assert!(said.contains("e2e: success"), "{said}");
    let staging = serves(&platform, "staging", "staging.localhost");
    eventually(
        "the preview ends with its pull request",
        Duration::from_secs(60),
        || {
            let status = platform.run(&["status", "--json"]).unwrap().ok().json();
            !status.to_string().contains("pr-1")
        },
    );

    // The same tree to production: the release that was tested, not one that is built again.
    let said = push(&folder, &["feature/title:main"]);
    assert!(said.contains("run 4: main → production, success"), "{said}");
    assert!(said.contains("http://app.localhost:"), "{said}");
    let production = serves(&platform, "production", "app.localhost");
    assert_eq!(production["release"], staging["release"]);
    assert_eq!(preview["release"], staging["release"]);
    assert_eq!(production["actor"], "run 4 job deploy-production");
    platform.run(&["down"]).unwrap().ok();
    assert_eq!(platform.processes(), []);
}
