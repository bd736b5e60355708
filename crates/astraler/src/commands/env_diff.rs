//! `astraler env diff`: what two environments do not have in common.

use crate::cli::Arguments;
use crate::failure::{Failure, Kind, Outcome};
use crate::progress::line;
use crate::table;
use astraler_control::{Difference, compare};
use serde_json::Value;

/// Characters of a value in the table; `--json` has all of it.
const MAX_SHOWN: usize = 60;

pub(super) fn run(arguments: &Arguments, names: [&str; 2], json: bool, gate: bool) -> Outcome {
    let client = super::daemon(arguments)?;
    let facts = super::block_on(async {
        let [a, b] = names.map(|name| {
            let client = &client;
            async move {
                client.facts(name).await.map_err(|error| match error {
                    astraler_control::ClientError::Refused { status: 404, message } => {
                        Failure::new(Kind::NotUp, message)
                            .hint(format!("`astraler up --env {name}` brings it up"))
                    }
                    other => super::not_up(&other),
                })
            }
        });
        Ok((a.await?, b.await?))
    })?;
    let differences = compare(&facts.0, &facts.1);
    let unexpected = differences
        .iter()
        .filter(|difference| !difference.expected)
        .count();
    if json {
        table::print_json(&serde_json::json!({
            "a": names[0],
            "b": names[1],
            "unexpected": unexpected,
            "differences": differences,
        }))?;
    } else if differences.is_empty() {
        line(&format!("{} and {} are the same", names[0], names[1]));
    } else {
        table::print(
            &["group", "what", names[0], names[1], ""],
            differences.iter().map(|difference| {
                vec![
                    difference.group.clone(),
                    difference.name.clone(),
                    shown(difference, difference.a.as_ref()),
                    shown(difference, difference.b.as_ref()),
                    if difference.expected { "expected" } else { "" }.to_owned(),
                ]
            }),
        );
        line(&format!(
            "{unexpected} differences, {} more that belong to being another environment",
            differences.len() - unexpected
        ));
    }
    if gate && unexpected > 0 {
        return Err(Failure::said(Kind::Differs));
    }
    Ok(())
}

fn shown(difference: &Difference, value: Option<&Value>) -> String {
    let Some(value) = value else {
        return "-".into();
    };
    let text = match (difference.group.as_str(), value) {
        // Values of variables are never shown: their digests say only whether they are the same.
        ("variables", _) => "is set".to_owned(),
        (_, Value::String(text)) if text.is_empty() => "is there".to_owned(),
        (_, Value::String(text)) => text.clone(),
        (_, other) => other.to_string(),
    };
    if text.chars().count() <= MAX_SHOWN {
        text
    } else {
        text.chars().take(MAX_SHOWN).chain(['…']).collect()
    }
}
