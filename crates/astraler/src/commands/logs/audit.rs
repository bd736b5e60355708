//! `astraler logs --stream audit`: the audit chain's entries, by the same questions.

use crate::cli::LogsArguments;
use crate::failure::{Failure, Kind, Outcome};
use crate::place::Place;
use crate::progress::line;
use jiff::Timestamp;
use serde_json::Value;

/// Entries that are looked at.
const LOOKED_AT: usize = 100_000;

pub(super) fn run(place: &Place, wanted: &LogsArguments) -> Outcome {
    if wanted.follow || wanted.by_minute || wanted.condition.is_some() {
        return Err(Failure::new(
            Kind::General,
            "--follow, --where and --by-minute are for records of requests and parts",
        )
        .hint("the audit chain is searched with --since, --until, --env and --grep"));
    }
    let now = Timestamp::now();
    let time = |text: &Option<String>| {
        let moment = text.as_deref().and_then(|text| super::records::moment(text, now));
        moment.map(Timestamp::as_millisecond)
    };
    let (since, until) = (time(&wanted.since), time(&wanted.until));
    let entries = crate::commands::audit::entries(place, LOOKED_AT)?;
    let mut lines: Vec<String> = Vec::new();
    for entry in entries.as_array().into_iter().flatten() {
        let at = entry["time_ms"].as_i64().unwrap_or_default();
        let text = if wanted.json {
            entry.to_string()
        } else {
            shown(entry, at)
        };
        let has = |part: &Option<String>| part.as_ref().is_none_or(|part| text.contains(part.as_str()));
        if since.is_none_or(|since| at >= since)
            && until.is_none_or(|until| at < until)
            && has(&wanted.grep)
            && has(&wanted.env)
        {
            lines.push(text);
        }
    }
    let count = match wanted.lines {
        Some(0) => lines.len(),
        Some(count) => count,
        None => 100,
    };
    for text in &lines[lines.len().saturating_sub(count)..] {
        line(text);
    }
    Ok(())
}

fn shown(entry: &Value, at: i64) -> String {
    let time = Timestamp::from_millisecond(at).unwrap_or(Timestamp::UNIX_EPOCH);
    let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    format!(
        "{time:.3} {} {} {}",
        text("actor"),
        text("action"),
        text("subject")
    )
}
