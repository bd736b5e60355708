//! `astraler waf top`: which rules match most, from the access log; and the exception for one.

use crate::cli::{Arguments, WafTopArguments};
use crate::failure::{Failure, Kind, Outcome};
use crate::place::Place;
use crate::progress::line;
use crate::table;
use astraler_host::file;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Paths and variables of one rule that are told apart; more are counted with none of their own.
const MAX_NAMES: usize = 200;
/// Paths that an exception is written for when none is named.
const MAX_PATHS: usize = 8;
/// How many of each a row shows.
const SHOWN: usize = 3;

/// The Core Rule Set's rules that add up what others found, in thousands.
const EVALUATION: [u64; 3] = [949, 959, 980];
/// Those of them that refuse, where a firewall blocks; where it only detects, they match.
const REFUSING: [u64; 2] = [949, 959];

/// What is read of a record.
#[derive(Deserialize)]
struct Record {
    environment: Option<String>,
    path: String,
    status: u16,
    #[serde(default)]
    rules: Vec<Decided>,
}

#[derive(Deserialize)]
struct Decided {
    rule: String,
    action: String,
    variable: Option<String>,
}

/// What one rule has done.
#[derive(Default)]
struct Noise {
    requests: u64,
    /// Of them, those that were refused: by it, or by the sum that it is part of.
    refused: u64,
    /// Those that would have been refused if the firewall did not only detect.
    would_be_refused: u64,
    paths: BTreeMap<String, u64>,
    variables: BTreeMap<String, u64>,
}

pub(super) fn run(arguments: &Arguments, asked: &WafTopArguments) -> Outcome {
    let log = match &asked.log {
        Some(log) => log.clone(),
        None => Place::find(arguments)?.layout.access_log(),
    };
    let noise = read(&log, asked.environment.as_deref())?;
    if let Some(rule) = asked.except {
        return except(arguments, rule, &asked.path, noise.get(&rule));
    }
    let mut rows: Vec<(u64, Noise)> = noise.into_iter().collect();
    rows.sort_by_key(|(rule, noise)| (std::cmp::Reverse(noise.requests), *rule));
    rows.truncate(asked.lines);
    if asked.json.json {
        let all = rows.iter().map(|(rule, noise)| {
            serde_json::json!({
                "rule": rule,
                "requests": noise.requests,
                "refused": noise.refused,
                "would_be_refused": noise.would_be_refused,
                "paths": noise.paths,
                "variables": noise.variables,
            })
        });
        return Ok(table::print_json(&all.collect::<Vec<_>>())?);
    }
    if rows.is_empty() {
        line("no managed rule has matched");
        return Ok(());
    }
    table::print(
        &["rule", "requests", "refused", "would be", "variables", "paths"],
        rows.iter().map(|(rule, noise)| {
            vec![
                rule.to_string(),
                noise.requests.to_string(),
                noise.refused.to_string(),
                noise.would_be_refused.to_string(),
                most(&noise.variables).join(", "),
                most(&noise.paths).join(", "),
            ]
        }),
    );
    line("`astraler waf top --except RULE --path /PATH` writes an exception into astraler.toml");
    Ok(())
}

/// The log and what was rotated away of it.
fn files(log: &Path) -> Vec<PathBuf> {
    let name = log.file_name().map(|name| format!("{}.", name.to_string_lossy()));
    let beside = log.parent().and_then(|folder| std::fs::read_dir(folder).ok());
    let older = beside.into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = older
        .filter(|path| {
            let own = path.file_name().map(|own| own.to_string_lossy().into_owned());
            own.zip(name.as_ref())
                .is_some_and(|(own, name)| own.starts_with(name))
        })
        .collect();
    files.push(log.to_owned());
    files
}

