//! The Core Rule Set: its rules compile, and its own regression files pass.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use astraler_waf::suite::{self, Verdict};

/// The tests that fail, each with its reason: `NAME: reason`.
const KNOWN: &str = include_str!("data/crs_known.txt");

fn crs() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/suites/crs");
    if folder.exists() {
        return Some(folder);
    }
    eprintln!(
        "SKIPPED: {} is not there: the Core Rule Set's own tests did not run",
        folder.display()
    );
    None
}

#[test]
fn the_regression_files_pass() {
    let Some(folder) = crs() else { return };
    let setup = folder.join("crs-setup.conf.example");
    let program = suite::program(&folder.join("rules"), Some(&setup)).unwrap();
    let cases = suite::read(&folder.join("tests")).unwrap();
    let known: BTreeMap<&str, &str> = KNOWN
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(": "))
        .collect();
    let mut failed = 0;
    let mut surprises = Vec::new();
    for case in &cases {
        let is_known = known.contains_key(case.name.as_str());
        match suite::run(&program, case) {
            Verdict::Passed if is_known => {
                surprises.push(format!("{} passes: take it off the list", case.name));
            }
            Verdict::Passed => {}
            Verdict::Failed(why) | Verdict::Skipped(why) => {
                failed += 1;
                if !is_known {
                    surprises.push(format!("{}: {why}", case.name));
                }
            }
        }
    }
    eprintln!("{} passed, {failed} failed, 0 skipped", cases.len() - failed);
    assert!(surprises.is_empty(), "{}", surprises.join("\n"));
    assert!(cases.len() > 3000, "only {} tests were found", cases.len());
    assert!(failed * 100 <= cases.len(), "{failed} of {} fail", cases.len());
}

#[test]
fn the_distributions_rules_compile() {
    let folder = Path::new("/usr/share/modsecurity-crs/rules");
    if !folder.exists() {
        eprintln!(
            "SKIPPED: {} is not there: the package modsecurity-crs is not installed",
            folder.display()
        );
        return;
    }
    let program = suite::program(folder, None).unwrap();
    assert!(program.rules().count() > 400);
    for warning in program.warnings() {
        assert!(warning.message.contains("@rbl"), "{warning}");
    }
}
