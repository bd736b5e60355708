//! The application's sources: its git repository as it was pushed here, and a working copy of it.

use super::keys::Known;
use super::{Work, remove};
use crate::failure::{Failure, Kind, Outcome};
use crate::place::Place;
use astraler_manifest::Config;
use std::path::Path;
use std::process::{Command, Stdio};

const MANIFEST: &str = "astraler.toml";
/// What is checked out, where it is there.
const BRANCH: &str = "main";

/// Makes the repository in the work folder, and checks out its default branch into the application's folder. Where nobody
/// ever pushed, the manifest is what the live release says.
pub(super) fn recover(place: &Place, work: &Work, known: &Known) -> Outcome<String> {
    let bundle = work.folder("state").join("repository.bundle");
    let mut done = "nobody had pushed its sources here".to_owned();
    if bundle.is_file() {
        let repository = work.repository();
        remove(&repository)?;
        git(
            &["init", "--quiet", "--bare", "--initial-branch", BRANCH],
            &[&repository],
        )?;
        let into = format!("--git-dir={}", repository.display());
        git(
            &[&into, "fetch", "--quiet"],
            &[
                &bundle,
                Path::new("+refs/heads/*:refs/heads/*"),
                Path::new("+refs/tags/*:refs/tags/*"),
            ],
        )?;
        if let Some(branch) = default_branch(&repository)? {
            checkout(place, &repository, &branch)?;
            done = format!("branch {branch}");
        }
    }
    let manifest = place.application.join(MANIFEST);
    if !manifest.is_file() {
        let text = written(&known.governing()?.config)?;
        astraler_host::file::replace(&manifest, text.as_bytes(), 0o644)?;
        done.push_str("; the manifest is the live release's");
    }
    Ok(done)
}

const HEAD: &str = "\
# Written by `astraler recover full` from the release that served: take yours from where its sources are.

";

/// The manifest with every default in it, as the release kept it.
fn written(config: &Config) -> Outcome<String> {
    let text = toml::to_string_pretty(config)
        .map_err(|error| Failure::of(&error).context("the manifest cannot be written down"))?;
    Ok(format!("{HEAD}{text}"))
}

fn checkout(place: &Place, repository: &Path, branch: &str) -> Outcome {
    let folder = &place.application;
    remove(&folder.join(".git"))?;
    git(&["init", "--quiet", "--initial-branch", branch], &[folder])?;
    let within = folder.display().to_string();
    let reference = format!("refs/heads/{branch}");
    git(
        &["-C", &within, "fetch", "--quiet", "--tags"],
        &[repository, Path::new(&reference)],
    )?;
    git(
        &[
            "-C",
            &within,
            "checkout",
            "--quiet",
            "--force",
            "-B",
            branch,
            "FETCH_HEAD",
        ],
        &[],
    )
    .map(drop)
}

/// `main`, else what there is.
fn default_branch(repository: &Path) -> Outcome<Option<String>> {
    let into = format!("--git-dir={}", repository.display());
    let text = git(
        &[&into, "for-each-ref", "--format=%(refname:short)", "refs/heads"],
        &[],
    )?;
    let all: Vec<&str> = text.lines().collect();
    let found = all.iter().find(|name| **name == BRANCH).or(all.first());
    Ok(found.map(|name| (*name).to_owned()))
}

/// git as nobody's configuration changes it: what is fetched is a file of somebody else's making.
fn git(words: &[&str], paths: &[&Path]) -> Outcome<String> {
    let output = Command::new("git")
        .args(words)
        .args(paths)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", "/")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            Failure::of(&error)
                .kind(Kind::Missing)
                .context("git cannot be run")
        })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let lines = text.lines().map(str::to_owned).collect();
    Err(Failure::new(
        Kind::General,
        "the application's repository cannot be brought back",
    )
    .details(lines))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_of_a_release_is_one_that_is_read_again() {
        let config = serde_json::json!({
            "name": "shop",
            "domain": "shop.example",
            "workers": { "api": { "path": "workers/api", "routes": ["/api/*"] } },
            "environments": { "production": { "vars": { "GREETING": "hello \"you\"" } } },
            "backups": { "target_url": "file:///backups", "wal": true },
        });
        let config: Config = serde_json::from_value(config).unwrap();
        let text = written(&config).unwrap();
        let again: Config = toml::from_str(&text).unwrap();
        assert_eq!(again, config, "{text}");
    }
}
