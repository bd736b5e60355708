//! `cargo xtask tidy`: the repository's own rules, each a function from files to findings.

mod docs;
mod layers;
mod text;

use crate::{Failure, output};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Something that breaks a rule: where, and what to do.
type Finding = String;

/// Every file of the repository, by its path from the root; texts only.
struct Tree {
    texts: BTreeMap<PathBuf, String>,
    /// All paths, also those that are no text.
    paths: Vec<PathBuf>,
}

pub(crate) fn run(root: &Path) -> Result<(), Failure> {
    let tree = Tree::load(root)?;
    let findings = all(&tree);
    if findings.is_empty() {
        println!("tidy: {} files, nothing to say", tree.paths.len());
        return Ok(());
    }
    Err(format!(
        "{}\ntidy: {} finding(s)",
        findings.join("\n"),
        findings.len()
    ))
}

fn all(tree: &Tree) -> Vec<Finding> {
    let rules: [fn(&Tree) -> Vec<Finding>; 10] = [
        layers::dependencies_point_downwards,
        docs::every_crate_is_in_architecture,
        docs::every_lib_opens_with_its_documentation,
        docs::links_resolve,
        docs::root_files_are_there,
        docs::decisions_are_numbered,
        text::files_are_short,
        text::nothing_is_left_to_do,
        text::no_test_is_skipped_without_a_reason,
        text::no_place_of_work_is_named,
    ];
    rules.iter().flat_map(|rule| rule(tree)).collect()
}

/// The files of the repository: tracked ones, and new ones that git does not ignore.
pub(crate) fn tracked(root: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut git = Command::new("git");
    git.current_dir(root)
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let names = output(&mut git)?;
    let mut paths: Vec<PathBuf> = names
        .split('\0')
        .filter(|name| !name.is_empty())
        .map(PathBuf::from)
        .collect();
    paths.retain(|path| root.join(path).is_file());
    paths.sort();
    paths.dedup();
    Ok(paths)
}

impl Tree {
    fn load(root: &Path) -> Result<Self, Failure> {
        let paths = tracked(root)?;
        let mut texts = BTreeMap::new();
        for path in &paths {
            let bytes =
                std::fs::read(root.join(path)).map_err(|error| format!("{}: {error}", path.display()))?;
            if let Ok(text) = String::from_utf8(bytes) {
                texts.insert(path.clone(), text);
            }
        }
        Ok(Self { texts, paths })
    }

    fn text(&self, path: &str) -> Option<&str> {
        self.texts.get(Path::new(path)).map(String::as_str)
    }

    fn with_extension<'a>(&'a self, extension: &'a str) -> impl Iterator<Item = (&'a Path, &'a str)> {
        self.texts
            .iter()
            .filter(move |(path, _)| path.extension().is_some_and(|found| found == extension))
            .map(|(path, text)| (path.as_path(), text.as_str()))
    }

    /// The crates' folders below `crates/`, with their manifests.
    fn crates(&self) -> impl Iterator<Item = (&str, &str)> {
        self.texts.iter().filter_map(|(path, text)| {
            let name = path
                .to_str()?
                .strip_prefix("crates/")?
                .strip_suffix("/Cargo.toml")?;
            (!name.contains('/')).then_some((name, text.as_str()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A repository of these files.
    pub(super) fn tree(files: &[(&str, &str)]) -> Tree {
        let texts: BTreeMap<_, _> = files
            .iter()
            .map(|(path, text)| (PathBuf::from(path), (*text).to_owned()))
            .collect();
        Tree {
            paths: texts.keys().cloned().collect(),
            texts,
        }
    }

    /// Tidy is a test too, so that an editor's test runner shows what CI would say.
    #[test]
    fn this_repository_is_tidy() {
        let tree = Tree::load(&crate::root()).unwrap();
        let findings = all(&tree);
        assert!(findings.is_empty(), "{}", findings.join("\n"));
        assert!(tree.crates().count() > 10);
    }
}
