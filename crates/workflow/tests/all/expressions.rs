//! Expressions against the cases of GitHub's own implementation, read where they are from outside the
//! repository: `../shared/suites/actions-expressions`, from the root of the workspace.

use astraler_workflow::expression::{self, ErrorKind, Value};
use serde_json::Value as Json;
use std::path::PathBuf;

pub(crate) fn suite(name: &str) -> Option<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/suites")
        .join(name);
    if root.is_dir() {
        return Some(root);
    }
    say(&format!(
        "NOT RUN: the outside suite {} is not there",
        root.display()
    ));
    None
}

/// Past what the test harness keeps to itself of a test that passes.
pub(crate) fn say(line: &str) {
    std::io::Write::write_all(&mut std::io::stdout(), format!("{line}\n").as_bytes()).unwrap();
}

#[test]
fn every_case_of_the_suite_passes() {
    let Some(folder) = suite("actions-expressions") else {
        return;
    };
    let mut cases = 0;
    let mut failures = Vec::new();
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    files.sort();
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let groups: serde_json::Map<String, Json> = serde_json::from_str(&text).unwrap();
        for (group, all) in &groups {
            for case in all.as_array().unwrap() {
                cases += 1;
                if let Err(why) = check(case) {
                    let file = path.file_name().unwrap().to_string_lossy();
                    failures.push(format!("{file} {group}: {}: {why}", case["expr"]));
                }
            }
        }
    }
    say(&format!(
        "expressions: {} of {cases} outside cases pass",
        cases - failures.len()
    ));
    assert!(cases > 0, "the suite holds no case");
    assert!(
        failures.is_empty(),
        "{} failures:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

fn check(case: &Json) -> Result<(), String> {
    let mut contexts = expression::Contexts::default();
    for (name, value) in case["contexts"].as_object().into_iter().flatten() {
        contexts.insert(name.clone(), Value::from(value.clone()));
    }
    let text = case["expr"].as_str().unwrap();
    match (expression::evaluate(text, &contexts), case.get("err")) {
        (Ok(value), None) => {
            let kind = value.kind().name();
            if kind != case["result"]["kind"] {
                return Err(format!("is a {kind}"));
            }
            let wanted = Value::from(case["result"]["value"].clone());
            if same(&value, &wanted) {
                return Ok(());
            }
            Err(format!("is {value:?}, not {wanted:?}"))
        }
        (Err(error), Some(wanted)) => {
            let kind = match error.kind {
                ErrorKind::Lexing => "lexing",
                ErrorKind::Parsing => "parsing",
                ErrorKind::Evaluation => "evaluation",
            };
            // Some cases give only how the message begins.
            let begins = error.message.starts_with(wanted["value"].as_str().unwrap());
            if kind == wanted["kind"] && begins {
                return Ok(());
            }
            Err(format!("fails with {kind}: {}", error.message))
        }
        (Ok(value), Some(wanted)) => Err(format!("is {value:?} instead of an error: {wanted}")),
        (Err(error), None) => Err(format!("fails: {}", error.message)),
    }
}

/// Alike, with regard to case, and with lists and objects compared by what they hold.
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Null, Value::Null) => true,
        (Value::Boolean(left), Value::Boolean(right)) => left == right,
        (Value::Number(left), Value::Number(right)) => left == right || (left.is_nan() && right.is_nan()),
        (Value::String(left), Value::String(right)) => left == right,
        (Value::Array(left), Value::Array(right)) => {
            let (left, right) = (left.items(), right.items());
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| same(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left
                    .iter()
                    .zip(right.iter())
                    .all(|((name, left), (other, right))| name == other && same(left, right))
        }
        _ => false,
    }
}
