//! `actions/upload-artifact` and `actions/download-artifact`, as version 4 has them.

use super::{Done, Inputs};
use crate::artifact::{Artifact, DEFAULT_DAYS, expiry};
use crate::engine::{Failed, Job};
use crate::glob::{Patterns, one, segments};
use crate::sandbox::HOME;
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

pub(super) async fn upload(job: &mut Job, inputs: &Inputs) -> Done {
    let name = inputs.get("name").unwrap_or("artifact").to_owned();
    let path = inputs.required("path")?.to_owned();
    let patterns = Patterns::new([path.as_str()], &job.workspace, HOME);
    if patterns.is_empty() {
        return Err(Failed::Because("the path names nothing".into()));
    }
    let days = inputs.get("retention-days").and_then(|text| text.parse().ok());
    let days = days.filter(|days| *days > 0).unwrap_or(DEFAULT_DAYS);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let (overwrite, hidden) = (inputs.is("overwrite"), inputs.is("include-hidden-files"));
    let (artifacts, confined, of) = (job.shared.artifacts.clone(), job.confined.clone(), name.clone());
    let written = tokio::task::spawn_blocking(move || {
        let starts = patterns.starts();
        let mut files = confined.search(&patterns)?;
        let shared = root(
            &starts,
            &files.iter().map(|file| file.inside.as_str()).collect::<Vec<_>>(),
        );
        if !hidden {
            files.retain(|file| {
                let inside = file.inside.strip_prefix(&shared).unwrap_or(&file.inside);
                !segments(inside).iter().any(|segment| segment.starts_with('.'))
            });
        }
        if files.is_empty() {
            return Ok(None);
        }
        artifacts
            .write(&of, &files, &shared, &confined, expiry(now, days), overwrite)
            .map(Some)
    });
    let written = written
        .await
        .map_err(|_| Failed::Because("the artifact cannot be written".into()))?;
    let Some(artifact) = written
        .map_err(|error| Failed::Because(format!("the artifact {name} cannot be written: {error}")))?
    else {
        let message =
            format!("No files were found with the provided path: {path}. No artifacts will be uploaded.");
        return match inputs.get("if-no-files-found").unwrap_or("warn") {
            "error" => Err(Failed::Because(message)),
            "ignore" => {
                job.say(&message).await;
                Ok(BTreeMap::new())
            }
            _ => {
                job.say(&format!("##[warning]{message}")).await;
                Ok(BTreeMap::new())
            }
        };
    };
    let Artifact {
        files, bytes, digest, ..
    } = artifact;
    job.say(&format!(
        "Artifact {name}: {files} files, {bytes} bytes, sha256:{digest}"
    ))
    .await;
    Ok([
        ("artifact-id".to_owned(), hex::encode(&name)),
        ("artifact-digest".to_owned(), digest),
    ]
    .into())
}

pub(super) async fn download(job: &mut Job, inputs: &Inputs) -> Done {
    for other in ["run-id", "repository"] {
        let own = match other {
            "run-id" => &job.shared.spec.id,
            _ => &job.shared.spec.event.repository,
        };
        if inputs.get(other).is_some_and(|value| value != own) {
            return Err(Failed::Because(format!(
                "only artifacts of this run are there: leave `{other}` out"
            )));
        }
    }
    let path = inputs.get("path").unwrap_or(".");
    let path = match path.strip_prefix('~') {
        Some(rest) => format!("{HOME}{rest}"),
        None if path.starts_with('/') => path.to_owned(),
        None => format!("{}/{path}", job.workspace),
    };
    let path = format!("/{}", segments(&path).join("/"));
    let unreadable =
        |error: std::io::Error| Failed::Because(format!("the artifacts cannot be read: {error}"));
    let all = job.shared.artifacts.list().map_err(unreadable)?;
    // One by name goes into the path itself; several each into a folder, unless they are to be merged.
    let (wanted, flat): (Vec<Artifact>, bool) = match inputs.get("name") {
        Some(name) => {
            let found: Vec<Artifact> = all.into_iter().filter(|artifact| artifact.name == name).collect();
            if found.is_empty() {
                return Err(Failed::Because(format!(
                    "Unable to download artifact(s): Artifact not found for name: {name}"
                )));
            }
            (found, true)
        }
        None => {
            let pattern = inputs.get("pattern").unwrap_or("*");
            let found = all
                .into_iter()
                .filter(|artifact| one(pattern, &artifact.name))
                .collect();
            (found, inputs.is("merge-multiple"))
        }
    };
    for artifact in wanted {
        let into = if flat {
            path.clone()
        } else {
            format!("{path}/{}", artifact.name)
        };
        let (artifacts, confined, of) = (
            job.shared.artifacts.clone(),
            job.confined.clone(),
            artifact.clone(),
        );
        let target = into.clone();
        let extracted = tokio::task::spawn_blocking(move || {
            confined.make_dir(&target)?;
            artifacts.extract(&of, &confined, &target)
        });
        let name = &artifact.name;
        let count = extracted
            .await
            .map_err(|_| Failed::Because(format!("the artifact {name} cannot be read")))?
            .map_err(|error| {
                Failed::Because(format!("the artifact {name} cannot be put into {into}: {error}"))
            })?;
        job.say(&format!("Artifact {name}: {count} files in {into}"))
            .await;
    }
    Ok([("download-path".to_owned(), path)].into())
}

/// What the files have in common: the one start, or the folder that all are in.
fn root(starts: &[String], files: &[&str]) -> String {
    if let [start] = starts {
        return match files {
            // A single file by its name: its folder.
            [file] if file == start => file.rsplit_once('/').map_or("/", |(folder, _)| folder).to_owned(),
            _ => start.clone(),
        };
    }
    let mut common = starts.first().map(|start| segments(start)).unwrap_or_default();
    for start in starts {
        let of = segments(start);
        let same = common
            .iter()
            .zip(&of)
            .take_while(|(left, right)| left == right)
            .count();
        common.truncate(same);
    }
    format!("/{}", common.join("/"))
}
