//! `astraler waf test`: regression files of the Core Rule Set, here or over the wire.

use super::wire::Server;
use super::{folder, not_loaded};
use crate::cli::{Arguments, WafTestArguments};
use crate::failure::{Failure, Kind, Outcome};
use crate::progress::line;
use crate::table;
use astraler_waf::ruleset::Files;
use astraler_waf::suite::{self, Case, Verdict};

pub(super) fn run(arguments: &Arguments, asked: &WafTestArguments) -> Outcome {
    let unreadable =
        |error: String| Failure::new(Kind::General, error).hint("--tests names a folder of YAML files");
    let cases = suite::read(&asked.tests).map_err(unreadable)?;
    if cases.is_empty() {
        return Err(unreadable(format!(
            "there are no tests in {}",
            asked.tests.display()
        )));
    }
    let mut tally = Tally {
        json: asked.json.json,
        ..Tally::default()
    };
    if let Some(target) = &asked.target {
        let mut server = Server::new(target, asked.log.as_deref())?;
        for case in &cases {
            tally.count(case, over_the_wire(&mut server, case)?);
        }
    } else {
        let folder = folder(arguments, asked.rules.as_ref());
        let files = Files::find(&folder).map_err(|error| not_loaded(&error, None))?;
        let setup = asked.setup.as_ref().or(files.setup.first());
        let inner = folder.join("rules");
        let rules = if inner.is_dir() { &inner } else { &folder };
        let program = suite::program(rules, setup.map(|path| path.as_path()))
            .map_err(|error| not_loaded(&error, None))?;
        for case in &cases {
            tally.count(case, suite::run(&program, case));
        }
    }
    tally.close()
}

#[derive(Default)]
struct Tally {
    json: bool,
    passed: usize,
    failed: usize,
    skipped: usize,
    /// What did not pass, for JSON.
    others: Vec<serde_json::Value>,
}

impl Tally {
    fn count(&mut self, case: &Case, verdict: Verdict) {
        let (word, why) = match verdict {
            Verdict::Passed => {
                self.passed += 1;
                return;
            }
            Verdict::Failed(why) => {
                self.failed += 1;
                ("failed", why)
            }
            Verdict::Skipped(why) => {
                self.skipped += 1;
                ("skipped", why)
            }
        };
        if self.json {
            self.others.push(serde_json::json!({
                "test": case.name,
                "file": case.file,
                "verdict": word,
                "why": why,
            }));
        } else {
            line(&format!("{} {word}: {why}", case.name));
        }
    }

    fn close(self) -> Outcome {
        let Self {
            passed,
            failed,
            skipped,
            ..
        } = self;
        if self.json {
            table::print_json(&serde_json::json!({
                "passed": passed,
                "failed": failed,
                "skipped": skipped,
                "tests": self.others,
            }))?;
        } else {
            line(&format!("{passed} passed, {failed} failed, {skipped} skipped"));
        }
        match failed {
            0 => Ok(()),
            _ => Err(Failure::said(Kind::General)),
        }
    }
}

fn over_the_wire(server: &mut Server, case: &Case) -> Outcome<Verdict> {
    let mut last = Verdict::Skipped("there is no request in it".to_owned());
    for stage in &case.stages {
        last = if stage.response.is_some() {
            Verdict::Skipped("the server's answer is its own".to_owned())
        } else {
            match server.ask(&stage.request)? {
                Ok((status, None)) => suite::judge(&stage.expected, status),
                Ok((status, Some(log))) => suite::judge_logged(&stage.expected, status, &log),
                Err(_) if stage.expected.error == Some(true) => Verdict::Passed,
                Err(error) => Verdict::Failed(format!("no answer: {error}")),
            }
        };
        if last != Verdict::Passed {
            break;
        }
    }
    Ok(last)
}
