//! Embeds the starter application: the files of `starter/` that are sources, not what building it leaves.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Folders that building or testing the starter makes.
const LEFT_OUT: &[&str] = &[
    "node_modules",
    "dist",
    "coverage",
    "test-results",
    ".astraler",
    ".wrangler",
];

fn main() {
    let starter = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../starter");
    let mut files = Vec::new();
    collect(&starter, &mut files);
    files.sort();
    let mut code = String::from("&[\n");
    for file in files {
        println!("cargo:rerun-if-changed={}", file.display());
        let name = file
            .strip_prefix(&starter)
            .expect("below starter")
            .display()
            .to_string();
        writeln!(
            code,
            "    ({name:?}, include_bytes!({:?}).as_slice()),",
            file.display().to_string()
        )
        .expect("writing to a string");
    }
    code.push_str("]\n");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("starter.rs");
    #[expect(
        clippy::disallowed_methods,
        reason = "a build that is interrupted is run again"
    )]
    std::fs::write(out, code).expect("OUT_DIR is writable");
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if LEFT_OUT.iter().any(|left_out| name == *left_out) || name.to_string_lossy().ends_with(".log") {
            continue;
        }
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push(path);
        }
    }
}
