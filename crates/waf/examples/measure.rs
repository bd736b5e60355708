//! What transactions cost: CPU time for each kind, time to compile, memory.
//!
//! `measure CRS-FOLDER`: the folder holds `crs-setup.conf.example` and `rules`.
#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};
use std::time::Instant;

use astraler_waf::compile::Program;

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = vec![folder.join("crs-setup.conf.example")];
    files.retain(|file| file.exists());
    let mut rules: Vec<PathBuf> = std::fs::read_dir(folder.join("rules"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "conf"))
        .collect();
    rules.sort();
    files.extend(rules);
    files
}

fn main() {
    let folder = std::env::args().nth(1).unwrap();
    let start = Instant::now();
    let directives = astraler_waf::seclang::read_files(&files(Path::new(&folder))).unwrap_or_else(|error| {
        println!("{error}");
        std::process::exit(1);
    });
    println!("read      {:?}", start.elapsed());
    let start = Instant::now();
    let program = Program::new(&directives).unwrap_or_else(|error| {
        println!("{error}");
        std::process::exit(1);
    });
    println!("compile   {:?}", start.elapsed());
    println!("rules     {}", program.rules().count());
    println!("searches  {} KB", program.search_bytes() / 1024);
    for warning in program.warnings() {
        println!("warning   {warning}");
    }
    println!("RSS       {} KB", resident());
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
