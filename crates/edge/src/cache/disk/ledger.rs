//! The purges that files may not know of yet, on disk before they are answered: one JSON value a line.

use astraler_model::{Environment, PurgeWhat};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

/// A longer file is none of ours: purges are forgotten once all files were looked through.
const MAX_LINES: usize = 1_000_000;
/// Numbers that one process can give.
const PER_PROCESS: u64 = 1 << 32;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    /// No number was given that is greater.
    Began(u64),
    Purge(Rule),
}

/// A purge with its number.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Rule {
    pub(super) number: u64,
    pub(super) environment: Option<Environment>,
    pub(super) what: PurgeWhat,
}

#[derive(Debug)]
pub(super) struct Ledger {
    path: PathBuf,
    file: File,
    first: u64,
}

impl Ledger {
    /// Reads what there is and begins numbers of its own, greater than all before.
    pub(super) fn open(path: PathBuf) -> io::Result<(Self, Vec<Rule>)> {
        let mut rules = Vec::new();
        let mut greatest = 0;
        match File::open(&path) {
            Ok(file) => {
                for line in BufReader::new(file).split(b'\n').take(MAX_LINES) {
                    // The last one may be cut: it was not answered.
                    match serde_json::from_slice(&line?) {
                        Ok(Line::Began(number)) => greatest = greatest.max(number),
                        Ok(Line::Purge(rule)) => {
                            greatest = greatest.max(rule.number);
                            rules.push(rule);
                        }
                        Err(_) => {}
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let first = (greatest / PER_PROCESS + 1) * PER_PROCESS;
        let file = rewrite(&path, first, &rules)?;
        Ok((Self { path, file, first }, rules))
    }

    /// The first number of this process.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// Returns when they are on disk.
    pub(super) fn append(&mut self, rules: &[Rule]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for rule in rules {
            serde_json::to_writer(&mut bytes, &Line::Purge(rule.clone()))?;
            bytes.push(b'\n');
        }
        self.file.write_all(&bytes)?;
        self.file.sync_data()
    }

    /// Keeps only these.
    pub(super) fn keep(&mut self, rules: &[Rule]) -> io::Result<()> {
        self.file = rewrite(&self.path, self.first, rules)?;
        Ok(())
    }
}

fn rewrite(path: &Path, first: u64, rules: &[Rule]) -> io::Result<File> {
    let beside = path.with_extension("new");
    let mut bytes = serde_json::to_vec(&Line::Began(first))?;
    bytes.push(b'\n');
    for rule in rules {
        serde_json::to_writer(&mut bytes, &Line::Purge(rule.clone()))?;
        bytes.push(b'\n');
    }
    let mut file = File::create(&beside)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    OpenOptions::new().append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purges_outlive_the_process_and_numbers_only_grow() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("purges");
        let (mut ledger, rules) = Ledger::open(path.clone()).unwrap();
        assert!(rules.is_empty());
        let rule = |number| Rule {
            number,
            environment: None,
            what: PurgeWhat::Everything,
        };
        let first = ledger.first();
        ledger.append(&[rule(first + 1)]).unwrap();
        // Cut off in the middle of the next one.
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(br#"{"purge":{"number":9"#).unwrap();
        let (mut ledger, rules) = Ledger::open(path.clone()).unwrap();
        assert_eq!(rules.len(), 1);
        assert!(ledger.first() > first + 1);
        ledger.keep(&[]).unwrap();
        let (third, rules) = Ledger::open(path).unwrap();
        assert!(rules.is_empty());
        assert!(third.first() > ledger.first());
    }
}
