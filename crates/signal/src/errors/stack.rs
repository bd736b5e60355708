//! V8's stacks, and the maps that lead from a bundle to its sources.

use serde::{Deserialize, Serialize};
use sourcemap::SourceMap;
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// Calls of a stack that are looked at.
const MAX_FRAMES: usize = 50;
/// A larger map is not read.
const MAX_MAP_BYTES: u64 = 32 << 20;
/// Maps that are held at once.
const MAX_MAPS: usize = 2;

/// One call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// The function, when it has a name.
    pub function: Option<String>,
    /// The file: of the sources when there is a map, else of the bundle.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
    /// Whether it is a place in the sources.
    pub mapped: bool,
}

/// `    at inner (index.js:2:20)` and `    at index.js:2:20`, a line each. What is neither is left out.
pub(super) fn frames(stack: &str) -> Vec<Frame> {
    stack.lines().take(MAX_FRAMES).filter_map(frame).collect()
}

fn frame(line: &str) -> Option<Frame> {
    let rest = line.trim().strip_prefix("at ")?;
    let (function, place) = match rest.strip_suffix(')').and_then(|rest| rest.rsplit_once(" (")) {
        Some((function, place)) => (Some(function.to_owned()), place),
        None => (None, rest),
    };
    let (rest, column) = place.rsplit_once(':')?;
    let (file, line) = rest.rsplit_once(':')?;
    Some(Frame {
        function,
        file: file.to_owned(),
        line: line.parse().ok()?,
        column: column.parse().ok()?,
        mapped: false,
    })
}

/// Maps that were read, by their file. A file that is none is remembered as that.
#[derive(Default)]
pub(super) struct Maps(BTreeMap<PathBuf, Option<SourceMap>>);

impl std::fmt::Debug for Maps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

impl Maps {
    /// Replaces places in a bundle by those in the sources, as far as the maps in the bundle's folder know them.
    pub(super) fn apply(&mut self, bundle: &Path, frames: &mut [Frame]) {
        for frame in frames {
            let file = Path::new(&frame.file);
            // A module's name comes from the worker: it leads nowhere but into its own folder.
            if !file.components().all(|part| matches!(part, Component::Normal(_))) {
                continue;
            }
            let Some(map) = self.of(&bundle.join(format!("{}.map", frame.file))) else {
                continue;
            };
            let (line, column) = (frame.line.saturating_sub(1), frame.column.saturating_sub(1));
            let Some(token) = map.lookup_token(line, column) else {
                continue;
            };
            let Some(source) = token.get_source() else {
                continue;
            };
            *frame = Frame {
                function: token
                    .get_name()
                    .map(str::to_owned)
                    .filter(|_| frame.function.is_none())
                    .or_else(|| frame.function.take()),
                file: source.trim_start_matches("../").to_owned(),
                line: token.get_src_line() + 1,
                column: token.get_src_col() + 1,
                mapped: true,
            };
        }
    }

    fn of(&mut self, path: &Path) -> Option<&SourceMap> {
        if !self.0.contains_key(path) {
            if self.0.len() >= MAX_MAPS {
                self.0.clear();
            }
            let map = std::fs::metadata(path)
                .ok()
                .filter(|found| found.len() <= MAX_MAP_BYTES)
                .and_then(|_| std::fs::read(path).ok())
                .and_then(|bytes| SourceMap::from_slice(&bytes).ok());
            self.0.insert(path.to_owned(), map);
        }
        self.0.get(path)?.as_ref()
    }

    /// Gives their memory back.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_of_v8_are_read() {
        let stack = "    at inner (index.js:2:20)\n    at index.js:3:4\n    at async Object.fetch (a/b.js:12:5)\n    at native\nx";
        let found: Vec<String> = frames(stack)
            .iter()
            .map(|frame| {
                format!(
                    "{:?} {} {} {}",
                    frame.function, frame.file, frame.line, frame.column
                )
            })
            .collect();
        assert_eq!(
            found,
            [
                "Some(\"inner\") index.js 2 20",
                "None index.js 3 4",
                "Some(\"async Object.fetch\") a/b.js 12 5"
            ]
        );
        assert_eq!(frames(&"    at index.js:3:4\n".repeat(1_000)).len(), MAX_FRAMES);
    }

    #[test]
    fn a_place_in_the_bundle_becomes_one_in_the_sources() {
        let folder = tempfile::tempdir().unwrap();
        let mut map = sourcemap::SourceMapBuilder::new(Some("index.js"));
        map.add(1, 19, 40, 8, Some("../../src/index.ts"), Some("inner"), false);
        let mut bytes = Vec::new();
        map.into_sourcemap().to_writer(&mut bytes).unwrap();
        std::fs::File::create(folder.path().join("index.js.map"))
            .and_then(|mut file| std::io::Write::write_all(&mut file, &bytes))
            .unwrap();
        let mut found = frames("    at index.js:2:20\n    at x (other.js:2:20)\n    at y (../index.js:2:20)");
        Maps::default().apply(folder.path(), &mut found);
        assert_eq!(
            found[0],
            Frame {
                function: Some("inner".into()),
                file: "src/index.ts".into(),
                line: 41,
                column: 9,
                mapped: true
            }
        );
        assert!(!found[1].mapped && !found[2].mapped);
    }
}
