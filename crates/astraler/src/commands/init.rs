//! `astraler init`: a manifest and a workflow for an existing application, or the starter.

mod project;
mod workflow;

use crate::cli::{Arguments, InitArguments};
use crate::failure::{Failure, Kind, Outcome};
use crate::progress::line;
use astraler_host::file;
use project::Project;
use std::path::Path;

/// The starter application, file by file, as it stands in the repository.
const STARTER: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/starter.rs"));

const WORKFLOW: &str = ".github/workflows/ci.yml";

pub(super) fn run(arguments: &Arguments, init: &InitArguments) -> Outcome {
    match &init.starter {
        Some(folder) => starter(folder),
        None => existing(arguments, init),
    }
}

fn starter(folder: &Path) -> Outcome {
    let occupied = folder
        .read_dir()
        .is_ok_and(|mut entries| entries.next().is_some());
    if occupied {
        return Err(
            Failure::new(Kind::General, format!("{} is not empty", folder.display()))
                .hint("name a new folder: nothing is ever overwritten"),
        );
    }
    for (name, contents) in STARTER {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        file::replace(&path, contents, 0o644)?;
    }
    line(&format!(
        "{} files written; next: cd {} && astraler up",
        STARTER.len(),
        folder.display()
    ));
    Ok(())
}

fn existing(arguments: &Arguments, init: &InitArguments) -> Outcome {
    let dir = match &arguments.dir {
        Some(dir) => dir.clone(),
        None => std::env::current_dir()?,
    };
    let manifest = dir.join("astraler.toml");
    if manifest.exists() {
        return Err(
            Failure::new(Kind::General, format!("{} is there already", manifest.display()))
                .hint("`astraler manifest check` checks it"),
        );
    }
    let folder = dir.canonicalize()?;
    let name = match &init.name {
        Some(name) => name.clone(),
        None => folder.file_name().map_or_else(
            || "app".to_owned(),
            |name| name.to_string_lossy().to_ascii_lowercase(),
        ),
    };
    let domain = init.domain.clone().unwrap_or_else(|| format!("{name}.example"));
    let project = Project::read(&folder);
    let text = manifest_text(&name, &domain, &folder, &project)?;
    file::replace(&manifest, text.as_bytes(), 0o644)?;
    line(&format!("wrote {}", manifest.display()));
    let workflow = dir.join(WORKFLOW);
    if workflow.exists() {
        line(&format!("kept {} as it is", workflow.display()));
    } else {
        if let Some(parent) = workflow.parent() {
            std::fs::create_dir_all(parent)?;
        }
        file::replace(&workflow, workflow::workflow(&project).as_bytes(), 0o644)?;
        line(&format!("wrote {}", workflow.display()));
    }
    line("next: read astraler.toml, then run `astraler up`");
    Ok(())
}

/// The manifest: what was found, as the user would have written it.
fn manifest_text(name: &str, domain: &str, folder: &Path, project: &Project) -> Outcome<String> {
    let mut text = astraler_manifest::default_toml(name, domain);
    let workers = workers(folder)?;
    for worker in &workers {
        let last = worker.rsplit('/').next().unwrap_or(worker);
        let key = if worker == "." { name } else { last };
        let routes = if workers.len() == 1 {
            "/*".to_owned()
        } else {
            format!("/{key}/*")
        };
        text.push_str(&format!(
            "\n[workers.{key}]\npath = \"{worker}\"\nroutes = [\"{routes}\"]\n"
        ));
    }
    if let Some(script) = project.script(&["build"]) {
        text.push_str(&format!("\n[build]\ncommand = \"{}\"\n", project.run(script)));
    }
    Ok(text)
}

/// Folders with a wrangler configuration, at most three levels down.
fn workers(root: &Path) -> Outcome<Vec<String>> {
    let mut found = Vec::new();
    let mut queue = vec![(root.to_owned(), 0)];
    while let Some((folder, depth)) = queue.pop() {
        let has = ["wrangler.jsonc", "wrangler.json", "wrangler.toml"]
            .iter()
            .any(|name| folder.join(name).is_file());
        if has && let Ok(relative) = folder.strip_prefix(root) {
            let relative = relative.to_string_lossy();
            found.push(if relative.is_empty() {
                ".".to_owned()
            } else {
                relative.into_owned()
            });
        }
        if depth == 3 {
            continue;
        }
        for entry in std::fs::read_dir(&folder)?.flatten() {
            let name = entry.file_name();
            let hidden = name.to_string_lossy().starts_with('.') || name == "node_modules";
            if !hidden && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                queue.push((entry.path(), depth + 1));
            }
        }
    }
    found.sort();
    Ok(found)
}
