//! `astraler waf`: rules by themselves, and what they did; none of that needs a platform that runs. And rules taken up anew
//! by one that does.

mod explain;
mod regression;
mod reload;
mod top;
mod update;
mod wire;

use crate::cli::{Arguments, WafCommand};
use crate::failure::{Failure, Kind, Outcome};
use crate::managed_rules::{self, not_loaded};
use crate::progress::line;
use crate::table;
use astraler_waf::compile::Program;
use astraler_waf::ruleset::{Files, Options};
use astraler_waf::seclang::Problem;
use std::path::{Path, PathBuf};
use std::time::Instant;

pub(super) fn run(arguments: &Arguments, command: &WafCommand) -> Outcome {
    match command {
        WafCommand::Check { folder, json } => check(&self::folder(arguments, folder.as_ref()), json.json),
        WafCommand::Test(asked) => regression::run(arguments, asked),
        WafCommand::Explain(asked) => explain::run(arguments, asked),
        WafCommand::Update(asked) => update::run(arguments, asked),
        WafCommand::Reload { json } => reload::run(arguments, json.json),
        WafCommand::Top(asked) => top::run(arguments, asked),
    }
}

fn folder(arguments: &Arguments, named: Option<&PathBuf>) -> PathBuf {
    named.cloned().unwrap_or_else(|| managed_rules::usual(arguments))
}

fn check(folder: &Path, json: bool) -> Outcome {
    let begun = Instant::now();
    let compiled = Files::find(folder).and_then(|files| {
        let program = files.compile(&Options::default())?;
        Ok((files, program))
    });
    let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (files, program) = match compiled {
        Ok(compiled) => compiled,
        Err(error) => {
            if json {
                table::print_json(&serde_json::json!({ "errors": problems(&error.problems) }))?;
                return Err(Failure::said(Kind::Manifest));
            }
            return Err(not_loaded(&error, None));
        }
    };
    let phases = by_phase(&program);
    if json {
        return Ok(table::print_json(&serde_json::json!({
            "errors": [],
            "warnings": problems(program.warnings()),
            "setup": files.setup,
            "files": files.rules.len(),
            "rules": program.rules().count(),
            "rules_by_phase": phases,
            "search_bytes": program.search_bytes(),
            "took_ms": took_ms,
        }))?);
    }
    for warning in program.warnings() {
        line(&format!("warning: {warning}"));
    }
    for setup in &files.setup {
        line(&format!("setup   {}", setup.display()));
    }
    let phases: Vec<String> = (1..)
        .zip(phases)
        .map(|(phase, rules)| format!("{phase}: {rules}"))
        .collect();
    line(&format!(
        "rules   {} in {} files; by phase {}",
        program.rules().count(),
        files.rules.len(),
        phases.join(", ")
    ));
    line(&format!(
        "program {} of searches, compiled in {took_ms} ms",
        table::size(program.search_bytes() as u64)
    ));
    Ok(())
}

fn by_phase(program: &Program) -> [usize; 5] {
    let mut phases = [0; 5];
    for rule in program.rules() {
        if let Some(count) = usize::from(rule.phase)
            .checked_sub(1)
            .and_then(|at| phases.get_mut(at))
        {
            *count += 1;
        }
    }
    phases
}

fn problems(problems: &[Problem]) -> serde_json::Value {
    let all = problems.iter().map(|problem| {
        serde_json::json!({
            "file": problem.file,
            "line": problem.line,
            "message": problem.message,
            "hint": problem.hint,
        })
    });
    all.collect()
}
