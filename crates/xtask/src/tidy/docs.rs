//! Documents say what is there, and point at what is there.

use super::{Finding, Tree};
use std::path::{Component, Path, PathBuf};

pub(super) fn every_crate_is_in_architecture(tree: &Tree) -> Vec<Finding> {
    let text = tree.text("ARCHITECTURE.md").unwrap_or_default();
    let missing = tree
        .crates()
        .filter(|(name, _)| !text.contains(&format!("`crates/{name}`")));
    missing
        .map(|(name, _)| format!("ARCHITECTURE.md: the code map does not name `crates/{name}`"))
        .collect()
}

pub(super) fn every_lib_opens_with_its_documentation(tree: &Tree) -> Vec<Finding> {
    let roots = tree.with_extension("rs").filter(|(path, _)| {
        path.starts_with("crates")
            && path.components().count() == 4
            && (path.ends_with("src/lib.rs") || path.ends_with("src/main.rs"))
    });
    roots
        .filter(|(_, text)| !text.starts_with("//! "))
        .map(|(path, _)| {
            format!(
                "{}:1: opens with `//!`: what it is, for whom, and what it does not know",
                path.display()
            )
        })
        .collect()
}

pub(super) fn root_files_are_there(tree: &Tree) -> Vec<Finding> {
    let needed = [
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "Makefile",
        "README.md",
        "deny.toml",
        ".ci/run",
        "docs/skipped-tests.md",
    ];
    let missing = needed.iter().filter(|name| tree.text(name).is_none());
    let mut findings: Vec<Finding> = missing.map(|name| format!("{name}: it is missing")).collect();
    if tree
        .text("CHANGELOG.md")
        .is_some_and(|text| !text.contains("## [Unreleased]"))
    {
        findings.push("CHANGELOG.md: it has no section `## [Unreleased]`".into());
    }
    findings
}

/// Decisions are named `NNNN-…md`, from 0001 without a gap, so that a number names one for good.
pub(super) fn decisions_are_numbered(tree: &Tree) -> Vec<Finding> {
    let numbers: Vec<Option<usize>> = tree
        .paths
        .iter()
        .filter_map(|path| path.strip_prefix("docs/decisions").ok()?.to_str())
        .filter(|name| name.ends_with(".md") && *name != "template.md" && *name != "README.md")
        .map(|name| {
            name.split_once('-')
                .and_then(|(number, _)| number.parse().ok().filter(|_| number.len() == 4))
        })
        .collect();
    let expected: Vec<Option<usize>> = (1..=numbers.len()).map(Some).collect();
    if numbers == expected {
        return vec![];
    }
    vec![format!(
        "docs/decisions: expected one file for each of 0001 to {:04}, found {numbers:?}",
        numbers.len()
    )]
}

/// Relative links in Markdown lead to a file or folder of the repository.
pub(super) fn links_resolve(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.with_extension("md") {
        for (line, target) in links(text) {
            let target = target.split(['#', '?']).next().unwrap_or_default();
            let remote = target.contains("://") || target.starts_with("mailto:");
            if target.is_empty() || remote {
                continue;
            }
            let resolved = resolve(path, target);
            let known = |wanted: &Path| tree.paths.iter().any(|path| path.starts_with(wanted));
            if !resolved.as_deref().is_some_and(known) {
                findings.push(format!(
                    "{}:{line}: the link `{target}` leads nowhere",
                    path.display()
                ));
            }
        }
    }
    findings
}

/// `](target)` and `[label]: target` outside code, with their line numbers.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut in_code = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        // Every second piece between backticks is code.
        let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("``");
        for piece in prose.split("](").skip(1) {
            let target = piece.split([')', ' ']).next().unwrap_or_default();
            found.push((index + 1, target.trim_matches(['<', '>']).to_owned()));
        }
        let definition = prose
            .trim_start()
            .strip_prefix('[')
            .and_then(|rest| rest.split_once("]: "))
            .filter(|(label, _)| !label.contains(']'));
        found.extend(
            definition
                .and_then(|(_, rest)| rest.split_whitespace().next())
                .map(|t| (index + 1, t.to_owned())),
        );
    }
    found
}

/// The path from the root that a link in a file means; none when it leaves the repository.
fn resolve(file: &Path, target: &str) -> Option<PathBuf> {
    let mut resolved = match target.strip_prefix('/') {
        Some(_) => PathBuf::new(),
        None => file.parent()?.to_owned(),
    };
    for component in Path::new(target.trim_start_matches('/')).components() {
        let inside = match component {
            Component::Normal(name) => {
                resolved.push(name);
                true
            }
            Component::ParentDir => resolved.pop(),
            _ => true,
        };
        if !inside {
            return None;
        }
    }
    Some(resolved)
}

#[cfg(test)]
mod tests {
    use super::super::tests::tree;
    use super::*;

    #[test]
    fn broken_links_are_found_and_good_ones_are_not() {
        let text = "[a](b.md) [c](../x.md#part) [r]: docs/\n`[code](no.md)` [w](https://e.org/no) [m](#here)\n```\n[d](no2.md)\n```\n[bad](no3.md) ![img](img/no4.png)\n[out](../../etc)\n[ref]: no5.md\n";
        let repository = tree(&[
            ("docs/a.md", text),
            ("docs/b.md", ""),
            ("x.md", "[d](docs) [e](docs/b.md)"),
        ]);
        let found = links_resolve(&repository);
        assert_eq!(
            found,
            [
                "docs/a.md:6: the link `no3.md` leads nowhere",
                "docs/a.md:6: the link `img/no4.png` leads nowhere",
                "docs/a.md:7: the link `../../etc` leads nowhere",
                "docs/a.md:8: the link `no5.md` leads nowhere",
            ]
        );
    }

    #[test]
    fn a_crate_that_the_map_does_not_name_is_found() {
        let repository = tree(&[
            ("ARCHITECTURE.md", "`crates/a`"),
            ("crates/a/Cargo.toml", ""),
            ("crates/b/Cargo.toml", ""),
        ]);
        assert_eq!(
            every_crate_is_in_architecture(&repository),
            ["ARCHITECTURE.md: the code map does not name `crates/b`"]
        );
    }

    #[test]
    fn a_lib_without_its_first_words_is_found() {
        let files = [
            ("crates/a/src/lib.rs", "//! A.\n"),
            ("crates/b/src/lib.rs", "mod x;\n"),
            ("crates/a/src/x/lib.rs", ""),
        ];
        let found = every_lib_opens_with_its_documentation(&tree(&files));
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("crates/b/src/lib.rs:1"));
    }

    #[test]
    fn gaps_and_twins_among_decisions_are_found() {
        let names = |names: &[&str]| {
            let files: Vec<String> = names
                .iter()
                .map(|name| format!("docs/decisions/{name}"))
                .collect();
            decisions_are_numbered(&tree(&files.iter().map(|f| (f.as_str(), "")).collect::<Vec<_>>())).len()
        };
        assert_eq!(names(&["0001-a.md", "0002-b.md", "template.md"]), 0);
        assert_eq!(names(&["0001-a.md", "0003-b.md"]), 1);
        assert_eq!(names(&["0001-a.md", "0001-b.md"]), 1);
        assert_eq!(names(&["1-a.md"]), 1);
    }
}