fn read(log: &Path, environment: Option<&str>) -> Outcome<BTreeMap<u64, Noise>> {
    if !log.is_file() {
        return Err(Failure::new(
            Kind::NotUp,
            format!("there is no access log at {}", log.display()),
        )
        .hint("run `astraler up`, or name a log with --log"));
    }
    let mut noise = BTreeMap::new();
    for file in files(log) {
        for text in BufReader::new(File::open(&file)?).lines() {
            // The last line may be on its way.
            let Ok(record) = serde_json::from_str::<Record>(&text?) else {
                continue;
            };
            if environment.is_none_or(|wanted| record.environment.as_deref() == Some(wanted)) {
                count(&record, &mut noise);
            }
        }
    }
    Ok(noise)
}

/// Managed rules have numbers for names, custom rules have words.
fn count(record: &Record, noise: &mut BTreeMap<u64, Noise>) {
    let refused = |one: &Decided| matches!(one.action.as_str(), "block" | "redirect" | "drop");
    let is_refused = record.status >= 300 && record.rules.iter().any(refused);
    let refuses = |one: &Decided| {
        let rule: Result<u64, _> = one.rule.parse();
        one.action == "match" && rule.is_ok_and(|rule| REFUSING.contains(&(rule / 1000)))
    };
    let would_be = !is_refused && record.rules.iter().any(refuses);
    for one in &record.rules {
        let (Ok(rule), "match") = (one.rule.parse::<u64>(), one.action.as_str()) else {
            continue;
        };
        if EVALUATION.contains(&(rule / 1000)) {
            continue;
        }
        let of_rule = noise.entry(rule).or_default();
        of_rule.requests += 1;
        of_rule.refused += u64::from(is_refused);
        of_rule.would_be_refused += u64::from(would_be);
        add(&mut of_rule.paths, &record.path);
        if let Some(variable) = &one.variable {
            add(&mut of_rule.variables, variable);
        }
    }
}

fn add(counts: &mut BTreeMap<String, u64>, name: &str) {
    if let Some(count) = counts.get_mut(name) {
        *count += 1;
    } else if counts.len() < MAX_NAMES {
        counts.insert(name.to_owned(), 1);
    }
}

fn most(counts: &BTreeMap<String, u64>) -> Vec<&str> {
    let mut names: Vec<(&String, &u64)> = counts.iter().collect();
    names.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    names
        .into_iter()
        .take(SHOWN)
        .map(|(name, _)| name.as_str())
        .collect()
}

/// Appends an exception to the manifest, if that is still one with it.
fn except(arguments: &Arguments, rule: u64, paths: &[String], noise: Option<&Noise>) -> Outcome {
    let mut paths = paths.to_vec();
    if paths.is_empty() {
        let seen = noise
            .map(|noise| &noise.paths)
            .filter(|paths| paths.len() <= MAX_PATHS);
        let seen = seen.ok_or_else(|| {
            Failure::new(
                Kind::General,
                format!("for which paths shall rule {rule} not hold?"),
            )
            .hint("say --path /PATH, once or more; the log names none for it, or too many")
        })?;
        paths.extend(seen.keys().cloned());
    }
    let place = Place::find(arguments)?;
    let manifest = place.application.join("astraler.toml");
    let before = std::fs::read_to_string(&manifest)?;
    let quoted: Vec<String> = paths
        .iter()
        .map(|path| toml::Value::from(path.as_str()).to_string())
        .collect();
    let exception = format!(
        "[[edge.waf.exceptions]]\nrules = [{rule}]\npaths = [{}]\n",
        quoted.join(", ")
    );
    let after = format!("{}\n\n{exception}", before.trim_end());
    astraler_manifest::parse("astraler.toml", &after).map_err(|diagnostics| {
        Failure::diagnostics(&diagnostics).hint(format!("write it yourself, where it fits:\n{exception}"))
    })?;
    let mode = std::fs::metadata(&manifest)?.permissions().mode() & 0o777;
    file::replace(&manifest, after.as_bytes(), mode)?;
    line(exception.trim_end());
    line("written to astraler.toml; it holds with the next deployment");
    Ok(())
}
