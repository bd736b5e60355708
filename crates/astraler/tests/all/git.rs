//! The application's repository, with a real git on the other side.

use crate::support::small;
use std::path::Path;
use std::process::{Command, Output};

pub(crate) fn git(folder: &Path, arguments: &[&str]) -> Output {
    Command::new("git")
        .args(["-c", "user.name=Anna", "-c", "user.email=anna@small.example"])
        .args(arguments)
        .current_dir(folder)
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap()
}

#[track_caller]
pub(crate) fn done(folder: &Path, arguments: &[&str]) -> String {
    let output = git(folder, arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "git {arguments:?}\n{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text.trim().to_owned()
}

#[track_caller]
fn refused(folder: &Path, arguments: &[&str], why: &str) {
    let output = git(folder, arguments);
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "git {arguments:?} was taken\n{words}");
    assert!(words.contains(why), "git {arguments:?}\n{words}");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "tests: no file is for keeps")]
fn the_owner_pushes_without_a_password_and_others_as_far_as_their_tokens_go() {
    let platform = small();
    let folder = platform.application().to_owned();
    done(&folder, &["init", "--quiet", "--initial-branch=main"]);
    done(&folder, &["add", "."]);
    done(&folder, &["commit", "--quiet", "-m", "first"]);
    let up = platform.up(&[]).unwrap().ok();
    assert!(up.out.contains("git push astraler"), "{}", up.out);

    // The repository is made by whoever comes first, and there for all who come with them.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| done(&folder, &["ls-remote", "astraler"]));
        }
    });

    // The owner: the helper that `up` has set asks the daemon.
    done(
        &folder,
        &[
            "push",
            "-o",
            "skip-ci",
            "astraler",
            "main",
            "HEAD:develop",
            "HEAD:feature/one",
        ],
    );
    let url = done(&folder, &["remote", "get-url", "astraler"]);
    let refs = done(&folder, &["ls-remote", "astraler"]);
    for branch in ["main", "develop", "feature/one"] {
        assert!(refs.contains(&format!("refs/heads/{branch}")), "{refs}");
    }

    // A token: its branches and no other, and nothing of a push where any of it is refused.
    let token = |name: &str, scopes: &[&str]| {
        let mut words = vec!["token", "create", name];
        for scope in scopes {
            words.extend(["--scope", scope]);
        }
        let text = platform.run(&words).unwrap().ok().out;
        url.replace("http://", &format!("http://anna:{}@", text.trim()))
    };
    let anna = token("anna", &["push:feature/*", "read"]);
    let other = tempfile::tempdir().unwrap();
    done(
        other.path(),
        &["clone", "--quiet", "--branch", "main", &anna, "copy"],
    );
    let copy = other.path().join("copy");
    let large: String = (0..200_000).map(|n| format!("{n}\n")).collect();
    std::fs::write(copy.join("large.txt"), large).unwrap();
    done(&copy, &["add", "."]);
    done(&copy, &["commit", "--quiet", "-m", "second"]);
    // Over git's buffer of 1 MiB: the body comes in chunks, after a probe.
    done(
        &copy,
        &[
            "-c",
            "http.postBuffer=65536",
            "push",
            "-o",
            "skip-ci",
            &anna,
            "HEAD:feature/two",
        ],
    );
    refused(
        &copy,
        &["push", &anna, "HEAD:main"],
        "the scope `push:main` is needed",
    );
    refused(
        &copy,
        &["push", "--atomic", &anna, "HEAD:feature/three", "HEAD:develop"],
        "push:develop",
    );
    refused(&copy, &["push", &anna, "HEAD:refs/tags/v1"], "only branches");
    let refs = done(&copy, &["ls-remote", &anna]);
    assert!(!refs.contains("feature/three") && !refs.contains("v1"), "{refs}");

    // History from which an environment is deployed stays, for the owner too.
    done(&folder, &["commit", "--quiet", "--amend", "-m", "another"]);
    refused(
        &folder,
        &["push", "--force", "astraler", "main"],
        "history cannot be rewritten",
    );
    refused(&folder, &["push", "astraler", ":develop"], "cannot be deleted");
    done(
        &folder,
        &["push", "-o", "skip-ci", "--force", "astraler", "HEAD:feature/one"],
    );

    // Who may not read reads nothing; who is nobody gets nowhere.
    let deployer = token("deployer", &["deploy:staging"]);
    refused(&copy, &["ls-remote", &deployer], "403");
    refused(&copy, &["push", &deployer, "HEAD:feature/x"], "403");
    let nobody = url.replace("http://", "http://x:ast_0000000000000000_none@");
    refused(&copy, &["ls-remote", &nobody], "Authentication failed");

    let audit = platform
        .run(&["audit", "list", "-n", "100", "--json"])
        .unwrap()
        .ok()
        .json();
    let has =
        |actor: &str, action: &str, subject: &str| {
            audit.as_array().unwrap().iter().any(|entry| {
                entry["actor"] == actor && entry["action"] == action && entry["subject"] == subject
            })
        };
    assert!(has("token anna", "git push", "refs/heads/feature/two"), "{audit}");
    assert!(
        has("token anna", "refused", "git push refs/heads/main"),
        "{audit}"
    );
    assert!(has("token deployer", "refused", "git fetch"), "{audit}");

    // A remote that exists is its owner's.
    done(
        &folder,
        &["remote", "set-url", "astraler", "http://elsewhere.example/x.git"],
    );
    platform.up(&[]).unwrap().ok();
    assert_eq!(
        done(&folder, &["remote", "get-url", "astraler"]),
        "http://elsewhere.example/x.git"
    );
    platform.run(&["down"]).unwrap().ok();
    assert_eq!(platform.processes(), []);
}
