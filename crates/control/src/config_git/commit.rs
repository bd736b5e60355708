//! From the record to a commit.

use super::{ConfigGitError, is_kept};
use crate::platform::Platform;
use crate::repository::Repository;
use crate::secrets::SecretPlace;
use astraler_store::Deployment;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io;
use std::path::Path;

/// The only branch.
pub(super) const BRANCH: &str = "main";
/// Where a commit is made before it is known whether it differs.
const NEXT: &str = "refs/astraler/next";

/// A file of the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    path: String,
    text: String,
}

/// All that the repository should hold now.
pub(super) fn files(platform: &Platform) -> Result<Vec<File>, ConfigGitError> {
    let mut files = Vec::new();
    for (environment, (deployment, application)) in platform.live()? {
        if !is_kept(environment) {
            continue;
        }
        let workers: Vec<Value> = application
            .workers
            .iter()
            .map(|worker| {
                json!({
                    "name": worker.name,
                    "routes": worker.routes,
                    "compatibility_date": worker.compatibility_date,
                    "compatibility_flags": worker.compatibility_flags,
                    "vars": worker.vars,
                    "r2": worker.r2,
                    "hyperdrive": worker.hyperdrive,
                    "secrets": worker.secrets,
                })
            })
            .collect();
        let mut put = |name: &str, value: &Value| -> Result<(), ConfigGitError> {
            let mut text = serde_json::to_string_pretty(value)?;
            text.push('\n');
            let path = format!("{environment}/{name}.json");
            files.push(File { path, text });
            Ok(())
        };
        put("manifest", &serde_json::to_value(&application.config)?)?;
        put("workers", &Value::Array(workers))?;
        put("deployment", &deployed(&deployment))?;
        put("grants", &grants(platform, SecretPlace::of(environment))?)?;
    }
    if files.is_empty() {
        return Ok(files);
    }
    let installation = &platform.installation;
    let machine = json!({
        "application": installation.application,
        "ports": installation.ports,
        "listen_addresses": installation.listen_addresses,
    });
    files.push(File {
        path: "platform.json".into(),
        text: format!("{}\n", serde_json::to_string_pretty(&machine)?),
    });
    Ok(files)
}

fn deployed(deployment: &Deployment) -> Value {
    json!({
        "deployment": deployment.id.to_string(),
        "release": deployment.release,
        "switched_ms": deployment.switched_ms,
    })
}

/// Names, versions and services; no value is in reach here.
fn grants(platform: &Platform, place: SecretPlace) -> Result<Value, ConfigGitError> {
    let all = platform.store.user_secrets(place.name())?;
    Ok(all
        .into_iter()
        .map(|secret| json!({ "name": secret.name, "version": secret.version, "granted_to": secret.grants }))
        .collect())
}

/// Makes the repository where there is none, and a commit where the files differ from the newest. Returns the newest. Killed
/// anywhere, the branch names a whole commit.
pub(super) fn commit(path: &Path, files: &[File]) -> Result<String, ConfigGitError> {
    let repository = Repository::new(path);
    if !path.join("HEAD").is_file() {
        repository.init(BRANCH)?;
    }
    let head = repository.tip(BRANCH);
    let mut stream = String::new();
    let message = subject(files);
    let seconds = jiff::Timestamp::now().as_second();
    let write = |stream: &mut String| -> std::fmt::Result {
        writeln!(stream, "commit {NEXT}")?;
        writeln!(stream, "committer Astraler <astraler@localhost> {seconds} +0000")?;
        writeln!(stream, "data {}\n{message}", message.len())?;
        if let Some(head) = &head {
            writeln!(stream, "from {head}")?;
        }
        writeln!(stream, "deleteall")?;
        for File { path, text } in files {
            writeln!(stream, "M 100644 inline {path}\ndata {}\n{text}", text.len())?;
        }
        writeln!(stream, "done")
    };
    write(&mut stream).map_err(|error| ConfigGitError::File {
        path: path.to_owned(),
        source: io::Error::other(error),
    })?;
    repository.import(stream.as_bytes())?;
    let next = repository.text(&["rev-parse", "--verify", NEXT])?;
    if let Some(head) = head
        && repository.tree(&head)? == repository.tree(&next)?
    {
        return Ok(head);
    }
    repository.name(&format!("refs/heads/{BRANCH}"), &next)?;
    Ok(next)
}

/// What serves, in one line.
fn subject(files: &[File]) -> String {
    let serves = files.iter().filter_map(|file| {
        let environment = file.path.strip_suffix("/deployment.json")?;
        let deployed: Value = serde_json::from_str(&file.text).ok()?;
        Some(format!("{environment} {}", deployed["deployment"].as_str()?))
    });
    serves.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File {
            path: path.into(),
            text: text.into(),
        }
    }

    #[test]
    fn a_commit_is_made_when_something_differs_and_only_then() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.git");
        let deployment = file("production/deployment.json", r#"{"deployment":"d-1"}"#);
        let mut files = vec![deployment, file("production/manifest.json", "{}\n")];
        let first = commit(&path, &files).unwrap();
        assert_eq!(
            commit(&path, &files).unwrap(),
            first,
            "the same again is no commit"
        );
        files[1].text = "{ \"ü\": 1 }\n".into();
        let second = commit(&path, &files).unwrap();
        assert_ne!(second, first);
        files.remove(1);
        commit(&path, &files).unwrap();
        let repository = Repository::new(&path);
        let log = repository.text(&["log", "--format=%s", BRANCH]).unwrap();
        assert_eq!(log, "production d-1\nproduction d-1\nproduction d-1");
        let shown = repository
            .text(&["show", &format!("{second}:production/manifest.json")])
            .unwrap();
        assert_eq!(shown, "{ \"ü\": 1 }");
        let left = repository
            .text(&["ls-tree", "-r", "--name-only", BRANCH])
            .unwrap();
        assert_eq!(left, "production/deployment.json");
        repository.run(&["fsck", "--strict"]).unwrap();
    }
}
