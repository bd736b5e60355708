//! The blocking suite at paranoia level 1: what ModSecurity 3 with the same rules blocks and lets pass, so do we, and
//! for the same rules.
//!
//! The requests are frozen, see `tests/data/blocking/README.md`; `cargo xtask waf-verdicts` asks ModSecurity.

mod read;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use astraler_waf::compile::Program;
use astraler_waf::engine::Report;
use astraler_waf::seclang::Rules;
use astraler_waf::suite;
use read::Said;

/// Where another verdict is given or other rules match, each with its reason: `ID: reason`.
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
    let rules = Rules::base()
        .text("SecRuleEngine On\n", Path::new("test.conf"))
        .files(&files);
    Some(Program::new(&rules).unwrap())
}

/// The rules that decide: those from 980000 on only sum up for the log.
fn decisive(rules: impl Iterator<Item = u64>) -> BTreeSet<u64> {
    rules.filter(|id| !(980_000..990_000).contains(id)).collect()
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
            let theirs_named = decisive(rules.split(',').filter_map(|id| id.parse().ok()));
            let ours_named = decisive(report.iter().flat_map(|one| &one.matches).map(|one| one.rule));
            let same = ours == *theirs && ours_named == theirs_named;
            let is_listed = listed.contains_key(asked.id.as_str());
            if same == is_listed {
                surprises.push(format!(
                    "{} ({}): ModSecurity {theirs:?} {theirs_named:?}, ours {ours:?} {status} {ours_named:?}, listed: {is_listed}",
                    asked.id, asked.kind,
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
    assert_eq!(
        count("benign.jsonl", "Pass", "Block"),
        0,
        "false positives of our own"
    );
    assert!(
        count("attacks.jsonl", "Block", "Block") >= 500,
        "too few attacks are blocked"
    );
}

#[test]
fn pauses_between_the_phases_change_nothing() {
    let Some(program) = program() else { return };
    for file in ["benign.jsonl", "attacks.jsonl"] {
        for asked in read::requests(file).unwrap() {
            let at_once = suite::send(&program, &asked.bytes);
            let in_turns = suite::send_in_turns(&program, &asked.bytes);
            let told = |(status, report): (u16, Option<Report>)| {
                let report = report.map(|report| {
                    let scores = (report.inbound_score, report.outbound_score);
                    format!("{:?} {:?} {scores:?}", report.matches, report.interruption)
                });
                (status, report)
            };
            assert_eq!(told(in_turns), told(at_once), "{}", asked.id);
        }
    }
}

#[test]
fn ordinary_document_types_pass() {
    let Some(program) = program() else { return };
    let svg = "<!DOCTYPE svg PUBLIC \"-//W3C//DTD SVG 1.1//EN\" \"http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd\" \
               [<!ENTITY ns_svg \"http://www.w3.org/2000/svg\">]>\n<svg><text>Hello</text></svg>";
    let list = "<!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \
                \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n<plist><string>Hello</string></plist>";
    let fetched = "<!DOCTYPE a [<!ENTITY f SYSTEM \"file:///etc/passwd\">]>\n<a>&f;</a>";
    for (body, expected) in [(svg, 200), (list, 200), (fetched, 403)] {
        let document = format!("<?xml version=\"1.0\"?>\n{body}");
        let request = format!(
            "POST /documents HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: Mozilla/5.0\r\nAccept: */*\r\n\
             Content-Type: application/xml\r\nContent-Length: {}\r\n\r\n{document}",
            document.len()
        );
        let (status, report) = suite::send(&program, request.as_bytes());
        assert_eq!(status, expected, "{body}: {:?}", report.unwrap().matches);
    }
}
