//! `astraler logs`.

use crate::cli::{Arguments, LogsArguments};
use crate::failure::{Failure, Kind, Outcome};
use crate::place::Place;
use crate::progress::line;
use astraler_host::logs;
use astraler_model::UnitName;
use futures_util::{StreamExt, stream};
use std::path::{Path, PathBuf};

pub(super) fn run(arguments: &Arguments, wanted: &LogsArguments) -> Outcome {
    let place = Place::find(arguments)?;
    place.installation()?;
    let parts = parts(&place)?;
    let chosen: Vec<(String, PathBuf)> = match &wanted.part {
        None => parts.into_iter().filter(|(name, _)| name != "access").collect(),
        Some(part) => {
            let matching: Vec<_> = parts
                .iter()
                .filter(|(name, _)| name == part || name.starts_with(&format!("{part}-")))
                .cloned()
                .collect();
            if matching.is_empty() {
                let names: Vec<&str> = parts.iter().map(|(name, _)| name.as_str()).collect();
                return Err(
                    Failure::new(Kind::General, format!("there is no log of `{part}`"))
                        .hint(format!("there are: {}", names.join(", "))),
                );
            }
            matching
        }
    };
    let width = chosen.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let prefix = |name: &str| {
        if chosen.len() > 1 {
            format!("{name:width$} | ")
        } else {
            String::new()
        }
    };
    let mut lines: Vec<(String, String)> = Vec::new();
    for (name, path) in &chosen {
        let (dir, unit) = split(path)?;
        lines.extend(
            logs::tail(dir, &unit, wanted.lines)?
                .into_iter()
                .map(|line| (line, prefix(name))),
        );
    }
    // Every line begins with its time, so that sorting by text is sorting by time.
    lines.sort_by(|a, b| a.0.cmp(&b.0));
    for (text, prefix) in &lines[lines.len().saturating_sub(wanted.lines)..] {
        line(&format!("{prefix}{text}"));
    }
    if wanted.follow {
        follow(&chosen, prefix)?;
    }
    Ok(())
}

/// Prints new lines of all parts as they arrive, until Ctrl-C.
fn follow(chosen: &[(String, PathBuf)], prefix: impl Fn(&str) -> String) -> Outcome {
    let mut streams = Vec::new();
    for (name, path) in chosen {
        let (dir, unit) = split(path)?;
        let lines = logs::follow(dir, &unit);
        let prefix = prefix(name);
        streams.push(Box::pin(stream::unfold(
            (lines, prefix),
            |(mut lines, prefix)| async move {
                let text = lines.next().await.ok()?;
                Some((format!("{prefix}{text}"), (lines, prefix)))
            },
        )));
    }
    super::block_on(async {
        let mut all = stream::select_all(streams);
        loop {
            tokio::select! {
                next = all.next() => match next {
                    Some(text) => line(&text),
                    None => return Ok(()),
                },
                _ = tokio::signal::ctrl_c() => return Ok(()),
            }
        }
    })
}

/// Part name → its current log file.
fn parts(place: &Place) -> Outcome<Vec<(String, PathBuf)>> {
    let mut parts = Vec::new();
    for entry in std::fs::read_dir(place.layout.logs())?.flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "log")
            && let Some(stem) = path.file_stem()
        {
            parts.push((stem.to_string_lossy().into_owned(), path.clone()));
        }
    }
    if place.layout.access_log().is_file() {
        parts.push(("access".to_owned(), place.layout.access_log()));
    }
    parts.sort();
    Ok(parts)
}

fn split(path: &Path) -> Outcome<(&Path, UnitName)> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let stem = path
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned())
        .unwrap_or_default();
    Ok((dir, UnitName::new(stem)?))
}
