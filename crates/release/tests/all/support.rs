//! Inputs and archives.

use astraler_release::{Input, Releases, WorkerEntry};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

pub(crate) fn write(path: &Path, contents: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::File::create(path).unwrap().write_all(contents).unwrap();
}

/// An application's files below a folder, and what is built of them.
pub(crate) fn input(folder: &Path) -> Input {
    write(&folder.join("public/index.html"), b"<h1>hello</h1>");
    write(&folder.join("public/css/a.css"), b"h1 {}");
    let long = format!("public/chunks/{}.js", "long-name-".repeat(20));
    write(&folder.join(long), b"export {}");
    write(&folder.join("public/empty"), b"");
    write(&folder.join("migrations/0001_a.sql"), b"SELECT 1;");
    write(&folder.join("out/api/index.js"), b"export default {}");
    input_of(folder)
}

/// The input, where the files are there already.
pub(crate) fn input_of(folder: &Path) -> Input {
    let api = WorkerEntry {
        modules: vec![json!({ "name": "index.js", "kind": "es_module", "path": "workers/api/index.js" })],
        compatibility_date: "2026-01-01".into(),
        compatibility_flags: vec!["nodejs_compat".into()],
    };
    Input {
        application: "shop".into(),
        configuration: json!({ "config": { "name": "shop", "domain": "shop.example" } }),
        copies: vec![
            (folder.join("out/api"), "workers/api".into()),
            (folder.join("public"), "assets".into()),
            (folder.join("migrations"), "migrations".into()),
        ],
        workers: BTreeMap::from([("api".to_owned(), api)]),
    }
}

/// A folder of releases in a temporary folder.
pub(crate) fn releases(folder: &Path) -> Releases {
    Releases::prepare(folder.join("releases")).unwrap()
}

/// Every file below a folder, by its path, sorted.
pub(crate) fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(inside) = pending.pop() {
        for entry in fs::read_dir(folder.join(&inside)).unwrap().flatten() {
            let path = inside.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                pending.push(path);
            } else {
                found.insert(path.to_str().unwrap().to_owned(), fs::read(entry.path()).unwrap());
            }
        }
    }
    found
}

/// Names in a folder.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// An export in memory.
pub(crate) fn export(releases: &Releases, digest: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    releases.export(digest, &mut bytes).unwrap();
    bytes
}
