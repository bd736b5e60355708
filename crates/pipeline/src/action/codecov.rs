//! `codecov/codecov-action`: nothing is uploaded; what the reports say counts for the gate.

use super::{Done, Inputs};
use crate::engine::{Failed, Job};
use crate::event::Coverage;
use crate::glob::Patterns;
use crate::sandbox::HOME;
use std::collections::BTreeMap;

const MAX_REPORT: u64 = 64 << 20;
/// Reports that are looked for where no file is named.
const USUAL: [&str; 6] = [
    "lcov.info",
    "coverage/lcov.info",
    "coverage/coverage-summary.json",
    "coverage/cobertura-coverage.xml",
    "coverage.xml",
    "cobertura.xml",
];

pub(super) async fn run(job: &mut Job, inputs: &Inputs) -> Done {
    let named = inputs.get("files").or_else(|| inputs.get("file"));
    let names: Vec<String> = match named {
        Some(files) => files
            .split([',', '\n'])
            .map(|file| file.trim().to_owned())
            .collect(),
        None => USUAL.map(str::to_owned).to_vec(),
    };
    let base = match inputs.get("working-directory") {
        Some(folder) => format!("{}/{folder}", job.workspace),
        None => job.workspace.clone(),
    };
    let patterns = Patterns::new(names.iter().map(String::as_str), &base, HOME);
    let mut any = false;
    for file in job.confined.search(&patterns).unwrap_or_default() {
        let Ok(text) = job.confined.read(&file.inside, MAX_REPORT) else {
            continue;
        };
        let name = file
            .inside
            .strip_prefix(&format!("{}/", job.workspace))
            .unwrap_or(&file.inside)
            .to_owned();
        if let Some((lines, covered)) = read(&text) {
            job.say(&format!("{name}: {covered} of {lines} lines are covered"))
                .await;
            job.shared.add_coverage(Coverage {
                file: name,
                lines,
                covered,
            });
            any = true;
            if named.is_none() {
                // The same run in another format.
                break;
            }
        }
    }
    if !any {
        let message = "no report of coverage was found (lcov, cobertura, coverage-summary.json)".to_owned();
        if inputs.is("fail_ci_if_error") {
            return Err(Failed::Because(message));
        }
        job.say(&format!("##[warning]{message}")).await;
    }
    Ok(BTreeMap::new())
}

/// Lines, and how many of them are covered.
fn read(text: &str) -> Option<(u64, u64)> {
    let start = text.trim_start();
    if start.starts_with('{') {
        let json: serde_json::Value = serde_json::from_str(text).ok()?;
        let lines = &json["total"]["lines"];
        return Some((lines["total"].as_u64()?, lines["covered"].as_u64()?));
    }
    if start.starts_with('<') {
        let at = text.find("<coverage")?;
        let tag = text[at..].split('>').next()?;
        let number = |name: &str| {
            let (_, rest) = tag.split_once(&format!("{name}=\""))?;
            rest.split('"').next()?.parse::<u64>().ok()
        };
        return Some((number("lines-valid")?, number("lines-covered")?));
    }
    let sum = |prefix: &str| {
        let all = text.lines().filter_map(|line| line.trim().strip_prefix(prefix));
        all.filter_map(|number| number.parse::<u64>().ok()).sum::<u64>()
    };
    text.contains("LF:").then(|| (sum("LF:"), sum("LH:")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_three_formats_are_read() {
        assert_eq!(
            read("TN:\nSF:a\nLF:10\nLH:7\nend_of_record\nLF:5\nLH:5\n"),
            Some((15, 12))
        );
        assert_eq!(
            read(r#"{"total":{"lines":{"total":8,"covered":6,"pct":75}}}"#),
            Some((8, 6))
        );
        let xml = r#"<?xml version="1.0"?><coverage lines-valid="4" lines-covered="3" line-rate="0.75"><packages/></coverage>"#;
        assert_eq!(read(xml), Some((4, 3)));
        assert_eq!(read("nothing"), None);
    }
}
