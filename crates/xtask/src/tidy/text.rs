//! What source files must not hold.

use super::{Finding, Tree};
use std::path::Path;

const MAX_LINES: usize = 800;
/// Where the reason of every skipped test stands.
const SKIPPED: &str = "docs/skipped-tests.md";

pub(super) fn files_are_short(tree: &Tree) -> Vec<Finding> {
    let source = ["rs", "ts", "sh", "sql"]
        .into_iter()
        .flat_map(|extension| tree.with_extension(extension));
    source
        .filter_map(|(path, text)| {
            let lines = text.lines().count();
            (lines > MAX_LINES).then(|| {
                format!(
                    "{}: {lines} lines, at most {MAX_LINES}: split it along its subjects",
                    path.display()
                )
            })
        })
        .collect()
}

pub(super) fn nothing_is_left_to_do(tree: &Tree) -> Vec<Finding> {
    // Put together here, so that this file does not hold them.
    let words = [
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("db", "g!("),
        concat!("FIX", "ME"),
    ];
    matching(tree, "rs", &words, "finish it, or open an issue and leave it out")
}

/// `#[ignore]` in Rust; `.skip(` and `.only(` on a test in TypeScript: the first two must be listed, the last
/// is never right, because it skips all others.
pub(super) fn no_test_is_skipped_without_a_reason(tree: &Tree) -> Vec<Finding> {
    let listed = tree.text(SKIPPED).unwrap_or_default();
    let mut findings = Vec::new();
    for (path, text) in tree.with_extension("rs") {
        let lines: Vec<&str> = text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let attribute = line.trim_start();
            let sometimes =
                attribute.starts_with("#[cfg_attr(") && attribute.contains(concat!(", ig", "nore"));
            if !sometimes && !attribute.starts_with(concat!("#[ig", "nore")) {
                continue;
            }
            let name = lines[index..].iter().find_map(|line| {
                let (_, rest) = line.split_once("fn ")?;
                rest.split('(').next()
            });
            let name = name.unwrap_or("?");
            if !listed.contains(&format!("`{name}`")) {
                let place = format!("{}:{}", path.display(), index + 1);
                findings.push(format!(
                    "{place}: `{name}` is skipped, and {SKIPPED} does not say why"
                ));
            }
        }
    }
    let only = [
        concat!("test.on", "ly("),
        concat!("it.on", "ly("),
        concat!("describe.on", "ly("),
    ];
    findings.extend(matching(tree, "ts", &only, "it skips every other test"));
    for (path, text) in tree.with_extension("ts") {
        for (index, line) in text.lines().enumerate() {
            let skips = ["test", "it", "describe"]
                .iter()
                .any(|word| line.contains(&format!("{word}.{}", concat!("sk", "ip("))));
            let name = line.split(['\'', '"', '`']).nth(1).unwrap_or("?");
            if skips && !listed.contains(&format!("`{name}`")) {
                let place = format!("{}:{}", path.display(), index + 1);
                findings.push(format!(
                    "{place}: `{name}` is skipped, and {SKIPPED} does not say why"
                ));
            }
        }
    }
    findings
}

/// Paths of one machine and addresses of package registries have no place in a repository: lock files are made
/// without addresses (`omit-lockfile-registry-resolved` of npm; pnpm's hold none).
pub(super) fn no_place_of_work_is_named(tree: &Tree) -> Vec<Finding> {
    let places = [
        concat!("/wo", "rk/"),
        concat!("/home/", "runner/"),
        concat!("/ro", "ot/.cargo"),
        concat!("\"reso", "lved\": \"http"),
    ];
    let mut findings = Vec::new();
    for (path, text) in &tree.texts {
        for (index, line) in text.lines().enumerate() {
            for place in places
                .iter()
                .filter(|place| line.contains(**place) && !allowed(line, place))
            {
                findings.push(format!(
                    "{}:{}: names `{place}`, which is of one machine only",
                    path.display(),
                    index + 1
                ));
            }
        }
    }
    findings
}

/// A longer path that only contains the word, such as `docs/network/`, is none.
fn allowed(line: &str, place: &str) -> bool {
    place.starts_with('/')
        && line.match_indices(place).all(|(at, _)| {
            line[..at]
                .chars()
                .next_back()
                .is_some_and(|before| before.is_alphanumeric() || "./-_}".contains(before))
        })
}

fn matching(tree: &Tree, extension: &str, words: &[&str], then: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree
        .with_extension(extension)
        .filter(|(path, _)| !generated(path))
    {
        for (index, line) in text.lines().enumerate() {
            for word in words.iter().filter(|word| line.contains(**word)) {
                findings.push(format!("{}:{}: `{word}`: {then}", path.display(), index + 1));
            }
        }
    }
    findings
}

fn generated(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "node_modules")
}

#[cfg(test)]
mod tests {
    use super::super::tests::tree;
    use super::*;

    #[test]
    fn long_files_and_unfinished_work_are_found() {
        let long = "\n".repeat(MAX_LINES + 1);
        let unfinished = format!("fn a() {{ {}) }}", concat!("to", "do!("));
        let repository = tree(&[("a.rs", &long), ("b.rs", &unfinished), ("c.json", &long)]);
        assert_eq!(files_are_short(&repository).len(), 1);
        assert!(nothing_is_left_to_do(&repository)[0].starts_with("b.rs:1"));
    }

    #[test]
    fn a_skipped_test_needs_a_reason() {
        let rust = concat!("#[test]\n#[ig", "nore]\nfn slow() {}\n");
        let script = concat!(
            "test.sk",
            "ip('later', () => {})\nit.on",
            "ly('mine', () => {})\n"
        );
        let files = [("a.rs", rust), ("b.ts", script)];
        assert_eq!(no_test_is_skipped_without_a_reason(&tree(&files)).len(), 3);
        let listed = [
            files[0],
            files[1],
            (SKIPPED, "- `slow`: needs a second machine\n- `later`: …"),
        ];
        let found = no_test_is_skipped_without_a_reason(&tree(&listed));
        let sometimes = concat!("#[cfg_attr(not(linux), ig", "nore)]\nfn elsewhere() {}\n");
        assert_eq!(
            no_test_is_skipped_without_a_reason(&tree(&[("c.rs", sometimes)])).len(),
            1
        );
        assert_eq!(found.len(), 1, "what skips all others is never right: {found:?}");
    }

    #[test]
    fn places_of_work_are_found_and_paths_like_them_are_not() {
        let bad = concat!("see /wo", "rk/main\n");
        let good = concat!("see docs/wo", "rk/main and ./wo", "rk/x\n");
        let lock = concat!("\"reso", "lved\": \"https://registry.example/x.tgz\"");
        let found = no_place_of_work_is_named(&tree(&[
            ("a.md", bad),
            ("b.md", good),
            ("package-lock.json", lock),
        ]));
        assert_eq!(found.len(), 2, "{found:?}");
    }
}
