//! `astraler waf reload`: the edge reads all rules again, and says what it thinks of them.

use crate::cli::Arguments;
use crate::failure::{Failure, Kind, Outcome};
use crate::progress::line;
use crate::table;
use astraler_control::WafReport;

pub(super) fn run(arguments: &Arguments, json: bool) -> Outcome {
    let client = super::super::daemon(arguments)?;
    let reports = super::super::block_on(async {
        let reload = client.waf_reload().await;
        reload.map_err(|error| super::super::not_up(&error))
    })?;
    tell(&reports, json)
}

/// What each firewall goes by; a failure where one cannot use its rules.
pub(super) fn tell(reports: &[WafReport], json: bool) -> Outcome {
    if json {
        table::print_json(&reports)?;
    } else if reports.is_empty() {
        line("no environment that is up has a firewall");
    } else {
        table::print(
            &["environment", "mode", "rules", "folder"],
            reports.iter().map(|report| {
                let count = match (&report.rules, &report.found) {
                    (None, _) => "custom".to_owned(),
                    (_, None) => "unknown".to_owned(),
                    (_, Some(found)) if found.problems.is_empty() => found.rules.to_string(),
                    (_, Some(_)) => "UNUSABLE".to_owned(),
                };
                let mode = serde_json::to_value(report.mode).unwrap_or_default();
                vec![
                    report.environment.to_string(),
                    mode.as_str().unwrap_or_default().to_owned(),
                    count,
                    report
                        .rules
                        .as_ref()
                        .map_or_else(|| "-".to_owned(), |rules| rules.display().to_string()),
                ]
            }),
        );
    }
    let mut problems: Vec<String> = Vec::new();
    for problem in reports
        .iter()
        .filter_map(|report| report.found.as_ref())
        .flat_map(|found| &found.problems)
    {
        let told = problem.to_string();
        if !problems.contains(&told) {
            problems.push(told);
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        Kind::Manifest,
        "the edge cannot use these rules, and goes on with what it had",
    )
    .details(problems)
    .hint("mend them and run `astraler waf reload`; `astraler waf check` looks at them by themselves"))
}
