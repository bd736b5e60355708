//! `cargo xtask waf-compare`: asks ModSecurity 3, in nginx, and this engine about requests that are made from the rules
//! themselves: texts that a rule's pattern matches, in the places that the rule looks at. At paranoia level 4, detecting
//! only, so that every rule is asked. Prints which rules matched on one side only: `compare CRS-FOLDER [TIMES [RULE]]`. Or
//! `compare CRS-FOLDER TESTS [TIMES]`: about the requests of regression files in a folder and some bodies of our own, or each
//! so often with small changes.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    missing_docs
)]

#[path = "compare/chance.rs"]
mod chance;
#[path = "compare/mutate.rs"]
mod mutate;
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
use chance::Chance;
use peer::{Connection, Peer, With};
use request::{Asked, places};
use text::Maker;

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
    let what = arguments.next().unwrap_or_else(|| "3".to_owned());
    let number: Option<u64> = arguments.next().and_then(|text| text.parse().ok());
    let folder = tempfile::tempdir().map_err(|error| format!("no folder for nginx: {error}"))?;
    let setup = crs.join("crs-setup.conf.example");
    let program = suite::program(&crs.join("rules"), Some(&setup)).map_err(|error| error.to_string())?;
    let asked = match what.parse() {
        Ok(times) => made(&crs, times, number),
        Err(_) => written(Path::new(&what), number)?,
    };
    // nginx's worker has a user of its own.
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))
        .map_err(|error| error.to_string())?;
    for one in &asked {
        one.write_answer(folder.path())?;
    }
    println!("{} requests", asked.len());
    let peer = Peer::start(With::EveryRule, &crs, folder.path())?;
    let mut judge = Judge::new(&peer)?;
    let mut differences: BTreeMap<(u64, &str), (usize, String)> = BTreeMap::new();
    let (mut same, mut refused) = (0, 0);
    for one in &asked {
        let Some(theirs) = judge.rules(one)? else {
            refused += 1;
            continue;
        };
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
    println!("{same} get the same from both, {refused} are refused by nginx itself");
    for ((id, side), (count, example)) in differences {
        println!("{id}: only {side}, {count} times; {example}");
    }
    Ok(())
}

/// Requests that are made from the rules.
fn made(crs: &Path, times: usize, only: Option<u64>) -> Vec<Asked> {
    let folder = crs.join("rules");
    let rules = Rules::default().files(&suite::rule_files(&folder));
    let mut chance = Chance::new(20_261_128);
    let mut asked: Vec<Asked> = Vec::new();
    for (id, rule) in heads(&rules).filter(|(id, _)| only.is_none_or(|only| only == *id)) {
        let maker = rule
            .operator
            .as_ref()
            .and_then(|operator| Maker::new(operator, &folder));
        let Some(maker) = maker else { continue };
        let places = places(&rule.targets);
        for _ in 0..times {
            for place in &places {
                let text = maker.make(&mut chance);
                asked.extend(place.request(id, &text, &mut chance));
            }
        }
    }
    asked
}

/// The requests of regression files and our own, or each so often changed.
fn written(tests: &Path, times: Option<u64>) -> Result<Vec<Asked>, String> {
    let cases = suite::read(tests)?;
    let stages = cases.iter().flat_map(|case| {
        case.stages
            .iter()
            .map(|stage| (case.name.as_str(), stage.request.clone()))
    });
    let own = mutate::bases().into_iter().map(|request| ("our own", request));
    let all: Vec<(&str, Vec<u8>)> = stages.chain(own).collect();
    let Some(times) = times else {
        return Ok(all
            .iter()
            .map(|(name, request)| Asked::written(name, request))
            .collect());
    };
    let mut chance = Chance::new(20_261_128);
    let mut asked = Vec::new();
    for (name, request) in &all {
        // Ours are of every kind; of the files' each is like many others.
        let times = if *name == "our own" { times * 500 } else { times };
        for _ in 0..times {
            asked.extend(mutate::changed(request, &mut chance).map(|request| Asked::written(name, &request)));
        }
    }
    Ok(asked)
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
        if status == 200 && memchr::memmem::find(&asked.bytes, b"close\r\n").is_none() {
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
