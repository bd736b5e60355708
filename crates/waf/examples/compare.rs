//! `cargo xtask waf-compare`: asks ModSecurity 3, in nginx, and this engine about requests that are made from the rules
//! themselves: texts that a rule's pattern matches, in the places that the rule looks at. At paranoia level 4, detecting
//! only, so that every rule is asked. Prints which rules matched on one side only: `compare CRS-FOLDER [TIMES [RULE]]`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    missing_docs
)]

#[path = "../benches/waf/peer.rs"]
mod peer;
#[path = "compare/request.rs"]
mod request;
#[path = "compare/text.rs"]
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use astraler_waf::compile::Program;
use astraler_waf::seclang::{DirectiveKind, Rules};
use astraler_waf::suite;
use peer::{Connection, Peer, With};
use request::{Asked, places};
use text::{Chance, Maker};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let mut arguments = std::env::args().skip(1);
    let crs = arguments.next().map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/suites/crs"),
        PathBuf::from,
    );
    let times: usize = arguments.next().map_or(Ok(3), |text| {
        text.parse().map_err(|_| format!("{text} is no number of times"))
    })?;
    let only: Option<u64> = arguments.next().and_then(|text| text.parse().ok());
    let folder = tempfile::tempdir().map_err(|error| format!("no folder for nginx: {error}"))?;
    let files = suite::rule_files(&crs.join("rules"));
    let rules = Rules::default().files(&files);
    let setup = crs.join("crs-setup.conf.example");
    let program = suite::program(&crs.join("rules"), Some(&setup)).map_err(|error| error.to_string())?;

    let mut chance = Chance::new(20_261_128);
    let mut asked: Vec<Asked> = Vec::new();
    let mut passed_over = BTreeSet::new();
    for (id, rule) in heads(&rules) {
        if only.is_some_and(|only| only != id) {
            continue;
        }
        let Some(operator) = &rule.operator else { continue };
        let folder = crs.join("rules");
        let Some(maker) = Maker::new(operator, &folder) else {
            passed_over.insert(id);
            continue;
        };
        let places = places(&rule.targets);
        for _ in 0..times {
            for place in &places {
                let made = maker.make(&mut chance);
                asked.extend(place.request(id, &made, &mut chance));
            }
        }
    }
    // nginx's worker has a user of its own.
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))
        .map_err(|error| error.to_string())?;
    for one in &asked {
        one.write_answer(folder.path())?;
    }
    println!(
        "{} requests; {} rules have no pattern and no phrases: {passed_over:?}",
        asked.len(),
        passed_over.len()
    );
    let peer = Peer::start(With::EveryRule, &crs, folder.path())?;
    let mut judge = Judge::new(&peer)?;
    let mut differences: BTreeMap<(u64, &str), (usize, String)> = BTreeMap::new();
    let mut same = 0;
    for one in &asked {
        let Some(theirs) = judge.rules(one)? else { continue };
        let ours = matched(&program, one);
        same += usize::from(ours == theirs);
        let sides = [
            ("ModSecurity", theirs.difference(&ours)),
            ("this engine", ours.difference(&theirs)),
        ];
        for (side, ids) in sides {
            for id in ids {
                let entry = differences.entry((*id, side)).or_insert_with(|| (0, one.shown()));
                entry.0 += 1;
            }
        }
    }
    println!("{same} of {} get the same from both", asked.len());
    for ((id, side), (count, example)) in differences {
        println!("{id}: only {side}, {count} times; {example}");
    }
    Ok(())
}

/// Rules that begin a chain or stand alone, with their ids.
fn heads(rules: &Rules) -> impl Iterator<Item = (u64, &astraler_waf::seclang::Rule)> {
    rules
        .directives()
        .iter()
        .filter_map(|directive| match &directive.kind {
            DirectiveKind::Rule(rule) => Some((rule.id()?, rule)),
            _ => None,
        })
}

/// Which rules matter: not those that only sum up.
fn decides(id: u64) -> bool {
    !(949_000..950_000).contains(&id) && !(959_000..960_000).contains(&id) && id < 980_000
}

fn matched(program: &Program, asked: &Asked) -> BTreeSet<u64> {
    let (_, report) = suite::send_answered(program, &asked.bytes, asked.answer.as_deref());
    let matches = report.into_iter().flat_map(|report| report.matches);
    matches.map(|one| one.rule).filter(|id| decides(*id)).collect()
}

struct Judge<'p> {
    peer: &'p Peer,
    log: std::fs::File,
    connection: Option<Connection>,
}

impl<'p> Judge<'p> {
    fn new(peer: &'p Peer) -> Result<Self, String> {
        let mut log =
            std::fs::File::open(&peer.log).map_err(|error| format!("nginx writes no log: {error}"))?;
        log.seek(SeekFrom::End(0)).map_err(|error| error.to_string())?;
        Ok(Self {
            peer,
            log,
            connection: None,
        })
    }

    /// The rules that ModSecurity names; none where nginx refused the request by itself.
    fn rules(&mut self, asked: &Asked) -> Result<Option<BTreeSet<u64>>, String> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.peer.connect()?,
        };
        let Ok(status) = connection.send(&asked.bytes) else {
            return Ok(None);
        };
        if status == 200 {
            self.connection = Some(connection);
        }
        let mut written = Vec::new();
        self.log
            .read_to_end(&mut written)
            .map_err(|error| format!("cannot read nginx's log: {error}"))?;
        let written = String::from_utf8_lossy(&written);
        if status == 400 && !written.contains("ModSecurity") {
            return Ok(None);
        }
        let mut rules = BTreeSet::new();
        for after in written.split("[id \"").skip(1) {
            let id: String = after.chars().take_while(char::is_ascii_digit).collect();
            rules.extend(id.parse::<u64>().ok().filter(|id| decides(*id)));
        }
        Ok(Some(rules))
    }
}
