//! The blocking suite at paranoia level 1: what ModSecurity 3 with the same rules blocks and lets pass, so do we.
//!
//! The requests are frozen, see `tests/data/blocking/README.md`; `cargo xtask waf-verdicts` asks ModSecurity.

mod read;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use astraler_waf::compile::Program;
use astraler_waf::{BASE, seclang, suite};
use read::Said;

/// Where we decide otherwise, each with its reason: `ID: reason`.
const DIFFERENCES: &str = include_str!("../data/blocking/differences.txt");

fn program() -> Option<Program> {
    let crs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/suites/crs");
    if !crs.exists() {
        eprintln!(
            "SKIPPED: {} is not there: the blocking suite did not run",
            crs.display()
        );
        return None;
    }
    let mut files: Vec<PathBuf> = vec![crs.join("crs-setup.conf.example")];
    files.extend(suite::rule_files(&crs.join("rules")));
    let mut directives = seclang::read_text(BASE, Path::new("base.conf")).unwrap();
    directives.extend(seclang::read_text("SecRuleEngine On\n", Path::new("test.conf")).unwrap());
    directives.extend(seclang::read_files(&files).unwrap());
    Some(Program::new(&directives).unwrap())
}

#[test]
fn what_modsecurity_decides() {
    let Some(program) = program() else { return };
    let verdicts = read::verdicts().unwrap();
    let listed: BTreeMap<&str, &str> = DIFFERENCES
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(": "))
        .collect();
    let mut surprises = Vec::new();
    let mut counts = BTreeMap::new();
    for file in ["benign.jsonl", "attacks.jsonl"] {
        let requests = read::requests(file).unwrap();
        assert!(requests.len() >= 500, "{file} has {} requests", requests.len());
        for asked in &requests {
            let (theirs, rules) = &verdicts[&asked.id];
            let (status, report) = suite::send(&program, &asked.bytes);
            let ours = match status {
                200 => Said::Pass,
                _ => Said::Block,
            };
            *counts
                .entry((file, format!("{theirs:?}"), format!("{ours:?}")))
                .or_insert(0_usize) += 1;
            if let Some(report) = &report {
                let silent = |id: &u64| !matches!(id, 980_000..990_000);
                let mut a: Vec<u64> = report.matches.iter().map(|one| one.rule).filter(silent).collect();
                let mut b: Vec<u64> = rules.split(',').filter_map(|id| id.parse().ok()).filter(silent).collect();
                a.sort(); a.dedup(); b.sort(); b.dedup();
                if a != b {
                    let only_a: Vec<_> = a.iter().filter(|x| !b.contains(x)).collect();
                    let only_b: Vec<_> = b.iter().filter(|x| !a.contains(x)).collect();
                    eprintln!("DIFF {} {} ours only {only_a:?} theirs only {only_b:?}", asked.id, asked.kind);
                }
            }
            let is_listed = listed.contains_key(asked.id.as_str());
            if (ours == *theirs) == is_listed {
                let matched = report.map_or_else(Vec::new, |report| {
                    let shown = |one: &astraler_waf::engine::Match| format!("{} in {}", one.rule, one.variable);
                    report.matches.iter().map(shown).collect::<Vec<_>>()
                });
                surprises.push(format!(
                    "{} ({}): ModSecurity {theirs:?} [{rules}], ours {ours:?} {status} [{}], listed {is_listed}",
                    asked.id,
                    asked.kind,
                    matched.join(", ")
                ));
            }
        }
    }
    for ((file, theirs, ours), count) in &counts {
        eprintln!("{file}: ModSecurity {theirs}, ours {ours}: {count}");
    }
    assert!(surprises.is_empty(), "{}", surprises.join("\n"));
    let count = |file, theirs: &str, ours: &str| {
        let key = (file, theirs.to_owned(), ours.to_owned());
        counts.get(&key).copied().unwrap_or(0)
    };
    assert_eq!(count("benign.jsonl", "Pass", "Block"), 0, "false positives of our own");
    assert!(
        count("attacks.jsonl", "Block", "Block") >= 500,
        "too few attacks are blocked"
    );
}
